"""Latent-quantized autoencoders: codes whose dimensions mean one thing each, learned without labels from images or vectors.

Source: Hsu et al., "Disentanglement via Latent Quantization", arXiv 2305.18378. The quantisers are in `quantizers`, the
measure, InfoMEC, in `zoo.metrics.disentanglement`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from zoo.artefact import preflight, tensors
from zoo.core.errors import ArtefactError, ZooError
from zoo.core.lazy import lazy
from zoo.encoder import TrainingRun
from zoo.families.latent_quantized import autoencoder
from zoo.families.latent_quantized.spec import Spec
from zoo.schema import Training

if TYPE_CHECKING:
    import numpy as np
    import torch
    from datasets import Dataset

    from zoo.families.latent_quantized import baselines, card_samples, inputs, networks, quantizers
else:
    np, torch = lazy("numpy"), lazy("torch")
    baselines, inputs, networks = (
        lazy("zoo.families.latent_quantized.baselines"),
        lazy("zoo.families.latent_quantized.inputs"),
        lazy("zoo.families.latent_quantized.networks"),
    )
    card_samples, quantizers = (
        lazy("zoo.families.latent_quantized.card_samples"),
        lazy("zoo.families.latent_quantized.quantizers"),
    )


class Encoder(autoencoder.Autoencoder):
    """An autoencoder as a family: its training and its files. What it gives is in `autoencoder`."""

    spec: Spec

    def __init__(self, spec: Spec, components: int | None = None) -> None:
        super().__init__(spec, components)
        self._facts: dict[str, Any] = {}

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

    def train(self, run: TrainingRun) -> float:
        """Train under the shared Trainer; then the baselines that the recipe asks for. Raises ZooError where there are no
        validation rows to compare them on."""
        if self.spec.baselines and run.validation is None:
            raise ZooError("encoder.baselines: all are measured on validation rows: give `validation`")
        train: Any = inputs.Rows(run.rows, self._kind)
        held: Any = None if run.validation is None else inputs.Rows(run.validation, self._kind)
        seconds = super().train(replace(run, rows=train, validation=held))
        self._range(train)
        del train  # the baselines decode the rows for themselves
        if run.validation is not None and self.spec.sources:
            self._facts |= baselines.compared(self, run.rows, run.validation, run.settings, run.folder / "baselines")
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
        if isinstance(self.between, quantizers.Gaussian):
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
        self._facts |= card_samples.facts(self, rows)

    # -- artefact --------------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """model.safetensors: both networks and the codebook."""
        from safetensors.torch import save_file

        save_file(tensors.extract(self.module), folder / "model.safetensors", metadata={"format": "pt"})

    @classmethod
    def load(cls, spec: Spec, folder: Path, config: Mapping[str, Any]) -> Self:
        """Open what `save` wrote; every tensor must be there, of the shape that spec and config tell, and finite."""
        components, seed = config.get("components"), config.get("seed")
        if type(seed) is not int or not 0 <= seed < 2**32:
            raise ArtefactError(f"{folder / 'config.json'}: seed: {str(seed)[:20]}")
        if spec.modality == "vector" and (type(components) is not int or not 0 < components <= preflight.INTEGER):
            raise ArtefactError(f"{folder / 'config.json'}: vectors of {str(components)[:20]} components")
        with torch.device("meta"):  # shapes without memory
            shapes = tensors.get_shapes(networks.autoencoder(spec, components))
        preflight.check_shapes(folder, shapes)
        with torch.random.fork_rng(devices=[]):
            encoder = cls(spec, components)
        tensors.fill(encoder.module, tensors.read(folder), folder)
        encoder.seed = seed
        facts = config.get("facts")
        encoder._facts = {k: facts[k] for k in card_samples.KEPT if k in facts} if isinstance(facts, dict) else {}
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
