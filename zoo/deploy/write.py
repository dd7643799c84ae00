"""Write a folder that `zoo.runtime` opens: graphs, tokenizer, fitted steps, canaries, a card and a manifest.

The folder appears only after it was opened by the runtime and gave the vectors of the model.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors.numpy import save_file

from zoo.artefact import canaries, manifest, saved_steps
from zoo.core import atomic_files
from zoo.core.errors import ArtefactError, ZooError
from zoo.deploy import (
    card,
    flat_graph,
    int8,
    openvino_graph,
    probe_inputs,
    smoothing,
    task_scores,
    tracing,
    verification,
)
from zoo.encoder import Encoder
from zoo.evaluation import Prepared
from zoo.graph import Graph
from zoo.runtime import codes as packed_steps
from zoo.runtime import description
from zoo.runtime.errors import PackError
from zoo.runtime.model import NAMED_VECTORS, Model, open_model
from zoo.text import calibration
from zoo.text.text_encoder import TextEncoder

Engine = Literal["onnx", "openvino"]
MAX_LOSS = 0.01
"""The largest loss in mean cosine of int8, if the user does not say."""
CALIBRATION_TEXTS = 100
LICENCE_FILES = ("LICENSE", "NOTICE")


@dataclass(frozen=True)
class Options:
    """How a model is written.

    Attributes:
        engine: onnx or openvino.
        is_int8: whether weights and activations are int8.
        max_loss: the largest loss in mean cosine of int8.
        texts: texts that calibrate int8, beside texts of many kinds that zoo has.
        depths: further numbers of layers, each with a graph of its own.
        keeps_steps: whether fitted steps for codes are written too.
        tasks: evaluation tasks that the model and the folder are scored on; None for none.
        original: the view before its token table was coded, beside which losses are measured; None for the view itself.
    """

    engine: Engine = "onnx"
    is_int8: bool = False
    max_loss: float = MAX_LOSS
    texts: Sequence[str] = ()
    depths: Sequence[int] = ()
    keeps_steps: bool = False
    tasks: Prepared | None = None
    original: Encoder | None = None


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        folder: the folder.
        size: bytes of the graphs.
        deviation: of the whole network's vectors.
        is_packed: whether vectors are packed bits, whose deviation counts equal bits.
        table_loss: mean and lowest cosine of the view and its original, whose token table is not coded; None without one.
        scores: of tasks.
        left_out: names of steps that the runtime does not have.
    """

    folder: Path
    size: int
    deviation: verification.Deviation
    scores: Sequence[task_scores.TaskScore] = ()
    left_out: Sequence[str] = ()
    is_packed: bool = False
    table_loss: tuple[float, float] | None = None

    def describe(self) -> str:
        """Return one line about size and deviation."""
        found = self.deviation
        table, measure = "", "share of equal bits" if self.is_packed else "cosine"
        if self.table_loss is not None:
            mean, lowest = self.table_loss
            table = f"; the coded token table, beside the plain one: mean cosine {mean:.5f}, lowest {lowest:.5f}"
        largest = "" if self.is_packed else f", largest difference {found.largest_difference:.2g}"
        return (
            f"{self.size / 1e6:.1f} MB of graphs; {found.inputs} inputs, beside the exact engine: mean {measure} "
            f"{found.mean_cosine:.5f}, lowest {found.lowest_cosine:.5f}{largest}{table}"
        )


def write(parent: Path, view: Encoder, target: Path, options: Options) -> Written:
    """Write `view` to the new folder `target`.

    Args:
        parent: the model folder that the encoder was opened from, for its licence and its provenance.
        view: the encoder at the view that is written.
        target: the new folder.
        options: see `Options`.

    Raises ZooError for a family that has no graph and for a loss above `max_loss`; ArtefactError if vectors differ otherwise.
    """
    views = {None: view} | {depth: view.view(**{**view.view_options, "layers": depth}) for depth in options.depths}
    graphs = {depth: member.make_graph() for depth, member in views.items()}
    graph = graphs[None]
    with atomic_files.replace_folder(target) as partial:
        files = []
        for depth, member in graphs.items():
            stem = "model" if depth is None else f"layers-{depth}"
            files += _write_graphs(partial, stem, member, view, options)
        if graph.reader is not None:
            (partial / "tokenizer.json").write_text(graph.reader.tokenizer, encoding="utf-8")
        if graph.named_vectors is not None:
            save_file({"vectors": np.ascontiguousarray(graph.named_vectors)}, partial / NAMED_VECTORS)
        steps, left_out = _write_steps(partial, view) if options.keeps_steps else ([], [])
        content = _describe(parent, view, graph, options, files, steps)
        _write_description(partial, content)
        inputs = probe_inputs.make_inputs(graph)
        model = Model(partial, description.read(partial))
        try:
            deviation = verification.check(view, model, graph, inputs, options.max_loss)
            for depth in options.depths:
                verification.check(views[depth], model.view(layers=depth), graphs[depth], inputs, options.max_loss)
        except PackError as error:
            raise ArtefactError(f"the graph does not run: {error}; nothing was written") from error
        _write_canaries(partial, view, graph, inputs)
        deviation = deviation.include(model.verify())
        _write_description(partial, {**content, "deviation": deviation.as_json()})
        original = options.original or view
        scores = [] if options.tasks is None else task_scores.measure(original, model, options.tasks)
        size = sum((partial / name).stat().st_size for name in _list_graph_files(partial))
        for name in LICENCE_FILES:
            if (parent / name).is_file():
                shutil.copy2(parent / name, partial / name)
        loss = None if original is view else verification.compare_encoders(original, view, inputs)
        written = Written(target, size, deviation, scores, left_out, graph.similarity == "hamming", loss)
        text = card.render(content, written.describe(), scores)
        (partial / "README.md").write_text(text, encoding="utf-8")
        manifest.write(partial)
        _open_as_a_user(partial)
    return written


def _write_graphs(folder: Path, stem: str, graph: Graph, view: Encoder, options: Options) -> list[dict[str, Any]]:
    """Write the graphs of each side, and return their entries of runtime.json."""
    suffix = ".onnx" if options.engine == "onnx" else ".xml"
    if options.is_int8 and (graph.modality != "text" or not graph.takes_int8):
        raise ZooError("--int8 is for models that read texts with a Transformer or a table: export this one without it")
    # Canaries have many scripts. Ranges from texts of one kind alone lose much on all others.
    texts = [*options.texts[:CALIBRATION_TEXTS], *canaries.TEXTS]
    family, entries = view.spec.family, []
    for side, own in graph.modules.items():
        name = f"{stem}-{side}{suffix}" if side else f"{stem}{suffix}"
        module = tracing.copy_module(own, view.name)
        if options.engine == "onnx" and options.is_int8:
            flat_graph.flatten_networks(module, own)
        ranges = smoothing.find_ranges(module, graph, view, texts) if options.is_int8 else {}
        if options.engine == "onnx" and options.is_int8:
            int8.write_int8(module, graph, folder / name, family, ranges)
        elif options.engine == "onnx":
            tracing.write_onnx(module, graph, folder / name, family)
        else:
            with tempfile.TemporaryDirectory() as scratch:
                plain = Path(scratch) / "plain.onnx"
                ready = smoothing.smooth(module, ranges) if options.is_int8 else module
                tracing.write_onnx(ready, graph, plain, family)
                rows = _list_calibration_rows(graph, view, texts) if options.is_int8 else None
                openvino_graph.convert(plain, folder / name, graph, int8_rows=rows)
        entries.append({"file": name, "layers": graph.layers, "sides": [side] if side else []})
    return entries


def _list_calibration_rows(graph: Graph, view: Encoder, texts: Sequence[str]) -> list[Sequence[int]]:
    """Return texts of token ids for NNCF, which takes no ranges: the texts, and random words of a known network."""
    assert graph.reader is not None
    rows: list[Sequence[int]] = [*tracing.tokenize(graph.reader, list(texts))]
    return rows + (calibration.draw_token_ids(view) if isinstance(view, TextEncoder) else [])


def _list_graph_files(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.suffix in (".onnx", ".xml", ".bin")]


def _write_steps(folder: Path, view: Encoder) -> tuple[list[dict[str, Any]], list[str]]:
    """Write the first step if the runtime has it. Return its entry, and the names of the steps that are left out."""
    names = [step.spec.step for step in view.steps]
    if not names or names[0] not in packed_steps.KINDS:
        return [], names
    step = view.steps[0]
    saved_steps.write_tensors(step, folder / f"0-{names[0]}.safetensors")
    fields = step.spec.model_dump(mode="json")
    return [{"step": names[0], "fields": fields}], names[1:]


def _describe(
    parent: Path, view: Encoder, graph: Graph, options: Options, files: Sequence[Any], steps: Sequence[Any]
) -> dict[str, Any]:
    """Return the content of runtime.json without the deviation."""
    reader = graph.reader
    source_manifest = parent / manifest.NAME
    source = {
        "name": view.name,
        "revision": view.revision,
        "view": dict(view.view_options),
        "backbone": view.backbone_name,
        "manifest_sha256": atomic_files.sha256(source_manifest) if source_manifest.is_file() else None,
        "written_by": _describe_version(),
    }
    texts: dict[str, Any] = {}
    if reader is not None:
        names = ("max_length", "adds_special_tokens", "pad_id", "empty_id")
        texts = {name: getattr(reader, name) for name in names} | {"prompts": dict(reader.prompts)}
    own = ("modality", "dtype", "similarity", "normalizes", "can_be_cut", "size", "channels", "components", "scale")
    return {
        "format": description.FORMAT,
        "name": view.name,
        "family": view.spec.family,
        "engine": options.engine,
        "precision": "int8" if options.is_int8 else "fp32",
        "dim": view.dim,
        "graphs": list(files),
        **{name: getattr(graph, name) for name in own},
        **texts,
        "classes": list(graph.classes),
        "threshold": graph.threshold,
        **_describe_rest(graph),
        "steps": list(steps),
        "source": source,
    }


def _describe_rest(graph: Graph) -> dict[str, Any]:
    """Return entries that few families have. Older versions of the runtime refuse them, and open all other folders."""
    entries: dict[str, Any] = {}
    if graph.least_probability:
        entries["least_probability"] = graph.least_probability
    if graph.named_vectors is not None:
        entries["has_named_vectors"] = True
    if graph.token_sets is not None:
        entries["token_sets"] = asdict(graph.token_sets)
    return entries


def _describe_version() -> str:
    """Return the package and its version; without a version if it was never installed."""
    try:
        return f"embedding-zoo {metadata.version('embedding-zoo')}"
    except metadata.PackageNotFoundError:
        return "embedding-zoo"


def _write_description(folder: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    (folder / description.NAME).write_text(text, encoding="utf-8")


def _write_canaries(folder: Path, view: Encoder, graph: Graph, inputs: Sequence[Any]) -> None:
    """Write inputs and their exact vectors: those of every model folder, or arrays, which the runtime cannot make of images."""
    if graph.modality == "text":
        canaries.write(view, folder)
        return
    (folder / canaries.FOLDER).mkdir()
    chosen = list(inputs[: probe_inputs.CANARIES])
    arrays = {"vectors": view.encode(chosen), "inputs": np.stack(chosen)}
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    save_file(contiguous, folder / canaries.VECTORS)


def _open_as_a_user(folder: Path) -> None:
    """Open the finished folder with every check of the runtime. Raises ZooError if it does not give its canaries."""
    try:
        found = open_model(folder).verify()
    except PackError as error:
        raise ZooError(f"the folder does not open again: {error}; nothing was written") from error
    if not found.is_same:
        raise ZooError(
            f"the folder gives other vectors for its canaries: the lowest cosine is {found.lowest_cosine:.4f}; nothing was "
            "written"
        )
