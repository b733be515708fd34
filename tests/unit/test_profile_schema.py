"""What makes a policy wrong, how it is said, and what its digest covers."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge_agent.core.medium import MediumType
from expunge_agent.core.technique import Technique, earns
from expunge_profiles.expand import Fixed, Keyed, expand
from expunge_profiles.load import MAX_FILE_BYTES, builtin, load_file, load_folder, parse
from expunge_profiles.schema import CHOICES, Pass, Profile, ProfileError, Verification
from expunge_profiles.techniques import WORDS, can_earn

GOOD = """\
id = "sample"
version = 3
title = "Überschreiben 抹除"
level = "clear"
authority = "Example Ltd"
status = "legacy"
source = "Own policy."
advice = "For tests."
media = ["file", "hdd"]
seal = true

[[pass]]
fixed = "a0"

[[pass]]
complement = true

[[pass]]
keyed-stream = true

[verification]
kind = "full"
after = "last"
"""
CANONICAL = (
    '{"advice":"For tests.","authority":"Example Ltd","id":"sample","level":"clear","media":["hdd","file"],'
    '"pass":[{"fixed":"A0"},{"complement":true},{"keyed-stream":true}],"seal":true,"source":"Own policy.",'
    '"status":"legacy","title":"Überschreiben 抹除","verification":{"after":"last","kind":"full"},"version":3}'
)


def edited(*changes: tuple[str, str]) -> str:
    """`GOOD` with each old text, which must be there, replaced once by the new one."""
    text = GOOD
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    return text


def test_a_good_policy_is_read_whole() -> None:
    profile = parse(GOOD, "sample.toml")
    assert profile == Profile(
        id="sample",
        version=3,
        title="Überschreiben 抹除",
        level="clear",
        authority="Example Ltd",
        status="legacy",
        source="Own policy.",
        advice="For tests.",
        media=("hdd", "file"),
        passes=(Pass(fixed="A0"), Pass(complement=True), Pass(keyed_stream=True)),
        verification=Verification(kind="full", after="last"),
        seal=True,
    )
    assert profile.summary() == "3 passes: A0, complement, keyed stream; verify full after last"


def test_the_digest_is_that_of_the_json_written_by_hand() -> None:
    profile = parse(GOOD, "sample.toml")
    assert profile.canonical().decode() == CANONICAL
    assert profile.digest == hashlib.sha256(CANONICAL.encode()).hexdigest()


@pytest.mark.parametrize(
    "text",
    [
        "# a comment\n" + GOOD,
        GOOD.replace("\n", "\r\n"),
        edited(('["file", "hdd"]', "[ 'hdd' , 'file' ]")),
        edited(('fixed = "a0"', 'fixed = "A0"')),
        edited(('"Example Ltd"', '"""\\\n  Example \\\n  Ltd"""')),
    ],
)
def test_the_digest_does_not_depend_on_the_spelling(text: str) -> None:
    assert parse(text, "x").digest == parse(GOOD, "x").digest


def test_the_digest_changes_with_every_field() -> None:
    changes = [
        ('"sample"', '"sample2"'),
        ("version = 3", "version = 4"),
        ("抹除", "抹去"),
        ("Example Ltd", "Example Inc"),
        ('"legacy"', '"current"'),
        ("Own policy.", "Own policy"),
        ("For tests.", "For test."),
        ('"file", "hdd"', '"file"'),
        ("seal = true", "seal = false"),
        ('"a0"', '"a1"'),
        ('fixed = "a0"', "random-byte = true"),
        ("complement = true", 'pattern = "5FA5"'),
        ('"last"', '"every"'),
        ('"full"', '"sampled"\nrule = "nist-800-88r1"'),
        ('"full"', '"sampled"\nconfidence-ppm = 999000\nmax-unsanitized-ppm = 100'),
        ('"full"', '"sampled"\nconfidence-ppm = 999001\nmax-unsanitized-ppm = 100'),
        ('"full"', '"sampled"\nconfidence-ppm = 999000\nmax-unsanitized-ppm = 101'),
        ("[[pass]]\nkeyed", "[[pass]]\nkeyed-stream = true\n[[pass]]\nkeyed"),
    ]
    digests = [parse(GOOD, "x").digest, *(parse(edited(change), "x").digest for change in changes)]
    assert len(set(digests)) == len(digests)


WRONG = [
    # change, key, part of the reason
    (('"sample"', '"Sample"'), "id", "small letters"),
    (('"sample"', '"sample\\n"'), "id", "small letters"),
    (('id = "sample"\n', ""), "id", "is missing"),
    (("version = 3", "version = 0"), "version", "whole number >= 1"),
    (("version = 3", "version = 1.0"), "version", "expected a whole number, got a decimal fraction"),
    (("version = 3", "version = true"), "version", "got true or false"),
    (("version = 3", "version = 1000001"), "version", "<= 1000000"),
    (('"Example Ltd"', '""'), "authority", "length >= 1"),
    (('"Own policy."', "2026-01-01"), "source", "expected text, got `date`"),
    (('"For tests."', '"""two\nlines"""'), "advice", "line break"),
    (('"For tests."', '"\\u202E"'), "advice", "invisible"),
    (('"clear"', '"purge"'), "level", "never earns purge"),
    (('"clear"', '"purge"\ntechniques = ["overwrite"]'), "level", "overwriting never earns purge"),
    (('"clear"', '"purge"\ntechniques = ["overwrite", "ata-sanitize-block"]'), "level", "purge on 'hdd'"),
    (
        ("seal", 'techniques = ["ata-sanitise-block"]\nseal'),
        "techniques[1]",
        "did you mean 'ata-sanitize-block'?",
    ),
    (("seal", 'techniques = ["overwrite", "overwrite"]\nseal'), "techniques[2]", "'overwrite' stands twice"),
    (("seal", 'techniques = ["overwrite", "discard"]\nseal'), "techniques[2]", "earns nothing"),
    (("seal", "techniques = []\nseal"), "techniques", "length >= 1"),
    (("seal", 'techniques = "overwrite"\nseal'), "techniques", "expected a list, got text"),
    (("seal", 'techniques = ["ata-security-erase"]\nseal'), "pass", "belongs to the technique overwrite"),
    (("advice", "technique = []\nadvice"), "technique", "did you mean 'techniques'?"),
    (('"clear"', '"cleer"'), "level", "'cleer' is not one of clear, purge, did you mean 'clear'?"),
    (('"legacy"', '"old"'), "status", "'old' is not one of current, legacy, withdrawn, disputed"),
    (('"file", "hdd"', '"file", "hhd"'), "media[2]", "did you mean 'hdd'?"),
    (('["file", "hdd"]', "[]"), "media", "length >= 1"),
    (('"file", "hdd"', '"file", "file"'), "media", "'file' stands twice"),
    (("seal = true", "seal = 1"), "seal", "expected true or false, got a whole number"),
    (('title = "', 'titel = "'), "titel", "is an unknown key, did you mean 'title'?"),
    (("seal = true", "sael = true\nqqqq = 1"), "sael", "'qqqq' is an unknown key"),
    (('fixed = "a0"', 'fixd = "a0"'), "pass[1].fixd", "did you mean 'fixed'?"),
    (('kind = "full"', 'kind = "full"\nrulez = 1'), "verification.rulez", "did you mean 'rule'?"),
    (('"a0"', '"GG"'), "pass[1].fixed", "'GG' is not one byte in hexadecimal"),
    (('"a0"', '"000"'), "pass[1].fixed", "not one byte"),
    (('"a0"', '"0000"'), "pass[1].fixed", "not one byte"),
    (('"a0"', '"٠٠"'), "pass[1].fixed", "not one byte"),
    (('"a0"', "0"), "pass[1].fixed", "expected text, got a whole number"),
    (('fixed = "a0"', 'pattern = "a0"'), "pass[1].pattern", "not 2 to 64 bytes"),
    (('fixed = "a0"', f'pattern = "{"a0" * 65}"'), "pass[1].pattern", "not 2 to 64 bytes"),
    (('fixed = "a0"', 'pattern = "92492"'), "pass[1].pattern", "not 2 to 64 bytes"),
    (('fixed = "a0"', ""), "pass[1]", "needs exactly one of"),
    (('fixed = "a0"', 'fixed = "a0"\nrandom-byte = true'), "pass[1]", "has fixed and random-byte"),
    (('fixed = "a0"', "complement = true"), "pass[1].complement", "no pass before the first"),
    (('fixed = "a0"', "keyed-stream = true"), "pass[2].complement", "keyed stream has no complement"),
    (("complement = true", "complement = false"), "pass[2].complement", "can only be true"),
    (("keyed-stream = true", "random-byte = true"), "seal", "keyed stream as the last pass"),
    (('kind = "full"\n', ""), "verification.kind", "is missing"),
    (('"full"', '"none"'), "verification.after", "has no meaning"),
    (('after = "last"', ""), "verification.after", "is missing; write last or every"),
    (('"last"', '"each"'), "verification.after", "'each' is not one of last, every"),
    (('"full"', '"full"\nrule = "nist-800-88r1"'), "verification.rule", "belongs to kind sampled"),
    (('"full"', '"sampled"'), "verification", "it has neither"),
    (('"full"', '"sampled"\nrule = "mine"'), "verification.rule", "is not one of nist-800-88r1"),
    (('"full"', '"sampled"\nconfidence-ppm = 9'), "verification", "it has confidence-ppm"),
    (('"full"', '"sampled"\nconfidence-ppm = 1000000'), "verification.confidence-ppm", "<= 999999"),
    (("[verification]", "[[verification]]"), "verification", "expected a table, got a list"),
    (("[verification]", "[other]"), "other", "is an unknown key"),
]


@pytest.mark.parametrize(("change", "key", "reason"), WRONG)
def test_every_mistake_is_told_by_file_key_and_reason(change: tuple[str, str], key: str, reason: str) -> None:
    with pytest.raises(ProfileError) as caught:
        parse(edited(change), "sample.toml")
    error = caught.value
    assert (error.source, error.key) == ("sample.toml", key)
    assert reason in error.reason
    assert str(error) == f"sample.toml: {key}: {error.reason}"
    assert "\n" not in str(error)


COMMANDS = """\
id = "commands"
version = 1
title = "By the drive"
level = "purge"
authority = "Example Ltd"
status = "current"
source = "Own policy."
advice = "For tests."
media = ["ssd", "usb-flash"]
techniques = ["ata-sanitize-block", "nvme-sanitize-crypto"]

[verification]
kind = "full"
after = "last"
"""


def test_commands_of_the_drive_need_no_passes() -> None:
    profile = parse(COMMANDS, "x")
    assert profile.passes == ()
    assert not profile.overwrites
    assert profile.summary() == (
        "commands of the drive: ata-sanitize-block, nvme-sanitize-crypto; verify full after last"
    )
    canonical = profile.canonical().decode()
    assert '"pass"' not in canonical
    assert '"techniques":["ata-sanitize-block","nvme-sanitize-crypto"]' in canonical
    assert msgspec.json.decode(profile.canonical(), type=Profile) == profile
    with pytest.raises(ValueError, match="does not overwrite"):
        expand(profile, lambda: 0)


@pytest.mark.parametrize(
    ("old", "new", "key", "reason"),
    [
        (
            '"usb-flash"]\ntechniques = ["ata-sanitize-block", "nvme-sanitize-crypto"]',
            '"hdd"]\ntechniques = ["ata-sanitize-block", "nvme-sanitize-block"]',
            "level",
            "none of the techniques earns purge on 'hdd'",
        ),
        ('["ssd", "usb-flash"]', '["file"]', "level", "none of the techniques earns purge on 'file'"),
        ('after = "last"', 'after = "every"', "verification.after", "there are no passes; write last"),
        ("techniques", "seal = true\ntechniques", "seal", "needs a keyed stream"),
        ('"nvme-sanitize-crypto"]', '"overwrite"]', "pass", "is missing"),
    ],
)
def test_what_is_wrong_with_commands(old: str, new: str, key: str, reason: str) -> None:
    assert old in COMMANDS
    with pytest.raises(ProfileError, match=re.escape(reason)) as caught:
        parse(COMMANDS.replace(old, new), "x.toml")
    assert (caught.value.source, caught.value.key) == ("x.toml", key)


def test_the_order_of_techniques_counts_and_overwriting_alone_is_what_is_meant_without_the_key() -> None:
    turned = COMMANDS.replace(
        '"ata-sanitize-block", "nvme-sanitize-crypto"', '"nvme-sanitize-crypto", "ata-sanitize-block"'
    )
    assert parse(turned, "x").digest != parse(COMMANDS, "x").digest
    said = parse(edited(("seal", 'techniques = ["overwrite"]\nseal')), "x")
    assert said == parse(GOOD, "x")
    assert said.digest == parse(GOOD, "x").digest


def test_passes_and_commands_together() -> None:
    both = parse(edited(("seal", 'techniques = ["ata-security-erase", "overwrite"]\nseal')), "x")
    assert both.summary() == (
        "commands of the drive: ata-security-erase; or 3 passes: A0, complement, keyed stream; "
        "verify full after last"
    )
    assert len(expand(both, lambda: 0)) == 3


def test_words_and_credit_of_techniques_are_those_of_the_agents_table() -> None:
    assert list(WORDS) == [technique.value for technique in Technique]
    assert set(CHOICES["media"]) == {kind.value for kind in MediumType}
    for technique, kind in itertools.product(Technique, MediumType):
        assert can_earn(technique.value, kind.value) == earns(technique, kind).value, (technique, kind)


@pytest.mark.parametrize("medium", ["usb-flash", "unknown"])
def test_one_pass_is_not_enough_for_sticks_and_the_unknown(medium: str) -> None:
    one = edited(('[[pass]]\nfixed = "a0"\n\n[[pass]]\ncomplement = true\n', ""), ('"hdd"', f'"{medium}"'))
    with pytest.raises(ProfileError, match="at least two passes"):
        parse(one, "x")
    assert medium in parse(edited(('"hdd"', f'"{medium}"')), "x").media


def test_one_to_64_passes() -> None:
    head, tail = GOOD.split("[[pass]]", 1)[0], "[verification]" + GOOD.split("[verification]")[1]
    stream = "[[pass]]\nkeyed-stream = true\n"
    assert len(parse(head + stream * 64 + tail, "x").passes) == 64
    for text in (head + stream * 65 + tail, head + "pass = []\n" + tail):
        with pytest.raises(ProfileError, match=r"^x: pass: expected a list of length"):
            parse(text, "x")
    with pytest.raises(ProfileError, match=r"^x: pass: is missing"):
        parse(head + tail, "x")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("id = ", "is not valid TOML"),
        (edited(("version = 3", "version = 3\nversion = 3")), "is not valid TOML"),
        ("\ufeff" + GOOD, "byte order mark"),
        ("x = " + "[" * 20_000, "is not valid TOML"),
        ("x = " + "1" * 5000, "is not valid TOML"),
        ("#" + "ü" * (MAX_FILE_BYTES // 2), "larger than 65536 bytes"),
    ],
)
def test_what_is_no_policy_at_all(text: str, reason: str) -> None:
    with pytest.raises(ProfileError, match=reason) as caught:
        parse(text, "bad.toml")
    assert caught.value.source == "bad.toml"


def test_rules_hold_for_profiles_made_in_code_too() -> None:
    profile = parse(GOOD, "x")
    with pytest.raises(ProfileError, match="keyed stream as the last pass"):
        msgspec.structs.replace(profile, passes=profile.passes[:2])
    with pytest.raises(ProfileError, match="exactly one"):
        Pass()
    with pytest.raises(AttributeError):
        profile.version = 4  # type: ignore[misc]


def test_a_folder_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(GOOD, encoding="utf-8")
    (tmp_path / "b.toml").write_text(edited(('"sample"', '"other"')), encoding="utf-8")
    (tmp_path / "notes.txt").write_text("no policy")
    assert list(load_folder(tmp_path)) == ["sample", "other"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GOOD.encode(), "b.toml: id: 'sample' is taken by a.toml"),
        (edited(('"sample"', '"zero"')).encode(), "b.toml: id: 'zero' is a built-in profile"),
        (b"\xff", "b.toml: is not UTF-8 (byte 1)"),
        (b"#" * (MAX_FILE_BYTES + 1), "b.toml: is larger than 65536 bytes"),
        (b"", "b.toml: id: is missing"),
    ],
)
def test_one_bad_file_fails_the_folder(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.toml").write_text(GOOD, encoding="utf-8")
    (tmp_path / "b.toml").write_bytes(content)
    with pytest.raises(ProfileError) as caught:
        load_folder(tmp_path)
    assert str(caught.value).startswith(message)


def test_what_is_not_there_or_no_file(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="cannot be read as a folder: No such file"):
        load_folder(tmp_path / "absent")
    with pytest.raises(ProfileError, match=r"absent\.toml: is not a regular file"):
        load_file(tmp_path / "absent.toml")
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(ProfileError, match=r"folder\.toml: is not a regular file"):
        load_folder(tmp_path)


def test_complements_are_of_what_was_written() -> None:
    profile = msgspec.structs.replace(
        parse(GOOD, "x"),
        passes=(
            Pass(random_byte=True),
            Pass(complement=True),
            Pass(complement=True),
            Pass(pattern="924924"),
            Pass(complement=True),
            Pass(random_byte=True),
            Pass(keyed_stream=True),
        ),
    )
    drawn = itertools.count(0x10)
    assert expand(profile, lambda: next(drawn)) == [
        Fixed(b"\x10"),
        Fixed(b"\xef"),
        Fixed(b"\x10"),
        Fixed(b"\x92\x49\x24"),
        Fixed(b"\x6d\xb6\xdb"),
        Fixed(b"\x11"),
        Keyed(),
    ]
    with pytest.raises(ValueError, match="256"):
        expand(profile, lambda: 256)


printable = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=40)


CLEARING = {word for word in WORDS if can_earn(word, "file") == "clear"} - {"overwrite"}


@st.composite
def policies(draw: st.DrawFn) -> Profile:
    commands = draw(st.lists(st.sampled_from(sorted(CLEARING)), unique=True, max_size=4))
    writes = draw(st.booleans()) or not commands
    passes: list[Pass] = []
    for _ in range(draw(st.integers(2, 8)) if writes else 0):
        kinds = ["fixed", "pattern", "random_byte", "keyed_stream"]
        if passes and passes[-1].kind != "keyed-stream":
            kinds.append("complement")
        match draw(st.sampled_from(kinds)):
            case "fixed":
                passes.append(Pass(fixed=draw(st.binary(min_size=1, max_size=1)).hex()))
            case "pattern":
                passes.append(Pass(pattern=draw(st.binary(min_size=2, max_size=64)).hex()))
            case flag:
                passes.append(Pass(**{flag: True}))  # type: ignore[arg-type]
    ppm = st.integers(1, 999_999)
    after = ["last", "every"] if writes else ["last"]
    verification = draw(
        st.one_of(
            st.just(Verification(kind="none")),
            st.builds(Verification, kind=st.just("full"), after=st.sampled_from(after)),
            st.builds(
                Verification, kind=st.just("sampled"), after=st.just(after[-1]), rule=st.just("nist-800-88r1")
            ),
            st.builds(
                Verification,
                kind=st.just("sampled"),
                after=st.just("last"),
                confidence_ppm=ppm,
                max_unsanitized_ppm=ppm,
            ),
        )
    )
    return Profile(
        id=draw(st.from_regex(r"[a-z0-9][a-z0-9.-]{0,63}", fullmatch=True)),
        version=draw(st.integers(1, 1_000_000)),
        title=draw(printable),
        level="clear",
        authority=draw(printable),
        status=draw(st.sampled_from(CHOICES["status"])),
        source=draw(printable),
        advice=draw(printable),
        media=tuple(draw(st.lists(st.sampled_from(CHOICES["media"]), min_size=1, unique=True))),
        techniques=(*commands, *(["overwrite"] if writes else [])),
        passes=tuple(passes),
        verification=verification,
        seal=draw(st.booleans()) and bool(passes) and passes[-1].kind == "keyed-stream",
    )


def as_toml(value: object) -> str:
    """JSON values as TOML, all tables inline."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {as_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(as_toml(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)


@given(policies())
def test_round_trip_by_toml_and_by_canonical_json(profile: Profile) -> None:
    plain = json.loads(profile.canonical())
    text = "".join(f"{key} = {as_toml(value)}\n" for key, value in plain.items())
    again = parse(text, "again.toml")
    assert again == profile
    assert again.digest == profile.digest
    assert msgspec.json.decode(profile.canonical(), type=Profile) == profile
    if profile.overwrites:
        assert len(expand(profile, lambda: 7)) == len(profile.passes)


@given(st.text(max_size=300), st.integers(0, len(GOOD)), st.integers(0, 30))
def test_any_damage_is_a_profile_error_or_a_valid_policy(noise: str, at: int, gap: int) -> None:
    for text in (noise, GOOD[:at] + noise + GOOD[at + gap :]):
        try:
            parse(text, "noise.toml")
        except ProfileError as error:
            assert str(error).startswith("noise.toml: ")


def test_a_built_in_profile_survives_json() -> None:
    for profile in builtin().values():
        assert msgspec.json.decode(profile.canonical(), type=Profile).digest == profile.digest
