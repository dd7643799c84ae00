"""Where image backbones come from: made here, from transformers, or from timm; and how a model folder gives one back.

A folder may come from a stranger: what its config asks for must fit its weights before anything of that size is made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.artefact import preflight, tensors
from zoo.core import atomic_files
from zoo.core.errors import ArtefactError, ZooError
from zoo.core.lazy import lazy
from zoo.hub.fetch import fetch
from zoo.hub.model_references import locate, public_id
from zoo.text.backbone import without_bars
from zoo.vision.backbone import Images
from zoo.vision.spec import Vision

if TYPE_CHECKING:
    import torch
    import transformers

    from zoo.vision import resnet
else:
    torch, transformers, resnet = lazy("torch"), lazy("transformers"), lazy("zoo.vision.resnet")


def build(spec: Vision, folder: Path = Path()) -> Images:
    """An image backbone as it comes, its random tensors drawn from torch's generator. Raises ZooError where it cannot be had."""
    if spec.build:
        net = resnet.Scaled(resnet.network(spec.channels, spec.width, spec.blocks), spec.channels)
        return Images(net, spec.size or 32, spec.channels)
    if spec.timm:
        return _timm(spec, pretrained=spec.pretrained)
    assert spec.model is not None  # one of the three is given
    where = locate(spec.model, folder)
    local = where is not None
    where = where or fetch(spec.model, spec.revision)
    preflight.check_sizes(where, {})
    preflight.check(where)
    config = _config(where)
    try:
        with without_bars():
            body = transformers.AutoModel.from_pretrained(
                where, config=config, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
            )
    except Exception as error:  # whatever the library makes of a file that is not what it says
        raise ZooError(f"backbone {spec.model}: cannot be opened: {_first(error)}") from error
    told = _read(where / "preprocessor_config.json")
    size, channels = spec.size or _side(told, config), getattr(config, "num_channels", 3)
    net = resnet.Scaled(resnet.Pooled(body), channels)
    net.scale(told.get("image_mean"), told.get("image_std"))
    revision = atomic_files.sha256(where / "model.safetensors") if local else where.name
    return Images(_settled(net, spec.model), size, channels, public_id(spec.model) or spec.model, revision)


def read(spec: Vision, folder: Path, config: Mapping[str, Any]) -> tuple[Images, dict[str, torch.Tensor]]:
    """The backbone that `Images.save` wrote, and the tensors of its `project`. Raises ArtefactError for tensors that are
    missing, extra, mis-shaped or not finite; before anything of a size that the file does not hold is made."""
    size, channels = config.get("size"), config.get("channels")
    if type(size) is not int or not 4 <= size <= 2048 or channels not in (1, 3):
        raise ArtefactError(
            f"{folder / 'config.json'}: images of {str(channels)[:20]} channels, {str(size)[:20]} pixels a side"
        )
    path = folder / "model.safetensors"
    held = preflight.read_header(path)
    project = {name for name in held if name.startswith("project.")}
    own = _config(folder, most=len(held)) if spec.model else None

    def make() -> torch.nn.Module:
        if spec.timm:
            return _timm(spec, pretrained=False).module
        if own is not None:
            model = transformers.AutoModel.from_config(own, trust_remote_code=False)
            return resnet.Scaled(resnet.Pooled(model), channels)
        return resnet.Scaled(resnet.network(channels, spec.width, spec.blocks), channels)

    if not spec.timm:
        try:
            with torch.device("meta"):  # shapes without memory
                shapes = {f"backbone.{n}": tuple(t.shape) for n, t in make().state_dict().items()}
        except Exception as error:  # whatever the library makes of a config that is none
            raise ArtefactError(f"{folder / 'config.json'}: no model can be made of it: {_first(error)}") from None
        preflight.check_shapes(folder, shapes | {name: held[name] for name in project})
    with torch.random.fork_rng(devices=[]):
        net = make()
    found = tensors.read(folder)
    mine = {n.removeprefix("backbone."): t for n, t in found.items() if n not in project}
    tensors.fill(net, mine, folder)
    out = Images(net if spec.build else _settled(net, str(spec.model or spec.timm)), size, channels)
    out.name = None if spec.build else (public_id(spec.model) or spec.model if spec.model else f"timm/{spec.timm}")
    return out, {n.removeprefix("project."): found[n] for n in project}


def _settled(net: torch.nn.Module, name: str) -> torch.nn.Module:
    """Without gradients for the parts of a pretrained model that no image reaches."""
    for part, parameter in net.named_parameters():
        if ".pooler." in part or ".embeddings.mask_token" in part:
            parameter.requires_grad_(False)
    return net


def _timm(spec: Vision, *, pretrained: bool) -> Images:
    try:
        import timm

        body = timm.create_model(spec.timm, pretrained=pretrained, num_classes=0)
    except ImportError:
        raise ZooError(f"backbone timm {spec.timm}: timm is not installed: pip install timm") from None
    except Exception as error:  # a name that it does not know, or weights that it cannot fetch
        raise ZooError(f"backbone timm {spec.timm}: cannot be had: {_first(error)}") from error
    told = body.pretrained_cfg
    channels, height, _ = told.get("input_size", (3, 224, 224))
    net = resnet.Scaled(body, channels)
    net.scale(told.get("mean"), told.get("std"))
    return Images(net, spec.size or height, channels, f"timm/{spec.timm}")


def _config(folder: Path, most: int | None = None) -> Any:
    """The config of a vision model of transformers; its integers may not be beyond what any model has, nor its layers beyond
    `most`, which is how many tensors there are."""
    told = _read(folder / "config.json")
    told.pop("zoo", None)
    preflight.check_integers(folder / "config.json", told, most)
    kind = told.get("model_type")
    if "num_channels" not in told and "image_size" not in told:
        raise ArtefactError(f"{folder}: {str(kind)[:40]!r} is no model that looks at images alone")
    try:
        known = transformers.AutoConfig.for_model(**told)
    except Exception as error:  # an architecture that the installed library does not know
        raise ArtefactError(f"{folder / 'config.json'}: no config of transformers: {_first(error)}") from None
    return known


def _read(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ArtefactError(f"{path}: cannot be read as JSON: {str(error)[:120]}") from None
    return told if isinstance(told, dict) else {}


def _side(told: Mapping[str, Any], config: Any) -> int:
    size = told.get("crop_size") or told.get("size") or getattr(config, "image_size", None) or 224
    if isinstance(size, Mapping):
        size = size.get("height") or size.get("shortest_edge") or 224
    if isinstance(size, list | tuple):
        size = size[0]
    return int(size)


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
