"""Put a recipe together: sections, the hold-out, the task that fits, and a comment for each choice."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo import data, families
from zoo.core.errors import DataError
from zoo.data.sources.file import VARIABLE
from zoo.data.spec import FileData, Holdout
from zoo.data.split import comparison_key, draw_holdout_mask
from zoo.families.starters import Starter
from zoo.spec import EncoderSpec
from zoo.starter.materials import Materials
from zoo.starter.shapes import Finding
from zoo.starter.template import Loc

FULLY_READ = 100_000  # rows; of more, only the first are looked at
SHARE, MOST_HELD_OUT = 0.2, 1_000
LEAST_ROWS = 8  # with fewer, nothing is held out
FEW_TEST_ROWS = 100
PLAIN_NAMES = ("train", "training", "data", "all", "rows", "dataset")
SEEDS = 50  # hold-outs that are tried until each class of the test has a training row
TASKS: dict[str, tuple[str, dict[str, str]]] = {
    "pairs": ("retrieval", {"query": "anchor", "document": "positive"}),
    "triplets": ("retrieval", {"query": "anchor", "document": "positive"}),
    "scored-pairs": ("sts", {"sentence1": "sentence1", "sentence2": "sentence2", "score": "score"}),
    "labels": ("recognition", {"text": "text", "label": "label"}),
    "images": ("recognition", {"image": "image", "label": "label"}),
    "captions": ("any-retrieval", {"query": "query", "document_image": "positive_image"}),
    "topics": ("zero-shot", {"text": "text", "label": "label"}),
}
"""The task of each shape, and the role of the training data that fills each role of the task."""
GROUPED_BY = {
    "pairs": "anchor",
    "triplets": "anchor",
    "scored-pairs": "sentence1",
    "labels": "text",
    "captions": "positive_image",
}
"""The role whose equal values stay on one side of the hold-out."""


@dataclass
class Draft:
    """A recipe that is being written.

    Attributes:
        values, comments: the sections, and a comment by the path of a value.
        doubts: what could be otherwise.
        rows: the training rows and those that are held out, or None if there are too many to read.
        spec: the checked `encoder:` section.
    """

    values: dict[str, Any]
    comments: dict[Loc, str]
    doubts: list[str]
    spec: EncoderSpec
    rows: Any = None
    held_out: int = 0


@dataclass
class Drafting:
    """Writes a draft from materials and their shape. `folder` is that of the recipe, where relative paths start."""

    materials: Materials
    finding: Finding
    starter: Starter
    folder: Path
    doubts: list[str] = field(default_factory=list)

    def write(self, name: str) -> Draft:
        """Return the whole draft. Raise DataError if no row can be used."""
        section = self.starter.section
        spec = families.load_spec(section["family"]).model_validate(section)
        self.doubts += self.finding.doubts
        source = self.make_data(self.materials.main.path)
        rows = self._read(source, spec)
        values: dict[str, Any] = {"name": name, "encoder": section, "data": source}
        comments: dict[Loc, str] = {("encoder", key): text for key, text in self.starter.comments.items()}
        draft = Draft(values, comments, self.doubts, spec, rows)
        self._add_evaluation(draft, source)
        return draft

    def make_data(self, path: Path) -> dict[str, Any]:
        """Return a data section for a file, with the columns that were found."""
        section: dict[str, Any] = {"source": "file", "path": self.write_path(path)}
        columns = {role: name for role, name in self.finding.columns.items() if role not in self._own_columns}
        if not self.materials.main.is_folder_of_images:
            section["columns"] = columns
        if self.finding.where:
            section["where"] = self.finding.where
        if self.materials.images is not None:
            section["images"] = self.write_path(self.materials.images)
        return section

    @property
    def _own_columns(self) -> tuple[str, ...]:
        """Roles that the training does not read; only the evaluation does."""
        return ("label",) if self.finding.shape == "topics" else ()

    def write_path(self, path: Path) -> str:
        """Return a path as the recipe has it: relative to its folder, or below $ZOO_DATA."""
        absolute, folder = _normalise(path), _normalise(self.folder)
        root = os.environ.get(VARIABLE)
        if root and not absolute.is_relative_to(folder) and absolute.is_relative_to(_normalise(Path(root))):
            return f"${VARIABLE}/{absolute.relative_to(_normalise(Path(root))).as_posix()}"
        try:
            relative = Path(os.path.relpath(absolute, folder)).as_posix()
        except ValueError:  # another drive
            return str(absolute)
        return f"./{relative}" if relative.startswith(("~", "$")) else relative

    def _read(self, source: dict[str, Any], spec: EncoderSpec) -> Any:
        """Read the rows, and let the recipe skip bad ones if there are any. Return None for very many rows."""
        table = self.materials.main
        if table.bad:
            self._skip_bad_rows(source, table.bad)
        if table.count > FULLY_READ:
            self.doubts.append(f"only the first rows of {table.count:,} were looked at; `zoo check --rows` reads all")
            return None
        roles = spec.roles()
        try:
            return data.read(FileData(**source), *roles, folder=self.folder).rows
        except DataError as error:
            if source.get("on_bad_row"):
                raise
            first = error.problems[0]
        self._skip_bad_rows(source, first)
        return data.read(FileData(**source), *roles, folder=self.folder).rows

    def _skip_bad_rows(self, source: dict[str, Any], reason: str) -> None:
        source["on_bad_row"] = "skip"
        self.doubts.append(f"rows that cannot be used are left out, for example {reason}")

    # -- evaluation ------------------------------------------------------------------------------------------------

    def _add_evaluation(self, draft: Draft, source: dict[str, Any]) -> None:
        """Add the task that fits, with rows of its own or with rows that are held out."""
        shape = self.finding.shape
        if self.materials.retrieval_data is not None:
            self._add_retrieval(draft, source)
        elif shape in TASKS and self._can_be_scored(draft):
            self._add_task(draft, source)
        else:
            advice = "There is no `evaluation:`, because a score needs labels, pairs or scores;"
            draft.comments[("data",)] = f"{advice} `zoo help evaluation` lists the tasks."

    def _can_be_scored(self, draft: Draft) -> bool:
        if self.finding.shape != "topics":
            return True
        label = self.finding.columns.get("label")
        if label is None:
            return False
        values = {str(value) for value in self.materials.main.find_column(label).values}
        unknown = values - set(self.starter.section["labels"])
        if unknown:
            self.doubts.append(
                f"{label} has other values than the topics, such as {min(unknown)}, so nothing is measured"
            )
        return not unknown

    def _add_task(self, draft: Draft, source: dict[str, Any]) -> None:
        task, roles = TASKS[self.finding.shape]
        columns = {role: self.finding.columns[training_role] for role, training_role in roles.items()}
        if self.materials.test is not None:
            test = self.make_data(self.materials.test.path) | {"columns": columns}
            if source.get("on_bad_row"):
                test["on_bad_row"] = "skip"
        else:
            holdout = self._hold_out(draft)
            if holdout is None:
                return
            source["holdout"] = {"size": holdout["size"], "side": "train", **_without(holdout, "size")}
            test = {**source, "columns": columns, "holdout": {**source["holdout"], "side": "test"}}
            if self.materials.main.is_folder_of_images:
                test.pop("columns")
            by = f"; rows with the same {holdout['by']} are on one side" if "by" in holdout else ""
            draft.comments[("data", "holdout")] = f"these rows are trained on, the others are the test{by}"
        entry: dict[str, Any] = {"task": task}
        if task == "recognition":
            entry["train"] = dict(source)
        entry["data"] = test
        if task == "retrieval":
            entry["corpus"] = _make_corpus(source, columns["document"])
            draft.comments[("evaluation", 0, "corpus")] = "the answers are looked for among those of all rows"
        draft.values["evaluation"] = [entry]

    def _hold_out(self, draft: Draft) -> dict[str, Any] | None:
        """Return the fields of a hold-out that can be scored, or None, with a doubt, if there is none."""
        count = self.materials.main.count if draft.rows is None else len(draft.rows)
        if count < LEAST_ROWS:
            self.doubts.append(f"{count} rows are too few to hold some out, so nothing is measured; give more")
            return None
        size = SHARE if count * SHARE <= MOST_HELD_OUT else MOST_HELD_OUT
        role = GROUPED_BY.get(self.finding.shape)
        by = self.finding.columns[role] if role and self._can_group_by(role) else None
        fields: dict[str, Any] = {"size": size, **({"by": by} if by is not None else {})}
        draft.held_out = round(size * count) if size < 1 else int(size)
        if draft.held_out < FEW_TEST_ROWS:
            self.doubts.append(f"{draft.held_out} test rows say next to nothing; a score needs two hundred or more")
        if draft.rows is None:
            return fields
        for seed in range(SEEDS):
            problem = self._find_split_problem(
                draft.rows, Holdout(side="test", seed=seed, **fields), role if by else None
            )
            if problem is None:
                return fields | ({"seed": seed} if seed else {})
        self.doubts.append(f"nothing is measured, because {problem}; give test rows in a second file")
        draft.held_out = 0
        return None

    def _can_group_by(self, role: str) -> bool:
        """Return whether rows can be grouped by a role.

        They cannot be if its values are images themselves, or if its column has the name of another role, which `by` would mean.
        """
        name = self.finding.columns[role]
        is_ambiguous = self.finding.columns.get(name, name) != name
        return not is_ambiguous and all(
            isinstance(value, str) for value in self.materials.main.find_column(name).values
        )

    def _find_split_problem(self, rows: Any, holdout: Holdout, role: str | None) -> str | None:
        """Say why the held-out rows cannot be scored, or return None."""
        raw = rows.with_format(None)
        groups = None
        if role is not None and holdout.by is not None:
            groups = [comparison_key(_unpack(value)) for value in raw[role]]
        try:
            mask = draw_holdout_mask(len(raw), holdout, groups)
        except DataError as error:
            return str(error)
        for column in ("label", "score"):
            if column in self.finding.columns and self.finding.shape != "topics":
                values = raw[column]
                tests = {value for value, is_test in zip(values, mask, strict=True) if is_test}
                rest = {value for value, is_test in zip(values, mask, strict=True) if not is_test}
                if min(len(tests), len(rest)) < 2:
                    return f"a side of the hold-out has one {column} only"
                if column == "label" and not tests <= rest:
                    return "some classes have too few rows for both sides"
        return None

    def _add_retrieval(self, draft: Draft, source: dict[str, Any]) -> None:
        """Score the search of a folder of retrieval data: on its test split, or on queries that are held out."""
        found = self.materials.retrieval_data
        assert found is not None
        draft.comments[("data", "path")] = (
            f"written by zoo init: the queries and documents of the split {found.training_split}"
        )
        if found.left_out:
            self.doubts.append(
                f"{found.left_out} judgements name a query or document that is missing; they were left out"
            )
        if found.test_split is not None:
            entry: dict[str, Any] = {
                "task": "retrieval",
                "folder": self.write_path(found.folder),
                "split": found.test_split,
            }
            draft.values["evaluation"] = [entry]
            return
        fields = self._hold_out(draft)
        if fields is None:
            return
        holdout = {"size": fields["size"], "side": "train", "by": "query_id"}
        source["holdout"] = holdout
        draft.comments[("data", "holdout")] = "the queries of these rows are trained on, the others are the test"
        entry = {"task": "retrieval"}
        for part in ("queries", "corpus"):
            part_source = found.sources[part]
            entry[part] = {
                "source": "file",
                "path": self.write_path(Path(part_source.path)),
                "columns": part_source.columns,
            }
        qrels = {"query_id": "query_id", "document_id": "document_id", "score": "score"}
        entry["qrels"] = {**source, "columns": qrels, "holdout": {**holdout, "side": "test"}}
        draft.values["evaluation"] = [entry]


def _normalise(path: Path) -> Path:
    """Return an absolute path without `..`. Links stay as they are, because the user knows their names."""
    return Path(os.path.normpath(path.absolute()))


def _make_corpus(source: Mapping[str, Any], document: str) -> dict[str, Any]:
    """Return the section of all answers, whichever side of the hold-out they are on."""
    return {**_without(dict(source), "holdout", "where"), "columns": {"text": document}}


def _without(values: dict[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in names}


def _unpack(value: Any) -> Any:
    """Return the path of an image that is stored as a list of one."""
    if isinstance(value, list) and value:
        value = value[0]
    return value.get("path") if isinstance(value, dict) else value


def make_name(path: Path) -> str:
    """Return the name of a recipe for a file: letters, digits, `.`, `_` and `-`. A file called `train` has its folder's name."""
    path = path.absolute()
    stem = path.name.split(".")[0]
    stem = path.parent.name if stem.lower() in PLAIN_NAMES else stem
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")
    return name[:96] or "my-model"
