"""The policies that come with expunge, against the table of methods and against the manual."""

from __future__ import annotations

import importlib.resources
import itertools
import re
from pathlib import Path

import pytest

from expunge_profiles.expand import Fixed, Keyed, expand
from expunge_profiles.load import builtin, find, parse
from expunge_profiles.schema import Profile, ProfileError

MANUAL = Path(__file__).parents[2] / "docs" / "profiles.md"
NIBBLES = " ".join(digit * 2 for digit in "0123456789ABCDEF")
TRIPLES = "924924 492492 249249"

# R: keyed stream; r: a random byte (5C, then 5D, … here); everything else is what is written.
EXPECTED = {
    "zero": ("00", "none", "current"),
    "one": ("FF", "none", "current"),
    "random": ("R", "none", "current"),
    "random-verified": ("00 R", "full last", "current"),
    "nist-clear": ("00", "full last", "current"),
    "nist-clear-complement": ("00 FF", "full last", "current"),
    "gb-46864-magnetic": ("00 FF R", "full last", "current"),
    "dod-5220.22-m": ("00 FF 5C", "full last", "withdrawn"),
    "dod-5220.22-m-ece": ("00 FF 5C 5D 00 FF 5E", "full last", "legacy"),
    "hmg-is5-baseline": ("00", "full last", "legacy"),
    "hmg-is5-enhanced": ("00 FF R", "full last", "legacy"),
    "afssi-5020": ("00 FF 5C", "full last", "legacy"),
    "ncsc-tg-025": ("00 FF 5C", "full every", "legacy"),
    "ar-380-19": ("R 00 FF", "full last", "disputed"),
    "navso-p-5239-26": ("00 FF 5C", "full last", "disputed"),
    "csec-itsg-06": ("00 FF 5C", "full last", "legacy"),
    "rcmp-tssit-ops-ii": ("00 FF 00 FF 00 FF R", "full last", "disputed"),
    "bsi-vsitr": ("00 FF 00 FF 00 FF AA", "none", "disputed"),
    "gost-r-50739-95": ("00 R", "none", "disputed"),
    "schneier": ("FF 00 R*5", "none", "disputed"),
    "pfitzner": ("R*33", "none", "legacy"),
    "nnsa-nap-14.1-c": ("R R 00", "full last", "legacy"),
    "ism-au-magnetic": ("R", "full last", "current"),
    "ism-au-flash": ("R R", "full last", "current"),
    "gutmann": (f"R*4 55 AA {TRIPLES} {NIBBLES} {TRIPLES} 6DB6DB B6DB6D DB6DB6 R*4", "none", "legacy"),
}
ALL = builtin()
ids = pytest.mark.parametrize("profile", ALL.values(), ids=ALL.keys())


def unfolded(compact: str) -> list[str]:
    """``"00 R*2"`` as ``["00", "R", "R"]``."""
    words = []
    for item in compact.split():
        word, _, times = item.partition("*")
        words += [word] * int(times or 1)
    return words


def test_no_method_is_missing_and_none_is_extra() -> None:
    assert set(ALL) == set(EXPECTED)
    assert list(ALL) == sorted(ALL)


@ids
def test_passes_expand_as_the_methods_are_written(profile: Profile) -> None:
    draw = itertools.count(0x5C)
    steps = expand(profile, lambda: next(draw))
    shown = ["R" if isinstance(step, Keyed) else step.pattern.hex().upper() for step in steps]
    passes, verification, status = EXPECTED[profile.id]
    assert shown == unfolded(passes)
    assert f"{profile.verification.kind} {profile.verification.after or ''}".strip() == verification
    assert profile.status == status


def test_gutmann_has_35_passes() -> None:
    assert len(ALL["gutmann"].passes) == 35
    steps = expand(ALL["gutmann"], lambda: 0)
    assert steps[6] == Fixed(b"\x92\x49\x24")
    assert steps[30] == Fixed(b"\xdb\x6d\xb6")
    assert steps[31] == Keyed()


@ids
def test_every_one_is_clear_and_says_how_sure_it_is(profile: Profile) -> None:
    assert profile.level == "clear"
    assert profile.version == 1
    confidence = r"primary text was not read|[Oo]wn policy|general knowledge"
    assert re.search(confidence, profile.source)
    assert ("disputed" in profile.source.lower()) >= (profile.status == "disputed")
    assert (profile.verification.kind == "none") == ("Nothing is read back" in profile.advice)
    text = f"{profile.title} {profile.source} {profile.advice}".lower()
    assert "certified" not in text
    assert "compliant" not in text


@ids
def test_sticks_get_two_passes_and_only_the_complement_pair_takes_unknown_media(profile: Profile) -> None:
    assert ("unknown" in profile.media) == (profile.id == "nist-clear-complement")
    if "usb-flash" in profile.media:
        assert len(profile.passes) >= 2


def test_only_the_verified_random_profile_leaves_a_seal() -> None:
    assert [profile.id for profile in ALL.values() if profile.seal] == ["random-verified"]


def test_file_names_are_ids() -> None:
    folder = importlib.resources.files("expunge_profiles") / "builtin"
    files = [entry for entry in folder.iterdir() if entry.name.endswith(".toml")]
    assert len(files) == len(ALL)
    for entry in files:
        assert parse(entry.read_text(encoding="utf-8"), entry.name).id + ".toml" == entry.name


def test_digests_are_all_different() -> None:
    assert len({profile.digest for profile in ALL.values()}) == len(ALL)


def test_a_callers_change_to_the_answer_stays_with_the_caller() -> None:
    builtin().clear()
    assert builtin() == ALL


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ("nist-claer", "did you mean nist-clear"),
        ("DoD", "did you mean dod-5220.22-m or dod-5220.22-m-ece?"),
        ("xyzzy", "there are afssi-5020, ar-380-19"),
    ],
)
def test_a_wrong_name_is_answered_with_the_right_ones(asked: str, hint: str) -> None:
    assert find(ALL, "zero").id == "zero"
    with pytest.raises(ProfileError, match=re.escape(hint)) as caught:
        find(ALL, asked)
    assert repr(asked) in str(caught.value)


def test_a_wrong_name_among_none() -> None:
    with pytest.raises(ProfileError, match="there are none"):
        find({}, "zero")


def test_the_manual_lists_every_profile_as_it_is() -> None:
    rows = re.findall(
        r"^\| `([^`]+)` \| `([^`]+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \|", MANUAL.read_text(), re.M
    )
    assert [row[0] for row in rows] == list(ALL)
    for name, passes, verification, status, media in rows:
        profile = ALL[name]
        letters = {"complement": "~", "random-byte": "r", "keyed-stream": "R"}
        assert unfolded(passes) == [letters.get(one.kind, one.text) for one in profile.passes]
        assert verification == profile.verification.text.removeprefix("verify ").replace(
            "no verification", "none"
        )
        assert status == profile.status
        assert media == ", ".join(profile.media)


def test_the_manual_names_every_key() -> None:
    text = MANUAL.read_text()
    for key in (
        "id",
        "version",
        "title",
        "level",
        "authority",
        "status",
        "source",
        "advice",
        "media",
        "seal",
    ):
        assert f"| `{key}` |" in text
    for key in ("fixed", "pattern", "complement", "random-byte", "keyed-stream"):
        assert f"| `pass.{key}` |" in text
    for key in ("kind", "after", "rule", "confidence-ppm", "max-unsanitized-ppm"):
        assert f"`verification.{key}`" in text


def test_the_manuals_example_is_a_profile_with_the_digest_it_states() -> None:
    text = MANUAL.read_text()
    example = parse(re.findall(r"```toml\n(.*?)```", text, re.S)[0], "example.toml")
    assert example.canonical().decode() == re.findall(r"```json\n(.*?)\n```", text, re.S)[0]
    assert f"is `{example.digest}`" in text
    assert example.summary() == (
        "2 passes: 5AA5, keyed stream; verify sampled (99.9 % sure of at most 0.01 %) after last"
    )
