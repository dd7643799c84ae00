"""What a push, a run and a reader survive: every request of a push killed, a run killed at random, folders that lie.

    python benchmarks/robustness.py [--quick] [--only PART…] [--write FILE]

    push      every request of a push fails, and all that follow, at each of: before it is done (500; the connection drops), in
              its midst (half of the answer comes), after it was done (the answer is lost); or kill -9 ends the client there;
              the Hub is the test suite's, the client the real one
    kill      kill -9 at random moments of a run, which is then run to its end; the weights against an undisturbed run's
    hostile   folders and recipes as a stranger might send them, and what opening them costs
    fuzz      random changes of the bytes of a model folder whose manifest agrees, and of a recipe

Needs the extra `test`. About 15 minutes on one core; --quick: a fifth of it.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
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
from pathlib import Path
from typing import Any
from unittest import mock

from zoo.recipe import shipped

TESTS = Path(__file__).parent.parent / "tests" / "support"
sys.path.insert(0, str(TESTS))
os.environ |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
import hub_server  # noqa: E402

HUB = hub_server.Hub()
os.environ |= {"HF_ENDPOINT": HUB.endpoint, "HF_TOKEN": hub_server.TOKEN}

import hostile  # noqa: E402
import published  # noqa: E402
import tiny  # noqa: E402
from common import finish  # noqa: E402

import zoo  # noqa: E402
from zoo.artefact import manifest, model_folder  # noqa: E402
from zoo.core import atomic_files  # noqa: E402
from zoo.core.errors import HubError, RecipeError, ZooError  # noqa: E402  # noqa: E402
from zoo.hub import push as hub  # noqa: E402
from zoo.recipe import recipe  # noqa: E402


def model(folder: Path) -> Path:
    """A tiny model folder with heads."""
    from datasets import Dataset

    from zoo.families.matryoshka_2d.encoder import Encoder
    from zoo.families.matryoshka_2d.spec import Spec

    encoder = Encoder.build(Spec(family="matryoshka-2d", backbone=tiny.backbone(folder / "backbone"), dims=(8,)))
    encoder.prepare(Dataset.from_dict({"sentence1": tiny.SENTENCES, "sentence2": tiny.SENTENCES}), folder)
    return model_folder.save(encoder, folder / "model")


def push(folder: Path, quick: bool) -> dict[str, Any]:
    """Repo states seen after each killed push, and after the push that followed it."""
    first, second = model(folder / "first"), folder / "second"
    shutil.copytree(first, second)
    (second / "notes.md").write_text("new")
    manifest.write(second)
    states = {"before": published.content(first), "whole": published.content(second)}
    seen, after, commits, counts = Counter(), Counter(), Counter(), {}

    def on_hub(name: str, there: bool) -> str:
        if name not in HUB.repos:
            return "OTHER" if there else "before"
        held = published.on_hub(HUB, name)
        return next((s for s, files in states.items() if held == files), "OTHER" if there or held else "before")

    def one(name: str, there: bool, dies: Callable[[], Any]) -> None:
        if there:
            hub.push(first, name)
        HUB.blobs.clear()
        dies()
        HUB.heal()
        seen[on_hub(name, there)] += 1
        hub.push(second, name)
        after[on_hub(name, there)] += 1
        commits[len(HUB.commits(name)) - 1 - there] += 1

    def failing(name: str, fault: int | str, at: int) -> None:
        HUB.fail(fault, at=at, times=None)
        with contextlib.suppress(HubError):
            hub.push(second, name)

    def killed(name: str, at: int) -> None:
        process = subprocess.Popen([*published.PUSH, str(second), name], stderr=subprocess.DEVNULL)
        HUB.fail(process.kill, at=at)
        if process.wait() == 0:
            raise SystemExit("a push was not killed")

    for there in (True, False):  # a newer version of what is there, or a repo that the push makes
        if there:
            hub.push(first, "me/count")
        HUB.requests.clear()
        hub.push(second, f"me/count{'' if there else '-new'}")
        counts[there] = requests = len(HUB.requests)
        for at in range(1, requests + 1):
            for fault in (500, "drop", "cut", "lose"):
                name = f"me/{fault}-{at}-{there:d}"
                one(name, there, functools.partial(failing, name, fault, at))
            one(f"me/killed-{at}-{there:d}", there, functools.partial(killed, f"me/killed-{at}-{there:d}", at))
    return {
        "requests of a push": f"{counts[True]} of a newer version, {counts[False]} that make the repo",
        "pushes killed": sum(seen.values()),
        "states seen": dict(seen),
        "after pushing again": dict(after),
        "commits of the new version": dict(commits),
    }


def kill(folder: Path, quick: bool) -> dict[str, Any]:
    """kill -9 at random moments, over the whole time that an undisturbed run takes."""
    tiny.backbone(folder / "backbone")
    rows = [{"a": t, "b": tiny.SENTENCES[(i + 1) % 120], "gold": i % 6} for i, t in enumerate(tiny.SENTENCES)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = "{source: file, path: pairs.jsonl, columns: {sentence1: a, sentence2: b, score: gold}}"
    (folder / "recipe.yaml").write_text(
        f"name: killed\nencoder: {{family: matryoshka-2d, backbone: backbone, dims: [8, 16]}}\ndata: {data}\n"
        "training: {epochs: 12, batch_size: 16, learning_rate: 1e-3, checkpoint_every: 5}\n"
        f"evaluation: [{{task: sts, data: {data}}}]\n"
    )
    command = [sys.executable, "-m", "zoo.cli", "train", str(folder / "recipe.yaml"), "--out"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}

    def run(out: Path) -> subprocess.Popen[bytes]:
        pipe = subprocess.DEVNULL
        return subprocess.Popen([*command, str(out)], env=environment, stdout=pipe, stderr=pipe)

    began = time.perf_counter()
    if run(folder / "whole").wait():
        raise SystemExit("the undisturbed run failed")
    took, draw = time.perf_counter() - began, random.Random(0)
    expected = atomic_files.sha256(folder / "whole" / "model" / "model.safetensors")
    stages, equal, killed = Counter(), 0, 0
    moments = 5 if quick else 24
    for number in range(moments):
        out = folder / f"run-{number}"
        process = run(out)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(took * draw.uniform(0.25, 1.0))  # imports take the first quarter
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
        held = {p.name for p in out.iterdir()} if out.exists() else set()
        last = next(
            (s for s in ("model", "report.json", "trained", "checkpoints", "lock.json") if s in held), "nothing"
        )
        stages[last] += 1
        done = run(out).wait() == 0 and atomic_files.sha256(out / "model" / "model.safetensors") == expected
        equal += done and not any(p.name.startswith(atomic_files.TEMPORARY) for p in out.iterdir())
        shutil.rmtree(out)
    return {
        "runs killed": killed,
        "newest thing there": dict(stages),
        "ended with equal weights": f"{equal} of {moments}",
    }


def lies(folder: Path, quick: bool) -> dict[str, Any]:
    """Every folder and recipe of the test suite's list, each opened by one process that has opened an honest one before."""
    honest = model(folder)
    run = subprocess.run(
        [sys.executable, "-c", hostile.CHILD, str(honest), *map(str, hostile.make(honest, folder / "hostile"))],
        capture_output=True,
        text=True,
        check=True,
    )
    seen = [json.loads(line) for line in run.stdout.splitlines()]
    words = Counter(word.split(":")[0] for _, word, _, _ in seen)
    return {
        "folders and recipes": len(seen),
        "accepted": words["opened"],
        "crashed": words["crashed"],
        "most memory, MB": round(max(more for _, _, more, _ in seen), 1),
        "most seconds": round(max(seconds for *_, seconds in seen), 2),
    }


def mutate(data: bytes, draw: random.Random) -> bytes:
    """One of: a bit flipped, bytes deleted, doubled or replaced, the end cut off."""
    at, length = draw.randrange(len(data) + 1), draw.choice((1, 2, 8, 64))
    return draw.choice(
        (
            data[:at] + bytes([data[at] ^ (1 << draw.randrange(8))]) + data[at + 1 :] if at < len(data) else b"",
            data[:at] + data[at + length :],
            data[:at] + data[at : at + length] * 2 + data[at + length :],
            data[:at] + draw.randbytes(length) + data[at + length :],
            data[:at],
        )
    )


def fuzz(folder: Path, quick: bool) -> dict[str, Any]:
    """Mutations whose manifest agrees: either the folder is refused, or it opens and its vectors are finite."""
    import numpy as np

    honest, draw, outcomes = model(folder), random.Random(1), Counter()
    names = [p.relative_to(honest) for p in sorted(honest.rglob("*")) if p.is_file()]
    crashes: list[str] = []
    for number in range(200 if quick else 1500):
        name, victim = names[number % len(names)], folder / "victim"
        shutil.copytree(honest, victim)
        (victim / name).write_bytes(mutate((victim / name).read_bytes(), draw))
        if name.name != manifest.NAME:
            manifest.write(victim)
        try:
            finite = np.isfinite(zoo.from_pretrained(victim).encode(["the dog"])).all()
            outcomes["folder opened" if finite else "folder NOT FINITE"] += 1
        except ZooError:
            outcomes["folder refused"] += 1
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            crashes.append(f"{name}: {type(error).__name__}: {str(error)[:100]}")
        shutil.rmtree(victim)
    text = next(iter(shipped.shipped().values())).read_bytes()
    path = folder / "fuzz.yaml"
    for _ in range(400 if quick else 4000):
        path.write_bytes(mutate(mutate(text, draw), draw))
        try:
            recipe.load(path)
            outcomes["recipe read"] += 1
        except RecipeError:
            outcomes["recipe refused"] += 1
        except Exception as error:
            crashes.append(f"recipe: {type(error).__name__}: {str(error)[:100]}")
    for crash in sorted(set(crashes))[:20]:
        print(crash, file=sys.stderr)
    return {"cases": sum(outcomes.values()) + len(crashes), **dict(outcomes), "crashes": len(crashes)}


PARTS = {"push": push, "kill": kill, "hostile": lies, "fuzz": fuzz}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--write", type=Path, help="write the table as Markdown")
    args = parser.parse_args()
    figures = {}
    for name in args.only:
        print(f"… {name}", file=sys.stderr, flush=True)
        patience = mock.patch("time.sleep") if name == "push" else contextlib.nullcontext()  # the client's back-off
        with tempfile.TemporaryDirectory() as folder, patience:
            figures[name] = PARTS[name](Path(folder), args.quick)
    rows = [
        f"| {part} | {what} | {json.dumps(v).strip('{}')} |" for part, f in figures.items() for what, v in f.items()
    ]
    table = "\n".join(["| part | what | seen |", "|:---|:---|:---|", *(row.replace('"', "") for row in rows)])
    print(table)
    if args.write:
        command = f"python benchmarks/robustness.py{' --quick' if args.quick else ''}"
        args.write.write_text(f"# What was survived\n\nWritten by `{command} --write FILE`.\n\n{table}\n")
    finish({"benchmark": "robustness", **figures})


if __name__ == "__main__":
    main()
