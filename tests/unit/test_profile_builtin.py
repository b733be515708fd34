"""The policies that come with expunge, against the table of methods and against the manual."""

from __future__ import annotations

import importlib.resources
import itertools
import re
from pathlib import Path

import pytest

from expunge_profiles.expand import Fixed, Keyed, expand
from expunge_profiles.load import builtin, find, parse
from expunge_profiles.schema import CHOICES, Profile, ProfileError
from expunge_profiles.techniques import KEYS, WORDS, can_earn

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
PUBLISHED = {
    "afssi-5020": "93ec342c903834497153ee96f076d1b7c5ff3f57a13fb020dd123da667580aa4",
    "ar-380-19": "484f67d01759722b556f1bef9dc51ab1ad1e47f706c74d822734d55a36d84a25",
    "bsi-vsitr": "a0141e73fb39583cacc0be54b4a15c1dd5afe56f104cb2c9ab9777c20c3bd887",
    "csec-itsg-06": "1dd264e2fb8ea4e17e7e1cbca26475063a840c4919460f140fab117fd6394488",
    "dod-5220.22-m": "c3c660e2f87fa899a4e95a66c9c9e08c0ec587117b6d0e0d2f257b548e4e9cf1",
    "dod-5220.22-m-ece": "1ebf6cf54dac85b2c15b9654d718e5dd882f6a928a7084fc02ab9c91c5ff520b",
    "gb-46864-magnetic": "46330f950bcd77a6cde93e8bad4c8dfb06fa8a6d6e74f9601360e4a4c5b595b4",
    "gost-r-50739-95": "d5a8f99ad3e6615eca40459f35b0cfc600add26d4404a994ece4a524672babd9",
    "gutmann": "b635d39b4caa8d9e611836eab377faba2b99228d0bc35161520c2c1a3d26d40b",
    "hmg-is5-baseline": "a154d645045bc9d7c36f9f4b77f1271df4c944dc42cee220e3efc0fea6bee971",
    "hmg-is5-enhanced": "939f4e3f14320a660d0dae310c3fc19f89b5af06dda82112a4aabc6205be1536",
    "ism-au-flash": "e1ab7794f73ee467cfd24d4aa5c1fcb6ef9e350af00b5e5c0eaa7edf14fb1358",
    "ism-au-magnetic": "c1650b3e651f513ea7c6b7c476789fd7b7dfd0a96978ebce1aded5493a0fc4ac",
    "navso-p-5239-26": "daadb9fcd8c80947dac3117d913a95b4b68c1149c6ecc69fa14d359516ba2e3a",
    "ncsc-tg-025": "b6451b92ec5f2040637a4b84f4fa9edb11f0956d4b4a01149c7f539bde53251a",
    "nist-clear": "c95c602b44f41af1d3ad26b64ddbede117f60699349c387e86e41d8e260074b3",
    "nist-clear-complement": "faa373894801a574dd0300e4392dd905f56949556fc9a873402f889b08782570",
    "nnsa-nap-14.1-c": "8c7e584ad5e61298b34b8174a94c64d65da14db2185b66522b5ed1a32115b80c",
    "one": "ff07e6327245b163e776704624a01b5114f98826023fa6e238e582ccb402120a",
    "pfitzner": "33a85cb5432396b2217adc2e117dd53dacd5fe489a1aa0137dc6d18b42564f8c",
    "random": "c05b09fe7eb09a7f3f722de957c57deb7e713ba2e7d5c40f44014d65cf28efaf",
    "random-verified": "41c9050ff68ebe85578d488d099c4dfcff71aceffbda97093e3410d811743dc4",
    "rcmp-tssit-ops-ii": "1ec46b4e44b200dae7c62bb1eac6db3305754cf0db1ed96434744bc591902e3c",
    "schneier": "ec6aa7d17274a1ab94f756b5f712baf24bd045baaefb0f8f0d4928e870b6f759",
    "zero": "ff7f2a2ebf2ba559fb04b0be84f64b2b375ee4688e7b02a3a3f9c629a3b75fe2",
}
"""SHA-256 of the canonical form, as of the first release of each."""
ALL = builtin()
WRITING = {name: profile for name, profile in ALL.items() if profile.techniques == ("overwrite",)}
"""Those that only write from the host."""
COMMANDING = {name: profile for name, profile in ALL.items() if name not in WRITING}
"""Those that use the drive's own commands: level, the passes they may fall back on, verification."""
EXPECTED_COMMANDS = {
    "drive-erase-clear": ("clear", "", "full last"),
    "fscrypt-key-removal": ("clear", "", "full last"),
    "luks-crypto-erase": ("clear", "", "full last"),
    "luks-crypto-erase-purge": ("purge", "", "full last"),
    "nist-purge": ("purge", "", "sampled last"),
    "nist-purge-crypto": ("purge", "", "sampled last"),
    "nist-purge-or-clear": ("purge", "00 FF", "full last"),
    "vault-shred": ("clear", "", "full last"),
    "vault-shred-purge": ("purge", "", "full last"),
}
ids = pytest.mark.parametrize("profile", WRITING.values(), ids=WRITING.keys())
commanding = pytest.mark.parametrize("profile", COMMANDING.values(), ids=COMMANDING.keys())
every = pytest.mark.parametrize("profile", ALL.values(), ids=ALL.keys())


def unfolded(compact: str) -> list[str]:
    """``"00 R*2"`` as ``["00", "R", "R"]``."""
    words = []
    for item in compact.split():
        word, _, times = item.partition("*")
        words += [word] * int(times or 1)
    return words


def test_no_method_is_missing_and_none_is_extra() -> None:
    assert set(WRITING) == set(EXPECTED)
    assert set(COMMANDING) == set(EXPECTED_COMMANDS)
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


@every
def test_what_writes_is_clear_and_every_one_says_how_sure_it_is(profile: Profile) -> None:
    if profile.id in WRITING:
        assert profile.level == "clear"
    assert profile.version == 1
    confidence = r"primary text was not read|[Oo]wn policy|general knowledge"
    assert re.search(confidence, profile.source)
    assert ("disputed" in profile.source.lower()) >= (profile.status == "disputed")
    assert (profile.verification.kind == "none") == ("Nothing is read back" in profile.advice)
    text = f"{profile.title} {profile.source} {profile.advice}".lower()
    assert "certified" not in text
    assert "compliant" not in text


@commanding
def test_commands_of_the_drive_and_what_they_may_fall_back_on(profile: Profile) -> None:
    level, passes, verification = EXPECTED_COMMANDS[profile.id]
    assert profile.level == level
    assert f"{profile.verification.kind} {profile.verification.after}" == verification
    assert profile.overwrites == bool(passes)
    if passes:
        steps = expand(profile, lambda: 0)
        assert [step.pattern.hex().upper() for step in steps if isinstance(step, Fixed)] == passes.split()
        assert profile.techniques[-1] == "overwrite", "what earns least comes last"
    else:
        with pytest.raises(ValueError, match="does not overwrite"):
            expand(profile, lambda: 0)


def test_purge_takes_all_that_earns_it_and_crypto_only_what_changes_a_key() -> None:
    purges = {word for word in WORDS if any(can_earn(word, kind) == "purge" for kind in CHOICES["media"])}
    purges -= set(KEYS)  # no commands of the drive; only under conditions
    assert set(ALL["nist-purge"].techniques) == purges
    on_unknown = {word for word in WORDS if can_earn(word, "unknown") == "purge"} - set(KEYS)
    assert set(ALL["nist-purge-crypto"].techniques) == on_unknown
    longer, shorter = ALL["nist-purge-or-clear"].techniques, ALL["nist-purge"].techniques
    assert longer[: len(shorter)] == shorter
    assert not any(
        can_earn(word, kind) == "purge" for word in longer[len(shorter) :] for kind in CHOICES["media"]
    )


def test_the_digests_of_what_was_published_stay() -> None:
    """Orders and receipts of years ago name them; a new key in the format must not change one."""
    assert {name: profile.digest for name, profile in WRITING.items()} == PUBLISHED


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
    assert [row[0] for row in rows] == list(WRITING)
    for name, passes, verification, status, media in rows:
        profile = ALL[name]
        letters = {"complement": "~", "random-byte": "r", "keyed-stream": "R"}
        assert unfolded(passes) == [letters.get(one.kind, one.text) for one in profile.passes]
        assert verification == profile.verification.text.removeprefix("verify ").replace(
            "no verification", "none"
        )
        assert status == profile.status
        assert media == ", ".join(profile.media)


def test_the_manual_lists_the_profiles_of_commands_as_they_are() -> None:
    text = MANUAL.read_text()
    rows = re.findall(r"^\| `([^`]+)` \| (clear|purge) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|", text, re.M)
    assert [row[0] for row in rows] == list(COMMANDING)
    for name, level, techniques, verification, media in rows:
        profile = COMMANDING[name]
        assert level == profile.level
        assert re.findall(r"`([^`]+)`", techniques) == list(profile.techniques)
        assert f"verify {verification}" == profile.verification.text.replace(" after last", "")
        assert media == ", ".join(profile.media)


def test_the_manual_names_every_technique() -> None:
    text = MANUAL.read_text()
    assert [word for word in WORDS if f"`{word}`" not in text] == []


def test_the_manual_names_every_key() -> None:
    text = MANUAL.read_text()
    for key in (
        "techniques",
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
