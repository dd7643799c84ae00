"""`Model`: a packed model in use."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import checked_folder, codes, description, tensors, token_sets
from .batches import Reader
from .description import GraphFile
from .errors import PackError
from .network import Network

Array = npt.NDArray[Any]
INPUTS, VECTORS = checked_folder.CANARY_FILES
NAMED_VECTORS = "classes.safetensors"
EQUAL_BITS = 0.999
"""Share of packed bits that must be equal."""
EXACT, TOLERANCE = 1e-4, 0.005
"""Largest difference of a component at fp32; how far cosines of int8 may be below those measured when it was written."""


@dataclass(frozen=True)
class Prediction:
    """The class of one input.

    Attributes:
        label: the class, or None if the score is below the threshold of the model, or the probability below its least.
        score: the cosine with the vector of the class, or the output of the softmax head.
        probability: of the class.
    """

    label: str | int | None
    score: float
    probability: float


@dataclass(frozen=True)
class Verification:
    """How the vectors of the canaries differ from the exact ones of the original model.

    Attributes:
        is_same: whether they are as near as they were when the folder was written.
        mean_cosine, lowest_cosine: between the two vectors of a canary.
        largest_difference: of a component.
    """

    is_same: bool
    mean_cosine: float
    lowest_cosine: float
    largest_difference: float


def open_model(
    folder: str | Path, *, threads: int | None = None, precision: str = "fp32", layers: int | None = None
) -> Model:
    """Open a folder of `zoo pack` or `zoo export --to onnx|openvino`, after the sha256 of every file was checked.

    Args:
        folder: the folder.
        threads: of one call; None for OMP_NUM_THREADS, or as many as the engine likes.
        precision: of the arithmetic of OpenVINO: fp32, bf16 or auto.
        layers: open the network with so many blocks first.

    Raises PackError for a folder that is altered, damaged or of another version.
    """
    path = Path(folder)
    checked_folder.verify(path)
    model = Model(path, description.read(path), threads, precision)
    return model if layers is None else model.view(layers=layers)


class Model:
    """A model that encodes by a graph.

    Attributes:
        description: everything that runtime.json says.
        dim: components of a vector of this view.
        layers: blocks of the network of this view; None if the family counts none.
    """

    def __init__(
        self, folder: Path, content: description.Description, threads: int | None = None, precision: str = "fp32"
    ) -> None:
        self.folder, self.description = folder, content
        self.dim, self.layers = content.dim, content.graphs[0].layers
        self._threads, self._precision = threads, precision
        self._reader = Reader(folder, content)
        self._networks: dict[str, Network] = {}
        self._steps: list[Any] | None = None
        self._named_vectors: Array | None = None

    @property
    def width(self) -> int:
        """Numbers of a row of `encode`: components, or the bytes of packed bits."""
        return -(-self.dim // 8) if self.description.similarity == "hamming" else self.dim

    @property
    def depths(self) -> tuple[int, ...]:
        """The numbers of layers that the folder holds, for `view`; () if the family counts none."""
        return tuple(sorted({graph.layers for graph in self.description.graphs if graph.layers is not None}))

    @property
    def is_whole(self) -> bool:
        """Whether this view is the one whose vectors the steps were fitted on."""
        return self.dim == self.description.dim and self.layers == self.description.graphs[0].layers

    def view(self, *, layers: int | None = None, dim: int | None = None) -> Model:
        """Return the model with fewer layers or components. The vectors have unit norm again. Networks are shared."""
        if layers is not None and layers not in self.depths:
            raise PackError(f"layers: {layers} is not in this folder, which holds {list(self.depths) or 'one network'}")
        if dim is not None and not 1 <= dim <= self.description.dim:
            raise PackError(f"dim: {dim} is outside 1…{self.description.dim}")
        if dim not in (None, self.description.dim) and not self.description.can_be_cut:
            raise PackError(f"dim: vectors of the family {self.description.family} cannot be cut; leave it out")
        twin = copy.copy(self)
        twin.layers, twin.dim = layers or self.layers, dim or self.dim
        return twin

    # -- vectors -------------------------------------------------------------------------------------------------------

    def encode(self, inputs: Iterable[Any], *, prompt_name: str | None = None) -> Array:
        """Return the vectors (n, dim) of inputs, in order: float32, or codes of latents in uint8 or uint16.

        A model of packed bits gives (n, ceil(dim / 8)) uint8.

        Args:
            inputs: a list of texts; of images (size, size[, channels]) uint8; or of vectors.
            prompt_name: "query" or "document" for a model that reads the two differently; None for neither.

        Raises PackError for a wrong input, with its position, and for a single one.
        """
        return self.run(inputs, prompt_name=prompt_name)["vector"]

    def encode_query(self, inputs: Iterable[Any]) -> Array:
        """`encode` with the prompt of queries, if there is one."""
        return self.encode(inputs, prompt_name="query" if self.has_roles else None)

    def encode_document(self, inputs: Iterable[Any]) -> Array:
        """`encode` with the prompt of documents, if there is one."""
        return self.encode(inputs, prompt_name="document" if self.has_roles else None)

    @property
    def has_roles(self) -> bool:
        """Whether queries and documents may be encoded differently."""
        has_sides = any(graph.sides for graph in self.description.graphs)
        return bool(self.description.prompts) or has_sides or self.description.token_sets is not None

    def encode_tokens(self, texts: Iterable[str], *, prompt_name: str | None = None) -> tuple[Array, Array]:
        """Return the unit vectors (t, d) float32 of the tokens that count, and the offsets (n + 1,) at which each text begins.

        Raise PackError for a model that gives one vector for each text.
        """
        sets = self.description.token_sets
        if sets is None:
            raise PackError(f"the family {self.description.family} has no vectors of tokens: use encode")
        items, network = self._prepare_inputs(texts, prompt_name), self._get_network(prompt_name)
        rows: list[Array] = [np.empty((0, sets.dim), np.float32)] * len(items)
        for places, batch in self._reader.iterate_batches(items, is_query=prompt_name == "query"):
            outputs = network.run(batch)["tokens"]
            for place, vectors, scored in zip(places, outputs, batch["scored"], strict=True):
                rows[place] = vectors[scored.astype(bool)]
        return token_sets.join(rows, sets.dim)

    def run(self, inputs: Iterable[Any], *, prompt_name: str | None = None) -> dict[str, Array]:
        """Return the outputs of the graph with a row for each input, (n, …), by name; see `encode`."""
        items, network = self._prepare_inputs(inputs, prompt_name), self._get_network(prompt_name)
        outputs: dict[str, Array] = {}
        for places, batch in self._reader.iterate_batches(items, is_query=prompt_name == "query"):
            for name, values in network.run(batch).items():
                if name == "tokens":
                    continue
                if name not in outputs:
                    outputs[name] = np.empty((len(items), *values.shape[1:]), values.dtype)
                outputs[name][places] = values
        vectors = outputs.get("vector", np.empty((0, self.width), np.float32))
        if self.description.dtype == "float32" and not np.isfinite(vectors).all():
            raise PackError("encode() produced NaN or infinity; verify() says whether the folder is sound")
        self._replace_named(items, vectors)
        return {**outputs, "vector": self._finish(vectors)}

    def _prepare_inputs(self, inputs: Iterable[Any], prompt_name: str | None) -> list[Any]:
        """Return the inputs with the prompt of a role. Raise PackError for a single input and for an unknown role."""
        if isinstance(inputs, str | bytes):
            raise PackError("give a list of inputs, not a single one: encode([text])")
        if prompt_name not in (None, "query", "document"):
            raise PackError(f"prompt_name: {prompt_name!r} is not query, document or None")
        items = list(inputs)
        prompt = self.description.prompts.get(prompt_name or "", "")
        if prompt:
            items = [prompt + item if isinstance(item, str) else item for item in items]
        return items

    def _replace_named(self, items: Sequence[Any], vectors: Array) -> None:
        """Give texts that are the name of a class the vector of the class, in place."""
        if not self.description.has_named_vectors:
            return
        if self._named_vectors is None:
            self._named_vectors = tensors.read(self.folder / NAMED_VECTORS)["vectors"]
        numbers = {name: number for number, name in enumerate(self.description.classes)}
        for place, item in enumerate(items):
            if item in numbers:
                vectors[place] = self._named_vectors[numbers[item]]

    def compute(self, batch: Mapping[str, Array]) -> Array:
        """Return the vectors (n, dim) of one batch of the graph's own inputs, for callers that make batches themselves.

        It may be called from several threads.
        """
        return self._finish(self._get_network(None).run(batch)["vector"])

    def _finish(self, vectors: Array) -> Array:
        vectors = vectors[:, : self.width].astype(self.description.dtype, copy=False)
        if self.dim == self.description.dim or not self.description.normalizes:
            return vectors
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        units: Array = vectors / np.maximum(norms, 1e-12)
        return units

    def _get_network(self, side: str | None) -> Network:
        graph = self._find_graph(side)
        if graph.file not in self._networks:
            self._networks[graph.file] = Network(self.folder / graph.file, self._threads, self._precision)
        return self._networks[graph.file]

    def _find_graph(self, side: str | None) -> GraphFile:
        graphs = [graph for graph in self.description.graphs if graph.layers == self.layers]
        return next((graph for graph in graphs if (side or "query") in graph.sides), graphs[0])

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text, truncated, without any prompt."""
        return self._reader.tokenize(list(texts))

    # -- classes and codes ---------------------------------------------------------------------------------------------

    def predict(self, inputs: Iterable[Any]) -> list[Prediction]:
        """Return the class of each input. Raise PackError for a model without classes."""
        classes = self.description.classes
        if not classes:
            raise PackError(f"the family {self.description.family} has no classes")
        scores = self.run(inputs).get("scores", np.empty((0, len(classes)), np.float32))
        scaled = scores.astype(np.float64) * self.description.scale
        weights = np.exp(scaled - scaled.max(axis=1, keepdims=True, initial=-np.inf))
        probabilities = weights / weights.sum(axis=1, keepdims=True)
        threshold, least = self.description.threshold, self.description.least_probability
        predictions = []
        for row, number in enumerate(scores.argmax(axis=1)):
            score, probability = float(scores[row, number]), float(probabilities[row, number])
            is_accepted = (threshold is None or score >= threshold) and probability >= least
            predictions.append(Prediction(classes[number] if is_accepted else None, score, probability))
        return predictions

    def codes(self, inputs: Iterable[Any]) -> Array:
        """Return packed codes (n, bytes) uint8 of documents. Raise PackError without a step for codes, and for a cut view."""
        step = self._find_step()
        packed: Array = step.encode(self._prepare(self.encode_document(inputs)))
        return packed

    def decode(self, packed: Array) -> Array:
        """Return the vectors (n, d) float32 that packed codes stand for."""
        vectors: Array = self._find_step().decode(packed)
        return vectors

    def scores(self, queries: Iterable[Any], packed: Array) -> Array:
        """Return the scores (m, n) float32 of queries with packed codes: inner products with the decoded vectors."""
        step = self._find_step()
        left = step.transform_queries(self._prepare(self.encode_query(queries)))
        found: Array = (left @ step.decode(packed).T).astype(np.float32)
        return found

    def _find_step(self) -> Any:
        if not self.description.steps:
            raise PackError("the folder holds no step for codes; fit one with zoo before the model is packed")
        if not self.is_whole:
            raise PackError("the step was fitted on vectors of the whole model: use the model without a view")
        if self._steps is None:
            self._steps = [
                codes.open_step(entry, tensors.read(self.folder / f"{number}-{entry.get('step')}.safetensors"))
                for number, entry in enumerate(self.description.steps)
            ]
        return self._steps[0]

    def _prepare(self, vectors: Array) -> Array:
        if self.description.similarity != "cosine":
            return vectors
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        units: Array = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
        return units

    # -- verification --------------------------------------------------------------------------------------------------

    def verify(self) -> Verification:
        """Compute the vectors of the canaries again, and compare them with the exact ones that the folder holds."""
        whole = self.view(layers=self.description.graphs[0].layers, dim=self.description.dim)
        arrays = tensors.read(self.folder / VECTORS)
        exact, images = arrays["vectors"], arrays.get("inputs")
        if images is not None:
            return compare(whole.encode(list(images)), exact, self.description)
        entries = checked_folder.read_json(self.folder / INPUTS)["inputs"]
        vectors = np.empty_like(exact)
        for role in {entry.get("role") for entry in entries}:
            places = [place for place, entry in enumerate(entries) if entry.get("role") == role]
            vectors[places] = whole.encode([entries[place]["text"] for place in places], prompt_name=role)
        return compare(vectors, exact, self.description)


def compare(vectors: Array, exact: Array, content: description.Description) -> Verification:
    """Compare vectors (n, d) with exact ones. For int8, they may differ as much as when the folder was written.

    Packed bits are compared bit by bit, and their "cosine" is the share of equal bits. A few may differ, because a logit near 0
    may fall to either side on another machine.
    """
    if content.similarity == "hamming":
        equal = 1 - (np.unpackbits(vectors, axis=1) ^ np.unpackbits(exact, axis=1)).mean(axis=1)
        share = float(equal.mean()) if len(equal) else 1.0
        return Verification(share >= EQUAL_BITS, share, float(equal.min(initial=1.0)), float((equal < 1).any()))
    left, right = vectors.astype(np.float64), exact.astype(np.float64)
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    cosines = np.divide((left * right).sum(axis=1), norms, out=np.ones(len(left)), where=norms > 0)
    cosines[(norms == 0) & (left != right).any(axis=1)] = 0.0
    difference = float(np.abs(left - right).max(initial=0.0))
    mean, lowest = float(cosines.mean()), float(cosines.min())
    is_same = difference <= EXACT * max(1.0, float(np.abs(right).max(initial=0.0)))
    if content.precision != "fp32":
        measured = {"mean_cosine": -1.0, "lowest_cosine": -1.0, **content.deviation}
        is_same = mean >= measured["mean_cosine"] - TOLERANCE and lowest >= measured["lowest_cosine"] - 4 * TOLERANCE
    return Verification(bool(is_same), mean, lowest, difference)
