"""The shared Trainer: validation, precision, clipping, batches, progress bar, and resuming after an interruption."""

from __future__ import annotations

import json

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from tiny_matryoshka import build, rows

from zoo.core import hardware
from zoo.core.errors import RunWarning, ZooError
from zoo.schema import Training
from zoo.training import epoch_order, trainer
from zoo.training.step_plan import StepPlan, plan_steps

SETTINGS = Training(epochs=3, batch_size=16, learning_rate=1e-3, checkpoint_every=2, precision="fp32")


def weights(encoder):
    return {name: tensor.clone() for name, tensor in encoder.module.state_dict().items()}


def are_equal(one, two):
    return all(torch.equal(one[name], two[name]) for name in one)


def read_metrics(folder, key):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line[key]) for line in lines if key in line]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_interrupted_run_ends_with_the_weights_and_metrics_of_an_uninterrupted_one(precision, tmp_path):
    settings = SETTINGS.model_copy(update={"precision": precision})
    whole = build(tmp_path)
    trainer.fit(whole, rows(), settings, tmp_path / "whole")
    stopped = build(tmp_path)
    true_loss = stopped.loss

    def interrupt(batch):
        if stopped.step == 7:
            raise KeyboardInterrupt
        return true_loss(batch)

    stopped.loss = interrupt
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(stopped, rows(), settings, tmp_path / "stopped")
    again = build(tmp_path)
    trainer.fit(again, rows(), settings, tmp_path / "stopped")
    assert are_equal(weights(whole), weights(again))
    assert read_metrics(tmp_path / "whole", "loss") == read_metrics(tmp_path / "stopped", "loss")


def test_auto_runs_the_backbone_in_bf16_if_that_is_fast_but_heads_and_weights_in_fp32(tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "_cpu_flags", lambda: frozenset({"avx512_bf16"}))
    encoder = build(tmp_path, shallow_grad_scale=0.3)  # heads are trained along
    dtypes = {"block": set(), "head": set()}
    encoder.backbone._blocks()[0].register_forward_hook(
        lambda module, args, output: dtypes["block"].add((output[0] if isinstance(output, tuple) else output).dtype)
    )
    dense = next(m for m in encoder.backbone._blocks()[0].modules() if isinstance(m, torch.nn.Linear))
    dense.register_forward_hook(lambda module, args, output: dtypes["block"].add(output.dtype))
    encoder.heads["1"].register_forward_hook(lambda module, args, output: dtypes["head"].add(output.dtype))
    trainer.fit(encoder, rows(), SETTINGS.model_copy(update={"precision": "auto"}), tmp_path / "run")
    assert torch.bfloat16 in dtypes["block"]
    assert dtypes["head"] == {torch.float32}
    assert {p.dtype for p in encoder.module.parameters()} == {torch.float32}


def train_with_validation(tmp_path, name, losses, **settings):
    """Train 12 steps whose six validations return `losses`. Return the encoder, and its weights at each validation."""
    encoder = build(tmp_path)
    true_loss, validation_losses, weights_by_validation = encoder.loss, iter(losses), []

    def loss(batch):
        if encoder.module.training:
            return true_loss(batch)
        weights_by_validation.append(weights(encoder))
        return torch.tensor(next(validation_losses))

    encoder.loss = loss
    trainer.fit(
        encoder, rows(), SETTINGS.model_copy(update=settings), tmp_path / name, validation=rows(8), show_progress=False
    )
    return encoder, weights_by_validation


def test_the_weights_of_the_lowest_validation_loss_are_kept(tmp_path):
    scores = [3.0, 1.0, 2.0, 4.0, 5.0, 6.0]
    best, after = train_with_validation(tmp_path, "best", scores)
    assert are_equal(weights(best), after[1])
    assert read_metrics(tmp_path / "best", "validation_loss") == list(zip(range(2, 14, 2), scores, strict=True))
    last, after = train_with_validation(tmp_path, "last", scores, keep_best=False)
    assert are_equal(weights(last), after[5])
    assert not are_equal(after[5], after[1])


def test_early_stop_ends_the_run_after_that_many_validations_without_a_better_loss(tmp_path):
    encoder, after = train_with_validation(tmp_path, "run", [3.0, 1.0, 2.0, 1.5, 0.5, 0.4], early_stop=2)
    assert len(after) == 4, "the second and third after the best were the last"
    assert are_equal(weights(encoder), after[1])


def test_the_last_step_is_validated_even_if_no_checkpoint_falls_on_it(tmp_path):
    encoder, after = train_with_validation(tmp_path, "run", [3.0, 2.0, 1.0], checkpoint_every=5)
    assert [step for step, _ in read_metrics(tmp_path / "run", "validation_loss")] == [5, 10, 12]
    assert are_equal(weights(encoder), after[2])


def test_gradient_accumulation_gives_the_gradient_of_the_whole_batch(tmp_path):
    """This holds for a loss that is a mean over rows; an in-batch loss has fewer candidates in a part of the batch."""
    final_weights = []
    for parts in (1, 4):
        encoder = build(tmp_path, dropout=0.0)
        encoder.loss = lambda batch, e=encoder: e._embed_layers(batch, [3])[3].square().mean()
        settings = SETTINGS.model_copy(update={"gradient_accumulation": parts, "learning_rate": 1e-4})
        trainer.fit(encoder, rows(), settings, tmp_path / f"parts-{parts}")
        final_weights.append(weights(encoder))
        assert len(read_metrics(tmp_path / f"parts-{parts}", "loss")) == 12
    assert max((final_weights[0][n] - final_weights[1][n]).abs().max().item() for n in final_weights[0]) < 5e-5


def test_the_bar_shows_steps_loss_and_time_left_on_stderr(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "140")
    trainer.fit(build(tmp_path), rows(), SETTINGS, tmp_path / "run", show_progress=True)
    output = capsys.readouterr()
    assert output.out == ""
    last_loss = f"{read_metrics(tmp_path / 'run', 'loss')[-1][1]:.4f}"
    for words in ("12/12", f"loss {last_loss}", "left", "0:00:00"):
        assert words in output.err, words


def test_a_loss_that_is_not_finite_stops_training_with_its_step_and_advice(tmp_path):
    encoder = build(tmp_path)
    true_loss = encoder.loss
    encoder.loss = lambda batch: true_loss(batch) * (float("inf") if encoder.step == 4 else 1.0)
    with pytest.raises(ZooError, match=r"the loss is inf at step 5: lower training.learning_rate"):
        trainer.fit(encoder, rows(), SETTINGS, tmp_path / "run")


def test_fewer_rows_than_a_batch_still_train(tmp_path):
    encoder = build(tmp_path)
    before = weights(encoder)
    few = Dataset.from_list([rows()[i] for i in range(5)])
    trainer.fit(encoder, few, SETTINGS, tmp_path / "run")
    assert not are_equal(before, weights(encoder))


class TwoWeights:
    """An encoder with two weights in groups of their own, whose gradients are `gradients` at every step."""

    def __init__(self, gradients=(1.0, 1.0)) -> None:
        self.module = torch.nn.ParameterDict({str(i): torch.nn.Parameter(torch.zeros(1)) for i in range(2)})
        self.gradients, self.step, self.batches = gradients, 0, []

    def collate(self, rows):
        return {"number": torch.tensor([row["number"] for row in rows])}

    def loss(self, batch):
        self.batches.append(batch["number"].tolist())
        if not torch.is_grad_enabled():
            return batch["number"].float().mean()
        return sum(g * self.module[str(i)].sum() for i, g in enumerate(self.gradients))

    def parameter_groups(self, training):
        return [{"params": [weight]} for weight in self.module.values()]


NUMBERS = Dataset.from_dict({"number": list(range(20))})
ONE_STEP = Training(max_steps=1, batch_size=4, learning_rate=0.1, schedule="constant", warmup=0.0, precision="fp32")


def test_each_parameter_group_is_clipped_by_its_own_norm(tmp_path, monkeypatch):
    """A group with a large gradient must not shrink the gradient of another group."""
    clipped = []
    step = torch.optim.AdamW.step

    def record_gradients(self, *args, **kwargs):
        clipped.append([group["params"][0].grad.item() for group in self.param_groups])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", record_gradients)
    encoder = TwoWeights(gradients=(1000.0, 0.5))
    trainer.fit(encoder, NUMBERS, ONE_STEP, tmp_path)
    assert clipped == [[pytest.approx(1.0, rel=1e-3), pytest.approx(0.5, rel=1e-3)]]
    ((_, norm),) = read_metrics(tmp_path, "grad_norm")
    assert norm == pytest.approx((1000.0**2 + 0.5**2) ** 0.5, rel=1e-4)


def test_the_validation_loss_is_the_mean_over_rows_though_the_last_batch_is_smaller(tmp_path):
    encoder = TwoWeights()
    validation = NUMBERS.select(range(6))  # a batch of 4 and one of 2
    trainer.fit(encoder, NUMBERS, ONE_STEP, tmp_path, validation=validation)
    assert read_metrics(tmp_path, "validation_loss") == [(1, pytest.approx(2.5))]


def test_batches_depend_on_seed_and_epoch_alone(tmp_path):
    def read_batches(seed, name):
        torch.manual_seed(len(name))  # the global generator has no influence
        encoder = TwoWeights()
        settings = ONE_STEP.model_copy(update={"max_steps": 10, "seed": seed})
        trainer.fit(encoder, NUMBERS, settings, tmp_path / name)
        return encoder.batches

    batches = read_batches(1, "one")
    assert read_batches(1, "again") == batches
    assert read_batches(2, "other") != batches
    first_epoch, second_epoch = ([n for batch in part for n in batch] for part in (batches[:5], batches[5:]))
    assert first_epoch != second_epoch
    assert sorted(first_epoch) == sorted(second_epoch) == list(range(20))


def test_rows_may_choose_their_own_order():
    class OrderedRows:
        def __len__(self):
            return 3

        def order(self, seed, epoch):
            return [seed, epoch, 0]

    sampler = epoch_order.EpochSampler(OrderedRows(), 7)
    sampler.set_epoch(2)
    assert list(sampler) == [7, 2, 0]


@pytest.mark.parametrize(
    ("settings", "row_count", "plan"),
    [
        ({"epochs": 2, "batch_size": 16}, 40, StepPlan(4, 16, drop_last=True)),
        ({"epochs": 0.5, "batch_size": 16, "gradient_accumulation": 4}, 70, StepPlan(2, 4, drop_last=True)),
        ({"max_steps": 7, "epochs": 2, "batch_size": 16}, 40, StepPlan(7, 16, drop_last=True)),
        ({"epochs": 3, "batch_size": 16, "gradient_accumulation": 2}, 5, StepPlan(3, 3, drop_last=False)),
    ],
)
def test_rows_are_divided_into_steps_and_fewer_rows_than_a_batch_are_one_batch(settings, row_count, plan):
    assert plan_steps(Training(**settings), row_count) == plan


def test_a_broadcast_in_one_process_returns_its_value():
    from zoo.training.distributed import broadcast_from_main, is_main_process

    assert broadcast_from_main({"any": "value"}) == {"any": "value"}
    assert is_main_process()


# -- a resumed run ends as an uninterrupted one would ------------------------------------------------------------------


def fit_with_losses(tmp_path, run, losses, *, interrupt_at=None, **settings):
    """Train 12 steps with these validation losses by step. Return the encoder, and the steps of its validations."""
    encoder = build(tmp_path)
    true_loss, steps = encoder.loss, []

    def loss(batch):
        if encoder.module.training:
            if encoder.step == interrupt_at:
                raise KeyboardInterrupt
            return true_loss(batch)
        steps.append(encoder.step + 1)
        return torch.tensor(losses[encoder.step + 1])

    encoder.loss = loss
    settings = SETTINGS.model_copy(update={"checkpoint_every": 1, "keep_best": False, **settings})
    trainer.fit(encoder, rows(), settings, tmp_path / run, validation=rows(8))
    return encoder, steps


LOSSES = {1: 5.0, 2: 1.0, 3: 2.0, 4: 2.0, 5: 2.0, 6: 0.5, 7: 0.4}


@pytest.mark.parametrize("interrupt_at", [3, 4])
def test_early_stop_goes_on_counting_after_an_interruption(interrupt_at, tmp_path):
    whole, steps = fit_with_losses(tmp_path, "whole", LOSSES, early_stop=3)
    assert steps == [1, 2, 3, 4, 5]
    with pytest.raises(KeyboardInterrupt):
        fit_with_losses(tmp_path, "stopped", LOSSES, early_stop=3, interrupt_at=interrupt_at)
    again, steps = fit_with_losses(tmp_path, "stopped", LOSSES, early_stop=3)
    assert steps == list(range(interrupt_at + 1, 6))
    assert are_equal(weights(whole), weights(again))


@pytest.mark.parametrize("options", [{"early_stop": 3}, {"early_stop": 3, "keep_best": True}, {"max_steps": 6}])
def test_a_training_that_ended_but_was_not_saved_is_not_trained_further(options, tmp_path):
    ended, steps = fit_with_losses(tmp_path, "run", LOSSES, **options)
    again, more_steps = fit_with_losses(tmp_path, "run", LOSSES, **options)
    assert (len(steps), more_steps) == (6 if "max_steps" in options else 5, [])
    assert are_equal(weights(ended), weights(again))
    assert not again.module.training


def test_the_best_weights_are_found_after_the_run_folder_was_moved(tmp_path):
    options = {"keep_best": True, "max_steps": 7}
    whole, _ = fit_with_losses(tmp_path, "whole", {**LOSSES, 6: 3.0, 7: 3.0}, **options)
    with pytest.raises(KeyboardInterrupt):
        fit_with_losses(tmp_path, "before", {**LOSSES, 6: 3.0, 7: 3.0}, interrupt_at=4, **options)
    (tmp_path / "before").rename(tmp_path / "after")
    again, _ = fit_with_losses(tmp_path, "after", {**LOSSES, 6: 3.0, 7: 3.0}, **options)
    assert are_equal(weights(whole), weights(again))


def stop_after_two_steps(folder, encoder):
    true_loss = encoder.loss

    def interrupt(batch):
        if encoder.step == 2:
            raise KeyboardInterrupt
        return true_loss(batch)

    encoder.loss = interrupt
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(encoder, NUMBERS, ONE_STEP.model_copy(update={"max_steps": 4, "checkpoint_every": 1}), folder)


def test_a_resumed_run_has_the_threads_that_it_began_with_and_says_so(tmp_path, monkeypatch):
    threads = [3]
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads[-1])
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    stop_after_two_steps(tmp_path, TwoWeights())
    threads.append(1)
    encoder = TwoWeights()
    true_loss, threads_of_steps = encoder.loss, []

    def loss(batch):
        threads_of_steps.append(torch.get_num_threads())
        return true_loss(batch)

    encoder.loss = loss
    with pytest.warns(RunWarning, match="continues with 3 threads, the number that it began with, not with 1"):
        trainer.fit(encoder, NUMBERS, ONE_STEP.model_copy(update={"max_steps": 4, "checkpoint_every": 1}), tmp_path)
    assert threads_of_steps == [3, 3]
    assert threads[-1] == 1, "the number of the process is restored"


def test_a_resumed_run_says_that_equality_ends_with_another_number_of_processes_or_another_device(tmp_path):
    stop_after_two_steps(tmp_path, TwoWeights())
    for path in tmp_path.glob("checkpoints/*/complete.json"):
        record = json.loads(path.read_text())
        assert record["environment"]["processes"] == 1
        record["environment"] |= {"processes": 2, "device": "cuda"}
        path.write_text(json.dumps(record))
    with pytest.warns(RunWarning) as caught:
        trainer.fit(TwoWeights(), NUMBERS, ONE_STEP.model_copy(update={"max_steps": 4}), tmp_path)
    messages = " ".join(str(entry.message) for entry in caught)
    for words in (
        "began on 2 processes and continues on 1 process",
        "began on cuda and continues on cpu",
        "last digits",
    ):
        assert words in messages


# -- lines of a log, and a run that is finished early ------------------------------------------------------------------


def test_a_log_without_a_bar_has_a_line_at_every_tenth_of_the_run(tmp_path):
    lines = []
    settings = ONE_STEP.model_copy(update={"max_steps": 20})
    trainer.fit(TwoWeights(), NUMBERS, settings, tmp_path / "log", say=lines.append)
    assert [line.split(",")[0] for line in lines] == [f"step {step} of 20" for step in range(2, 21, 2)]
    assert all("rows/s" in line and line.endswith("left") for line in lines)
    assert "epoch 4.00" in lines[-1]


@pytest.mark.parametrize("options", [{}, {"keep_best": True}])
def test_a_run_can_be_finished_from_its_newest_checkpoint(options, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit_with_losses(tmp_path, "run", LOSSES, interrupt_at=4, **options)
    settings = SETTINGS.model_copy(update={"checkpoint_every": 1, "keep_best": False, **options})
    finished = build(tmp_path)
    finished.loss = None  # no step is taken
    trainer.fit(finished, rows(), settings, tmp_path / "run", validation=rows(8), finish=True)
    assert finished.rows_seen == (32 if options else 64)
    kept = 2 if options else 4
    saved = load_file(tmp_path / "run" / "checkpoints" / f"checkpoint-{kept}" / "model.safetensors")
    for name, tensor in weights(finished).items():
        assert torch.equal(tensor, saved[f"inner.{name}"])


def test_a_run_without_a_checkpoint_cannot_be_finished(tmp_path):
    with pytest.raises(ZooError, match="no checkpoint yet that the run could be finished from"):
        trainer.fit(TwoWeights(), NUMBERS, ONE_STEP, tmp_path, finish=True)


@pytest.mark.parametrize(
    ("settings", "steps", "seen"),
    [
        ({"batch_size": 4}, 2, 8),
        ({"batch_size": 6}, 3, 18),  # the last two rows of an epoch are left out
        ({"batch_size": 6}, 9, 20),
        ({"batch_size": 8, "gradient_accumulation": 2}, 3, 20),
        ({"batch_size": 64}, 1, 20),
    ],
)
def test_the_rows_that_were_seen_are_counted(settings, steps, seen):
    assert epoch_order.count_rows_seen(NUMBERS, Training(**settings), steps) == seen
