"""Lbl2Vec: documents by topic from a few keywords a topic, without one labelled document.

Source: Schopf et al., "Lbl2Vec: An Embedding-Based Approach for Unsupervised Document Retrieval on Predefined Topics",
arXiv 2210.06023. Where the paper leaves a size to the user, the default follows the corpus: a label is the mean of the
documents most similar to its keywords, as many as half a label's even share of the corpus.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, field_validator

from zoo import backbone as backbones
from zoo import encoding, references, stock, tensors
from zoo.cuttable import Cuttable, CuttableSpec
from zoo.errors import ArtefactError, ZooError
from zoo.families import base
from zoo.lazy import lazy
from zoo.ops import topics
from zoo.schema import EncoderSpec, Kind, Positive, Training

if TYPE_CHECKING:
    import numpy as np
    import torch
    from datasets import Dataset
    from matplotlib.figure import Figure

    from zoo.record import Record
else:
    np, torch = lazy("numpy"), lazy("torch")

FILE = "topics.safetensors"
SHOWN, MAPPED = 160, 400  # characters of an example document; documents on the map


class Spec(EncoderSpec):
    """`encoder:` of an Lbl2Vec model."""

    family: Literal["lbl2vec"]
    labels: dict[str, tuple[str, ...]] = Field(description="Keywords by label.")
    backbone: Annotated[str, Field(min_length=1)] = Field(
        description="The sentence encoder of documents and keywords: Hub id, folder, or package:NAME."
    )
    revision: str | None = None
    similarity_threshold: Annotated[float, Field(ge=-1, le=1)] | None = Field(
        None, description="Cosine to the keywords from which a document speaks for a label; by default any."
    )
    min_num_docs: Positive = Field(10, description="Documents that speak for a label at least, whatever the threshold.")
    num_docs: Positive | None = Field(None, description="And at most; by default half of a label's even share.")
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


@dataclass(frozen=True)
class Answer:
    """What `classify` says of one document: `label` is None below `none_below`; `confidence` by label sums to 1."""

    label: str | None
    confidence: dict[str, float]


class Encoder(base.Encoder):
    """Documents and labels in one space. A text that is exactly the name of a label is encoded as that label, so that
    retrieval by topic and zero-shot classification need nothing else.

    Attributes:
        labels: (labels, d) float32 of unit norm, in the order of the recipe.
    """

    validates = False
    spec: Spec

    def __init__(self, spec: Spec, inner: Cuttable, labels: np.ndarray | None = None) -> None:
        super().__init__()
        self.spec, self.inner = spec, inner
        self.module, self.dim = inner.module, inner.dim
        self.base, self.base_revision = inner.base, inner.base_revision
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
            references.locate(spec.backbone, folder)
        except ZooError as error:
            return [(("backbone",), str(error))]
        return []

    @classmethod
    def build(cls, spec: Spec, *, seed: int = 42, folder: Path = Path()) -> Self:
        """The backbone as it comes; the labels get their place in `finish`."""
        body = backbones.load(spec.backbone, revision=spec.revision, folder=folder)
        encoder = cls(spec, Cuttable(_plain(spec), body))
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
        """A sentence encoder is taken as it is."""
        self.without_validation(validation)
        return 0.0

    def finish(self, rows: Dataset) -> None:
        """Give every label the mean of the documents that stand for it (sections 3.2 and 3.3)."""
        texts = list(rows["text"])
        documents = self.inner.encode(texts, precision="fp32")
        self.place(texts, documents, {k: self.inner.encode(list(words)) for k, words in self.spec.labels.items()})

    def place(self, texts: Sequence[str], documents: np.ndarray, keywords: Mapping[str, np.ndarray]) -> None:
        """Label vectors from (n, d) unit vectors of `texts` and the (k, d) vectors of each label's keywords."""
        spec = self.spec
        most = spec.num_docs or max(spec.min_num_docs, len(documents) // (2 * len(keywords)))
        chosen = []
        for words in keywords.values():
            near = topics.nearest(
                documents, words, threshold=spec.similarity_threshold, least=spec.min_num_docs, most=most
            )
            chosen.append(near[topics.without_outliers(documents[near])] if spec.clean_outliers else near)
        self.labels = topics.unit(np.stack([documents[near].mean(0) for near in chosen])).astype(np.float32)
        self._facts = {
            "topics": [
                {
                    "label": label,
                    "keywords": list(spec.labels[label]),
                    "documents": len(near),
                    "examples": [" ".join(texts[i].split())[:SHOWN] for i in near[: spec.examples]],
                }
                for label, near in zip(keywords, chosen, strict=True)
            ],
            "map": self._map(documents),
        }

    def _map(self, documents: np.ndarray) -> dict[str, Any]:
        """Some documents and all labels in two dimensions, neighbours kept together (t-SNE), for the card's picture."""
        from sklearn.manifold import TSNE

        drawn = np.sort(np.random.default_rng(self.seed).permutation(len(documents))[:MAPPED])
        every = np.concatenate([documents[drawn], self.labels])
        perplexity = min(30.0, (len(every) - 1) / 3)
        flat = TSNE(metric="cosine", init="random", perplexity=perplexity, random_state=self.seed).fit_transform(every)
        nearest = (documents[drawn] @ self.labels.T).argmax(1)
        points = (flat / np.abs(flat).max()).round(3).astype(float).tolist()
        return {
            "documents": [[*xy, int(k)] for xy, k in zip(points, nearest, strict=False)],
            "labels": points[len(drawn) :],
        }

    # -- use -------------------------------------------------------------------------------------------------------

    @property
    def names(self) -> list[str]:
        """The labels, in the order of `labels`."""
        return list(self.spec.labels)

    def encode(self, inputs: Iterable[Any], *, show_progress: bool = False, precision: str = "auto") -> np.ndarray:
        """Texts to (n, d) float32 of unit norm, in order; the name of a label to its vector."""
        texts = list(inputs) if isinstance(inputs, Iterable) and not isinstance(inputs, str | bytes) else inputs
        vectors = self.inner.encode(texts, show_progress=show_progress, precision=precision)
        return self._named(texts, vectors)  # type: ignore[arg-type]

    def _named(self, texts: Sequence[str], vectors: np.ndarray) -> np.ndarray:
        place = {name: i for i, name in enumerate(self.names)}
        for row, text in enumerate(texts):
            if text in place:
                vectors[row] = self.labels[place[text]]
        return vectors

    def stream(self, inputs: Iterable[Any], *, precision: str = "auto") -> Iterator[np.ndarray]:
        """`encode` in pieces, in order."""
        source = iter(inputs)
        block = list(islice(source, encoding.WINDOW))
        while True:
            yield self.encode(block, precision=precision)
            block = list(islice(source, encoding.WINDOW))
            if not block:
                return

    def baseline(self) -> base.Encoder:
        """The sentence encoder alone, for which a label is no more than its name."""
        return self.inner

    def similarities(self, texts: Iterable[str]) -> np.ndarray:
        """Cosines (n, labels) of documents and labels."""
        return self.inner.encode(list(texts)) @ self.labels.T

    def classify(self, texts: Iterable[str]) -> list[Answer]:
        """The topic of each document, seen in training or not."""
        scores = topics.confidence(self.similarities(texts))
        return [
            Answer(
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
        """The backbone as stock sentence-transformers modules; the labels beside it."""
        from safetensors.torch import save_file

        stock.write(folder, self.inner.backbone, {}, self.dim)
        save_file({"labels": torch.from_numpy(self.labels.copy())}, folder / FILE, metadata={"format": "pt"})

    @classmethod
    def load(cls, spec: Spec, folder: Path, config: Mapping[str, Any]) -> Self:
        """Open what `save` wrote."""
        body = backbones.read(folder, spec.backbone)
        found = tensors.read(folder, FILE.split(".")[0])
        shape = (len(spec.labels), body.width)
        if set(found) != {"labels"} or tuple(found["labels"].shape) != shape or not found["labels"].isfinite().all():
            raise ArtefactError(f"{folder / FILE}: must hold `labels` of shape {shape} and finite values, nothing else")
        encoder = cls(spec, Cuttable(_plain(spec), body), found["labels"].float().numpy())
        encoder._facts = {k: v for k, v in config.get("facts", {}).items() if k in ("topics", "map")}
        return encoder

    def card_facts(self) -> dict[str, Any]:
        """Keywords, documents and examples by label, and the map."""
        return {"dim": self.dim, "max_length": self.inner.backbone.max_length, **self._facts}


def _plain(spec: Spec) -> CuttableSpec:
    return CuttableSpec(family="lbl2vec", backbone=spec.backbone, revision=spec.revision)


def topic_map(about: Record) -> Figure | None:
    """Documents and labels in two dimensions; None where the folder has no map."""
    from matplotlib import colormaps

    from zoo import plots

    drawn, labels = about.facts.get("map"), about.facts.get("topics")
    if not drawn or not labels:
        return None
    figure = plots.new_figure(5.2)
    axes = figure.subplots()
    colours = colormaps["tab10" if len(labels) <= 10 else "tab20"].colors  # type: ignore[attr-defined]
    for k, (entry, colour) in enumerate(zip(labels, cycle(colours), strict=False)):
        own = [p for p in drawn["documents"] if p[2] == k]
        axes.scatter([p[0] for p in own], [p[1] for p in own], s=9, color=colour, alpha=0.5, linewidths=0)
        x, y = drawn["labels"][k]
        name = plots.short(entry["label"], 40)
        axes.scatter(
            [x], [y], s=170, color=colour, edgecolors=plots.INK, linewidths=0.7, zorder=3, label=f"{k + 1}  {name}"
        )
        axes.annotate(str(k + 1), (x, y), ha="center", va="center", fontsize=7, fontweight="bold", zorder=4)
    axes.set(xticks=[], yticks=[])
    axes.set_title("Documents near one another, and where the topics are among them", fontweight="bold", fontsize=10)
    figure.legend(loc="outside right upper", frameon=False, fontsize=7.5, markerscale=0.5)
    return figure


PICTURES = {"topics": topic_map}
