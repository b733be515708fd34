"""Logs: structlog to standard error, as JSON lines or for people. Only the command line sets it up."""

from __future__ import annotations

import logging
import sys

import structlog


def set_up(style: str, verbose: bool) -> None:
    """`style`: ``json`` or ``console``."""
    level = logging.DEBUG if verbose else logging.INFO
    # What paramiko has to say of each packet and handshake is of use only when looking for trouble.
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING if not verbose else logging.INFO, format="%(message)s"
    )
    logging.getLogger("paramiko").setLevel(logging.INFO if verbose else logging.CRITICAL)
    renderer = (
        structlog.processors.JSONRenderer()
        if style == "json"
        else structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"])
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
