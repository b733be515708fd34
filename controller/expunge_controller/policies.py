"""Profiles as the controller knows them: the built-in ones and those in the folder's ``profiles/``."""

from __future__ import annotations

from expunge_agent.errors import ProfileProblemError
from expunge_controller.settings import Home
from expunge_profiles.load import builtin, find, load_usable
from expunge_profiles.schema import Profile, ProfileError


def all_profiles(home: Home | None) -> tuple[dict[str, Profile], list[ProfileError]]:
    """Every usable profile by id, and what is wrong with files of one's own that cannot be used."""
    own = home.path / "profiles" if home is not None else None
    if own is None or not own.is_dir():
        return builtin(), []
    try:
        usable, broken = load_usable(own)
    except ProfileError as error:  # the folder itself
        return builtin(), [error]
    return {**builtin(), **usable}, broken


def profile_called(home: Home | None, profile_id: str) -> Profile:
    """The profile with this id. Raises ProfileProblemError."""
    profiles, broken = all_profiles(home)
    try:
        return find(profiles, profile_id)
    except ProfileError as error:
        if broken:  # it may be the one that is meant
            raise ProfileProblemError(
                " ".join(f"{problem}." for problem in broken),
                f"Correct it; as it is, no usable profile is called {profile_id!r}.",
            ) from error
        raise ProfileProblemError(
            f"{error.reason[:1].upper()}{error.reason[1:]}", "See `expunge profiles list`."
        ) from error


def profile_with_digest(home: Home, digest: str) -> Profile | None:
    """The profile with this digest, None when it is not (or no longer) here."""
    profiles, _ = all_profiles(home)
    return next((profile for profile in profiles.values() if profile.digest == digest), None)
