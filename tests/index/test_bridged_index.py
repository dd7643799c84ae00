"""A new encoder searches the index of an old one through a bridge."""

from __future__ import annotations

import pytest
import tiny
import tiny_rows

import zoo
from zoo.bridge.bridge import Bridge
from zoo.cli.main import main
from zoo.core.errors import ArtefactError, ZooError


@pytest.fixture(scope="module")
def new_backbone(tmp_path_factory):
    return tiny.backbone(tmp_path_factory.mktemp("new"), seed=1)


@pytest.fixture(scope="module")
def bridge(encoder, backbone, new_backbone):
    texts = [row["text"] for row in tiny_rows.make_rows(400, seed=5)]
    references = (backbone, new_backbone)
    return Bridge.fit(encoder, zoo.from_pretrained(new_backbone), texts, kind="ridge", references=references)


def test_queries_of_the_new_encoder_are_mapped_into_the_index(index, encoder, bridge, rows):
    bridged = zoo.Index.open(index.path, bridge=bridge)
    queries = [row["text"] for row in rows[:20]]
    (hits,) = bridged.search(queries[:1], 5)
    new = bridged.encoder
    mapped = bridge.map_queries(new.encode_query(queries[:1]))[0]
    scores = encoder.encode_document([hit.text for hit in hits]) @ mapped
    assert [hit.score for hit in hits] == pytest.approx(scores.tolist(), abs=1e-5)
    with pytest.raises(ZooError, match="open the index without the bridge"):
        bridged.add([{"id": "x", "text": "a cat"}])


def test_a_bridge_to_another_encoder_is_refused(rows, bridge, new_backbone, index, tmp_path):
    zoo.Index.build(new_backbone, rows, tmp_path / "other")
    with pytest.raises(ArtefactError, match="fit a bridge to the model of the index"):
        zoo.Index.open(tmp_path / "other", bridge=bridge).search(["a"])
    third = tiny.backbone(tmp_path / "third", seed=2)
    with pytest.raises(ArtefactError, match="its new model is"):
        zoo.Index.open(index.path, third, bridge)


def test_the_command_takes_a_bridge(index, bridge, tmp_path, capsys):
    file = bridge.save(tmp_path / "bridge.safetensors")
    assert main(["search", str(index.path), "fever and cough", "--bridge", str(file), "-k", "2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
