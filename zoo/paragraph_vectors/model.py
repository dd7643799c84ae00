"""Paragraph vectors: vectors of documents, and if wanted of words, learned by predicting the words of each document.

    model = ParagraphVectors(Settings(dim=100, words=True)).fit(texts)
    model.document_vectors, model.word_vectors, model.infer(["an unseen text"])

Source: Le and Mikolov, "Distributed Representations of Sentences and Documents", arXiv 1405.4053 (PV-DBOW, PV-DM);
Grzegorczyk and Kurdziel, "Binary Paragraph Vectors", arXiv 1611.01116 (codes, see `code_layer`). On a CPU, compiled loops take
the gradient steps (`cpu_engine`). On a GPU, they are matrix products over chunks of many documents (`gpu_engine`).

Importing torch takes more memory than most models. Without codes and without a GPU torch is therefore not imported: this
module imports torch, and modules that need torch or the compiler, only inside functions.
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
import numpy.typing as npt

from zoo.core.errors import ZooError
from zoo.core.run_environment import choose_threads
from zoo.core.training_log import Say
from zoo.paragraph_vectors.checkpoints import RunLog
from zoo.paragraph_vectors.corpus import Batch, Corpus
from zoo.paragraph_vectors.engine import Engine
from zoo.paragraph_vectors.sampling import SamplingTables
from zoo.paragraph_vectors.schedule import Schedule
from zoo.paragraph_vectors.vocabulary import Vocabulary

if TYPE_CHECKING:
    import torch

Array = npt.NDArray[Any]

HALF_FREQUENCY = 1e-4  # without `texts`: the frequency at which a word has half the weight in a mean of words


@dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes:
        dim: components of the vectors.
        bits: bits of the codes that are learned on top of the vectors; 0 for no codes.
        mode: "dbow" predicts words from the document, "dm" from the mean of the document and the words around.
        words: with "dbow", train skip-gram word vectors in the same space ("dm" always has word vectors). Outputs then have no
            bias, as in word2vec. Documents classify better without word vectors.
        window: most words to each side; the reach of each word is drawn uniformly from 1 to `window`.
        negatives: noise words for each predicted word, drawn from unigram^0.75.
        sample: threshold for subsampling frequent words; 0 keeps every word.
        min_count, max_words: which words the vocabulary keeps; see `Vocabulary.count`.
        epochs, code_epochs: passes over the corpus for the vectors, and then for the codes.
        settle: between the two, infer the vectors of the documents again with the trained words frozen, as for unseen texts.
            Then `infer` of a training text gives the vector of that text in `document_vectors`, and a classifier trained on
            these vectors fits inferred ones. With codes this is always done: their documents start from the means of their
            words (`code_layer`).
        small_corpus: with codes, a corpus of fewer words is small. Its rare words weigh by inverse document frequency (`texts`),
            and its word vectors start from latent semantic analysis, not at random, except with "dm" (`word_start`).
        anchors: number of anchors of the codes; known after the codes are trained.
        texts: number of documents of a small corpus, which decides how much more rare words weigh in the mean of a document's
            words; set by `fit`. 0 stands for a corpus that is not small.
        lsa_share: how much of the word vectors of a small corpus is latent semantic analysis after training; set by `fit`. With
            0, as in models of earlier versions, all words have vectors of the same length.
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
    small_corpus: int = 0
    anchors: int = 0
    texts: int = 0
    lsa_share: float = 0.0
    learning_rate: float = 0.025
    last_learning_rate: float = 1e-4
    seed: int = 42

    @property
    def is_dm(self) -> bool:
        """Whether the mode is "dm"."""
        return self.mode == "dm"

    @property
    def has_input_vectors(self) -> bool:
        """Whether words have input vectors beside their output vectors."""
        return self.words or self.is_dm

    def compute_learning_rate(self, progress: float) -> float:
        """Compute the learning rate after this share of a phase, from 0 to 1."""
        return self.learning_rate - (self.learning_rate - self.last_learning_rate) * progress

    def compute_inference_rates(self, epochs: int) -> list[float]:
        """Compute the learning rate of each of `epochs` passes over texts whose words are frozen."""
        return [self.compute_learning_rate(number / epochs) for number in range(epochs)]


class ParagraphVectors:
    """Vectors of documents and words. For one seed and one number of threads, training gives equal tensors.

    Attributes:
        threads: most threads on a CPU. By default the number that torch uses if torch is imported, else one for each core.
        device: torch's name of the GPU in use, or None on a CPU.
        vocabulary: set by `fit`.
        seconds: training time, set by `fit`; it includes the start, and blocks that were finished before an interruption.
    """

    def __init__(self, settings: Settings, *, threads: int | None = None) -> None:
        self.settings, self.threads = settings, threads
        self.device = _find_gpu()
        self.vocabulary = Vocabulary((), ())
        self.seconds = 0.0
        self._tensors: dict[str, Any] = {}  # on a CPU NumPy arrays, on a GPU torch tensors
        self._lsa: tuple[Array, Batch] | None = (
            None  # axes and documents of a small corpus, until its words are blended
        )

    @property
    def state(self) -> dict[str, torch.Tensor]:
        """The tensors by name. They share the memory that training and inference use.

        "documents" (n, dim) and "outputs" (V, dim); with word vectors "inputs" (V, dim); with codes those of `code_layer`.
        """
        import torch

        return {name: torch.as_tensor(array) for name, array in self._tensors.items()}

    @property
    def document_vectors(self) -> Array:
        """(n, dim) float32 vectors of the training documents in order."""
        return _to_numpy(self._tensors["documents"])

    @property
    def word_vectors(self) -> Array:
        """(V, dim) float32 in the order of the vocabulary: input vectors if they were trained, else output vectors."""
        return _to_numpy(self._word_tensor)

    @property
    def document_codes(self) -> Array:
        """(n, ceil(bits / 8)) uint8: the packed codes of the training documents in order."""
        from zoo.ops import codes

        return codes.pack(_to_numpy(self._tensors["code_documents"]))

    # -- tensors ---------------------------------------------------------------------------------------------------

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes by name of the tensors that inference needs: all that training makes but the documents."""
        s, vocabulary = self.settings, len(self.vocabulary)
        names = ["outputs", *(["inputs"] if s.has_input_vectors else [])]
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(names, (vocabulary, s.dim))
        if s.bits:
            shapes |= {f"code_{name}": (vocabulary, s.bits) for name in names if name == "outputs" or s.is_dm}
            shapes |= {"centre": (s.dim,), "anchors": (s.anchors, s.dim), "middle": (s.dim,)}
            shapes |= {"projection": (s.dim, s.bits), "code_scale": (1,)}
        return shapes

    def initialise(self, documents: int) -> None:
        """Make the tensors of an untrained model for the vocabulary and this number of documents, drawn by the seed."""
        s, vocabulary = self.settings, len(self.vocabulary)
        rng = np.random.default_rng(s.seed)

        def draw_small_vectors(rows: int) -> Array:
            vectors = rng.random((rows, s.dim), dtype=np.float32)
            vectors -= 0.5
            vectors /= s.dim
            return vectors

        self._tensors = {}
        self._set_tensors({"documents": draw_small_vectors(documents)})
        self._set_tensors({"outputs": np.zeros((vocabulary, s.dim), np.float32)})
        if s.has_input_vectors:
            self._set_tensors({"inputs": draw_small_vectors(vocabulary)})

    def allocate(self) -> None:
        """Make zero tensors of `tensor_shapes`, to be filled with those of a trained model."""
        self._tensors = {}
        self._set_tensors({name: np.zeros(shape, np.float32) for name, shape in self.tensor_shapes().items()})

    def _set_tensors(self, arrays: Mapping[str, Array]) -> None:
        if self.device:
            import torch

            self._tensors |= {name: torch.from_numpy(array).to(self.device) for name, array in arrays.items()}
        else:
            self._tensors |= arrays

    @property
    def _word_tensor(self) -> Any:
        return self._tensors["inputs" if "inputs" in self._tensors else "outputs"]

    # -- training --------------------------------------------------------------------------------------------------

    def fit(
        self,
        texts: Iterable[str],
        *,
        folder: Path | None = None,
        checkpoint_every: int | None = None,
        show_progress: bool = False,
        vocabulary: Vocabulary | None = None,
        say: Say | None = None,
        finish: bool = False,
    ) -> Self:
        """Train on `texts`, which are read twice and never kept in memory: a list, or a column of a Dataset.

        Args:
            folder: for metrics.jsonl and checkpoints. Training goes on from the newest checkpoint, to the same result.
            checkpoint_every: blocks between two checkpoints, by default a tenth of the run.
            vocabulary: of the texts; by default counted.
            say: receives lines about rate, epoch and time left if no bar is shown.
            finish: take the newest checkpoint for the end of the training.

        Raises ZooError for an iterator, for texts without words, for a loss that is not finite, and with `finish` if no
        checkpoint has all tensors.
        """
        if isinstance(texts, Iterator):
            raise ZooError("the texts are read twice: give a list or a column of a data set, not an iterator")
        s, start_time = self.settings, time.monotonic()
        self.vocabulary = vocabulary or Vocabulary.count(texts, min_count=s.min_count, max_size=s.max_words)
        corpus = Corpus(texts, self.vocabulary)
        schedule = self._start(corpus)
        start_seconds = time.monotonic() - start_time
        environment: dict[str, Any] = {"threads": self._count_threads(), "device": self.device or "cpu"}
        with RunLog(folder, schedule.steps, schedule.total_words, show_progress, environment, say) as log:
            self._set_tensors(log.resume())
            # Another number of threads gives other tensors: threads train on copies whose changes are added up.
            log.environment = environment | {"threads": choose_threads(environment, log.environment)}
            engine = self._create_engine(log.environment["threads"])
            code_engine = self._create_engine(log.environment["threads"], for_codes=True) if s.bits else engine
            if finish:
                self._check_finish(folder, log.step)
            for step in range(log.step, log.step if finish else schedule.steps):
                start_time = time.monotonic()
                batch = corpus.read(schedule.select_documents(step, s.seed))
                loss, learning_rate = self._train_step(step, batch, schedule, engine, code_engine)
                if loss is not None and not np.isfinite(loss):
                    raise ZooError(f"the loss is {loss} in block {step + 1}: lower the learning rate")
                log.record_step(
                    step + 1,
                    words=len(batch.tokens) * (schedule.settle_epochs if schedule.settles(step) else 1),
                    epoch=(step + 1) / schedule.blocks,
                    loss=loss,
                    learning_rate=learning_rate,
                    seconds=time.monotonic() - start_time,
                    phase=schedule.name_phase(step),
                )
                if (step + 1) % (checkpoint_every or max(1, schedule.steps // 10)) == 0:
                    log.save_checkpoint({name: _to_numpy(tensor) for name, tensor in self._tensors.items()})
            self.seconds = start_seconds + log.seconds
        if s.bits:
            self.settings = replace(self.settings, anchors=len(self._tensors["anchors"]))
        return self

    def _start(self, corpus: Corpus) -> Schedule:
        """Make the tensors of an untrained model of `corpus`, and return the steps of its training."""
        s = self.settings
        is_small = bool(s.bits) and corpus.word_count < s.small_corpus
        self.settings = replace(s, texts=len(corpus) if is_small else 0, lsa_share=0.0)
        self.initialise(len(corpus))
        if is_small and s.has_input_vectors and not s.is_dm:
            from zoo.paragraph_vectors import word_start

            batch = corpus.read(np.arange(len(corpus)))
            decomposition = word_start.decompose(batch, len(self.vocabulary), s.dim, s.seed)
            self._set_tensors({"inputs": word_start.compute_start(decomposition)})
            self._lsa = decomposition.axes, batch
            self.settings = replace(self.settings, lsa_share=word_start.choose_share(corpus.word_count))
        return self._plan(corpus)

    def _blend_words(self) -> None:
        """Average the trained word vectors of a small corpus with those of latent semantic analysis."""
        from zoo.paragraph_vectors import word_start

        assert self._lsa is not None  # `_start` has made them
        axes, batch = self._lsa
        weights = self.compute_word_weights()
        blended = word_start.blend(axes, self.word_vectors, batch, weights, self.settings.lsa_share)
        self._set_tensors({"inputs": blended})
        self._lsa = None

    def _check_finish(self, folder: Path | None, step: int) -> None:
        """Raise ZooError unless the tensors of a checkpoint could be the end of the training."""
        if not step:
            raise ZooError(f"{folder}: there is no checkpoint yet that the run could be finished from")
        if not self._tensors.keys() >= self.tensor_shapes().keys():
            raise ZooError(
                f"no checkpoint in {folder} could be the end of the training: train on until codes are learned"
            )

    def _plan(self, corpus: Corpus) -> Schedule:
        s = self.settings
        settle_epochs = 1 if s.bits else s.epochs if s.settle else 0
        return Schedule(len(corpus), corpus.word_count, s.epochs, settle_epochs, s.code_epochs if s.bits else 0)

    def _train_step(
        self, step: int, batch: Batch, schedule: Schedule, engine: Engine, code_engine: Engine
    ) -> tuple[float | None, float]:
        """Train on one block; return the mean loss of a word and the learning rate at the start of the block.

        With codes, a block that settles has no loss: nothing is predicted in it.
        """
        s = self.settings
        if step == schedule.settle_start and s.lsa_share:
            self._blend_words()
        if schedule.settles(step):
            inference_rates = s.compute_inference_rates(s.epochs)
            vectors, loss = self._infer_batch(engine, batch, inference_rates)
            self._tensors["documents"][batch.document_rows] = vectors
            return loss, inference_rates[0]
        before, after = schedule.compute_progress(step)
        rates = s.compute_learning_rate(before), s.compute_learning_rate(after)
        seed = int(np.random.default_rng((s.seed, step, 1)).integers(2**31))
        if step < schedule.settle_start:
            return engine.train(batch, self._tensors, rates, seed), rates[0]
        from zoo.paragraph_vectors import code_layer

        if step == schedule.code_start:
            options: dict[str, Any] = {"word_length": self._compute_mean_word_length(), "is_dm": s.is_dm}
            options["is_small"] = s.texts > 0
            self._tensors |= code_layer.initialise(self.state, s.bits, s.seed, **options)
        return code_layer.train(code_engine, batch, self.state, rates, seed), rates[0]

    def _count_threads(self) -> int:
        """The number of threads of compiled loops; 1 on a GPU."""
        if self.device:
            return 1
        from zoo.paragraph_vectors import cpu_engine

        return min(self.threads or cpu_engine.default_threads(), cpu_engine.MAX_THREADS)

    def _create_engine(self, threads: int | None = None, *, for_codes: bool = False) -> Engine:
        s = self.settings
        options: dict[str, Any] = {"negatives": s.negatives, "window": s.window, "is_dm": s.is_dm}
        has_bias = for_codes or not s.words
        tables = SamplingTables.from_vocabulary(self.vocabulary, s.sample, s.negatives, bias=has_bias)
        if self.device:
            import torch

            from zoo.paragraph_vectors import gpu_engine

            return gpu_engine.GpuEngine(tables, torch.device(self.device), **options)
        from zoo.paragraph_vectors import cpu_engine

        return cpu_engine.CpuEngine(tables, threads=threads or self._count_threads(), **options)

    def _compute_mean_word_length(self) -> float:
        """Compute the mean length of the word vectors over the noise distribution."""
        lengths = np.linalg.norm(self.word_vectors, axis=1)
        return float(lengths @ self.vocabulary.compute_noise_distribution())

    # -- unseen documents ------------------------------------------------------------------------------------------

    def infer(self, texts: Iterable[str], *, epochs: int | None = None, batch_size: int = 1000) -> Array:
        """Infer the vectors of any texts, (n, dim) float32, by gradient steps with the words frozen.

        With codes, these are the vectors that the codes start from. The vector of a text does not depend on the other texts,
        except with PV-DM on a GPU. A text without a known word gets zeros.

        Args:
            epochs: passes over each text, by default as in training.
            batch_size: texts that take the same gradient steps.
        """
        blocks = [vectors for vectors, _ in self._infer_batches(self._create_engine(), texts, epochs, batch_size)]
        if self.settings.bits:
            import torch

            from zoo.paragraph_vectors import code_layer

            blocks = [code_layer.compute_start_vectors(torch.as_tensor(means), self.state) for means in blocks]
        return np.concatenate([_to_numpy(block) for block in blocks])

    def infer_codes(self, texts: Iterable[str], *, epochs: int | None = None, batch_size: int = 1000) -> Array:
        """Infer the packed codes of any texts, (n, ceil(bits / 8)) uint8; a text without a known word gets zeros.

        Arguments as in `infer`, but `epochs` is `code_epochs` by default.
        """
        import torch

        from zoo.ops import codes
        from zoo.paragraph_vectors import code_layer

        s, engine, blocks = self.settings, self._create_engine(for_codes=True), []
        rates = s.compute_inference_rates(epochs or s.code_epochs)
        for means, batch in self._infer_batches(engine, texts, epochs, batch_size):
            logits = code_layer.infer(engine, batch, torch.as_tensor(means), self.state, rates, s.seed)
            logits[torch.from_numpy(batch.ends == batch.starts)] = 0
            blocks.append(codes.pack(logits.numpy(force=True)))
        return np.concatenate(blocks)

    def _infer_batches(
        self, engine: Engine, texts: Iterable[str], epochs: int | None, batch_size: int
    ) -> Iterator[tuple[Any, Batch]]:
        """Yield the vectors of `batch_size` texts at a time, and the texts as a batch; at least one batch, if empty."""
        iterator, rates = iter(texts), self.settings.compute_inference_rates(epochs or self.settings.epochs)

        def read_batch() -> Batch:
            return Batch.from_token_lists([self.vocabulary.encode(text) for text in islice(iterator, batch_size)])

        with ThreadPoolExecutor(1) as reader:  # reads the next texts while the vectors of this batch are inferred
            batch = read_batch()
            while True:
                next_batch = reader.submit(read_batch)
                yield self._infer_batch(engine, batch, rates)[0], batch
                batch = next_batch.result()
                if not len(batch.ends):
                    return

    def _infer_batch(self, engine: Engine, batch: Batch, rates: list[float]) -> tuple[Any, float | None]:
        """Infer the (m, dim) vectors of a batch by steps from zero; return them and the mean loss of a word at the end.

        With codes, the vectors are the means of the words of each document, and there is no loss.
        """
        if self.settings.bits:
            import torch

            from zoo.paragraph_vectors import code_layer

            weights = torch.from_numpy(self.compute_word_weights())
            keeps_lengths = self.settings.lsa_share > 0
            means = code_layer.compute_word_means(
                batch, torch.as_tensor(self._word_tensor), weights, keeps_lengths=keeps_lengths
            )
            return (means if self.device else means.numpy()), None
        vectors = self._create_zeros(len(batch.ends), self.settings.dim)
        batch = batch._replace(document_rows=np.arange(len(batch.ends)))
        return vectors, engine.infer(batch, {**self._tensors, "documents": vectors}, rates, self.settings.seed)

    def compute_word_weights(self) -> Array:
        """Compute the weight of each word in the mean of a document's words, (V,) float32."""
        if self.settings.texts:
            return self.vocabulary.compute_document_weights(self.settings.texts)
        return self.vocabulary.compute_rarity_weights(HALF_FREQUENCY)

    def _create_zeros(self, *shape: int) -> Any:
        if self.device:
            import torch

            return torch.zeros(shape, device=self.device)
        return np.zeros(shape, np.float32)


def _to_numpy(array: Any) -> Array:
    """Return the NumPy array itself, or the values of a torch tensor on any device."""
    return array if isinstance(array, np.ndarray) else array.numpy(force=True)


def _find_gpu() -> str | None:
    """Return torch's name of the GPU, or None. On a machine without a GPU driver, torch is not imported."""
    if not Path("/dev/kfd").exists():  # AMD's driver
        try:
            ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        except OSError:
            return None
    import torch

    return "cuda" if torch.cuda.is_available() else None
