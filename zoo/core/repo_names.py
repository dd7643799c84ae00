"""The rules of the Hub for the name of a repository, so that a name is refused before a training and not after it."""

from __future__ import annotations

import re

MAX_LENGTH = 96  # characters of the owner, and of the name
_PART = re.compile(r"[A-Za-z0-9._-]+")


def find_problem(repo: str) -> str | None:
    """Return what is wrong with `OWNER/NAME`, or None if the Hub accepts it."""
    parts = repo.split("/")
    if len(parts) != 2 or not all(parts):
        return f"must be owner/name, as the Hub has it, not {repo!r}"
    for part in parts:
        if len(part) > MAX_LENGTH:
            return f"{part[:20]}… has {len(part)} characters; the Hub allows {MAX_LENGTH}"
        if not _PART.fullmatch(part):
            return f"{part!r} holds a character that the Hub does not allow; use letters, digits, `-`, `_` and `.`"
        if part[0] in "-." or part[-1] in "-.":
            return f"{part!r} begins or ends with `-` or `.`, which the Hub does not allow"
        if "--" in part or ".." in part:
            return f"{part!r} holds `--` or `..`, which the Hub does not allow"
    if repo.endswith(".git"):
        return f"{repo!r} ends with `.git`, which the Hub does not allow"
    return None
