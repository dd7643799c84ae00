"""Paragraph vectors: documents, and if wanted words, as vectors learned by predicting the words of each document.

    model = Paragraphs(Settings(dim=100, words=True)).fit(texts)
    model.documents, model.words, model.infer(["an unseen text"])

Source: Le and Mikolov, "Distributed Representations of Sentences and Documents", arXiv 1405.4053 (PV-DBOW, PV-DM);
Grzegorczyk and Kurdziel, "Binary Paragraph Vectors", arXiv 1611.01116 (codes, see `code_layer`). On a CPU the
gradient steps are compiled loops (`cpu_engine`), on a GPU matrix products over chunks of many documents
(`gpu_engine`). The loops need no torch, whose import alone takes more memory than most models: without codes and
without a GPU it is not imported.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from zoo.core.errors import ZooError
from zoo.core.lazy import lazy
from zoo.ops import codes
from zoo.paragraph_vectors.checkpoints import Runlog
from zoo.paragraph_vectors.corpus import Batch, Corpus
from zoo.paragraph_vectors.sampling import SamplingTables
from zoo.paragraph_vectors.vocabulary import Vocabulary

if TYPE_CHECKING:
    import torch

    from zoo.paragraph_vectors import code_layer, cpu_engine, gpu_engine

    Array = np.ndarray | torch.Tensor
    Engine = cpu_engine.CpuEngine | gpu_engine.GpuEngine
else:
    torch, code_layer = lazy("torch"), lazy("zoo.paragraph_vectors.code_layer")
    # a compiler is not imported to look at a model
    gpu_engine, cpu_engine = lazy("zoo.paragraph_vectors.gpu_engine"), lazy("zoo.paragraph_vectors.cpu_engine")

RARITY = 1e-4  # the frequency at which a word counts half in a mean of words
BLOCK = 1 << 20  # tokens that are shuffled together; a checkpoint falls between two blocks


@dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes:
        dim: components of the vectors.
        bits: bits of the codes that are learned on top of them; 0 for none.
        mode: "dbow" predicts words from the document, "dm" from the mean of the document and the words around.
        words: with "dbow", train skip-gram word vectors in the same space ("dm" always has word vectors). Outputs have then no
            bias, as in word2vec: beside words, documents classify better without.
        window: most words to each side; the reach of each word is drawn uniformly from 1 to window.
        negatives: noise words of a predicted word, drawn from unigram^0.75.
        sample: threshold of frequent-word subsampling; 0 keeps every word.
        epochs, code_epochs: passes over the corpus for the vectors, and then for the codes.
        settle: between the two, find the documents' vectors again, as those of unseen ones are: with the trained words frozen.
            Then `infer` of a training text gives its own vector, and what is learned on the one holds for the other. With
            codes it is always done: their documents start from the means of their words (`code_layer`).
        anchors: of the codes; known once they are trained.
        learning_rate, last_learning_rate: at the first and the last step of the vectors, and again of the codes, linear
            between.
    """

    dim: int = 100
    bits: int = 0
    mode: Literal["dbow", "dm"] = "dbow"
    words: bool = False
    window: int = 10
    negatives: int = 5
    sample: float = 1e-4
    min_count: int = 5
    max_words: int | None = None
    epochs: int = 10
    code_epochs: int = 3
    settle: bool = True
    anchors: int = 0
    learning_rate: float = 0.025
    last_learning_rate: float = 1e-4
    seed: int = 42

    def rate(self, done: float) -> float:
        """The learning rate when this share of a phase is done."""
        return self.learning_rate - (self.learning_rate - self.last_learning_rate) * done


class Paragraphs:
    """Vectors of documents and words. For one seed and one number of threads, training gives equal tensors.

    Attributes:
        threads: at most so many on a CPU; by default as many as torch has, where it is imported, else one a core.
        device: torch's name of the GPU that is used; None where the CPU is.
        vocabulary: set by `fit`.
    """

    def __init__(self, settings: Settings, *, threads: int | None = None) -> None:
        self.settings, self.threads = settings, threads
        self.device = _accelerator()
        self.vocabulary = Vocabulary((), ())
        self.seconds = 0.0
        self._held: dict[str, Array] = {}

    @property
    def state(self) -> dict[str, torch.Tensor]:
        """The tensors by name, in the memory that training and inference use: "documents" (n, dim), "outputs" (V, dim);
        "inputs" (V, dim) with word vectors; with codes those of `code_layer`."""
        return {name: torch.as_tensor(array) for name, array in self._held.items()}

    @property
    def documents(self) -> np.ndarray:
        """(n, dim) float32 vectors of the training documents in order."""
        return _host(self._held["documents"])

    @property
    def words(self) -> np.ndarray:
        """(V, dim) float32 in the order of the vocabulary: input vectors if they were trained, else output vectors."""
        return _host(self._held["inputs" if "inputs" in self._held else "outputs"])

    @property
    def document_codes(self) -> np.ndarray:
        """(n, ceil(bits / 8)) uint8: the packed codes of the training documents in order."""
        return codes.pack(_host(self._held["code_documents"]))

    # -- training --------------------------------------------------------------------------------------------------

    def fit(
        self,
        texts: Iterable[str],
        *,
        folder: Path | None = None,
        checkpoint_every: int | None = None,
        show_progress: bool = False,
        vocabulary: Vocabulary | None = None,
    ) -> Self:
        """Train on `texts`, read twice and never held: a list, a column of a Dataset, anything that can be read again.

        With `folder`, metrics.jsonl and a checkpoint every `checkpoint_every` blocks (a tenth of the run by default) are kept
        there, and training goes on from the last whole one to the same result.
        Raises ZooError for an iterator, for texts without words, and for a loss that is not finite.
        """
        if isinstance(texts, Iterator):
            raise ZooError("the texts are read twice: give a list or a column of a data set, not an iterator")
        s = self.settings
        self.vocabulary = vocabulary or Vocabulary.count(texts, min_count=s.min_count, max_size=s.max_words)
        corpus = Corpus(texts, self.vocabulary)
        self.start(len(corpus))
        size = max(1, len(corpus) * BLOCK // corpus.words)
        blocks = -(-len(corpus) // size)
        first = blocks * s.epochs  # step after those that train the vectors
        again = s.settle or bool(s.bits)
        second = first + (blocks if again else 0)  # after those that find them again; then come the codes
        steps = second + (blocks * s.code_epochs if s.bits else 0)
        passes = 1 if s.bits else s.epochs
        work = corpus.words * ((first + steps - second) // blocks + (passes if again else 0))
        engine = self._engine()
        coder = self._engine(coded=True) if s.bits else engine
        with Runlog(folder, steps, work, show_progress) as log:
            self._hold(log.resume())
            every = checkpoint_every or max(1, steps // 10)
            for step in range(log.step, steps):
                order = np.random.default_rng((s.seed, step // blocks)).permutation(len(corpus))
                batch = corpus.take(np.sort(order[step % blocks * size : (step % blocks + 1) * size]))
                began, words = time.monotonic(), len(batch.tokens)
                seed = int(np.random.default_rng((s.seed, step, 1)).integers(2**31))
                if step == second:
                    self._held |= code_layer.start(
                        self.state, s.bits, s.seed, length=self._length(), context=s.mode == "dm"
                    )
                if first <= step < second:
                    rates, words = self._rates(s.epochs), words * passes
                    documents: Any = self._held["documents"]
                    documents[batch.owners], loss = self._found(engine, batch, rates)
                else:
                    done, out_of = (step, first) if step < first else (step - second, steps - second)
                    rates = [s.rate(done / out_of), s.rate((done + 1) / out_of)]
                    if step < first:
                        loss = engine.learn(batch, self._held, (rates[0], rates[1]), seed)
                    else:
                        loss = code_layer.learn(coder, batch, self.state, (rates[0], rates[1]), seed)
                if not np.isfinite(loss):
                    raise ZooError(f"the loss is {loss} in block {step + 1}: lower the learning rate")
                log.advance(words, step + 1, (step + 1) / blocks, loss, rates[0], time.monotonic() - began)
                if (step + 1) % every == 0:
                    log.save({name: _host(array) for name, array in self._held.items()})
            self.seconds = log.seconds
        if s.bits:
            self.settings = replace(s, anchors=len(self._held["anchors"]))
        return self

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the tensors that inference needs, by name: what training makes, without the documents."""
        s, vocabulary = self.settings, len(self.vocabulary)
        names = ["outputs", *(["inputs"] if s.words or s.mode == "dm" else [])]
        found: dict[str, tuple[int, ...]] = dict.fromkeys(names, (vocabulary, s.dim))
        if s.bits:
            found |= {f"code_{name}": (vocabulary, s.bits) for name in names if name == "outputs" or s.mode == "dm"}
            found |= {"centre": (s.dim,), "anchors": (s.anchors, s.dim), "middle": (s.dim,)}
            found |= {"projection": (s.dim, s.bits), "code_scale": (1,)}
        return found

    def start(self, documents: int) -> None:
        """Fresh tensors for the vocabulary and so many documents, drawn by the seed."""
        s, vocabulary = self.settings, len(self.vocabulary)
        rng = np.random.default_rng(s.seed)

        def small(rows: int) -> np.ndarray:
            drawn = rng.random((rows, s.dim), dtype=np.float32)
            drawn -= 0.5
            drawn /= s.dim
            return drawn

        self._held = {}
        self._hold({"documents": small(documents), "outputs": np.zeros((vocabulary, s.dim), np.float32)})
        if s.words or s.mode == "dm":
            self._hold({"inputs": small(vocabulary)})

    def shell(self) -> None:
        """Tensors of the shapes that inference needs, to be filled with those of a trained model."""
        self._held = {}
        self._hold({name: np.zeros(shape, np.float32) for name, shape in self.shapes().items()})

    def _hold(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._held |= {
            name: torch.from_numpy(array).to(self.device) if self.device else array for name, array in arrays.items()
        }

    def _rates(self, passes: int) -> list[float]:
        return [self.settings.rate(number / passes) for number in range(passes)]

    def _engine(self, *, coded: bool = False) -> Engine:
        s = self.settings
        options: dict[str, Any] = {"negatives": s.negatives, "window": s.window, "mean": s.mode == "dm"}
        draws = SamplingTables.of(self.vocabulary, s.sample, s.negatives, bias=coded or not s.words)
        if self.device:
            return gpu_engine.GpuEngine(draws, torch.device(self.device), **options)
        return cpu_engine.CpuEngine(draws, threads=self.threads or cpu_engine.default_threads(), **options)

    @property
    def _rarity(self) -> np.ndarray:
        """(V,) float32: what a word counts in a mean of words."""
        counts = np.asarray(self.vocabulary.counts, dtype=np.float64)
        return (RARITY / (RARITY + counts / counts.sum())).astype(np.float32)

    def _length(self) -> float:
        """The length of a word's vector, on average over the noise."""
        return float(np.linalg.norm(self.words, axis=1) @ self.vocabulary.noise())

    # -- unseen documents ------------------------------------------------------------------------------------------

    def infer(self, texts: Iterable[str], *, epochs: int | None = None, batch: int = 1000) -> np.ndarray:
        """(n, dim) float32 vectors of any texts by gradient steps with the words frozen, `batch` texts at once; of a model with
        codes, the vectors that codes start from.

        A text's vector does not depend on the texts beside it; one without a known word is zero.
        """
        found = [rows for rows, _ in self._inferred(self._engine(), texts, epochs, batch)]
        if self.settings.bits:
            found = [code_layer.vectors(torch.as_tensor(rows), self.state) for rows in found]
        return np.concatenate([_host(rows) for rows in found])

    def infer_codes(self, texts: Iterable[str], *, epochs: int | None = None, batch: int = 1000) -> np.ndarray:
        """(n, ceil(bits / 8)) uint8: packed codes of any texts, by `epochs` passes over each, `code_epochs` by default; of one
        without a known word, zeros."""
        s, engine, found = self.settings, self._engine(coded=True), []
        rates = self._rates(epochs or s.code_epochs)
        for rows, held in self._inferred(engine, texts, epochs, batch):
            logits = code_layer.infer(engine, held, torch.as_tensor(rows), self.state, rates, s.seed)
            logits[torch.from_numpy(held.ends == held.starts)] = 0
            found.append(codes.pack(logits.numpy(force=True)))
        return np.concatenate(found)

    def _inferred(
        self, engine: Engine, texts: Iterable[str], epochs: int | None, size: int
    ) -> Iterator[tuple[Array, Batch]]:
        source, rates = iter(texts), self._rates(epochs or self.settings.epochs)

        def read() -> Batch:
            return Batch.of([self.vocabulary.encode(text) for text in islice(source, size)])

        with ThreadPoolExecutor(1) as reader:  # texts are read while vectors of those before them are found
            held = read()
            while True:
                coming = reader.submit(read)
                yield self._found(engine, held, rates)[0], held
                held = coming.result()
                if not len(held.owners):
                    return

    def _found(self, engine: Engine, held: Batch, rates: list[float]) -> tuple[Array, float]:
        """(m, dim) vectors of the documents of a batch, by steps from zero, and the loss of a word at the end; with codes, the
        means of their words, and no loss."""
        if self.settings.bits:
            words = self._held["inputs" if "inputs" in self._held else "outputs"]
            means = code_layer.word_means(held, torch.as_tensor(words), torch.from_numpy(self._rarity))
            return (means if self.device else means.numpy()), 0.0
        shape = len(held.owners), self.settings.dim
        rows: Array = torch.zeros(shape, device=self.device) if self.device else np.zeros(shape, np.float32)
        held = held._replace(owners=np.arange(len(held.owners)))
        return rows, engine.infer(held, {**self._held, "documents": rows}, rates, self.settings.seed)


def _host(array: Array) -> np.ndarray:
    return array if isinstance(array, np.ndarray) else array.numpy(force=True)


def _accelerator() -> str | None:
    """The GPU that torch has. Without the driver of one there is none, and torch need not be imported to be asked."""
    if not Path("/dev/kfd").exists():  # AMD's
        try:
            ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        except OSError:
            return None
    return "cuda" if torch.cuda.is_available() else None
