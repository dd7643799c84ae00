"""The encoder of Lbl2Vec: documents by topic from a few keywords for each topic, without a single labelled document.

Source: Schopf et al., "Lbl2Vec: An Embedding-Based Approach for Unsupervised Document Retrieval on Predefined Topics",
arXiv 2210.06023.

If the paper leaves a number to the user, the default follows the corpus: the documents most similar to a label's keywords stand
for the label, as many as half of its even share of the corpus. A label vector is the normalised sum of the mean of these
documents and the mean of the keywords. That separates topics better than the documents alone, the paper's choice
(`keyword_weight: 0`).

Unlike the paper, keywords that occur in a text also count directly if documents are learned from the texts alone: the vector of
the text is moved towards their labels (`keyword_counts`). In short texts a keyword says more than a vector of few words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from safetensors.torch import save_file

from zoo.artefact import headers, preflight, tensors
from zoo.core.errors import ArtefactError, ZooError
from zoo.core.findings import Finding, find_unused_labels
from zoo.core.inputs import check_texts
from zoo.data.split import draw_positions
from zoo.encoder import Encoder as BaseEncoder
from zoo.encoder import TrainingRun
from zoo.families.lbl2vec import keyword_counts, keyword_coverage, label_graph, topic_map, topics, word_space
from zoo.families.lbl2vec import prediction as predictions
from zoo.families.lbl2vec.prediction import Prediction
from zoo.families.lbl2vec.spec import Spec
from zoo.families.lbl2vec.word_space import WordSpace
from zoo.graph import Graph
from zoo.label_geometry import LabelMetric
from zoo.paragraph_vectors.vocabulary import tokenise
from zoo.schema import Training
from zoo.text import backbone as backbones
from zoo.text import engine as encoding
from zoo.text import sentence_transformers_format
from zoo.text.truncatable import TruncatableEncoder

if TYPE_CHECKING:
    from datasets import Dataset

    from zoo.paragraph_vectors.model import Settings

LABEL_STEM = "topics"
LABEL_FILE = f"{LABEL_STEM}.safetensors"
EXAMPLE_LENGTH = 160  # characters of an example document
MAX_CHECKED, MIN_CHECKED = (
    2000,
    20,
)  # texts in which never predicted labels are looked for, and texts a label that this takes
FACT_NAMES = ("topics", "map")


class Encoder(BaseEncoder):
    """Documents and labels in one space.

    A text that equals the name of a label is encoded as that label. Retrieval by topic and zero-shot classification then work
    as with any other encoder.

    Attributes:
        text_encoder: encodes the documents: a sentence encoder, or a word space that training replaces.
        label_vectors: (labels, d) float32 of unit norm, in the order of the recipe.
        keyword_evidence: how much keywords that occur in a text move its vector towards their labels.
    """

    spec: Spec
    finish_trains = True

    def __init__(
        self, spec: Spec, text_encoder: TruncatableEncoder | WordSpace, label_vectors: np.ndarray | None = None
    ) -> None:
        super().__init__()
        self.spec, self.text_encoder = spec, text_encoder
        self.dim = text_encoder.dim
        if isinstance(text_encoder, TruncatableEncoder):
            self.backbone_name, self.backbone_revision = text_encoder.backbone_name, text_encoder.backbone_revision
        if label_vectors is None:
            label_vectors = np.zeros((len(spec.labels), self.dim), dtype=np.float32)
        self.label_vectors = label_vectors
        self.keyword_evidence = spec.keyword_evidence or 0.0
        self._facts: dict[str, Any] = {}

    @classmethod
    def build(cls, spec: Spec, *, seed: int = 42, folder: Path = Path()) -> Self:
        """The untrained backbone, or an empty word space that `fit` fills; `finish` computes the label vectors."""
        text_encoder: TruncatableEncoder | WordSpace
        if spec.backbone:
            backbone = backbones.load(spec.backbone, revision=spec.revision, folder=folder)
            text_encoder = TruncatableEncoder(spec.as_sentence_encoder(), backbone)
        else:
            text_encoder = word_space.WordSpace(_make_settings(spec, Training(seed=seed)))
        encoder = cls(spec, text_encoder)
        encoder.seed, encoder.folder = seed, folder
        return encoder

    @property
    def module(self) -> torch.nn.Module:  # type: ignore[override]
        """The module of `text_encoder`."""
        return self.text_encoder.module

    @property
    def device(self) -> torch.device:
        """The device that encodes. Asking for it opens no backbone."""
        return self.text_encoder.device if isinstance(self.text_encoder, TruncatableEncoder) else super().device

    # -- training --------------------------------------------------------------------------------------------------

    def train(self, run: TrainingRun) -> float:
        """Learn vectors of documents and words from the column `text`; a sentence encoder is not trained.

        Reads `epochs`, `learning_rate`, `seed` and `checkpoint_every` (in blocks of about a million words) from `training:`.
        Returns seconds. Raises ZooError, before any step, if no keyword of a label is known.
        """
        if isinstance(self.text_encoder, TruncatableEncoder):
            return 0.0
        labels = self.spec.labels
        if self.spec.keyword_evidence is None:
            self.keyword_evidence = word_space.choose_keyword_evidence(len(run.rows))
        if run.say and self.keyword_evidence:
            run.say(f"keywords that occur in a text count {self.keyword_evidence:g} times their share of its words")
        self.text_encoder = word_space.WordSpace(_make_settings(self.spec, run.settings))
        return self.text_encoder.fit(
            run.rows["text"],
            min_count=self.spec.min_count,
            epochs=run.settings.fixed_epochs,
            keep={word for words in labels.values() for keyword in words for word in tokenise(keyword)},
            check=lambda known: keyword_coverage.check_keywords(
                labels, keyword_coverage.find_missing_keywords(labels, known), run.say
            ),
            folder=run.folder,
            checkpoint_every=run.settings.checkpoint_every,
            show_progress=run.show_progress,
            say=run.say,
            finish=run.finish,
        )

    def finish(self, rows: Dataset) -> None:
        """Compute every label vector from the documents that stand for it (sections 3.2 and 3.3) and from its keywords."""
        texts = list(rows["text"])
        keywords: dict[str, np.ndarray] = {}
        if isinstance(self.text_encoder, TruncatableEncoder):
            documents = self.text_encoder.encode(texts, precision="fp32")
            for label, words in self.spec.labels.items():
                keywords[label] = self.text_encoder.encode(list(words), precision="fp32")
        else:
            documents = self.text_encoder.encode_training_texts(texts)
            for label, words in self.spec.labels.items():
                keywords[label] = self.text_encoder.encode_keywords(words)
        self._place_labels(texts, documents, keywords)

    def _place_labels(self, texts: Sequence[str], documents: np.ndarray, keywords: Mapping[str, np.ndarray]) -> None:
        """Set `label_vectors`, and the facts of the card.

        Args:
            documents: (n, d) unit vectors of `texts`.
            keywords: (k, d) unit vectors of each label's keywords.
        """
        places = [self._select_documents(documents, vectors) for vectors in keywords.values()]
        document_means = topics.normalise(np.stack([documents[nearest].mean(0) for nearest in places]))
        keyword_means = topics.normalise(np.stack([vectors.mean(0) for vectors in keywords.values()]))
        label_vectors = topics.normalise(document_means + self.spec.keyword_weight * keyword_means)
        self.label_vectors = label_vectors.astype(np.float32)
        self._facts = {
            "topics": self._describe_topics(texts, places),
            "map": topic_map.compute_layout(documents, self.label_vectors, self.seed),
        }

    def _select_documents(self, documents: np.ndarray, keywords: np.ndarray) -> np.ndarray:
        """Positions of the documents that stand for the label with these keywords, the most similar first."""
        spec = self.spec
        most = spec.num_docs or max(spec.min_num_docs, len(documents) // (2 * len(spec.labels)))
        nearest = topics.select_documents(
            documents, keywords, threshold=spec.similarity_threshold, min_docs=spec.min_num_docs, max_docs=most
        )
        return nearest[topics.find_inliers(documents[nearest])] if spec.clean_outliers else nearest

    def _describe_topics(self, texts: Sequence[str], places: Sequence[np.ndarray]) -> list[dict[str, Any]]:
        """The fact `topics`: one entry for each label; `places` are the positions of the documents that stand for it."""
        labels, missing = self.spec.labels, {}
        if isinstance(self.text_encoder, WordSpace):
            missing = keyword_coverage.find_missing_keywords(labels, self.text_encoder.vocabulary)
        return [
            {
                "label": label,
                "keywords": list(words),
                "missing": missing.get(label, {}),
                "documents": len(nearest),
                "examples": [" ".join(texts[i].split())[:EXAMPLE_LENGTH] for i in nearest[: self.spec.examples]],
            }
            for (label, words), nearest in zip(labels.items(), places, strict=True)
        ]

    # -- use -------------------------------------------------------------------------------------------------------

    @property
    def label_names(self) -> list[str]:
        """The labels, in the order of `label_vectors`."""
        return list(self.spec.labels)

    def _encode(self, inputs: Iterable[Any], *, show_progress: bool = False, precision: str = "fp32") -> np.ndarray:
        """Encode texts to (n, d) float32 vectors of unit norm, in order.

        The name of a label is encoded as its label vector. Without a backbone, a text without a known word becomes zeros.
        Raises ZooError for an input that is not a string.
        """
        texts = list(check_texts(inputs))
        vectors = self.text_encoder.encode(texts, show_progress_bar=show_progress, precision=precision)
        vectors = self._add_keyword_evidence(vectors, texts)
        place = {name: i for i, name in enumerate(self.label_names)}
        for row, text in enumerate(texts):
            if text in place:
                vectors[row] = self.label_vectors[place[text]]
        return vectors

    def _stream(self, inputs: Iterable[Any], *, precision: str = "fp32") -> Iterator[np.ndarray]:
        """Encode in blocks, in order. The memory does not grow with the length of `inputs`."""
        source = check_texts(inputs)
        block = list(islice(source, encoding.WINDOW))
        while True:
            yield self._encode(block, precision=precision)
            block = list(islice(source, encoding.WINDOW))
            if not block:
                return

    def baseline(self) -> BaseEncoder | None:
        """The sentence encoder alone, which encodes a label as the text of its name; None without a backbone."""
        return self.text_encoder if isinstance(self.text_encoder, TruncatableEncoder) else None

    def find_class_vectors(self) -> tuple[Sequence[str | int], np.ndarray]:
        """The labels and their vectors (labels, d)."""
        return self.label_names, self.label_vectors

    def compute_similarities(self, texts: Iterable[str]) -> np.ndarray:
        """Cosines (n, labels) of documents and labels."""
        texts = list(check_texts(texts))
        vectors = self._add_keyword_evidence(self.text_encoder.encode(texts), texts)
        similarities: np.ndarray = vectors @ self.label_vectors.T
        return similarities

    def _add_keyword_evidence(self, vectors: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """Move the unit `vectors` of `texts` towards the labels whose keywords occur; return unit vectors, (n, d) float32."""
        if not self.keyword_evidence or not texts:
            return vectors
        evidence = keyword_counts.compute_keyword_evidence(texts, self.spec.labels, self.label_vectors)
        has_evidence = evidence.any(axis=1)
        moved = topics.normalise(vectors[has_evidence] + self.keyword_evidence * evidence[has_evidence])
        vectors[has_evidence] = moved
        return vectors

    def classify(self, texts: Iterable[str]) -> list[Prediction]:
        """Predict the most probable label of each document, whether or not it was seen in training."""
        return self.predict(texts)

    def predict(
        self,
        texts: Iterable[str],
        *,
        rule: str = "argmax",
        metric: LabelMetric | None = None,
        answers: str = "classes",
        scale: float | None = None,
    ) -> list[Prediction]:
        """Predict the label of each document, whether or not it was seen in training.

        Args:
            rule: `argmax` for the most probable label; `frechet` for the label with the smallest expected squared distance to
                the truth (see `zoo.label_geometry.frechet`).
            metric: distances between the labels, for the rule `frechet`.
            answers: labels that the rule `frechet` may give: `classes`, `leaves` or `all` labels of the metric.
            scale: cosines are multiplied by it before the softmax; None for the authors' 20. The rule `frechet` needs the one
                that `fit_scale` returns, because its probabilities must be calibrated.

        Raises ZooError for an unknown rule, for the rule `frechet` without metric or scale, and for a label that the metric does
        not have.
        """
        predictions.check_options(rule, metric, scale)
        return predictions.predict(
            self.compute_similarities(texts),
            self.label_names,
            reject_below=self.spec.reject_below,
            metric=metric,
            answers=answers,
            scale=scale,
        )

    def fit_scale(self, texts: Iterable[str], labels: Sequence[str]) -> float:
        """Return the factor of the cosines that gives labelled texts the largest likelihood; a few dozen texts are enough.

        Raises ZooError for a label that the encoder does not have.
        """
        return predictions.fit_scale(self.compute_similarities(texts), labels, self.label_names)

    def find_faults(self, rows: Dataset) -> list[Finding]:
        """Labels that no document of the rows is predicted to have."""
        texts = rows.select(draw_positions(len(rows), min(len(rows), MAX_CHECKED)))["text"]
        if len(texts) < MIN_CHECKED * len(self.label_names):
            return []
        best = self.compute_similarities(texts).argmax(1)
        advice = "give these labels keywords that occur in the texts, and none that other labels share"
        return find_unused_labels(self.label_names, [self.label_names[place] for place in best], advice)

    def documents(self, label: str, texts: Sequence[str], top: int = 10) -> list[tuple[int, float]]:
        """Positions in `texts` and confidences of the `top` documents of a label, the best first.

        Raises ZooError for an unknown label.
        """
        if label not in self.spec.labels:
            raise ZooError(f"there is no label {label!r}; there are: {', '.join(self.label_names)}")
        confidences = topics.compute_confidences(self.compute_similarities(texts))[:, self.label_names.index(label)]
        return [(int(i), float(confidences[i])) for i in np.argsort(-confidences, kind="stable")[:top]]

    def make_graph(self) -> Graph:
        """Return the graph of the texts, with the cosines to the labels as a second output.

        Raises ZooError if keywords count directly and are not words of a vocabulary.
        """
        options: dict[str, Any] = {
            "outputs": ("vector", "scores"),
            "classes": tuple(self.label_names),
            "scale": 1 / topics.TEMPERATURE,
            "least_probability": self.spec.reject_below,
            "named_vectors": self.label_vectors,
        }
        labels = torch.from_numpy(self.label_vectors.copy())
        if not isinstance(self.text_encoder, TruncatableEncoder):
            keywords, weight = self.spec.labels, self.keyword_evidence
            return label_graph.make_space_graph(self.text_encoder, labels, keywords, weight, options)
        if self.keyword_evidence:
            raise ZooError(
                f"the family {self.spec.family} cannot be exported as a graph with a backbone and `keyword_evidence`: the "
                "backbone's tokens do not hold the words of the text; set `keyword_evidence: 0`"
            )
        return label_graph.add_labels(self.text_encoder.make_graph(), labels, options)

    # -- model folder ----------------------------------------------------------------------------------------------

    def write_weights(self, folder: Path) -> None:
        """Write the backbone as stock sentence-transformers modules, or the word space; and topics.safetensors."""
        if isinstance(self.text_encoder, TruncatableEncoder):
            sentence_transformers_format.write(folder, self.text_encoder.backbone, {}, self.dim)
        else:
            self.text_encoder.write_weights(folder)
        label_tensor = torch.from_numpy(self.label_vectors.copy())
        save_file({"labels": label_tensor}, folder / LABEL_FILE, metadata={"format": "pt"})

    @classmethod
    def load(cls, spec: Spec, folder: Path, config: Mapping[str, Any]) -> Self:
        """Open what `write_weights` wrote. Raises ArtefactError if a tensor is missing, extra, mis-shaped or not finite."""
        text_encoder: TruncatableEncoder | WordSpace
        if spec.backbone:
            text_encoder = TruncatableEncoder.load(spec.as_sentence_encoder(), folder, {})
        else:
            stored_shape = headers.read_header(folder / LABEL_FILE).get("labels", ())
            # The default of `dim` may have changed since, so that the stored vectors decide.
            dim = spec.dim or (stored_shape[1] if len(stored_shape) == 2 else None)
            settings = word_space.create_settings(dim, spec.window, Training())
            text_encoder = word_space.WordSpace.load(folder, settings, config.get("space") or {})
        evidence = 0.0
        if not spec.backbone:
            evidence = preflight.check_training_settings(folder, config.get("space")).get("keyword_evidence", 0.0)
        label_tensors = tensors.read(folder, LABEL_STEM)
        shape = (len(spec.labels), text_encoder.dim)
        labels = label_tensors.get("labels")
        if labels is None or len(label_tensors) > 1 or tuple(labels.shape) != shape or not labels.isfinite().all():
            raise ArtefactError(
                f"{folder / LABEL_FILE}: must hold one tensor `labels` of shape {shape} with finite values, nothing else"
            )
        encoder = cls(spec, text_encoder, labels.float().numpy())
        if spec.keyword_evidence is None:  # a folder that does not say was written before keywords counted directly
            encoder.keyword_evidence = evidence
        encoder._facts = {name: fact for name, fact in config.get("facts", {}).items() if name in FACT_NAMES}
        return encoder

    def list_token_ids(self, texts: Sequence[str]) -> Sequence[Sequence[int]] | None:
        """The tokens of each text, if the documents are read by a sentence encoder."""
        return self.text_encoder.list_token_ids(texts) if isinstance(self.text_encoder, TruncatableEncoder) else None

    def extra_config(self) -> dict[str, Any]:
        """Without a backbone: the training settings that inference uses again."""
        return (
            {}
            if isinstance(self.text_encoder, TruncatableEncoder)
            else {"space": self.text_encoder.inference_settings() | {"keyword_evidence": self.keyword_evidence}}
        )

    def card_facts(self) -> dict[str, Any]:
        """Keywords, documents and examples of each label, the map, and the size of the text encoder."""
        facts: dict[str, Any] = {"dim": self.dim, "keyword_evidence": self.keyword_evidence}
        if isinstance(self.text_encoder, TruncatableEncoder):
            facts["max_length"] = self.text_encoder.backbone.max_length
        elif self.text_encoder.model.state:
            settings = self.text_encoder.model.settings
            facts |= {"words": len(self.text_encoder.vocabulary), "epochs": settings.epochs}
            used: dict[str, Any] = {
                "encoder.dim": settings.dim,
                "encoder.window": settings.window,
                "training.epochs": settings.epochs,
            }
            used |= {"encoder.min_count": settings.min_count, "encoder.keyword_evidence": self.keyword_evidence}
            facts["settings"] = used
        return facts | self._facts


def _make_settings(spec: Spec, training: Training) -> Settings:
    return word_space.create_settings(spec.dim, spec.window, training)
