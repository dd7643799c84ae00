"""`zoo serve` under load: throughput beside `encode`, latency at half load, broken clients, and the memory of worker processes.

    ZOO_DATA=… python benchmarks/serve.py [--quick] [--work DIR] [--write FILE]

The server is a process of its own with one torch thread; the clients are threads of this process on the same machine. The model
is all-MiniLM-L6-v2 at float32.

- Throughput: the mixed texts of benchmarks/encode.py, 32 in a request, from 8 clients. `encode` of the same texts takes turns
  with them. The ratio of CPU seconds is more reliable on a shared machine; it has all threads of the server and no client.
- Latency: single queries of banking77. 8 clients that never pause give the full load; then queries come at random times, half
  as many in a second. A latency counts from the moment at which the query was due. The median of seven turns counts, because
  single turns differ by more than a tenth. Beside it stands a queue before `encode` without a server: the same queries come at
  the same times, `encode` takes all that wait, and the clock advances by the CPU time that it takes.
- Broken clients: every vector is compared with that of `encode`. 5 % of the requests are invalid JSON, are too large, are cut off
  while they are sent or while they are answered, or stop in the middle of their body.
- Workers: private and shared memory as /proc/PID/smaps_rollup counts it.

The full run has 5,000 texts and 10,000 requests from 64 clients and takes about half an hour. --quick has 512 texts and 400
requests from 16 clients, and takes about a minute of CPU time. --only PART measures one part, for the work folder.
"""

from __future__ import annotations

import argparse
import base64
import bisect
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from common import Results, finish, rows, save_table
from encode import MODEL, draw_texts

NAME = MODEL.replace(":", "-")
TOLERANCE = 1e-6
REQUEST_TEXTS, BULK_CLIENTS = 32, 8
LATENCY_TURNS = 7
BROKEN_SHARE, TOO_LARGE = 0.05, 9 << 20
SLOW_START = 120


# -- the server ----------------------------------------------------------------------------------------------------


class Server:
    """A running server, its process and its port."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process, self.log, self.port = process, log, 0

    def read_log(self) -> list[dict[str, Any]]:
        """Return the lines of its log."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def wait_for(self, event: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until the log has an event so often."""
        deadline = time.monotonic() + SLOW_START * count
        while time.monotonic() < deadline and self.process.poll() is None:
            found = [entry for entry in self.read_log() if entry["event"] == event]
            if len(found) >= count:
                return found
            time.sleep(0.2)
        sys.exit(f"the server did not get ready:\n{self.log.read_text()}")


@contextmanager
def start_server(*options: str) -> Iterator[Server]:
    """Run `zoo serve` inside the block."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.txt"
        command = [sys.executable, "-m", "zoo.cli", "serve", MODEL, "--port", "0", *options]
        with log.open("w") as stream:
            environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
            process = subprocess.Popen(command, stderr=stream, stdout=stream, text=True, env=environment)
        server = Server(process, log)
        try:
            server.port = int(server.wait_for("start")[0]["port"])
            server.wait_for("ready", int(options[1]) if options else 1)
            time.sleep(1)
            yield server
        finally:
            process.send_signal(signal.SIGTERM)
            if (status := process.wait(90)) != 0:
                sys.exit(f"the server ended with status {status}")


class Client(threading.local):
    """One connection for each thread."""

    def __init__(self, port: int) -> None:
        self.connection = HTTPConnection("127.0.0.1", port, timeout=120)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return the vectors of some texts (n, dim)."""
        body = json.dumps({"model": NAME, "input": list(texts), "encoding_format": "base64"})
        self.connection.request("POST", "/v1/embeddings", body)
        response = self.connection.getresponse()
        answer = json.loads(response.read())
        if response.status != 200:
            raise RuntimeError(f"{response.status}: {answer}")
        return np.stack([np.frombuffer(base64.b64decode(entry["embedding"]), "<f4") for entry in answer["data"]])


# -- measurements --------------------------------------------------------------------------------------------------


def measure_throughput(server: Server, encoder: Any, count: int, turns: int) -> dict[str, Any]:
    """Encode the same texts by the server and by `encode`, in turns."""
    texts = draw_texts(count)
    requests = [texts[start : start + REQUEST_TEXTS] for start in range(0, len(texts), REQUEST_TEXTS)]
    process, client = psutil.Process(server.process.pid), Client(server.port)
    figures: dict[str, list[float]] = {name: [] for name in ("bulk", "bulk_cpu", "served", "served_cpu")}
    difference = 0.0
    for turn in range(turns + 1):
        start, cpu = time.perf_counter(), time.process_time()
        expected = encoder.encode(texts)
        bulk = time.perf_counter() - start, time.process_time() - cpu
        start, cpu = time.perf_counter(), sum(process.cpu_times()[:2])
        with ThreadPoolExecutor(BULK_CLIENTS) as pool:
            vectors = np.concatenate(list(pool.map(client.embed, requests)))
        served = time.perf_counter() - start, sum(process.cpu_times()[:2]) - cpu
        difference = max(difference, float(np.abs(vectors - expected).max()))
        if turn:  # the first turn warms both up
            for name, value in zip(figures, (*bulk, *served), strict=True):
                figures[name].append(value)
    ratios = {
        "wall": [a / b for a, b in zip(figures["bulk"], figures["served"], strict=True)],
        "cpu": [a / b for a, b in zip(figures["bulk_cpu"], figures["served_cpu"], strict=True)],
    }
    return {
        "texts": count,
        "turns": turns,
        "ratio": {name: statistics.median(values) for name, values in ratios.items()},
        "spread": {name: [min(values), max(values)] for name, values in ratios.items()},
        "bulk_per_second": count / statistics.median(figures["bulk"]),
        "served_per_second": count / statistics.median(figures["served"]),
        "max_difference": difference,
    }


def measure_latency(server: Server, encoder: Any, count: int) -> dict[str, Any]:
    """Measure the latency in turns, and return the turn with the median ratio of p99 to p50, with all ratios."""
    turns = [measure_latency_once(server, encoder, count) for _ in range(LATENCY_TURNS)]
    turns.sort(key=lambda turn: turn["ratio"])
    ratios = {name: [turn[name.removesuffix("s")] for turn in turns] for name in ("ratios", "queue_ratios")}
    return {**turns[len(turns) // 2], **ratios}


def measure_latency_once(server: Server, encoder: Any, count: int) -> dict[str, Any]:
    """Find the rate of single queries at full load, and their latency at half of it."""
    generator, client = random.Random(0), Client(server.port)
    pool_of_texts = [row["text"] for row in rows("banking77/test")]
    queries = [[text] for text in generator.choices(pool_of_texts, k=count)]
    with ThreadPoolExecutor(BULK_CLIENTS) as pool:
        start = time.perf_counter()
        list(pool.map(client.embed, queries))
        rate = count / (time.perf_counter() - start)
    due, moments = 0.0, []
    for _ in queries:
        due += generator.expovariate(rate / 2)
        moments.append(due)
    begin = time.perf_counter()

    def send(item: tuple[float, list[str]]) -> float:
        moment, query = item
        time.sleep(max(0.0, begin + moment - time.perf_counter()))
        client.embed(query)
        return time.perf_counter() - begin - moment

    with ThreadPoolExecutor(64) as pool:
        seconds = np.array(list(pool.map(send, zip(moments, queries, strict=True))))
    p50, p99 = (float(np.percentile(seconds, q)) for q in (50, 99))
    figures = {"queries": count, "rate": rate, "p50_ms": p50 * 1e3, "p99_ms": p99 * 1e3, "ratio": p99 / p50}
    return {**figures, "queue_ratio": measure_queue(encoder, [text for (text,) in queries], moments)}


def measure_queue(encoder: Any, texts: Sequence[str], moments: Sequence[float]) -> float:
    """Return p99 ÷ p50 of the latency of a queue before `encode` without a server, by a clock of CPU time."""
    encoder.encode(texts[:64])  # the first call converts weights
    clock, done, seconds = 0.0, 0, []
    while done < len(texts):
        clock = max(clock, moments[done])
        end = bisect.bisect_right(moments, clock)
        start = time.process_time()
        encoder.encode(texts[done:end])
        clock += time.process_time() - start
        seconds += [clock - moment for moment in moments[done:end]]
        done = end
    return float(np.percentile(seconds, 99) / np.percentile(seconds, 50))


def measure_broken(server: Server, encoder: Any, count: int, clients: int) -> dict[str, Any]:
    """Send good and broken requests together, and count the wrong and the lost ones."""
    generator, process = random.Random(1), psutil.Process(server.process.pid)
    texts = list(dict.fromkeys(row["text"] for row in rows("banking77/test")))[:200]
    expected = dict(zip(texts, encoder.encode(texts), strict=True))
    counts = dict.fromkeys(("good", "broken", "wrong", "lost", "unrefused"), 0)
    memory, lock, client = [], threading.Lock(), Client(server.port)

    def note(name: str) -> None:
        with lock:
            counts[name] += 1

    def send(number: int) -> None:
        if number % max(1, count // 20) == 0:
            memory.append(process.memory_info().rss / 2**20)
        draw = random.Random(number)
        if draw.random() < BROKEN_SHARE:
            note("broken")
            if not send_broken(server.port, number % 5, texts):
                note("unrefused")
            return
        chosen = draw.choices(texts, k=number % 4 + 1)
        note("good")
        try:
            vectors = client.embed(chosen)
        except Exception as error:
            print(f"  lost: {type(error).__name__}: {error}", file=sys.stderr)
            note("lost")
            client.connection.close()
            return
        if np.abs(vectors - np.stack([expected[text] for text in chosen])).max() > TOLERANCE:
            note("wrong")

    order = list(range(count))
    generator.shuffle(order)
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(send, order))
    half = len(memory) // 2
    return {"requests": count, "clients": clients, **counts, "memory_mb": [max(memory[:half]), max(memory[half:])]}


def send_broken(port: int, kind: int, texts: Sequence[str]) -> bool:
    """Send a broken request, and return whether it was refused as it should be."""
    body = json.dumps({"model": NAME, "input": list(texts[:20])}).encode()
    if kind == 1:
        body = json.dumps({"model": NAME, "input": "x" * TOO_LARGE}).encode()
    length = len(body)
    if kind == 0:
        body, length = body[:-5], length - 5
    elif kind in (2, 4):
        body = body[:-5]
    with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
        head = f"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
        connection.sendall(head.encode() + body)
        if kind in (2, 3):  # cut off while it is sent, or while it is answered
            return True
        answer = connection.recv(64)
    return answer.startswith(f"HTTP/1.1 {({0: 400, 1: 413, 4: 408})[kind]}".encode())


def measure_workers(count: int) -> dict[str, Any]:
    """Measure the memory of worker processes after each has answered."""
    with start_server("--workers", str(count)) as server:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda text: Client(server.port).embed([text]), draw_texts(40)))
        pids = [entry["process"] for entry in server.wait_for("ready", count)]
        return {"workers": count, **{name: sum(read_memory(pid)[name] for pid in pids) for name in ("Rss", "Pss")}}


def read_memory(pid: int) -> dict[str, float]:
    """Return the memory of a process in MB: Rss counts shared pages in full, Pss divides them among the processes."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    lines = (line.split() for line in text.splitlines()[1:])
    return {words[0].rstrip(":"): int(words[1]) / 1024 for words in lines}


# -- the page ------------------------------------------------------------------------------------------------------


def make_lines(figures: dict[str, Any], mode: str) -> list[str]:
    """Return the page as lines of Markdown."""
    load, latency, broken = figures["throughput"], figures["latency"], figures["broken"]
    memory = broken["memory_mb"]
    table = [
        ("throughput ÷ `encode`, CPU time", f"{load['ratio']['cpu']:.2f} ({_spread(load['spread']['cpu'])})", "≥ 0.9"),
        (
            "throughput ÷ `encode`, wall time",
            f"{load['ratio']['wall']:.2f} ({_spread(load['spread']['wall'])})",
            "≥ 0.9",
        ),
        ("texts a second, served · `encode`", f"{load['served_per_second']:.0f} · {load['bulk_per_second']:.0f}", ""),
        ("largest difference of a component", f"{load['max_difference']:.1e}", f"≤ {TOLERANCE:.0e}"),
        ("p50 · p99 at half load, ms", f"{latency['p50_ms']:.0f} · {latency['p99_ms']:.0f}", ""),
        ("p99 ÷ p50 at half load", _describe_median(latency["ratios"]), "≤ 3"),
        ("the same of a queue before `encode`, without a server", _describe_median(latency["queue_ratios"]), ""),
        ("good · broken requests", f"{broken['good']} · {broken['broken']}", ""),
        ("wrong · lost · not refused", f"{broken['wrong']} · {broken['lost']} · {broken['unrefused']}", "0 · 0 · 0"),
        ("peak memory, first · second half, MB", f"{memory[0]:.0f} · {memory[1]:.0f}", "flat: ≤ 1.05 ×"),
    ]
    lines = [f"| {mode} | measured | bar |", "|---|---|---|", *(f"| {a} | {b} | {c} |" for a, b, c in table), ""]
    lines += ["| worker processes | memory in all, MB | if shared pages counted each time, MB |", "|---|---|---|"]
    lines += [f"| {entry['workers']} | {entry['Pss']:.0f} | {entry['Rss']:.0f} |" for entry in figures["workers"]]
    return [*lines, "", *make_sentences(figures, mode == "--quick")]


def _describe_median(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({_spread(sorted(values))})"


def _spread(pair: Sequence[float]) -> str:
    return "–".join(f"{value:.2f}" for value in pair)


def make_sentences(figures: dict[str, Any], is_quick: bool) -> list[str]:
    """Say which bars were missed, and how far a quick run can be trusted."""
    bars = {
        "the throughput in CPU time": figures["throughput"]["ratio"]["cpu"] >= 0.9,
        "the equality of vectors": figures["throughput"]["max_difference"] <= TOLERANCE,
        "the latency at half load": figures["latency"]["ratio"] <= 3,
        "no wrong and no lost answer": not any(figures["broken"][name] for name in ("wrong", "lost", "unrefused")),
        "flat memory": figures["broken"]["memory_mb"][1] <= 1.05 * figures["broken"]["memory_mb"][0],
    }
    missed = [name for name, is_met in bars.items() if not is_met]
    lines = [f"Missed: {', '.join(missed)}." if missed else "All bars are met."]
    if is_quick:
        lines.append(
            "A quick run judges vectors and answers only. Its few batches are partly filled, the first half of its memory "
            "holds the warm-up, and programs beside it delay single requests."
        )
    return lines


def list_parts(quick: bool) -> dict[str, Callable[[], Any]]:
    """Return the measurements by name."""
    import torch

    import zoo

    torch.set_num_threads(1)
    texts, turns = (512, 2) if quick else (5000, 5)
    requests, clients = (400, 16) if quick else (10_000, 64)

    def serve(measure: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
        with start_server() as server:
            return measure(server, *arguments) | {"load_average": os.getloadavg()[1]}

    def open_model() -> Any:
        return zoo.from_pretrained(MODEL)

    return {
        "throughput": lambda: serve(measure_throughput, open_model(), texts, turns),
        "latency": lambda: serve(measure_latency, open_model(), 200 if quick else 2000),
        "broken": lambda: serve(measure_broken, open_model(), requests, clients),
        "workers": lambda: [measure_workers(count) for count in (1, 2)],
    }


def main() -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="512 texts, 400 requests from 16 clients")
    parser.add_argument(
        "--only", choices=("throughput", "latency", "broken", "workers"), help="measure this part alone"
    )
    parser.add_argument("--work", help="folder that keeps each measurement, and from which measurements are reused")
    parser.add_argument("--write", type=Path, help="write the table to this file")
    arguments = parser.parse_args()
    results = Results(arguments.work)
    parts = {name: measure for name, measure in list_parts(arguments.quick).items() if arguments.only in (None, name)}
    figures = {name: results.get(name, measure) for name, measure in parts.items()}
    if arguments.only:
        finish(figures)
        return
    quick = arguments.quick
    mode = "--quick" if quick else "full run"
    lines = make_lines(figures, mode)
    print("\n".join(lines))
    if arguments.write:
        loads = [figures[name]["load_average"] for name in ("throughput", "latency", "broken")]
        about = (
            f"one model, all-MiniLM-L6-v2, one thread; {mode}: {figures['throughput']['texts']} texts, "
            f"{figures['broken']['requests']} requests from {figures['broken']['clients']} clients. Other programs used the "
            f"machine ({os.cpu_count()} cores): its load average was {min(loads):.0f} to {max(loads):.0f}."
        )
        save_table(arguments.write, "Serving under load", f"benchmarks/serve.py{' --quick' * quick}", about, lines)
    finish({"mode": mode, **figures})


if __name__ == "__main__":
    main()
