"""Logs: structlog on standard error, JSON or console. Nothing else configures logging."""

from __future__ import annotations

import logging
import sys

import structlog

HIDDEN = ("token", "secret", "key_text", "password", "private")


def set_up(style: str, level: str) -> None:
    """Log `level` and above in the style auto, console or json."""
    as_json = style == "json" or (style == "auto" and not sys.stderr.isatty())
    number = getattr(logging, level.upper())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _hide,
            *(
                [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
                if as_json
                else [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    # The SSH library reports every probe of a port scanner with a traceback; ours says it in a line.
    ssh = logging.getLogger("paramiko")
    ssh.propagate = False
    ssh.handlers = [logging.NullHandler()]


def _hide(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Nothing that opens a door belongs in a log."""
    for name in event:
        if any(word in name.lower() for word in HIDDEN):
            event[name] = "(hidden)"
    return event
