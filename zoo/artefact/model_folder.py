"""Save an encoder as a model folder, and read a folder's config.json. Weights are safetensors, never pickles."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Protocol

from zoo.artefact import canaries, manifest, preflight, saved_steps, tensors
from zoo.core import atomic_files, output_paths
from zoo.core.errors import ArtefactError, ZooError

FORMAT = 1
SHARD = 5 * 10**9
"""Bytes of the largest weights file, as in the Hub's own libraries."""


class SavableSpec(Protocol):
    """The recipe's `encoder:` section, as far as `save` reads it."""

    min_reader_version: ClassVar[str]

    @property
    def family(self) -> str: ...

    def model_dump(self, *, mode: str) -> dict[str, Any]: ...


class SavableEncoder(canaries.CanaryEncoder, Protocol):
    """The members of an encoder that `save` uses. `zoo.encoder.Encoder` describes each of them."""

    @property
    def spec(self) -> SavableSpec: ...

    @property
    def name(self) -> str: ...

    def write_weights(self, folder: Path) -> None: ...

    def card_facts(self) -> dict[str, Any]: ...

    def extra_config(self) -> dict[str, Any]: ...

    @property
    def steps(self) -> Sequence[saved_steps.SavableStep]: ...

    def check_saved(self, folder: Path, config: Mapping[str, Any]) -> None: ...


def save(
    encoder: SavableEncoder,
    folder: Path,
    *,
    recipe: Mapping[str, Any] | None = None,
    extras: Mapping[str, str] | None = None,
    parent: Mapping[str, Any] | None = None,
    max_shard_size: int = SHARD,
) -> Path:
    """Write `encoder` as a model folder and return `folder`. The folder appears only when it is complete.

    It is opened again before that, and must give the encoder's tokens and vectors for some probes. Raises ArtefactError if it
    does not. The folder also gets the canaries of the encoder with their vectors.

    Args:
        encoder: the encoder to save.
        folder: the model folder; a folder that exists there is replaced.
        recipe: the recipe as plain values, which is stored in config.json.
        extras: further text files by relative path, for example lock.json and report.json.
        parent: the model of which this one is a view, as plain values, which is stored in config.json.
        max_shard_size: in bytes; larger weights are split into shards, as in transformers.
    """
    with atomic_files.replace_folder(folder) as partial:
        encoder.write_weights(partial)
        tensors.split(partial, max_shard_size)
        _write_config(encoder, partial / "config.json", recipe, parent)
        encoder.check_saved(partial, atomic_files.read_json(partial / "config.json")["zoo"])
        canaries.write(encoder, partial)
        for name, text in (extras or {}).items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            (partial / name).write_text(text, encoding="utf-8")
        manifest.write(partial)
    return folder


@contextmanager
def explain_view(family: str, options: Mapping[str, Any]) -> Iterator[None]:
    """Say so if a folder opens as another encoder than was saved because no folder of the family can hold the view."""
    try:
        yield
    except ArtefactError as error:
        if not options:
            raise
        raise ZooError(
            f"a folder of the family {family} cannot hold the view {json.dumps(dict(options))}: save the model without it, and "
            "take the view when the model is opened: zoo.from_pretrained(…).view(…)"
        ) from error


def require_replaceable(folder: Path) -> None:
    """Raise ZooError if a model folder at `folder` would replace something else than a model folder of zoo."""
    output_paths.check_folder(folder)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / manifest.NAME).is_file():
        raise ZooError(f"{folder}: holds other files and was not written by zoo; choose another folder, or empty it")


def _write_config(
    encoder: SavableEncoder, path: Path, recipe: Mapping[str, Any] | None, parent: Mapping[str, Any] | None
) -> None:
    """Add the `zoo` section to config.json, which the encoder may have written already."""
    config = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    config["zoo"] = {
        "format": FORMAT,
        "needs": encoder.spec.min_reader_version,
        "family": encoder.spec.family,
        "name": encoder.name,
        "spec": encoder.spec.model_dump(mode="json"),
        "facts": encoder.card_facts(),
        **encoder.extra_config(),
    }
    if encoder.steps:
        config["zoo"][saved_steps.BLOCK] = saved_steps.write(encoder.steps, path.parent)
    if recipe is not None:
        config["zoo"]["recipe"] = dict(recipe)
    if parent is not None:
        config["zoo"]["parent"] = dict(parent)
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def read_config(folder: Path) -> dict[str, Any]:
    """Read config.json of a model folder.

    Raises ArtefactError if the file is missing, is not a JSON object, or if a text file in the folder is too large.
    """
    preflight.check_sizes(folder)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        manifest.refuse_run_folder(folder)
        raise ArtefactError(f"{folder}: has no config.json, so it is not a model folder; check the path") from None
    except (ValueError, RecursionError, OSError) as error:
        raise ArtefactError(
            f"{folder}: config.json cannot be read: {str(error)[:120]}; download the model again"
        ) from None
    if not isinstance(config, dict):
        raise ArtefactError(f"{folder}: config.json is not an object; download the model again")
    return config
