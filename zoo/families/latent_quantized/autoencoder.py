"""`Autoencoder`: inputs to codes, codes to inputs, and traversals of one latent. The family's `Encoder` adds the training."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

import numpy as np
import torch

from zoo.artefact import canaries
from zoo.core import hardware
from zoo.core.errors import ZooError
from zoo.core.progress import show_progress_bar
from zoo.encoder import Encoder as BaseEncoder
from zoo.families.latent_quantized import codes as code_operations
from zoo.families.latent_quantized import inputs as input_formats
from zoo.families.latent_quantized import networks
from zoo.families.latent_quantized.code_graph import CodeGraph
from zoo.families.latent_quantized.spec import Spec
from zoo.graph import Graph
from zoo.ops.inference import evaluation_mode

TRAVERSAL_STEPS = 8  # values of a latent without indices in a traversal


class Autoencoder(BaseEncoder):
    """Encodes images or vectors as codes (n, latents), and decodes them.

    Codes are uint8 indices, or uint16 indices if a latent has more than 256 values. Latents without indices, and the view
    `values=True`, give float32 instead; `latent: gaussian` gives its means.

    Attributes:
        input_format: the format of the inputs; None until the number of components of a vector is known.
        compares_values: whether two codes are as near to each other as their values, which are then principal components.
    """

    module: torch.nn.ModuleDict
    spec: Spec

    def __init__(self, spec: Spec, components: int | None = None) -> None:
        super().__init__()
        self.spec = spec
        self.dim = spec.latents
        self.module = torch.nn.ModuleDict()
        self.compares_values = False
        self.input_format: input_formats.InputFormat | None = None
        if spec.modality == "image" or components:
            self._build_networks(components)

    def _build_networks(self, components: int | None) -> None:
        if self.spec.modality == "image":
            self.input_format = input_formats.ImageInputs(self.spec.channels, self.spec.size)
        else:
            self.input_format = input_formats.VectorInputs(components or 0)
        self.module = networks.build_autoencoder(self.spec, components)

    @property
    def bottleneck(self) -> Any:
        """The module between encoder and decoder, one of `quantizers`."""
        return self.module["latent"]

    def _require_input_format(self) -> input_formats.InputFormat:
        if self.input_format is None:
            raise ZooError("the number of components of a vector is not known yet: train the encoder before you use it")
        return self.input_format

    def _normalise(self, block: torch.Tensor) -> torch.Tensor:
        """Turn raw inputs into the encoder network's inputs: pixels from 0 to 1, or standardised vectors."""
        if self.spec.modality == "image":
            return (block.float() / 255).contiguous(memory_format=torch.channels_last)
        return (block - self._get_buffer("mean")) / self._get_buffer("scale")

    def _get_buffer(self, name: str) -> torch.Tensor:
        return self.module.get_buffer(name)

    @property
    def _device(self) -> torch.device:
        return next(self.module.parameters()).device

    # -- encoding --------------------------------------------------------------------------------------------------

    def _encode(self, inputs: Iterable[Any], *, show_progress: bool = False, precision: str = "fp32") -> np.ndarray:
        """Codes (n, latents) of images or of vectors (n, components).

        An image is a PIL image, a uint8 array (h, w[, 3]), a path, or the bytes of a file. Raises ZooError for other inputs.
        """
        total = len(inputs) if isinstance(inputs, list | tuple) else None
        blocks = []
        with show_progress_bar(total, show_progress) as advance:
            for block in self._stream(inputs, precision=precision):
                blocks.append(block)
                advance(len(block))
        return np.concatenate(blocks)

    def _stream(self, inputs: Iterable[Any], *, precision: str = "fp32") -> Iterator[np.ndarray]:
        """Encode in blocks, in order. The memory does not grow with the length of `inputs`."""
        hardware.keep_large_blocks()
        blocks = self.read_blocks(inputs)
        dtype = hardware.resolve_precision(precision, self._device)
        for block in blocks:
            yield self._to_output(self._compute_latents(block, dtype))

    def make_probes(self) -> list[Any]:
        """Images, or vectors of as many components as the encoder takes."""
        if not isinstance(self.input_format, input_formats.VectorInputs):
            return super().make_probes()
        return list(np.random.default_rng(0).standard_normal((4, self.input_format.dim), dtype=np.float32))

    def make_canaries(self) -> list[canaries.Canary]:
        """Images, or vectors of as many components as the encoder takes."""
        if not isinstance(self.input_format, input_formats.VectorInputs):
            return super().make_canaries()
        return canaries.list_vectors(self.input_format.dim)

    def is_usable(self) -> bool:
        """Whether the number of components of a vector is known."""
        return self.input_format is not None

    def read_blocks(self, inputs: Iterable[Any]) -> Iterator[torch.Tensor]:
        """`inputs` as tensors (n, …) of raw pixels or of vectors. Raises ZooError as `encode` does."""
        return input_formats.read_blocks(self._require_input_format(), inputs)

    def _compute_latents(self, block: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
        """(n, latents) on the CPU: int64 indices, or float32 values of latents without indices."""
        device = self._device
        if not len(block):  # instance norm does not accept an empty batch
            return torch.empty(0, self.spec.latents, dtype=torch.int64 if self.spec.discrete else torch.float32)
        is_mixed_precision = dtype not in (None, torch.float32)
        with evaluation_mode(self.module), torch.inference_mode():
            with torch.autocast(device.type, dtype=dtype, enabled=is_mixed_precision):
                outputs = self.module["encoder"](self._normalise(block.to(device)))
            outputs = outputs.float()
            if not torch.isfinite(outputs).all():
                raise ZooError(
                    "the encoder gives latents that are not finite. Its weights are probably corrupted: download the model "
                    "again or retrain it"
                )
            compute = self.bottleneck.find_nearest if self.spec.discrete else self.bottleneck.take_mean
            latents: torch.Tensor = compute(outputs)
            return latents.cpu().clone()

    def _to_output(self, latents: torch.Tensor) -> np.ndarray:
        if not self.spec.discrete:
            return latents.numpy()
        if self.view_options.get("values"):
            return self._look_up_values(latents).numpy()
        return latents.numpy().astype(self._code_dtype)

    def make_graph(self) -> Graph:
        """The graph from raw inputs to codes, or to values in the view `values=True`."""
        input_format, is_image = self._require_input_format(), self.spec.modality == "image"
        looks_up = bool(self.view_options.get("values"))
        moments = [None if is_image else self._get_buffer(name) for name in ("mean", "scale")]
        module = CodeGraph(
            self.module["encoder"], self.bottleneck, *moments, is_discrete=self.spec.discrete, looks_up=looks_up
        )
        has_codes = self.spec.discrete and not looks_up
        return Graph(
            {"": module},
            modality=self.spec.modality,
            dtype=str(np.dtype(self._code_dtype)) if has_codes else "float32",
            similarity="codes" if has_codes else "cosine",
            normalizes=False,
            size=getattr(input_format, "size", 0),
            channels=getattr(input_format, "channels", 0),
            components=getattr(input_format, "dim", 0),
        )

    @property
    def _code_dtype(self) -> Any:
        return np.uint8 if max(self.bottleneck.sizes) <= 256 else np.uint16

    def _look_up_values(self, codes: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            values: torch.Tensor = self.bottleneck.look_up(codes.to(self._device))
            return values.float().cpu().clone()

    # -- decoding --------------------------------------------------------------------------------------------------

    def decode(self, codes: Any) -> np.ndarray:
        """Decode codes to images (n, size, size[, 3]) uint8, or to vectors (n, components) float32.

        Args:
            codes: integer indices (n, latents) from `encode`; or float values from latents without indices or from the view
                `values=True`.

        Raises ZooError for another shape, and for an index that has no value.
        """
        codes = np.asarray(codes)
        if self.spec.discrete and codes.dtype.kind in "iu":
            sizes = np.array(self.bottleneck.sizes)
            has_right_shape = codes.ndim == 2 and codes.shape[1] == len(sizes)
            if not has_right_shape or (codes < 0).any() or (codes >= sizes).any():
                raise ZooError(
                    f"codes must be (n, {len(sizes)}) indices below {max(sizes)}, not {codes.shape} of {codes.dtype}"
                )
            values = self._look_up_values(torch.from_numpy(codes.astype(np.int64)))
        else:
            width = self.bottleneck.output_dim
            if codes.ndim != 2 or codes.shape[1] != width or codes.dtype.kind not in "iuf":
                raise ZooError(f"values must be (n, {width}) numbers, not {codes.shape} of {codes.dtype}")
            values = torch.from_numpy(codes.astype(np.float32))
        if not len(values):
            return self._decode_block(values)
        starts = range(0, len(values), input_formats.BLOCK_SIZE)
        return np.concatenate([self._decode_block(values[i : i + input_formats.BLOCK_SIZE]) for i in starts])

    def _decode_block(self, values: torch.Tensor) -> np.ndarray:
        input_format = self._require_input_format()
        with evaluation_mode(self.module), torch.inference_mode():
            if len(values):
                outputs = self.module["decoder"](values.to(self._device)).float()
            else:  # instance norm does not accept an empty batch
                outputs = torch.empty(0, *input_format.shape)
            if isinstance(input_format, input_formats.ImageInputs):
                return input_format.to_images(outputs)
            vectors: np.ndarray = (outputs * self._get_buffer("scale") + self._get_buffer("mean")).cpu().numpy()
            return vectors

    def reconstruct(self, inputs: Iterable[Any]) -> np.ndarray:
        """Encode `inputs` and decode the codes."""
        return self.decode(self.encode(inputs))

    def traverse(self, value: Any, latent: int, steps: int = TRAVERSAL_STEPS) -> np.ndarray:
        """Decode one input with `latent` at each of its values, the other latents unchanged: (values, …) as from `decode`.

        The values ascend. A latent without indices takes `steps` evenly spaced values between the 1st and the 99th percentile
        of the training rows. Raises ZooError if `latent` does not exist.
        """
        if not 0 <= latent < self.spec.latents:
            raise ZooError(f"there is no latent {latent}; they are 0 to {self.spec.latents - 1}")
        low, high = (float(self._get_buffer(name)[latent]) for name in ("low", "high"))
        code = self.view().encode([value])[0]
        return self.decode(code_operations.traverse_code(self.bottleneck, code, latent, steps, low, high))

    # -- comparisons, views, sizes ---------------------------------------------------------------------------------

    def as_float_vectors(self, vectors: np.ndarray) -> np.ndarray:
        """Codes as float32 vectors whose cosine falls with the distance of two codes.

        They are those of the view `values=True` with `compares_values`, and else of -1 and 1; see `codes`. Vectors that are
        float already stay as they are.
        """
        if vectors.dtype.kind == "f":
            return vectors
        if self.compares_values:
            return self._look_up_values(torch.from_numpy(vectors.astype(np.int64))).numpy()
        return code_operations.as_float_vectors(self.bottleneck, vectors)

    def _make_view(self, options: Mapping[str, Any]) -> Self:
        mistake = self.spec.find_view_mistake(options, self.folder)
        if mistake:
            raise ZooError(mistake)
        uses_values = bool(options.get("values"))
        view = copy.copy(self)
        view.view_options = {"values": True} if uses_values else {}
        is_built = self.input_format is not None  # networks of vectors are built later than their views are checked
        view.dim = self.bottleneck.output_dim if uses_values and is_built else self.spec.latents
        return view

    @property
    def bits_per_vector(self) -> float:
        """Information in one code: the sum of log2 of the latents' sizes. A latent without indices counts 32 bits."""
        if not self.spec.discrete:
            return 32.0 * self.spec.latents
        return sum(math.log2(size) for size in self.bottleneck.sizes)

    @property
    def bytes_per_vector(self) -> int:
        """Storage of one encoded vector in bytes: of its indices as integers, or of float32."""
        if not self.spec.discrete or self.view_options.get("values"):
            return 4 * self.dim
        return self.dim * int(np.dtype(self._code_dtype).itemsize)
