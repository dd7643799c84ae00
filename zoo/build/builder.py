"""Recipe → data → training → evaluation → card, over one run folder that survives being killed at any moment.

    recipe.yaml  lock.json  metrics.jsonl  checkpoints/  trained/  results/  report.json  model/

Each stage writes its output whole or not at all, and notes in stages.json what it was made from; it is skipped when the
output is there and was made from the same. Only training can take long, and it goes on from its last checkpoint.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from zoo import data, evaluation
from zoo.artefact import manifest, model_folder
from zoo.card import model_card
from zoo.core import atomic_files, located_yaml
from zoo.core.errors import AcceptanceError, ZooError
from zoo.data import Table
from zoo.data.spec import Holdout
from zoo.encoder import Encoder
from zoo.evaluation import leaderboard
from zoo.recipe import Recipe

Say = Callable[[str], None]
FREE = ("evaluation", "card", "publish")  # may change between two runs in one folder; anything else is another run


def run(
    recipe: Recipe[Any],
    out: Path,
    *,
    say: Say = lambda _: None,
    show_progress: bool = False,
    before_training: Callable[[dict[str, Any]], None] = lambda _: None,
) -> Encoder:
    """Build the model of `recipe` in the run folder `out`, or finish what was begun there; returns the encoder.

    `before_training` is given lock.json's entry of every data set once they were read. Under torchrun every process calls
    this; the first one writes. Raises ZooError before any training when the data, the folder or the right to publish are
    not as they must be, and AcceptanceError at the very end when a score is below its `at_least`.
    """
    if _rank() > 0:
        return _join(recipe, out)
    with _disk(out), _alone(out):
        return _Run(recipe, out, say, show_progress, before_training).everything()


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _join(recipe: Recipe[Any], out: Path) -> Encoder:
    """The part of the other processes of a distributed run: train, write nothing."""
    from zoo.training import distributed

    if not distributed.broadcast_from_main():
        return model_folder.load(out / "trained")
    tables = _read(recipe)
    encoder = _untrained(recipe, tables)
    distributed.broadcast_from_main()
    encoder.prepare(tables["train"].rows, out / "cache")
    validation = tables["validation"].rows if "validation" in tables else None
    encoder.fit(tables["train"].rows, recipe.training, out, validation=validation)
    return encoder


@dataclass
class _Run:
    recipe: Recipe[Any]
    out: Path
    say: Say
    show: bool
    before_training: Callable[[dict[str, Any]], None]

    def everything(self) -> Encoder:
        self._claim()
        if self.recipe.publish:
            from zoo.hub import push as hub

            hub.check_write_access(self.recipe.publish.repo, private=self.recipe.publish.private, say=self.say)
        self.say("reading the data")
        tables = _read(self.recipe)
        tasks = evaluation.prepare(self.recipe.evaluation, self.recipe.folder)
        locked = {name: _lock_entry(table) for name, table in tables.items()}
        atomic_files.write_text(
            self.out / "recipe.yaml", self.recipe.dump()
        )  # only now: bad data may be mended by the recipe
        self._same_data(locked)
        self.before_training(locked | tasks.lock)
        trained_from = atomic_files.digest([self.recipe.model_dump(mode="json", exclude=set(FREE)), locked])
        report_from = atomic_files.digest(
            [trained_from, self.recipe.model_dump(mode="json", include={"evaluation"}), tasks.lock]
        )
        card_from = atomic_files.digest([report_from, self.recipe.model_dump(mode="json")])
        if self._made("model", card_from):
            self._tell_the_others(train=False)
            self.say(f"{self.out} is finished: nothing to do (model in {self.out / 'model'})")
        else:
            train = not self._made("trained", trained_from)
            self._tell_the_others(train=train)
            if train:
                self._train(tables, tasks, locked, trained_from)
            if not self._made("report.json", report_from):
                self._evaluate(tasks, locked, report_from)
            self._document(locked | tasks.lock, card_from)
        encoder = model_folder.load(self.out / "model")
        if self.recipe.publish:
            from zoo.hub import push as hub

            pushed = hub.push(
                self.out / "model", self.recipe.publish.repo, private=self.recipe.publish.private, say=self.say
            )
            self.say(f"published: {pushed.url}" if pushed.created else f"already published: {pushed.url}")
        if missed := evaluation.missed(atomic_files.read_json(self.out / "report.json")):
            raise AcceptanceError(*missed)
        return encoder

    # -- stages ----------------------------------------------------------------------------------------------------

    def _claim(self) -> None:
        """Refuse a folder that holds another recipe's run, with the first difference, or something else."""
        atomic_files.sweep(self.out)
        path = self.out / "recipe.yaml"
        if path.exists():
            before = located_yaml.parse(path.read_text(encoding="utf-8")).value
            now = json.loads(json.dumps(self.recipe.model_dump(mode="json")))
            fixed = {key for key in before.keys() | now.keys() if key not in FREE}
            different = [d for key in sorted(fixed) for d in _differences(before.get(key), now.get(key), key)]
            if different:
                raise ZooError(
                    f"{self.out} holds the run of another recipe ({different[0]}); choose another --out, or remove the folder"
                )
        elif any(p.name not in (".lock", "cache") for p in self.out.iterdir()):
            raise ZooError(f"{self.out} is not empty and is no run of zoo; choose another --out")

    def _same_data(self, locked: dict[str, Any]) -> None:
        path = self.out / "lock.json"
        if not path.exists():
            atomic_files.write_json(path, {"format": 1, "data": locked})
            return
        for name, entry in atomic_files.read_json(path)["data"].items():
            now = locked.get(name)
            if now is not None and now["fingerprint"] != entry["fingerprint"]:
                was, found = entry["fingerprint"][:12], now["fingerprint"][:12]
                raise ZooError(
                    f"{self.out}: the {name} data is not what this run began with (sha256 {was}…, now {found}…); "
                    "choose another --out"
                )

    def _tell_the_others(self, *, train: bool) -> None:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            from zoo.training import distributed

            distributed.broadcast_from_main(train)

    def _train(
        self, tables: dict[str, Table], tasks: evaluation.Prepared, locked: dict[str, Any], made_from: str
    ) -> None:
        from zoo.training import distributed, trainer

        self.say(f"training {self.recipe.encoder.family} on {len(tables['train'].rows)} rows")
        encoder = _untrained(self.recipe, tables)
        evaluation.fitting(encoder, tasks)
        for task in tasks.tasks:
            for view in task.spec.views:
                encoder.view(**view)  # of a backbone on the Hub, only now is it known which cuts there are
        rows = tables["train"].rows
        encoder.prepare(rows, self.out / "cache")
        distributed.broadcast_from_main()
        validation = tables["validation"].rows if "validation" in tables else None
        seconds = encoder.fit(rows, self.recipe.training, self.out, validation=validation, show_progress=self.show)
        encoder.finish(rows)
        model_folder.save(encoder, self.out / "trained", recipe=self.recipe.model_dump(mode="json"))
        lock = {
            "format": 1,
            "packages": packages(),
            "data": locked,
            "backbone": {"name": encoder.backbone_name, "revision": encoder.backbone_revision}
            if encoder.backbone_name
            else None,
            "seed": self.recipe.training.seed,
            "precision": trainer.resolve_precision_name(self.recipe.training),
            "host": evaluation.host(),
            "training_seconds": seconds,
            "recipe_sha256": atomic_files.digest(self.recipe.model_dump(mode="json")),
        }
        atomic_files.write_json(self.out / "lock.json", lock)
        self._note("trained", made_from)
        shutil.rmtree(self.out / "checkpoints", ignore_errors=True)

    def _evaluate(self, tasks: evaluation.Prepared, locked: dict[str, Any], made_from: str) -> None:
        self.say(f"evaluating {len(self.recipe.evaluation)} tasks")
        encoder = model_folder.load(self.out / "trained")
        encoder.folder = self.recipe.folder
        results = self.out / "results"
        shutil.rmtree(results, ignore_errors=True)
        report = evaluation.evaluate(encoder, tasks, results_folder=results, show_progress=self.show)
        report["skipped_rows"] |= {name: entry["skipped"] for name, entry in locked.items() if entry["skipped"]}
        atomic_files.write_json(self.out / "report.json", report)
        self._note("report.json", made_from)

    def _document(self, locked: dict[str, Any], made_from: str) -> None:
        """model/: the trained files, what was measured, the pictures and the card."""
        lock = atomic_files.read_json(self.out / "lock.json") | {"data": locked}
        atomic_files.write_json(self.out / "lock.json", lock)
        with atomic_files.whole_folder(self.out / "model") as partial:
            shutil.copytree(self.out / "trained", partial, dirs_exist_ok=True, copy_function=_link)
            for name in ("recipe.yaml", "lock.json", "metrics.jsonl", "report.json"):
                if (self.out / name).exists():
                    shutil.copy2(self.out / name, partial / name)
            if (self.out / "results").exists():
                shutil.copytree(self.out / "results", partial / "results")
            model_card.write(partial)
            leaderboard.write(partial)
            manifest.write(partial)
        self._note("model", made_from)
        self.say(f"model and card: {self.out / 'model'}")

    # -- what was made from what -----------------------------------------------------------------------------------

    def _made(self, name: str, made_from: str) -> bool:
        path = self.out / "stages.json"
        return (self.out / name).exists() and path.exists() and atomic_files.read_json(path).get(name) == made_from

    def _note(self, name: str, made_from: str) -> None:
        path = self.out / "stages.json"
        atomic_files.write_json(path, (atomic_files.read_json(path) if path.exists() else {}) | {name: made_from})


@contextmanager
def _disk(out: Path) -> Iterator[None]:
    """A disk that is full or not ours is the user's to mend; what is there stays, as every file is whole or absent."""
    try:
        yield
    except ZooError:
        raise
    except Exception as error:
        if why := atomic_files.refusal(error):
            raise ZooError(
                f"{out}: {why}: make room there, or choose another --out; what was saved is kept, and the same command goes on"
            ) from error
        raise


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ZooError(f"{out}: another process is working in this run folder") from None
        yield


def _read(recipe: Recipe[Any]) -> dict[str, Table]:
    """The training table and, if asked for, the validation one, which is a source of its own or rows held out of the training;
    and those that the family reads besides, by the last step of where the recipe has them."""
    family = recipe.family.Encoder
    need, optional = family.roles(recipe.encoder)
    train = data.read(recipe.data, need, optional, folder=recipe.folder)
    tables = {"train": train}
    if isinstance(recipe.validation, float):
        split = Holdout(size=recipe.validation, take="kept", seed=recipe.training.seed)
        tables["train"] = data.hold_out(train, split)
        tables["validation"] = data.hold_out(train, split.model_copy(update={"take": "held-out"}))
    elif recipe.validation is not None:
        tables["validation"] = data.read(recipe.validation, need, optional, folder=recipe.folder)
    for path, wanted in family.extra_datasets(recipe.encoder).items():
        tables[path[-1]] = data.read(*wanted, folder=recipe.folder)
    return tables


def _untrained(recipe: Recipe[Any], tables: dict[str, Table]) -> Encoder:
    encoder = recipe.family.Encoder.build(recipe.encoder, seed=recipe.training.seed, folder=recipe.folder)
    encoder.name = recipe.name
    encoder.tables = {path[-1]: tables[path[-1]].rows for path in encoder.extra_datasets(recipe.encoder)}
    return encoder


def _lock_entry(table: Table) -> dict[str, Any]:
    return {
        "fingerprint": table.fingerprint,
        "rows": len(table.rows),
        "skipped": len(table.skipped),
        "origin": vars(table.origin),
    }


def _differences(before: Any, now: Any, path: str) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            yield from _differences(before.get(key), now.get(key), f"{path}.{key}")
    elif before != now:
        yield f"{path}: {before!r} there, {now!r} here"


def _link(source: str, target: str) -> None:
    """Two names for one file where the file system can, so that the weights lie on disk once."""
    if source.endswith(".safetensors"):
        try:
            os.link(source, target)
            return
        except OSError:
            pass
    shutil.copy2(source, target)


def packages() -> dict[str, str]:
    """Versions of what a run depends on, as lock.json keeps them."""
    names = (
        "embedding-zoo",
        "torch",
        "transformers",
        "sentence-transformers",
        "datasets",
        "mteb",
        "numpy",
        "tokenizers",
        "accelerate",
        "safetensors",
    )
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
