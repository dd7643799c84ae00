"""Fits a step after training without a recipe: on vectors in .npy files, or on texts and any encoder; and applies it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zoo import after, pretrained
from zoo.after import saved
from zoo.after.material import Material, Vectors
from zoo.after.spec import StepSpec
from zoo.after.step import BLOCK, CodeStep, Step
from zoo.build import step_material
from zoo.core.errors import DataError, ZooError
from zoo.core.npy import open_rows
from zoo.fitted_steps import prepare_vectors

SEED = 42
Say = Callable[[str], Any]


class VectorFiles(NamedTuple):
    """The .npy files of a fit: documents (n, d), queries (m, d), answers (p, 2), and foreign queries (k, d)."""

    documents: str
    queries: str | None = None
    answers: str | None = None
    foreign: str | None = None


def fit_vectors(spec: StepSpec, files: VectorFiles, target: Path, *, unit: bool, seed: int = SEED, say: Say) -> Step:
    """Fit a step on vectors of files, and write it to the folder `target`.

    Args:
        spec: the step and its fields. At most `limit` documents are used, drawn by the seed.
        files: the vectors. Answers are numbers of a query and of a document.
        target: the folder of the step.
        unit: whether every vector gets unit norm first, so that scores are cosines. `apply_step` then does so too.
        seed: the seed of the fit.
        say: receives lines about the progress.

    Raises DataError for a file that cannot be read or does not fit the others, and ZooError for a part that the step lacks.
    """
    similarity = "cosine" if unit else "dot"
    arrays = {name: open_rows(path) for name, path in files._asdict().items() if path is not None}
    vectors = {name: rows for name, rows in arrays.items() if name != "answers"}
    sizes = {name: rows.shape[1] for name, rows in vectors.items()}
    if len(set(sizes.values())) > 1:
        raise DataError(f"vectors have different sizes: {', '.join(f'{name} {size}' for name, size in sizes.items())}")
    answers = _check_answers(arrays.get("answers"), arrays)
    documents, answers = _draw_documents(arrays["documents"], answers, spec.limit, seed)
    parts = {name: _prepare(rows, name, similarity) for name, rows in {**vectors, "documents": documents}.items()}
    _require_parts(spec, {**parts, "answers": answers})
    material = Material(**parts, answers=answers, seed=seed, say=say)  # type: ignore[arg-type]
    return _fit(spec, material, target, {"unit": unit, "vectors": Path(files.documents).name}, say)


def fit_model(
    spec: StepSpec, reference: str, target: Path, *, revision: str | None, seed: int = SEED, say: Say
) -> Step:
    """Fit a step on the vectors that a model gives the texts of `spec.data`, and write it to the folder `target`.

    Args:
        spec: the step with its data.
        reference, revision: a model folder, a Hub id, or package:NAME; also a plain sentence-transformers model.
        target, seed, say: as in `fit_vectors`.

    Raises ZooError for a model whose vectors are codes, and without data.
    """
    if spec.data is None:
        raise ZooError(
            f"{spec.step}: give the texts to encode with --data FILE, a file with a column `document` or `text`"
        )
    encoder = pretrained.from_pretrained(reference, revision)
    if problem := encoder.spec.codes_problem:
        raise ZooError(f"{reference}: a step takes float vectors, and {encoder.spec.family}: {problem}")
    tables = step_material.read_data(spec, encoder.spec.main_modality, Path())
    inputs = step_material.list_inputs(spec, tables["data"], tables, seed)
    say(f"encoding {len(inputs.documents):,} documents")
    with tempfile.TemporaryDirectory(prefix="zoo-fit-") as cache:
        encoding = step_material.Encoding(encoder, encoder.revision, Path(cache))
        material = step_material.make_material(spec, inputs, encoding, None, seed=seed, folder=Path(), say=say)
        _require_parts(spec, vars(material))
        unit = encoder.similarity_fn_name == "cosine"
        return _fit(spec, material, target, {"unit": unit, "model": encoder.name, "revision": encoder.revision}, say)


def apply_step(folder: Path, vectors: str, *, decode: bool = False) -> Iterator[npt.NDArray[Any]]:
    """Yield the codes of the vectors in an .npy file, in blocks; with `decode`, the vectors of the codes in it.

    Raises ZooError for a step that gives no codes, and for vectors that do not fit it.
    """
    step, unit = saved.open_step(folder), bool(saved.read_source(folder).get("unit"))
    if not isinstance(step, CodeStep):
        raise ZooError(
            f"{folder}: the step {step.spec.step} gives no codes; only steps for codes are applied to vectors"
        )
    rows = open_rows(vectors)
    width, dtype = (step.bytes_per_vector, "uint8") if decode else (step.dim, "floats")
    if rows.shape[1] != width or (rows.dtype == np.uint8) != decode:
        raise ZooError(
            f"{vectors}: holds {rows.dtype} {rows.shape}; the step {step.spec.step} takes (n, {width}) of {dtype}"
        )

    def make_blocks() -> Iterator[npt.NDArray[Any]]:
        for start in range(0, max(1, len(rows)), BLOCK):
            block = np.array(rows[start : start + BLOCK])
            yield step.decode(block) if decode else step.encode(prepare_vectors(block, "cosine" if unit else "dot"))

    return make_blocks()


def _fit(spec: StepSpec, material: Material, target: Path, source: dict[str, Any], say: Say) -> Step:
    step = after.load_step(spec.step).fit(spec, material)
    saved.save_step(step, target, source)
    size = f" of {step.bytes_per_vector:,} bytes a vector" if isinstance(step, CodeStep) else ""
    say(f"{spec.step}{size}, fitted on {len(material.documents):,} documents")
    return step


def _prepare(rows: Any, name: str, similarity: str) -> Vectors:
    if rows.dtype.kind != "f":
        raise DataError(f"{name}: are {rows.dtype}, and a step takes float vectors: give what `encode` returns")
    return prepare_vectors(rows, similarity)


def _check_answers(answers: Any, arrays: dict[str, Any]) -> Any:
    if answers is None:
        return None
    if answers.dtype.kind not in "iu" or answers.shape[1] != 2 or "queries" not in arrays:
        raise DataError("answers: give whole numbers (p, 2) of a query and of a document, and the queries too")
    limits = (len(arrays["queries"]), len(arrays["documents"]))
    if len(answers) and ((answers < 0) | (answers >= np.array(limits))).any():
        raise DataError(
            f"answers: a number is beyond the {limits[0]} queries or the {limits[1]} documents; rows count from 0"
        )
    return np.asarray(answers, np.int64)


def _draw_documents(documents: Any, answers: Any, limit: int, seed: int) -> tuple[Any, Any]:
    """Return at most `limit` documents, drawn by the seed, and the answers among them with their new numbers."""
    if len(documents) <= limit:
        return documents, answers
    chosen = step_material.draw_rows(len(documents), limit, seed)
    if answers is not None:
        places = np.full(len(documents), -1, np.int64)
        places[chosen] = np.arange(len(chosen))
        moved = np.stack([answers[:, 0], places[answers[:, 1]]], axis=1)
        answers = moved[moved[:, 1] >= 0]
    return documents[chosen], answers


def _require_parts(spec: StepSpec, parts: Any) -> None:
    missing = [name for name in spec.needs if parts.get(name) is None]
    if missing:
        raise ZooError(
            f"{spec.step} needs {' and '.join(missing)}: give vectors with --queries, --answers and --none, or texts with the "
            "columns `query` and `document`"
        )
