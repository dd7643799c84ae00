"""Scores an encoder with its codes in place of its vectors, so that the cost of the codes is seen beside their bytes.

In a search, documents are codes and queries are those that the step asks for, by default float vectors. In other tasks every
vector is coded and decoded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from zoo.core.errors import ZooError
from zoo.encoder import Encoder
from zoo.evaluation.mteb_model import SEARCH_SUFFIXES, Array, MtebModel
from zoo.evaluation.task import ReadyTask

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata
    from torch.utils.data import DataLoader

    from zoo.after.step import CodeStep
    from zoo.evaluation.kept_vectors import KeptVectors


class CodedModel(MtebModel):
    """An encoder as a model of mteb whose documents are codes of one of its steps."""

    def __init__(
        self,
        encoder: Encoder,
        step: CodeStep,
        precision: str,
        *,
        show_progress: bool = False,
        kept: KeptVectors | None = None,
    ) -> None:
        super().__init__(encoder, precision, show_progress=show_progress, kept=kept)
        self.step, self.uses_tokens = step, False

    def encode(
        self,
        inputs: DataLoader[Any],
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        **kwargs: Any,
    ) -> Array:
        """Encode the inputs of the loader in order.

        Return packed codes (n, bytes) uint8 of the documents of a search, and float32 vectors of its queries. Return decoded
        vectors (n, d) float32 for other tasks.
        """
        vectors = super().encode(
            inputs,
            task_metadata=task_metadata,
            hf_split=hf_split,
            hf_subset=hf_subset,
            prompt_type=prompt_type,
            **kwargs,
        )
        rows = self.model.prepare_vectors(vectors)
        if not task_metadata.type.endswith(SEARCH_SUFFIXES):
            return self.step.decode(self.step.encode(rows))
        return rows if getattr(prompt_type, "value", prompt_type) == "query" else self.step.encode(rows)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:
        """Return the step's scores (m, n) of queries and codes, and the cosines of decoded vectors in other tasks."""
        codes = np.asarray(embeddings2)
        if codes.dtype != np.uint8:
            return super().similarity(embeddings1, embeddings2)
        return torch.from_numpy(self.step.score(np.asarray(embeddings1, np.float32), codes))


def score_codes(
    encoder: Encoder,
    step: CodeStep,
    tasks: Sequence[ReadyTask],
    results: Sequence[Mapping[str, Any]],
    *,
    precision: str = "fp32",
    show_progress: bool = False,
    kept: KeptVectors | None = None,
) -> list[dict[str, Any]]:
    """Score every task that mteb computes with codes in place of vectors.

    Args:
        encoder: the whole encoder, on whose vectors `step` was fitted.
        step: turns vectors into codes.
        tasks: tasks whose data was read. Those that zoo computes itself are left out.
        results: entries of a report, which give the scores of float vectors. A score that is not among them is computed.
        precision, show_progress: of `encode`.
        kept: the vectors that the evaluation of this encoder kept, which are not encoded again.

    Returns an entry for each task: its name and type, the metric, `value` with codes and `float_value` without, and the bytes of
    both. Raises ZooError for a score that is not finite.
    """
    from zoo.evaluation import scoring
    from zoo.evaluation.mteb_isolation import preserve_random_state, silence_mteb

    entries: list[dict[str, Any]] = []
    with preserve_random_state(), silence_mteb():
        for task in tasks:
            if task.measure is not None:
                continue
            run = scoring.run_mteb(CodedModel(encoder, step, precision, show_progress=show_progress, kept=kept), task)
            if not math.isfinite(run.value):
                raise ZooError(f"{task.name} with the codes of {step.spec.step}: the score is {run.value}")
            float_value = find_whole_score(encoder, task.name, results)
            if encoder.searches_by_tokens:  # codes stand for the vectors of `encode`
                single = MtebModel(encoder, precision, show_progress=show_progress, kept=kept)
                single.uses_tokens = False
                float_value = scoring.run_mteb(single, task).value
            elif float_value is None:
                float_value = scoring.score(encoder, task, precision, show_progress, kept).entry["value"]
            entries.append(
                {
                    "task": task.name,
                    "type": run.task.metadata.type,
                    "metric": run.task.metadata.main_score,
                    "step": step.spec.step,
                    "value": run.value,
                    "float_value": float_value,
                    "bytes_per_vector": step.bytes_per_vector,
                    "first_bytes": step.first_bytes,
                    "float_bytes": encoder.bytes_per_vector,
                    "seconds": round(run.seconds, 3),
                }
            )
    return entries


def find_whole_score(encoder: Encoder, name: str, results: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the score of the whole encoder on the task `name` among the entries of a report, or None."""
    whole = encoder.view().view_options
    for entry in results:
        if entry["task"] == name and (not entry["view"] or encoder.view(**entry["view"]).view_options == whole):
            return float(entry["value"])
    return None
