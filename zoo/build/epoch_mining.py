"""Mines the negatives of the training rows anew at the start of an epoch, with the model in training."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.build import mining
from zoo.core import atomic_files
from zoo.data import Table
from zoo.data.spec import Mine
from zoo.encoder import Encoder
from zoo.recipe.recipe import Recipe
from zoo.training import distributed

if TYPE_CHECKING:
    from datasets import Dataset

SEED_STEP = 1_000_003  # so that no two epochs of two seeds draw the same


class EpochRows:
    """Training rows that are replaced at the start of an epoch. They are used as a data set, and never change in number."""

    def __init__(self, rows: Dataset, replace: Callable[[int], Dataset]) -> None:
        self._rows, self._replace = rows, replace

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, key: Any) -> Any:
        return self._rows[key]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("_rows", "_replace"):
            raise AttributeError(name)
        return getattr(self._rows, name)

    def begin_epoch(self, epoch: int) -> None:
        """Replace the rows. The first epoch has the number 0 and the rows that were mined before the training."""
        if epoch:
            self._rows = self._replace(epoch)


@dataclass
class EpochMiner:
    """Mines for an epoch and keeps the result in a file, from which a resumed run and other processes read it.

    Attributes:
        section, corpus, known, seed: as in `mining.mine_table`.
        table: the rows without mined columns.
        roles, first: names of the mined columns, and their texts for each row before the training.
    """

    section: Mine
    encoder: Encoder
    table: Table
    corpus: Table | None
    known: Sequence[Table]
    roles: Sequence[str]
    first: Sequence[Sequence[str]]
    seed: int
    folder: Path
    say: Callable[[str], None] = field(default=lambda _: None)

    def make_rows(self, epoch: int) -> Dataset:
        """Return the rows of an epoch."""
        if distributed.is_main_process() and not self._find_file(epoch).exists():
            self._mine(epoch)
        distributed.broadcast_from_main()
        return mining.add_columns(self.table, self.roles, self._read_negatives(epoch)).rows

    def _find_file(self, epoch: int) -> Path:
        values = [self.section.model_dump(mode="json"), self.table.fingerprint, self.seed]
        return self.folder / f"mined-{atomic_files.digest(values)[:16]}-epoch-{epoch}.json"

    def _read_negatives(self, epoch: int) -> Sequence[Sequence[str]]:
        if epoch == 0:
            return self.first
        negatives: list[list[str]] = atomic_files.read_json(self._find_file(epoch))["negatives"]
        return negatives

    def _mine(self, epoch: int) -> None:
        """Mine for an epoch. A row for which nothing is left keeps the negatives of the epoch before."""
        filled = [name for name in self.table.inputs if name not in ("anchor", "positive")]
        texts = mining.list_texts(self.table, filled) if self.corpus is None else list(self.corpus.rows["text"])
        vectors = self.folder / f"epoch-{epoch}"
        mined = mining.mine_texts(
            self.section,
            self.table,
            texts,
            mining.make_miner(self.encoder),
            filled,
            cache=vectors,
            known=self.known,
            seed=self.seed + SEED_STEP * epoch,
            say=self.say,
        )
        before = self._read_negatives(epoch - 1)
        negatives = [texts or old for texts, old in zip(mined.negatives, before, strict=True)]
        atomic_files.write_json(self._find_file(epoch), {"counts": mined.counts, "negatives": negatives})
        shutil.rmtree(vectors)
        self.encoder._forget_engines()  # they may hold copies of weights that the training goes on to change
        self.say(f"epoch {epoch + 1}: mined {mined.counts['found']} negatives anew")

    def list_counts(self) -> list[dict[str, int]]:
        """Return the counts of every epoch that was mined, with its number from 1."""
        counts, epoch = [], 1
        while self._find_file(epoch).exists():
            counts.append({"epoch": epoch + 1, **atomic_files.read_json(self._find_file(epoch))["counts"]})
            epoch += 1
        return counts


def make_miner(
    recipe: Recipe[Any],
    encoder: Encoder,
    tables: Mapping[str, Table],
    corpus: Table | None,
    record: Mapping[str, Any],
    folder: Path,
    say: Callable[[str], None] = lambda _: None,
) -> EpochMiner | None:
    """Return the miner of a recipe that mines every epoch, else None.

    `tables` and `record` are what `mining.mine_recipe` returned; `folder` is the cache of the run.
    """
    section = mining.get_section(recipe)
    if section is None or section.every is None:
        return None
    table, roles = tables["train"], record["columns"]
    first = list(zip(*(table.rows[role] for role in roles), strict=True))
    known = [tables["validation"]] if "validation" in tables else []
    base = mining.remove_columns(table, roles)
    return EpochMiner(section, encoder, base, corpus, known, roles, first, recipe.training.seed, folder, say)
