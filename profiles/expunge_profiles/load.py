"""Policies from TOML: the built-in ones, a folder of one's own, and errors that say where to look."""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from expunge_profiles.schema import CHOICES, Pass, Profile, ProfileError, Verification

MAX_FILE_BYTES: Final = 64 * 1024

_WORDS: Final = {
    " | null": "",  # first: it stands inside the quotes
    "`int`": "a whole number",
    "`str`": "text",
    "`bool`": "true or false",
    "`array`": "a list",
    "`object`": "a table",
    "`float`": "a decimal fraction",
}


def parse(text: str, source: str) -> Profile:
    """The policy in `text` (TOML, at most `MAX_FILE_BYTES` in UTF-8).

    `source` is the name that errors give, usually the file's. Raises ProfileError for everything
    that is not a valid policy.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_FILE_BYTES:
        raise ProfileError(source, "", f"is larger than {MAX_FILE_BYTES} bytes")
    if text.startswith("\ufeff"):
        raise ProfileError(source, "", "begins with a byte order mark; save it as UTF-8 without one")
    try:
        plain = tomllib.loads(text)
    except RecursionError:
        raise ProfileError(source, "", "is not valid TOML: nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError, and int() on thousands of digits
        raise ProfileError(source, "", f"is not valid TOML: {error}") from error
    _check_keys(plain, source)
    try:
        return msgspec.convert(plain, Profile)
    except msgspec.ValidationError as error:
        raise _explained(error, source) from error


def load_file(path: Path) -> Profile:
    """The policy in the file at `path`. Raises ProfileError, also where it cannot be read."""
    try:
        if not path.is_file():  # a pipe would keep us waiting
            raise ProfileError(path.name, "", "is not a regular file")
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise ProfileError(path.name, "", f"is larger than {MAX_FILE_BYTES} bytes")
        return parse(data.decode("utf-8"), path.name)
    except UnicodeDecodeError as error:
        raise ProfileError(path.name, "", f"is not UTF-8 (byte {error.start + 1})") from error
    except OSError as error:
        raise ProfileError(path.name, "", f"cannot be read: {error.strerror}") from error


def builtin() -> dict[str, Profile]:
    """The policies that come with expunge, by id, in alphabetical order."""
    return dict(_builtin())


@functools.cache
def _builtin() -> dict[str, Profile]:
    files = sorted(Path(__file__).with_name("builtin").glob("*.toml"))
    found = [parse(file.read_text(encoding="utf-8"), file.name) for file in files]
    return {profile.id: profile for profile in sorted(found, key=lambda profile: profile.id)}


def load_folder(path: Path) -> dict[str, Profile]:
    """The policies in the ``*.toml`` files of the folder `path`, by id, without the built-in ones.

    Raises ProfileError for the first file (by name) that is wrong, that takes the id of a built-in
    policy or that repeats the id of another file, and where `path` is no readable folder.
    """
    usable, problems = load_usable(path)
    if problems:
        raise problems[0]
    return usable


def load_usable(path: Path) -> tuple[dict[str, Profile], list[ProfileError]]:
    """What `load_folder` gives, leaving out the files that are wrong; these as errors, by file name.

    Raises ProfileError where `path` is no readable folder.
    """
    try:
        entries = sorted(entry for entry in path.iterdir() if entry.name.endswith(".toml"))
    except OSError as error:
        raise ProfileError(str(path), "", f"cannot be read as a folder: {error.strerror}") from error
    own: dict[str, Profile] = {}
    problems: list[ProfileError] = []
    files: dict[str, str] = {}
    for entry in entries:
        try:
            profile = load_file(entry)
            if profile.id in _builtin():
                raise ProfileError(
                    entry.name, "id", f"{profile.id!r} is a built-in profile; choose another id"
                )
            if profile.id in own:
                raise ProfileError(entry.name, "id", f"{profile.id!r} is taken by {files[profile.id]}")
        except ProfileError as error:
            problems.append(error)
            continue
        own[profile.id] = profile
        files[profile.id] = entry.name
    return own, problems


def find(profiles: Mapping[str, Profile], profile_id: str) -> Profile:
    """The policy called `profile_id`. Raises ProfileError that names those of similar name, or else all."""
    if profile_id in profiles:
        return profiles[profile_id]
    inside = [name for name in profiles if len(profile_id) > 2 and profile_id.lower() in name]
    close = list(dict.fromkeys([*_alike(profile_id, profiles, 3), *inside[:5]]))
    if close:
        hint = f"did you mean {' or '.join(close)}?"
    else:
        hint = f"there are {', '.join(sorted(profiles))}" if profiles else "there are none"
    raise ProfileError("profiles", "", f"no profile is called {_shown(profile_id)}; {hint}")


def _check_keys(plain: dict[str, Any], source: str) -> None:
    """Refuse the keys that no policy has, all of one table at once, with what may be meant."""
    tables: list[tuple[str, Any, type[msgspec.Struct]]] = [("", plain, Profile)]
    tables.append(("verification.", plain.get("verification"), Verification))
    passes = plain.get("pass")
    for number, one in enumerate(passes if isinstance(passes, list) else [], 1):
        tables.append((f"pass[{number}].", one, Pass))
    for prefix, table, kind in tables:
        known = _keys(kind)
        unknown = [key for key in table if key not in known] if isinstance(table, dict) else []
        if unknown:
            key = prefix + (unknown[0] if unknown[0].isprintable() else _shown(unknown[0]))
            hints = "; ".join(_unknown_key(name, known, len(unknown) > 1) for name in unknown[:10])
            raise ProfileError(source, key, hints)


@functools.cache
def _keys(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    return tuple(field.encode_name for field in msgspec.structs.fields(kind))


def _unknown_key(name: str, known: Iterable[str], several: bool) -> str:
    subject = f"{_shown(name)} is an unknown key" if several else "is an unknown key"
    return subject + _suggestion(name, known)


def _suggestion(word: str, known: Iterable[str]) -> str:
    close = _alike(word, known, 1)
    return f", did you mean {close[0]!r}?" if close else ""


def _alike(word: str, known: Iterable[str], count: int) -> list[str]:
    import difflib  # only for a mistake

    return difflib.get_close_matches(word.lower(), known, n=count)


def _explained(error: msgspec.ValidationError, source: str) -> ProfileError:
    """The library's complaint in the words of the file: key first, passes counted from 1."""
    message, _, path = str(error).partition(" - at `$")
    path = re.sub(r"\[(\d+)\]", lambda found: f"[{int(found[1]) + 1}]", path.rstrip("`").removeprefix("."))
    if isinstance(error.__cause__, ProfileError):  # a rule of ours
        rule = error.__cause__
        return ProfileError(source, ".".join(part for part in (path, rule.key) if part), rule.reason)
    missing = re.fullmatch(r"Object missing required field `(.+)`", message)
    if missing:
        return ProfileError(source, ".".join(part for part in (path, missing[1]) if part), "is missing")
    word = re.fullmatch(r"Invalid enum value '(.*)'", message, re.DOTALL)
    if word:
        allowed = CHOICES[re.sub(r"\[\d+\]", "", path).rpartition(".")[2]]
        reason = f"{_shown(word[1])} is not one of {', '.join(allowed)}{_suggestion(word[1], allowed)}"
        return ProfileError(source, path, reason)
    if path == "id" and "matching regex" in message:
        reason = "takes up to 64 small letters, digits, dots and hyphens, a letter or digit first"
        return ProfileError(source, path, reason)
    for theirs, ours in _WORDS.items():
        message = message.replace(theirs, ours)
    return ProfileError(source, path, message[:1].lower() + message[1:])


def _shown(text: str) -> str:
    """`text` in quotes, escaped and cut short."""
    return repr(text if len(text) <= 60 else text[:60] + "…")
