"""Which files belong to a model folder, and how access tokens are found."""

from __future__ import annotations

import tracemalloc

import pytest

from zoo.artefact import allowed_files


@pytest.mark.parametrize("name", ["../a.json", "/a.json", "a/../../b.json", "a\\b.json", ""])
def test_no_name_leaves_the_folder(name):
    assert not allowed_files.is_allowed(name)
    assert "leaves the folder" in str(allowed_files.find_reason_to_refuse(["model.safetensors", name]))


@pytest.mark.parametrize("name", ["recipe.yaml", "metrics.jsonl", "vocab.txt", "merges.txt", "LICENSE", "NOTICE"])
def test_text_files_are_allowed_by_their_exact_names(name):
    assert allowed_files.is_allowed(name)
    assert allowed_files.is_allowed(f"1_Dense/{name}")
    assert not allowed_files.is_allowed(f"my-{name}")


@pytest.mark.parametrize("name", [".hidden.json", "a/.hidden.json", "checkpoint-3/model.safetensors", "2/scaler.json"])
def test_hidden_files_and_training_state_are_not_allowed_with_any_suffix(name):
    assert not allowed_files.is_allowed(name)


def test_pickles_are_a_reason_to_refuse_only_without_safetensors():
    assert "a.bin" in str(allowed_files.find_reason_to_refuse(["config.json", "a.bin"]))
    assert allowed_files.find_reason_to_refuse(["a.bin", "model.safetensors"]) is None
    assert "has no safetensors file" in str(allowed_files.find_reason_to_refuse(["config.json"]))
    leaving = allowed_files.find_reason_to_refuse(["model.safetensors", "../a.json"])
    assert leaving == "the file name '../a.json' leaves the folder"


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib"])
def test_every_kind_of_pickle_is_named(suffix):
    assert f"its weights are pickles (a{suffix})" in str(allowed_files.find_reason_to_refuse([f"a{suffix}"]))


@pytest.mark.parametrize(
    "name",
    [
        *("model.safetensors", "config.json", "README.md", "loss.png", "spiece.model", "a.spm", "chat.jinja"),
        *("metrics.jsonl", "recipe.yaml", "vocab.txt", "merges.txt", "LICENSE", "NOTICE", "0_Transformer/merges.txt"),
    ],
)
def test_every_kind_of_file_of_a_model_is_allowed(name):
    assert allowed_files.is_allowed(name)
    assert not allowed_files.is_allowed(f"../{name}")


@pytest.mark.parametrize("variable", ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"])
def test_the_current_token_is_found_unless_it_is_too_short_to_be_one(monkeypatch, variable):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    for length, position in ((allowed_files.MIN_TOKEN_LENGTH, 2), (allowed_files.MIN_TOKEN_LENGTH - 1, None)):
        monkeypatch.setenv(variable, "t" * length)
        assert allowed_files.find_token(f"a {'t' * length}") == position


def test_a_token_is_found_at_the_start_of_a_text_and_behind_another_variable(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "of-a-private-hub-1")
    monkeypatch.setenv("HUGGING_FACE_HUB_TOKEN", " of-another-private-hub \n")
    assert allowed_files.find_token("of-a-private-hub-1") == 0
    assert allowed_files.find_token("of-another-private-hub") == 0
    assert allowed_files.find_token("a private hub") is None


def test_an_empty_token_is_not_found_everywhere(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "")
    assert allowed_files.find_token("text") is None


def test_the_position_of_a_token_counts_characters():
    assert allowed_files.find_token("é" * 3 + "hf_" + "a" * 34) == 3


@pytest.mark.parametrize("prefix", ["hf_", "api_org_", "hf_oauth_", "hf_jwt_"])
def test_every_kind_of_token_of_the_hub_is_found_from_thirty_characters_on(prefix):
    assert allowed_files.find_token(f"a {prefix}{'aA3' * 10}") == 2
    assert allowed_files.find_token(f"a {prefix}{'a' * 29}") is None
    dotted = f"{prefix}{'aB.c-d_' * 5}"
    assert (allowed_files.find_token(dotted) == 0) is (prefix in ("hf_oauth_", "hf_jwt_"))


@pytest.mark.parametrize(
    "name",
    [
        *("checkpoint-3.json", "optimizer.safetensors", "scheduler.json", "scaler.json", "rng_state_0.json"),
        *("trainer_state.json", "training_args.json", ".a.json"),
    ],
)
def test_no_state_of_a_training_is_allowed_in_any_folder(name):
    assert not allowed_files.is_allowed(name)
    assert not allowed_files.is_allowed(f"a/{name}")
    assert not allowed_files.is_allowed(f"a/b/{name}")
    assert allowed_files.is_allowed(f"my-{name.lstrip('.')}")


def test_a_token_across_two_chunks_is_found(monkeypatch, tmp_path):
    monkeypatch.setattr(allowed_files, "_CHUNK", 1000)
    for start in range(955, 1005, 7):
        (tmp_path / "a.json").write_bytes(b"x" * start + b" hf_" + b"a" * 34 + b" " * 1000)
        assert allowed_files.contains_token(tmp_path / "a.json"), start


def test_the_search_for_tokens_does_not_read_a_large_file_into_memory(tmp_path):
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(32 << 20)
    tracemalloc.start()
    assert not allowed_files.contains_token(tmp_path / "model.safetensors")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20
