"""An autoencoder in use: inputs to codes, codes to inputs, and what lies between two codes. A family that trains one derives from
`Autoencoder` and says how.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field

from zoo.core import hardware
from zoo.core.errors import ZooError
from zoo.core.lazy import lazy
from zoo.core.progress import show_progress_bar
from zoo.encoder import Encoder as BaseEncoder
from zoo.families.latent_quantized.autoencoder_spec import AutoencoderSpec
from zoo.ops.inference import evaluation_mode
from zoo.schema import Section

if TYPE_CHECKING:
    import numpy as np
    import torch

    from zoo.families.latent_quantized import codes, inputs, networks
else:
    np, torch, inputs = lazy("numpy"), lazy("torch"), lazy("zoo.families.latent_quantized.inputs")
    networks, codes = lazy("zoo.families.latent_quantized.networks"), lazy("zoo.families.latent_quantized.codes")

STEPS = 8  # of a traversal of a latent that is not quantised


class View(Section):
    """`values: true` gives the values that the indices stand for, float32."""

    values: bool = Field(False, description="Values in place of their indices.")


class Autoencoder(BaseEncoder):
    """Encodes images or vectors as indices (n, latents), uint8 or, above 256 values, uint16; as float32 with latent continuous
    or gaussian (the means), and in the view `values=True`.

    Attributes:
        kind: what inputs are, once it is known.
    """

    View = View
    module: torch.nn.ModuleDict
    spec: AutoencoderSpec

    def __init__(self, spec: AutoencoderSpec, components: int | None = None) -> None:
        super().__init__()
        self.spec = spec
        self.modalities = (spec.modality,)
        self.dim = spec.latents
        self.module = torch.nn.ModuleDict()
        self.kind: inputs.Images | inputs.VectorQuantizer | None = None
        if spec.modality == "image" or components:
            self._make(components)

    def _make(self, components: int | None) -> None:
        s = self.spec
        self.kind = (
            inputs.Images(s.channels, s.size) if s.modality == "image" else inputs.VectorQuantizer(components or 0)
        )
        self.module = networks.autoencoder(s, components)

    @property
    def between(self) -> Any:
        """The module between encoder and decoder, of `quantizers`."""
        return self.module["latent"]

    @classmethod
    def check_view(cls, spec: Any, view: Mapping[str, Any], folder: Path) -> str | None:
        """Values of latents that have no indices."""
        return None if spec.discrete or not view.get("values") else f"latent: {spec.latent} has values alone"

    def _scaled(self, given: torch.Tensor) -> torch.Tensor:
        if self.spec.modality == "image":
            return (given.float() / 255).contiguous(memory_format=torch.channels_last)
        return (given - self._buffer("mean")) / self._buffer("scale")

    def _buffer(self, name: str) -> torch.Tensor:
        return self.module.get_buffer(name)

    @property
    def _kind(self) -> inputs.Images | inputs.VectorQuantizer:
        if self.kind is None:
            raise ZooError("how many components a vector has is not known yet: the encoder has not seen any rows")
        return self.kind

    def encode(self, inputs: Iterable[Any], *, show_progress: bool = False, precision: str = "fp32") -> np.ndarray:
        """(n, latents) of PIL images, arrays (h, w[, 3]) of uint8, paths or file bytes; or of vectors (n, components)."""
        total = len(inputs) if isinstance(inputs, list | tuple) else None
        held = []
        with show_progress_bar(total, show_progress) as advance:
            for block in self.stream(inputs, precision=precision):
                held.append(block)
                advance(len(block))
        return np.concatenate(held)

    def stream(self, inputs: Iterable[Any], *, precision: str = "fp32") -> Iterator[np.ndarray]:
        """`encode` in blocks."""
        hardware.keep_large_blocks()
        blocks = self._blocks(inputs)
        dtype = hardware.resolve_precision(precision, self._device)
        for block in blocks:
            yield self._given_out(self._latent(block, dtype))

    def _blocks(self, given: Iterable[Any]) -> Iterator[torch.Tensor]:
        return inputs.blocks(self._kind, given)

    @property
    def _device(self) -> torch.device:
        return next(self.module.parameters()).device

    def _latent(self, block: torch.Tensor, dtype: Any = None) -> torch.Tensor:
        """(n, latents): places, int64, or values of latents that have none."""
        device = self._device
        if not len(block):  # which a norm of instances does not take
            return torch.empty(0, self.spec.latents, dtype=torch.int64 if self.spec.discrete else torch.float32)
        with evaluation_mode(self.module), torch.inference_mode():
            with torch.autocast(device.type, dtype=dtype, enabled=dtype not in (None, torch.float32)):
                given = self.module["encoder"](self._scaled(block.to(device)))
            found = given.float()
            if not torch.isfinite(found).all():
                raise ZooError("the encoder gives latents that are not finite: its weights are damaged")
            return (self.between.nearest(found) if self.spec.discrete else self.between.mean(found)).cpu().clone()

    def _given_out(self, found: torch.Tensor) -> np.ndarray:
        if not self.spec.discrete:
            return found.numpy()
        if self.view_options.get("values"):
            return self._values(found).numpy()
        return found.numpy().astype(self._dtype)

    @property
    def _dtype(self) -> Any:
        return np.uint8 if max(self.between.sizes) <= 256 else np.uint16

    def _values(self, codes: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return self.between.looked_up(codes.to(self._device)).float().cpu().clone()

    def decode(self, given: Any) -> np.ndarray:
        """Images (n, size, size[, 3]) uint8, or vectors (n, components) float32, of codes as `encode` gives them: integers
        (n, latents); or of values, floats, as the view `values=True` and latents without indices have them. Raises ZooError
        for another shape, and for an index that there is no value for."""
        given = np.asarray(given)
        if self.spec.discrete and given.dtype.kind in "iu":
            sizes = np.array(self.between.sizes)
            if given.ndim != 2 or given.shape[1] != len(sizes) or (given < 0).any() or (given >= sizes).any():
                raise ZooError(
                    f"codes are (n, {len(sizes)}) indices below {max(sizes)}, not {given.shape} of {given.dtype}"
                )
            values = self._values(torch.from_numpy(given.astype(np.int64)))
        else:
            if given.ndim != 2 or given.shape[1] != self.between.outputs or given.dtype.kind not in "iuf":
                raise ZooError(f"values are (n, {self.between.outputs}) numbers, not {given.shape} of {given.dtype}")
            values = torch.from_numpy(given.astype(np.float32))
        parts = [self._decoded(part) for part in values.split(inputs.BLOCK)]
        return np.concatenate(parts) if len(values) else self._decoded(values)

    def _decoded(self, values: torch.Tensor) -> np.ndarray:
        kind = self._kind
        with evaluation_mode(self.module), torch.inference_mode():
            out = (
                self.module["decoder"](values.to(self._device)).float() if len(values) else torch.empty(0, *kind.shape)
            )
            if isinstance(kind, inputs.Images):
                return kind.shown(out)
            return (out * self._buffer("scale") + self._buffer("mean")).cpu().numpy()

    def reconstruct(self, inputs: Iterable[Any]) -> np.ndarray:
        """What `decode` makes of the codes of `inputs`."""
        return self.decode(self.encode(inputs))

    def traverse(self, given: Any, latent: int, steps: int = STEPS) -> np.ndarray:
        """One input decoded with `latent` at each of its values in ascending order (of latents without indices, at `steps` even
        ones between the 1st and the 99th percentile of training inputs), the others as they are: (values, …) as `decode`.
        Raises ZooError for a latent that there is not."""
        if not 0 <= latent < self.spec.latents:
            raise ZooError(f"there is no latent {latent}; they are 0 to {self.spec.latents - 1}")
        low, high = (float(self._buffer(name)[latent]) for name in ("low", "high"))
        code = self.view().encode([given])[0]
        return self.decode(codes.traversed(self.between, code, latent, steps, low, high))

    def as_float_vectors(self, vectors: np.ndarray) -> np.ndarray:
        """Codes as -1 and 1, whose cosine falls with the steps (of vectors, the number of latents) between two of them."""
        return vectors if vectors.dtype.kind == "f" else codes.as_float_vectors(self.between, vectors)

    def view(self, **options: Any) -> Self:
        """`view(values=True)`: the values that the indices stand for; `view()`: the indices."""
        if set(options) - {"values"}:
            raise ZooError(f"latent-quantized has the view `values`, not {', '.join(sorted(options))}")
        if problem := self.check_view(self.spec, options, self.folder):
            raise ZooError(problem)
        view = copy.copy(self)
        view.view_options = {"values": True} if options.get("values") else {}
        view.dim = self.between.outputs if options.get("values") else self.spec.latents
        return view

    @property
    def bits_per_vector(self) -> float:
        """What a code can tell: the sum of log2 of the sizes; of latents without indices, their float32."""
        if not self.spec.discrete:
            return 32.0 * self.spec.latents
        return sum(math.log2(size) for size in self.between.sizes)

    @property
    def bytes_per_vector(self) -> int:
        """Of the indices as they are stored, or of float32."""
        if not self.spec.discrete or self.view_options.get("values"):
            return 4 * self.dim
        return self.dim * np.dtype(self._dtype).itemsize
