"""Which files belong to a model folder. A push sends or removes only these files, and a fetch downloads only these files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

_TEXT_NAMES = ("metrics.jsonl", "recipe.yaml", "vocab.txt", "merges.txt", "LICENSE", "NOTICE")
ALLOWED = (
    *("*.safetensors", "*.json", "*.md", "*.png", "*.model", "*.spm", "*.jinja"),
    *(f"{folder}{name}" for name in _TEXT_NAMES for folder in ("", "*/")),
)
"""Patterns of the files that belong to a model. Training data also comes as text, YAML or JSON lines, so files of these kinds
are allowed by their exact names only."""
_TRAINING_STATE = (
    "checkpoint*",
    "optimizer*",
    "scheduler.*",
    "scaler.*",
    "rng_state*",
    "trainer_state*",
    "training_args*",
)
NEVER = tuple(f"{folder}{name}" for name in (".*", *_TRAINING_STATE) for folder in ("", "*/"))
"""Patterns of hidden files and of the working state of a training run, whatever their suffix. They overrule ALLOWED. Both
tuples use the fnmatch notation that huggingface_hub takes, in which `*` also matches `/`."""
RESULTS = ".eval_results/zoo-*.yaml"
"""Files for the Hub's leaderboards. A push sends them and removes those of an older version, but a fetch ignores them. The
Hub and its users keep files of their own in the same folder, which a push leaves alone."""
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")
TOKEN = re.compile(rb"(?:hf|api_org)_[A-Za-z0-9]{30,}|hf_(?:oauth|jwt)_[A-Za-z0-9._-]{30,}")
MIN_TOKEN_LENGTH = 16
"""Characters of the shortest token of a private Hub that is searched for: a shorter one would occur in ordinary text."""
_CHUNK, _OVERLAP = 1 << 20, 256


def leaves_folder(name: str) -> bool:
    """Return whether a path is empty, absolute, or has `..` or a backslash, which some systems read as a slash."""
    path = PurePosixPath(name)
    return not name or path.is_absolute() or ".." in path.parts or "\\" in name


def is_allowed(name: str) -> bool:
    """Return whether a file with this relative path belongs to a model folder."""
    allowed = any(fnmatchcase(name, pattern) for pattern in ALLOWED)
    return allowed and not any(fnmatchcase(name, pattern) for pattern in NEVER) and not leaves_folder(name)


def find_reason_to_refuse(names: Iterable[str]) -> str | None:
    """Return why a repository with these files must not be opened, or None if it may be opened."""
    names = list(names)
    for name in names:
        if leaves_folder(name):
            return f"the file name {name!r} leaves the folder"
    if any(name.endswith(".safetensors") for name in names):
        return None
    pickles = [name for name in names if name.endswith(PICKLES)]
    if pickles:
        return f"its weights are pickles ({pickles[0]}), which run code when opened; ask its author for safetensors"
    return "it has no safetensors file; ask its author for one"


def find_token(text: str) -> int | None:
    """Return the position at which an access token begins in `text`, or None if there is no token."""
    return _find_token_in_bytes(text.encode("ascii", "replace"))  # one byte per character keeps the positions


def contains_token(path: Path) -> bool:
    """Return whether the file contains an access token. The file is read in chunks, because weights can exceed the memory."""
    with path.open("rb") as file:
        tail = b""  # a token may begin in one chunk and end in the next
        while chunk := file.read(_CHUNK):
            if _find_token_in_bytes(tail + chunk) is not None:
                return True
            tail = chunk[-_OVERLAP:]
    return False


def _find_token_in_bytes(data: bytes) -> int | None:
    """Find a token in the Hub's format, or the current token itself, since a private Hub may use another format."""
    match = TOKEN.search(data)
    if match:
        return match.start()
    for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        token = os.environ.get(variable, "").strip().encode()
        position = data.find(token)
        if len(token) >= MIN_TOKEN_LENGTH and position >= 0:
            return position
    return None
