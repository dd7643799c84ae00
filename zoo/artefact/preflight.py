"""A look at a model folder before anything is built from it: what its small files claim must fit what its weights hold.

A config.json of a few bytes can ask for 10^12 layers, and a safetensors header for more than the file has. Both are read
here without allocating what they ask for, so that a stranger's folder costs a moment, and not the machine.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.core.errors import ArtefactError
from zoo.core.lazy import lazy

if TYPE_CHECKING:
    import torch
    import transformers
else:
    torch, transformers = lazy("torch"), lazy("transformers")

MIB = 1 << 20
LARGE = {
    **dict.fromkeys(("tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "metrics.jsonl"), 64 * MIB),
    "vocabulary.json": 256 * MIB,
    "pieces.json": 64 * MIB,
    "concepts.json": 256 * MIB,
    "manifest.json": 16 * MIB,
}
"""Limits of files that may be large; any other text ends at LIMIT."""
TEXT = (".json", ".jsonl", ".yaml", ".md", ".txt", ".jinja")
LIMIT, HEADER, LABELS, INTEGER, EPOCHS = 4 * MIB, 64 * MIB, 100_000, 10_000_000, 10_000
MODULES = {f"sentence_transformers.models.{kind}" for kind in ("Transformer", "Pooling", "Dense", "Normalize")}
BYTES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}


def sizes(folder: Path) -> None:
    """Raises ArtefactError for a text, JSON first of all, that is larger than such a file can be, and for a pipe or a device,
    which may have no end; before anything is read."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file() and not path.is_dir():
            raise ArtefactError(f"{path}: is no file")
        limit = LARGE.get(path.name, LARGE["tokenizer.json"] if path.name.endswith(".index.json") else LIMIT)
        if path.suffix in TEXT and path.stat().st_size > limit:
            raise ArtefactError(f"{path}: {path.stat().st_size} bytes are more than such a file can need ({limit})")


def links(folder: Path) -> None:
    """Raises ArtefactError for a link that leaves the folder, other than those of the Hub's cache into its own store: through
    one, a stranger's model would hold, and publish, a file of this machine."""
    home = folder.resolve()
    homes = [home, home.parents[1] / "blobs"] if home.parent.name == "snapshots" else [home]
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() and not any(path.resolve().is_relative_to(each) for each in homes):
            raise ArtefactError(f"{path}: is a link that leaves the folder, which is never followed")


def check(folder: Path) -> None:
    """Raises ArtefactError for JSON that is nested too deep, code of the folder's own, and safetensors files whose header
    does not describe them. `sizes` comes first."""
    for path in sorted(folder.rglob("*.json")):
        content = _json(path)
        if isinstance(content, dict) and "auto_map" in content:
            raise ArtefactError(f"{path}: asks for code of its own (auto_map), which is never run")
    for path in sorted(folder.rglob("*.safetensors")):
        header(path)
    for module in _list(folder / "modules.json"):
        kind = str(module.get("type")) if isinstance(module, dict) else ""
        name = kind.rsplit(".", 1)[-1]
        if f"sentence_transformers.models.{name}" not in MODULES or not kind.startswith("sentence_transformers."):
            raise ArtefactError(f"{folder / 'modules.json'}: the module {kind[:80]!r} is none that is opened here")


def model_type(folder: Path) -> str:
    """The architecture that a sentence-transformers folder names. Raises ArtefactError where it names none."""
    config = _json(_transformer(folder) / "config.json")
    if not isinstance(config, dict) or "model_type" not in config:
        raise ArtefactError(f"{folder / 'config.json'}: names no model_type")
    return str(config["model_type"])


def _transformer(folder: Path) -> Path:
    """Where the Transformer module of a sentence-transformers folder lies: beside modules.json, or below in old ones."""
    first: Any = next(iter(_list(folder / "modules.json")), {})
    return _inside(folder, str(first.get("path", "")) if isinstance(first, dict) else "")


def _inside(folder: Path, path: str) -> Path:
    if not (folder / path).resolve().is_relative_to(folder.resolve()):
        raise ArtefactError(f"{folder / 'modules.json'}: {path[:80]!r} leaves the folder")
    return folder / path


def transformer(folder: Path, blocks: str, count: str) -> None:
    """Raises ArtefactError unless the weights in `folder` can be those of its config.json.

    Args:
        blocks: path of the module list of Transformer blocks; count: config entry with their number.
    """
    whole, folder = folder, _transformer(folder)
    config = _json(folder / "config.json")
    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(folder.glob("model*.safetensors")):
        shapes |= header(path)
    if not shapes:
        raise ArtefactError(f"{folder}: holds no model.safetensors")
    modest(folder / "config.json", config)
    numbers = {int(n) for name in shapes for n in re.findall(rf"(?:^|\.){re.escape(blocks)}\.(\d+)\.", name)}
    if config.get(count) != len(numbers):
        raise ArtefactError(
            f"{folder / 'config.json'}: {count}: {config.get(count)}, but the weights hold {len(numbers)}"
        )
    _modules(whole, config)
    try:
        with torch.device("meta"):  # shapes without memory
            model = transformers.AutoModel.from_config(
                transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False), trust_remote_code=False
            )
        wanted = sum(t.numel() for t in [*model.parameters(), *model.buffers()])
    except Exception as error:  # whatever the library makes of a config that is none
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ArtefactError(f"{folder / 'config.json'}: no model can be made of it: {first[:120]}") from None
    held = sum(math.prod(shape) for shape in shapes.values())
    if wanted > 2 * held:  # a checkpoint may lack a pooler, and no more
        raise ArtefactError(f"{folder / 'config.json'}: describes {wanted} numbers, but the weights hold {held}")


def modest(path: Path, config: Mapping[str, Any], most: int | None = None) -> None:
    """Raises ArtefactError for an integer in the config `path` that is beyond every model, or, in the number of layers of a part
    or of all, beyond `most`."""
    for name, value in integers({key: value for key, value in config.items() if key != "zoo"}):
        few = most is not None and any(word in name for word in ("layers", "depth", "block", "stage"))
        if abs(value) > (most if few and most is not None else LABELS if name == "num_labels" else INTEGER):
            raise ArtefactError(f"{path}: {name}: {value} is beyond every model")


def fits(folder: Path, shapes: Mapping[str, tuple[int, ...]], stem: str = "model") -> None:
    """Raises ArtefactError unless the weights in `stem`.safetensors, or in its shards, are tensors of these names and shapes;
    before tensors of that size are made."""
    held: dict[str, tuple[int, ...]] = {}
    for path in sorted(folder.glob(f"{stem}*.safetensors")):
        held |= header(path)
    problems = [f"missing tensor {name}" for name in shapes.keys() - held.keys()]
    problems += [f"extra tensor {name[:60]}" for name in held.keys() - shapes.keys()]
    both = shapes.keys() & held.keys()
    problems += [f"tensor {n} has shape {held[n]}, not {shapes[n]}" for n in both if held[n] != shapes[n]]
    if problems:
        raise ArtefactError(f"{folder}: weights do not fit config.json: {'; '.join(sorted(problems)[:4])}")


def repeated(folder: Path, told: Any) -> dict[str, Any]:
    """Settings by which inference repeats the training: finite numbers, and no more passes than a training has."""
    told = told or {}
    if not isinstance(told, dict) or not all(type(n) in (int, float) and 0 <= n < 2**32 for n in told.values()):
        raise ArtefactError(f"{folder / 'config.json'}: the settings of the training are no numbers")
    if told.get("epochs", 0) > EPOCHS:
        raise ArtefactError(f"{folder / 'config.json'}: epochs: {told['epochs']} are beyond every training")
    return told


def _modules(folder: Path, config: Mapping[str, Any]) -> None:
    width = config.get("hidden_size", config.get("dim"))
    for module in _list(folder / "modules.json"):
        path = _inside(folder, str(module.get("path", "")))
        kind = str(module.get("type")).rsplit(".", 1)[-1]
        if kind == "Pooling" and (path / "config.json").exists():
            asked = _json(path / "config.json")
            size = asked.get("word_embedding_dimension", asked.get("embedding_dimension", width))
            if size != width:
                raise ArtefactError(f"{path / 'config.json'}: pools {size} components, where the model has {width}")
        if kind == "Dense":
            asked, held = _json(path / "config.json"), header(path / "model.safetensors")
            shape = (asked.get("out_features"), asked.get("in_features"))
            if shape not in held.values():
                raise ArtefactError(f"{path / 'config.json'}: is {shape}, which no tensor of it is")


def header(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes by tensor name from a safetensors header. Raises ArtefactError for one that does not describe the file."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size - 8, HEADER):
                raise ValueError(f"its header claims {length} bytes")
            entries = json.loads(file.read(length))
        entries.pop("__metadata__", None)
        end, shapes = 0, {}
        for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"]):
            shape, (start, stop) = tuple(entry["shape"]), entry["data_offsets"]
            if not all(isinstance(n, int) and n >= 0 for n in shape) or start != end:
                raise ValueError(f"tensor {name[:60]} has no place of its own")
            if stop - start != math.prod(shape) * BYTES.get(entry["dtype"], 1):
                raise ValueError(f"tensor {name[:60]} of shape {shape} has {stop - start} bytes")
            end, shapes[name] = stop, shape
        if 8 + length + end != size:
            raise ValueError(f"it holds {size} bytes and describes {8 + length + end}")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, struct.error, RecursionError) as error:
        raise ArtefactError(f"{path}: cannot be read as safetensors: {str(error)[:120]}") from None
    return shapes


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtefactError(f"{path}: cannot be read as JSON: {str(error)[:120]}") from None


def _list(path: Path) -> list[Any]:
    content = _json(path) if path.exists() else []
    if not isinstance(content, list):
        raise ArtefactError(f"{path}: is not a list")
    return content


def integers(value: Any, name: str = "") -> Iterator[tuple[str, int]]:
    """Every integer below a value, with the nearest name above it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from integers(inner, str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from integers(inner, name)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield name, value
