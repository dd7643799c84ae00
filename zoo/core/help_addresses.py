"""The sections of the troubleshooting page by the messages that they explain.

An error that has such a section ends with its address on the command line, and carries it as a note in Python.
"""

from __future__ import annotations

import re

PAGE = "troubleshooting"

ADDRESSES: tuple[tuple[str, str], ...] = (
    ("unknown-key", r"unknown key"),
    ("no-such-recipe", r"there is no such recipe"),
    ("missing-column", r"there is no column"),
    ("not-utf-8", r"not UTF-8|is not UTF-8"),
    ("zoo-data-not-set", r"the environment variable ZOO_DATA is not set"),
    ("not-installed", r"is not installed"),
    ("memory-full", r"the memory (of the GPU )?is full"),
    ("no-space-left", r"No space left on device"),
    ("other-recipe", r"holds the run of another recipe"),
    ("other-data", r"is not what this run began with"),
    ("score-below-at-least", r", below the \S+ asked for"),
    ("dead-model", r"the model is dead"),
    ("not-finite", r"not finite"),
    ("refused-model", r"do not open this model"),
    ("damaged-model", r"download the model again"),
    ("no-token", r"no token: run"),
    ("no-write-access", r"may not write to|the token may only read"),
    ("offline", r"the cache does not hold all of it"),
    ("hub-unreachable", r"times in a row: try again later"),
    ("nothing-overwritten", r"is there already; nothing was overwritten"),
)
"""Anchor and pattern. The first pattern that is found in a message gives its address."""


def find_address(message: str) -> str | None:
    """Return the command that prints the section about a message, or None if it has no section."""
    for anchor, pattern in ADDRESSES:
        if re.search(pattern, message):
            return f"zoo help {PAGE}#{anchor}"
    return None


def add_address(message: str) -> str:
    """Return a message with the address of its section at the end, if it has one."""
    address = find_address(message)
    return f"{message} (see `{address}`)" if address else message
