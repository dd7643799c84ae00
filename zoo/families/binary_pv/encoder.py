"""Binary paragraph vectors: short codes of documents, learned from raw text alone and compared by Hamming distance.

Source: Grzegorczyk and Kurdziel, "Binary Paragraph Vectors", arXiv 1611.01116. The training is in `zoo.paragraph_vectors.model`.

As in the paper, a code is the rounded sigmoid of a document's vector and learns to predict the words of the document; the
gradient passes the rounding as if it were not there, and an unseen text gets its code by the same steps with the words frozen.
Unlike the paper, words are predicted against noise and not by a sampled softmax; word vectors are trained beside the documents;
and codes do not start at random but near the means of their words, drawn towards the training texts around them
(`zoo.paragraph_vectors.code_layer`). The real part of real-binary is the vector that its code starts from.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from zoo.artefact import preflight, tensors
from zoo.core.errors import ZooError
from zoo.core.inputs import check_texts
from zoo.core.lazy import lazy
from zoo.encoder import Encoder as BaseEncoder
from zoo.schema import EncoderSpec, Kind, Positive, Section, Training

if TYPE_CHECKING:
    import numpy as np
    import torch
    from datasets import Dataset

    from zoo.ops import codes
    from zoo.paragraph_vectors import model as paragraph_model
    from zoo.paragraph_vectors import vocabulary

    Ranking = tuple[np.ndarray, np.ndarray]
else:
    np, torch = lazy("numpy"), lazy("torch")
    paragraph_model, vocabulary = lazy("zoo.paragraph_vectors.model"), lazy("zoo.paragraph_vectors.vocabulary")
    codes = lazy("zoo.ops.codes")

EPOCHS = 20  # where the recipe says nothing
CODE_EPOCHS = 0.1  # as many more, for the codes
TOGETHER = 1000  # texts whose vectors are found in the same gradient steps


class Spec(EncoderSpec):
    """`encoder:` of a binary paragraph vector model. Of `training:` it reads epochs (whole), learning_rate, seed and
    checkpoint_every (in blocks of about a million words)."""

    family: Literal["binary-pv"]
    variant: Literal["dbow", "dm", "real-binary"] = Field(
        default="dbow",
        description="dbow or dm, as documents are learned; real-binary: dbow that keeps the real vector of a code.",
    )
    bits: Positive = Field(default=128, description="Length of the code.")
    dim: Positive | None = Field(
        default=None,
        description="Components of the vectors that codes start from, at least as many as bits; by default 300, or "
        "as many as bits.",
    )
    window: Positive = Field(default=20, description="Most words to each side.")
    negatives: Positive = Field(default=5, description="Noise words of a predicted word.")
    sample: Annotated[float, Field(ge=0, lt=1)] = Field(default=1e-4, description="Subsampling threshold; 0: none.")
    min_count: Positive = Field(default=2, description="Rarer words are left out.")
    max_words: Positive | None = Field(default=None, description="Keep only the most frequent words.")
    inference_epochs: Annotated[int, Field(gt=0, le=preflight.EPOCHS)] | None = Field(
        default=None, description="Passes over a text for its code; by default as in training."
    )

    @model_validator(mode="after")
    def _enough(self) -> Spec:
        if self.width < self.bits:
            raise ValueError(f"{self.bits} bits need vectors of as many components, `dim` is {self.width}")
        return self

    @property
    def width(self) -> int:
        """`dim`, or what stands for it."""
        return self.dim or max(self.bits, 300)


class View(Section):
    """`real: true` gives the real vectors of variant real-binary, compared by cosine."""

    real: bool = Field(False, description="Real vectors in place of codes.")


class Encoder(BaseEncoder):
    """Encodes texts as packed codes, (n, ceil(bits / 8)) uint8; `view(real=True)` as (n, dim) float32 of unit length."""

    View = View
    similarity = "hamming"
    uses_validation = False
    training = {"learning_rate": 0.025}
    spec: Spec

    def __init__(self, spec: Spec, model: paragraph_model.Paragraphs) -> None:
        super().__init__()
        self.spec, self.model = spec, model
        self.dim = spec.bits
        self.module = torch.nn.Module()

    @classmethod
    def roles(cls, spec: Spec) -> tuple[dict[str, Kind], dict[str, Kind]]:
        """Raw text, nothing else."""
        return {"text": "text"}, {}

    @classmethod
    def check_view(cls, spec: Spec, view: Mapping[str, Any], folder: Path) -> str | None:
        """The real part of a model that has none."""
        return (
            "only variant: real-binary has a real part" if view.get("real") and spec.variant != "real-binary" else None
        )

    @classmethod
    def build(cls, spec: Spec, *, seed: int = 42, folder: Path = Path()) -> Self:
        """Nothing is pretrained: vocabulary and tensors come with `fit`."""
        encoder = cls(spec, paragraph_model.Paragraphs(_settings(spec, Training(seed=seed))))
        encoder.seed, encoder.folder = seed, folder
        return encoder

    def fit(
        self,
        rows: Dataset,
        settings: Training,
        folder: Path,
        *,
        validation: Dataset | None = None,
        show_progress: bool = False,
    ) -> float:
        """Train in place on the column `text`; returns seconds, those before an interruption included."""
        self.without_validation(validation)
        self.model = paragraph_model.Paragraphs(_settings(self.spec, settings))
        self.model.fit(
            rows["text"], folder=folder, checkpoint_every=settings.checkpoint_every, show_progress=show_progress
        )
        self._hold()
        return self.model.seconds

    def _hold(self) -> None:
        """The tensors that encode: everything but the training documents' own vectors."""
        self.module = torch.nn.Module()
        for name, tensor in self.model.state.items():
            if not name.endswith("documents"):
                self.module.register_buffer(name, tensor)

    def encode(
        self, inputs: Iterable[Any], *, show_progress: bool = False, precision: str = "fp32", real: bool = False
    ) -> np.ndarray:
        """Codes (or with `real` or of the real view, vectors) in the order of `inputs`. A text without a known word has the
        code of zeros, and a zero vector. Raises ZooError for a bare string and for an input that is not a string."""
        found = self.view(real=True) if real else self
        return np.concatenate(list(found.stream(inputs, precision=precision)))

    def rank(
        self, queries: Sequence[str], documents: Sequence[str], *, top: int = 10, candidates: int = 100
    ) -> Ranking:
        """For each of q queries the `top` documents by cosine of the real vectors, among the `candidates` that are nearest by
        Hamming distance (arXiv 1611.01116, section 2.2): their places and cosines, (q, top) each, the best first. Raises
        ZooError for a model without a real part."""
        real, top = self.view(real=True), min(top, candidates, len(documents))
        own = self.view()
        near = codes.compute_hamming_distances(own.encode(queries), own.encode(documents))
        near = np.argsort(near, axis=1, kind="stable")[:, : min(candidates, len(documents))]
        vectors = real.encode(documents)
        cosines = np.einsum("qcd,qd->qc", vectors[near], real.encode(queries))
        best = np.argsort(-cosines, axis=1, kind="stable")[:, :top]
        return np.take_along_axis(near, best, 1), np.take_along_axis(cosines, best, 1)

    def stream(self, inputs: Iterable[Any], *, precision: str = "fp32") -> Iterator[np.ndarray]:
        """`encode` by a thousand texts at a time; one empty block for no input."""
        for some in _batches(check_texts(inputs)):
            options: dict[str, Any] = {"epochs": self.spec.inference_epochs, "batch": TOGETHER}
            yield (
                self.model.infer_codes(some, **options)
                if self.similarity == "hamming"
                else self.model.infer(some, batch=TOGETHER)
            )

    def view(self, **options: Any) -> Self:
        """`view(real=True)`: the real vectors; `view()`: the codes."""
        if set(options) - {"real"}:
            raise ZooError(f"binary paragraph vectors have the view `real`, not {', '.join(sorted(options))}")
        real = bool(options.get("real"))
        if problem := self.check_view(self.spec, options, self.folder):
            raise ZooError(problem)
        view = copy.copy(self)
        view.view_options = {"real": True} if real else {}
        view.similarity = "cosine" if real else "hamming"  # type: ignore[misc]
        view.dim = self.spec.width if real else self.spec.bits
        return view

    @property
    def bytes_per_vector(self) -> int:
        """Packed bits, or float32."""
        return -(-self.dim // 8) if self.similarity == "hamming" else self.dim * 4

    def save(self, folder: Path) -> None:
        """model.safetensors and vocabulary.json. Raises ZooError before training."""
        from safetensors.torch import save_file

        if not self.model.state:
            raise ZooError("the encoder has not been trained: there is nothing to save")
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in self.module.state_dict().items()}
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        self.model.vocabulary.save(folder / "vocabulary.json")

    @classmethod
    def load(cls, spec: Spec, folder: Path, config: Mapping[str, Any]) -> Self:
        """Open what `save` wrote; every tensor must be there, fit the vocabulary and be finite, and none be left over."""
        found = preflight.repeated(folder, config.get("training"))
        encoder = cls.build(spec, seed=int(found.get("seed", 42)))
        anchors, training = int(found.get("anchors", 0)), {k: v for k, v in found.items() if k != "anchors"}
        encoder.model = paragraph_model.Paragraphs(replace(_settings(spec, Training(**training)), anchors=anchors))
        encoder.model.vocabulary = vocabulary.Vocabulary.load(folder / "vocabulary.json")
        preflight.fits(folder, encoder.model.shapes())
        encoder.model.shell()
        encoder._hold()
        tensors.fill(encoder.module, tensors.read(folder), folder)
        return encoder

    def extra_config(self) -> dict[str, Any]:
        """What inference repeats of the training."""
        s = self.model.settings
        kept = ("epochs", "learning_rate", "seed", "anchors")
        return {"training": {name: getattr(s, name) for name in kept}}

    def card_facts(self) -> dict[str, Any]:
        """Bits, real components and vocabulary, for the card."""
        s = self.model.settings
        shape = {"bits": s.bits, "real": s.dim, "words": len(self.model.vocabulary), "anchors": s.anchors}
        return {**shape, "variant": self.spec.variant}


def _settings(spec: Spec, training: Training) -> paragraph_model.Settings:
    return paragraph_model.Settings(
        dim=spec.width,
        bits=spec.bits,
        mode="dm" if spec.variant == "dm" else "dbow",
        words=spec.variant != "dm",
        window=spec.window,
        negatives=spec.negatives,
        sample=spec.sample,
        min_count=spec.min_count,
        max_words=spec.max_words,
        epochs=max(1, round(training.epochs or EPOCHS)),
        code_epochs=max(1, round((training.epochs or EPOCHS) * CODE_EPOCHS)),
        learning_rate=training.learning_rate,
        last_learning_rate=min(1e-4, training.learning_rate),
        seed=training.seed,
    )


def _batches(texts: Iterator[str]) -> Iterator[list[str]]:
    some = list(islice(texts, TOGETHER))
    while True:
        yield some
        if not (some := list(islice(texts, TOGETHER))):
            return
