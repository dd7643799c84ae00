"""The model folder: written whole, opened strictly. Weights are safetensors; nothing is unpickled, no code is fetched."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.artefact import manifest, preflight, tensors
from zoo.core import atomic_files
from zoo.core.errors import ArtefactError

if TYPE_CHECKING:
    from zoo.encoder import Encoder

FORMAT = 1
SHARD = 5 * 10**9  # bytes: what the Hub's own libraries take as the largest file


def save(
    encoder: Encoder,
    folder: Path,
    *,
    recipe: Mapping[str, Any] | None = None,
    extras: Mapping[str, str] | None = None,
    max_shard_size: int = SHARD,
) -> Path:
    """Write `encoder` as a model folder; `folder` appears when it is complete, and only then.

    Args:
        recipe: the recipe as plain values; it travels in config.json.
        extras: further text files by relative path (lock.json, report.json, …).
        max_shard_size: in bytes; larger weights are split, as transformers does it.
    """
    with atomic_files.whole_folder(folder) as partial:
        encoder.save(partial)
        tensors.split(partial, max_shard_size)
        config_file = partial / "config.json"
        config = json.loads(config_file.read_text(encoding="utf-8")) if config_file.exists() else {}
        config["zoo"] = {
            "format": FORMAT,
            "needs": encoder.spec.min_reader_version,
            "family": encoder.spec.family,
            "name": encoder.name,
            "spec": encoder.spec.model_dump(mode="json"),
            "facts": encoder.card_facts(),
            **encoder.extra_config(),
        }
        if recipe is not None:
            config["zoo"]["recipe"] = dict(recipe)
        config_file.write_text(
            json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
        )
        for name, text in (extras or {}).items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            (partial / name).write_text(text, encoding="utf-8")
        manifest.write(partial)
    return folder


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a model folder. Raises ArtefactError where there is none, it is not JSON, or larger than can be."""
    preflight.sizes(folder)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtefactError(f"{folder}: has no config.json, so it is not a model folder") from None
    except (ValueError, RecursionError, OSError) as error:
        raise ArtefactError(f"{folder}: config.json cannot be read: {str(error)[:120]}") from None
    if not isinstance(config, dict):
        raise ArtefactError(f"{folder}: config.json is not an object")
    return config
