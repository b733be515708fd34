"""One HTTP POST to whoever vouches for the log: a witness, a time-stamping authority."""

from __future__ import annotations

import http.client
import urllib.parse
from collections.abc import Callable
from typing import NamedTuple

from expunge_agent.errors import TransportError

SECONDS = 10.0
MAX_ANSWER = 64 * 1024


class HttpAnswer(NamedTuple):
    """Status and body."""

    status: int
    body: bytes


Post = Callable[[str, bytes, str], HttpAnswer]
"""URL, body and its media type."""


def post(url: str, body: bytes, kind: str) -> HttpAnswer:
    """POST `body` of media type `kind`; follows no redirect. Raises TransportError."""
    parts = urllib.parse.urlsplit(url)
    scheme = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path
    try:
        connection = scheme(parts.hostname or "", parts.port, timeout=SECONDS)
        try:
            connection.request("POST", path, body, {"Content-Type": kind})
            answer = connection.getresponse()
            return HttpAnswer(answer.status, answer.read(MAX_ANSWER))
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise TransportError(
            f"{url} does not answer: {error}.", "Check the address, and that it runs."
        ) from error
