"""What belongs to a model folder: the only files that a push sends or removes, and that a fetch downloads."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

_TEXTS = ("metrics.jsonl", "recipe.yaml", "vocab.txt", "merges.txt", "LICENSE", "NOTICE")
ALLOWED = (
    *("*.safetensors", "*.json", "*.md", "*.png", "*.model", "*.spm", "*.jinja"),
    *(f"{where}{name}" for name in _TEXTS for where in ("", "*/")),
)
"""Of kinds that training data comes in too (text, YAML, JSON lines), only the files of these names."""
_WORKING = ("checkpoint*", "optimizer*", "scheduler.*", "scaler.*", "rng_state*", "trainer_state*", "training_args*")
NEVER = tuple(f"{where}{name}" for name in (".*", *_WORKING) for where in ("", "*/"))
"""Hidden files and the working state of a training run, whatever their suffix. Both lists are in the fnmatch notation that
huggingface_hub takes too, where `*` also crosses `/`."""
RESULTS = ".eval_results/zoo-*.yaml"
"""For the Hub's leaderboards: sent, and removed with the version they belong to, but no part of what is opened. Others have
files of their own beside them."""
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")
TOKEN = re.compile(rb"(?:hf|api_org)_[A-Za-z0-9]{30,}|hf_(?:oauth|jwt)_[A-Za-z0-9._-]{30,}")
_LEAST = 16  # characters of a token of another Hub: a shorter one would be found in any text
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
    return _token_at(text.encode("ascii", "replace"))  # one byte a character: the places agree


def _token_at(data: bytes) -> int | None:
    """Of the form that the Hub gives them, or the very one at hand, which a Hub of one's own may have made otherwise."""
    if found := TOKEN.search(data):
        return found.start()
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        value = os.environ.get(name, "").strip().encode()
        if len(value) >= _LEAST and (place := data.find(value)) >= 0:
            return place
    return None


def holds_token(path: Path) -> bool:
    """Whether an access token stands anywhere in the file; memory does not grow with its size."""
    with path.open("rb") as file:
        tail = b""
        while chunk := file.read(_CHUNK):
            if _token_at(tail + chunk) is not None:
                return True
            tail = chunk[-_OVERLAP:]
    return False
