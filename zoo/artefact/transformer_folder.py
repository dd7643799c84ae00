"""Check the folder of a text model before anything is built from it: its weights must be those of its configs.

A folder of sentence-transformers has a Transformer, with a config.json of its own, and further modules in subfolders.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from zoo.artefact import headers, preflight, references, tensors, weight_names
from zoo.artefact.weight_names import Names
from zoo.core.errors import ArtefactError

WIDTHS = ("hidden_size", "dim", "d_model", "n_embd")
"""What architectures call the width of a hidden state in config.json."""


def read_model_type(folder: Path) -> str:
    """Read the architecture of a sentence-transformers folder. Raises ArtefactError if its config names none."""
    config = preflight.read_json(find_transformer(folder) / "config.json")
    if not isinstance(config, dict) or "model_type" not in config:
        raise ArtefactError(f"{folder / 'config.json'}: has no `model_type`; add the name of the architecture")
    return str(config["model_type"])


def read_width(config: Mapping[str, Any]) -> int | None:
    """Return the width of a hidden state by config.json, or None if it does not say."""
    return next((config[name] for name in WIDTHS if type(config.get(name)) is int), None)


def check(folder: Path, blocks: str | None = None, count: str = "", class_name: str = "AutoModel") -> Names:
    """Raise ArtefactError unless the weights of a sentence-transformers folder are those of its config.json.

    Return how the names in the weights become those of the model.

    Args:
        blocks: path of the module list of Transformer blocks, whose number is then checked.
        count: entry of the config with the number of blocks.
        class_name: the class of transformers that opens the weights.
    """
    weights_folder = find_transformer(folder)
    config_file = weights_folder / "config.json"
    config = preflight.read_json(config_file)
    entries = headers.read_all(tensors.list_pretrained_files(weights_folder))
    weight_names.check_dtypes(weights_folder, entries)
    preflight.check_integers(config_file, config)
    if blocks is not None:
        _check_block_count(config_file, config.get(count), entries, blocks, count)
    _check_modules(folder, config)
    shapes, base_prefix = _describe_model(weights_folder, class_name, entries)
    described = sum(map(math.prod, shapes.values()))
    stored = sum(math.prod(entry.shape) for entry in entries.values())
    if described > 2 * stored:  # a checkpoint may lack a pooler, but not half of the model
        raise ArtefactError(
            f"{config_file}: describes {described} numbers, but the weights hold {stored}; download the model again"
        )
    return weight_names.check(weights_folder, entries, shapes, base_prefix)


def _check_block_count(config_file: Path, described: Any, names: Iterable[str], blocks: str, count: str) -> None:
    block_name = re.compile(rf"(?:^|\.){re.escape(blocks)}\.(\d+)\.")
    block_numbers = {int(number) for name in names for number in block_name.findall(name)}
    if described != len(block_numbers):
        raise ArtefactError(
            f"{config_file}: {count}: {described}, but the weights hold {len(block_numbers)}; download the model again"
        )


def find_transformer(folder: Path) -> Path:
    """Find the folder of the Transformer module: beside modules.json, or a subfolder in old models."""
    first_module: Any = next(iter(preflight.read_list(folder / "modules.json")), {})
    path = first_module.get("path", "") if isinstance(first_module, dict) else ""
    return _resolve_inside(folder, str(path))


def _resolve_inside(folder: Path, path: str) -> Path:
    references.check_relative(folder / "modules.json", path)
    return folder / path


def _describe_model(
    folder: Path, class_name: str = "AutoModel", stored: Iterable[str] = ()
) -> tuple[dict[str, tuple[int, ...]], str]:
    """Return the shapes by name of the model that config.json describes, without allocating it.

    The names are the model's own, or those of checkpoints of its architecture if more of `stored` are among them.

    The first name counts of tensors that the model ties, for example the embeddings of an encoder.

    Also return the prefix that transformers itself removes from the names of a checkpoint.
    """
    import torch
    import transformers

    from zoo.artefact import pretrained_model

    model_class: Any = getattr(transformers, class_name)  # transformers does not annotate `from_config`
    try:
        with torch.device("meta"):  # tensors on this device have a shape but no memory
            config = transformers.AutoConfig.from_pretrained(
                folder, trust_remote_code=False, local_files_only=True, token=False
            )
            is_auto = class_name == "AutoModel"
            model = model_class.from_config(config, trust_remote_code=False) if is_auto else model_class(config)
        names = set(stored)
        described = (tensors.get_shapes(model), pretrained_model.get_checkpoint_shapes(model))
        shapes = max(described, key=lambda shapes: len(names & shapes.keys()))
        tied = set(model.all_tied_weights_keys)
        return {name: shape for name, shape in shapes.items() if name not in tied}, f"{model.base_model_prefix}."
    except Exception as error:  # transformers raises errors of any type for a wrong config
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ArtefactError(
            f"{folder / 'config.json'}: no model can be made of it: {first_line[:120]}; download the model again"
        ) from None


def _check_modules(folder: Path, config: Mapping[str, Any]) -> None:
    """Check that the Pooling and Dense modules have the widths of the model and of their own weights."""
    width = read_width(config)
    for module in preflight.read_list(folder / "modules.json"):
        module_folder = _resolve_inside(folder, str(module.get("path", "")))
        config_file = module_folder / "config.json"
        class_name = str(module.get("type")).rsplit(".", 1)[-1]
        if class_name == "Pooling" and config_file.exists():
            pooling = preflight.read_json(config_file)
            pooled = pooling.get("word_embedding_dimension", pooling.get("embedding_dimension", width))
            if pooled != width:
                raise ArtefactError(
                    f"{config_file}: pools {pooled} components, but the model has {width}; download the model again"
                )
        if class_name == "Dense":
            linear, shapes = preflight.read_json(config_file), headers.read_header(module_folder / "model.safetensors")
            shape = (linear.get("out_features"), linear.get("in_features"))
            if shape not in shapes.values():
                raise ArtefactError(
                    f"{config_file}: describes a matrix of shape {shape}, but no tensor beside it has this shape; "
                    "download the model again"
                )
