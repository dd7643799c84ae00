"""The contract of all families fails for encoders that break it, so that a family which passes it keeps it."""

from __future__ import annotations

from pathlib import Path

import contract as properties
import numpy as np
import pytest
import torch
from contract import Contract
from safetensors.torch import load_file, save_file

from zoo import families
from zoo.artefact import model_folder
from zoo.core.errors import ArtefactError

FAMILY = "matryoshka-2d"
Encoder = families.load_encoder(FAMILY)


class WithoutLoss(Encoder):
    """Its loss is 0 for any weights, so nothing is learned."""

    def loss(self, batch):
        return super().loss(batch) * 0


class CentredByBatch(Encoder):
    """Its vectors depend on the other inputs of the call."""

    def encode(self, inputs, **options):
        vectors = super().encode(inputs, **options)
        return vectors - vectors.mean(0, keepdims=True) if len(vectors) else vectors


class Reversed(Encoder):
    """Its stream gives blocks in another order than the inputs."""

    def stream(self, inputs, **options):
        for block in super().stream(inputs, **options):
            yield block[::-1]


class ForgetfulOfTensor(Encoder):
    """Its model folder lacks a tensor."""

    def write_weights(self, folder):
        super().write_weights(folder)
        tensors = load_file(folder / "model.safetensors")
        del tensors[min(tensors)]
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


class ForgetfulOfTraining(Encoder):
    """Its model folder holds other weights than the encoder."""

    def write_weights(self, folder):
        super().write_weights(folder)
        tensors = load_file(folder / "model.safetensors")
        tensors = {name: torch.roll(tensor, 1, 0) for name, tensor in tensors.items()}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


class BlindToViews(Encoder):
    """Its view is the whole encoder."""

    def view(self, **options):
        view = super().view()
        view.view_options = options
        return view


class BrokenBeforeTraining(Encoder):
    """It reads what only training sets."""

    def encode(self, inputs, **options):
        return self.tensor_of_the_training


class NotFinite(Encoder):
    """Its vectors hold NaN."""

    def encode(self, inputs, **options):
        return super().encode(inputs, **options) * np.float32("nan")


class ForgetfulOfStep(Encoder):
    """Its loss depends on how often it was called, which no checkpoint keeps."""

    calls = 0

    def loss(self, batch):
        self.calls += 1
        return super().loss(batch) * self.calls


class BlindToValidation(Encoder):
    """It trains without the validation rows that it is given."""

    def train(self, run):
        return super().train(run.__class__(run.rows, run.settings, run.folder))


class WithoutRows(families.load_encoder("lbl2vec")):
    """It has no loss, and it finishes without its rows."""

    def finish(self, rows):
        self.label_vectors = np.eye(*self.label_vectors.shape, dtype=np.float32)


@pytest.fixture(scope="module")
def contract(tmp_path_factory) -> Contract:
    return properties.load_contract(FAMILY, tmp_path_factory.mktemp("contract"))


def build_with_heads(contract, encoder_class, folder):
    encoder = properties.build(contract, encoder_class)
    encoder.prepare(contract.rows, folder / "cache")
    return encoder


def replace_encoder(monkeypatch, encoder_class):
    monkeypatch.setattr(families, "load_encoder", lambda family: encoder_class)


def test_a_loss_that_is_always_zero_is_caught(contract, tmp_path):
    learning = properties.measure_learning(contract, tmp_path, WithoutLoss)
    with pytest.raises(AssertionError, match="does not lower the loss"):
        properties.check_training_learns(contract, learning, tmp_path)


def test_a_family_without_loss_that_ignores_its_rows_is_caught(tmp_path, monkeypatch):
    contract = properties.load_contract("lbl2vec", tmp_path)
    replace_encoder(monkeypatch, WithoutRows)
    learning = properties.measure_learning(contract, tmp_path / "run")
    with pytest.raises(AssertionError, match="the rows change no vector"):
        properties.check_training_learns(contract, learning, tmp_path / "run")


@pytest.mark.parametrize("encoder_class", [CentredByBatch, Reversed, NotFinite])
def test_vectors_that_depend_on_other_inputs_or_their_order_are_caught(contract, tmp_path, encoder_class):
    encoder = build_with_heads(contract, encoder_class, tmp_path)
    with pytest.raises(AssertionError):
        properties.check_every_input_is_encoded_for_itself_in_order(contract, encoder)


def save_unchecked(encoder: Encoder, folder: Path, refusal: str) -> Path:
    """Save an encoder whose folder differs from it: saving refuses that, and then does so without its own check."""
    with pytest.raises(ArtefactError, match=refusal):
        model_folder.save(encoder, folder)
    encoder.check_saved = lambda *_: None
    return model_folder.save(encoder, folder)


def test_a_folder_that_lacks_a_tensor_is_caught(contract, tmp_path):
    encoder = build_with_heads(contract, ForgetfulOfTensor, tmp_path)
    model = save_unchecked(encoder, tmp_path / "model", refusal="lack 1 tensor")
    with pytest.raises(ArtefactError, match="lack 1 tensor"):
        properties.check_folder_gives_the_same_vectors(contract, encoder, model)


def test_a_folder_with_other_weights_is_caught(contract, tmp_path):
    encoder = build_with_heads(contract, ForgetfulOfTraining, tmp_path)
    model = save_unchecked(encoder, tmp_path / "model", refusal="what was written is not what was trained")
    for check in (
        properties.check_folder_gives_the_same_vectors,
        properties.check_stock_library_gives_the_same_vectors,
    ):
        with pytest.raises(AssertionError, match="Not equal to tolerance"):
            check(contract, encoder, model)


def test_a_view_that_is_the_whole_encoder_is_caught(contract, tmp_path):
    encoder = build_with_heads(contract, BlindToViews, tmp_path)
    model = model_folder.save(encoder, tmp_path / "model")
    with pytest.raises(AssertionError, match="Not equal to tolerance|shape"):
        properties.check_view_on_the_command_line(contract, encoder, model, tmp_path)


def test_an_attribute_error_before_training_is_caught(contract):
    with pytest.raises(AttributeError, match="tensor_of_the_training"):
        properties.check_encode_before_training(contract, BrokenBeforeTraining)


def test_a_training_that_goes_on_otherwise_is_caught(contract, tmp_path, monkeypatch):
    replace_encoder(monkeypatch, ForgetfulOfStep)
    encoder = properties.train(contract, tmp_path / "whole")
    with pytest.raises(AssertionError, match="differs after an interruption"):
        properties.check_resumed_training_gives_equal_weights(contract, encoder, tmp_path / "stopped")


def test_validation_rows_that_are_not_read_are_caught(contract, tmp_path, monkeypatch):
    replace_encoder(monkeypatch, BlindToValidation)
    with pytest.raises(AssertionError, match="no validation_loss"):
        properties.check_validation_rows(contract, tmp_path)


@pytest.mark.parametrize("error", [AttributeError, AssertionError, MemoryError])
def test_a_faulty_folder_that_ends_in_a_plain_error_is_caught(contract, tmp_path, monkeypatch, error):
    encoder = build_with_heads(contract, Encoder, tmp_path)

    def fail(*arguments, **options):
        raise error("of the family")

    monkeypatch.setattr(properties.zoo, "from_pretrained", fail)
    with pytest.raises(AssertionError, match=f"{error.__name__}: of the family"):
        properties.check_faulty_folders(contract, encoder, tmp_path)
