"""Compiled loops for the CPU: negative sampling that changes the vectors of documents and words in place.

Source: Mikolov et al., "Distributed Representations of Words and Phrases", arXiv 1310.4546, equation 4; Le and Mikolov,
arXiv 1405.4053. Noise words are drawn once for a predicted word, and all inputs that predict the word share them, as in
Ji et al., "Parallelizing Word2Vec in Shared and Distributed Memory", arXiv 1604.04661, section 3. The expectation is the
same, and rows that are in the cache are used several times.

All kernels are in this file, because numba's cache on disk does not notice a change in another file. For the same reason
kernels unpack a `Batch` and `SamplingTables` by position and never by field name.

Random numbers depend on the document and the pass alone. A result therefore depends neither on the machine nor on the
other documents of a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from zoo.paragraph_vectors.corpus import Batch
from zoo.paragraph_vectors.sampling import SamplingTables

Array = npt.NDArray[Any]

SIGMOID_RANGE, SIGMOID_STEPS = 8.0, 4096  # a table over (-8, 8); the table of word2vec.c covers (-6, 6)
SIGMOID = (
    1 / (1 + np.exp(-(np.arange(SIGMOID_STEPS) + 0.5) * (2 * SIGMOID_RANGE / SIGMOID_STEPS) + SIGMOID_RANGE))
).astype(np.float32)
_RING_SIZE = 1 << 14  # noise draws of an inference pass; a document that needs more starts again at the first
WORDS_PER_STEP = 8  # words of a document that one gradient step of `predict` predicts
_FAST_MATH = {"reassoc", "contract", "arcp", "nsz"}  # without nnan and ninf, so that NaN and infinity stay visible


def compile_kernel(function: Callable[..., Any]) -> Any:
    """Compile `function` to machine code, and cache the code on disk if a folder is writable."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": _FAST_MATH}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # numba found no folder that this user may write to
        return numba.njit(**options)(function)


def inline_kernel(function: Callable[..., Any]) -> Any:
    """Let numba copy the code of `function` into the kernels that call it: a call for each word would take longer."""
    return numba.njit(inline="always")(function)


# -- random numbers ----------------------------------------------------------------------------------------------------


@compile_kernel
def _draw_integer(state: Array) -> Any:
    """Return the next uint64 of the generator xorshift64* (Vigna, arXiv 1402.6246)."""
    x = state[0]
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    state[0] = x
    return x * np.uint64(0x2545F4914F6CDD1D)


@compile_kernel
def _seed_generator(state: Array, seed: int, stream: int) -> None:
    """Start the generator at the numbers of `stream`, for example of one document."""
    state[0] = (np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15)) ^ (
        np.uint64(stream + 1) * np.uint64(0xD1342543DE82EF95)
    )
    state[0] |= np.uint64(1)
    for _ in range(4):
        _draw_integer(state)


@compile_kernel
def _draw_uniform(state: Array) -> Any:
    """Return a float32 from [0, 1)."""
    return np.float32(_draw_integer(state) >> np.uint64(40)) * np.float32(1 / (1 << 24))


@compile_kernel
def _draw_noise_word(state: Array, alias_probabilities: Array, alias_words: Array) -> Any:
    """Return one word of the noise distribution by Walker's alias method."""
    integer = _draw_integer(state)
    word = ((integer >> np.uint64(32)) * np.uint64(len(alias_probabilities))) >> np.uint64(32)
    uniform = np.float32(integer & np.uint64(0xFFFFFF)) * np.float32(1 / (1 << 24))
    return np.int64(word) if uniform < alias_probabilities[word] else np.int64(alias_words[word])


@compile_kernel
def _draw_noise_ring(
    seed: int, same_draws: bool, state: Array, alias_probabilities: Array, alias_words: Array
) -> Array:
    """Return the first noise words of a pass if all documents share their draws, else an empty array.

    A document of n words uses the first n numbers of the pass to subsample its words. The ring stands for the numbers after
    those: the document reads the ring from position n on. Two alternatives gave documents worse neighbours: one position
    for all documents, and separate numbers for each document.
    """
    ring = np.empty(_RING_SIZE if same_draws else 0, np.int64)
    _seed_generator(state, seed, 0)
    for i in range(len(ring)):
        ring[i] = _draw_noise_word(state, alias_probabilities, alias_words)
    return ring


@compile_kernel
def _fill_with_noise(
    rows: Array, start: int, ring: Array, position: int, state: Array, alias_probabilities: Array, alias_words: Array
) -> Any:
    """Fill `rows[start:]` with noise words; return the next position in the ring."""
    for i in range(start, len(rows)):
        if len(ring) > 0:
            rows[i] = ring[position % len(ring)]
            position += 1
        else:
            rows[i] = _draw_noise_word(state, alias_probabilities, alias_words)
    return position


@compile_kernel
def _subsample(tokens: Array, start: int, end: int, keep_probabilities: Array, state: Array, kept_words: Array) -> Any:
    """Write the words of `tokens[start:end]` that survive subsampling to `kept_words`; return their number.

    `kept_words` needs one place more than there are words: every word is written, so that no branch is mispredicted.
    """
    count = 0
    for place in range(start, end):
        kept_words[count] = tokens[place]
        count += int(_draw_uniform(state) < keep_probabilities[tokens[place]])
    return count


@compile_kernel
def draw_shared_numbers(
    seed: int, count: int, window: int, alias_probabilities: Array, alias_words: Array
) -> tuple[Array, Array, Array]:
    """Return the random numbers of a pass in which all documents share their draws, as `predict` and `predict_in_windows` do.

    The first are `count` numbers (float32) that are compared with `keep_probabilities`, one for each word of a document. The
    second are `2 * count` reaches from 1 to `window` (int64), of which a document of n words uses those from n on. The third is
    the ring of noise words (int64).
    """
    state, uniforms, reaches = np.zeros(1, np.uint64), np.empty(count, np.float32), np.empty(2 * count, np.int64)
    ring = _draw_noise_ring(seed, True, state, alias_probabilities, alias_words)
    _seed_generator(state, seed, 0)
    for i in range(count):
        uniforms[i] = _draw_uniform(state)
    _seed_generator(state, seed, 0)
    for i in range(2 * count):
        reaches[i] = 1 + np.int64(_draw_integer(state) % np.uint64(window))
    return uniforms, reaches, ring


# -- gradient steps ----------------------------------------------------------------------------------------------------


@compile_kernel
def _look_up_sigmoid(logit: Any) -> Any:
    place = (logit + np.float32(SIGMOID_RANGE)) * np.float32(SIGMOID_STEPS / (2 * SIGMOID_RANGE))
    place = min(max(place, np.float32(0)), np.float32(SIGMOID_STEPS - 1))
    return SIGMOID[int(place)] if place == place else logit  # NaN stays NaN


@compile_kernel
def _compute_loss(errors: Array, rate: Any) -> Any:
    """Return the loss that belongs to prediction errors times the learning rate."""
    loss = np.float32(0)
    for r in range(len(errors)):
        loss -= np.log(np.float32(1) - abs(errors[r]) / rate)
    return loss


@compile_kernel
def _step_one_input(
    x: Array,
    outputs: Array,
    bias: Array,
    rows: Array,
    positives: int,
    rate: Any,
    update_outputs: bool,
    measure: bool,
    errors: Array,
    change: Array,
) -> Any:
    """Take one gradient step of the input `x` (d,); return the loss if `measure`, else 0.

    `rows` are rows of `outputs`: the first `positives` are the words to predict, the others are noise. `errors` receives the
    prediction errors times `rate`, `change` (d,) what the caller adds to the input. `outputs` change if `update_outputs`.
    """
    dim, row_count = len(x), len(rows)
    for j in range(dim):
        change[j] = 0
    r = 0
    while (
        r + 6 <= row_count
    ):  # six rows at a time: no sum waits for its last addition, and loaded values are used twice
        r0, r1, r2, r3, r4, r5 = rows[r], rows[r + 1], rows[r + 2], rows[r + 3], rows[r + 4], rows[r + 5]
        a0 = a1 = a2 = a3 = a4 = a5 = np.float32(0)
        for j in range(dim):
            a = x[j]
            a0, a1, a2 = a0 + a * outputs[r0, j], a1 + a * outputs[r1, j], a2 + a * outputs[r2, j]
            a3, a4, a5 = a3 + a * outputs[r3, j], a4 + a * outputs[r4, j], a5 + a * outputs[r5, j]
        e0 = (np.float32(r < positives) - _look_up_sigmoid(a0 + bias[r0])) * rate
        e1 = (np.float32(r + 1 < positives) - _look_up_sigmoid(a1 + bias[r1])) * rate
        e2 = (np.float32(r + 2 < positives) - _look_up_sigmoid(a2 + bias[r2])) * rate
        e3 = (np.float32(r + 3 < positives) - _look_up_sigmoid(a3 + bias[r3])) * rate
        e4 = (np.float32(r + 4 < positives) - _look_up_sigmoid(a4 + bias[r4])) * rate
        e5 = (np.float32(r + 5 < positives) - _look_up_sigmoid(a5 + bias[r5])) * rate
        for j in range(dim):
            half = e0 * outputs[r0, j] + e1 * outputs[r1, j] + e2 * outputs[r2, j]
            change[j] += half + e3 * outputs[r3, j] + e4 * outputs[r4, j] + e5 * outputs[r5, j]
        errors[r], errors[r + 1], errors[r + 2] = e0, e1, e2
        errors[r + 3], errors[r + 4], errors[r + 5] = e3, e4, e5
        r += 6
    while r < row_count:
        row, logit = rows[r], np.float32(0)
        for j in range(dim):
            logit += x[j] * outputs[row, j]
        error = (np.float32(r < positives) - _look_up_sigmoid(logit + bias[row])) * rate
        for j in range(dim):
            change[j] += error * outputs[row, j]
        errors[r] = error
        r += 1
    if update_outputs:
        for r in range(row_count):
            row, error = rows[r], errors[r]
            for j in range(dim):
                outputs[row, j] += error * x[j]
    return _compute_loss(errors[:row_count], rate) if measure else np.float32(0)


@compile_kernel
def _step_inputs(
    inputs: Array,
    count: int,
    outputs: Array,
    bias: Array,
    rows: Array,
    positives: int,
    rate: Any,
    update_outputs: bool,
    measure: bool,
    errors: Array,
    changes: Array,
) -> Any:
    """Take one gradient step of the first `count` rows of `inputs` together; return the loss of the first if `measure`.

    Arguments are those of `_step_one_input`, with a row of `errors` and of `changes` for each input. `inputs` and `errors`
    need up to three further rows, which are overwritten: the loops take four inputs at a time.
    """
    # All loops are in one function: split into helpers, even inlined ones, a step takes 3 to 5 % longer.
    dim, row_count, padded = inputs.shape[1], len(rows), (count + 3) // 4 * 4
    for i in range(count, padded):
        for j in range(inputs.shape[1]):
            inputs[i, j] = 0
    r = 0
    while r + 3 <= row_count:  # three outputs by four inputs at a time: loaded values are used several times
        r0, r1, r2 = rows[r], rows[r + 1], rows[r + 2]
        for i in range(0, padded, 4):
            a0 = a1 = a2 = b0 = b1 = b2 = c0 = c1 = c2 = d0 = d1 = d2 = np.float32(0)
            for j in range(dim):
                x, y, z = outputs[r0, j], outputs[r1, j], outputs[r2, j]
                a, b, c, d = inputs[i, j], inputs[i + 1, j], inputs[i + 2, j], inputs[i + 3, j]
                a0, a1, a2 = a0 + a * x, a1 + a * y, a2 + a * z
                b0, b1, b2 = b0 + b * x, b1 + b * y, b2 + b * z
                c0, c1, c2 = c0 + c * x, c1 + c * y, c2 + c * z
                d0, d1, d2 = d0 + d * x, d1 + d * y, d2 + d * z
            errors[i, r], errors[i, r + 1], errors[i, r + 2] = a0, a1, a2
            errors[i + 1, r], errors[i + 1, r + 1], errors[i + 1, r + 2] = b0, b1, b2
            errors[i + 2, r], errors[i + 2, r + 1], errors[i + 2, r + 2] = c0, c1, c2
            errors[i + 3, r], errors[i + 3, r + 1], errors[i + 3, r + 2] = d0, d1, d2
        r += 3
    while r < row_count:
        row = rows[r]
        for i in range(padded):
            logit = np.float32(0)
            for j in range(dim):
                logit += inputs[i, j] * outputs[row, j]
            errors[i, r] = logit
        r += 1
    for i in range(count):
        for r in range(row_count):
            errors[i, r] = (np.float32(r < positives) - _look_up_sigmoid(errors[i, r] + bias[rows[r]])) * rate
    for i in range(count, padded):
        for r in range(row_count):
            errors[i, r] = 0
    for i in range(count):
        for j in range(dim):
            changes[i, j] = 0
        r = 0
        while r + 6 <= row_count:
            r0, r1, r2, r3, r4, r5 = rows[r], rows[r + 1], rows[r + 2], rows[r + 3], rows[r + 4], rows[r + 5]
            e0, e1, e2 = errors[i, r], errors[i, r + 1], errors[i, r + 2]
            e3, e4, e5 = errors[i, r + 3], errors[i, r + 4], errors[i, r + 5]
            for j in range(dim):
                half = e0 * outputs[r0, j] + e1 * outputs[r1, j] + e2 * outputs[r2, j]
                changes[i, j] += half + e3 * outputs[r3, j] + e4 * outputs[r4, j] + e5 * outputs[r5, j]
            r += 6
        while r < row_count:
            row, error = rows[r], errors[i, r]
            for j in range(dim):
                changes[i, j] += error * outputs[row, j]
            r += 1
    if update_outputs:
        for r in range(row_count):
            row = rows[r]
            for i in range(0, padded, 4):
                e0, e1, e2, e3 = errors[i, r], errors[i + 1, r], errors[i + 2, r], errors[i + 3, r]
                for j in range(dim):
                    outputs[row, j] += (
                        e0 * inputs[i, j] + e1 * inputs[i + 1, j] + e2 * inputs[i + 2, j] + e3 * inputs[i + 3, j]
                    )
    return _compute_loss(errors[0, :row_count], rate) if measure else np.float32(0)


# -- documents ---------------------------------------------------------------------------------------------------------


@compile_kernel
def _load_document(document: Array, code_scale: Any, x: Array) -> None:
    """Copy the document's vector to `x`, or `code_scale` times the signs of the vector if `code_scale` is not 0."""
    for j in range(len(document)):
        value = document[j]
        x[j] = value if code_scale == 0 else (code_scale if value > 0 else -code_scale)


@compile_kernel
def _update_document(document: Array, code_scale: Any, change: Array) -> None:
    """Add `change` to the document's vector, through the slope of the sigmoid if `code_scale` is not 0."""
    for j in range(len(document)):
        slope = np.float32(1)
        if code_scale > 0:
            slope -= np.tanh(document[j] / (2 * code_scale)) ** 2
        document[j] += change[j] * slope


@compile_kernel
def _find_longest(starts: Array, ends: Array, order: Array) -> Any:
    """Return the number of words of the longest document in `order`."""
    longest = 0
    for document in order:
        longest = max(longest, ends[document] - starts[document])
    return longest


@compile_kernel
def _interpolate_rate(rates: Array, number: int, place: int, documents: int) -> Any:
    """Return the learning rate of the document at `place` in pass `number`."""
    first_rate, last_rate = rates[number, 0], rates[number, 1]
    return np.float32(first_rate + (last_rate - first_rate) * place / documents)


@inline_kernel
def _find_context(kept_words: Array, centre: int, count: int, reach: int, slots: Array, context: Array) -> Any:
    """Write the slots of the words at most `reach` places from `centre` to `context`; return their number."""
    context_size = 0
    for place in range(centre - reach, centre + reach + 1):
        if 0 <= place < count and place != centre:
            context[context_size] = slots[kept_words[place]]
            context_size += 1
    return context_size


@inline_kernel
def _load_context(words: Array, context: Array, size: int, dim: int, is_dm: bool, inputs: Array) -> None:
    """Write the vectors of `context[:size]` below the document in `inputs`, or the mean of all to row 0 if `is_dm`."""
    if is_dm:
        for i in range(size):
            slot = context[i]
            for j in range(dim):
                inputs[0, j] += words[slot, j]
        for j in range(dim):
            inputs[0, j] /= np.float32(1 + size)
    else:
        for i in range(size):
            slot = context[i]  # read inside the loop over j, it would keep that loop from being vectorised
            for j in range(dim):
                inputs[1 + i, j] = words[slot, j]


@inline_kernel
def _update_context(words: Array, context: Array, size: int, dim: int, is_dm: bool, changes: Array) -> None:
    """Add to each word of `context[:size]` its row of `changes`, or row 0 if `is_dm`."""
    for i in range(size):
        slot, source = context[i], 0 if is_dm else 1 + i
        for j in range(dim):
            words[slot, j] += changes[source, j]


@compile_kernel
def predict(
    batch: Batch,
    order: Array,
    documents: Array,
    outputs: Array,
    tables: SamplingTables,
    negatives: int,
    rates: Array,
    seed: int,
    same_draws: bool,
    update_words: bool,
    code_scale: Any,
) -> Array:
    """Train PV-DBOW: each document's vector predicts the words of the document.

    Args:
        batch: m documents; their `document_rows` are rows of `documents` (n, d) float32, which change.
        order: positions among the m documents, in the order in which each pass takes them. One call makes all passes: between
            two calls a thread may have to wait until another thread, which tokenises, releases the interpreter lock.
        outputs: (V, d) float32; they change if `update_words`.
        rates: (P, 2) float64, the learning rate at the first and at the last document of each pass, linear between.
        seed: of the first pass; each further pass adds 1.
        same_draws: all documents use the same random numbers; otherwise each document has its own.
        code_scale: above 0, a document predicts by its code: `code_scale` times the signs of its vector. The gradient passes
            through a sigmoid of that steepness (arXiv 1611.01116, section 2). With 0 it predicts by the vector itself.

    Returns (2,) float64: the sum of the losses that the last pass measured, and for how many words.
    """
    tokens, starts, ends, document_rows = batch
    keep_probabilities, alias_probabilities, alias_words, bias = tables
    dim, state, measured = documents.shape[1], np.zeros(1, np.uint64), np.zeros(2)
    kept_words = np.empty(_find_longest(starts, ends, order) + 1, np.int64)
    rows = np.empty(WORDS_PER_STEP * (1 + negatives), np.int64)
    errors, change, x = np.empty(len(rows), np.float32), np.empty(dim, np.float32), np.empty(dim, np.float32)
    for number in range(len(rates)):
        ring = _draw_noise_ring(seed + number, same_draws, state, alias_probabilities, alias_words)
        measured[:] = 0
        for place in range(len(order)):
            start, end, row = starts[order[place]], ends[order[place]], document_rows[order[place]]
            rate = _interpolate_rate(rates, number, place, len(order))
            _seed_generator(state, seed + number, 0 if same_draws else row)
            count, position = _subsample(tokens, start, end, keep_probabilities, state, kept_words), end - start
            for begin in range(0, count, WORDS_PER_STEP):
                positives, measure = min(WORDS_PER_STEP, count - begin), begin == 0
                step_rows = rows[: positives * (1 + negatives)]
                step_rows[:positives] = kept_words[begin : begin + positives]
                position = _fill_with_noise(
                    step_rows, positives, ring, position, state, alias_probabilities, alias_words
                )
                _load_document(documents[row], code_scale, x)
                loss = _step_one_input(
                    x, outputs, bias, step_rows, positives, rate, update_words, measure, errors, change
                )
                if measure:
                    measured += np.array([loss, positives])
                _update_document(documents[row], code_scale, change)
    return measured


@compile_kernel
def predict_in_windows(
    batch: Batch,
    order: Array,
    documents: Array,
    words: Array,
    slots: Array,
    outputs: Array,
    tables: SamplingTables,
    negatives: int,
    window: int,
    rates: Array,
    seed: int,
    same_draws: bool,
    update_words: bool,
    code_scale: Any,
    is_dm: bool,
) -> Array:
    """Train on windows: the document's vector and the words around predict each word. Arguments as in `predict`, and:

    Args:
        words: (w, d) float32, the input vectors of words; they change if `update_words`.
        slots: (V,) int64, the row of `words` that holds a word of the vocabulary.
        window: most words to each side; the reach of each word is drawn uniformly from 1 to `window`.
        is_dm: the mean of all inputs predicts (PV-DM), and each input gets the whole gradient, as in word2vec. Otherwise
            each input predicts by itself (skip-gram beside PV-DBOW).
    """
    tokens, starts, ends, document_rows = batch
    keep_probabilities, alias_probabilities, alias_words, bias = tables
    dim, state, measured = documents.shape[1], np.zeros(1, np.uint64), np.zeros(2)
    kept_words = np.empty(_find_longest(starts, ends, order) + 1, np.int64)
    context, rows = np.empty(2 * window, np.int64), np.empty(1 + negatives, np.int64)
    inputs, changes = np.empty((2 * window + 4, dim), np.float32), np.empty((2 * window + 1, dim), np.float32)
    x, errors, change = inputs[0], np.empty((2 * window + 4, 1 + negatives), np.float32), changes[0]
    for number in range(len(rates)):
        ring = _draw_noise_ring(seed + number, same_draws, state, alias_probabilities, alias_words)
        measured[:] = 0
        for place in range(len(order)):
            start, end, row = starts[order[place]], ends[order[place]], document_rows[order[place]]
            rate = _interpolate_rate(rates, number, place, len(order))
            _seed_generator(state, seed + number, 0 if same_draws else row)
            count, position = _subsample(tokens, start, end, keep_probabilities, state, kept_words), end - start
            for centre in range(count):
                reach, measure = 1 + np.int64(_draw_integer(state) % np.uint64(window)), centre % 16 == 0
                size = _find_context(kept_words, centre, count, reach, slots, context)
                _load_document(documents[row], code_scale, x)
                _load_context(words, context, size, dim, is_dm, inputs)
                rows[0] = kept_words[centre]
                position = _fill_with_noise(rows, 1, ring, position, state, alias_probabilities, alias_words)
                if is_dm:
                    loss = _step_one_input(x, outputs, bias, rows, 1, rate, update_words, measure, errors[0], change)
                else:
                    loss = _step_inputs(
                        inputs, 1 + size, outputs, bias, rows, 1, rate, update_words, measure, errors, changes
                    )
                if measure:
                    measured += np.array([loss, 1.0])
                _update_document(documents[row], code_scale, change)
                if update_words:
                    _update_context(words, context, size, dim, is_dm, changes)
    return measured


# -- copies of threads -------------------------------------------------------------------------------------------------


@compile_kernel
def merge(base: Array, copies: Array, start: int, end: int) -> None:
    """Add the changes of all `copies` (t, V, d) to the rows from `start` to `end` of `base` (V, d); make the copies equal."""
    for i in range(start, end):
        for j in range(base.shape[1]):
            total = base[i, j]
            for copy in range(len(copies)):
                total += copies[copy, i, j] - base[i, j]
            base[i, j] = total
            for copy in range(len(copies)):
                copies[copy, i, j] = total


@compile_kernel
def subtract(copy: Array, base: Array, rows: Array) -> None:
    """Subtract the rows `rows` of `base` (V, d) from the first rows of `copy`, which then holds the changes."""
    for i in range(len(rows)):
        row = rows[i]
        for j in range(base.shape[1]):
            copy[i, j] -= base[row, j]


@compile_kernel
def add(base: Array, rows: Array, changes: Array) -> None:
    """Add the first rows of `changes` to the rows `rows` of `base` (V, d)."""
    for i in range(len(rows)):
        row = rows[i]
        for j in range(base.shape[1]):
            base[row, j] += changes[i, j]
