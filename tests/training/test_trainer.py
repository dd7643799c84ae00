"""The shared Trainer: what validation decides, what precision touches, what is shown, what an interruption may not change."""

from __future__ import annotations

import json

import pytest
import torch
from datasets import Dataset
from tiny_matryoshka import build, rows

from zoo.core import hardware
from zoo.core.errors import ZooError
from zoo.schema import Training
from zoo.training import trainer

SETTINGS = Training(epochs=3, batch_size=16, learning_rate=1e-3, checkpoint_every=2, precision="fp32")


def weights(encoder):
    return {name: tensor.clone() for name, tensor in encoder.module.state_dict().items()}


def equal(one, two):
    return all(torch.equal(one[name], two[name]) for name in one)


def metrics(folder, key):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line[key]) for line in lines if key in line]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_interrupted_run_goes_on_to_the_same_weights(precision, tmp_path):
    settings = SETTINGS.model_copy(update={"precision": precision})
    whole = build(tmp_path)
    trainer.fit(whole, rows(), settings, tmp_path / "whole")
    stopped = build(tmp_path)
    honest = stopped.loss

    def dies(batch):
        if stopped.step == 7:
            raise KeyboardInterrupt
        return honest(batch)

    stopped.loss = dies
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(stopped, rows(), settings, tmp_path / "stopped")
    again = build(tmp_path)
    trainer.fit(again, rows(), settings, tmp_path / "stopped")
    assert equal(weights(whole), weights(again))
    assert metrics(tmp_path / "whole", "loss") == metrics(tmp_path / "stopped", "loss")


def test_auto_trains_the_backbone_in_bf16_where_that_is_fast_and_keeps_weights_and_loss_in_fp32(tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "_cpu_flags", lambda: frozenset({"avx512_bf16"}))
    encoder = build(tmp_path)
    seen = {"block": set(), "head": set()}
    encoder.backbone._blocks()[0].register_forward_hook(
        lambda module, args, output: seen["block"].add((output[0] if isinstance(output, tuple) else output).dtype)
    )
    dense = next(m for m in encoder.backbone._blocks()[0].modules() if isinstance(m, torch.nn.Linear))
    dense.register_forward_hook(lambda module, args, output: seen["block"].add(output.dtype))
    encoder.heads["1"].register_forward_hook(lambda module, args, output: seen["head"].add(output.dtype))
    trainer.fit(encoder, rows(), SETTINGS.model_copy(update={"precision": "auto"}), tmp_path / "run")
    assert torch.bfloat16 in seen["block"]
    assert seen["head"] == {torch.float32}
    assert {p.dtype for p in encoder.module.parameters()} == {torch.float32}


def validated(tmp_path, name, losses, **settings):
    """A run of 12 steps whose six validations give `losses`; the weights after each of them, and the encoder."""
    encoder = build(tmp_path)
    honest, given, after = encoder.loss, iter(losses), []

    def loss(batch):
        if encoder.module.training:
            return honest(batch)
        after.append(weights(encoder))
        return torch.tensor(next(given))

    encoder.loss = loss
    held_out = rows(8)
    trainer.fit(
        encoder, rows(), SETTINGS.model_copy(update=settings), tmp_path / name, validation=held_out, show_progress=False
    )
    return encoder, after


def test_the_weights_of_the_lowest_validation_loss_are_kept(tmp_path):
    scores = [3.0, 1.0, 2.0, 4.0, 5.0, 6.0]
    best, after = validated(tmp_path, "best", scores)
    assert equal(weights(best), after[1])
    assert metrics(tmp_path / "best", "validation_loss") == list(zip(range(2, 14, 2), scores, strict=True))
    last, after = validated(tmp_path, "last", scores, keep_best=False)
    assert equal(weights(last), after[5])
    assert not equal(after[5], after[1])


def test_early_stop_ends_after_that_many_validations_without_a_better_one(tmp_path):
    encoder, after = validated(tmp_path, "run", [3.0, 1.0, 2.0, 1.5, 0.5, 0.4], early_stop=2)
    assert len(after) == 4, "the second and third after the best were the last"
    assert equal(weights(encoder), after[1])


def test_the_last_step_is_validated_even_where_no_checkpoint_falls_on_it(tmp_path):
    encoder, after = validated(tmp_path, "run", [3.0, 2.0, 1.0], checkpoint_every=5)
    assert [step for step, _ in metrics(tmp_path / "run", "validation_loss")] == [5, 10, 12]
    assert equal(weights(encoder), after[2])


def test_accumulation_gives_the_gradient_of_the_whole_batch(tmp_path):
    """For a loss that is a mean over rows; an in-batch loss sees fewer candidates by its nature."""
    ended = []
    for parts in (1, 4):
        encoder = build(tmp_path)
        encoder.loss = lambda batch, e=encoder: e._layers(batch, [3])[3].square().mean()
        settings = SETTINGS.model_copy(update={"gradient_accumulation": parts, "learning_rate": 1e-4})
        trainer.fit(encoder, rows(), settings, tmp_path / f"parts-{parts}")
        ended.append(weights(encoder))
        assert len(metrics(tmp_path / f"parts-{parts}", "loss")) == 12
    assert max((ended[0][n] - ended[1][n]).abs().max().item() for n in ended[0]) < 5e-5


def test_the_bar_shows_steps_loss_and_time_left_on_stderr(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "140")
    trainer.fit(build(tmp_path), rows(), SETTINGS, tmp_path / "run", show_progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    last = f"{metrics(tmp_path / 'run', 'loss')[-1][1]:.4f}"
    for words in ("12/12", f"loss {last}", "left", "0:00:00"):
        assert words in shown.err, words


def test_a_loss_that_is_not_finite_names_its_step_and_what_to_do(tmp_path):
    encoder = build(tmp_path)
    honest = encoder.loss
    encoder.loss = lambda batch: honest(batch) * (float("inf") if encoder.step == 4 else 1.0)
    with pytest.raises(ZooError, match=r"the loss is inf at step 5: lower training.learning_rate"):
        trainer.fit(encoder, rows(), SETTINGS, tmp_path / "run")


def test_fewer_rows_than_a_batch_still_train(tmp_path):
    encoder = build(tmp_path)
    before = weights(encoder)
    few = Dataset.from_list([rows()[i] for i in range(5)])
    trainer.fit(encoder, few, SETTINGS, tmp_path / "run")
    assert not equal(before, weights(encoder))
