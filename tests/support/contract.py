"""The contract of all families: what `contract(folder)` of a family's test file gives, and the properties that hold for it.

Every property is a function `check_…` that raises AssertionError, or lets the encoder's own error through, if it does not hold.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args

import faults
import numpy as np
import pytest
import torch
from datasets import Dataset
from pydantic import ValidationError

import zoo
from zoo import families
from zoo.artefact import manifest, model_folder
from zoo.cli import main
from zoo.core import atomic_files
from zoo.core.errors import ZooError
from zoo.encoder import Encoder
from zoo.schema import Training
from zoo.spec import EncoderSpec

FEW = 3  # inputs that are encoded by an encoder of a faulty folder


class Contract(NamedTuple):
    """A tiny encoder of the family: its section, training rows, a short training, inputs, and one view of it (or none).

    `spec_without_chance` is the section without dropout and augmentation, whose random numbers differ between processes. None
    says that `spec` has neither. `process_tolerance` is how far the losses (relative) and the vectors of a training in two
    processes may be from those of one process.
    """

    spec: EncoderSpec
    rows: Dataset
    training: Training
    inputs: list[Any]
    view: dict[str, Any]
    folder: Path
    spec_without_chance: EncoderSpec | None = None
    process_tolerance: float = 1e-4

    @property
    def texts(self) -> list[str]:
        """The inputs that are texts of one line."""
        return [item for item in self.inputs if isinstance(item, str) and len(item.splitlines()) == 1]


class Learning(NamedTuple):
    """A trained encoder, and the loss of its first training batch before and after; None for a family without `loss`."""

    encoder: Encoder
    loss_before: float | None
    loss_after: float | None


class InterruptedTrainingError(Exception):
    """Ends a training right after its first checkpoint."""


def load_contract(family: str, folder: Path) -> Contract:
    """The contract that the family's own test file gives, tests/families/NAME/test_NAME.py, made in `folder`."""
    name = family.replace("-", "_")
    place = str(Path(__file__).parents[1] / "families" / name)
    if place not in sys.path:
        sys.path.insert(0, place)
    return importlib.import_module(f"test_{name}").contract(folder)


def change_unused_fields(contract: Contract) -> Contract:
    """The same contract with another value of every field that, as the card says by silence, has no effect on the training."""
    spec = _change_fields(contract.spec, contract.spec.list_unused_fields(has_validation=False))
    unread = {name for name in Training.model_fields if not contract.spec.reads_training_field(name)}
    training = _change_fields(contract.training, unread | {"keep_best"})
    return contract._replace(spec=spec, training=training)


def _change_fields(section: Any, names: set[str]) -> Any:
    """Change each field that has another allowed value near its own. Fields of sections below are left as they are."""
    for name in sorted(names & type(section).model_fields.keys()):
        value = getattr(section, name)
        choices = get_args(type(section).model_fields[name].annotation)
        for other in [c for c in choices if isinstance(c, str)] + _list_other_values(value):
            changed = section.model_dump() | {name: other}
            with contextlib.suppress(ValidationError):
                if other != value:
                    section = type(section).model_validate(changed)
                    break
    return section


def _list_other_values(value: Any) -> list[Any]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value * 2 or 1, value / 2, value + 1]
    is_vector = isinstance(value, tuple) and all(isinstance(part, float) for part in value)
    return [tuple(part * 2 for part in value)] if is_vector else []


# -- training --------------------------------------------------------------------------------------------------------


def build(contract: Contract, encoder_class: type[Encoder] | None = None) -> Encoder:
    """The untrained encoder of a contract, of the family's class or of `encoder_class`."""
    encoder_class = encoder_class or families.load_encoder(contract.spec.family)
    return encoder_class.build(contract.spec, seed=contract.training.seed, folder=contract.folder)


def train(contract: Contract, folder: Path) -> Encoder:
    """The trained encoder of a contract; `folder` receives its cache and its checkpoints."""
    return measure_learning(contract, folder).encoder


def measure_learning(contract: Contract, folder: Path, encoder_class: type[Encoder] | None = None) -> Learning:
    """Train the encoder of a contract, and compute the loss of its first batch before and after the training."""
    encoder = build(contract, encoder_class)
    encoder.prepare(contract.rows, folder / "cache")
    loss, first_batches, losses = encoder.loss, [], []

    def compute_loss(batch: dict[str, Any]) -> torch.Tensor:
        if not first_batches:
            first_batches.append(batch)
            losses.append(_compute_loss_in_evaluation(encoder, loss, batch))
        return loss(batch)

    encoder.loss = compute_loss  # type: ignore[method-assign]
    encoder.fit(contract.rows, contract.training, folder)
    del encoder.loss
    losses += [_compute_loss_in_evaluation(encoder, loss, batch) for batch in first_batches]
    encoder.finish(contract.rows)
    return Learning(encoder, *(losses or (None, None)))


def _compute_loss_in_evaluation(encoder: Encoder, loss: Any, batch: dict[str, Any]) -> float:
    """The loss of a batch without dropout and augmentation. It leaves the state of torch's random numbers as it was."""
    is_training, step = encoder.module.training, encoder.step
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        encoder.module.eval()
        encoder.step = 0
        value = loss(batch).item()
    encoder.module.train(is_training)
    encoder.step = step
    return value


@contextlib.contextmanager
def interrupt_after_first_checkpoint() -> Iterator[None]:
    """Raise InterruptedTrainingError as soon as any trainer has written a whole checkpoint."""
    write_json, replace_folder = atomic_files.write_json, atomic_files.replace_folder

    def stop(path: Path) -> None:
        if "checkpoints" in Path(path).parts:
            raise InterruptedTrainingError

    def write_json_and_stop(path: Path, *arguments: Any, **options: Any) -> None:
        write_json(path, *arguments, **options)
        stop(path)

    @contextlib.contextmanager
    def replace_folder_and_stop(path: Path, *arguments: Any, **options: Any) -> Iterator[Path]:
        with replace_folder(path, *arguments, **options) as partial:
            yield partial
        stop(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(atomic_files, "write_json", write_json_and_stop)
        patch.setattr(atomic_files, "replace_folder", replace_folder_and_stop)
        yield


def read_metrics(folder: Path, key: str) -> list[float]:
    """The values of `key` in the lines of a run's metrics.jsonl that have it; [] without the file."""
    path = folder / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [line[key] for line in lines if key in line]


def check_training_learns(contract: Contract, learning: Learning, folder: Path) -> None:
    """The loss falls. A family without `loss`: the figures of its own trainer fall, and other rows give other vectors."""
    if learning.loss_before is not None and learning.loss_after is not None:
        assert learning.loss_after < learning.loss_before, "the training does not lower the loss of its first batch"
        losses = read_metrics(folder, "loss")
        assert np.mean(losses[-max(1, len(losses) // 3) :]) < losses[0], "the losses in metrics.jsonl do not fall"
        return
    losses = [loss for loss in read_metrics(folder, "loss") if loss > 0]  # a trainer writes 0 for passes without loss
    assert not losses or min(losses[1:]) < losses[0], "the losses in metrics.jsonl do not fall"
    half = contract.rows.select(range(len(contract.rows) // 2))
    other = measure_learning(contract._replace(rows=half), folder.with_name(f"{folder.name}-half")).encoder
    vectors, other_vectors = learning.encoder.encode(contract.inputs), other.encode(contract.inputs)
    assert vectors.shape != other_vectors.shape or not np.allclose(vectors, other_vectors), "the rows change no vector"


def check_resumed_training_gives_equal_weights(contract: Contract, encoder: Encoder, folder: Path) -> None:
    """A training that is interrupted at a checkpoint and run again ends with the weights of one that was not."""
    stopped = contract._replace(training=contract.training.model_copy(update={"checkpoint_every": 2}))
    with interrupt_after_first_checkpoint():
        try:
            measure_learning(stopped, folder)
        except InterruptedTrainingError:
            steps_before = len(read_metrics(folder, "loss"))
        else:
            assert not (folder / "checkpoints").exists(), "there are checkpoints, but none was written as a whole"
            return
    resumed = train(contract, folder)
    assert len(read_metrics(folder, "loss")) > steps_before > 0
    weights, resumed_weights = encoder.module.state_dict(), resumed.module.state_dict()
    assert weights.keys() == resumed_weights.keys()
    for name, tensor in weights.items():
        assert torch.equal(tensor, resumed_weights[name]), f"{name} differs after an interruption"
    np.testing.assert_array_equal(resumed.encode(contract.inputs), encoder.encode(contract.inputs))


def check_validation_rows(contract: Contract, folder: Path) -> None:
    """A family that uses validation rows writes their loss into metrics.jsonl; any other refuses them."""
    encoder = build(contract)
    validation = contract.rows.select(range(min(len(contract.rows), contract.training.batch_size)))
    training = contract.training.model_copy(update={"max_steps": 2, "checkpoint_every": 1})
    if not contract.spec.uses_validation:
        with pytest.raises(ZooError, match="validation"):
            encoder.fit(contract.rows, training, folder, validation=validation)
        return
    encoder.prepare(contract.rows, folder / "cache")
    encoder.fit(contract.rows, training, folder, validation=validation)
    losses = read_metrics(folder, "validation_loss")
    assert len(losses) == 2, "metrics.jsonl has no validation_loss for each of two validations"
    assert np.isfinite(losses).all()


# -- encoding --------------------------------------------------------------------------------------------------------


def check_encode_before_training(contract: Contract, encoder_class: type[Encoder] | None = None) -> None:
    """An untrained encoder encodes, or it raises a ZooError that says why not."""
    encoder = build(contract, encoder_class)
    with contextlib.suppress(ZooError):
        check_vectors(encoder, encoder.encode(contract.inputs), len(contract.inputs))


def check_training_after_use(contract: Contract, trained: Encoder, folder: Path) -> None:
    """An encoder that encoded and predicted before its training gives the same vectors as one that did not."""
    encoder = build(contract)
    encoder.prepare(contract.rows, folder / "cache")
    for name in ("encode", "predict", "classify"):
        with contextlib.suppress(ZooError):
            getattr(encoder, name, list)(contract.inputs)
    encoder.fit(contract.rows, contract.training, folder)
    encoder.finish(contract.rows)
    assert np.array_equal(encoder.encode(contract.inputs), trained.encode(contract.inputs))


def check_vectors(encoder: Encoder, vectors: np.ndarray, count: int) -> None:
    """There are `count` vectors of the encoder's own size, and all are finite."""
    assert len(vectors) == count
    assert vectors.ndim == 2
    assert not count or vectors[0].nbytes == encoder.bytes_per_vector
    assert np.isfinite(vectors).all()


def check_every_input_is_encoded_for_itself_in_order(contract: Contract, encoder: Encoder) -> None:
    """A vector depends on its own input only, whether `encode` or `stream` gets a list or an iterator."""
    inputs = contract.inputs
    vectors = encoder.encode(inputs)
    check_vectors(encoder, vectors, len(inputs))
    one_by_one = np.concatenate([encoder.encode([item]) for item in inputs])
    np.testing.assert_allclose(one_by_one, vectors, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(iter(inputs)), vectors, atol=1e-5)
    np.testing.assert_allclose(np.concatenate(list(encoder.stream(inputs))), vectors, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(inputs[::-1]), vectors[::-1], atol=1e-5)
    assert encoder.encode([]).shape == (0, *vectors.shape[1:])
    assert encoder.encode([]).dtype == vectors.dtype


def check_view_on_the_command_line(contract: Contract, encoder: Encoder, model: Path, folder: Path) -> None:
    """`zoo encode MODEL --view KEY=VALUE` writes the vectors of `encoder.view(KEY=VALUE)`. It reads lines, so only texts."""
    if not contract.texts:
        return
    (folder / "lines").write_text("".join(f"{text}\n" for text in contract.texts), encoding="utf-8")
    options = [
        f"--view={key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in contract.view.items()
    ]
    command = ["encode", str(model), *options, "--input", str(folder / "lines"), "--out", str(folder / "vectors.npy")]
    assert main.main(command) == 0
    expected = encoder.view(**contract.view).encode(contract.texts)
    np.testing.assert_allclose(np.load(folder / "vectors.npy"), expected, atol=1e-5)


# -- model folder ----------------------------------------------------------------------------------------------------


def check_folder_gives_the_same_vectors(contract: Contract, encoder: Encoder, model: Path) -> None:
    """A model folder opens with the spec, the vectors and the view of the encoder that was saved."""
    loaded = zoo.from_pretrained(model)
    assert (loaded.spec, loaded.dim, loaded.similarity_fn_name) == (
        encoder.spec,
        encoder.dim,
        encoder.similarity_fn_name,
    )
    np.testing.assert_allclose(loaded.encode(contract.inputs), encoder.encode(contract.inputs), atol=1e-6)
    view, expected = loaded.view(**contract.view), encoder.view(**contract.view)
    np.testing.assert_allclose(view.encode(contract.inputs), expected.encode(contract.inputs), atol=1e-6)
    assert view.view_options.items() >= contract.view.items()


def check_stock_library_gives_the_same_vectors(contract: Contract, encoder: Encoder, model: Path) -> None:
    """A folder with modules.json opens in stock sentence-transformers, with equal vectors for the training texts.

    A family may say that another class of the library opens its folders; its own tests then compare them.
    """
    has_modules = (model / "modules.json").exists()
    if not has_modules or encoder.find_stock_folder(model) is None or "text" not in encoder.modalities:
        return
    from sentence_transformers import SentenceTransformer

    columns = [values for values in contract.rows[: len(contract.inputs)].values() if isinstance(values[0], str)]
    texts = [text for values in columns for text in values if text]
    assert texts, "the training rows hold no text"
    vectors = SentenceTransformer(str(model), device="cpu").encode(texts)
    np.testing.assert_allclose(vectors, encoder.encode(texts), atol=1e-5)


def check_faulty_folders(contract: Contract, encoder: Encoder, folder: Path) -> None:
    """A folder with one fault and a manifest that agrees is refused by a ZooError, or its vectors are sound."""
    model = model_folder.save(encoder, folder / "model")
    for fault in faults.draw_faults(model, seed=sum(map(ord, contract.spec.family))):  # other faults for each family
        with fault.apply(model):
            manifest.write(model)
            try:
                loaded = zoo.from_pretrained(model)
                check_vectors(loaded, loaded.encode(contract.inputs[:FEW]), len(contract.inputs[:FEW]))
            except ZooError:
                continue
            except Exception as error:
                raise AssertionError(f"{fault.name}: {type(error).__name__}: {error}") from error
