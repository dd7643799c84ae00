"""The encoder of latent-quantized autoencoders: its training and its files.

Source: Hsu et al., "Disentanglement via Latent Quantization", arXiv 2305.18378. The quantisers are in `quantizers`, the
measure, InfoMEC, in `zoo.metrics.disentanglement`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from safetensors.torch import save_file

from zoo.artefact import preflight, tensors
from zoo.core.errors import ArtefactError, ZooError
from zoo.core.findings import Finding
from zoo.data.split import draw_positions
from zoo.encoder import TrainingRun
from zoo.families.latent_quantized import baselines, card_samples, linear_start, networks, quantizers
from zoo.families.latent_quantized.autoencoder import Autoencoder
from zoo.families.latent_quantized.inputs import TrainingInputs
from zoo.families.latent_quantized.spec import Spec
from zoo.metrics.disentanglement import find_active_latents
from zoo.ops.random_state import step_generator
from zoo.schema import Training

if TYPE_CHECKING:
    from datasets import Dataset

MAX_CHECKED = 2048  # inputs in which latents that never change are looked for
MIN_CHECKED = 10  # fewer inputs say nothing
RANGE_ROWS = 2048  # training rows from which the range of each latent, and errors of reconstruction, are computed
COMPARES_KEY = "compares_values"
"""The entry of config.json of models that started at principal components. Earlier versions did not write it."""
MIN_GAIN = 0.01  # by which training must lower the error of its own rows; less is likely to be lost on others


class Encoder(Autoencoder):
    """The family's encoder. `Autoencoder` encodes and decodes; this class trains, saves and loads."""

    spec: Spec

    def __init__(self, spec: Spec, components: int | None = None) -> None:
        super().__init__(spec, components)
        self._facts: dict[str, Any] = {}
        self._settings: dict[str, Any] = {}  # what was chosen for the fields that the recipe leaves open

    @classmethod
    def build(cls, spec: Spec, *, seed: int = 42, folder: Path = Path()) -> Self:
        """Networks with fresh weights. For vectors `prepare` builds them, because it sees the number of components."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            # A model folder holds the layers, which any version can read, instead of `auto`.
            encoder = cls(spec.model_copy(update={"network": spec.layers}) if spec.network == "auto" else spec)
        encoder.seed, encoder.folder = seed, folder
        if spec.network == "auto" and spec.modality == "image":
            chosen = spec.layers.model_dump(mode="json")
            encoder._settings = {f"encoder.network.{name}": value for name, value in chosen.items()}
        return encoder

    def prepare(self, rows: Dataset, cache: Path) -> None:
        """For vectors: build the networks, and record the mean and the spread by which inputs are standardised."""
        if self.spec.modality != "vector":
            return
        vectors = np.asarray(rows["vector"], dtype=np.float32)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self._build_networks(vectors.shape[1])
        self._get_buffer("mean").copy_(torch.from_numpy(vectors.mean(0)))
        self._get_buffer("scale").fill_(max(float(vectors.std(0).mean()), 1e-6))
        if self.spec.starts_linear:
            mean, scale = (self._get_buffer(name).numpy() for name in ("mean", "scale"))
            linear_start.initialise(self.module, (vectors - mean) / scale)
            self._settings["encoder.network.dense"] = []
            self.compares_values = self.spec.latent == "quantized"

    # -- training --------------------------------------------------------------------------------------------------

    def train(self, run: TrainingRun) -> float:
        """Train with the shared trainer, then train and measure the baselines of the recipe.

        Returns seconds. Raises ZooError if there are baselines but no validation rows to compare them on.
        """
        if self.spec.baselines and run.validation is None:
            raise ZooError("encoder.baselines: all are measured on validation rows: set `validation` in the recipe")
        if "training.epochs" in self.chosen:
            self._settings["training.epochs"] = self.chosen["training.epochs"]
        input_format = self._require_input_format()
        rows: Any = TrainingInputs(run.rows, input_format)
        validation: Any = None if run.validation is None else TrainingInputs(run.validation, input_format)
        start = copy.deepcopy(self.module.state_dict()) if self.spec.starts_linear else None
        seconds = super().train(replace(run, rows=rows, validation=validation))
        if start is not None:
            self._keep_better(start, run)
        self._record_ranges(rows)
        del rows, validation  # free their memory, because every baseline decodes the rows for itself
        if run.validation is not None and self.spec.sources and not run.finish:
            self._facts |= baselines.compare_with_baselines(
                self, run.rows, run.validation, run.settings, run.folder / "baselines"
            )
        return seconds

    def _keep_better(self, start: Mapping[str, torch.Tensor], run: TrainingRun) -> None:
        """Go back to the tensors `start` unless training has lowered the error of some training rows by MIN_GAIN."""
        vectors = np.asarray(run.rows.select(draw_positions(len(run.rows), min(len(run.rows), RANGE_ROWS)))["vector"])
        trained, errors = copy.deepcopy(self.module.state_dict()), []
        for state in (start, trained):
            self.module.load_state_dict(state)
            errors.append(float(np.square(vectors - self.reconstruct(list(vectors))).mean()))
        is_better = errors[1] < (1 - MIN_GAIN) * errors[0]
        if not is_better:
            self.module.load_state_dict(start)
        if run.say:
            outcome = "training is kept" if is_better else "the principal components that it started from are kept"
            run.say(f"error of reconstruction before training {errors[0]:.4g}, after {errors[1]:.4g}: {outcome}")

    def parameter_groups(self, training: Training) -> list[dict[str, Any]]:
        """Two groups: weights, which decay; biases, gains of norms and codebooks, which do not."""
        decayed: list[torch.nn.Parameter] = []
        not_decayed: list[torch.nn.Parameter] = []
        for name, parameter in self.module.named_parameters():
            if parameter.requires_grad:
                is_weight = parameter.ndim > 1 and not name.startswith("latent.")
                (decayed if is_weight else not_decayed).append(parameter)
        return [{"params": decayed}, {"params": not_decayed, "weight_decay": 0.0}]

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """{"inputs": (n, …)}: uint8 pixels, or float32 vectors."""
        return {"inputs": torch.stack([row["input"] for row in rows])}

    def loss(self, batch: dict[str, Any]) -> torch.Tensor:
        """Reconstruction error plus the weighted terms of the latents (section 3).

        The error is the mean binary cross-entropy over pixels, or the mean squared error over the components of vectors. The
        KL divergence is divided by the number of pixels, so that β weighs nats against nats.
        """
        if isinstance(self.bottleneck, quantizers.Gaussian):
            self.bottleneck.generator = step_generator(self.seed, self.step)
        target = self._normalise(batch["inputs"])
        outputs = self.module["encoder"](target)
        with torch.autocast(outputs.device.type, enabled=False):
            latent: quantizers.Latent = self.bottleneck(outputs.float())
        reconstruction = self.module["decoder"](latent.decoder_input)
        with torch.autocast(outputs.device.type, enabled=False):
            if self.spec.modality == "image":
                loss = torch.nn.functional.binary_cross_entropy_with_logits(reconstruction.float(), target)
            else:
                loss = torch.nn.functional.mse_loss(reconstruction.float(), target)
            if latent.codebook_loss is not None and latent.commitment_loss is not None:
                codebook_weight, commitment_weight = self.loss_weights
                loss = loss + codebook_weight * latent.codebook_loss + commitment_weight * latent.commitment_loss
            if latent.kl is not None:
                loss = loss + self.spec.beta * latent.kl.mean() / target[0].numel()
        return loss

    @property
    def loss_weights(self) -> tuple[float, float]:
        """Weights of the codebook loss and of the commitment loss."""
        codebook_weight, commitment_weight = (1.0, 0.25) if self.spec.latent == "vector" else (0.01, 0.01)
        if self.spec.codebook_weight is not None:
            codebook_weight = self.spec.codebook_weight
        if self.spec.commitment_weight is not None:
            commitment_weight = self.spec.commitment_weight
        return codebook_weight, commitment_weight

    def _record_ranges(self, rows: TrainingInputs) -> None:
        """Record the 1st and the 99th percentile of each latent without indices; traversals run between them."""
        if self.spec.discrete:
            return
        places = np.linspace(0, len(rows) - 1, min(len(rows), RANGE_ROWS)).astype(int)
        latents = self._compute_latents(torch.stack([rows[int(place)]["input"] for place in places]))
        low, high = torch.quantile(latents, torch.tensor([0.01, 0.99]), dim=0)
        self._get_buffer("low").copy_(low)
        self._get_buffer("high").copy_(high)

    def finish(self, rows: Dataset) -> None:
        """Compute what the card shows: a traversal, reconstructions, and how often each value is used."""
        self._facts |= card_samples.collect_facts(self, rows)

    def find_faults(self, rows: Dataset) -> list[Finding]:
        """Latents that are the same for all inputs."""
        sample = rows.select(draw_positions(len(rows), min(len(rows), MAX_CHECKED)))
        if len(sample) < MIN_CHECKED:
            return []
        is_active = find_active_latents(self.encode(list(sample[self.spec.modality])), self.spec.discrete)
        active, total = int(is_active.sum()), len(is_active)
        if active == total:
            return []
        message = f"{active} of {total} latents differ between {len(sample)} inputs"
        advice = "raise `training.epochs`, or choose another `encoder.network`"
        return [Finding("warning" if active else "dead", message, advice)]

    # -- model folder ----------------------------------------------------------------------------------------------

    def write_weights(self, folder: Path) -> None:
        """Write model.safetensors: both networks, the codebook, and the buffers of `networks.build_autoencoder`."""
        save_file(tensors.extract(self.module), folder / "model.safetensors", metadata={"format": "pt"})

    @classmethod
    def load(cls, spec: Spec, folder: Path, config: Mapping[str, Any]) -> Self:
        """Open what `write_weights` wrote.

        Raises ArtefactError if a tensor is missing, extra, not finite, or not of the shape that `spec` and `config` give.
        """
        components, seed = config.get("components"), config.get("seed")
        if type(seed) is not int or not 0 <= seed < 2**32:
            raise ArtefactError(f"{folder / 'config.json'}: seed: must be an integer below 2**32, not {str(seed)[:20]}")
        if spec.modality == "vector" and (type(components) is not int or not 0 < components <= preflight.INTEGER):
            raise ArtefactError(
                f"{folder / 'config.json'}: components: must be an integer from 1 to {preflight.INTEGER}, "
                f"not {str(components)[:20]}"
            )
        with torch.device("meta"):  # gives the shapes without allocating memory
            shapes = tensors.get_shapes(networks.build_autoencoder(spec, components))
        preflight.check_shapes(folder, shapes)
        with torch.random.fork_rng(devices=[]):
            encoder = cls(spec, components)
        tensors.fill(encoder.module, tensors.read(folder), folder)
        encoder.seed = seed
        encoder.compares_values = spec.latent == "quantized" and config.get(COMPARES_KEY) is True
        facts = config.get("facts")
        if isinstance(facts, dict):
            encoder._facts = {name: facts[name] for name in card_samples.FACT_NAMES if name in facts}
            settings = facts.get("settings")
            encoder._settings = dict(settings) if isinstance(settings, dict) else {}
        encoder.module.eval()
        return encoder

    def extra_config(self) -> dict[str, Any]:
        """The seed, the number of components of a vector (None for images), and whether codes are compared by values."""
        compared = {COMPARES_KEY: True} if self.compares_values else {}
        return {"seed": self.seed, "components": getattr(self.input_format, "dim", None)} | compared

    def card_facts(self) -> dict[str, Any]:
        """Sizes, bits, and the facts of `card_samples` and `baselines`."""
        facts: dict[str, Any] = {
            "modality": self.spec.modality,
            "dim": self.spec.latents,
            "latent": self.spec.latent,
            "bits": self.bits_per_vector,
            "sizes": list(getattr(self.bottleneck, "sizes", ())),
            "shape": list(self._require_input_format().shape),
        }
        settings = dict(self._settings)
        if self.spec.discrete:
            names = ("encoder.codebook_weight", "encoder.commitment_weight")
            settings |= dict(zip(names, self.loss_weights, strict=True))
        return facts | self._facts | ({"settings": settings} if settings else {})
