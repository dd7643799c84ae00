"""Open image backbones: a new residual network, a model of transformers or timm, or the backbone in a model folder.

A model folder may come from a stranger. So its config is compared with the shapes in its weights before memory is allocated.
transformers is imported where it opens a model, because other classifiers do without it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from zoo.artefact import headers, preflight, pretrained_model, tensors
from zoo.core import faults
from zoo.core.errors import ArtefactError, ZooError
from zoo.hub.fetch import fetch
from zoo.hub.model_references import find_hub_id, locate
from zoo.text.backbone import hide_progress_bars
from zoo.vision import resnet
from zoo.vision.backbone import ImageBackbone
from zoo.vision.spec import IMAGE_FIELDS, TIMM_CONFIG, Vision


def build(spec: Vision, folder: Path = Path()) -> ImageBackbone:
    """Open the backbone that a recipe names.

    New weights are drawn from torch's global generator. `folder` is where a relative path starts. Raises ZooError if the
    backbone is not there, is not supported, or cannot be opened.
    """
    if spec.build:
        network = resnet.NormalizedInput(resnet.build_resnet(spec.channels, spec.width, spec.blocks), spec.channels)
        return ImageBackbone(network, spec.size or 32, spec.channels)
    if spec.timm:
        return _open_timm(spec, pretrained=spec.pretrained)
    assert spec.model is not None  # Vision has exactly one of the three
    return _open_transformers(spec, spec.model, folder)


def _open_transformers(spec: Vision, reference: str, folder: Path) -> ImageBackbone:
    import transformers

    local_folder = locate(reference, folder)
    model_folder = local_folder or fetch(reference, spec.revision)
    preflight.check_sizes(model_folder, {})
    # the cache names a snapshot after its commit
    revision = tensors.compute_digest(model_folder) if local_folder else model_folder.name
    if TIMM_CONFIG in _read_json(model_folder / "config.json"):
        return _open_timm_folder(model_folder, reference, spec.size, revision)
    preflight.check(model_folder)
    config = _read_model_config(model_folder)
    try:
        with hide_progress_bars():
            model = pretrained_model.open_model(
                transformers.AutoModel, model_folder, reference, config, dtype=torch.float32
            )
    except ZooError:
        raise
    except Exception as error:  # the library raises many types for files that are damaged
        faults.refuse_full_memory(error, f"backbone {reference}")
        raise ZooError(f"backbone {reference}: cannot be opened: {_shorten(error)}") from error
    preprocessor = _read_json(model_folder / "preprocessor_config.json")
    size, channels = spec.size or _find_side(preprocessor, config), getattr(config, "num_channels", 3)
    network = resnet.NormalizedInput(resnet.MeanPooling(model), channels)
    network.set_statistics(preprocessor.get("image_mean"), preprocessor.get("image_std"))
    _freeze_unused_parameters(network)
    return ImageBackbone(network, size, channels, find_hub_id(reference) or reference, revision)


def _open_timm(spec: Vision, *, pretrained: bool) -> ImageBackbone:
    assert spec.timm is not None  # the caller has looked
    model = _create_timm_model(spec.timm, f"backbone timm {spec.timm}", pretrained=pretrained)
    return _wrap_timm_model(model, f"timm/{spec.timm}", spec.size)


def _open_timm_folder(folder: Path, reference: str, size: int | None, revision: str) -> ImageBackbone:
    """Open a folder that timm wrote. Raises ZooError without model.safetensors, because timm would read a pickle then."""
    if not (folder / "model.safetensors").is_file():
        raise ZooError(f"backbone {reference}: has no model.safetensors; timm's `save_for_hf` writes it")
    model = _create_timm_model(f"local-dir:{folder}", f"backbone {reference}", pretrained=True)
    return _wrap_timm_model(model, find_hub_id(reference) or reference, size, revision)


def _create_timm_model(name: str, shown: str, *, pretrained: bool) -> torch.nn.Module:
    """Return a model of timm without its classifier. `shown` names it in errors."""
    try:
        import timm

        model: torch.nn.Module = timm.create_model(name, pretrained=pretrained, num_classes=0)
    except ImportError:
        raise ZooError(f"{shown}: timm is not installed: pip install timm") from None
    except Exception as error:  # timm does not know the name, or cannot fetch the weights
        faults.refuse_full_memory(error, shown)
        raise ZooError(f"{shown}: cannot be opened: {_shorten(error)}") from error
    return model


def _wrap_timm_model(model: Any, name: str, size: int | None, revision: str = "") -> ImageBackbone:
    config = model.pretrained_cfg
    channels, height, _ = config.get("input_size", (3, 224, 224))
    network = resnet.NormalizedInput(model, channels)
    network.set_statistics(config.get("mean"), config.get("std"))
    return ImageBackbone(network, size or height, channels, name, revision)


def load_from_model_folder(
    spec: Vision, folder: Path, config: Mapping[str, Any]
) -> tuple[ImageBackbone, dict[str, torch.Tensor]]:
    """Open the backbone that `ImageBackbone.save` wrote, and return it with the tensors of its `project`.

    `config` is what `ImageBackbone.state` returned. Raises ArtefactError for tensors that are missing, extra, of another shape
    or not finite. Shapes are compared before memory is allocated, so that a small file cannot ask for a large model.
    """
    size, channels = _check_image_size(config, folder)
    entries = headers.read_all(folder / name for name in tensors.list_files(folder))
    stored_shapes = {name: entry.shape for name, entry in entries.items()}
    project_names = {name for name in stored_shapes if name.startswith("project.")}
    model_config = _read_model_config(folder, max_layers=len(stored_shapes)) if spec.model else None

    def make_network() -> torch.nn.Module:
        if spec.timm:
            return _open_timm(spec, pretrained=False).module
        if model_config is not None:
            import transformers

            auto_model: Any = transformers.AutoModel
            model = auto_model.from_config(model_config, trust_remote_code=False)
            return resnet.NormalizedInput(resnet.MeanPooling(model), channels)
        return resnet.NormalizedInput(resnet.build_resnet(channels, spec.width, spec.blocks), channels)

    if not spec.timm:
        try:
            with torch.device("meta"):  # shapes without memory
                shapes = {f"backbone.{name}": tuple(t.shape) for name, t in make_network().state_dict().items()}
        except Exception as error:  # the library raises many types for a config that is invalid
            raise ArtefactError(
                f"{folder / 'config.json'}: no model can be made of this config: {_shorten(error)}"
            ) from None
        preflight.check_shapes(folder, shapes | {name: stored_shapes[name] for name in project_names})
    with torch.random.fork_rng(devices=[]):  # the random initialisation must not change the caller's random state
        network = make_network()
    stored = tensors.read(folder)
    backbone_tensors = {
        name.removeprefix("backbone."): tensor for name, tensor in stored.items() if name not in project_names
    }
    tensors.fill(network, backbone_tensors, folder)
    if not spec.build:
        _freeze_unused_parameters(network)
    backbone = ImageBackbone(network, size, channels, name=_name_pretrained_model(spec))
    return backbone, {name.removeprefix("project."): stored[name] for name in project_names}


def _check_image_size(config: Mapping[str, Any], folder: Path) -> tuple[int, int]:
    size, channels = config.get("size"), config.get("channels")
    if type(size) is not int or not 4 <= size <= 2048 or channels not in (1, 3):
        raise ArtefactError(
            f"{folder / 'config.json'}: images of {str(channels)[:20]} channels, {str(size)[:20]} pixels a side; "
            "expected 1 or 3 channels and 4 to 2048 pixels"
        )
    return size, channels


def _name_pretrained_model(spec: Vision) -> str | None:
    if spec.build:
        return None
    return (find_hub_id(spec.model) or spec.model) if spec.model else f"timm/{spec.timm}"


def _freeze_unused_parameters(network: torch.nn.Module) -> None:
    """Freeze the parts of a pretrained model that the features do not depend on: they would never get a gradient."""
    for name, parameter in network.named_parameters():
        if ".pooler." in name or ".embeddings.mask_token" in name:
            parameter.requires_grad_(False)


def _read_model_config(folder: Path, max_layers: int | None = None) -> Any:
    """Read the config of a vision model of transformers.

    Raises ArtefactError for integers that are larger than in any real model, for more layers than `max_layers` (the number of
    tensors), and for a model that is not one of images alone.
    """
    import transformers

    config = _read_json(folder / "config.json")
    config.pop("zoo", None)
    preflight.check_integers(folder / "config.json", config, max_layers)
    model_type = config.get("model_type")
    if not IMAGE_FIELDS & {*config}:
        raise ArtefactError(f"{folder}: {str(model_type)[:40]!r} is not a model that reads images alone")
    try:
        return transformers.AutoConfig.for_model(**config)
    except Exception as error:  # an architecture that the installed library does not know
        raise ArtefactError(f"{folder / 'config.json'}: no config of transformers: {_shorten(error)}") from None


def _read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; {} if the file is absent or holds something else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ArtefactError(f"{path}: cannot be read as JSON: {str(error)[:120]}") from None
    return value if isinstance(value, dict) else {}


def _find_side(preprocessor: Mapping[str, Any], config: Any) -> int:
    """Return the side in pixels of the images that a pretrained model expects."""
    size = preprocessor.get("crop_size") or preprocessor.get("size") or getattr(config, "image_size", None) or 224
    if isinstance(size, Mapping):
        size = size.get("height") or size.get("shortest_edge") or 224
    if isinstance(size, list | tuple):
        size = size[0]
    return int(size)


def _shorten(error: Exception) -> str:
    """Return the first line of an error's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
