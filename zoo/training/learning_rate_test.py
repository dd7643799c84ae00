"""A range test of the learning rate (Smith, arXiv 1506.01186, section 3.3): where does the training loss stop falling?

A few steps are made from the untrained weights while the rate grows geometrically. The loss falls and then grows again. A good
rate is a tenth of the one in the middle of this valley. The geometric mean of it and of the usual rate is taken.

The weights are restored afterwards. The same rows and seed give the same result.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from accelerate.utils import send_to_device

from zoo.core import atomic_files
from zoo.data.mapped import fetch_rows
from zoo.ops import distributed
from zoo.schema import Training
from zoo.training.arguments import resolve_precision_name
from zoo.training.distributed import broadcast_from_main, is_main_process
from zoo.training.epoch_order import EpochSampler
from zoo.training.optimizers import list_clipped, make_optimizer
from zoo.training.step_plan import plan_steps

RECORD = "learning_rate.json"  # in the run folder
STEPS = 32
LEAST_STEPS_OF_TRAINING = (
    300  # a shorter training is not worth the test, which then takes more than a tenth of its time
)
BATCHES, ROWS = 8, 32  # few batches are used again and again, so that their losses can be compared with those before
FIRST_FACTOR, LAST_FACTOR = 0.3, 160.0  # of the typical rate
FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)  # the typical rate times one of these is chosen
MARGIN = 10.0  # between the rate at which the loss is lowest and the one that is chosen
LEAST_FALL = 0.03  # of the loss, so that its lowest place means something
VALLEY = 0.1  # losses above the lowest by this share of its fall are still as low
DIVERGED = 2.0
WINDOW = 2  # steps on both sides that a loss is averaged with


@dataclass(frozen=True)
class RangeTest:
    """The outcome of a range test.

    Attributes:
        learning_rate: the rate that was chosen.
        lowest_at: the rate in the middle of the valley of the loss, or None if the loss did not fall.
        rates, losses: the rate of each step, and the loss before it, divided by the loss of the same rows before the test.
    """

    learning_rate: float
    lowest_at: float | None
    rates: tuple[float, ...]
    losses: tuple[float, ...]

    def describe(self, typical: float) -> str:
        """Say in a line which rate was chosen, and why."""
        if self.lowest_at is None:
            reason = f"in a range test of {len(self.rates)} steps the loss did not fall, so the usual rate stays"
        else:
            usual = "" if self.learning_rate == typical else f"; usual: {typical:g}"
            reason = f"in a range test of {len(self.rates)} steps the loss was lowest at {self.lowest_at:.2g}{usual}"
        return f"training.learning_rate is not set: {self.learning_rate:g} ({reason})"


def choose_learning_rate(encoder: Any, run: Any) -> float:
    """Choose the learning rate of a `zoo.encoder.TrainingRun`, say it, and keep it in the run folder.

    A short training has the usual rate of the family.
    """
    usual: float = encoder.usual_learning_rate
    if plan_steps(run.settings, len(run.rows)).total_steps < LEAST_STEPS_OF_TRAINING:
        return usual
    path = run.folder / RECORD
    record = broadcast_from_main(atomic_files.read_json(path) if is_main_process() and path.exists() else None)
    if record is not None:
        return float(record["learning_rate"])
    outcome = find_learning_rate(encoder, run.rows, run.settings, usual)
    if is_main_process():
        atomic_files.write_json(path, asdict(outcome))
    if run.say is not None:
        run.say(outcome.describe(usual))
    return outcome.learning_rate


def find_learning_rate(encoder: Any, rows: Any, settings: Training, typical: float) -> RangeTest:
    """Make a range test around the rate `typical` with the first batches of the training.

    Every process of a distributed run must call this with the same arguments. `encoder` and `rows` are those of
    `zoo.training.trainer.fit`.
    """
    settings = settings.model_copy(update={"learning_rate": typical})
    growth = (LAST_FACTOR / FIRST_FACTOR) ** (1 / (STEPS - 1))
    factors = [FIRST_FACTOR * growth**step for step in range(STEPS)]
    losses: list[float] = []
    with _restore_afterwards(encoder):
        batches = [encoder.collate(fetch_rows(rows, numbers)) for numbers in _list_batches(rows, settings)]
        device = next(encoder.module.parameters()).device
        batches = [send_to_device(batch, device) for batch in batches]
        with torch.no_grad():
            first_losses = [_average(_compute_loss(encoder, batch, settings)).item() for batch in batches]
        optimizer = make_optimizer(encoder, settings)
        usual_rates = [group["lr"] for group in optimizer.param_groups]
        for step, factor in enumerate(factors):
            for group, rate in zip(optimizer.param_groups, usual_rates, strict=True):
                group["lr"] = rate * factor
            losses.append(_make_step(encoder, batches[step % len(batches)], optimizer, settings, step))
            losses[-1] /= max(first_losses[step % len(batches)], 1e-12)
            if not losses[-1] < DIVERGED:
                break
    rates = tuple(typical * factor for factor in factors[: len(losses)])
    return _choose(rates, tuple(losses), typical)


def _choose(rates: tuple[float, ...], losses: tuple[float, ...], typical: float) -> RangeTest:
    """Choose the typical rate times one of FACTORS, by the place of the lowest loss."""
    usable = [loss if math.isfinite(loss) else DIVERGED for loss in losses]
    smooth = []
    for step in range(len(usable)):
        window = usable[max(0, step - WINDOW) : step + WINDOW + 1]
        smooth.append(sum(window) / len(window))
    lowest = min(smooth)
    if lowest > 1 - LEAST_FALL:
        return RangeTest(typical, None, rates, losses)
    valley = [rate for rate, loss in zip(rates, smooth, strict=True) if loss <= lowest + VALLEY * (1 - lowest)]
    middle = math.sqrt(valley[0] * valley[-1])
    # Two seeds differ by a factor of two here, so the usual rate counts as much as the test.
    wanted = math.log(middle / MARGIN / typical) / 2
    factor = min(FACTORS, key=lambda entry: (abs(math.log(entry) - wanted), abs(math.log(entry))))
    return RangeTest(float(f"{typical * factor:.3g}"), middle, rates, losses)


def _list_batches(rows: Any, settings: Training) -> list[list[int]]:
    """The row numbers of the first batches of the training, shortened to ROWS rows; of each, this process's slice."""
    plan, order = plan_steps(settings, len(rows)), EpochSampler(rows, settings.seed).compute_order()
    processes = distributed.get_world_size()
    rank = torch.distributed.get_rank() if processes > 1 else 0
    size = min(plan.micro_batch_size, max(ROWS, processes)) // processes * processes
    starts = range(0, max(1, len(order) - size + 1), plan.micro_batch_size)[:BATCHES]
    part = size // processes
    return [order[start + rank * part : start + (rank + 1) * part].tolist() for start in starts]


def _make_step(
    encoder: Any, batch: dict[str, Any], optimizer: torch.optim.Optimizer, settings: Training, step: int
) -> float:
    """Make an optimiser step, and return the loss before it."""
    encoder.step = step
    optimizer.zero_grad()
    loss = _compute_loss(encoder, batch, settings)
    loss.backward()  # type: ignore[no-untyped-call]
    for parameters in list_clipped(optimizer):
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad = _average(parameter.grad)
        torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
    optimizer.step()
    return _average(loss.detach()).item()


def _compute_loss(encoder: Any, batch: dict[str, Any], settings: Training) -> torch.Tensor:
    dtype = getattr(torch, resolve_precision_name(settings))
    device = next(encoder.module.parameters()).device.type
    with torch.autocast(device, dtype=dtype if dtype != torch.float32 else None, enabled=dtype != torch.float32):
        loss: torch.Tensor = encoder.loss(batch)
    return loss


def _average(tensor: torch.Tensor) -> torch.Tensor:
    """The mean over all processes."""
    if distributed.get_world_size() > 1:
        torch.distributed.all_reduce(tensor)
        tensor = tensor / distributed.get_world_size()
    return tensor


@contextmanager
def _restore_afterwards(encoder: Any) -> Iterator[None]:
    """Give the encoder its weights, buffers, gradients, mode and step back at the end, and torch its random state."""
    module: torch.nn.Module = encoder.module
    if torch.cuda.is_available():
        module.to("cuda")
    tensors: Sequence[torch.Tensor] = [p for p in module.parameters() if p.requires_grad] + list(module.buffers())
    copies = [tensor.detach().clone() for tensor in tensors]
    was_training, step = module.training, encoder.step
    module.train()
    try:
        with torch.random.fork_rng():
            torch.manual_seed(encoder.seed if hasattr(encoder, "seed") else 0)
            yield
    finally:
        with torch.no_grad():
            for tensor, copy in zip(tensors, copies, strict=True):
                tensor.copy_(copy)
        for parameter in module.parameters():
            parameter.grad = None
        module.train(was_training)
        encoder.step = step
