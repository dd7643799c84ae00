"""Coverage-guided fuzzing of hostile input. It needs `pip install atheris`; the tests do without it.

    python tests/support/fuzz.py recipe|header|folder|tokenizer [libFuzzer's options, e.g. -max_total_time=600]

    recipe    the text of a recipe: a Recipe, or an error with its place
    header    a safetensors file: described by its header, or refused
    folder    one JSON file of a golden model folder: refused, or a model with finite vectors
    tokenizer a tokenizer.json: refused before it runs, or at most TOKENS tokens for a short text

It stops at the first input that breaks this rule and writes it to a file. Add such an input to hostile.py, which is a test.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["zoo", "yaml"]):
    import golden
    import hostile
    import numpy as np

    import zoo
    from zoo.artefact import headers, manifest, tokenizer_file
    from zoo.core.errors import ArtefactError, RecipeError, ZooError
    from zoo.recipe import recipe, shipped
    from zoo.text import tokenizer_checks

TOKENS = 1 << 21
SCRATCH = Path(tempfile.mkdtemp(prefix="zoo-fuzz-"))
MODELS = sorted(path / "model" for path in golden.GOLDEN.iterdir())
JSON_FILES = [(model, path.relative_to(model)) for model in MODELS for path in sorted(model.rglob("*.json"))]


def fuzz_recipe(data: bytes) -> None:
    with contextlib.suppress(RecipeError):
        recipe.loads(data.decode("utf-8", "replace"), confined=True)


def fuzz_header(data: bytes) -> None:
    path = SCRATCH / "model.safetensors"
    path.write_bytes(data)
    with contextlib.suppress(ArtefactError):
        headers.read_header(path)


def fuzz_folder(data: bytes) -> None:
    """Replace a JSON file of a model: the first byte chooses the file, the others are its content."""
    model, name = JSON_FILES[data[0] % len(JSON_FILES)] if data else JSON_FILES[0]
    folder = SCRATCH / "model"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(model, folder)
    (folder / name).write_bytes(data[1:])
    if name.name != manifest.NAME:
        manifest.write(folder)
    with contextlib.suppress(ZooError):
        assert np.isfinite(zoo.from_pretrained(folder).encode(golden.read(model.parent.name)[0])).all()


def fuzz_tokenizer(data: bytes) -> None:
    """Run a tokenizer.json that the look lets through on a short text."""
    from tokenizers import Tokenizer

    path = SCRATCH / "tokenizer.json"
    path.write_bytes(data)
    with contextlib.suppress(ZooError):
        tokenizer_file.check(path, 300)
        with tokenizer_checks.as_zoo_error("tokenizer"):
            tokens = Tokenizer.from_file(str(path)).encode("the dog").ids
            assert len(tokens) <= TOKENS


def write_seeds(target: str) -> Path:
    """Write the inputs from which the fuzzer starts, and return their folder."""
    folder = SCRATCH / "seeds"
    folder.mkdir()
    shipped_recipes = [path.read_bytes() for path in shipped.shipped().values()]
    hostile_recipes = [text.encode() for text in hostile.RECIPES.values() if len(text) < 5_000]
    contents: dict[str, list[bytes]] = {
        "recipe": shipped_recipes + hostile_recipes,
        "header": [path.read_bytes() for model in MODELS for path in model.rglob("*.safetensors")],
        "tokenizer": [path.read_bytes() for model in MODELS for path in model.rglob("tokenizer.json")],
        "folder": [bytes([number]) + (model / name).read_bytes() for number, (model, name) in enumerate(JSON_FILES)],
    }
    for number, content in enumerate(contents[target]):
        (folder / str(number)).write_bytes(content)
    return folder


TARGETS: dict[str, Callable[[bytes], None]] = {
    "recipe": fuzz_recipe,
    "header": fuzz_header,
    "folder": fuzz_folder,
    "tokenizer": fuzz_tokenizer,
}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        raise SystemExit(__doc__)
    target, *options = sys.argv[1:]
    for model in MODELS:
        zoo.from_pretrained(model)  # import the heavy libraries now, not during the first input
    arguments = [sys.argv[0], "-max_len=65536", "-rss_limit_mb=4096", *options, str(write_seeds(target))]
    atheris.Setup(arguments, TARGETS[target])
    atheris.Fuzz()
