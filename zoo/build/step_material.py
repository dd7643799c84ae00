"""Makes the material of a step after training from rows: which texts are documents and queries, and their vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from zoo import data, pretrained
from zoo.after.material import Material, Numbers, Vectors
from zoo.after.spec import StepSpec
from zoo.after.step import CodeStep
from zoo.core import atomic_files
from zoo.core.errors import DataError
from zoo.data import Table
from zoo.encoder import Encoder
from zoo.hub import model_references
from zoo.text.teacher_scores import compute_vectors

PAIR = ("anchor", "positive")
SENTENCES = ("sentence1", "sentence2")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Inputs:
    """The inputs of a fit before they are encoded.

    Attributes:
        documents: distinct documents.
        queries: distinct queries; [] if there are none.
        answers: (p, 2) numbers of a query and of a document that answers it.
        foreign: queries that no document answers.
    """

    documents: Sequence[Any]
    queries: Sequence[Any] = ()
    answers: Numbers | None = None
    foreign: Sequence[Any] = ()


def read_data(spec: StepSpec, kind: Any, folder: Path) -> dict[str, Table]:
    """Read the data sections that a step gives, by the name of their field. Raises DataError."""
    return {
        field: data.read(section.data, section.roles, section.optional, folder=folder)
        for field, section in spec.list_data(kind).items()
    }


def list_inputs(spec: StepSpec, train: Table, own: Mapping[str, Table], seed: int) -> Inputs:
    """Choose documents, queries and answers from the step's own data, or else from the training rows.

    A positive answers its anchor. The two texts of a scored pair are documents, and so are inputs without a partner. At most
    `spec.limit` rows are taken, drawn by `seed`. Raise DataError if the rows hold no documents.
    """
    if "data" in own:
        inputs = _choose_columns(own["data"], ("query", "document"), spec, seed)
    else:
        inputs = _choose_columns(train, PAIR, spec, seed)
    if "none" in own:
        rows = own["none"].rows
        foreign = rows.select(draw_rows(len(rows), spec.limit, seed))["query"]
        inputs = replace(inputs, foreign=list(dict.fromkeys(foreign)))
    return inputs


def _choose_columns(table: Table, pair: tuple[str, str], spec: StepSpec, seed: int) -> Inputs:
    names = table.rows.column_names
    query, document = pair
    if document in names and query in names:
        return _split_pairs(*_read(table, pair, spec.limit, seed), reads_queries=spec.reads_queries)
    columns = [*SENTENCES] if set(SENTENCES) <= set(names) else []
    columns = columns or [name for name in (document, *table.inputs) if name in names][:1]
    if not columns:
        raise DataError(
            f"after: {spec.step}: {table.origin.name} has no column of documents; give `data` with `document`"
        )
    texts = [text for column in _read(table, columns, spec.limit // len(columns), seed) for text in column]
    return Inputs(_find_distinct([text for text in texts if text is not None])[0])


def _read(table: Table, columns: Sequence[str], limit: int, seed: int) -> list[list[Any]]:
    rows = table.rows.select(draw_rows(len(table.rows), max(1, limit), seed))
    return [list(rows[column]) for column in columns]


def draw_rows(count: int, limit: int, seed: int) -> Any:
    """Return the numbers of `limit` of `count` rows, drawn by the seed, ascending."""
    if count <= limit:
        return range(count)
    return np.sort(np.random.default_rng(seed).permutation(count)[:limit])


def _split_pairs(queries: Sequence[Any], documents: Sequence[Any], *, reads_queries: bool) -> Inputs:
    """Make distinct queries and documents of pairs. A row of one source of several may lack a side."""
    pairs = [(a, b) for a, b in zip(queries, documents, strict=True) if a is not None and b is not None]
    distinct_documents, document_places = _find_distinct([document for _, document in pairs])
    if not reads_queries:
        return Inputs(distinct_documents)
    distinct_queries, query_places = _find_distinct([query for query, _ in pairs])
    answers = np.unique(np.stack([query_places, document_places], axis=1), axis=0)
    return Inputs(distinct_documents, distinct_queries, answers)


def _find_distinct(items: Sequence[Any]) -> tuple[list[Any], Numbers]:
    """Return the distinct texts, and the place of each item among them. Images and vectors are all distinct."""
    if not all(isinstance(item, str) for item in items):
        return list(items), np.arange(len(items))
    places = {text: number for number, text in enumerate(dict.fromkeys(items))}
    return list(places), np.array([places[text] for text in items], np.int64)


@dataclass(frozen=True)
class Encoding:
    """Encodes the inputs of a fit, and keeps the vectors of texts in a cache.

    Attributes:
        encoder: the trained encoder.
        fingerprint: changes whenever a vector changes, for example the sha256 of the model folder.
        cache: the folder of the vectors. Other models never share a file in it.
    """

    encoder: Encoder
    fingerprint: str
    cache: Path

    def encode(self, items: Sequence[Any], role: str) -> Vectors:
        """Return the vectors (n, d) float32 of documents or queries, as steps take them."""
        method = self.encoder.encode_query if role == "query" else self.encoder.encode_document

        def compute(block: Sequence[Any]) -> Vectors:
            return self.encoder.prepare_vectors(self.encoder.as_float_vectors(method(list(block), precision="fp32")))

        if not all(isinstance(item, str) for item in items):
            return compute(items)
        return np.array(compute_vectors(compute, items, self.cache, atomic_files.digest([self.fingerprint, role])))


def make_material(
    spec: StepSpec, inputs: Inputs, encoding: Encoding, codes: CodeStep | None, *, seed: int, folder: Path, say: Say
) -> Material:
    """Encode the inputs of a step.

    Args:
        spec: the entry of `after:`.
        inputs: what is encoded.
        encoding: how it is encoded.
        codes: the code step before a step of scores, whose decoded documents and transformed queries it is fitted on.
        seed: the seed of the fit.
        folder: where a relative path to an older model starts.
        say: receives lines about the progress.
    """

    def encode(items: Sequence[Any], role: str) -> Vectors | None:
        if not len(items):
            return None
        vectors = encoding.encode(items, role)
        if codes is None:
            return vectors
        return codes.transform_queries(vectors) if role == "query" else codes.decode(codes.encode(vectors))

    documents = encode(inputs.documents, "document")
    if documents is None:
        raise DataError(f"after: {spec.step}: there are no documents to fit it on; give `data` with `document`")
    old = getattr(spec, "compatible_with", None)
    return Material(
        documents,
        queries=encode(inputs.queries, "query"),
        answers=inputs.answers,
        foreign=encode(inputs.foreign, "query"),
        old_documents=None if old is None else encode_with_old_model(old, inputs.documents, encoding.cache, folder),
        seed=seed,
        cache=encoding.cache,
        say=say,
    )


def encode_with_old_model(reference: str, documents: Sequence[Any], cache: Path, folder: Path) -> Vectors:
    """Return the vectors (n, d) float32 that an older model has of documents: decoded ones, if it has a step for codes."""
    local = model_references.locate(reference, folder)
    encoder = pretrained.from_pretrained(reference if local is None or reference.startswith("package:") else local)
    vectors = Encoding(encoder, encoder.revision, cache).encode(documents, "document")
    codes = next((step for step in encoder.steps if isinstance(step, CodeStep)), None)
    return vectors if codes is None else codes.decode(codes.encode(vectors))
