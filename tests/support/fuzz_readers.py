"""Fuzzing of every reader: seeds that are read, changed at random. Only a ZooError may come of it.

    python tests/support/fuzz_readers.py READER SECONDS [SEED]

Unlike fuzz.py it needs no further package, so the tests run some cases of each reader, and the benchmark runs it for minutes.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import golden
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from zoo import data
from zoo.artefact import tokenizer_file
from zoo.core.errors import DataError, ZooError
from zoo.data import kinds
from zoo.data.spec import FileData
from zoo.evaluation import shaping
from zoo.families.sesa.concepts import Concepts
from zoo.hub.commit import load_card_metadata
from zoo.recipe import recipe, shipped, task_arguments

ROWS = [{"text": f"text {n}", "label": n % 3, "score": n / 4, "ids": [n], "vector": [0.5, n]} for n in range(6)]
NUMBERS = [0, 1, 2, 7, 127, 128, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1]
PIECES = [
    b'"',
    b",",
    b"\t",
    b"\n",
    b"\r",
    b"[",
    b"]",
    b"{",
    b"}",
    b"null",
    b"NaN",
    b"\xff",
    b"\0",
    b"1e999",
    b"\\ud800",
]
NEEDS = (
    {"text": "text", "label": "label"},
    {"score": "number"},
    {"ids": "ids"},
    {"vector": "vector"},
    {"image": "image"},
)


def read_file(path: Path) -> None:
    """Read a file as a kind of column that its bytes choose."""
    need = NEEDS[zlib.crc32(path.read_bytes()) % len(NEEDS)]
    data.read(FileData(source="file", path=str(path), on_bad_row="skip"), need, folder=path.parent)


def decode_image(path: Path) -> None:
    """Decode an image as a cell is decoded."""
    from zoo.data.formats import image_files

    try:
        kinds.convert_value("image", path.read_bytes(), None)
        image_files.normalise_image(image_files.decode_image(path.read_bytes()))
    except ValueError as error:  # the caller of both knows the row, and makes a DataError of it
        raise DataError(str(error)) from error


def read_qrels(path: Path) -> None:
    """Read judgements and check them against queries and documents."""
    source = FileData(source="file", path=str(path), on_bad_row="skip")
    table = data.read(source, {"query_id": "id", "document_id": "id"}, {"score": "number"}, folder=path.parent)
    names = {str(n): "text" for n in range(9)}
    shaping.read_grades(table, names, names)


def read_concepts(path: Path) -> None:
    """Read a hierarchy of concepts."""
    source = FileData(source="file", path=str(path), on_bad_row="skip")
    table = data.read(source, {"id": "id"}, {"name": "text", "parent": "ids"}, folder=path.parent)
    Concepts.from_rows(table.rows)


def read_card(path: Path) -> None:
    """Read the front matter of a card, as a push does."""
    path = path.rename(path.with_name("README.md"))
    assert isinstance(load_card_metadata(path.parent), dict)


def read_task_words(path: Path) -> None:
    """Read the words of a command line that name a task and its settings."""
    words = path.read_text("utf-8", "replace").splitlines()
    for name, settings in task_arguments.group_words(words):
        task_arguments.make_task(name, settings)


def read_tokenizer(path: Path) -> None:
    """Check a tokenizer.json before it is run."""
    tokenizer_file.check(path)


def read_recipe(path: Path) -> None:
    """Read the recipe of a stranger."""
    recipe.loads(path.read_text("utf-8", "replace"), folder=path.parent, confined=True)


# -- seeds -------------------------------------------------------------------------------------------------------------


def make_csv(delimiter: str) -> bytes:
    lines = [["text", "label", "score", "ids", "vector"]]
    lines += [[f'"{row["text"]}"', *(json.dumps(value) for value in list(row.values())[1:4]), "7"] for row in ROWS]
    return "\n".join(delimiter.join(line) for line in lines).encode()


def make_parquet(**options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), buffer, **options)
    return buffer.getvalue()


def save_array(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def make_npz(save: Callable[..., None]) -> bytes:
    buffer = io.BytesIO()
    save(buffer, image=np.zeros((4, 3, 3), np.uint8), label=np.arange(4), text=np.array(list("abcd")))
    return buffer.getvalue()


def make_h5() -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_dataset("image", data=np.zeros((4, 3, 3), np.uint8), chunks=(2, 3, 3), compression="gzip")
        file["label"], file["vector"] = np.arange(4), np.ones((4, 2), np.float32)
    return buffer.getvalue()


def make_image(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image = Image.new(mode, (5, 4), 0)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(buffer, kind, **options, **({"exif": exif} if kind in ("JPEG", "PNG", "WEBP") else {}))
    return buffer.getvalue()


def make_idx(*sizes: int) -> bytes:
    header = bytes([0, 0, 8, len(sizes)]) + b"".join(size.to_bytes(4, "big") for size in sizes)
    return header + bytes(int(np.prod(sizes)))


JSON_LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
QRELS = b"query_id\tdocument_id\tscore\n" + b"".join(b"%d\t%d\t%d\n" % (n, n % 4, n % 2) for n in range(6))
CONCEPTS = "".join(
    json.dumps({"id": n, "name": f"n{n}", "parent": [n - 1] if n else []}) + "\n" for n in range(6)
).encode()
CARD = b"""---
license: apache-2.0
language: [en, de]
tags:
- sentence-transformers
base_model: a/b
model-index:
- name: x
  results:
  - task: {type: STS}
    metrics: [{type: cosine_spearman, value: 0.5}]
---

# A model
"""
TASK_WORDS = b"""STSBenchmark
sts
data.source=file
data.path=x.csv
data.columns={sentence1: a, sentence2: b}
retrieval
folder=.
name=mine
"""


class Target(NamedTuple):
    """A reader: how it is called, and files that it reads, by the ending of their name."""

    read: Callable[[Path], None]
    seeds: tuple[tuple[str, bytes], ...]


TARGETS = {
    "tables": Target(
        read_file,
        ((".csv", make_csv(",")), (".tsv", make_csv("\t")), (".csv.gz", gzip.compress(make_csv(","), mtime=0))),
    ),
    "json": Target(read_file, ((".jsonl", JSON_LINES), (".json", json.dumps(ROWS).encode()))),
    "parquet": Target(
        read_file, ((".parquet", make_parquet()), (".parquet", make_parquet(use_dictionary=False, compression="gzip")))
    ),
    "npy": Target(
        read_file,
        (
            (".npy", save_array(np.ones((4, 2)))),
            (".npy", save_array(np.zeros((4, 3, 3), np.uint8))),
            (".npz", make_npz(np.savez)),
            (".npz", make_npz(np.savez_compressed)),
        ),
    ),
    "h5": Target(read_file, ((".h5", make_h5()),)),
    "idx": Target(
        read_file,
        (("-images-idx3-ubyte", make_idx(4, 3, 3)), ("-images-idx4-ubyte.gz", gzip.compress(make_idx(2, 3, 3, 3)))),
    ),
    "images": Target(
        decode_image,
        (
            *((".png", make_image("PNG", mode)) for mode in ("RGB", "L", "1", "P", "RGBA", "LA", "I;16")),
            (".png", make_image("PNG", "L", transparency=0)),
            *((f".{kind.lower()}", make_image(kind)) for kind in ("JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")),
            (".tif", make_image("TIFF", "I;16")),
        ),
    ),
    "card": Target(read_card, ((".md", CARD),)),
    "task words": Target(read_task_words, ((".txt", TASK_WORDS),)),
    "tokenizer": Target(
        read_tokenizer, tuple((".json", path.read_bytes()) for path in sorted(golden.GOLDEN.rglob("tokenizer.json")))
    ),
    "recipe": Target(read_recipe, ((".yaml", shipped.shipped()["quickstart"].read_bytes()),)),
    "qrels": Target(read_qrels, ((".tsv", QRELS),)),
    "concepts": Target(read_concepts, ((".jsonl", CONCEPTS),)),
}


# -- changes -----------------------------------------------------------------------------------------------------------


def change(content: bytes, generator: random.Random) -> bytes:
    """Return `content` with one to four changes: a byte, a number, a piece of syntax, a cut, a part twice or missing."""
    changed = bytearray(content)
    for _ in range(generator.randint(1, 4)):
        position = generator.randrange(len(changed) + 1)
        end = min(len(changed), position + generator.choice((1, 2, 4, 8, 30)))
        match generator.randrange(6):
            case 0:
                changed[position : position + 1] = bytes([generator.randrange(256)])
            case 1:
                size = generator.choice((1, 2, 4, 8))
                number = generator.choice(NUMBERS) % 256**size
                changed[position : position + size] = number.to_bytes(size, generator.choice(("little", "big")))
            case 2:
                changed[position:position] = generator.choice(PIECES) * generator.choice((1, 1, 1, 40))
            case 3:
                del changed[position:]
            case 4:
                changed[position:position] = changed[position:end]
            case _:
                del changed[position:end]
    return bytes(changed)


def change_member(content: bytes, generator: random.Random) -> bytes:
    """Return an archive whose members are changed inside, so that its checksums agree. Other content is changed as it is."""
    if content[:2] == b"\x1f\x8b":
        return gzip.compress(change(gzip.decompress(content), generator))
    if content[:2] != b"PK":
        return change(content, generator)
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, change(old.read(name), generator) if generator.random() < 0.5 else old.read(name))
    return buffer.getvalue()


def make_cases(target: str, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield the ending and the content of changed files, without end."""
    generator = random.Random(f"{target}-{seed}")
    while True:
        ending, content = generator.choice(TARGETS[target].seeds)
        yield ending, (change if generator.random() < 0.7 else change_member)(content, generator)


def run(target: str, *, cases: int | None = None, seconds: float | None = None, seed: int = 0) -> dict[str, Any]:
    """Read changed files until `cases` or `seconds` are used up. Return counts, the slowest case and the crashes."""
    began, count, refused_count, slowest = time.perf_counter(), 0, 0, 0.0
    crashes: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for ending, content in make_cases(target, seed):
            if count == cases or (seconds is not None and time.perf_counter() - began > seconds):
                break
            path = Path(folder) / f"x{ending}"
            path.write_bytes(content)
            start = time.perf_counter()
            try:
                TARGETS[target].read(path)
            except ZooError:
                refused_count += 1
            except Exception as error:
                crashes.append(f"{ending} {type(error).__name__}: {str(error)[:100]} case {count}")
            path.unlink(missing_ok=True)
            count, slowest = count + 1, max(slowest, time.perf_counter() - start)
    return {"cases": count, "refused": refused_count, "crashes": crashes, "most seconds": round(slowest, 2)}


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in TARGETS:
        raise SystemExit(__doc__)
    print(json.dumps(run(sys.argv[1], seconds=float(sys.argv[2]), seed=int((*sys.argv, "0")[3])), indent=2))  # noqa: T201
