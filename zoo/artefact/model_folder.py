"""The model folder: written whole, opened strictly. Weights are safetensors; nothing is unpickled, no code is fetched."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from zoo import families
from zoo.artefact import manifest, preflight, tensors
from zoo.core import atomic_files
from zoo.core.errors import ArtefactError, ZooError

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
    with atomic_files.replace_folder(folder) as partial:
        encoder.save(partial)
        tensors.split(partial, max_shard_size)
        config_file = partial / "config.json"
        config = json.loads(config_file.read_text(encoding="utf-8")) if config_file.exists() else {}
        config["zoo"] = {
            "format": FORMAT,
            "needs": encoder.min_reader_version,
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


def load(folder: Path) -> Encoder:
    """Open a model folder. Raises ArtefactError when a file is missing, extra or altered, when a tensor is missing, extra,
    mis-shaped or not finite, or when the format or the family is unknown here."""
    config = read_config(folder)
    preflight.links(folder)
    block = config.get("zoo")
    if not isinstance(block, dict):
        raise ArtefactError(f"{folder}: config.json has no `zoo` section, so this is not a folder that zoo wrote")
    if block.get("format") != FORMAT:  # before the manifest, which a newer version may write otherwise as well
        raise ArtefactError(
            f"{folder}: format {str(block.get('format'))[:40]!r} is not known to this version (it reads {FORMAT}); "
            f"update embedding-zoo{_needed(block)}"
        )
    manifest.verify(folder)
    preflight.check(folder)
    try:
        family = families.load(str(block.get("family")))
        spec = family.Spec.model_validate(block.get("spec"))
    except ValidationError as error:
        raise ArtefactError(
            f"{folder}: config.json: the encoder section does not fit its family: {error.errors()[0]['msg']}"
        ) from None
    except ZooError as error:
        what = f"update embedding-zoo{_needed(block)}, or the folder is not what it says"
        raise ArtefactError(f"{folder}: {error}; {what}") from None
    try:
        encoder = family.Encoder.load(spec, folder, block)
    except ZooError:
        raise
    except Exception as error:  # a family reads what others wrote: whatever it stumbles over is the folder's
        first = (str(error).strip().splitlines() or [""])[0]
        raise ArtefactError(f"{folder}: cannot be opened: {type(error).__name__}: {first[:120]}") from error
    encoder.name = str(block.get("name", "encoder"))
    encoder.revision = atomic_files.sha256(folder / "manifest.json")
    return encoder


def _needed(block: Mapping[str, Any]) -> str:
    """The version that the folder itself asks for; nothing where it names none."""
    needs = str(block.get("needs"))
    return f" to ≥ {needs}" if re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,4}){1,3}", needs) else ""


def publish(encoder: Encoder, repo: str, *, private: bool = False) -> str:
    """Save `encoder` with a card to a temporary folder and push it in one commit; returns the URL. Raises HubError."""
    import tempfile

    from zoo.card import model_card
    from zoo.hub import push as hub

    with tempfile.TemporaryDirectory() as folder:
        out = save(encoder, Path(folder) / encoder.name)
        model_card.write(out)
        manifest.write(out)
        return hub.push(out, repo, private=private).url


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
