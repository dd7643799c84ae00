"""Let a text encoder encode with ONNX Runtime, OpenVINO, or the engine that is fastest here, behind the same `encode`.

A graph is written by `zoo.deploy.write`, which compares it with the exact engine first, and is kept in `graph_cache`. Views that
differ in their number of components alone share a graph.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib import util
from pathlib import Path
from typing import Any

import torch

from zoo import pretrained
from zoo.core import atomic_files, hardware, host
from zoo.core.errors import ZooError
from zoo.core.output import say
from zoo.core.suggest import suggest
from zoo.deploy import engine_choice, graph_cache
from zoo.deploy.engine_choice import Candidate, Measurement
from zoo.encoder import Encoder
from zoo.hub import model_references
from zoo.hub.fetch import fetch
from zoo.ops.inference import stamp_weights
from zoo.runtime.model import Model
from zoo.text.engine import Engine
from zoo.text.graph_engine import GraphEngine
from zoo.text.text_encoder import TextEncoder

ENGINES = ("torch", "onnx", "openvino", "auto")
MODULES = {"onnx": "onnxruntime", "openvino": "openvino"}
MAX_LOSS = 0.001
PRECISIONS = {"torch": ("fp32", "bf16", "int8"), "onnx": ("fp32", "int8"), "openvino": ("fp32", "bf16", "int8")}
"""Precisions in which an engine computes on a CPU."""


def open_encoder(
    reference: str | Path, revision: str | None = None, *, engine: str = "torch", max_loss: float = MAX_LOSS
) -> Encoder:
    """Open a model as `zoo.from_pretrained` does, and let an engine encode.

    Args:
        reference, revision: as in `zoo.from_pretrained`.
        engine: torch, onnx, openvino, or auto.
        max_loss: the largest loss in mean cosine of the engine and the precision that `auto` chooses.

    Raises ZooError for an unknown engine, for one that is not installed, and for a family that encodes with torch only.
    """
    check_engine(engine, max_loss)
    encoder = pretrained.from_pretrained(reference, revision)
    if engine == "torch":
        return encoder
    if not isinstance(encoder, TextEncoder) or not encoder.has_engines:
        if engine == "auto":
            return encoder
        raise ZooError(f"engine: {engine}: the family {encoder.spec.family} encodes with torch only; leave it out")
    source = model_references.locate(str(reference))
    encoder.engines = Engines(encoder, reference if source is None else source, revision, engine, max_loss)
    encoder.default_precision = "auto" if engine == "auto" else "fp32"
    return encoder


def check_engine(engine: Any, max_loss: Any = MAX_LOSS) -> None:
    """Raise ZooError for an unknown engine, for one that is not installed, and for a loss that is not in [0, 1)."""
    if engine not in ENGINES:
        known = [str(name) for name in ENGINES]
        raise ZooError(f"engine: {engine!r} is not one of {', '.join(known)}{suggest(str(engine), known, listing='')}")
    if not isinstance(max_loss, int | float) or not 0 <= max_loss < 1:
        raise ZooError(f"max_loss: {max_loss!r} is not a number from 0 to 1, for example 0.001")
    if engine in MODULES and not is_installed(engine):
        raise ZooError(
            f"engine: {engine} needs {MODULES[engine]}, which is not installed: pip install 'embedding-zoo[{engine}]'"
        )


def is_installed(engine: str) -> bool:
    """Return whether the package of an engine is installed. It is not imported."""
    return engine not in MODULES or util.find_spec(MODULES[engine]) is not None


def freeze(encoder: Encoder) -> None:
    """Let an encoder make no more graphs, which would take seconds of a request. Torch computes what has no graph yet."""
    source = getattr(encoder, "engines", None)
    if isinstance(source, Engines):
        source.freeze()


@dataclass(frozen=True)
class _Size:
    """A graph: its view without a cut, its engine, and whether it is of int8."""

    view: tuple[tuple[str, Any], ...]
    engine: str
    is_int8: bool


class Engines:
    """Chooses and makes the engines of one encoder and its views. Its methods may be called from several threads.

    Args:
        encoder: the encoder as it was opened.
        reference, revision: from where.
        engine: onnx, openvino or auto.
        max_loss: of `auto`.
    """

    def __init__(
        self, encoder: TextEncoder, reference: str | Path, revision: str | None, engine: str, max_loss: float
    ) -> None:
        self.engine, self.max_loss = engine, max_loss
        self._reference, self._revision = reference, revision
        self._model, self._family = encoder.revision, encoder.spec.family
        self._stamp = None if encoder.is_deferred else stamp_weights(encoder.module)
        self._graphs: dict[tuple[_Size, str], Model] = {}
        self._engines: dict[Any, Engine] = {}
        self._choices: dict[Any, Candidate] = {}
        self._lock = threading.RLock()
        self._is_frozen = False

    def freeze(self) -> None:
        """Make no more graphs and measure no more. Views and precisions without a graph are then computed by torch."""
        self._is_frozen = True

    def choose(self, encoder: TextEncoder, precision: str) -> tuple[Engine, str]:
        """Return the engine of a view at a precision, and the precision that it is asked for.

        Raises ZooError for a precision that the engine does not have, for an encoder that has moved or whose weights have
        changed, and if a graph cannot be made.
        """
        if self.engine == "auto" and encoder.device.type != "cpu":
            return encoder.get_torch_engine(), precision
        self._check_unchanged(encoder)
        name = self.engine
        if name == "auto":
            choice = self._choose_fastest(encoder, precision)
            name, precision = choice.engine, choice.precision
        is_missing = name != "torch" and precision not in (*PRECISIONS[name], "auto")
        if name == "torch" or (is_missing and self._is_frozen):
            return encoder.get_torch_engine(), precision
        precision = read_precision(name, precision)
        engine = self._find_engine(encoder, name, precision)
        return (encoder.get_torch_engine(), precision) if engine is None else (engine, "fp32")

    def _check_unchanged(self, encoder: TextEncoder) -> None:
        if encoder.device.type != "cpu":
            raise ZooError(f"engine: {self.engine} computes on the CPU: call encoder.to('cpu'), or leave `engine` out")
        if encoder.is_deferred:
            return
        stamp = stamp_weights(encoder.module)
        if self._stamp is None:  # it was opened just now
            self._stamp = stamp
        if self._stamp != stamp:
            raise ZooError(
                f"engine: {self.engine}: the weights were changed or moved since the model was opened: save it, and open it again"
            )

    # -- graphs --------------------------------------------------------------------------------------------------------

    def _find_engine(self, encoder: TextEncoder, name: str, precision: str) -> Engine | None:
        """Return the engine of a graph; None if it would have to be made now and must not be."""
        key = (_list_options(encoder), encoder.dim, name, precision)
        with self._lock:
            if key not in self._engines:
                size = _Size(_list_options(encoder), name, precision == "int8")
                graph = self._open_graph(size, precision)
                if graph is None:
                    return None
                view = graph.view(dim=encoder.dim)
                title = f"engine: {name} {precision}"
                self._engines[key] = GraphEngine(view.compute, encoder.get_torch_engine(), title)
            return self._engines[key]

    def _open_graph(self, size: _Size, precision: str) -> Model | None:
        """Return the open graph. OpenVINO computes the graph of float32 in bfloat16 too."""
        arithmetic = precision if size.engine == "openvino" and precision == "bf16" else "fp32"
        if (size, arithmetic) not in self._graphs:
            if self._is_frozen:
                return None
            key = graph_cache.make_key(
                {
                    "model": self._model,
                    "family": self._family,
                    "view": dict(size.view),
                    "engine": size.engine,
                    "int8": size.is_int8,
                }
            )
            make = partial(self._write_graph, size)
            self._graphs[size, arithmetic] = graph_cache.open_graph(
                key, make, threads=torch.get_num_threads(), precision=arithmetic
            )
        return self._graphs[size, arithmetic]

    def _write_graph(self, size: _Size, target: Path) -> None:
        """Write the graph of the model as it lies on disk, so that this encoder needs no modules of transformers."""
        from zoo.deploy import write

        view = "".join(f", {name} {value}" for name, value in size.view)
        say(f"making the graph of {self._reference}{view} for {size.engine}{' in int8' if size.is_int8 else ''}, once")
        local = model_references.locate(str(self._reference))
        parent = local or fetch(str(self._reference), self._revision)
        whole = pretrained.from_pretrained(self._reference, self._revision)
        if whole.revision != self._model:
            raise ZooError(f"{self._reference}: has changed since the model was opened: open it again")
        options = write.Options("openvino" if size.engine == "openvino" else "onnx", is_int8=size.is_int8)
        write.write(parent, whole.view(**dict(size.view)), target, options)

    # -- the fastest engine --------------------------------------------------------------------------------------------

    def _choose_fastest(self, encoder: TextEncoder, precision: str) -> Candidate:
        """Return the choice for a view and a precision: that of an earlier measurement on this machine, or of a new one."""
        key = (_list_options(encoder), encoder.dim, precision)
        with self._lock:
            if key not in self._choices:
                self._choices[key] = self._settle(encoder, precision)
            return self._choices[key]

    def _settle(self, encoder: TextEncoder, precision: str) -> Candidate:
        candidates = list_candidates(encoder, precision)
        if self._is_frozen:
            known = [choice for (*_, own), choice in self._choices.items() if own == precision]
            return known[0] if known else Candidate("torch", precision)
        if candidates == [engine_choice.EXACT]:
            return candidates[0]
        facts = {
            "model": self._model,
            "view": [*_list_options(encoder), ("dim", encoder.dim)],
            "candidates": [str(each) for each in candidates],
            "max_loss": self.max_loss,
            "machine": _describe_machine(),
        }
        key = graph_cache.make_key(facts)
        kept = _read_choice(graph_cache.read_entry(key), candidates)
        if kept is not None:
            return kept
        measured = self._measure(encoder, candidates)
        best = engine_choice.choose(measured, self.max_loss)
        exact = max((entry.texts_per_second for entry in measured if entry.candidate == engine_choice.EXACT), default=0)
        ratio = f"{best.texts_per_second / exact:.1f} times as fast as exact torch and " if exact else ""
        say(
            f"engine: auto takes {best.candidate} for {encoder.name}, {ratio}with a loss of {best.loss:.5f} in mean cosine; the "
            f"choice is kept in {graph_cache.find_folder()}"
        )
        content = {"choice": str(best.candidate), "measured": [entry.as_json() for entry in measured]}
        graph_cache.write_entry(key, {**content, "facts": facts})
        return best.candidate

    def _measure(self, encoder: TextEncoder, candidates: list[Candidate]) -> list[Measurement]:
        """Measure the candidates whose graphs can be made."""
        texts, encoders = engine_choice.list_texts(), {}
        say(f"engine: auto measures {', '.join(map(str, candidates))}, once for {encoder.name} on this machine")
        for candidate in candidates:
            try:
                engine: Engine | None = encoder.get_torch_engine()
                precision = candidate.precision
                if candidate.engine != "torch":
                    engine, precision = self._find_engine(encoder, candidate.engine, candidate.precision), "fp32"
                assert engine is not None  # nothing is frozen here
                encoders[candidate] = partial(engine.encode, precision=precision)
                encoders[candidate](texts[:1])
            except ZooError as error:
                say(f"engine: auto leaves {candidate} out: {error}")
                encoders.pop(candidate, None)
        exact = encoder.get_torch_engine().encode(texts)
        return engine_choice.measure(encoders, exact, texts)


def read_precision(engine: str, precision: str) -> str:
    """Return the precision in which an engine computes. Raises ZooError for one that it does not have."""
    if precision == "auto":
        dtype = hardware.resolve_precision("auto", torch.device("cpu"))
        return "bf16" if engine == "openvino" and dtype == torch.bfloat16 else "fp32"
    if precision not in PRECISIONS[engine]:
        raise ZooError(f"precision: {precision!r}: the engine {engine} has {', '.join(PRECISIONS[engine])} and auto")
    return precision


def list_candidates(encoder: TextEncoder, precision: str) -> list[Candidate]:
    """Return what `auto` chooses from: exact torch first. A precision other than auto leaves only its own candidates."""
    torch_engine = encoder.get_torch_engine()
    has_bf16 = hardware.resolve_precision("auto", torch.device("cpu")) == torch.bfloat16
    found = []
    for engine, precisions in PRECISIONS.items():
        for name in precisions:
            is_wanted = precision in ("auto", name) and is_installed(engine)
            is_fast = name == "fp32" or (
                has_bf16 if name == "bf16" else engine != "torch" or torch_engine.can_use_int8()
            )
            if is_wanted and (is_fast or precision == name):
                found.append(Candidate(engine, name))
    if not found:
        raise ZooError(f"precision: {precision!r} is not one of auto, fp32, bf16, int8 with engine auto")
    return found


def _read_choice(entry: Mapping[str, Any] | None, candidates: list[Candidate]) -> Candidate | None:
    """Return the choice of an entry of the cache; None unless it is one of the candidates."""
    choice = None if entry is None else entry.get("choice")
    return next((candidate for candidate in candidates if str(candidate) == choice), None)


def _list_options(encoder: TextEncoder) -> tuple[tuple[str, Any], ...]:
    """Return the options of the view whose graph a view uses: the same one without a cut of the components."""
    options = {name: value for name, value in encoder.view_options.items() if name != "dim"}
    if "layers" in type(encoder.spec).View.model_fields:
        options["layers"] = getattr(encoder, "layers", None)
    return tuple(sorted(options.items()))


def _describe_machine() -> dict[str, Any]:
    facts = host.describe_host()
    flags = sorted(flag for flag in hardware.list_cpu_flags() if flag.startswith(("avx", "amx")))
    return {
        "cpu": facts["cpu"],
        "cores": facts["cores"],
        "threads": torch.get_num_threads(),
        "flags": atomic_files.digest(flags),
    }
