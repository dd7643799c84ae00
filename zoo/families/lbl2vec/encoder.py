"""Lbl2Vec: documents by topic from a few keywords a topic, without one labelled document.

Source: Schopf et al., "Lbl2Vec: An Embedding-Based Approach for Unsupervised Document Retrieval on Predefined Topics",
arXiv 2210.06023. Where the paper leaves a size to the user, the default follows the corpus: for a label speak the documents most
similar to its keywords, as many as half a label's even share of the corpus. A label is where their mean and that of its keywords
point together, which tells topics apart better than the documents alone, the paper's choice (`keyword_weight: 0`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from zoo.artefact import preflight, tensors
from zoo.core.errors import ArtefactError, ZooError
from zoo.core.inputs import check_texts
from zoo.core.lazy import lazy
from zoo.encoder import Encoder as BaseEncoder
from zoo.families.lbl2vec import keyword_coverage, topic_map, topics
from zoo.schema import EncoderSpec, Kind, Positive, Training
from zoo.text import backbone as backbones
from zoo.text import engine as encoding
from zoo.text import model_references, sentence_transformers_format
from zoo.text.truncatable import TruncatableEncoder, TruncatableSpec

if TYPE_CHECKING:
    import numpy as np
    import torch
    from datasets import Dataset

    from zoo.families.lbl2vec import word_space
    from zoo.families.lbl2vec.word_space import WordSpace
    from zoo.paragraph_vectors.model import Settings
else:
    np, torch, word_space = lazy("numpy"), lazy("torch"), lazy("zoo.families.lbl2vec.word_space")

FILE = "topics.safetensors"
SHOWN = 160  # characters of an example document


class Spec(EncoderSpec):
    """`encoder:` of an Lbl2Vec model."""

    family: Literal["lbl2vec"]
    labels: dict[str, tuple[str, ...]] = Field(description="Keywords by label.")
    backbone: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="A sentence encoder of documents and keywords: Hub id, folder, or package:NAME. By default documents and "
        "words are learned from the texts alone.",
    )
    revision: str | None = None
    dim: Positive | None = Field(None, description="Without a backbone: components of a vector; 200 by default.")
    window: Positive | None = Field(None, description="Without a backbone: most words to each side; 10 by default.")
    min_count: Positive | None = Field(
        None,
        description="Without a backbone: rarer words are left out; by default 2 to 5, and more only in a very large corpus.",
    )
    similarity_threshold: Annotated[float, Field(ge=-1, le=1)] | None = Field(
        None, description="Cosine to the keywords from which a document speaks for a label; by default any."
    )
    min_num_docs: Positive = Field(10, description="Documents that speak for a label at least, whatever the threshold.")
    num_docs: Positive | None = Field(None, description="And at most; by default half of a label's even share.")
    keyword_weight: Annotated[float, Field(ge=0)] = Field(
        1.0,
        description="What the mean of the keywords counts beside that of the documents; 0: the label is the latter.",
    )
    clean_outliers: bool = Field(True, description="Leave out those that local outlier factor finds.")
    none_below: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="Confidence below which `classify` answers None."
    )
    examples: Annotated[int, Field(ge=0, le=10)] = Field(
        3, description="Training documents a label whose beginning the card shows; 0 publishes none."
    )

    @field_validator("labels", mode="before")
    @classmethod
    def _tuples(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {str(k): tuple(words) if isinstance(words, list) else words for k, words in value.items()}

    @field_validator("labels")
    @classmethod
    def _usable(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        if len(value) < 2:
            raise ValueError("it takes two labels")
        for label, words in value.items():
            if not label.strip() or not words or not all(word.strip() for word in words):
                raise ValueError(f"label {label!r} needs a name and at least one keyword, none of them empty")
        return value

    @model_validator(mode="after")
    def _one_source(self) -> Spec:
        learned = [name for name in ("dim", "window", "min_count") if getattr(self, name) is not None]
        if self.backbone and learned:
            raise ValueError(f"{learned[0]} belongs to vectors learned from the texts: leave it or `backbone` out")
        if self.revision and not self.backbone:
            raise ValueError("`revision` is that of a backbone, and there is none")
        return self


@dataclass(frozen=True)
class Prediction:
    """What `classify` says of one document: `label` is None below `none_below`; `confidence` by label sums to 1."""

    label: str | None
    confidence: dict[str, float]


class Encoder(BaseEncoder):
    """Documents and labels in one space. A text that is exactly the name of a label is encoded as that label, so that
    retrieval by topic and zero-shot classification need nothing else.

    Attributes:
        labels: (labels, d) float32 of unit norm, in the order of the recipe.
    """

    uses_validation = False
    training = {"learning_rate": 0.025}
    spec: Spec

    def __init__(self, spec: Spec, inner: TruncatableEncoder | WordSpace, labels: np.ndarray | None = None) -> None:
        super().__init__()
        self.spec, self.inner = spec, inner
        self.dim = inner.dim
        if isinstance(inner, TruncatableEncoder):
            self.backbone_name, self.backbone_revision = inner.backbone_name, inner.backbone_revision
        self.labels = labels if labels is not None else np.zeros((len(spec.labels), self.dim), dtype=np.float32)
        self._facts: dict[str, Any] = {}

    @classmethod
    def roles(cls, spec: Spec) -> tuple[dict[str, Kind], dict[str, Kind]]:
        """Texts, nothing else."""
        return {"text": "text"}, {}

    @classmethod
    def check(cls, spec: Spec, folder: Path) -> list[tuple[tuple[str | int, ...], str]]:
        """A backbone that is not there."""
        try:
            model_references.locate(spec.backbone or "", folder)
        except ZooError as error:
            return [(("backbone",), str(error))]
        return []

    @classmethod
    def build(cls, spec: Spec, *, seed: int = 42, folder: Path = Path()) -> Self:
        """The backbone as it comes, or a space that `fit` fills; the labels get their place in `finish`."""
        if spec.backbone:
            body = backbones.load(spec.backbone, revision=spec.revision, folder=folder)
            encoder = cls(spec, TruncatableEncoder(_plain(spec), body))
        else:
            encoder = cls(spec, word_space.WordSpace(_settings(spec, Training(seed=seed))))
        encoder.seed, encoder.folder = seed, folder
        return encoder

    @property
    def module(self) -> torch.nn.Module:  # type: ignore[override]
        """That of the space, which training replaces."""
        return self.inner.module

    def fit(
        self,
        rows: Dataset,
        settings: Training,
        folder: Path,
        *,
        validation: Dataset | None = None,
        show_progress: bool = False,
    ) -> float:
        """Learn documents and words; of `settings` count epochs, learning_rate, seed and checkpoint_every (in blocks of about
        a million words). A sentence encoder is taken as it is. Raises ZooError, before any step, for a label without any
        known keyword."""
        self.without_validation(validation)
        if isinstance(self.inner, TruncatableEncoder):
            return 0.0
        labels = self.spec.labels
        self.inner = word_space.WordSpace(_settings(self.spec, settings))
        return self.inner.fit(
            rows["text"],
            min_count=self.spec.min_count,
            epochs=settings.epochs,
            check=lambda known: keyword_coverage.check(labels, keyword_coverage.of(labels, known)),
            folder=folder,
            checkpoint_every=settings.checkpoint_every,
            show_progress=show_progress,
        )

    def finish(self, rows: Dataset) -> None:
        """Give every label its place by the documents that stand for it (sections 3.2 and 3.3), and by its keywords."""
        texts = list(rows["text"])
        if isinstance(self.inner, TruncatableEncoder):
            documents = self.inner.encode(texts, precision="fp32")
            keywords = {
                label: self.inner.encode(list(given), precision="fp32") for label, given in self.spec.labels.items()
            }
        else:
            documents = self.inner.trained(texts)
            keywords = {label: self.inner.words(given) for label, given in self.spec.labels.items()}
        self.place(texts, documents, keywords)

    def place(self, texts: Sequence[str], documents: np.ndarray, keywords: Mapping[str, np.ndarray]) -> None:
        """Label vectors from (n, d) unit vectors of `texts` and the (k, d) vectors of each label's keywords."""
        spec = self.spec
        most = spec.num_docs or max(spec.min_num_docs, len(documents) // (2 * len(keywords)))
        chosen = []
        for given in keywords.values():
            near = topics.nearest(
                documents, given, threshold=spec.similarity_threshold, least=spec.min_num_docs, most=most
            )
            chosen.append(near[topics.without_outliers(documents[near])] if spec.clean_outliers else near)
        means = topics.unit(np.stack([documents[near].mean(0) for near in chosen]))
        words = topics.unit(np.stack([given.mean(0) for given in keywords.values()]))
        self.labels = topics.unit(means + spec.keyword_weight * words).astype(np.float32)
        known = None if isinstance(self.inner, TruncatableEncoder) else self.inner.vocabulary
        missing = keyword_coverage.of(spec.labels, known) if known else {}
        self._facts = {
            "topics": [
                {
                    "label": label,
                    "keywords": list(spec.labels[label]),
                    "missing": missing.get(label, {}),
                    "documents": len(near),
                    "examples": [" ".join(texts[i].split())[:SHOWN] for i in near[: spec.examples]],
                }
                for label, near in zip(keywords, chosen, strict=True)
            ],
            "map": topic_map.layout(documents, self.labels, self.seed),
        }

    # -- use -------------------------------------------------------------------------------------------------------

    @property
    def names(self) -> list[str]:
        """The labels, in the order of `labels`."""
        return list(self.spec.labels)

    def encode(self, inputs: Iterable[Any], *, show_progress: bool = False, precision: str = "fp32") -> np.ndarray:
        """Texts to (n, d) float32 of unit norm, in order; the name of a label to its vector; without a backbone a text that has
        no known word to zeros."""
        texts = list(check_texts(inputs))
        return self._named(texts, self.inner.encode(texts, show_progress=show_progress, precision=precision))

    def _named(self, texts: Sequence[str], vectors: np.ndarray) -> np.ndarray:
        place = {name: i for i, name in enumerate(self.names)}
        for row, text in enumerate(texts):
            if text in place:
                vectors[row] = self.labels[place[text]]
        return vectors

    def stream(self, inputs: Iterable[Any], *, precision: str = "fp32") -> Iterator[np.ndarray]:
        """`encode` in pieces, in order."""
        source = iter(inputs)
        block = list(islice(source, encoding.WINDOW))
        while True:
            yield self.encode(block, precision=precision)
            block = list(islice(source, encoding.WINDOW))
            if not block:
                return

    def baseline(self) -> BaseEncoder | None:
        """The sentence encoder alone, for which a label is no more than its name; None without one."""
        return self.inner if isinstance(self.inner, TruncatableEncoder) else None

    def similarities(self, texts: Iterable[str]) -> np.ndarray:
        """Cosines (n, labels) of documents and labels."""
        return self.inner.encode(list(texts)) @ self.labels.T

    def classify(self, texts: Iterable[str]) -> list[Prediction]:
        """The topic of each document, seen in training or not."""
        scores = topics.confidence(self.similarities(texts))
        return [
            Prediction(
                self.names[row.argmax()] if row.max() >= self.spec.none_below else None,
                dict(zip(self.names, map(float, row), strict=True)),
            )
            for row in scores
        ]

    def documents(self, label: str, texts: Sequence[str], top: int = 10) -> list[tuple[int, float]]:
        """Positions and confidences of the documents nearest to a label, the best first. Raises ZooError for a label that
        there is not."""
        if label not in self.spec.labels:
            raise ZooError(f"there is no label {label!r}; there are: {', '.join(self.names)}")
        scores = topics.confidence(self.similarities(texts))[:, self.names.index(label)]
        return [(int(i), float(scores[i])) for i in np.argsort(-scores, kind="stable")[:top]]

    # -- artefact --------------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """The backbone as stock sentence-transformers modules, or words and their vectors; the labels beside it."""
        from safetensors.torch import save_file

        if isinstance(self.inner, TruncatableEncoder):
            sentence_transformers_format.write(folder, self.inner.backbone, {}, self.dim)
        else:
            self.inner.save(folder)
        save_file({"labels": torch.from_numpy(self.labels.copy())}, folder / FILE, metadata={"format": "pt"})

    @classmethod
    def load(cls, spec: Spec, folder: Path, config: Mapping[str, Any]) -> Self:
        """Open what `save` wrote."""
        inner: TruncatableEncoder | WordSpace
        if spec.backbone:
            inner = TruncatableEncoder(_plain(spec), backbones.load_from_model_folder(folder, spec.backbone))
        else:
            shape = preflight.header(folder / FILE).get("labels", ())
            dim = spec.dim or (shape[1] if len(shape) == 2 else None)  # of then, whatever is the default now
            settings = word_space.settings(dim, spec.window, Training())
            inner = word_space.WordSpace.load(folder, settings, config.get("space") or {})
        found = tensors.read(folder, FILE.split(".")[0])
        shape = (len(spec.labels), inner.dim)
        if set(found) != {"labels"} or tuple(found["labels"].shape) != shape or not found["labels"].isfinite().all():
            raise ArtefactError(f"{folder / FILE}: must hold `labels` of shape {shape} and finite values, nothing else")
        encoder = cls(spec, inner, found["labels"].float().numpy())
        encoder._facts = {k: v for k, v in config.get("facts", {}).items() if k in ("topics", "map")}
        return encoder

    def extra_config(self) -> dict[str, Any]:
        """Without a backbone: what inference repeats of the training."""
        return {} if isinstance(self.inner, TruncatableEncoder) else {"space": self.inner.state()}

    def card_facts(self) -> dict[str, Any]:
        """Keywords, documents and examples by label, and the map."""
        shape: dict[str, Any] = {"dim": self.dim}
        if isinstance(self.inner, TruncatableEncoder):
            shape["max_length"] = self.inner.backbone.max_length
        elif self.inner.model.state:
            shape |= {"words": len(self.inner.vocabulary), "epochs": self.inner.model.settings.epochs}
        return {**shape, **self._facts}


def _plain(spec: Spec) -> TruncatableSpec:
    return TruncatableSpec(family="lbl2vec", backbone=spec.backbone or "", revision=spec.revision)


def _settings(spec: Spec, training: Training) -> Settings:
    return word_space.settings(spec.dim, spec.window, training)


PICTURES = {"topics": topic_map.picture}
