"""The sections of the troubleshooting page by the messages that they explain.

An error that has such a section ends with its address on the command line, and carries it as a note in Python.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

PAGE = "troubleshooting"

ADDRESSES: tuple[tuple[str, str], ...] = (
    ("unknown-key", r"unknown key"),
    ("no-such-recipe", r"there is no such recipe"),
    ("no-such-file", r"there is no such file or folder"),
    ("missing-column", r"there is no column"),
    ("not-utf-8", r"not UTF-8"),
    ("zoo-data-not-set", r"the environment variable ZOO_DATA is not set"),
    ("not-installed", r"is not installed"),
    ("batch-too-small", r"an in-batch loss needs the other rows"),
    ("memory-full", r"the memory (of the GPU )?is full"),
    ("no-space-left", r"No space left on device"),
    ("not-finite", r"not finite|the loss is \S+ (at step|in block) "),
    ("other-recipe", r"holds the run of another recipe"),
    ("other-data", r"is not what this run began with"),
    ("run-folder-busy", r"another process is working in this run folder"),
    ("score-below-at-least", r", below the \S+ asked for"),
    ("dead-model", r"the model is dead"),
    ("refused-model", r"do not open this model"),
    ("no-token", r"no token: run"),
    ("no-write-access", r"may not write to|the token may only read"),
    ("offline", r"the cache does not hold all of it"),
    ("hub-unreachable", r"times in a row: try again later"),
    ("damaged-model", r"download the model again|has no manifest\.json|has \d+ bytes, not \d+"),
    ("nothing-overwritten", r"is there already; nothing was overwritten"),
    ("single-text", r"encode takes a list of"),
    ("bad-row", r":row \d+|\bbad rows?( \(.*\))?; fix"),
)
"""Anchor and pattern. The first pattern that is found in a message gives its address."""


def find_address(message: str) -> str | None:
    """Return the command that prints the section about a message, or None if it has no section."""
    for anchor, pattern in ADDRESSES:
        if re.search(pattern, message):
            return f"zoo help {PAGE}#{anchor}"
    return None


def add_addresses(messages: Sequence[str]) -> list[str]:
    """Return messages with the address of their section at the end. Several messages of one section have it once, at the last."""
    addresses = [find_address(message) for message in messages]
    return [
        f"{message} (see `{address}`)" if address and address not in addresses[number + 1 :] else message
        for number, (message, address) in enumerate(zip(messages, addresses, strict=True))
    ]
