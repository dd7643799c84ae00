"""The model folder of a text encoder whose token table is coded. zoo alone opens it.

It has three differences to a folder of sentence-transformers. table.safetensors holds the parts of the table,
network.safetensors all other weights, and the list of modules has another name. So another library finds no weights. Otherwise
it would draw the missing table at random and give meaningless vectors.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from zoo.artefact import headers, preflight, pretrained_model, tensors
from zoo.core import atomic_files
from zoo.core.errors import ArtefactError, ZooError
from zoo.ops import tables
from zoo.text import coded_table
from zoo.text.coded_table import CodedEmbedding, TableFacts

NETWORK, TABLE = "network", "table"
"""Names of the files of weights, without their suffix."""
MODULES = "coded_modules.json"
FEWEST = 8
"""Rows of the table of zeros. Some architectures fix the number of their padding token, for example 1."""
_STAND_IN = "stand_in.safetensors"
_METADATA = {"format": "pt"}


def pack(folder: Path, model: Any) -> None:
    """Give a folder that sentence-transformers has written its coded form. Without a coded table nothing changes."""
    table = coded_table.find(model)
    if table is None:
        return
    prefix = f"{table.facts.module}."
    stored = tensors.read(folder)
    parts = {name.removeprefix(prefix): part for name, part in stored.items() if name.startswith(prefix)}
    save_file(parts, folder / f"{TABLE}.safetensors", metadata=_METADATA)
    network = {name: tensor for name, tensor in stored.items() if not name.startswith(prefix)}
    save_file(network, folder / f"{NETWORK}.safetensors", metadata=_METADATA)
    for path in (*tensors.list_pretrained_files(folder), folder / "model.safetensors.index.json"):
        path.unlink(missing_ok=True)
    (folder / "modules.json").rename(folder / MODULES)


def refuse(folder: Path, reference: str) -> None:
    """Raise ZooError if `folder`, which `reference` names, has a coded table and so cannot be a backbone."""
    if (folder / MODULES).is_file() and (folder / f"{TABLE}.safetensors").is_file():
        raise ZooError(
            f"backbone {reference}: its token table is coded and cannot be trained: write a plain model with "
            "`zoo export MODEL OUT --table float` first"
        )


@contextmanager
def open_stand_in(folder: Path, entry: Any) -> Iterator[Path]:
    """Yield a temporary folder that sentence-transformers opens, whose table has a few rows of zeros.

    So the float table is never in memory. All other files are links to those of `folder`. Raises ArtefactError if the parts of
    the table are not those that the entry `table` and config.json describe.
    """
    facts = coded_table.read_facts(folder / "config.json", entry)
    config = atomic_files.read_json_object(folder / "config.json")
    if config.get("vocab_size") != facts.rows:
        raise ArtefactError(
            f"{folder / 'config.json'}: vocab_size is not the number of rows, {facts.rows}, of the table"
        )
    _check_parts(folder, facts)
    own_files = {"config.json", MODULES, "model.safetensors.index.json", _STAND_IN}
    with tempfile.TemporaryDirectory(prefix="zoo-") as name:
        stand_in = Path(name)
        for path in folder.resolve().iterdir():
            if path.name not in own_files:
                (stand_in / path.name).symlink_to(path)
        (stand_in / "modules.json").symlink_to(folder.resolve() / MODULES)
        padding = config.get("pad_token_id")
        last = padding if type(padding) is int and 0 <= padding < facts.rows else 0
        rows = min(facts.rows, max(last + 1, FEWEST))
        small = {key: value for key, value in config.items() if key != "zoo"} | {"vocab_size": rows}
        (stand_in / "config.json").write_text(json.dumps(small), encoding="utf-8")
        weight = f"{facts.module}.weight"
        save_file({weight: torch.zeros(rows, facts.dim)}, stand_in / _STAND_IN, metadata=_METADATA)
        network = f"{NETWORK}.safetensors"
        files = dict.fromkeys(headers.read_header(folder / network), network) | {weight: _STAND_IN}
        index = {"metadata": {"total_size": 0}, "weight_map": files}
        (stand_in / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
        yield stand_in


def fill(model: Any, folder: Path, entry: Any) -> None:
    """Put the coded table into a model that was opened from the stand-in of `folder`, and load all weights strictly.

    Raises ArtefactError for a missing, extra, mis-shaped or meaningless tensor.
    """
    facts = coded_table.read_facts(folder / "config.json", entry)
    parts = _read_parts(folder, facts)
    model.set_input_embeddings(CodedEmbedding(facts))
    model.config.vocab_size = facts.rows
    named = {f"{facts.module}.{name}": part for name, part in parts.items()}
    pretrained_model.fill(model, tensors.read(folder, NETWORK) | named, folder)


def read_table(folder: Path, entry: Any) -> CodedEmbedding:
    """Read the coded table of a model folder without its network. Raises ArtefactError as `open_stand_in` and `fill` do."""
    facts = coded_table.read_facts(folder / "config.json", entry)
    _check_parts(folder, facts)
    parts = _read_parts(folder, facts)
    if not all(bool(torch.isfinite(part).all()) for part in parts.values() if part.is_floating_point()):
        raise ArtefactError(
            f"{folder / TABLE}.safetensors: holds numbers that are not finite; download the model again"
        )
    return CodedEmbedding(facts, parts)


def _read_parts(folder: Path, facts: TableFacts) -> dict[str, torch.Tensor]:
    """Read the parts of a table. Raise ArtefactError for rows and words that do not exist."""
    parts = tensors.read(folder, TABLE)
    ids = [parts[name] for name in ("kept_ids", "finer_ids") if name in parts]
    is_sorted = all(torch.equal(part, torch.unique(part)) for part in ids)
    is_inside = all(int(part.min()) >= 0 and int(part.max()) < facts.rows for part in ids if len(part))
    knows_words = facts.codec != "pq" or int(parts["codes"].max()) < parts["words"].shape[1]
    if not (is_sorted and is_inside and knows_words):
        raise ArtefactError(
            f"{folder / TABLE}.safetensors: names rows or words that do not exist; download the model again"
        )
    return parts


def _check_parts(folder: Path, facts: TableFacts) -> None:
    """Compare names, shapes and dtypes by the headers alone, before memory is taken."""
    shapes = tables.describe_shapes(facts.codec, facts.rows, facts.dim, facts.kept, facts.finer)
    preflight.check_shapes(folder, shapes, TABLE)
    names = {torch.uint8: "U8", torch.int64: "I64", torch.float16: "F16", torch.float32: "F32"}
    for name, found in headers.read_entries(folder / f"{TABLE}.safetensors").items():
        if found.dtype != names[tables.get_dtype(name)]:
            raise ArtefactError(
                f"{folder / TABLE}.safetensors: {name} is stored as {found.dtype}, not {names[tables.get_dtype(name)]}"
            )
