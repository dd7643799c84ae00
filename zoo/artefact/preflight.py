"""Check a model folder before anything is built from it: its small files must agree with its weights.

A config.json of a few bytes can ask for 10^12 layers, and a safetensors header can describe more than the file holds. These
checks read both without allocating that memory, so that a hostile folder is refused at once and in little memory.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zoo.core.errors import ArtefactError

MIB = 1 << 20
LARGE = {
    **dict.fromkeys(("tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "metrics.jsonl"), 64 * MIB),
    "manifest.json": 16 * MIB,
}
"""Largest sizes in bytes of text files that may be large. LIMIT is for every other text file."""
READ_FIRST = ("config.json", "modules.json")
"""Files that are read before the family is known."""
LARGEST = 256 * MIB
"""Largest size in bytes of a text file of an unknown family, whose Spec may allow it."""
TEXT = (".json", ".jsonl", ".yaml", ".md", ".txt", ".jinja")
LIMIT = 4 * MIB
HEADER = 64 * MIB
"""Bytes of the longest safetensors header."""
LABELS = 100_000
"""Largest `num_labels` of a config."""
INTEGER = 10_000_000
"""Largest value of any other integer of a config."""
EPOCHS = 10_000
"""Most epochs that inference may repeat of a training."""
MODULES = {
    f"sentence_transformers.models.{kind}"
    for kind in ("Transformer", "StaticEmbedding", "Pooling", "Dense", "Normalize")
}
DTYPE_BYTES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}
Shapes = Mapping[str, tuple[int, ...]]


def check_sizes(folder: Path, text_files: Mapping[str, int] | None = None) -> None:
    """Raise ArtefactError for a text file that is too large, and for a pipe or a device.

    A pipe or a device may have no end. This check reads no file. Call it before any other check.

    `text_files` are the family's own large text files, with their largest sizes in bytes. With None the family is unknown, and
    only files that are read before it is known have the small limit.
    """
    for path in sorted(folder.rglob("*")):
        if not path.is_file() and not path.is_dir():
            raise ArtefactError(f"{path}: is not a regular file; remove it")
        limit = _find_limit(path.name, text_files)
        if path.suffix in TEXT and path.stat().st_size > limit:
            raise ArtefactError(
                f"{path}: {path.stat().st_size} bytes are more than such a file can need ({limit}); do not open this model"
            )


def _find_limit(name: str, text_files: Mapping[str, int] | None) -> int:
    """The largest size in bytes of the text file `name`."""
    if name in LARGE:
        return LARGE[name]
    if name.endswith(".index.json"):
        return LARGE["tokenizer.json"]
    if text_files is None:
        return LIMIT if name in READ_FIRST else LARGEST
    return text_files.get(name, LIMIT)


def check_links(folder: Path) -> None:
    """Raise ArtefactError for a symbolic link that leaves the folder.

    Through such a link a hostile model would contain a file of this machine, and a push would publish it. Links of the Hub's
    cache into its own store `blobs` are allowed.
    """
    root = folder.resolve()
    allowed_roots = [root, root.parents[1] / "blobs"] if root.parent.name == "snapshots" else [root]
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() and not any(path.resolve().is_relative_to(allowed) for allowed in allowed_roots):
            raise ArtefactError(f"{path}: is a link that leaves the folder, which is never followed; remove it")


def check(folder: Path) -> None:
    """Check JSON files, safetensors headers and modules.json. Call `check_sizes` first.

    Raises ArtefactError for JSON that is nested too deeply, for a config that asks for code of its own, for a module that is
    not opened here, and for a safetensors header that does not describe its file.
    """
    for path in sorted(folder.rglob("*.json")):
        content = _read_json(path)
        if isinstance(content, dict) and "auto_map" in content:
            raise ArtefactError(
                f"{path}: asks for code of its own (auto_map), which is never run; use a model without it"
            )
    for path in sorted(folder.rglob("*.safetensors")):
        read_header(path)
    for module in _read_list(folder / "modules.json"):
        module_type = str(module.get("type")) if isinstance(module, dict) else ""
        class_name = module_type.rsplit(".", 1)[-1]
        is_known = f"sentence_transformers.models.{class_name}" in MODULES
        if not is_known or not module_type.startswith("sentence_transformers."):
            raise ArtefactError(
                f"{folder / 'modules.json'}: the module {module_type[:80]!r} is not supported; "
                "use Transformer, Pooling, Dense and Normalize only"
            )


def read_model_type(folder: Path) -> str:
    """Read the architecture of a sentence-transformers folder. Raises ArtefactError if its config names none."""
    config = _read_json(_find_transformer(folder) / "config.json")
    if not isinstance(config, dict) or "model_type" not in config:
        raise ArtefactError(f"{folder / 'config.json'}: has no `model_type`; add the name of the architecture")
    return str(config["model_type"])


def check_transformer(folder: Path, blocks: str, count: str) -> None:
    """Raise ArtefactError unless the weights of a sentence-transformers folder can be those of its config.json.

    Args:
        blocks: path of the module list of Transformer blocks.
        count: entry of the config with the number of blocks.
    """
    transformer_folder = _find_transformer(folder)
    config_file = transformer_folder / "config.json"
    config = _read_json(config_file)
    shapes = _read_headers(transformer_folder, "model")
    if not shapes:
        raise ArtefactError(f"{transformer_folder}: has no model.safetensors; download the model again")
    check_integers(config_file, config)
    block_name = re.compile(rf"(?:^|\.){re.escape(blocks)}\.(\d+)\.")
    block_numbers = {int(number) for name in shapes for number in block_name.findall(name)}
    if config.get(count) != len(block_numbers):
        raise ArtefactError(
            f"{config_file}: {count}: {config.get(count)}, but the weights hold {len(block_numbers)}; "
            "download the model again"
        )
    _check_modules(folder, config)
    described = _count_described_values(transformer_folder)
    stored = sum(math.prod(shape) for shape in shapes.values())
    if described > 2 * stored:  # a checkpoint may lack a pooler, but not half of the model
        raise ArtefactError(
            f"{config_file}: describes {described} numbers, but the weights hold {stored}; download the model again"
        )


def check_integers(path: Path, config: Mapping[str, Any], max_layers: int | None = None) -> None:
    """Raise ArtefactError for an integer in a config that is larger than in any real model.

    Args:
        path: the config file, for the message.
        max_layers: largest value of entries that count layers, blocks or stages; None for the limit of other entries.
    """
    for name, value in find_integers({key: entry for key, entry in config.items() if key != "zoo"}):
        counts_layers = any(word in name for word in ("layers", "depth", "block", "stage"))
        limit = LABELS if name == "num_labels" else INTEGER
        if max_layers is not None and counts_layers:
            limit = max_layers
        if abs(value) > limit:
            raise ArtefactError(f"{path}: {name}: {value} is beyond every model; the limit is {limit}")


def check_shapes(folder: Path, shapes: Shapes, stem: str = "model") -> None:
    """Raise ArtefactError unless `stem`.safetensors or its shards hold tensors of exactly these names and shapes.

    Only headers are read. Call this check before tensors of these shapes are allocated.
    """
    stored = _read_headers(folder, stem)
    problems = [f"missing tensor {name}" for name in shapes.keys() - stored.keys()]
    problems += [f"extra tensor {name[:60]}" for name in stored.keys() - shapes.keys()]
    for name in shapes.keys() & stored.keys():
        if stored[name] != shapes[name]:
            problems.append(f"tensor {name} has shape {stored[name]}, not {shapes[name]}")
    if problems:
        raise ArtefactError(
            f"{folder}: weights do not fit config.json: {'; '.join(sorted(problems)[:4])}; download the model again"
        )


def check_training_settings(folder: Path, settings: Any) -> dict[str, Any]:
    """Return the settings with which inference repeats the training; None counts as no settings.

    Raises ArtefactError unless `settings` maps names to numbers in [0, 2^32) and has at most EPOCHS epochs.
    """
    settings = settings or {}
    if not isinstance(settings, dict) or not all(type(n) in (int, float) and 0 <= n < 2**32 for n in settings.values()):
        raise ArtefactError(
            f"{folder / 'config.json'}: the settings of the training are not numbers of at least 0; "
            "download the model again"
        )
    if settings.get("epochs", 0) > EPOCHS:
        raise ArtefactError(
            f"{folder / 'config.json'}: epochs: {settings['epochs']} are beyond every training; the limit is {EPOCHS}"
        )
    return settings


def read_header(path: Path) -> dict[str, tuple[int, ...]]:
    """Read the shapes by tensor name from a safetensors header. Raises ArtefactError if it does not describe the file."""
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
            if stop - start != math.prod(shape) * DTYPE_BYTES.get(entry["dtype"], 1):
                raise ValueError(f"tensor {name[:60]} of shape {shape} has {stop - start} bytes")
            end, shapes[name] = stop, shape
        if 8 + length + end != size:
            raise ValueError(f"it holds {size} bytes and describes {8 + length + end}")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, struct.error, RecursionError) as error:
        raise ArtefactError(
            f"{path}: cannot be read as safetensors: {str(error)[:120]}; download the model again"
        ) from None
    return shapes


def find_integers(value: Any, name: str = "") -> Iterator[tuple[str, int]]:
    """Yield every integer inside nested dicts and lists, with the key that is nearest above it."""
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from find_integers(entry, str(key))
    elif isinstance(value, list):
        for entry in value:
            yield from find_integers(entry, name)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield name, value


def _find_transformer(folder: Path) -> Path:
    """Find the folder of the Transformer module: beside modules.json, or a subfolder in old models."""
    first_module: Any = next(iter(_read_list(folder / "modules.json")), {})
    path = first_module.get("path", "") if isinstance(first_module, dict) else ""
    return _resolve_inside(folder, str(path))


def _resolve_inside(folder: Path, path: str) -> Path:
    if not (folder / path).resolve().is_relative_to(folder.resolve()):
        raise ArtefactError(f"{folder / 'modules.json'}: {path[:80]!r} leaves the folder; do not open this model")
    return folder / path


def _read_headers(folder: Path, stem: str) -> dict[str, tuple[int, ...]]:
    """Read the shapes of the tensors in `stem`.safetensors and in its shards."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(folder.glob(f"{stem}*.safetensors")):
        shapes |= read_header(path)
    return shapes


def _count_described_values(folder: Path) -> int:
    """Count the numbers in the parameters and buffers of the model that config.json describes, without allocating them."""
    import torch
    import transformers

    auto_model: Any = transformers.AutoModel  # transformers does not annotate `from_config`
    try:
        with torch.device("meta"):  # tensors on this device have a shape but no memory
            config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
            model = auto_model.from_config(config, trust_remote_code=False)
        return sum(tensor.numel() for tensor in [*model.parameters(), *model.buffers()])
    except Exception as error:  # transformers raises errors of any type for a wrong config
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ArtefactError(
            f"{folder / 'config.json'}: no model can be made of it: {first_line[:120]}; download the model again"
        ) from None


def _check_modules(folder: Path, config: Mapping[str, Any]) -> None:
    """Check that the Pooling and Dense modules have the widths of the model and of their own weights."""
    width = config.get("hidden_size", config.get("dim"))
    for module in _read_list(folder / "modules.json"):
        module_folder = _resolve_inside(folder, str(module.get("path", "")))
        config_file = module_folder / "config.json"
        class_name = str(module.get("type")).rsplit(".", 1)[-1]
        if class_name == "Pooling" and config_file.exists():
            pooling = _read_json(config_file)
            pooled = pooling.get("word_embedding_dimension", pooling.get("embedding_dimension", width))
            if pooled != width:
                raise ArtefactError(
                    f"{config_file}: pools {pooled} components, but the model has {width}; download the model again"
                )
        if class_name == "Dense":
            dense, shapes = _read_json(config_file), read_header(module_folder / "model.safetensors")
            shape = (dense.get("out_features"), dense.get("in_features"))
            if shape not in shapes.values():
                raise ArtefactError(
                    f"{config_file}: describes a matrix of shape {shape}, but no tensor beside it has this shape; "
                    "download the model again"
                )


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtefactError(f"{path}: cannot be read as JSON: {str(error)[:120]}; download the model again") from None


def _read_list(path: Path) -> list[Any]:
    content = _read_json(path) if path.exists() else []
    if not isinstance(content, list):
        raise ArtefactError(f"{path}: is not a list; download the model again")
    return content
