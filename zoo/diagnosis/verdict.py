"""The verdict: which figures cross a line, each said in a sentence with its likely cause.

The lines are those of clear faults. Figures between them order the widths of one model, and say nothing of which
model is better.
"""

from __future__ import annotations

from zoo.core.findings import Finding
from zoo.metrics.neighbours import Neighbourhood
from zoo.metrics.spectrum import Spectrum

EQUAL_COSINE, NEAR_COSINE, CONE_COSINE = 0.9999, 0.95, 0.8
"""Mean cosines of different inputs: the same vector for all, nearly the same, and one common direction."""
FEW_DIRECTIONS = 2.0
"""Centred rank of vectors that are nearly equal."""
NOISY_DIMENSION, NOISY_FALL = 20.0, 0.9
"""Intrinsic dimension above which vectors look like noise, if it does not grow with the scale by more than a ninth.

Sentence encoders have 6 to 14 on their texts, and more at large scales. Noise of one standard deviation has 30 to 80.
"""
MANY_EQUAL = 0.01
HUBS = 10.0
"""Skewness of the counts of neighbours. Sentence encoders have 1 to 4."""
DEAD_SHARE = 0.01


def find_faults(
    spectrum: Spectrum, neighbourhood: Neighbourhood | None, rows: int, dim: int, repeated: int, equal: int
) -> list[Finding]:
    """Return the faults of vectors, the worst first.

    Args:
        spectrum, neighbourhood: the figures; `neighbourhood` is None if there are too few distinct vectors.
        rows, dim: the number of vectors and of their components.
        repeated: inputs that equal an earlier one.
        equal: vectors of different inputs that equal an earlier one, among the drawn ones.
    """
    drawn = rows if neighbourhood is None else neighbourhood.drawn
    found = [
        *_judge_collapse(spectrum),
        *_judge_equal_vectors(equal, drawn),
        *_judge_noise(neighbourhood),
        *_judge_components(spectrum, rows, dim),
        *_judge_hubs(neighbourhood),
    ]
    if repeated:
        message = f"{repeated:,} inputs equal an earlier one, and were left out"
        found.append(
            Finding("warning", message, "remove repeated rows from the data, or they weigh more than the others")
        )
    return sorted(found, key=lambda finding: finding.level != "dead")


def _judge_collapse(spectrum: Spectrum) -> list[Finding]:
    cosine = f"mean cosine {spectrum.mean_cosine:.4f}, Vendi score {spectrum.vendi:.1f}"
    if spectrum.mean_cosine > EQUAL_COSINE:
        advice = "the training has collapsed: lower `training.learning_rate`, or look at the loss curve"
        return [Finding("dead", f"all inputs have nearly one vector ({cosine})", advice)]
    if spectrum.mean_cosine > NEAR_COSINE or spectrum.rankme_centred < FEW_DIRECTIONS:
        advice = "look at the loss curve, or take a deeper layer; a common vector can be subtracted"
        return [Finding("warning", f"the vectors of different inputs are nearly equal ({cosine})", advice)]
    if spectrum.mean_cosine > CONE_COSINE:
        advice = "compare by rank and not by a fixed cosine, or subtract the mean vector"
        return [Finding("warning", f"all vectors share one direction ({cosine})", advice)]
    return []


def _judge_equal_vectors(equal: int, drawn: int) -> list[Finding]:
    if not equal:
        return []
    message = f"{equal:,} of {drawn:,} inputs have the vector of an earlier one"
    if equal < MANY_EQUAL * drawn:
        return [Finding("warning", message, "they differ too little for the encoder, or are repeated in the data")]
    advice = (
        "remove near duplicates from the data; if the inputs differ, texts are cut off or the encoder has collapsed"
    )
    return [Finding("warning", message, advice)]


def _judge_noise(neighbourhood: Neighbourhood | None) -> list[Finding]:
    if neighbourhood is None or not neighbourhood.gride:
        return []
    small, large = neighbourhood.gride[0][1], neighbourhood.gride[-1][1]
    if neighbourhood.twonn < NOISY_DIMENSION or small < NOISY_FALL * large:
        return []
    dimensions = f"{neighbourhood.twonn:.0f} among nearest neighbours, {large:.0f} at large scale"
    message = f"the vectors look noisy: intrinsic dimension {dimensions}"
    return [
        Finding("warning", message, "the encoder may be half trained, of random weights, or disturbed by a coarse code")
    ]


def _judge_components(spectrum: Spectrum, rows: int, dim: int) -> list[Finding]:
    found = []
    if spectrum.zero_vectors:
        message = f"{spectrum.zero_vectors:,} of {rows:,} vectors are 0"
        found.append(
            Finding("warning", message, "the encoder knows no part of these inputs, for example no word of them")
        )
    if spectrum.dead_components > DEAD_SHARE * dim:
        message = f"{spectrum.dead_components} of {dim} components have one value for all inputs"
        found.append(
            Finding("warning", message, "these units are dead: lower the learning rate, or train with fewer dimensions")
        )
    if spectrum.duplicate_components:
        message = f"{spectrum.duplicate_components} of {dim} components repeat another one"
        found.append(Finding("warning", message, "they can be left out without a loss"))
    return found


def _judge_hubs(neighbourhood: Neighbourhood | None) -> list[Finding]:
    if neighbourhood is None or neighbourhood.hubness < HUBS:
        return []
    message = f"a few inputs are neighbours of very many (hubness {neighbourhood.hubness:.1f})"
    return [Finding("warning", message, "searches return them again and again; look at the most frequent answers")]
