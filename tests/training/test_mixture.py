"""Rows of several sources: the share of each, batches of one source, the order of an epoch, and equal losses of a resumed run."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import torch
from datasets import Dataset
from joined_rows import join
from tiny_matryoshka import build, rows

from zoo.core.errors import DataError
from zoo.data.data_source import DataSource
from zoo.data.joined import find_spans
from zoo.data.spec import Mixture
from zoo.ops.random_state import epoch_generator
from zoo.schema import Training
from zoo.training import epoch_order, mixture, source_plan

SETTINGS = Training(epochs=3, batch_size=8, learning_rate=1e-3, checkpoint_every=2, precision="fp32")


def make_sources(**options):
    return {name: DataSource(name, **fields) for name, fields in options.items()}


def make_mixture(counts, options=None, batch_size=4, **fields):
    """Mix sources of `counts` rows, each row its own number."""
    spans, start = {}, 0
    for name, count in counts.items():
        spans[name] = range(start, start + count)
        start += count
    sources = make_sources(**{name: (options or {}).get(name, {}) for name in counts})
    numbers = [{"number": number} for number in range(start)]
    return mixture.mix(numbers, spans, sources, Mixture(**fields), batch_size)


def count_by_source(mixed, order):
    return Counter(mixture.find_source(mixed.spans, index) for index in order.tolist())


@pytest.mark.parametrize(
    ("options", "fields", "expected"),
    [
        ({}, {}, {"a": 40, "b": 12, "c": 8}),
        ({}, {"draw": "equal"}, {"a": 20, "b": 20, "c": 20}),
        ({"a": {"weight": 3.0}}, {}, {"a": 36, "b": 12, "c": 12}),
        ({"a": {"weight": 1.0}, "b": {"weight": 0.01}}, {}, {"a": 28, "b": 4, "c": 28}),
        ({"b": {"rows": 30}}, {}, {"a": 40, "b": 32, "c": 8}),
        ({}, {"batches": "mixed"}, {"a": 42, "b": 13, "c": 8}),
        ({}, {"batches": "mixed", "draw": "equal"}, {"a": 21, "b": 21, "c": 21}),
        ({"c": {"rows": 3}}, {"batches": "mixed"}, {"a": 42, "b": 13, "c": 3}),
    ],
)
def test_an_epoch_has_exactly_the_rows_that_the_recipe_asks_for(options, fields, expected):
    mixed = make_mixture({"a": 42, "b": 13, "c": 8}, options, **fields)
    assert mixed.plan.quotas == expected
    for epoch in range(3):
        order = mixed.order(5, epoch)
        assert count_by_source(mixed, order) == expected
        assert len(order) == len(mixed)


def test_a_batch_is_of_one_source_unless_batches_are_mixed():
    for batches, expected in (("source", {1}), ("mixed", {1, 2})):
        mixed = make_mixture({"a": 40, "b": 40}, batches=batches)
        kinds = [len(count_by_source(mixed, batch)) for batch in mixed.order(1, 0).view(-1, 4)]
        assert set(kinds) == expected


def test_the_order_depends_on_seed_and_epoch_alone():
    one, again = make_mixture({"a": 40, "b": 40}), make_mixture({"a": 40, "b": 40})
    again.order(1, 3)
    assert torch.equal(one.order(1, 0), again.order(1, 0))
    assert not torch.equal(one.order(1, 0), one.order(1, 1))
    assert not torch.equal(one.order(1, 0), one.order(2, 0))


def test_a_source_that_is_read_whole_has_each_row_once_and_another_goes_on_where_it_stopped():
    mixed = make_mixture({"a": 40, "b": 12}, {"b": {"rows": 8}})
    orders = [mixed.order(3, epoch) for epoch in range(6)]
    for order in orders:
        assert sorted(order[order < 40].tolist()) == list(range(40))
    drawn = Counter(torch.cat(orders)[torch.cat(orders) >= 40].tolist())
    assert drawn == dict.fromkeys(range(40, 52), 4)


def test_the_rest_of_a_batch_is_another_one_in_each_epoch():
    mixed = make_mixture({"a": 43, "b": 8})
    left_out = [set(range(43)) - set(mixed.order(3, epoch).tolist()) for epoch in range(6)]
    assert all(len(rest) == 3 for rest in left_out)
    assert len(set.union(*left_out)) > 6


def test_a_source_smaller_than_a_batch_is_named_and_mixed_batches_take_it():
    with pytest.raises(DataError, match="the source b has 3 rows to train on, fewer than training.batch_size, 4: give"):
        make_mixture({"a": 40, "b": 3})
    assert make_mixture({"a": 40, "b": 3}, batches="mixed").plan.quotas == {"a": 40, "b": 3}


def test_blocks_by_chance_are_those_of_earlier_versions():
    spans, weights = {"data": range(6), "more": range(6, 36)}, [5.0, 1.0]
    generator = epoch_generator(4, 2)
    permutations = {name: iter([]) for name in spans}
    expected = []
    while len(expected) < 36:
        name = list(spans)[int(torch.multinomial(torch.tensor(weights), 1, generator=generator))]
        for _ in range(4):
            number = next(permutations[name], None)
            if number is None:
                shuffled = (torch.randperm(len(spans[name]), generator=generator) + spans[name].start).tolist()
                permutations[name] = iter(shuffled)
                number = next(permutations[name])
            expected.append(number)
    assert mixture.order_by_chance(spans, weights, 4, 36, 4, 2) == expected[:36]


def test_rows_of_one_source_are_shuffled_as_before():
    sampler = epoch_order.EpochSampler(range(1000), 7)
    sampler.set_epoch(3)
    assert list(sampler) == torch.randperm(1000, generator=epoch_generator(7, 3)).tolist()


# -- joined rows --------------------------------------------------------------------------------------------------------


def test_a_row_has_the_columns_of_its_source_and_its_name():
    table = join(a=rows(8).remove_columns("negative"), b=rows(12))
    spans = find_spans(table.rows)
    assert spans == {"a": range(8), "b": range(8, 20)}
    mixed = mixture.mix(table.rows, spans, make_sources(a={}, b={}), Mixture(), 4)
    assert set(mixed[7]) == {"anchor", "positive", "source"}
    assert set(mixed[8]) == {"anchor", "positive", "negative", "source"}
    assert mixed.__getitems__([7, 8]) == [mixed[7], mixed[8]]
    assert [mixed[index]["source"] for index in (0, 7, 8, 19)] == ["a", "a", "b", "b"]


def test_validation_batches_are_of_one_source_and_hold_every_row_once():
    table = join(a=rows(10), b=rows(21))
    plan = source_plan.SourcePlan({}, {}, block=1)  # of a training with one row a batch
    watched = mixture.watch(table.rows, find_spans(table.rows), plan)
    batches = [list(batch) for batch in watched.split_into_batches(4)]
    assert sorted(index for batch in batches for index in batch) == list(range(31))
    assert all(len({index < 10 for index in batch}) == 1 for batch in batches)
    assert min(map(len, batches)) > 1, "an in-batch loss of one row is 0"


# -- training -----------------------------------------------------------------------------------------------------------


def read_lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def fit(encoder, folder, settings=SETTINGS, draw="equal"):
    table = join(a=rows(24), b=Dataset.from_list(list(rows(64))[40:]))
    encoder.sources, encoder.mixture = make_sources(a={}, b={}), Mixture(draw=draw)
    encoder.fit(table.rows, settings, folder, validation=join(a=rows(6), b=rows(9)).rows)
    return {name: tensor.clone() for name, tensor in encoder.module.state_dict().items()}


def test_the_loss_of_each_source_is_logged_and_a_resumed_run_ends_with_the_same_weights(tmp_path):
    whole = fit(build(tmp_path), tmp_path / "whole")
    lines = read_lines(tmp_path / "whole")
    by_source = [line["loss_by_source"] for line in lines if "loss" in line]
    assert {name for losses in by_source for name in losses} == {"a", "b"}
    for line in lines:
        if "loss" in line:  # every line is one step, whose batch is of one source
            assert list(line["loss_by_source"].values()) == pytest.approx([line["loss"]], abs=1e-4)
    stopped = build(tmp_path)
    true_loss = stopped.loss

    def interrupt(batch):
        if stopped.step == 5:
            raise KeyboardInterrupt
        return true_loss(batch)

    stopped.loss = interrupt
    with pytest.raises(KeyboardInterrupt):
        fit(stopped, tmp_path / "stopped")
    again = fit(build(tmp_path), tmp_path / "stopped")
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert [line.get("loss_by_source") for line in read_lines(tmp_path / "stopped")] == [
        line.get("loss_by_source") for line in lines
    ]


def test_parts_of_a_step_are_of_one_source_and_their_losses_are_those_of_whole_batches(tmp_path):
    encoder = build(tmp_path)
    seen = []
    collate = encoder.collate
    encoder.collate = lambda batch: seen.append({row["source"] for row in batch}) or collate(batch)
    fit(encoder, tmp_path / "run", SETTINGS.model_copy(update={"gradient_accumulation": 2}))
    assert all(len(sources) == 1 for sources in seen)
    for line in read_lines(tmp_path / "run"):
        if "loss" in line:
            assert list(line["loss_by_source"].values()) == pytest.approx([line["loss"]], abs=1e-4)


def test_rows_seen_are_those_of_all_sources(tmp_path):
    table = join(a=rows(24), b=rows(64))
    sources = make_sources(a={}, b={"rows": 8})
    mixed = mixture.mix(table.rows, find_spans(table.rows), sources, Mixture(), 8)
    assert epoch_order.count_rows_seen(mixed, SETTINGS, 4) == 32
    assert epoch_order.count_rows_seen(mixed, SETTINGS, 8) == 40
    assert epoch_order.count_rows_seen(mixed, SETTINGS, 400) == 88


def test_the_weights_of_a_draw_have_largest_remainders():
    assert source_plan._allot(10, {"a": 1, "b": 1, "c": 1}) == {"a": 4, "b": 3, "c": 3}
    assert source_plan._allot(3, {"a": 100, "b": 1, "c": 1}) == {"a": 2, "b": 1, "c": 1}
