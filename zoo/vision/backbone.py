"""An image backbone: the network from pixels to features, how it encodes images, and how it is saved."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from zoo.core import hardware
from zoo.core.errors import ZooError
from zoo.core.inputs import add_position_to_errors, iterate_inputs, read_in_windows
from zoo.core.progress import concatenate_with_progress
from zoo.ops.inference import check_finite, evaluation_mode
from zoo.vision import resnet
from zoo.vision.preprocessing import load_pixels

Array = np.ndarray[Any, Any]

BLOCK = 128  # images encoded together


class ImageBackbone:
    """An image backbone.

    Attributes:
        module: from pixels (n, channels, side, side), uint8 or float of 0 to 255, to features (n, width) float.
        size, channels: side in pixels and channels of the images that `module` takes; every image is converted to them.
        width: components of a feature vector.
        name, revision: the pretrained model that it starts from, if any.
    """

    modality = "image"

    def __init__(
        self, module: torch.nn.Module, size: int, channels: int, name: str | None = None, revision: str = ""
    ) -> None:
        self.module, self.size, self.channels = module, size, channels
        self.name, self.revision = name, revision
        self.width = _measure_width(module, size, channels)

    @property
    def max_length(self) -> None:
        """None, because images have no limit of tokens."""
        return None

    def batch(self, inputs: Sequence[Any]) -> dict[str, torch.Tensor]:
        """Return {"pixels": (n, channels, size, size) uint8}.

        `inputs` are images in any form that `encode` takes, or tensors of such pixels.
        """
        images = [
            image if isinstance(image, torch.Tensor) else torch.from_numpy(self.pixels(image)) for image in inputs
        ]
        return {"pixels": torch.stack(images)}

    def pixels(self, image: Any) -> Array:
        """Return an image as (channels, size, size) uint8. Raise ZooError if it is not an image."""
        return load_pixels(image, self.size, self.channels)

    def features(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Compute the features (n, width) of a batch."""
        features: torch.Tensor = self.module(batch["pixels"])
        return features

    def learn_scale(self, pixels: torch.Tensor) -> None:
        """Set mean and standard deviation of each channel from training images (n, channels, side, side) uint8.

        A pretrained backbone keeps its own.
        """
        if self.name is None and isinstance(self.module, resnet.NormalizedInput):
            values = pixels.float() / 255
            self.module.mean.copy_(values.mean((0, 2, 3)).view_as(self.module.mean))
            self.module.std.copy_(values.std((0, 2, 3)).clamp(min=1e-3).view_as(self.module.std))

    def stream(
        self, project: torch.nn.Module, dim: int, inputs: Iterable[Any], precision: str = "fp32"
    ) -> Iterator[Array]:
        """Yield unit vectors (n, dim) float32 in blocks of at most BLOCK rows; one empty block for no input.

        Args:
            project: from features (n, width) to (n, dim).
            inputs: PIL images, uint8 arrays, paths, or the bytes of image files.

        Raises ZooError for a single image, for an input that is not an image, with its position, and for vectors that are
        not finite.
        """
        hardware.keep_large_blocks()
        images = iterate_inputs(inputs, "image", (str, bytes, Path))
        device = next(self.module.parameters()).device
        dtype = hardware.resolve_precision(precision, device)
        start = 0
        for window in read_in_windows(images, BLOCK):
            pixels = []
            for i, image in enumerate(window):
                with add_position_to_errors(start + i):
                    pixels.append(self.pixels(image))
            start += len(window)
            yield self._encode_pixels(project, dim, pixels, device, dtype)

    def _encode_pixels(
        self, project: torch.nn.Module, dim: int, pixels: list[Array], device: torch.device, dtype: torch.dtype
    ) -> Array:
        if not pixels:
            return np.empty((0, dim), dtype=np.float32)
        with evaluation_mode(self.module), torch.inference_mode():
            batch = torch.from_numpy(np.stack(pixels)).to(device)
            with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
                features = self.module(batch)
            vectors: Array = torch.nn.functional.normalize(project(features.float()), dim=-1).cpu().numpy()
        check_finite(vectors)
        return vectors

    def encode(
        self,
        project: torch.nn.Module,
        dim: int,
        inputs: Iterable[Any],
        *,
        show_progress: bool = False,
        precision: str = "fp32",
    ) -> Array:
        """Return the blocks of `stream` as one array (n, dim)."""
        return concatenate_with_progress(self.stream(project, dim, inputs, precision), inputs, show_progress)

    # -- model folder --------------------------------------------------------------------------------------------------

    def save(self, folder: Path, project: torch.nn.Module, dim: int) -> None:
        """Write model.safetensors with the tensors of the backbone and of `project`.

        A transformers model also writes its config.json.
        """
        body: Any = getattr(self.module, "body", None)
        if hasattr(body, "config"):
            config = body.config.to_dict() | {"architectures": [type(body).__name__]}
            (folder / "config.json").write_text(json.dumps(config, indent=2, default=str) + "\n", encoding="utf-8")
        tensors = {f"backbone.{name}": tensor for name, tensor in self.module.state_dict().items()}
        tensors |= {f"project.{name}": tensor for name, tensor in project.state_dict().items()}
        save_file(
            {name: tensor.contiguous().cpu() for name, tensor in tensors.items()},
            folder / "model.safetensors",
            metadata={"format": "pt"},
        )

    def state(self) -> dict[str, Any]:
        """Return what loading needs besides spec and tensors."""
        return {"size": self.size, "channels": self.channels}


def _measure_width(module: torch.nn.Module, size: int, channels: int) -> int:
    with evaluation_mode(module), torch.inference_mode():
        features: torch.Tensor = module(torch.zeros(1, channels, size, size))
    if features.ndim != 2:
        raise ZooError(f"the backbone returns {tuple(features.shape)} for one image, expected (1, width)")
    return features.shape[1]
