"""Check a model folder before anything is built from it: its small files must agree with its weights.

A config.json of a few bytes can ask for 10^12 layers, and a safetensors header can describe more than the file holds. These
checks read both without allocating that memory, so that a hostile folder is refused at once and in little memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zoo.artefact import headers, references, tensors, tokenizer_file
from zoo.core import strict_json
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
LABELS = 100_000
"""Largest `num_labels` of a config."""
INTEGER = 10_000_000
"""Largest value of any other integer of a config."""
SIZES = (
    *("hidden", "width", "heads", "vocab", "channels", "intermediate", "positions", "depth", "patch", "num_"),
    *("head_dim", "embed_dim", "n_layers", "image_size", "embedding_size"),
)
"""Parts of the names of config entries that are sizes or numbers of parts."""
UNLIMITED = "max_relative_positions"  # DeBERTa writes -1 for as many as there are positions
EPOCHS = 10_000
"""Most epochs that inference may repeat of a training."""
MODULES = {
    f"sentence_transformers.models.{kind}"
    for kind in ("Transformer", "StaticEmbedding", "Pooling", "Dense", "Normalize", "MultiVectorMask")
}
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


def check(folder: Path, adapter_folder: str | None = None) -> None:
    """Check JSON files, safetensors headers, indexes, tokenizers and modules.json. Call `check_sizes` first.

    Raises ArtefactError for JSON with repeated keys or too many values, and for a file that names something outside the folder.
    It is raised as well for a module that is not opened here, for a tokenizer that grows a text, and for a safetensors header
    that does not describe its file.

    `adapter_folder` is the folder of the adapter that the family has declared, if any.
    """
    weights = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    for path in sorted(folder.rglob("*.json")):
        _check_json(folder, path, path.parent == folder / adapter_folder if adapter_folder else False, weights)
    for path in sorted(folder.rglob("*.safetensors")):
        headers.read_header(path)
    for path in sorted(folder.rglob("*.safetensors.index.json")):
        tensors.list_files(path.parent, path.name.removesuffix(".safetensors.index.json"))
    for module in read_list(folder / "modules.json"):
        module_type = str(module.get("type")) if isinstance(module, dict) else ""
        class_name = module_type.rsplit(".", 1)[-1]
        is_known = f"sentence_transformers.models.{class_name}" in MODULES
        if not is_known or not module_type.startswith("sentence_transformers."):
            raise ArtefactError(
                f"{folder / 'modules.json'}: the module {module_type[:80]!r} is not supported; "
                "use Transformer, Pooling, Dense, Normalize and MultiVectorMask only"
            )
        references.check_relative(folder / "modules.json", str(module.get("path", "")))


def _check_json(folder: Path, path: Path, is_adapter: bool, weights: int) -> None:
    """Check one JSON file. Its values may take as much memory as the weights, because a vocabulary grows with them."""
    if path.name == "tokenizer.json":
        tokenizer_file.check(path, _read_vocabulary_size(path.parent))
        return
    is_vocabulary = path.name == "vocab.json"
    content = read_json(path, memory=strict_json.MEMORY + weights, may_repeat_keys=is_vocabulary)
    if not is_vocabulary:
        # The `zoo` section is the family's own, and no library reads it.
        is_config = path == folder / "config.json" and isinstance(content, dict)
        content = {name: value for name, value in content.items() if name != "zoo"} if is_config else content
        references.check(path, content, is_adapter=is_adapter)


def _read_vocabulary_size(folder: Path) -> int | None:
    """Read how many embeddings the model in `folder` has, or None if its config does not say."""
    path = folder / "config.json"
    config = read_json(path) if path.exists() else {}
    sections = (config, config.get("text_config")) if isinstance(config, dict) else ()
    sizes = [section.get("vocab_size") for section in sections if isinstance(section, dict)]
    return next((size for size in sizes if type(size) is int and size > 0), None)


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
        if value < 0 and name != UNLIMITED and any(word in name for word in SIZES):
            raise ArtefactError(f"{path}: {name}: {value} is a size, so it cannot be negative")


def check_shapes(folder: Path, shapes: Shapes, stem: str = "model") -> None:
    """Raise ArtefactError unless `stem`.safetensors or its shards hold tensors of exactly these names and shapes.

    Only headers are read. Call this check before tensors of these shapes are allocated.
    """
    stored = _read_shapes(folder, stem)
    problems = [f"missing tensor {name}" for name in shapes.keys() - set(stored)]
    problems += [f"extra tensor {name[:60]}" for name in stored.keys() - set(shapes)]
    for name in shapes.keys() & set(stored):
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


def _read_shapes(folder: Path, stem: str) -> dict[str, tuple[int, ...]]:
    """Read the shapes of the tensors in `stem`.safetensors and in its shards."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(folder.glob(f"{stem}*.safetensors")):
        shapes |= headers.read_header(path)
    return shapes


def read_json(path: Path, **options: Any) -> Any:
    try:
        return strict_json.read(path, **options)
    except (OSError, ValueError, RecursionError) as error:
        raise ArtefactError(f"{path}: cannot be read as JSON: {str(error)[:120]}; download the model again") from None


def read_list(path: Path) -> list[Any]:
    content = read_json(path) if path.exists() else []
    if not isinstance(content, list):
        raise ArtefactError(f"{path}: is not a list; download the model again")
    return content
