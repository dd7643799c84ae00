"""The encoder of binary paragraph vectors; it is trained by `zoo.paragraph_vectors.model`.

Source: Grzegorczyk and Kurdziel, "Binary Paragraph Vectors", arXiv 1611.01116.

As in the paper, a code is the rounded sigmoid of a document's vector, and it learns to predict the words of the document. The
rounding passes the gradient straight through. An unseen text gets its code by the same steps while the words are frozen.

Unlike the paper, words are predicted by negative sampling, not by a sampled softmax. Word vectors are trained together with the
document vectors. Codes do not start at random but near the mean of the document's words, drawn towards the training texts
around them (`zoo.paragraph_vectors.code_layer`). The real part of `variant: real-binary` is the vector that a code starts from.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors.torch import save_file

from zoo.artefact import preflight, tensors
from zoo.core.errors import ZooError
from zoo.core.inputs import check_texts
from zoo.encoder import Encoder as BaseEncoder
from zoo.encoder import TrainingRun
from zoo.families.binary_pv import defaults
from zoo.families.binary_pv.spec import Spec
from zoo.graph import Graph, TextReader
from zoo.ops import codes
from zoo.paragraph_vectors import model as paragraph_model
from zoo.paragraph_vectors import vocabulary, word_start
from zoo.schema import Training, round_epochs

CODE_EPOCHS_SHARE = 0.1  # epochs that train the codes, as a share of the epochs that train the vectors
CORPUS_SETTINGS = {"anchors": int, "texts": int, "min_count": int, "lsa_share": float}
"""Settings of a model that follow its corpus, and their types. A folder of an earlier version lacks some of them."""
BLOCK_SIZE = 1000  # texts whose vectors are inferred in the same gradient steps


class Encoder(BaseEncoder):
    """Encodes texts as packed codes (n, ceil(bits / 8)) uint8; `view(real=True)` as (n, dim) float32 of unit norm."""

    similarity_fn_name = "hamming"
    spec: Spec

    def __init__(self, spec: Spec, model: paragraph_model.ParagraphVectors) -> None:
        super().__init__()
        self.spec, self.model = spec, model
        self.dim = spec.bits
        self.module = torch.nn.Module()

    @classmethod
    def build(cls, spec: Spec, *, seed: int = 42, folder: Path = Path()) -> Self:
        """An encoder without vocabulary and tensors; `fit` creates both."""
        encoder = cls(spec, paragraph_model.ParagraphVectors(_make_settings(spec, Training(seed=seed))))
        encoder.seed, encoder.folder = seed, folder
        return encoder

    def train(self, run: TrainingRun) -> float:
        """Train in place on the column `text`; return the seconds, including those before an interruption."""
        texts, start_time = run.rows["text"], time.monotonic()
        all_words = vocabulary.Vocabulary.count(texts, min_count=1)
        settings = _make_settings(self.spec, run.settings, words=sum(all_words.counts))
        known_words = all_words.select_frequent(settings.min_count, settings.max_words)
        if run.say:
            run.say(_describe_defaults(settings, len(run.rows), all_words, known_words))
        counting_seconds = time.monotonic() - start_time
        self.model = paragraph_model.ParagraphVectors(settings)
        self.model.fit(
            texts,
            vocabulary=known_words,
            folder=run.folder,
            checkpoint_every=run.settings.checkpoint_every,
            show_progress=run.show_progress,
            say=run.say,
            finish=run.finish,
        )
        self._register_tensors()
        return counting_seconds + self.model.seconds

    def _register_tensors(self) -> None:
        """Make `module` hold the tensors that encode: all except the training documents' own vectors."""
        self.module = torch.nn.Module()
        for name, tensor in self.model.state.items():
            if not name.endswith("documents"):
                self.module.register_buffer(name, tensor)

    # -- use -------------------------------------------------------------------------------------------------------

    def _encode(
        self, inputs: Iterable[Any], *, show_progress: bool = False, precision: str = "fp32", real: bool = False
    ) -> np.ndarray:
        """Packed codes in the order of `inputs`; real vectors with `real=True` or in the real view.

        A text without a known word has a code of zeros and a vector of zeros. Raises ZooError for a bare string and for an
        input that is not a string.
        """
        encoder = self.view(real=True) if real else self
        return np.concatenate(list(encoder._stream(inputs, precision=precision)))

    def _stream(self, inputs: Iterable[Any], *, precision: str = "fp32") -> Iterator[np.ndarray]:
        """Encode in blocks of 1000 texts, in order. Without inputs there is one empty block.

        Raises ZooError if the encoder has not been trained.
        """
        if not self.model.state:
            raise ZooError("the encoder has not been trained: call `fit` before you encode")
        for texts in _read_blocks(check_texts(inputs)):
            if self.similarity_fn_name == "hamming":
                yield self.model.infer_codes(texts, epochs=self.spec.inference_epochs, batch_size=BLOCK_SIZE)
            else:
                yield self.model.infer(texts, batch_size=BLOCK_SIZE)

    def rank(
        self, queries: Sequence[str], documents: Sequence[str], *, top: int = 10, candidates: int = 100
    ) -> tuple[np.ndarray, np.ndarray]:
        """For each query, the `top` documents by cosine among the `candidates` nearest by Hamming distance.

        Returns positions in `documents` and cosines, (queries, top) each, the best first (arXiv 1611.01116, section 2.2).
        Raises ZooError for a model without real vectors.
        """
        code_view, real_view = self.view(), self.view(real=True)
        count = min(candidates, len(documents))
        distances = codes.compute_hamming_distances(code_view.encode(queries), code_view.encode(documents))
        nearest = np.argsort(distances, axis=1, kind="stable")[:, :count]
        vectors = real_view.encode(documents)
        cosines = np.einsum("qcd,qd->qc", vectors[nearest], real_view.encode(queries))
        best = np.argsort(-cosines, axis=1, kind="stable")[:, : min(top, count)]
        return np.take_along_axis(nearest, best, 1), np.take_along_axis(cosines, best, 1)

    def _make_view(self, options: Mapping[str, Any]) -> Self:
        mistake = self.spec.find_view_mistake(options, self.folder)
        if mistake:
            raise ZooError(mistake)
        is_real = bool(options.get("real"))
        view = copy.copy(self)
        view.view_options = {"real": True} if is_real else {}
        view.similarity_fn_name = "cosine" if is_real else "hamming"
        view.dim = self.spec.width if is_real else self.spec.bits
        return view

    @property
    def bytes_per_vector(self) -> int:
        """Storage of one encoded vector in bytes: of packed bits, or of float32."""
        return -(-self.dim // 8) if self.similarity_fn_name == "hamming" else self.dim * 4

    def make_graph(self) -> Graph:
        """Return the graph of this view from rows of the vocabulary to packed codes, or to real vectors.

        Raises ZooError before training.
        """
        if not self.model.state:
            raise ZooError("the encoder has not been trained: call `fit` before you export it")
        is_real = self.similarity_fn_name == "cosine"
        from zoo.paragraph_vectors import inference_graph, step_graph, word_tokenizer

        tokenizer = word_tokenizer.make_tokenizer(self.model.vocabulary, step_graph.MAX_WORDS)
        reader = TextReader(tokenizer.to_str(), step_graph.MAX_WORDS, adds_special_tokens=False)
        module = inference_graph.CodeGraph(self.model, is_real=is_real, epochs=self.spec.inference_epochs)
        kinds: dict[str, Any] = {} if is_real else {"dtype": "uint8", "similarity": "hamming", "normalizes": False}
        probes = word_tokenizer.make_probes(self.model.vocabulary)
        return Graph({"": module}, reader=reader, takes_int8=False, probes=probes, **kinds)

    # -- model folder ----------------------------------------------------------------------------------------------

    def write_weights(self, folder: Path) -> None:
        """Write model.safetensors and vocabulary.json. Raises ZooError if the encoder has not been trained."""
        if not self.model.state:
            raise ZooError("the encoder has not been trained: call `fit` before you save it")
        save_file(tensors.extract(self.module), folder / "model.safetensors", metadata={"format": "pt"})
        self.model.vocabulary.save(folder / "vocabulary.json")

    @classmethod
    def load(cls, spec: Spec, folder: Path, config: Mapping[str, Any]) -> Self:
        """Open what `write_weights` wrote.

        Raises ArtefactError if a tensor is missing, extra, not finite, or does not fit the vocabulary.
        """
        values = dict(preflight.check_training_settings(folder, config.get("training")))
        sizes: dict[str, Any] = {
            name: make(values.pop(name)) for name, make in CORPUS_SETTINGS.items() if name in values
        }
        training = Training(**values)
        encoder = cls.build(spec, seed=int(values.get("seed", 42)))
        encoder.model = paragraph_model.ParagraphVectors(replace(_make_settings(spec, training), **sizes))
        encoder.model.vocabulary = vocabulary.Vocabulary.load(folder / "vocabulary.json")
        preflight.check_shapes(folder, encoder.model.tensor_shapes())
        encoder.model.allocate()
        encoder._register_tensors()
        tensors.fill(encoder.module, tensors.read(folder), folder)
        return encoder

    def extra_config(self) -> dict[str, Any]:
        """The training settings that inference uses again."""
        settings = self.model.settings
        names = ("epochs", "learning_rate", "seed", *CORPUS_SETTINGS)
        return {"training": {name: getattr(settings, name) for name in names}}

    def card_facts(self) -> dict[str, Any]:
        """Bits, real components, words, anchors, the variant, and the part of latent semantic analysis in words."""
        settings = self.model.settings
        return {
            "bits": settings.bits,
            "real": settings.dim,
            "words": len(self.model.vocabulary),
            "anchors": settings.anchors,
            "variant": self.spec.variant,
            "lsa_start": settings.texts > 0 and not settings.is_dm,
            "lsa_share": settings.lsa_share,
            "settings": {
                "encoder.dim": settings.dim,
                "encoder.inference_epochs": self.spec.inference_epochs or settings.code_epochs,
                "encoder.min_count": settings.min_count,
                "training.epochs": settings.epochs,
            },
        }


def _make_settings(spec: Spec, training: Training, *, words: int = 0) -> paragraph_model.Settings:
    """Create the settings of a model; those that neither section gives follow the number of `words` of the corpus."""
    epochs = training.fixed_epochs or defaults.choose_epochs(words)
    return paragraph_model.Settings(
        dim=spec.width,
        bits=spec.bits,
        mode="dm" if spec.variant == "dm" else "dbow",
        words=spec.variant != "dm",
        window=spec.window,
        negatives=spec.negatives,
        sample=spec.sample,
        min_count=spec.min_count or defaults.choose_min_count(words),
        max_words=spec.max_words,
        epochs=round_epochs(epochs),
        small_corpus=defaults.SMALL_CORPUS,
        code_epochs=max(1, round(epochs * CODE_EPOCHS_SHARE)),
        learning_rate=training.peak_learning_rate,
        last_learning_rate=min(1e-4, training.peak_learning_rate),
        seed=training.seed,
    )


def _describe_defaults(
    settings: paragraph_model.Settings, texts: int, all_words: vocabulary.Vocabulary, known: vocabulary.Vocabulary
) -> str:
    """Return the line about the settings that follow the corpus."""
    words, start = sum(known.counts), "random vectors"
    if words < settings.small_corpus and not settings.is_dm:
        start = f"latent semantic analysis, which keeps a share of {word_start.choose_share(words):.0%} of them"
    return (
        f"{texts:,} texts of {sum(all_words.counts):,} words: read {settings.epochs} times, words that occur "
        f"{settings.min_count} times are kept ({len(known):,}), word vectors start from {start}"
    )


def _read_blocks(texts: Iterator[str]) -> Iterator[list[str]]:
    """Yield blocks of BLOCK_SIZE texts; without any text, yield one empty block."""
    block = list(islice(texts, BLOCK_SIZE))
    while True:
        yield block
        block = list(islice(texts, BLOCK_SIZE))
        if not block:
            return
