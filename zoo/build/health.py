"""Looks for signs that a training went wrong, before the card is written: each with its likely cause and a setting to change."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.core.findings import Finding
from zoo.encoder import Encoder
from zoo.metrics.encoded_rows import choose_inputs
from zoo.metrics.moments import Moments
from zoo.metrics.spectrum import measure_spectrum

MAX_INPUTS = 300  # inputs that are encoded
MIN_INPUTS = 10  # fewer inputs say nothing
MIN_LOSSES = 20  # fewer logged losses say nothing
EQUAL_COSINE, NEAR_COSINE = 0.9999, 0.95  # of vectors that are the same, and nearly the same
FEW_DIRECTIONS = 2.0  # effective rank
SMALL_GRADIENT = 1e-6
FEW_EPOCHS = 0.2


def examine(
    encoder: Encoder, rows: Any, *, lines: Iterable[Mapping[str, Any]], rows_seen: int | None, training_rows: int
) -> list[Finding]:
    """Return what is suspicious about a trained encoder.

    Args:
        rows: rows that the training did not learn from, if there are any, else training rows.
        lines: the lines of metrics.jsonl.
        rows_seen: the number of different training rows that were read, if it is known.
        training_rows: the number of training rows.
    """
    logged = list(lines)
    findings = [*examine_vectors(encoder, rows), *encoder.find_faults(rows)]
    findings += [*examine_losses(logged), *examine_gradients(logged)]
    if rows_seen is not None and rows_seen < FEW_EPOCHS * training_rows:
        message = f"the training read {rows_seen:,} of {training_rows:,} rows"
        findings.append(Finding("warning", message, "raise `training.max_steps` or `training.epochs`"))
    return findings


def examine_vectors(encoder: Encoder, rows: Any) -> list[Finding]:
    """Find vectors or codes that are the same, or nearly the same, for different inputs."""
    inputs = choose_inputs(encoder.spec, rows, MAX_INPUTS)
    if len(inputs) < MIN_INPUTS:
        return []
    encoded = encoder.encode(inputs)
    advice = "the training has collapsed: lower `training.learning_rate`, or look at the loss curve"
    if encoder.similarity_fn_name == "hamming" or encoded.dtype.kind in "iu":
        count = len(np.unique(encoded, axis=0))
        if count == 1:
            return [Finding("dead", f"{len(inputs)} different inputs have one and the same code", advice)]
        return []
    spectrum = measure_spectrum(Moments.collect(encoder.as_float_vectors(encoded)))
    figures = f"mean cosine {spectrum.mean_cosine:.4f}, effective rank {spectrum.rankme_centred:.1f}"
    if spectrum.mean_cosine > EQUAL_COSINE or spectrum.zero_vectors == len(inputs):
        return [Finding("dead", f"the vectors of {len(inputs)} different inputs are equal ({figures})", advice)]
    if spectrum.mean_cosine > NEAR_COSINE or spectrum.rankme_centred < FEW_DIRECTIONS:
        return [
            Finding("warning", f"the vectors of {len(inputs)} different inputs are nearly equal ({figures})", advice)
        ]
    return []


def examine_losses(lines: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """Find a training loss that never fell. Trainings in several phases are left out: their losses cannot be compared."""
    losses = [line["loss"] for line in lines if "loss" in line and "phase" not in line]
    if len(losses) < MIN_LOSSES:
        return []
    quarter = len(losses) // 4
    first, last = statistics.fmean(losses[:quarter]), statistics.fmean(losses[-quarter:])
    if last < first:
        return []
    message = f"the loss did not fall: {first:.4f} in the first quarter of the training, {last:.4f} in the last"
    return [Finding("warning", message, "try another `training.learning_rate`, and check what each column is read as")]


def examine_gradients(lines: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """Find gradients that vanished in the second half of the training."""
    norms = [line["grad_norm"] for line in lines if "grad_norm" in line]
    if len(norms) < MIN_LOSSES:
        return []
    norm = statistics.median(norms[len(norms) // 2 :])
    if norm > SMALL_GRADIENT:
        return []
    message = f"the gradients vanished: their norm is {norm:.1e} in the median of the second half of the training"
    return [Finding("warning", message, "nothing is learned any more: check the loss, or raise `encoder.temperature`")]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of metrics.jsonl; none if the family wrote none."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
