"""When each document of a bundle was signed, by its own words; of the receipt, when it was taken in. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from expunge_agent.errors import DocumentError
from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import MaybeTimestamp, moment
from expunge_controller.records import bundle_layout as layout


def time_of(name: str, files: Mapping[str, bytes]) -> MaybeTimestamp:
    """The time at which the key of document `name` has to be good; empty where the document does not say.

    For the receipt it is that of the first custody event that names it: the controller's word for when it came. Where
    there is none, the end of the work by the machine's own word. A PDF has its certificate's.
    """
    if name == layout.RECEIPT:
        return taken_in(files) or finished(files)
    if name == layout.CERTIFICATE_PDF:
        name = layout.CERTIFICATE
    dated = (layout.CUSTODY_FOLDER, layout.KEY_FOLDER, layout.PEOPLE_FOLDER)
    field = "at" if name.startswith(dated) else "issued_at"
    return _time(_plain(files.get(name, b"")).get(field))


def taken_in(files: Mapping[str, bytes]) -> MaybeTimestamp:
    """When the controller took the receipt in, by custody; empty where custody does not name it."""
    digest = canonical.sha256_hex(files.get(layout.RECEIPT, b""))
    for name in layout.custody_names(files):
        event = _plain(files[name])
        if event.get("receipt") == digest:
            return _time(event.get("at"))
    return ""


def finished(files: Mapping[str, bytes]) -> MaybeTimestamp:
    """When the machine says that it ended; empty where the receipt cannot be read."""
    predicate = _plain(files.get(layout.RECEIPT, b"")).get("predicate")
    return _time(predicate.get("finished_at")) if isinstance(predicate, dict) else ""


def _plain(body: bytes) -> dict[str, Any]:
    try:
        found = canonical.parse(body)
    except DocumentError:
        return {}
    return found if isinstance(found, dict) else {}


def _time(text: object) -> MaybeTimestamp:
    try:
        return text if isinstance(text, str) and moment(text) else ""
    except DocumentError:
        return ""
