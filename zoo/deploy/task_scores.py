"""Score a written folder on evaluation tasks beside the exact encoder."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from zoo import evaluation
from zoo.core.inputs import read_in_windows
from zoo.encoder import Encoder
from zoo.evaluation import Prepared
from zoo.runtime.model import Model

WINDOW = 4096


@dataclass(frozen=True)
class TaskScore:
    """The main score of a task.

    Attributes:
        task, metric: their names.
        exact, exported: the score of the encoder at fp32, and of the folder.
    """

    task: str
    metric: str
    exact: float
    exported: float


def measure(encoder: Encoder, model: Model, tasks: Prepared) -> list[TaskScore]:
    """Score both on the same tasks. Raises ZooError if a task cannot be scored."""
    exact, exported = (
        evaluation.evaluate(subject, tasks, baseline=False)["results"] for subject in (encoder, run_by(encoder, model))
    )
    return [
        TaskScore(left["task"], left["metric"], left["value"], right["value"])
        for left, right in zip(exact, exported, strict=True)
    ]


def run_by(encoder: Encoder, model: Model) -> Encoder:
    """Return a view of `encoder` whose vectors a folder computes. Views of the view are the same view."""
    twin: Any = copy.copy(encoder)

    def encode(inputs: Iterable[Any], *, prompt_type: str | None = None, **_: Any) -> Any:
        return model.encode(list(inputs), prompt_name=prompt_type)

    def stream(inputs: Iterable[Any], *, prompt_type: str | None = None, **_: Any) -> Iterator[Any]:
        for window in read_in_windows(iter(inputs), WINDOW):
            yield model.encode(window, prompt_name=prompt_type)

    def encode_plain(inputs: Iterable[Any], **options: Any) -> Any:
        return encode(inputs, **options)

    twin._encode = encode if encoder.has_roles else encode_plain
    twin._stream = stream
    return twin  # type: ignore[no-any-return]
