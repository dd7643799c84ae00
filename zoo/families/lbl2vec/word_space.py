"""Documents and words as vectors of one space, learned from raw text: PV-DBOW with joint word vectors.

The vector of a document is the sum of two unit vectors: its paragraph vector, and the mean of its words, in which rare words
count more. Short texts gain most, because their paragraph vector is learned from few words.

Source: Le and Mikolov, arXiv 1405.4053, section 3; Arora et al., "A Simple but Tough-to-Beat Baseline for Sentence
Embeddings", ICLR 2017, equation 3, for the weights of the words.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from zoo.artefact import preflight, tensors
from zoo.core.errors import ZooError
from zoo.core.inputs import check_texts
from zoo.core.training_log import Say
from zoo.families.lbl2vec import topics
from zoo.paragraph_vectors.model import ParagraphVectors, Settings
from zoo.paragraph_vectors.vocabulary import Vocabulary
from zoo.schema import Training, round_epochs

Array = npt.NDArray[Any]

HALF_FREQUENCY = 1e-3  # the frequency at which a word has half the weight in the mean of a document's words
BATCH_SIZE = 1000  # texts whose vectors are inferred together
VOCABULARY_FILE = "vocabulary.json"
INFERENCE_SETTINGS = ("epochs", "learning_rate", "last_learning_rate", "seed", "sample", "min_count")

# What the functions `choose_…` choose
MIN_TRAINED_WORDS = 6_000_000
WORDS_OF_TEXT_PER_EPOCH = 5
SMALL_CORPUS = 20_000  # words; every word of a smaller corpus is kept
MIN_EPOCHS, MAX_EPOCHS_BY_LENGTH, MAX_EPOCHS = 10, 30, 100


def create_settings(dim: int | None, window: int | None, training: Training) -> Settings:
    """Create the settings of a word space; None stands for the default."""
    return Settings(
        dim=dim or 200,
        words=True,
        window=window or 10,
        settle=False,  # does not improve topics
        learning_rate=training.peak_learning_rate,
        last_learning_rate=min(1e-4, training.peak_learning_rate),
        seed=training.seed,
    )


def choose_epochs(words: int, texts: int) -> int:
    """Choose how often training reads a corpus of so many words in so many texts.

    A small corpus is read until training has seen MIN_TRAINED_WORDS. Long texts are read more often than short ones, which
    training would memorise.
    """
    epochs_by_length = int(np.clip(words / max(1, texts) / WORDS_OF_TEXT_PER_EPOCH, MIN_EPOCHS, MAX_EPOCHS_BY_LENGTH))
    return int(np.clip(-(-MIN_TRAINED_WORDS // max(1, words)), epochs_by_length, MAX_EPOCHS))


def choose_min_count(words: int) -> int:
    """Choose how often a word must occur in a corpus of so many words.

    It is once in a small corpus, 2 to 5 times in others, and more only in a very large one.
    """
    return 1 if words < SMALL_CORPUS else int(np.clip(words // 60_000, 2, max(5, words // 20_000_000)))


def choose_keyword_evidence(texts: int) -> float:
    """Choose how much keywords that occur in a text move it towards their labels, for a corpus of so many texts.

    The fewer the texts, the less do learned vectors say beside the keywords.
    """
    return round(4 + 4000 / max(1, texts), 1)


class WordSpace:
    """Encodes texts and words as unit vectors of `dim` components.

    Attributes:
        module: the tensors that encode; the vectors of the training documents are not among them.
    """

    def __init__(self, settings: Settings) -> None:
        self.model = ParagraphVectors(dataclasses.replace(settings, words=True, mode="dbow", bits=0))
        self.module = torch.nn.Module()

    @property
    def dim(self) -> int:
        """Components of a vector."""
        return self.model.settings.dim

    @property
    def vocabulary(self) -> Vocabulary:
        """The words that have a vector."""
        return self.model.vocabulary

    def fit(
        self,
        texts: Iterable[str],
        *,
        min_count: int | None = None,
        epochs: float | None = None,
        keep: Collection[str] = (),
        check: Callable[[Vocabulary], None] = lambda _: None,
        say: Say | None = None,
        **options: Any,
    ) -> float:
        """Train on `texts`; return the seconds that training took, including those before an interruption.

        Args:
            min_count: rarer words are left out; None for `choose_min_count`.
            epochs: passes over the texts; None for `choose_epochs`.
            keep: words that stay however rare they are.
            check: called with the vocabulary before training; it may raise.
            say: receives a line with the settings that follow the corpus, and lines about the training.
            options: passed to `ParagraphVectors.fit`.
        """
        start_time, text_count = time.monotonic(), 0

        def count_texts() -> Iterator[str]:
            nonlocal text_count
            for text in texts:
                text_count += 1
                yield text

        all_words = Vocabulary.count(count_texts(), min_count=1)
        word_count = sum(all_words.counts)
        min_count = min_count or choose_min_count(word_count)
        whole_epochs = choose_epochs(word_count, text_count) if epochs is None else round_epochs(epochs)
        vocabulary = all_words.select_frequent(min_count, keep=keep)
        check(vocabulary)
        if say:
            say(
                f"{text_count:,} texts of {word_count:,} words: read {whole_epochs} times, "
                f"words that occur {min_count} times or are keywords are kept ({len(vocabulary):,})"
            )
        settings = dataclasses.replace(self.model.settings, min_count=min_count, epochs=whole_epochs)
        counting_seconds = time.monotonic() - start_time
        self.model = ParagraphVectors(settings)
        self.model.fit(texts, vocabulary=vocabulary, say=say, **options)
        self._register_tensors()
        return counting_seconds + self.model.seconds

    def _register_tensors(self) -> None:
        self.module = torch.nn.Module()
        for name, tensor in self.model.state.items():
            if not name.endswith("documents"):
                self.module.register_buffer(name, tensor)

    # -- vectors ---------------------------------------------------------------------------------------------------

    def encode_training_texts(self, texts: Iterable[str]) -> Array:
        """Return (n, dim) float32 unit vectors of the texts of `fit`, which must come in the same order."""
        return self._add_word_means(self.model.document_vectors, texts)

    def encode_keywords(self, keywords: Sequence[str]) -> Array:
        """Encode keywords as (k, dim) float32 unit vectors; those without a known word are left out.

        The vector of a keyword of several words is the mean of its words.
        """
        rows = [self.vocabulary.encode(keyword) for keyword in keywords]
        vectors = [topics.normalise(self.model.word_vectors[row]).mean(0) for row in rows if row]
        return topics.normalise(np.stack(vectors)) if vectors else np.zeros((0, self.dim), np.float32)

    def encode(self, inputs: Iterable[str], *, show_progress_bar: bool = False, precision: str = "fp32") -> Array:
        """Encode texts as (n, dim) float32 in the order of `inputs`; a text without a known word gets zeros.

        Raises ZooError for a bare string and for an input that is not a string.
        """
        return np.concatenate(list(self.stream(inputs)))

    def stream(self, inputs: Iterable[str]) -> Iterator[Array]:
        """Yield the vectors of `encode` for BATCH_SIZE texts at a time; yield one empty block if there is no input."""
        iterator = check_texts(inputs)
        batch = list(islice(iterator, BATCH_SIZE))
        while True:
            yield self._add_word_means(self.model.infer(batch, batch_size=BATCH_SIZE), batch)
            batch = list(islice(iterator, BATCH_SIZE))
            if not batch:
                return

    def _add_word_means(self, documents: Array, texts: Iterable[str]) -> Array:
        """Add to the unit vector of each document the unit mean of its words; return unit vectors."""
        weights = self.vocabulary.compute_rarity_weights(HALF_FREQUENCY)
        weighted = topics.normalise(self.model.word_vectors) * weights[:, None]
        means = np.zeros_like(documents)
        for mean, text in zip(means, texts, strict=True):
            rows = self.vocabulary.encode(text)
            if rows:
                mean += weighted[rows].sum(0)
        return topics.normalise(topics.normalise(documents) + topics.normalise(means)).astype(np.float32)

    # -- model folder ----------------------------------------------------------------------------------------------

    def write_weights(self, folder: Path) -> None:
        """Write model.safetensors and vocabulary.json. Raises ZooError before training."""
        from safetensors.torch import save_file

        if not self.model.state:
            raise ZooError("the encoder has not been trained, so there is nothing to save: call fit first")
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in self.module.state_dict().items()}
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        self.vocabulary.save(folder / VOCABULARY_FILE)

    def inference_settings(self) -> dict[str, Any]:
        """Return the training settings that inference uses again, as plain values."""
        return {name: getattr(self.model.settings, name) for name in INFERENCE_SETTINGS}

    @classmethod
    def load(cls, folder: Path, settings: Settings, inference_settings: Mapping[str, Any]) -> WordSpace:
        """Open what `write_weights` wrote, with the result of `inference_settings` at that time.

        Raises ArtefactError unless the tensors are exactly those that inference needs, fit the vocabulary and are finite.
        """
        values = preflight.check_training_settings(folder, inference_settings)
        changes = {name: values[name] for name in INFERENCE_SETTINGS if name in values}
        space = cls(dataclasses.replace(settings, **changes))
        space.model.vocabulary = Vocabulary.load(folder / VOCABULARY_FILE)
        preflight.check_shapes(folder, space.model.tensor_shapes())
        space.model.allocate()
        space._register_tensors()
        tensors.fill(space.module, tensors.read(folder), folder)
        return space
