"""Coverage-guided fuzzing of what a stranger may send; needs `pip install atheris`, which the tests do without.

    python tests/support/fuzz.py recipe|header|folder [libFuzzer's options, e.g. -max_total_time=600 -print_final_stats=1]

    recipe    the text of a recipe: a Recipe, or an error with its place
    header    a safetensors file: described by its header, or refused
    folder    a small file of a golden model folder: refused, or a model with finite vectors

It ends at the first input that is neither, and writes it to a file. What was found is kept in hostile.py, which is a test.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

from zoo import pretrained
from zoo.recipe import shipped

with atheris.instrument_imports(include=["zoo", "yaml"]):
    import golden
    import hostile
    import numpy as np

    import zoo
    from zoo.artefact import manifest, preflight
    from zoo.core.errors import ArtefactError, RecipeError, ZooError
    from zoo.recipe import recipe

HERE = Path(tempfile.mkdtemp(prefix="zoo-fuzz-"))
BASES = sorted(path / "model" for path in golden.GOLDEN.iterdir())
NAMES = [(base, path.relative_to(base)) for base in BASES for path in sorted(base.rglob("*.json"))]


def a_recipe(data: bytes) -> None:
    with contextlib.suppress(RecipeError):
        recipe.loads(data.decode("utf-8", "replace"), confined=True)


def a_header(data: bytes) -> None:
    path = HERE / "model.safetensors"
    path.write_bytes(data)
    with contextlib.suppress(ArtefactError):
        preflight.header(path)


def a_folder(data: bytes) -> None:
    """The first byte chooses the file, the others are what is in it."""
    base, name = NAMES[data[0] % len(NAMES)] if data else NAMES[0]
    folder = HERE / "model"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(base, folder)
    (folder / name).write_bytes(data[1:])
    if name.name != manifest.NAME:
        manifest.write(folder)
    with contextlib.suppress(ZooError):
        assert np.isfinite(zoo.from_pretrained(folder).encode(golden.read(base.parent.name)[0])).all()


def seeds(kind: str) -> Path:
    """What the fuzzer starts from."""
    out = HERE / "seeds"
    out.mkdir()
    texts: dict[str, list[bytes]] = {
        "recipe": [*(p.read_bytes() for p in shipped.shipped().values())]
        + [text.encode() for text in hostile.RECIPES.values() if len(text) < 5_000],
        "header": [path.read_bytes() for base in BASES for path in base.rglob("*.safetensors")],
        "folder": [bytes([number]) + (base / name).read_bytes() for number, (base, name) in enumerate(NAMES)],
    }
    for number, content in enumerate(texts[kind]):
        (out / str(number)).write_bytes(content)
    return out


TARGETS: dict[str, Callable[[bytes], None]] = {"recipe": a_recipe, "header": a_header, "folder": a_folder}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        raise SystemExit(__doc__)
    kind, *options = sys.argv[1:]
    for base in BASES:
        pretrained.load(base)  # the heavy libraries are imported now, not in the first case
    atheris.Setup([sys.argv[0], "-max_len=65536", "-rss_limit_mb=4096", *options, str(seeds(kind))], TARGETS[kind])
    atheris.Fuzz()
