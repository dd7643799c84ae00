"""What belongs to a model folder: the only files that a push sends or removes, and that a fetch downloads."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

ALLOWED = (
    *("*.safetensors", "*.json", "*.jsonl", "*.yaml", "*.md", "*.png", "*.txt", "*.csv", "*.model", "*.spm", "*.jinja"),
    *("LICENSE", "NOTICE"),
)
_WORKING = ("checkpoint*", "optimizer*", "scheduler.*", "scaler.*", "rng_state*", "trainer_state*", "training_args*")
NEVER = tuple(f"{where}{name}" for name in (".*", *_WORKING) for where in ("", "*/"))
"""Hidden files and the working state of a training run, whatever their suffix. Both lists are in the fnmatch notation that
huggingface_hub takes too, where `*` also crosses `/`."""
RESULTS = ".eval_results/zoo-*.yaml"
"""For the Hub's leaderboards: sent, and removed with the version they belong to, but no part of what is opened. Others have
files of their own beside them."""
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")
TOKEN = re.compile(rb"hf_[A-Za-z0-9]{30,}")
_CHUNK, _OVERLAP = 1 << 20, 256


def leaves_folder(name: str) -> bool:
    """Whether a relative path is none: absolute, with `..`, or with a backslash that some systems read as a slash."""
    path = PurePosixPath(name)
    return not name or path.is_absolute() or ".." in path.parts or "\\" in name


def belongs(name: str) -> bool:
    """Whether a file of this relative path is part of a model folder: sent, fetched, and checked."""
    allowed = any(fnmatchcase(name, pattern) for pattern in ALLOWED)
    return allowed and not any(fnmatchcase(name, pattern) for pattern in NEVER) and not leaves_folder(name)


def why_not_open(names: Iterable[str]) -> str | None:
    """Why a repo with these files must not be opened; None when it may."""
    names = list(names)
    for name in names:
        if leaves_folder(name):
            return f"the file name {name!r} leaves the folder"
    if any(name.endswith(".safetensors") for name in names):
        return None
    pickles = [name for name in names if name.endswith(PICKLES)]
    if pickles:
        return f"its weights are pickles ({pickles[0]}), which run code when opened; ask its author for safetensors"
    return "it holds no safetensors; ask its author for them"


def token_at(text: str) -> int | None:
    """Where in a text an access token begins; None where there is none."""
    found = TOKEN.search(text.encode("ascii", "replace"))  # one byte a character: the places agree
    return found.start() if found else None


def holds_token(path: Path) -> bool:
    """Whether a Hugging Face access token stands anywhere in the file; memory does not grow with its size."""
    with path.open("rb") as file:
        tail = b""
        while chunk := file.read(_CHUNK):
            if TOKEN.search(tail + chunk):
                return True
            tail = chunk[-_OVERLAP:]
    return False
