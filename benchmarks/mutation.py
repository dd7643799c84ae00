"""Change zoo in small ways and count the changes that its tests notice.

    python benchmarks/mutation.py [--only FOLDER…] [--file FILE…] [--sample N | --all] [--seed S] --work FOLDER [--write FILE]

The mutants of `mutants.py` are made one at a time in a copy of the checkout, never in the checkout itself, and the tests that
run the changed function are run on each. A mutant is caught if a test fails or if the tests take more than five times as long
as before. TESTS says which tests are used for a folder. A first run on the unchanged copy finds which test runs which line, as
coverage.py records it, and how long the test takes. Every mutant gets a process that has torch, transformers, datasets and mteb
imported already: it is forked from one that imported them.

mutation_survivors.yaml judges survivors by file, function and change, each with its reason: `equivalent` if no test could tell
it from the original, `accepted` if one could but is not worth having. The exit status is 1 if fewer than 90 % of a folder's
mutants are caught; only equivalent ones are not counted.

By default 40 mutants of each folder are drawn. That takes about half an hour on one core; `--all` takes days. --work keeps the
outcomes, so that an interrupted run continues. A caught mutant stays caught until its file changes; a survivor is run again
whenever a test changes. It needs the extra `test` and mutmut, which the extra does not contain, because no test imports it:
`pip install -c constraints.txt mutmut`.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from common import Results, finish, save_table
from mutants import Mutant, list_mutants

ROOT = Path(__file__).parent.parent
SURVIVORS = Path(__file__).with_name("mutation_survivors.yaml")
LEAST = 0.9
TESTS = {
    "ops": [
        "tests/ops",
        "tests/families/binary_pv/test_binary_pv.py::test_hamming_distance_of_packed_bits_equals_that_of_unpacked_bits",
        "tests/paragraph_vectors/test_kernels.py::test_rounding_passes_the_gradient_of_the_sigmoid",
        "tests/paragraph_vectors/test_kernels.py::test_a_rotation_loses_less_by_rounding_than_the_axes_it_starts_from",
    ],
    "metrics": ["tests/metrics", "tests/families/sesa/test_sesa_space.py::test_rankings_agree_with_scikit_learn"],
    "evaluation": ["tests/evaluation"],
    "build": ["tests/build"],
    "artefact": ["tests/artefact"],
    "hub": ["tests/hub"],
}
"""Tests by folder of zoo."""
LEFT_OUT = (
    "tests/build/test_builder.py::test_a_run_that_was_killed_three_times_gives_the_same_weights",
    "tests/build/test_builder.py::test_signals_a_second_process_changed_data_and_a_jumping_clock_do_not_change_the_weights",
    "tests/build/test_builder.py::test_a_full_disk_at_a_checkpoint_keeps_the_earlier_checkpoints",
    "tests/build/test_builder.py::test_a_full_disk_at_the_weights_or_the_model_folder_keeps_the_training",
    "tests/build/test_builder.py::test_a_read_only_run_folder_is_reported_before_any_work",
    "tests/build/test_builder.py::test_the_run_folder_has_every_file_that_reproduces_the_model",
    "tests/build/test_builder.py::test_a_finished_run_changes_no_file_and_says_so",
    "tests/build/test_builder.py::test_a_folder_of_another_recipe_or_of_another_program_is_refused",
    "tests/build/test_builder.py::test_a_missed_at_least_is_an_error_after_everything_is_written",
    "tests/build/test_reproduction.py::test_a_reproduction_has_the_same_weights_to_the_byte",
    "tests/build/test_reproduction.py::test_a_score_outside_the_tolerance_is_named_and_exits_with_1",
    "tests/build/test_reproduction.py::test_other_versions_machines_and_data_are_reported_before_training",
    "tests/build/test_reproduction.py::test_a_model_of_the_hub_is_reproduced_from_its_commit_and_not_published",
    "tests/artefact/test_hostile.py::test_every_hostile_folder_and_recipe_is_refused_in_little_memory_without_a_look_outside",
    "tests/artefact/test_references.py::test_opening_a_folder_of_any_family_makes_no_request",
)
"""Tests that take long: they train or open whole models, most of them in other processes. Shorter tests run the same lines."""
OTHER_PROCESSES = {
    "zoo/evaluation/mteb_isolation.py": ["tests/evaluation/test_evaluation.py::test_mteb_prints_nothing"],
}
"""Tests that run a file in another process, where coverage.py does not look."""
OPTIONS = ("-x", "-q", "-m", "", "-n", "0", "--dist", "no", "-p", "no:cacheprovider", "--hypothesis-seed=0")
MEMORY = 12 << 30
Lines = dict[str, dict[int, list[str]]]  # file → line → the tests that run it


class Recorder:
    """A plugin of pytest that notes how long each test takes, and the first that fails."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.failed = ""

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.seconds[report.nodeid] += report.duration
        if report.failed and not self.failed:
            self.failed = report.nodeid

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed and not self.failed:
            self.failed = f"{report.nodeid} (import)"


class Copy:
    """A copy of the checkout in which files are changed, and processes that run its tests."""

    def __init__(self, folder: Path) -> None:
        self.root, self.temporary = folder / "copy", folder / "tmp"
        command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
        for name in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines():
            if (ROOT / name).is_file():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.root / name)
        self.hub = self._preload()

    def _preload(self) -> Any:
        """Import the libraries once, with the environment that tests/conftest.py makes. Returns its Hub, at rest."""
        for name in ("HF_HUB_OFFLINE", "HF_TOKEN", "ZOO_DATA", "TRANSFORMERS_OFFLINE"):
            os.environ.pop(name, None)
        sys.path[:0] = [str(self.root), str(self.root / "tests" / "support")]
        import hub_server

        hub = hub_server.Hub()
        os.environ |= {
            "HF_HOME": str(self.temporary / "hf"),
            "HF_ENDPOINT": hub.endpoint,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_XET_XORB_COMPRESSION_POLICY": "none",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(self.root),
        }
        import datasets  # noqa: F401
        import hypothesis  # noqa: F401
        import mteb  # noqa: F401
        import pytest  # noqa: F401
        import sentence_transformers  # noqa: F401
        import sklearn.ensemble
        import sklearn.linear_model  # noqa: F401
        import transformers  # noqa: F401

        for server in (hub.api, hub.cdn):  # a thread does not survive the fork, but the socket does
            server.shutdown()
        return hub

    def run(
        self, arguments: Iterable[str], timeout: float, *, clean: bool = False
    ) -> tuple[int | None, dict[str, Any]]:
        """Run pytest in a new process. Returns its status, or None after `timeout` seconds, and what it recorded."""
        self.temporary.mkdir(exist_ok=True)
        began, process = time.monotonic(), os.fork()
        if not process:
            self._run_here([*OPTIONS, *arguments], clean)
        status = None
        while status is None and time.monotonic() - began < timeout:
            ended, code = os.waitpid(process, os.WNOHANG)
            status = os.waitstatus_to_exitcode(code) if ended else None
            time.sleep(0.02)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)  # the process, or those that it left behind
        if status is None:
            os.waitpid(process, 0)
        record = self.temporary / "record.json"
        recorded = json.loads(record.read_text()) if record.exists() else {"seconds": {}, "failed": ""}
        if clean and status:
            sys.exit(f"a test fails without any change:\n{(self.temporary / 'output').read_text()[-3000:]}")
        shutil.rmtree(self.temporary, ignore_errors=True)
        return status, recorded

    def _run_here(self, arguments: list[str], clean: bool) -> None:
        """Run pytest in this process, which was just forked, and end the process."""
        status = 3
        try:
            os.setsid()
            output = os.open(self.temporary / "output", os.O_WRONLY | os.O_CREAT)
            for stream in (1, 2):
                os.dup2(output, stream)
            os.chdir(self.root)
            sys.dont_write_bytecode = not clean
            os.environ |= {"TMPDIR": str(self.temporary)} | ({} if clean else {"PYTHONDONTWRITEBYTECODE": "1"})
            tempfile.tempdir = None
            resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
            import hub_server
            import pytest

            for server in (self.hub.api, self.hub.cdn):
                threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
            hub_server.Hub = lambda: self.hub
            recorder = Recorder()
            status = int(pytest.main(arguments, plugins=[recorder]))
            (self.temporary / "record.json").write_text(json.dumps(vars(recorder)))
            sys.stdout.flush()
        finally:
            os._exit(status)

    def find_tests(self, tests: list[str]) -> tuple[Lines, dict[str, float]]:
        """Run tests on the unchanged copy. Returns which test runs which line of zoo, and the seconds of each test."""
        from coverage import CoverageData

        left_out = [f"--deselect={name}" for name in LEFT_OUT]
        coverage = [f"--cov={self.root / 'zoo'}", "--cov-context=test", "--cov-report="]
        _, recorded = self.run([*tests, *left_out, *coverage], 3600, clean=True)
        data = CoverageData(str(self.root / ".coverage"))
        data.read()
        lines: Lines = {}
        for file in data.measured_files():
            name = Path(file).relative_to(self.root).as_posix()
            lines[name] = {line: names for line, names in data.contexts_by_lineno(file).items() if any(names)}
        return lines, recorded["seconds"]

    def test(self, mutant: Mutant, tests: list[str], timeout: float) -> dict[str, Any]:
        """Run tests on a mutant and restore the file."""
        path = self.root / mutant.file
        original = path.read_bytes()
        for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):  # may look as if made from the mutant
            compiled.unlink()
        try:
            path.write_text(mutant.code, encoding="utf-8")
            status, recorded = self.run(tests, timeout)
        finally:
            path.write_bytes(original)
        by = "timeout" if status is None else recorded["failed"] or f"status {status}"
        return {"caught": status != 0, "by": by if status != 0 else ""}


def select_tests(mutant: Mutant, lines: Lines, seconds: dict[str, float]) -> list[str]:
    """List the tests that run the changed function, those of the fastest file first.

    A line that a fixture runs belongs to all tests of the file, because the fixture may be shared. Outside of functions the
    tests of every file that runs a function of the changed file are taken, or all tests if it has no functions.
    """
    first, last = mutant.lines or (1, sys.maxsize)
    contexts = {
        context
        for line, names in lines.get(mutant.file, {}).items()
        if first <= line <= last
        for context in names
        if context
    }
    run = {context.rpartition("|")[0] for context in contexts}
    shared = {_get_file(context) for context in contexts if not context.endswith("|run")}
    if mutant.lines is None:
        shared |= {_get_file(name) for name in run or seconds}
    other = tuple(OTHER_PROCESSES.get(mutant.file, ()))
    tests = [name for name in seconds if name in run or _get_file(name) in shared or (other and name.startswith(other))]
    files: dict[str, float] = defaultdict(float)
    for name in tests:
        files[_get_file(name)] += seconds[name]
    return sorted(tests, key=lambda name: (files[_get_file(name)], _get_file(name)))


def _get_file(test: str) -> str:
    return test.partition("::")[0]


class Outcomes(Results):
    """The kept outcomes of mutants."""

    def get_outcome(self, copy: Copy, mutant: Mutant, tests: list[str], seconds: dict[str, float], digest: str) -> Any:
        """Return whether the mutant is caught, and by which test. `digest` is that of all tests."""
        name = f"mutant-{_digest(mutant.file, mutant.code)}"
        kept = self.folder / f"{name}.json" if self.folder else None
        if kept and kept.exists() and json.loads(kept.read_text())["tests"] not in ("", digest):
            kept.unlink()
        if not tests:
            return {"caught": False, "by": "no test runs it"}
        timeout = 30 + 5 * sum(seconds[name] for name in tests)

        def measure() -> dict[str, Any]:
            outcome = copy.test(mutant, tests, timeout)
            return {**outcome, "tests": "" if outcome["caught"] else digest}

        return self.get(name, measure)


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:20]


def _digest_files(root: Path, pattern: str) -> str:
    return _digest(*(f"{path.relative_to(root)}\0{path.read_text('utf-8')}" for path in sorted(root.glob(pattern))))


def measure_folder(copy: Copy, folder: str, outcomes: Outcomes, args: argparse.Namespace) -> dict[str, Any]:
    """Return the number of all mutants of a folder, and each drawn mutant with its outcome."""
    root = copy.root
    files = [path.relative_to(root).as_posix() for path in sorted((root / "zoo" / folder).rglob("*.py"))]
    mutants = [mutant for file in files if not args.file or file in args.file for mutant in list_mutants(root, file)]
    drawn = mutants
    if not args.all and len(mutants) > args.sample:
        drawn = random.Random(f"{args.seed} {folder}").sample(mutants, args.sample)
    tests = _digest_files(root, "tests/**/*.py")
    name = f"lines-{folder}-{_digest(tests, _digest_files(root, 'zoo/**/*.py'))}"
    lines, seconds = outcomes.get(name, lambda: copy.find_tests(TESTS[folder]))
    lines = {file: {int(line): names for line, names in those.items()} for file, those in lines.items()}
    results = []
    for number, mutant in enumerate(sorted(drawn), 1):
        outcome = outcomes.get_outcome(copy, mutant, select_tests(mutant, lines, seconds), seconds, tests)
        results.append((mutant, outcome))
        if not outcome["caught"]:
            print(f"{folder} {number}/{len(drawn)} survived: {describe(mutant)}", file=sys.stderr, flush=True)
    return {"mutants": len(mutants), "results": results}


def describe(mutant: Mutant) -> str:
    """Describe a mutant in one line of Markdown."""
    function = f" `{mutant.function}`" if mutant.function else ""
    return f"{mutant.file}:{mutant.line}{function}: `{mutant.before}` → `{mutant.after}`"


def load_verdicts() -> dict[tuple[str, str, str, str], tuple[str, str]]:
    """Return verdict and reason by the key of a mutant."""
    entries = yaml.safe_load(SURVIVORS.read_text(encoding="utf-8")) or []
    return {
        (entry["file"], entry.get("function", ""), entry["before"], entry.get("after", "")): (verdict, entry[verdict])
        for entry in entries
        for verdict in ("equivalent", "accepted")
        if verdict in entry
    }


def format_report(folders: dict[str, dict[str, Any]]) -> tuple[list[str], dict[str, float]]:
    """Return the lines of the report, and the share of caught mutants by folder."""
    verdicts, shares = load_verdicts(), {}
    table = [
        "| folder | mutants | drawn | caught | equivalent | survived | share caught |",
        "|:---|---:|---:|---:|---:|---:|---:|",
    ]
    listed: dict[str, list[str]] = {"Survivors": [], "Equivalent mutants": []}
    for folder, measured in folders.items():
        caught = sum(outcome["caught"] for _, outcome in measured["results"])
        survivors = [mutant for mutant, outcome in measured["results"] if not outcome["caught"]]
        equivalent = 0
        for mutant in survivors:
            verdict, reason = verdicts.get(mutant.key, ("", "not judged"))
            equivalent += verdict == "equivalent"
            part = "Equivalent mutants" if verdict == "equivalent" else "Survivors"
            listed[part].append(f"- {describe(mutant)}. {'Accepted: ' if verdict == 'accepted' else ''}{reason}")
        shares[folder] = caught / max(1, len(measured["results"]) - equivalent)
        cells = (measured["mutants"], len(measured["results"]), caught, equivalent, len(survivors) - equivalent)
        table.append(f"| zoo/{folder} | {' | '.join(map(str, cells))} | {shares[folder]:.1%} |")
    for title, entries in listed.items():
        table += ["", f"## {title}", "", *(entries or ["None."])]
    return table, shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=TESTS, default=list(TESTS))
    parser.add_argument("--file", nargs="*", help="draw only from these files, e.g. zoo/hub/retries.py")
    parser.add_argument("--sample", type=int, default=40, help="mutants of each folder")
    parser.add_argument("--all", action="store_true", help="run all mutants")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", help="folder that keeps the outcomes for the next run")
    parser.add_argument("--write", type=Path, help="write the table and the survivors as Markdown")
    args = parser.parse_args()
    outcomes = Outcomes(args.work)
    with tempfile.TemporaryDirectory() as temporary:
        copy = Copy(Path(temporary))
        folders = {folder: measure_folder(copy, folder, outcomes, args) for folder in args.only}
    lines, shares = format_report(folders)
    print("\n".join(lines))
    if args.write:
        draw = "all mutants" if args.all else f"{args.sample} mutants of each folder, drawn with seed {args.seed}"
        about = f"{draw}. Only equivalent mutants are not counted in the share."
        save_table(args.write, "Mutants that the tests catch", "benchmarks/mutation.py", about, lines)
    finish({"benchmark": "mutation", "seed": args.seed, "sample": args.sample, "shares": shares})
    sys.exit(any(share < LEAST for share in shares.values()))


if __name__ == "__main__":
    main()
