"""Latent-quantized autoencoders: codes whose dimensions mean one thing each, learned without labels from images or vectors.

Source: Hsu et al., "Disentanglement via Latent Quantization", arXiv 2305.18378. The quantisers are in `zoo.ops.latents`, the
measure, InfoMEC, in `zoo.evaluation.disentanglement`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from zoo import encoding, hardware, preflight, tensors
from zoo.errors import ArtefactError, ZooError
from zoo.families import base
from zoo.latents import latentpictures
from zoo.latents.spec import AutoencoderSpec
from zoo.lazy import lazy
from zoo.schema import Kind, Section, Training

if TYPE_CHECKING:
    import numpy as np
    import torch
    from datasets import Dataset

    from zoo.latents import baselines, codes, inputs, nets, samples
    from zoo.ops import latents
else:
    np, torch = lazy("numpy"), lazy("torch")
    baselines, inputs, nets = lazy("zoo.latents.baselines"), lazy("zoo.latents.inputs"), lazy("zoo.latents.nets")
    codes, samples, latents = lazy("zoo.latents.codes"), lazy("zoo.latents.samples"), lazy("zoo.ops.latents")

STEPS = 8  # of a traversal of a latent that is not quantised


class Spec(AutoencoderSpec):
    """`encoder:` of an autoencoder. The decay of the weights, which is unusually strong, stands under `training`; biases and
    codebooks have none."""

    family: Literal["latent-quantized"]


class View(Section):
    """`values: true` gives the values that the indices stand for, float32."""

    values: bool = False


class Encoder(base.Encoder):
    """Encodes images or vectors as indices (n, latents), uint8 or, above 256 values, uint16; as float32 with latent continuous
    or gaussian (the means), and in the view `values=True`."""

    View = View
    module: torch.nn.ModuleDict
    training = {"learning_rate": 1e-3, "weight_decay": 0.1, "batch_size": 128, "schedule": "constant", "warmup": 0.0}
    spec: Spec

    def __init__(self, spec: Spec, components: int | None = None) -> None:
        super().__init__()
        self.spec = spec
        self.modalities = (spec.modality,)
        self.dim = spec.latents
        self.module = torch.nn.ModuleDict()
        self.kind: inputs.Images | inputs.Vectors | None = None
        self._facts: dict[str, Any] = {}
        if spec.modality == "image" or components:
            self._make(components)

    def _make(self, components: int | None) -> None:
        s = self.spec
        self.kind = inputs.Images(s.channels, s.size) if s.modality == "image" else inputs.Vectors(components or 0)
        self.module = nets.autoencoder(s, components)

    @property
    def between(self) -> Any:
        """The module between encoder and decoder, of `zoo.ops.latents`."""
        return self.module["latent"]

    @classmethod
    def roles(cls, spec: Spec) -> tuple[dict[str, Kind], dict[str, Kind]]:
        """An image or a vector; and the sources, where there are baselines to compare."""
        kind: Kind = spec.modality
        return {kind: kind, **dict.fromkeys(spec.sources, "label")}, {}

    @classmethod
    def check_view(cls, spec: Spec, view: Mapping[str, Any], folder: Path) -> str | None:
        """Values of latents that have no indices."""
        return None if spec.discrete or not view.get("values") else f"latent: {spec.latent} has values alone"

    @classmethod
    def build(cls, spec: Spec, *, seed: int = 42, folder: Path = Path()) -> Self:
        """Fresh networks; those of vectors come with `prepare`, which sees how many components they have."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder = cls(spec)
        encoder.seed, encoder.folder = seed, folder
        return encoder

    def prepare(self, rows: Dataset, cache: Path) -> None:
        """Of vectors take the number of components, and mean and spread, so that they come in centred and of unit variance."""
        if self.spec.modality != "vector":
            return
        held = np.asarray(rows["vector"], dtype=np.float32)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self._make(held.shape[1])
        self._buffer("mean").copy_(torch.from_numpy(held.mean(0)))
        self._buffer("scale").fill_(max(float(held.std(0).mean()), 1e-6))

    # -- training --------------------------------------------------------------------------------------------------

    def fit(
        self,
        rows: Dataset,
        settings: Training,
        folder: Path,
        *,
        validation: Dataset | None = None,
        show_progress: bool = False,
    ) -> float:
        """Train under the shared Trainer; then the baselines that the recipe asks for. Raises ZooError where there are no
        validation rows to compare them on."""
        if self.spec.baselines and validation is None:
            raise ZooError("encoder.baselines: all are measured on validation rows: give `validation`")
        train: Any = inputs.Rows(rows, self._kind)
        held: Any = None if validation is None else inputs.Rows(validation, self._kind)
        seconds = super().fit(train, settings, folder, validation=held, show_progress=show_progress)
        self._range(train)
        if validation is not None and self.spec.sources:
            self._facts |= baselines.compared(self, rows, validation, settings, folder / "baselines")
        return seconds

    def parameter_groups(self, training: Training) -> list[dict[str, Any]]:
        """Weights decay; biases, gains of norms and codebooks do not."""
        named = [(n, p) for n, p in self.module.named_parameters() if p.requires_grad]
        decays = [p for n, p in named if p.ndim > 1 and not n.startswith("latent.")]
        others = [p for n, p in named if p.ndim <= 1 or n.startswith("latent.")]
        return [{"params": decays}, {"params": others, "weight_decay": 0.0}]

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """`inputs` (n, …): uint8 pixels, or float32 vectors."""
        return {"inputs": torch.stack([row["input"] for row in rows])}

    def loss(self, batch: dict[str, Any]) -> torch.Tensor:
        """Section 3: mean over pixels of the binary cross-entropy (over components of vectors, of the squared error), and the
        weighted terms of the latents. The KL divergence is divided by the pixels, so that β weighs nats against nats."""
        if isinstance(self.between, latents.Gaussian):
            self.between.draw = torch.Generator().manual_seed((self.seed + 1) * 1_000_003 + self.step)
        target = self._scaled(batch["inputs"])
        given = self.module["encoder"](target)
        with torch.autocast(given.device.type, enabled=False):
            middle = self.between(given.float())
        out = self.module["decoder"](middle.decoded)
        with torch.autocast(given.device.type, enabled=False):
            if self.spec.modality == "image":
                loss = torch.nn.functional.binary_cross_entropy_with_logits(out.float(), target)
            else:
                loss = torch.nn.functional.mse_loss(out.float(), target)
            if middle.codebook is not None:
                pull, commit = self.weights
                loss = loss + pull * middle.codebook + commit * middle.commitment
            if middle.kl is not None:
                loss = loss + self.spec.beta * middle.kl.mean() / target[0].numel()
        return loss

    @property
    def weights(self) -> tuple[float, float]:
        """Of the codebook's term, and of the commitment's."""
        s, usual = self.spec, (1.0, 0.25) if self.spec.latent == "vector" else (0.01, 0.01)
        return (
            usual[0] if s.codebook_weight is None else s.codebook_weight,
            usual[1] if s.commitment_weight is None else s.commitment_weight,
        )

    def _scaled(self, given: torch.Tensor) -> torch.Tensor:
        if self.spec.modality == "image":
            return (given.float() / 255).contiguous(memory_format=torch.channels_last)
        return (given - self._buffer("mean")) / self._buffer("scale")

    def _buffer(self, name: str) -> torch.Tensor:
        return self.module.get_buffer(name)

    @property
    def _kind(self) -> inputs.Images | inputs.Vectors:
        if self.kind is None:
            raise ZooError("how many components a vector has is not known yet: the encoder has not seen any rows")
        return self.kind

    def _range(self, rows: Any) -> None:
        """Between which values a latent that is not quantised lies, for traversals: the 1st and 99th percentile."""
        if self.spec.discrete:
            return
        some = np.linspace(0, len(rows) - 1, min(len(rows), 2048)).astype(int)
        found = self._latent(torch.stack([rows[int(place)]["input"] for place in some]))
        low, high = torch.quantile(found, torch.tensor([0.01, 0.99]), dim=0)
        self._buffer("low").copy_(low)
        self._buffer("high").copy_(high)

    def finish(self, rows: Dataset) -> None:
        """Keep what the card shows: a traversal, reconstructions, the values and how often each is taken."""
        self._facts |= samples.facts(self, rows)

    # -- use -------------------------------------------------------------------------------------------------------

    def encode(self, inputs: Iterable[Any], *, show_progress: bool = False, precision: str = "fp32") -> np.ndarray:
        """(n, latents) of PIL images, arrays (h, w[, 3]) of uint8, paths or file bytes; or of vectors (n, components)."""
        total = len(inputs) if isinstance(inputs, list | tuple) else None
        held = []
        with encoding.bar(total, show_progress) as advance:
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
        with encoding.evaluating(self.module), torch.inference_mode():
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
        with encoding.evaluating(self.module), torch.inference_mode():
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

    def comparable(self, vectors: np.ndarray) -> np.ndarray:
        """Codes as -1 and 1, whose cosine falls with the steps (of vectors, the number of latents) between two of them."""
        return vectors if vectors.dtype.kind == "f" else codes.comparable(self.between, vectors)

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

    # -- artefact --------------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """model.safetensors: both networks and the codebook."""
        from safetensors.torch import save_file

        save_file(tensors.plain(self.module), folder / "model.safetensors", metadata={"format": "pt"})

    @classmethod
    def load(cls, spec: Spec, folder: Path, config: Mapping[str, Any]) -> Self:
        """Open what `save` wrote; every tensor must be there, of the shape that spec and config tell, and finite."""
        components, seed = config.get("components"), config.get("seed")
        if type(seed) is not int or not 0 <= seed < 2**32:
            raise ArtefactError(f"{folder / 'config.json'}: seed: {str(seed)[:20]}")
        if spec.modality == "vector" and (type(components) is not int or not 0 < components <= preflight.INTEGER):
            raise ArtefactError(f"{folder / 'config.json'}: vectors of {str(components)[:20]} components")
        with torch.device("meta"):  # shapes without memory
            shapes = tensors.shapes(nets.autoencoder(spec, components))
        preflight.fits(folder, shapes)
        with torch.random.fork_rng(devices=[]):
            encoder = cls(spec, components)
        tensors.fill(encoder.module, tensors.read(folder), folder)
        encoder.seed = seed
        facts = config.get("facts")
        encoder._facts = {k: facts[k] for k in samples.KEPT if k in facts} if isinstance(facts, dict) else {}
        encoder.module.eval()
        return encoder

    def extra_config(self) -> dict[str, Any]:
        """Seed, and how many components a vector has."""
        return {"seed": self.seed, "components": getattr(self.kind, "dim", None)}

    def card_facts(self) -> dict[str, Any]:
        """Sizes, bits, and what the pictures show."""
        s = self.spec
        told: dict[str, Any] = {
            "modality": s.modality,
            "dim": s.latents,
            "latent": s.latent,
            "bits": self.bits_per_vector,
        }
        told |= {"sizes": list(getattr(self.between, "sizes", ())), "shape": list(self._kind.shape)}
        return told | self._facts


PICTURES = latentpictures.PICTURES
