"""Profiles as the controller knows them: the built-in ones and those in the folder's ``profiles/``."""

from __future__ import annotations

from expunge_agent.errors import ProfileProblemError
from expunge_controller.settings import Home
from expunge_profiles.load import builtin, find, load_folder
from expunge_profiles.schema import Profile, ProfileError


def all_profiles(home: Home | None) -> dict[str, Profile]:
    """Every profile by id. Raises ProfileProblemError for a wrong file of one's own."""
    own = home.path / "profiles" if home is not None else None
    try:
        return {**builtin(), **(load_folder(own) if own is not None and own.is_dir() else {})}
    except ProfileError as error:
        raise ProfileProblemError(
            f"{error}.", "Correct the profile; `expunge profiles list` shows the others."
        ) from error


def profile_called(home: Home | None, profile_id: str) -> Profile:
    """The profile with this id. Raises ProfileProblemError."""
    try:
        return find(all_profiles(home), profile_id)
    except ProfileError as error:
        raise ProfileProblemError(
            f"{error.reason[:1].upper()}{error.reason[1:]}", "See `expunge profiles list`."
        ) from error


def profile_with_digest(home: Home, digest: str) -> Profile | None:
    """The profile with this digest, None when it is not (or no longer) here."""
    try:
        profiles = all_profiles(home)
    except ProfileProblemError:
        profiles = builtin()  # a broken file of one's own must not keep a receipt out
    return next((profile for profile in profiles.values() if profile.digest == digest), None)
