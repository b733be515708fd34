"""Every error a user can meet: its class, its exit code, and what to do next.

``docs/exit-codes.md`` is the same table in prose; a test holds the two together.
"""

from __future__ import annotations

from typing import ClassVar


class ExpungeError(Exception):
    """A failure with a sentence for a person: what is wrong, and what to do about it.

    ``code`` is a stable word for programs, ``exit_code`` the process's exit status.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def as_dict(self) -> dict[str, str | int]:
        """The error as ``--json`` prints it."""
        return {
            "error": self.code,
            "message": self.message,
            "remedy": self.remedy,
            "exit_code": self.exit_code,
        }


class UsageError(ExpungeError):
    """The command line asks for something that cannot be."""

    code = "usage"
    exit_code = 2


class RefusedError(ExpungeError):
    """A rule forbids it; nothing was touched."""

    code = "refused"
    exit_code = 3


class WipeFailedError(ExpungeError):
    """The wipe ran and did not reach its goal."""

    code = "failed"
    exit_code = 4


class ExceptionsError(ExpungeError):
    """Sanitized except for listed ranges."""

    code = "sanitized-with-exceptions"
    exit_code = 5


class InterruptedWipeError(ExpungeError):
    """The wipe stopped before its end."""

    code = "interrupted"
    exit_code = 6


class MismatchError(ExpungeError):
    """The medium does not hold what it should."""

    code = "mismatch"
    exit_code = 7


class UnknownOutcomeError(ExpungeError):
    """What happened to the target cannot be known."""

    code = "unknown"
    exit_code = 8


class VerificationError(ExpungeError):
    """A signature, digest or document does not check out."""

    code = "not-verified"
    exit_code = 9


class ProfileProblemError(ExpungeError):
    """A profile is missing or wrong."""

    code = "profile"
    exit_code = 10


class StateError(ExpungeError):
    """The state folder is missing, damaged, or not this machine's."""

    code = "state"
    exit_code = 11


class NoSpaceError(ExpungeError):
    """The disk that holds the state folder is full."""

    code = "no-space"
    exit_code = 12


class PermissionProblemError(ExpungeError):
    """The user may not do this."""

    code = "permission"
    exit_code = 13


class TransportError(ExpungeError):
    """The other side cannot be reached, or the connection broke."""

    code = "transport"
    exit_code = 14


class PeerIdentityError(ExpungeError):
    """The other side is not who it should be: host key or agent key."""

    code = "peer-identity"
    exit_code = 15


class ProtocolError(ExpungeError):
    """The other side speaks something this program does not understand."""

    code = "protocol"
    exit_code = 16


class EnrolmentError(ExpungeError):
    """A machine could not be enrolled."""

    code = "enrolment"
    exit_code = 17


class NotFoundError(ExpungeError):
    """No such machine, order, receipt, medium or file."""

    code = "not-found"
    exit_code = 18


class BusyError(ExpungeError):
    """Another process holds it."""

    code = "busy"
    exit_code = 19


class DocumentError(ExpungeError):
    """A file is not the document it should be (truncated, edited, wrong format)."""

    code = "document"
    exit_code = 20


class SigningKeyError(ExpungeError):
    """The key that has to sign cannot be reached, or does not sign."""

    code = "signing-key"
    exit_code = 22


EXIT_OK = 0
EXIT_BUG = 70  # sysexits.h EX_SOFTWARE: a defect of ours
EXIT_STOPPED = 130  # stopped from the keyboard
