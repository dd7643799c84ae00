"""Open a trained model: a folder that zoo wrote, a model of the Hub, or a plain sentence-transformers backbone."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from zoo import families
from zoo.after import saved
from zoo.artefact import manifest, model_folder, preflight
from zoo.core import atomic_files, faults
from zoo.core.errors import ArtefactError, RenamedFieldWarning, UncuttableError, ZooError
from zoo.encoder import Encoder
from zoo.hub import model_references
from zoo.hub.fetch import fetch
from zoo.spec import EncoderSpec
from zoo.vision.spec import reads_images_alone


def from_pretrained(reference: str | Path, revision: str | None = None) -> Encoder:
    """Open a model.

    Args:
        reference: a folder that zoo wrote, a Hub id of one, or a plain text model of sentence-transformers or transformers (Hub
            id, folder or `package:NAME`), which opens as an untrained encoder: of `families.BACKBONE_FAMILY` if its layers can
            be cut, and of `families.ANY_BACKBONE_FAMILY` otherwise. A model of images of transformers or timm (Hub id or folder)
            opens as one of `families.IMAGE_BACKBONE_FAMILY`, which gives its features.
        revision: commit, tag or branch on the Hub.

    Opening is strict. Raises ArtefactError for missing, extra or mis-shaped tensors, a wrong sha256, and an unknown format or
    family. Pickles and remote code are never touched.
    """
    if not isinstance(reference, str | Path):
        raise ZooError(f"a model is named by a folder, a Hub id or package:NAME, not by {type(reference).__name__}")
    if not str(reference) or "\0" in str(reference):
        raise ZooError(f"{str(reference)!r} names no model; give a folder, a Hub id, or package:NAME")
    if revision is not None and not isinstance(revision, str):
        raise ZooError(f"revision: {revision!r} is not a text: give a commit, tag or branch")
    name = str(reference)
    local = folder = model_references.locate(name)
    if folder is None:
        folder = fetch(name, revision)
    config = model_folder.read_config(folder)
    if "zoo" in config:
        encoder = load(folder)
        if local is None:
            encoder.name = name.rsplit("/", 1)[-1]
        return encoder
    backbone = name if local else str(folder)
    if reads_images_alone(config):
        encoder = _build_untrained(families.IMAGE_BACKBONE_FAMILY, backbone={"model": backbone}, head="softmax")
    else:
        try:
            encoder = _build_untrained(families.BACKBONE_FAMILY, backbone=backbone)
        except UncuttableError:
            encoder = _build_untrained(families.ANY_BACKBONE_FAMILY, backbone=backbone)
    encoder.name, encoder.revision = name.rsplit("/", 1)[-1].replace(":", "-"), encoder.backbone_revision
    return encoder


def _build_untrained(family: str, **fields: Any) -> Encoder:
    spec = families.load_spec(family).model_validate({"family": family, **fields})
    return families.load_encoder(family).open_untrained(spec)


def load(folder: Path) -> Encoder:
    """Open a model folder that zoo wrote.

    Raises ArtefactError if a file is missing, extra or altered, if a tensor is missing, extra, mis-shaped or not finite, and
    if the format or the family is unknown to this version.
    """
    config = model_folder.read_config(folder)
    preflight.check_links(folder)
    block = config.get("zoo")
    if not isinstance(block, dict):
        raise ArtefactError(f"{folder}: config.json has no `zoo` section, so this is not a folder that zoo wrote")
    if (
        type(block.get("format")) is not int or block["format"] != model_folder.FORMAT
    ):  # before the manifest, whose format may be newer too
        raise ArtefactError(
            f"{folder}: format {str(block.get('format'))[:40]!r} is not known to this version (it reads "
            f"{model_folder.FORMAT}); update embedding-zoo{_describe_min_version(block)}"
        )
    name = str(block.get("family"))
    if name in families.names():
        preflight.check_sizes(folder, families.load_spec(name).text_files)
    manifest.verify(folder)
    spec = _read_spec(folder, block)
    preflight.check(folder, adapter_folder=spec.adapter_folder)
    try:
        encoder = families.load_encoder(spec.family).load(spec, folder, block)
    except ZooError:
        raise
    except Exception as error:  # a family reads what strangers wrote: whatever else goes wrong is the folder's fault
        faults.refuse_full_memory(error, folder)
        first = (str(error).strip().splitlines() or [""])[0]
        raise ArtefactError(f"{folder}: cannot be opened: {type(error).__name__}: {first[:120]}") from error
    steps = saved.open_steps(folder, block, encoder.dim)
    if steps:
        encoder.attach_steps(steps)
    encoder.name = str(block.get("name", "encoder"))
    encoder.revision = atomic_files.sha256(folder / manifest.NAME)
    return encoder


def read_spec_class(folder: Path) -> type[EncoderSpec]:
    """The Spec class of a model folder's family. Raises ArtefactError for a family that is unknown to this version."""
    block = model_folder.read_config(folder).get("zoo")
    name = str(block.get("family", "")) if isinstance(block, dict) else ""
    if name not in families.names():
        raise ArtefactError(
            f"{folder}: config.json names no family that is known here ({name[:40]!r}); update embedding-zoo"
        )
    return families.load_spec(name)


def read_spec(folder: Path) -> EncoderSpec:
    """The encoder section of a model folder. Raises ArtefactError as `load` does for a folder that is not one."""
    read_spec_class(folder)
    return _read_spec(folder, model_folder.read_config(folder)["zoo"])


def _read_spec(folder: Path, block: Mapping[str, Any]) -> EncoderSpec:
    """The encoder section of a model folder. Folders of older versions use old names of fields; they stay valid."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RenamedFieldWarning)
            return families.load_spec(str(block.get("family"))).model_validate(block.get("spec"))
    except ValidationError as error:
        raise ArtefactError(
            f"{folder}: config.json: the encoder section does not fit its family: {error.errors()[0]['msg']}"
        ) from None
    except ZooError as error:
        advice = f"update embedding-zoo{_describe_min_version(block)}, or the folder is not what it says"
        raise ArtefactError(f"{folder}: {error}; {advice}") from None


def _describe_min_version(block: Mapping[str, Any]) -> str:
    """The version that the folder asks for, as ` to ≥ 1.2.3`; empty if it names none."""
    version = str(block.get("needs"))
    return f" to ≥ {version}" if re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,4}){1,3}", version) else ""
