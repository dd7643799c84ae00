"""Image backbones: what turns pixels into features, how an image becomes pixels, and how both are kept.

A small residual network from scratch, a vision model of transformers, or one of timm where that is installed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.core import hardware
from zoo.core.errors import ZooError
from zoo.core.lazy import lazy
from zoo.data.formats import image_files
from zoo.text import engine as encoding

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL.Image import Image
else:
    np, torch = lazy("numpy"), lazy("torch")

BLOCK = 128  # images encoded together


class Images:
    """An image backbone.

    Attributes:
        module: from pixels (n, channels, side, side), uint8 or float of 0 to 255, to features (n, width) float.
        size, channels: what it looks at; any image is brought to that.
        name, revision: the pretrained model it starts from, if any.
    """

    modality = "image"

    def __init__(
        self, module: torch.nn.Module, size: int, channels: int, name: str | None = None, revision: str = ""
    ) -> None:
        self.module, self.size, self.channels = module, size, channels
        self.name, self.revision = name, revision
        self.width = _width(module, size, channels)

    @property
    def max_length(self) -> None:
        """Images have no limit of tokens."""
        return None

    def batch(self, inputs: Sequence[Any]) -> dict[str, torch.Tensor]:
        """`pixels` (n, channels, size, size) uint8 of images in any of the forms that `encode` takes, or such tensors already."""
        made = [each if isinstance(each, torch.Tensor) else torch.from_numpy(self.pixels(each)) for each in inputs]
        return {"pixels": torch.stack(made)}

    def pixels(self, given: Any) -> np.ndarray:
        """`pixels` of the module at this size and with these channels."""
        return pixels(given, self.size, self.channels)

    def features(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(n, width) of `pixels`."""
        return self.module(batch["pixels"])

    def learn_scale(self, pixels: torch.Tensor) -> None:
        """Take mean and spread of each channel from training images (n, channels, side, side) uint8, where the backbone brings
        none of its own."""
        if self.name is None and isinstance(self.module, _net()):
            values = pixels.float() / 255
            self.module.mean.copy_(values.mean((0, 2, 3)).view_as(self.module.mean))
            self.module.std.copy_(values.std((0, 2, 3)).clamp(min=1e-3).view_as(self.module.std))

    def stream(
        self, project: torch.nn.Module, dim: int, inputs: Iterable[Any], precision: str = "fp32"
    ) -> Iterator[np.ndarray]:
        """Unit vectors (n, dim) float32 in blocks. `inputs` are PIL images, arrays of uint8, paths, or bytes of an image file."""
        hardware.keep_large_blocks()
        if isinstance(inputs, str | bytes | Path):
            raise ZooError("encode takes a list of images, not one: write encode([image])")
        try:
            source = iter(inputs)
        except TypeError:
            raise ZooError(f"encode takes a list of images or another iterable, not {type(inputs).__name__}") from None
        device = next(self.module.parameters()).device
        dtype = hardware.resolve_precision(precision, device)
        place = 0
        while True:
            block = list(islice(source, BLOCK))
            if not block and place:
                return
            pixels = [self._at(each, place + i) for i, each in enumerate(block)]
            place += len(block)
            yield self._encoded(project, dim, pixels, device, dtype)
            if not block:
                return

    def _at(self, given: Any, place: int) -> np.ndarray:
        try:
            return self.pixels(given)
        except ZooError as error:
            raise ZooError(f"input {place} {error}") from None

    def _encoded(
        self, project: torch.nn.Module, dim: int, pixels: list[np.ndarray], device: Any, dtype: Any
    ) -> np.ndarray:
        if not pixels:
            return np.empty((0, dim), dtype=np.float32)
        with encoding.evaluating(self.module), torch.inference_mode():
            batch = torch.from_numpy(np.stack(pixels)).to(device)
            with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
                features = self.module(batch)
            out = torch.nn.functional.normalize(project(features.float()), dim=-1).cpu().numpy()
        if not np.isfinite(out).all():
            raise ZooError(
                "the encoder gives vectors that are not finite: its weights are damaged, or none of a training"
            )
        return out

    def encode(
        self,
        project: torch.nn.Module,
        dim: int,
        inputs: Iterable[Any],
        *,
        show_progress: bool = False,
        precision: str = "fp32",
    ) -> np.ndarray:
        """`stream` as one array."""
        total = len(inputs) if isinstance(inputs, list | tuple) else None
        blocks = []
        with encoding.bar(total, show_progress) as advance:
            for block in self.stream(project, dim, inputs, precision):
                blocks.append(block)
                advance(len(block))
        return np.concatenate(blocks)

    # -- artefact ------------------------------------------------------------------------------------------------------

    def save(self, folder: Path, project: torch.nn.Module, dim: int) -> None:
        """model.safetensors with the tensors of the backbone and of `project`; config.json of a transformers model."""
        from safetensors.torch import save_file

        body: Any = getattr(self.module, "body", None)
        if hasattr(body, "config"):
            config = body.config.to_dict() | {"architectures": [type(body).__name__]}
            (folder / "config.json").write_text(json.dumps(config, indent=2, default=str) + "\n", encoding="utf-8")
        held = {f"backbone.{n}": t for n, t in self.module.state_dict().items()}
        held |= {f"project.{n}": t for n, t in project.state_dict().items()}
        save_file(
            {n: t.contiguous().cpu() for n, t in held.items()}, folder / "model.safetensors", metadata={"format": "pt"}
        )

    def state(self) -> dict[str, Any]:
        """What `read` needs besides spec and tensors."""
        return {"size": self.size, "channels": self.channels}


def pixels(given: Any, size: int, channels: int) -> np.ndarray:
    """(channels, size, size) uint8: turned as its EXIF data says, on white where it is transparent, the middle of it where
    it is not square. Raises ZooError for what is no image."""
    from PIL import ImageOps

    picture = image_files.normalise_image(as_picture(given), "L" if channels == 1 else "RGB")
    if picture.size != (size, size):
        picture = ImageOps.fit(picture, (size, size), method=image_files.import_pillow().Resampling.BICUBIC)
    array = np.array(picture)
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


def as_picture(given: Any) -> Image:
    """A decoded image of a PIL image, an array (h, w[, 1, 3 or 4]) of uint8, a path, the bytes of an image file, or
    {"bytes": …}. Raises ZooError, whose text goes on from "input 3"."""
    image = image_files.import_pillow()
    if isinstance(given, image.Image):
        return given
    if isinstance(given, Mapping):
        given = given.get("bytes")
    if isinstance(given, str | Path):
        try:
            given = Path(given).read_bytes()
        except (OSError, ValueError) as error:
            raise ZooError(f"is {str(given)!r}, {getattr(error, 'strerror', None) or error}") from None
    if isinstance(given, bytes):
        try:
            return image_files.decode_image(given)
        except ValueError as error:
            raise ZooError(str(error)) from None
    if isinstance(given, np.ndarray):
        squeezed = given[..., 0] if given.ndim == 3 and given.shape[-1] == 1 else given
        if (
            given.dtype != np.uint8
            or squeezed.ndim not in (2, 3)
            or not squeezed.size
            or squeezed.shape[2:] not in ((), (3,), (4,))
        ):
            raise ZooError(f"is an array {given.shape} of {given.dtype}, expected (height, width[, 3]) of uint8")
        return image.fromarray(np.ascontiguousarray(squeezed))
    raise ZooError(f"is {'None' if given is None else type(given).__name__}, expected an image")


def _net() -> Any:
    """The class of what `Images.module` is; made late, so that torch stays out of `zoo check`."""
    from zoo.vision import resnet

    return resnet.Scaled


def _width(module: torch.nn.Module, size: int, channels: int) -> int:
    with encoding.evaluating(module), torch.inference_mode():
        found = module(torch.zeros(1, channels, size, size))
    if found.ndim != 2:
        raise ZooError(f"the backbone puts out {tuple(found.shape)} for an image, expected one vector")
    return found.shape[1]
