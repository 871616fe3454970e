"""Logging of the processes: readable lines on standard error."""

from __future__ import annotations

import logging
import sys

OURS = ("api", "images", "jobs", "models", "worker")


def set_up_logging(level: str) -> None:
    """Lines on standard error; libraries only from warning on."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    )
    for ours in OURS:
        logging.getLogger(ours).setLevel(level.upper())
