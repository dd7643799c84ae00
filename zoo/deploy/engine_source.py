"""`Engines`: makes the graphs of one encoder, measures its engines, and says which one encodes."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from zoo import pretrained
from zoo.core import atomic_files, hardware, host
from zoo.core.errors import ZooError
from zoo.core.output import say
from zoo.deploy import engine_choice, engine_names, graph_cache
from zoo.deploy.engine_choice import Candidate, Choice, Measurement
from zoo.hub import model_references
from zoo.hub.fetch import fetch
from zoo.ops.inference import stamp_weights
from zoo.runtime.model import Model
from zoo.text.engine import Engine
from zoo.text.graph_engine import EngineBySize, GraphEngine
from zoo.text.text_encoder import TextEncoder


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
        self._chosen: dict[Any, tuple[Engine, str]] = {}
        self._choices: dict[Any, Choice] = {}
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
        key = (_list_options(encoder), encoder.dim, precision)
        if key not in self._chosen:
            self._chosen[key] = self._choose(encoder, precision)
        return self._chosen[key]

    def _choose(self, encoder: TextEncoder, precision: str) -> tuple[Engine, str]:
        if self.engine != "auto":
            return self._open(encoder, self.engine, precision)
        choice = self._choose_fastest(encoder, precision)
        many = self._open(encoder, choice.many.engine, choice.many.precision)
        if choice.few == choice.many:
            return many
        return EngineBySize(self._open(encoder, choice.few.engine, choice.few.precision), many), precision

    def _open(self, encoder: TextEncoder, name: str, precision: str) -> tuple[Engine, str]:
        """Return an engine by its name, and the precision that it is asked for. Torch replaces graphs that must not be made."""
        is_missing = name != "torch" and precision not in (*engine_names.PRECISIONS[name], "auto")
        if name == "torch" or (is_missing and self._is_frozen):
            return encoder.get_torch_engine(), precision
        precision = engine_names.read_precision(name, precision)
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

    def _choose_fastest(self, encoder: TextEncoder, precision: str) -> Choice:
        """Return the choice for a view and a precision: that of an earlier measurement on this machine, or of a new one."""
        key = (_list_options(encoder), encoder.dim, precision)
        with self._lock:
            if key not in self._choices:
                self._choices[key] = self._settle(encoder, precision)
            return self._choices[key]

    def _settle(self, encoder: TextEncoder, precision: str) -> Choice:
        candidates = engine_names.list_candidates(encoder, precision)
        if self._is_frozen:
            known = [choice for (*_, own), choice in self._choices.items() if own == precision]
            torch_alone = Candidate("torch", precision)
            return known[0] if known else Choice(torch_alone, torch_alone)
        if candidates == [engine_choice.EXACT]:
            return Choice(engine_choice.EXACT, engine_choice.EXACT)
        facts = {
            "model": self._model,
            "view": [*_list_options(encoder), ("dim", encoder.dim)],
            "candidates": [str(each) for each in candidates],
            "max_loss": self.max_loss,
            "machine": _describe_machine(),
        }
        key = graph_cache.make_key(facts)
        with graph_cache.hold(key):  # processes that serve one model wait, and take the same engine
            kept = _read_choice(graph_cache.read_entry(key), candidates)
            return self._measure_and_keep(encoder, candidates, key, facts) if kept is None else kept

    def _measure_and_keep(
        self, encoder: TextEncoder, candidates: list[Candidate], key: str, facts: dict[str, Any]
    ) -> Choice:
        measured = self._measure(encoder, candidates)
        best = engine_choice.choose(measured, self.max_loss)
        best_for_few = engine_choice.choose_for_few(measured, self.max_loss, best)
        choice = Choice(best.candidate, best_for_few.candidate)
        exact = max((entry.texts_per_second for entry in measured if entry.candidate == engine_choice.EXACT), default=0)
        ratio = f"{best.texts_per_second / exact:.1f} times as fast as exact torch and " if exact else ""
        few = ""
        if best_for_few != best:
            gain = best_for_few.queries_per_second / best.queries_per_second
            few = (
                f"; {choice.few} encodes a few short texts, {gain:.1f} times as fast as {choice.many} does, with a loss of "
                f"{best_for_few.loss:.5f}"
            )
        say(
            f"engine: auto takes {choice.many} for {encoder.name}, {ratio}with a loss of {best.loss:.5f} in mean cosine{few}; "
            f"the choice is kept in {graph_cache.find_folder()}"
        )
        content = {"choice": choice.as_json(), "measured": [entry.as_json() for entry in measured]}
        graph_cache.write_entry(key, {**content, "facts": facts})
        return choice

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


def _read_choice(entry: Mapping[str, Any] | None, candidates: list[Candidate]) -> Choice | None:
    """Return the choice of an entry of the cache; None unless both of its sides are among the candidates."""
    choice = None if entry is None else entry.get("choice")
    if not isinstance(choice, dict):
        return None
    sides = [candidate for side in ("many", "few") for candidate in candidates if str(candidate) == choice.get(side)]
    return Choice(*sides) if len(sides) == 2 else None


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
