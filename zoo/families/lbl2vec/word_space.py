"""Documents and words as vectors of one space, learned from raw text: PV-DBOW with joint word vectors.

A document is where its paragraph vector and the mean of its words, rare ones counting more, point together: short texts,
whose own vector is learned from few words, gain most.

Source: Le and Mikolov, arXiv 1405.4053, section 3; Arora et al., "A Simple but Tough-to-Beat Baseline for Sentence
Embeddings", ICLR 2017, equation 3, for the weights of the words.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zoo.artefact import preflight, tensors
from zoo.core.errors import ZooError
from zoo.core.inputs import check_texts
from zoo.families.lbl2vec import topics
from zoo.paragraph_vectors.model import Paragraphs, Settings
from zoo.paragraph_vectors.vocabulary import Vocabulary
from zoo.schema import Training

RARITY = 1e-3  # the frequency at which a word counts half
WORDS_TRAINED = 6_000_000  # words that training passes over at least, however small the corpus
PASSES = 10  # at least, and
LONG = 30  # of texts of LONG * PER_PASS words or more, which short ones would be learned by heart in
PER_PASS = 5
TOGETHER = 1000  # texts whose vectors are found together
FILE = "vocabulary.json"
REPEATED = ("epochs", "learning_rate", "last_learning_rate", "seed", "sample")


def settings(dim: int | None, window: int | None, training: Training) -> Settings:
    """Those of a space; what is None has its default."""
    return Settings(
        dim=dim or 200,
        words=True,
        window=window or 10,
        settle=False,  # topics become no better
        learning_rate=training.learning_rate,
        last_learning_rate=min(1e-4, training.learning_rate),
        seed=training.seed,
    )


def passes(words: int, texts: int) -> int:
    """How often training reads a corpus of so many words in so many texts."""
    least = int(np.clip(words / max(1, texts) / PER_PASS, PASSES, LONG))
    return int(np.clip(-(-WORDS_TRAINED // max(1, words)), least, 100))


class WordSpace:
    """Encodes texts and words as unit vectors of `dim` components.

    Attributes:
        module: the tensors that encode; the training documents' own vectors are not among them.
    """

    def __init__(self, settings: Settings) -> None:
        self.model = Paragraphs(dataclasses.replace(settings, words=True, mode="dbow", bits=0))
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
        check: Callable[[Vocabulary], None] = lambda _: None,
        **options: Any,
    ) -> float:
        """Train on `texts`; returns seconds, those before an interruption included.

        Args:
            min_count, epochs: None for what follows the corpus: a small one keeps rarer words, and is read more often; so is one
                of long texts.
            check: is shown the vocabulary before any step, and may raise.
            options: those of `Paragraphs.fit`.
        """
        number = 0

        def numbered() -> Iterator[str]:
            nonlocal number
            for text in texts:
                number += 1
                yield text

        everything = Vocabulary.count(numbered(), min_count=1)
        words = sum(everything.counts)
        least = min_count or int(np.clip(words // 60_000, 2, max(5, words // 20_000_000)))
        times = passes(words, number) if epochs is None else max(1, round(epochs))
        vocabulary = everything.at_least(least)
        check(vocabulary)
        self.model = Paragraphs(dataclasses.replace(self.model.settings, min_count=least, epochs=times))
        self.model.fit(texts, vocabulary=vocabulary, **options)
        self._hold()
        return self.model.seconds

    def _hold(self) -> None:
        self.module = torch.nn.Module()
        for name, tensor in self.model.state.items():
            if not name.endswith("documents"):
                self.module.register_buffer(name, tensor)

    # -- vectors ---------------------------------------------------------------------------------------------------

    def trained(self, texts: Iterable[str]) -> np.ndarray:
        """(n, dim) float32 unit vectors of the training texts, which must be those of `fit` in the same order."""
        return self._joined(self.model.documents, texts)

    def words(self, given: Sequence[str]) -> np.ndarray:
        """(k, dim) float32 unit vectors of those of `given` that have a known word; several words are their mean."""
        rows = [rows for text in given if (rows := self.vocabulary.encode(text))]
        found = [topics.unit(self.model.words[each]).mean(0) for each in rows]
        return topics.unit(np.stack(found)) if found else np.zeros((0, self.dim), np.float32)

    def encode(self, inputs: Iterable[str], *, show_progress: bool = False, precision: str = "fp32") -> np.ndarray:
        """(n, dim) float32 in the order of `inputs`; a text without a known word is zero. Raises ZooError for a bare string
        and for an input that is not a string."""
        return np.concatenate(list(self.stream(inputs)))

    def stream(self, inputs: Iterable[str]) -> Iterator[np.ndarray]:
        """`encode` by a thousand texts at a time; one empty block for no input."""
        source = check_texts(inputs)
        some = list(islice(source, TOGETHER))
        while True:
            yield self._joined(self.model.infer(some, batch=TOGETHER), some)
            if not (some := list(islice(source, TOGETHER))):
                return

    def _joined(self, documents: np.ndarray, texts: Iterable[str]) -> np.ndarray:
        counts = np.asarray(self.vocabulary.counts, dtype=np.float64)
        weight = (RARITY / (RARITY + counts / counts.sum())).astype(np.float32)
        weighted = topics.unit(self.model.words) * weight[:, None]
        means = np.zeros_like(documents)
        for row, text in zip(means, texts, strict=True):
            if known := self.vocabulary.encode(text):
                row += weighted[known].sum(0)
        return topics.unit(topics.unit(documents) + topics.unit(means)).astype(np.float32)

    # -- artefact --------------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """model.safetensors and vocabulary.json. Raises ZooError before training."""
        from safetensors.torch import save_file

        if not self.model.state:
            raise ZooError("the encoder has not been trained: there is nothing to save")
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in self.module.state_dict().items()}
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        self.vocabulary.save(folder / FILE)

    def state(self) -> dict[str, Any]:
        """What inference repeats of the training, as plain values."""
        s = self.model.settings
        return {name: getattr(s, name) for name in REPEATED}

    @classmethod
    def load(cls, folder: Path, settings: Settings, told: Mapping[str, Any]) -> WordSpace:
        """Open what `save` wrote, with `state()` of then; every tensor must be there, fit the vocabulary and be finite, and
        none be left over."""
        told = preflight.repeated(folder, told)
        space = cls(dataclasses.replace(settings, **{name: told[name] for name in REPEATED if name in told}))
        space.model.vocabulary = Vocabulary.load(folder / FILE)
        preflight.fits(folder, space.model.shapes())
        space.model.shell()
        space._hold()
        tensors.fill(space.module, tensors.read(folder), folder)
        return space
