"""Negative sampling in compiled loops for the CPU: passes over documents that change vectors of documents and words in place.

Source: Mikolov et al., "Distributed Representations of Words and Phrases", arXiv 1310.4546, equation 4; Le and Mikolov,
arXiv 1405.4053. Noise words are drawn for the word that is predicted and shared by all that predict it, as in Ji et al.,
"Parallelizing Word2Vec in Shared and Distributed Memory", arXiv 1604.04661, section 3: the same expectation, and rows that
are in the cache are used several times.

All is in one file because what numba keeps on disk does not notice a change in another. Random numbers are those of a
document and a pass alone, so that a result depends neither on the machine nor on the documents beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

_REACH, _STEPS = 8.0, 4096  # the sigmoid is read from a table over (-8, 8), as word2vec.c has it over (-6, 6)
_SIGMOID = (1 / (1 + np.exp(-(np.arange(_STEPS) + 0.5) * (2 * _REACH / _STEPS) + _REACH))).astype(np.float32)
_RING = 1 << 14  # numbers of a pass that infers; a document that needs more begins again
_TOGETHER = 8  # words of a document whose gradients are taken at the same vector
_FAST = {"reassoc", "contract", "arcp", "nsz"}  # not nnan and ninf: a vector that is not finite must stay so


def compiled(function: Callable[..., Any]) -> Any:
    """Machine code of `function`, kept on disk where there is a place for it."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": _FAST}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder of this user can be written
        return numba.njit(**options)(function)


@compiled
def _next(state):  # xorshift64*, Vigna, arXiv 1402.6246
    x = state[0]
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    state[0] = x
    return x * np.uint64(0x2545F4914F6CDD1D)


@compiled
def _start(state, seed, number):
    state[0] = (np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15)) ^ (
        np.uint64(number + 1) * np.uint64(0xD1342543DE82EF95)
    )
    state[0] |= np.uint64(1)
    for _ in range(4):
        _next(state)


@compiled
def _chance(state):
    return np.float32(_next(state) >> np.uint64(40)) * np.float32(1 / (1 << 24))


@compiled
def _noise(state, chance, other):
    drawn = _next(state)
    place = ((drawn >> np.uint64(32)) * np.uint64(len(chance))) >> np.uint64(32)
    share = np.float32(drawn & np.uint64(0xFFFFFF)) * np.float32(1 / (1 << 24))
    return np.int64(place) if share < chance[place] else np.int64(other[place])


@compiled
def _ring(seed, alike, state, chance, other):
    """If `alike`, the noise word that each of the first numbers of a pass draws, else none. All documents have these numbers,
    so that one of n words, which chooses among them by the first n, only has to look up what those after them draw. (From one
    place on for all of them, or with numbers of its own for each, documents get worse neighbours.)
    """
    ring = np.empty(_RING if alike else 0, np.int64)
    _start(state, seed, 0)
    for i in range(len(ring)):
        ring[i] = _noise(state, chance, other)
    return ring


@compiled
def _against(rows, first, ring, used, state, chance, other):
    """Fill `rows` with noise from place `first` on; returns how much of the ring is used."""
    for i in range(first, len(rows)):
        if len(ring) > 0:
            rows[i] = ring[used % len(ring)]
            used += 1
        else:
            rows[i] = _noise(state, chance, other)
    return used


@compiled
def _kept(tokens, start, end, keep, state, into):
    count = 0
    for place in range(start, end):
        into[count] = tokens[place]  # kept or not, so that no branch is mispredicted: one place more is written
        count += int(_chance(state) < keep[tokens[place]])
    return count


@compiled
def _sigmoid(logit):
    place = (logit + np.float32(_REACH)) * np.float32(_STEPS / (2 * _REACH))
    place = min(max(place, np.float32(0)), np.float32(_STEPS - 1))
    return _SIGMOID[int(place)] if place == place else logit  # what is not a number stays none


@compiled
def _loss(gates, rate):
    loss = np.float32(0)
    for r in range(len(gates)):
        loss -= np.log(np.float32(1) - abs(gates[r]) / rate)
    return loss


@compiled
def _step(x, outputs, bias, rows, positives, rate, learn, measure, gates, change):
    """One gradient step of the vector `x` (d,) against the output vectors `rows`, of which the first `positives` are to be
    predicted and the others are noise. Writes what `x` is to change by into `change`; returns the loss if `measure`.
    """
    dim, many = len(x), len(rows)
    for j in range(dim):
        change[j] = 0
    r = 0
    while r + 6 <= many:  # six at a time: no sum waits for its own last addition, and what is loaded is used twice
        p, q, s, t, u, v = rows[r], rows[r + 1], rows[r + 2], rows[r + 3], rows[r + 4], rows[r + 5]
        a0 = a1 = a2 = a3 = a4 = a5 = np.float32(0)
        for j in range(dim):
            a = x[j]
            a0, a1, a2 = a0 + a * outputs[p, j], a1 + a * outputs[q, j], a2 + a * outputs[s, j]
            a3, a4, a5 = a3 + a * outputs[t, j], a4 + a * outputs[u, j], a5 + a * outputs[v, j]
        a = (np.float32(r < positives) - _sigmoid(a0 + bias[p])) * rate
        b = (np.float32(r + 1 < positives) - _sigmoid(a1 + bias[q])) * rate
        c = (np.float32(r + 2 < positives) - _sigmoid(a2 + bias[s])) * rate
        d = (np.float32(r + 3 < positives) - _sigmoid(a3 + bias[t])) * rate
        e = (np.float32(r + 4 < positives) - _sigmoid(a4 + bias[u])) * rate
        f = (np.float32(r + 5 < positives) - _sigmoid(a5 + bias[v])) * rate
        for j in range(dim):
            near = a * outputs[p, j] + b * outputs[q, j] + c * outputs[s, j]
            change[j] += near + d * outputs[t, j] + e * outputs[u, j] + f * outputs[v, j]
        gates[r], gates[r + 1], gates[r + 2], gates[r + 3], gates[r + 4], gates[r + 5] = a, b, c, d, e, f
        r += 6
    while r < many:
        k, a = rows[r], np.float32(0)
        for j in range(dim):
            a += x[j] * outputs[k, j]
        a = (np.float32(r < positives) - _sigmoid(a + bias[k])) * rate
        for j in range(dim):
            change[j] += a * outputs[k, j]
        gates[r] = a
        r += 1
    if learn:
        for r in range(many):
            k, a = rows[r], gates[r]
            for j in range(dim):
                outputs[k, j] += a * x[j]
    return _loss(gates[:many], rate) if measure else np.float32(0)


@compiled
def _steps(inputs, count, outputs, bias, rows, positives, rate, learn, measure, gates, change):
    """`_step` of the first `count` rows of `inputs` together; of `change` too each has a row. Returns the loss of the first.
    `inputs` and `gates` have up to three rows more, which are overwritten.
    """
    dim, many = inputs.shape[1], len(rows)
    whole = (count + 3) // 4 * 4  # of zeros, what is missing to four times four
    for i in range(count, whole):
        for j in range(dim):
            inputs[i, j] = 0
    r = 0
    while r + 3 <= many:  # three outputs by four inputs at a time: what is loaded is used several times
        first, second, third = rows[r], rows[r + 1], rows[r + 2]
        for i in range(0, whole, 4):
            a0 = a1 = a2 = b0 = b1 = b2 = c0 = c1 = c2 = d0 = d1 = d2 = np.float32(0)
            for j in range(dim):
                x, y, z = outputs[first, j], outputs[second, j], outputs[third, j]
                a, b, c, d = inputs[i, j], inputs[i + 1, j], inputs[i + 2, j], inputs[i + 3, j]
                a0, a1, a2 = a0 + a * x, a1 + a * y, a2 + a * z
                b0, b1, b2 = b0 + b * x, b1 + b * y, b2 + b * z
                c0, c1, c2 = c0 + c * x, c1 + c * y, c2 + c * z
                d0, d1, d2 = d0 + d * x, d1 + d * y, d2 + d * z
            gates[i, r], gates[i, r + 1], gates[i, r + 2] = a0, a1, a2
            gates[i + 1, r], gates[i + 1, r + 1], gates[i + 1, r + 2] = b0, b1, b2
            gates[i + 2, r], gates[i + 2, r + 1], gates[i + 2, r + 2] = c0, c1, c2
            gates[i + 3, r], gates[i + 3, r + 1], gates[i + 3, r + 2] = d0, d1, d2
        r += 3
    while r < many:
        first = rows[r]
        for i in range(whole):
            a = np.float32(0)
            for j in range(dim):
                a += inputs[i, j] * outputs[first, j]
            gates[i, r] = a
        r += 1
    for i in range(count):
        for r in range(many):
            gates[i, r] = (np.float32(r < positives) - _sigmoid(gates[i, r] + bias[rows[r]])) * rate
    for i in range(count, whole):
        for r in range(many):
            gates[i, r] = 0
    for i in range(count):
        for j in range(dim):
            change[i, j] = 0
        r = 0
        while r + 6 <= many:
            p, q, s, t, u, v = rows[r], rows[r + 1], rows[r + 2], rows[r + 3], rows[r + 4], rows[r + 5]
            a, b, c, d, e, f = (
                gates[i, r],
                gates[i, r + 1],
                gates[i, r + 2],
                gates[i, r + 3],
                gates[i, r + 4],
                gates[i, r + 5],
            )
            for j in range(dim):
                near = a * outputs[p, j] + b * outputs[q, j] + c * outputs[s, j]
                change[i, j] += near + d * outputs[t, j] + e * outputs[u, j] + f * outputs[v, j]
            r += 6
        while r < many:
            k, a = rows[r], gates[i, r]
            for j in range(dim):
                change[i, j] += a * outputs[k, j]
            r += 1
    if learn:
        for r in range(many):
            row = rows[r]
            for i in range(0, whole, 4):
                a, b, c, d = gates[i, r], gates[i + 1, r], gates[i + 2, r], gates[i + 3, r]
                for j in range(dim):
                    outputs[row, j] += (
                        a * inputs[i, j] + b * inputs[i + 1, j] + c * inputs[i + 2, j] + d * inputs[i + 3, j]
                    )
    return _loss(gates[0, :many], rate) if measure else np.float32(0)


@compiled
def _look(document, scale, into):
    for j in range(len(document)):
        value = document[j]
        into[j] = value if scale == 0 else (scale if value > 0 else -scale)


@compiled
def _move(document, scale, change):
    for j in range(len(document)):
        slope = np.float32(1)
        if scale > 0:
            slope -= np.tanh(document[j] / (2 * scale)) ** 2
        document[j] += change[j] * slope


@compiled
def predict(
    tokens,
    starts,
    ends,
    owners,
    order,
    documents,
    outputs,
    keep,
    chance,
    other,
    bias,
    negatives,
    rates,
    seed,
    alike,
    learn,
    scale,
):
    """PV-DBOW: each document's vector predicts its words.

    Args:
        tokens: (T,) int32 rows of the vocabulary; starts, ends: (m,) int64, where each document's are.
        owners: (m,) int64, whose they are: rows of `documents` (n, d) float32.
        order: places among the m of those that each pass takes. All passes are one call: between two calls a thread may have
            to wait until another, which tokenises, lets the interpreter go.
        outputs: (V, d) float32, changed if `learn`; keep, chance, other, bias: of `sampling.SamplingTables`.
        rates: (P, 2) float64, the learning rate at the first and the last document of each pass, linear between.
        seed: of the first pass, from which the others count on; with `alike` every document draws the same numbers, else
            each its own.
        scale: above 0, a document predicts by its code: `scale` times the signs of its vector, whose gradient is that of the
            code through a sigmoid of that steepness (arXiv 1611.01116, section 2); 0 for the vector itself.

    Returns (2,) float64: a sum of losses in the last pass and of how many words.
    """
    dim, state, measured = documents.shape[1], np.zeros(1, np.uint64), np.zeros(2)
    longest = 0
    for at in order:
        longest = max(longest, ends[at] - starts[at])
    kept = np.empty(longest + 1, np.int64)
    rows = np.empty(_TOGETHER * (1 + negatives), np.int64)
    gates, change, seen = np.empty(len(rows), np.float32), np.empty(dim, np.float32), np.empty(dim, np.float32)
    for number in range(len(rates)):
        first, last = rates[number, 0], rates[number, 1]
        ring = _ring(seed + number, alike, state, chance, other)
        measured[:] = 0
        for place in range(len(order)):
            at = order[place]
            owner = owners[at]
            rate = np.float32(first + (last - first) * place / len(order))
            _start(state, seed + number, 0 if alike else owner)
            count, drawn = _kept(tokens, starts[at], ends[at], keep, state, kept), ends[at] - starts[at]
            for begin in range(0, count, _TOGETHER):
                some = min(_TOGETHER, count - begin)
                for i in range(some):
                    rows[i] = kept[begin + i]
                used, measure = rows[: some * (1 + negatives)], begin == 0
                drawn = _against(used, some, ring, drawn, state, chance, other)
                _look(documents[owner], scale, seen)
                loss = _step(seen, outputs, bias, used, some, rate, learn, measure, gates, change)
                if measure:
                    measured += np.array([loss, some])
                _move(documents[owner], scale, change)
    return measured


@compiled
def predict_in_windows(
    tokens,
    starts,
    ends,
    owners,
    order,
    documents,
    words,
    slots,
    outputs,
    keep,
    chance,
    other,
    bias,
    negatives,
    window,
    rates,
    seed,
    alike,
    learn,
    scale,
    mean,
):
    """Each word is predicted by its document's vector and by those `words` (w, d) around it, at most `window` places away; at
    which place among them a word of the vocabulary has its vector, `slots` (V,) int64 says. Each predicts by itself (skip-gram
    beside PV-DBOW), or with `mean` all by their mean (PV-DM), of which every member gets the whole gradient, as in word2vec.
    Other arguments as in `predict`; `words` change if `learn`.
    """
    dim, state, measured = documents.shape[1], np.zeros(1, np.uint64), np.zeros(2)
    longest = 0
    for at in order:
        longest = max(longest, ends[at] - starts[at])
    kept, around = np.empty(longest + 1, np.int64), np.empty(2 * window, np.int64)
    rows = np.empty(1 + negatives, np.int64)
    inputs, change = np.empty((2 * window + 4, dim), np.float32), np.empty((2 * window + 1, dim), np.float32)
    gates = np.empty((2 * window + 4, 1 + negatives), np.float32)
    for number in range(len(rates)):
        first, last = rates[number, 0], rates[number, 1]
        ring = _ring(seed + number, alike, state, chance, other)
        measured[:] = 0
        for place in range(len(order)):
            at = order[place]
            owner = owners[at]
            rate = np.float32(first + (last - first) * place / len(order))
            _start(state, seed + number, 0 if alike else owner)
            count, drawn = _kept(tokens, starts[at], ends[at], keep, state, kept), ends[at] - starts[at]
            for centre in range(count):
                reach = 1 + np.int64(_next(state) % np.uint64(window))
                seen = 0
                for near in range(centre - reach, centre + reach + 1):
                    if 0 <= near < count and near != centre:
                        around[seen] = slots[kept[near]]
                        seen += 1
                _look(documents[owner], scale, inputs[0])
                if mean:
                    for i in range(seen):
                        word = around[i]
                        for j in range(dim):
                            inputs[0, j] += words[word, j]
                    for j in range(dim):
                        inputs[0, j] /= np.float32(1 + seen)
                else:
                    for i in range(seen):
                        word = around[i]  # read inside the loop over j, it would keep that from being vectorised
                        for j in range(dim):
                            inputs[1 + i, j] = words[word, j]
                rows[0] = kept[centre]
                drawn, measure = _against(rows, 1, ring, drawn, state, chance, other), centre % 16 == 0
                if mean:
                    loss = _step(inputs[0], outputs, bias, rows, 1, rate, learn, measure, gates[0], change[0])
                else:
                    loss = _steps(inputs, 1 + seen, outputs, bias, rows, 1, rate, learn, measure, gates, change)
                if measure:
                    measured += np.array([loss, 1.0])
                _move(documents[owner], scale, change[0])
                if learn:
                    for i in range(seen):
                        word, source = around[i], 0 if mean else 1 + i
                        for j in range(dim):
                            words[word, j] += change[source, j]
    return measured


@compiled
def merge(base, copies, start, end):
    """Add to rows `start` to `end` of `base` (V, d) what each of its copies (t, V, d) has changed, and make them equal."""
    for i in range(start, end):
        for j in range(base.shape[1]):
            total = base[i, j]
            for copy in range(len(copies)):
                total += copies[copy, i, j] - base[i, j]
            base[i, j] = total
            for copy in range(len(copies)):
                copies[copy, i, j] = total


@compiled
def subtract(copy, base, rows):
    """Take those rows of `base` (V, d) from the first of `copy`: what is left has been changed there."""
    for i in range(len(rows)):
        row = rows[i]
        for j in range(base.shape[1]):
            copy[i, j] -= base[row, j]


@compiled
def add(base, rows, change):
    """Add the first rows of `change` to those of `base` (V, d)."""
    for i in range(len(rows)):
        row = rows[i]
        for j in range(base.shape[1]):
            base[row, j] += change[i, j]
