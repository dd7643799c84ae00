"""Measure which faults zoo survives: interrupted pushes, killed runs, and hostile model folders and recipes.

    python benchmarks/robustness.py [--quick] [--only PART…] [--work FOLDER] [--write FILE]

    push      fail every request of a push, and all that follow: before it is done (500, or the connection drops), during it
              (half of the answer arrives), or after it (the answer is lost); or end the client there with kill -9. The Hub
              is the test suite's, the client is the real one
    kill      end a run with kill -9 at random moments, run it to its end, and compare its weights with an undisturbed run's
    hostile   open hostile folders and recipes, and measure memory and time
    data      read hostile data files of every format, and measure memory and time
    fuzz      change random bytes of a model folder whose manifest agrees, and of a recipe
    readers   change random bytes of what every reader of data files, cards, tokenizers, recipes and task words reads, for ten
              minutes each (--seconds)

Needs the extra `test`. It takes about 15 minutes on one core, or a fifth of that with --quick. `readers` comes on top; it runs a
reader on every core. With --work each part and each reader is kept when it is done, and is not run again.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

TESTS = Path(__file__).parent.parent / "tests" / "support"
sys.path.insert(0, str(TESTS))
os.environ.pop("HF_HUB_OFFLINE", None)  # the Hub of this benchmark is on this machine
os.environ |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
import hub_server  # noqa: E402

HUB = hub_server.Hub()
os.environ |= {"HF_ENDPOINT": HUB.endpoint, "HF_TOKEN": hub_server.TOKEN}

import fuzz_readers  # noqa: E402
import hostile  # noqa: E402
import hostile_data  # noqa: E402
import published  # noqa: E402
import tiny  # noqa: E402
from common import Results, finish  # noqa: E402

import zoo  # noqa: E402
from zoo.artefact import manifest, model_folder  # noqa: E402
from zoo.core import atomic_files  # noqa: E402
from zoo.core.errors import HubError, RecipeError, ZooError  # noqa: E402
from zoo.hub.push import push  # noqa: E402
from zoo.recipe import recipe, shipped  # noqa: E402


def save_model(folder: Path) -> Path:
    """Save a tiny model folder with heads."""
    from datasets import Dataset

    from zoo.families.matryoshka_2d.encoder import Encoder
    from zoo.families.matryoshka_2d.spec import Spec

    encoder = Encoder.build(Spec(family="matryoshka-2d", backbone=tiny.backbone(folder / "backbone"), dims=(8,)))
    encoder.prepare(Dataset.from_dict({"sentence1": tiny.SENTENCES, "sentence2": tiny.SENTENCES}), folder)
    return model_folder.save(encoder, folder / "model")


class InterruptedPushes:
    """Pushes of the folder `second`, each interrupted and then repeated, and counts of the states seen in the repository.

    The repository holds the folder `first` before the push, or does not exist.
    """

    def __init__(self, first: Path, second: Path) -> None:
        self.first, self.second = first, second
        self.contents = {"before": published.read_folder(first), "whole": published.read_folder(second)}
        self.states_after_interruption: Counter[str] = Counter()
        self.states_after_repetition: Counter[str] = Counter()
        self.commits: Counter[int] = Counter()

    def get_state(self, name: str, repo_existed: bool) -> str:
        """Return "before", "whole", or "OTHER" for a mixture of the two versions."""
        files = published.read_repo(HUB, name) if name in HUB.repos else {}
        if not files:
            return "OTHER" if repo_existed else "before"
        return next((state for state, content in self.contents.items() if files == content), "OTHER")

    def count_requests(self, repo_exists: bool) -> int:
        """Count the requests of a push that nothing interrupts."""
        name = "me/count" if repo_exists else "me/count-new"
        if repo_exists:
            push(self.first, name)
        HUB.requests.clear()
        push(self.second, name)
        return len(HUB.requests)

    def interrupt(self, name: str, repo_exists: bool, push_with_fault: Callable[[str], None]) -> None:
        """Interrupt a push, record the state, push again, and record the state and the number of commits."""
        if repo_exists:
            push(self.first, name)
        HUB.blobs.clear()
        push_with_fault(name)
        HUB.heal()
        self.states_after_interruption[self.get_state(name, repo_exists)] += 1
        push(self.second, name)
        self.states_after_repetition[self.get_state(name, repo_exists)] += 1
        self.commits[len(HUB.list_messages(name)) - 1 - repo_exists] += 1

    def push_with_failing_requests(self, name: str, *, fault: int | str, number: int) -> None:
        """Push while the request with this number and all that follow fail."""
        HUB.fail(fault, at=number, times=None)
        with contextlib.suppress(HubError):
            push(self.second, name)

    def push_and_kill(self, name: str, *, number: int) -> None:
        """Push in another process, and kill the process at the request with this number."""
        process = subprocess.Popen([*published.PUSH, str(self.second), name], stderr=subprocess.DEVNULL)
        HUB.fail(process.kill, at=number)
        if process.wait() == 0:
            raise SystemExit("a push was not killed")


def measure_pushes(folder: Path, quick: bool) -> dict[str, Any]:
    """Count the states of a repository after each interrupted push, and after the push that followed it."""
    first, second = save_model(folder / "first"), folder / "second"
    shutil.copytree(first, second)
    (second / "notes.md").write_text("new")
    manifest.write(second)
    pushes = InterruptedPushes(first, second)
    requests = {}
    for repo_exists in (True, False):
        requests[repo_exists] = pushes.count_requests(repo_exists)
        for number in range(1, requests[repo_exists] + 1):
            for fault in (500, "drop", "cut", "lose"):
                push_with_fault = functools.partial(pushes.push_with_failing_requests, fault=fault, number=number)
                pushes.interrupt(f"me/{fault}-{number}-{repo_exists:d}", repo_exists, push_with_fault)
            push_with_fault = functools.partial(pushes.push_and_kill, number=number)
            pushes.interrupt(f"me/killed-{number}-{repo_exists:d}", repo_exists, push_with_fault)
    return {
        "requests of a push": f"{requests[True]} of a newer version, {requests[False]} that make the repo",
        "pushes killed": sum(pushes.states_after_interruption.values()),
        "states seen": dict(pushes.states_after_interruption),
        "after pushing again": dict(pushes.states_after_repetition),
        "commits of the new version": dict(pushes.commits),
    }


def write_recipe(folder: Path) -> Path:
    """Write a recipe whose run takes seconds, its backbone and its data."""
    tiny.backbone(folder / "backbone")
    rows = [
        {"a": sentence, "b": tiny.SENTENCES[(number + 1) % 120], "gold": number % 6}
        for number, sentence in enumerate(tiny.SENTENCES)
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = "{source: file, path: pairs.jsonl, columns: {sentence1: a, sentence2: b, score: gold}}"
    (folder / "recipe.yaml").write_text(
        f"name: killed\nencoder: {{family: matryoshka-2d, backbone: backbone, dims: [8, 16]}}\ndata: {data}\n"
        "training: {epochs: 12, batch_size: 16, learning_rate: 1e-3, checkpoint_every: 5}\n"
        f"evaluation: [{{task: sts, data: {data}}}]\n"
    )
    return folder / "recipe.yaml"


def measure_killed_runs(folder: Path, quick: bool) -> dict[str, Any]:
    """Kill runs at random moments of the time that an undisturbed run takes, and compare the weights in the end."""
    command = [sys.executable, "-m", "zoo.cli", "train", str(write_recipe(folder)), "--out"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}

    def start_run(out: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*command, str(out)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    start = time.perf_counter()
    if start_run(folder / "whole").wait():
        raise SystemExit("the undisturbed run failed")
    seconds, draw = time.perf_counter() - start, random.Random(0)
    expected = atomic_files.sha256(folder / "whole" / "model" / "model.safetensors")
    stages, equal_count, killed_count = Counter(), 0, 0
    run_count = 5 if quick else 24
    for number in range(run_count):
        out = folder / f"run-{number}"
        process = start_run(out)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds * draw.uniform(0.25, 1.0))  # imports take the first quarter
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed_count += 1
        names = {path.name for path in out.iterdir()} if out.exists() else set()
        newest_first = ("model", "report.json", "trained", "checkpoints", "lock.json")
        stages[next((name for name in newest_first if name in names), "nothing")] += 1
        is_finished = start_run(out).wait() == 0
        is_equal = is_finished and atomic_files.sha256(out / "model" / "model.safetensors") == expected
        equal_count += is_equal and not any(path.name.startswith(atomic_files.TEMPORARY) for path in out.iterdir())
        shutil.rmtree(out)
    return {
        "runs killed": killed_count,
        "newest thing there": dict(stages),
        "ended with equal weights": f"{equal_count} of {run_count}",
    }


def measure_hostile_files(folder: Path, quick: bool) -> dict[str, Any]:
    """Open every folder and recipe of the test suite's list in one process that has opened an honest folder before."""
    honest = save_model(folder)
    paths = hostile.write_all(honest, folder / "hostile")
    run = subprocess.run(
        [sys.executable, str(hostile.OPEN_EACH), str(honest), *map(str, paths)],
        capture_output=True,
        text=True,
        check=True,
    )
    results = [json.loads(line) for line in run.stdout.splitlines()]
    outcomes = Counter(outcome.split(":")[0] for _, outcome, *_ in results)
    return {
        "folders and recipes": len(results),
        "accepted": outcomes["opened"],
        "crashed": outcomes["crashed"],
        "looked outside": sum(bool(outside) for *_, outside in results),
        "most memory, MB": round(max(megabytes for _, _, megabytes, *_ in results), 1),
        "most seconds": round(max(seconds for _, _, _, seconds, _ in results), 2),
    }


def measure_hostile_data(folder: Path, quick: bool) -> dict[str, Any]:
    """Read every data file of the test suite's list in one process that has read an honest file before."""
    run = subprocess.run(
        [sys.executable, hostile_data.__file__, str(folder)], capture_output=True, text=True, check=True
    )
    results = [json.loads(line) for line in run.stdout.splitlines()]
    outcomes = Counter(outcome.split(":")[0] for _, outcome, *_ in results)
    return {
        "data files": len(results),
        "accepted": outcomes["accepted"],
        "crashed": outcomes["crashed"],
        "most memory, MB": round(max(megabytes for _, _, megabytes, _ in results), 1),
        "most seconds": round(max(seconds for *_, seconds in results), 2),
    }


def mutate(data: bytes, draw: random.Random) -> bytes:
    """Flip a bit, delete, double or replace some bytes, or cut off the end."""
    start, length = draw.randrange(len(data) + 1), draw.choice((1, 2, 8, 64))
    flipped = b""
    if start < len(data):
        flipped = data[:start] + bytes([data[start] ^ (1 << draw.randrange(8))]) + data[start + 1 :]
    return draw.choice(
        (
            flipped,
            data[:start] + data[start + length :],
            data[:start] + data[start : start + length] * 2 + data[start + length :],
            data[:start] + draw.randbytes(length) + data[start + length :],
            data[:start],
        )
    )


def open_changed_folder(honest: Path, changed: Path, name: Path, draw: random.Random) -> str:
    """Change one file of a copy of the folder `honest`, open it, and return the outcome."""
    import numpy as np

    shutil.copytree(honest, changed)
    (changed / name).write_bytes(mutate((changed / name).read_bytes(), draw))
    if name.name != manifest.NAME:
        manifest.write(changed)
    try:
        is_finite = np.isfinite(zoo.from_pretrained(changed).encode(["the dog"])).all()
    except ZooError:
        return "folder refused"
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return f"crash: {name}: {type(error).__name__}: {str(error)[:100]}"
    finally:
        shutil.rmtree(changed)
    return "folder opened" if is_finite else "folder NOT FINITE"


def load_changed_recipe(path: Path, text: bytes, draw: random.Random) -> str:
    """Change a recipe in two places, load it, and return the outcome."""
    path.write_bytes(mutate(mutate(text, draw), draw))
    try:
        recipe.load(path)
    except RecipeError:
        return "recipe refused"
    except Exception as error:
        return f"crash: recipe: {type(error).__name__}: {str(error)[:100]}"
    return "recipe read"


def measure_random_changes(folder: Path, quick: bool) -> dict[str, Any]:
    """Count the outcomes of random changes: a folder must be refused, or give finite vectors."""
    honest, draw = save_model(folder), random.Random(1)
    names = [path.relative_to(honest) for path in sorted(honest.rglob("*")) if path.is_file()]
    outcomes: Counter[str] = Counter()
    for number in range(200 if quick else 1500):
        outcomes[open_changed_folder(honest, folder / "changed", names[number % len(names)], draw)] += 1
    text = next(iter(shipped.shipped().values())).read_bytes()
    for _ in range(400 if quick else 4000):
        outcomes[load_changed_recipe(folder / "fuzz.yaml", text, draw)] += 1
    crashes = {outcome: count for outcome, count in outcomes.items() if outcome.startswith("crash: ")}
    for crash in sorted(crashes)[:20]:
        print(crash.removeprefix("crash: "), file=sys.stderr)
    others = {outcome: count for outcome, count in outcomes.items() if outcome not in crashes}
    return {"cases": sum(outcomes.values()), **others, "crashes": sum(crashes.values())}


def measure_reader(target: str, seconds: float) -> str:
    """Count the files that a reader read or refused, and those that crashed it."""
    result = fuzz_readers.run(target, seconds=seconds, seed=1)  # the tests use another seed
    for crash in result["crashes"][:20]:
        print(f"{target}: {crash}", file=sys.stderr)
    refused_share = f"{100 * result['refused'] / result['cases']:.0f} % refused"
    return f"{result['cases']} files, {refused_share}, {len(result['crashes'])} crashes, {result['most seconds']} s at most"


def measure_readers(folder: Path, quick: bool) -> dict[str, Any]:
    """Fuzz every reader, one on each core."""
    seconds = reader_seconds / (5 if quick else 1)

    def measure_in_process(target: str) -> str:
        return work.get(f"reader-{target}", lambda: pool.submit(measure_reader, target, seconds).result())

    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), spawn) as pool, ThreadPoolExecutor(os.cpu_count()) as threads:
        return dict(zip(fuzz_readers.TARGETS, threads.map(measure_in_process, fuzz_readers.TARGETS), strict=True))


work = Results(None)  # --work
reader_seconds = 600.0  # for each reader; --seconds

PARTS = {
    "push": measure_pushes,
    "kill": measure_killed_runs,
    "hostile": measure_hostile_files,
    "data": measure_hostile_data,
    "fuzz": measure_random_changes,
    "readers": measure_readers,
}


def render_table(figures: dict[str, dict[str, Any]]) -> str:
    """Render the figures of all parts as a Markdown table."""
    rows = []
    for part, part_figures in figures.items():
        for name, value in part_figures.items():
            rows.append(f"| {part} | {name} | {json.dumps(value).strip('{}')} |".replace('"', ""))
    return "\n".join(["| part | what | seen |", "|:---|:---|:---|", *rows])


def measure_part(name: str, quick: bool) -> dict[str, Any]:
    """Run a part in a folder of its own."""
    without_waits = mock.patch("time.sleep") if name == "push" else contextlib.nullcontext()
    with tempfile.TemporaryDirectory() as folder, without_waits:
        return PARTS[name](Path(folder), quick)


def main() -> None:
    global reader_seconds, work
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="run a fifth of the cases")
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS), help="run only these parts")
    parser.add_argument("--write", type=Path, help="write the table as Markdown")
    parser.add_argument(
        "--seconds", type=float, default=reader_seconds, help="time for each reader of the part readers"
    )
    parser.add_argument("--work", help="keep the figures of each part in this folder")
    args = parser.parse_args()
    reader_seconds, work = args.seconds, Results(args.work)
    figures = {}
    for name in args.only:
        figures[name] = work.get(name, functools.partial(measure_part, name, args.quick))
    table = render_table(figures)
    print(table)
    if args.write:
        command = f"python benchmarks/robustness.py{' --quick' if args.quick else ''}"
        args.write.write_text(f"# What was survived\n\nWritten by `{command} --write FILE`.\n\n{table}\n")
    finish({"benchmark": "robustness", **figures})


if __name__ == "__main__":
    main()
