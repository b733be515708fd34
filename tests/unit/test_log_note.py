"""Signed notes and checkpoints: the published example, and every spelling that is not the one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge_agent.errors import DocumentError, VerificationError
from expunge_controller.records.checkpoint import (
    Checkpoint,
    Proof,
    format_proof,
    parse_checkpoint,
    parse_proof,
    parse_text,
)
from expunge_controller.records.merkle import EMPTY_ROOT, MemoryTree, leaf_hash
from expunge_controller.records.note import (
    COSIGNATURE,
    ED25519,
    Note,
    cosigned_message,
    format_note,
    key_of,
    parse_key,
    parse_note,
    sign,
    verified,
)
from support.logs import LogWorld, fresh_signer

# C2SP signed-note, "Verifier keys", "Example".
PUBLISHED_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
PUBLISHED = (
    "This is an example message.\n\n— example.com/foo "
    "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
).encode()
# C2SP tlog-cosignature, the example of a checkpoint with a cosignature.
COSIGNED = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— example.com/behind-the-sofa "
    "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "— witness.example.com/w1 "
    "jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
).encode()


def test_the_published_note() -> None:
    key = parse_key(PUBLISHED_KEY)
    assert key.text == PUBLISHED_KEY
    note = parse_note(PUBLISHED)
    assert format_note(note) == PUBLISHED
    assert [one.key for one in verified(note, [key])] == [key]
    changed = Note(note.text.replace("example", "other"), note.signatures)
    with pytest.raises(VerificationError):
        verified(changed, [key])


def test_the_published_checkpoint() -> None:
    checkpoint, note = parse_checkpoint(COSIGNED)
    assert (checkpoint.origin, checkpoint.size, checkpoint.extra) == (
        "example.com/behind-the-sofa",
        20852163,
        (),
    )
    assert format_note(note) == COSIGNED
    assert note.signatures[1].raw[:8] == (1679315147).to_bytes(8, "big")
    assert len(note.signatures[1].raw) == 72
    message = cosigned_message(note.text, 1679315147).decode()
    assert message.startswith("cosignature/v1\ntime 1679315147\nexample.com/behind-the-sofa\n20852163\n")


def test_signatures_of_strangers_are_ignored_and_those_of_known_keys_must_hold() -> None:
    text = Checkpoint("o", 0, EMPTY_ROOT).text
    one, two = fresh_signer(), fresh_signer()
    known, other = key_of(one, "o", ED25519), key_of(two, "o", ED25519)
    both = Note(text, (sign(two, other, text), sign(one, known, text)))
    assert [each.key for each in verified(both, [known])] == [known]
    assert verified(both, []) == []
    false = sign(two, known, text)  # bears the known key's name and id
    with pytest.raises(VerificationError, match="signature of o"):
        verified(Note(text, (false, sign(one, known, text))), [known])


def test_a_cosignature_is_bound_to_its_time_and_kind() -> None:
    text = Checkpoint("o", 0, EMPTY_ROOT).text
    signer = fresh_signer()
    witness, log = key_of(signer, "w", COSIGNATURE), key_of(signer, "w", ED25519)
    assert witness.key_id != log.key_id
    line = sign(signer, witness, text, 1000)
    assert verified(Note(text, (line,)), [witness])[0].time == 1000
    assert verified(Note(text, (line,)), [log]) == []
    for raw in (line.raw[8:], b"\0" * 8 + line.raw[8:], b"\xff" + line.raw[1:], line.raw + b"\0"):
        with pytest.raises(VerificationError):
            verified(Note(text, (line._replace(raw=raw),)), [witness])


GOOD = b"o\n0\n" + b"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"


@pytest.mark.parametrize(
    "text",
    [
        "o\n0\n",
        "o\n0\nAAAA\n",
        "o\n00\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
        "o\n-1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
        "o\n+1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
        "o\n١\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
        "o\n9223372036854775808\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
        "o\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFV=\n",
        "\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
        "o\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\nx\n",
    ],
)
def test_what_is_no_checkpoint(text: str) -> None:
    with pytest.raises(DocumentError):
        parse_text(text)


def test_lines_that_a_log_adds_are_kept() -> None:
    assert parse_text(GOOD.decode() + "more\n").extra == ("more",)
    assert parse_text(GOOD.decode() + "more\n").text == GOOD.decode() + "more\n"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        GOOD,
        GOOD + b"\n",
        GOOD + b"\n- o AAAA\n",
        GOOD + "\n— o AAAAAAA=".encode(),
        GOOD + "\n— o AAAA\n".encode(),
        GOOD + "\n— o+p AAAAAAAA\n".encode(),
        GOOD + "\n— o  AAAAAAAA\n".encode(),
        GOOD + "\n— o AAAAAAAA\r\n".encode(),
        GOOD + b"\n\xff\n",
        GOOD + b"\n" + "— o AAAAAAAA\n".encode() * 65,
        b"x" * 70_000 + "\n\n— o AAAAAAAA\n".encode(),
    ],
)
def test_what_is_no_note(data: bytes) -> None:
    with pytest.raises(DocumentError):
        parse_note(data)


@given(st.binary(max_size=300))
def test_bytes_of_any_kind_are_refused_in_words(data: bytes) -> None:
    for parse in (parse_note, parse_checkpoint, parse_proof):
        with pytest.raises(DocumentError):
            parse(data)


def test_proofs_have_one_spelling() -> None:
    log = LogWorld()
    tree = MemoryTree()
    for number in range(9):
        tree.append(leaf_hash(b"%d" % number))
    checkpoint = log.checkpoint(tree, 9)
    proof = Proof(5, (b"\1" * 32, b"\2" * 32), checkpoint)
    data = format_proof(proof)
    assert parse_proof(data) == proof
    for wrong in (
        data.replace(b"@v1", b"@v2"),
        data.replace(b"index 5", b"index 05"),
        data.replace(b"index 5\n", b"extra AAAA\nindex 5\n"),
        data.replace(b"index", b"Index"),
        data.replace(b"AQEB", b"AQE", 1),
        data.replace(b"\nAQEB", b"\n" + b"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n" * 63 + b"AQEB", 1),
    ):
        assert wrong != data
        with pytest.raises(DocumentError):
            parse_proof(wrong)
