"""Builds a model from a recipe: data, training, evaluation, card, publication, over one run folder that can be resumed.

Only training can take long, and it goes on from its last checkpoint.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo import evaluation, families, pretrained
from zoo.artefact import manifest, model_folder, saved_steps
from zoo.build import (
    epoch_mining,
    health,
    lock,
    mined_corpus,
    mining,
    overlap,
    space,
    stage_digests,
    steps,
    text_lengths,
    training_data,
)
from zoo.build.epoch_mining import EpochMiner, EpochRows
from zoo.build.overlap import Overlap
from zoo.build.run_folder import RunFolder, link_weights
from zoo.build.steps import PreparedSteps
from zoo.card import render
from zoo.core import atomic_files
from zoo.core.errors import AcceptanceError, ZooError
from zoo.core.findings import Finding
from zoo.data import Table
from zoo.data.spec import Mixture
from zoo.encoder import Encoder
from zoo.evaluation import Prepared, leaderboard
from zoo.evaluation.kept_vectors import KeptVectors
from zoo.evaluation.spec import list_tasks
from zoo.evaluation.watching import WatchedTasks, prepare_watch
from zoo.recipe.recipe import Recipe
from zoo.training import distributed, optimizers, sharding, trackers

Say = Callable[[str], None]
ROWS = "cache/rows"  # in the run folder: tables that are too large for memory


def run(
    recipe: Recipe[Any],
    out: Path,
    *,
    say: Say = lambda _: None,
    show_progress: bool = False,
    before_training: Callable[[dict[str, Any]], None] = lambda _: None,
    finish: bool = False,
    anyway: bool = False,
    keep_rows: bool = False,
) -> Encoder:
    """Build the model of `recipe` in the run folder `out`, or finish a run that was interrupted; return the encoder.

    `before_training` is called with lock.json's entry of every data set once they are read. With `finish`, the newest checkpoint
    is taken for the end of the training; the same call without `finish` later trains on from there. With `anyway`, a dead model
    is published too. With `keep_rows`, large tables stay on disk when the run is finished. Under torchrun every process
    calls `run`, and the first one writes. Raises ZooError before any training if data, folder or the right to publish are not in
    order. Raises AcceptanceError at the very end if a score is below its `at_least`.
    """
    _check_process_count(recipe)
    scores, watch = bool(list_tasks(recipe.validation)), bool(recipe.training.watch)
    sharding.check_request(recipe.training, recipe.encoder, scores=scores, follows_space=watch)
    if int(os.environ.get("RANK", "0")) > 0:
        return _join(recipe, out, finish=finish)
    folder = RunFolder(out)
    with folder.explain_disk_errors(), folder.lock():
        return _Build(recipe, folder, say, show_progress, before_training, finish, anyway, keep_rows).run()


def _check_process_count(recipe: Recipe[Any]) -> None:
    """Raise ZooError under torchrun for a family whose trainer is one process: each would write the same checkpoints."""
    if _count_processes() > 1 and not recipe.encoder.trains_in_processes:
        raise ZooError(
            f"{recipe.encoder.family} trains in one process, and this is one of {_count_processes()}: run zoo train without "
            "torchrun; one process uses all cores of the machine"
        )


def _count_processes() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def check_rows(recipe: Recipe[Any], say: Say) -> None:
    """Read all data of a recipe and check it as `run` does before training. Raises ZooError; counts of shared rows are said."""
    with tempfile.TemporaryDirectory(prefix="zoo-rows-") as store:
        _check_rows(recipe, training_data.read_tables(recipe, Path(store)), say)


def _check_rows(recipe: Recipe[Any], tables: dict[str, Table], say: Say) -> None:
    training_data.check_rows(recipe, tables)
    tasks = evaluation.prepare(recipe.evaluation, recipe.folder)
    prepared = steps.prepare(recipe)
    watch = prepare_watch(list_tasks(recipe.validation), recipe.folder)
    corpus, lines = mined_corpus.settle(recipe, mining.read_corpus(recipe), tables["train"], tasks)
    locked = training_data.make_lock(tables) | mining.lock_corpus(corpus)
    locked |= training_data.name_watched(watch.prepared.lock) if watch else {}
    lines = (
        training_data.describe_skipped(locked | tasks.lock | prepared.lock)
        + overlap.settle(recipe, tables, tasks, watch)[2]
        + lines
    )
    for line in lines:
        say(line)


def _join(recipe: Recipe[Any], out: Path, *, finish: bool) -> Encoder:
    """The part of the other processes of a distributed run: they train and write nothing."""
    if not distributed.broadcast_from_main():
        return pretrained.load(out / "trained")
    tables, corpus = training_data.read_tables(recipe, out / ROWS), mining.read_corpus(recipe)
    watch = prepare_watch(list_tasks(recipe.validation), recipe.folder)
    if recipe.on_overlap == "drop":
        tasks = evaluation.prepare(recipe.evaluation, recipe.folder)
        tables, _, _ = overlap.settle(recipe, tables, tasks, watch)
        corpus, _ = mined_corpus.settle(recipe, corpus, tables["train"], tasks)
    encoder = build_untrained(recipe, tables)
    distributed.broadcast_from_main()
    tables, mined = mining.mine_recipe(recipe, tables, corpus, out / "cache")  # the first process has mined: it is read
    miner = epoch_mining.make_miner(recipe, encoder, tables, corpus, mined, out / "cache")
    encoder.prepare(tables["train"].rows, out / "cache")
    validation = training_data.get_rows(tables, "validation")
    rows = _follow(tables["train"].rows, miner)
    encoder.fit(rows, recipe.training, out, validation=validation, finish=finish, watch=watch)
    return encoder


@dataclass
class _Build:
    """One call of `run` in the first process."""

    recipe: Recipe[Any]
    folder: RunFolder
    say: Say
    show_progress: bool
    before_training: Callable[[dict[str, Any]], None]
    finish: bool = False
    anyway: bool = False
    keep_rows: bool = False
    overlaps: list[Overlap] = field(default_factory=list)
    corpus: Table | None = None
    watch: WatchedTasks | None = None
    steps: PreparedSteps = field(default_factory=PreparedSteps)

    @property
    def out(self) -> Path:
        return self.folder.path

    @property
    def _filled_in_recipe(self) -> Recipe[Any]:
        """The recipe with the chosen values in place of `auto`, so that training from it chooses nothing again."""
        return self.recipe.fill_in(atomic_files.read_json(self.out / "lock.json").get("chosen", {}))

    @property
    def _settles_early(self) -> bool:
        """Whether shared rows may change the training rows and their fingerprint, or may end the run."""
        return self.recipe.on_overlap != "report" or self.watch is not None

    def run(self) -> Encoder:
        self.folder.claim(self.recipe)
        trackers.check_installed(self._trackers)
        space.check(self.recipe)
        optimizers.check_optimizer(self.recipe.training)
        self._check_publication()
        self.say("reading the data")
        tables = training_data.read_tables(self.recipe, self.out / ROWS)
        training_data.check_rows(self.recipe, tables)
        tasks = evaluation.prepare(self.recipe.evaluation, self.recipe.folder)
        self.steps = steps.prepare(self.recipe)
        self.watch = prepare_watch(list_tasks(self.recipe.validation), self.recipe.folder)
        if self._settles_early:
            tables = self._settle_overlaps(tables, tasks)
        self.corpus, lines = mined_corpus.settle(self.recipe, mining.read_corpus(self.recipe), tables["train"], tasks)
        for line in lines:
            self.say(line)
        locked = training_data.make_lock(tables) | mining.lock_corpus(self.corpus)
        locked |= training_data.name_watched(self.watch.prepared.lock) if self.watch else {}
        for line in training_data.describe_skipped(locked | tasks.lock | self.steps.lock):
            self.say(line)
        # Written only now, so that a recipe whose data is bad can still be changed.
        atomic_files.write_text(self.out / "recipe.yaml", self.recipe.dump())
        self.folder.check_data(locked)
        self.before_training(locked | tasks.lock | self.steps.lock)
        self._run_stages(tables, tasks, locked)
        if not (self.finish or self.keep_rows):
            shutil.rmtree(self.out / ROWS, ignore_errors=True)
        encoder = pretrained.load(self.out / "model")
        self._publish()
        missed = evaluation.list_missed(atomic_files.read_json(self.out / "report.json"))
        if missed:
            raise AcceptanceError(*missed)
        return encoder

    # -- stages ----------------------------------------------------------------------------------------------------

    def _run_stages(self, tables: dict[str, Table], tasks: Prepared, locked: dict[str, Any]) -> None:
        """Run the stages whose inputs changed since their output was made."""
        made_from = stage_digests.compute(self.recipe, self.folder, locked, tasks, self.steps, finish=self.finish)
        if self.folder.is_made_from("model", made_from.model):
            self._announce_training(False)
            self.say(f"{self.out} is finished: nothing to do (model in {self.out / 'model'})")
            return
        if not self._settles_early:
            self._settle_overlaps(tables, tasks)
        long_texts = self._count_long_texts(tables, tasks)  # before time is spent
        train = not self.folder.is_made_from("trained", made_from.trained)
        self._announce_training(train)
        if train:
            self._train(tables, tasks, locked, made_from.trained)
        encoder = steps.fit(self.recipe, self.steps, made_from.steps, self.folder, tables, self.say)
        with steps.keep_vectors(encoder, self.out / "cache") as kept:
            if not self.folder.is_made_from("report.json", made_from.report):
                self._evaluate(tables, tasks, locked, kept, made_from.report)
            shows = self.show_progress
            steps.evaluate(encoder, tasks, self.folder, made_from.codes, self.say, show_progress=shows, kept=kept)
        # A tokenizer of the Hub is there only after the training.
        long_texts = long_texts or self._count_long_texts(tables, tasks)
        self._document(locked | tasks.lock | self.steps.lock, long_texts, encoder, made_from.model)
        self._report_results()

    def _count_long_texts(self, tables: dict[str, Table], tasks: Prepared) -> list[dict[str, Any]]:
        """Count the texts that are longer than the encoder reads, and say so, and what else the backbone cannot do with them."""
        for finding in text_lengths.find_unknown_words(self.recipe, tables):
            self.say(str(finding))
        counts, warnings = text_lengths.count(self.recipe, tables, tasks)
        for line in warnings:
            self.say(f"warning: {line}")
        return counts

    def _report_results(self) -> None:
        """Give the final scores and the pictures of the card to the trackers."""
        pictures = sorted((self.out / "model" / "plots").glob("*.png"))
        report = atomic_files.read_json(self.out / "report.json") if self._trackers else {}
        trackers.report_results(self._trackers, self.recipe.name, self.out, report, pictures)

    @property
    def _trackers(self) -> tuple[str, ...]:
        has_trackers = self.recipe.encoder.reads_training_field("report")
        return self.recipe.training.report if has_trackers else ()

    def _settle_overlaps(self, tables: dict[str, Table], tasks: Prepared) -> dict[str, Table]:
        tables, self.overlaps, lines = overlap.settle(self.recipe, tables, tasks, self.watch)
        for line in lines:
            self.say(line)
        return tables

    def _announce_training(self, train: bool) -> None:
        """Tell the other processes of a distributed run whether they train."""
        if _count_processes() > 1:
            distributed.broadcast_from_main(train)

    def _train(self, tables: dict[str, Table], tasks: Prepared, locked: dict[str, Any], made_from: str) -> None:
        self.say(f"training {self.recipe.encoder.family} on {len(tables['train'].rows)} rows")
        for line in training_data.describe_repeats(self.recipe, tables["train"]):
            self.say(line)
        families.load_encoder(self.recipe.encoder.family)  # imports libraries, which is no part of the training
        start_time = time.monotonic()
        encoder = build_untrained(self.recipe, tables)
        optimizers.check_layers(encoder, self.recipe.training)
        evaluation.check_encoder(encoder, tasks)
        if self.watch:
            self.watch.check(encoder)
        for task in tasks.tasks:
            for view in task.spec.views:
                encoder.view(**view)  # the views of a backbone from the Hub are known only now
        tables, mined = mining.mine_recipe(self.recipe, tables, self.corpus, self.out / "cache", self.say)
        miner = epoch_mining.make_miner(self.recipe, encoder, tables, self.corpus, mined, self.out / "cache", self.say)
        rows = tables["train"].rows
        encoder.prepare(rows, self.out / "cache")
        preparation_seconds = time.monotonic() - start_time
        distributed.broadcast_from_main()
        validation = training_data.get_rows(tables, "validation")
        seconds = encoder.fit(
            _follow(rows, miner),
            self.recipe.training,
            self.out,
            validation=validation,
            show_progress=self.show_progress,
            say=self.say,
            finish=self.finish,
            watch=self.watch,
        )
        start_time = time.monotonic()
        encoder.finish(rows)
        if encoder.finish_trains:
            seconds += time.monotonic() - start_time
        encoder.measure_activations(rows)
        chosen = training_data.describe_choices(self.recipe, tables) | encoder.chosen
        model_folder.save(encoder, self.out / "trained", recipe=self.recipe.fill_in(chosen).dump_values())
        time_spent = {"training_seconds": preparation_seconds + seconds, "finished_early": self.finish}
        record = lock.make(self.recipe, encoder, locked, chosen) | time_spent
        if mixture := training_data.describe_mixture(self.recipe, tables["train"]):
            record["sources"] = mixture
        if mined:
            record["mining"] = mined | ({"epochs": miner.list_counts()} if miner else {})
        atomic_files.write_json(self.out / "lock.json", record)
        self.folder.note("trained", made_from)
        if not self.finish and self.recipe.training.keep_checkpoints is None:
            shutil.rmtree(self.out / "checkpoints", ignore_errors=True)

    def _evaluate(
        self,
        tables: dict[str, Table],
        tasks: Prepared,
        locked: dict[str, Any],
        kept: KeptVectors | None,
        made_from: str,
    ) -> None:
        self.say(f"evaluating {len(self.recipe.evaluation)} tasks")
        encoder = pretrained.load(self.out / "trained")
        encoder.folder = self.recipe.folder
        results = self.out / "results"
        shutil.rmtree(results, ignore_errors=True)
        report = evaluation.evaluate(
            encoder,
            tasks,
            free_baselines=self.recipe.baselines,
            training_rows=tables["train"].rows,
            training=self._filled_in_recipe.training,
            shared_baselines=families.load_shared_baselines() if self.recipe.baselines == "full" else (),
            results_folder=results,
            show_progress=self.show_progress,
            kept=kept,
        )
        report["health"] = [finding._asdict() for finding in self._examine(encoder, tables)]
        report["skipped_rows"] |= {name: entry["skipped"] for name, entry in locked.items() if entry["skipped"]}
        atomic_files.write_json(self.out / "report.json", report)
        self.folder.note("report.json", made_from)

    def _examine(self, encoder: Encoder, tables: dict[str, Table]) -> list[Finding]:
        """Look for signs that the training went wrong, and say each."""
        findings = health.examine(
            encoder,
            tables.get("validation", tables["train"]).rows,
            lines=health.read_lines(self.out / "metrics.jsonl"),
            rows_seen=atomic_files.read_json(self.out / "lock.json").get("rows_seen"),
            training_rows=len(tables["train"].rows),
        )
        for finding in findings:
            self.say(str(finding))
        # It was said before the training.
        return [*findings, *text_lengths.find_unknown_words(self.recipe, tables)]

    def _document(
        self, locked: dict[str, Any], long_texts: list[dict[str, Any]], encoder: Encoder | None, made_from: str
    ) -> None:
        """Write model/: the trained files, the measured results, the pictures and the card."""
        overlaps = [vars(entry) for entry in self.overlaps]
        counts = {"data": locked, "overlaps": overlaps, "long_texts": long_texts}
        fitted = encoder.steps if encoder else ()
        record = atomic_files.read_json(self.out / "lock.json") | counts
        record = steps.replace_entry(record, "after", steps.describe_for_lock(fitted))
        atomic_files.write_json(self.out / "lock.json", record)
        with atomic_files.replace_folder(self.out / "model") as partial:
            shutil.copytree(self.out / "trained", partial, dirs_exist_ok=True, copy_function=link_weights)
            saved_steps.add(fitted, partial)
            atomic_files.write_text(partial / "recipe.yaml", self._filled_in_recipe.dump())
            for name in ("lock.json", "metrics.jsonl", "report.json"):
                if (self.out / name).exists():
                    shutil.copy2(self.out / name, partial / name)
            if (self.out / "results").exists():
                shutil.copytree(self.out / "results", partial / "results")
            render.write_card(partial, type(self.recipe.encoder))
            leaderboard.write(partial)
            manifest.write(partial)
        self.folder.note("model", made_from)
        self.say(f"model and card: {self.out / 'model'}")

    # -- publication -----------------------------------------------------------------------------------------------

    def _check_publication(self) -> None:
        """Raise HubError unless the token may write to the repo: before training, not after it."""
        publish = self.recipe.publish
        if publish:
            from zoo.hub import push

            push.check_write_access(publish.repo, private=publish.private, say=self.say)

    def _publish(self) -> None:
        publish = self.recipe.publish
        if publish:
            from zoo.hub import push

            pushed = push.push(
                self.out / "model", publish.repo, private=publish.private, anyway=self.anyway, say=self.say
            )
            self.say(f"published: {pushed.url}" if pushed.created else f"already published: {pushed.url}")


# -- encoder ---------------------------------------------------------------------------------------------------------


def _follow(rows: Any, miner: EpochMiner | None) -> Any:
    """Return rows that the miner replaces at the start of an epoch; without a miner the rows themselves."""
    return rows if miner is None else EpochRows(rows, miner.make_rows)


def build_untrained(recipe: Recipe[Any], tables: dict[str, Table]) -> Encoder:
    """Build the encoder of a recipe as its training gets it, before `prepare`."""
    encoder = families.load_encoder(recipe.encoder.family).build(
        recipe.encoder, seed=recipe.training.seed, folder=recipe.folder
    )
    encoder.name, encoder.sources, encoder.mixture = recipe.name, recipe.sources, recipe.mixture or Mixture()
    encoder.tables = {path[-1]: tables[path[-1]].rows for path in recipe.encoder.extra_datasets()}
    space.follow(encoder, recipe, tables)
    return encoder
