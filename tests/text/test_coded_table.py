"""Model folders whose token table is coded: equal vectors after opening, plain again, and refused where it must be."""

from __future__ import annotations

import copy
import json
import types

import numpy as np
import pytest
import sentence_transformers
import tiny
import torch
from safetensors.torch import load_file, save_file

import zoo
from zoo.artefact import manifest
from zoo.core.errors import ArtefactError, ZooError
from zoo.families.dense.encoder import Encoder as DenseEncoder
from zoo.families.dense.spec import Spec as DenseSpec
from zoo.families.matryoshka_2d.encoder import Encoder
from zoo.families.matryoshka_2d.spec import Spec
from zoo.ops import tables
from zoo.text import coded_table, table_export

KINDS = ("bert", "roberta", "mpnet", "modernbert")
TEXTS = tiny.SENTENCES[:9]


def build(folder, kind="bert", family="matryoshka-2d", **options):
    backbone = tiny.backbone(folder / "backbone", kind, **options)
    if family == "dense":
        return DenseEncoder.build(DenseSpec(family="dense", backbone=backbone))
    return Encoder.build(Spec(family="matryoshka-2d", backbone=backbone))


@pytest.fixture
def encoder(tmp_path):
    return build(tmp_path)


@pytest.mark.parametrize("codec", tables.CODECS)
@pytest.mark.parametrize("family", ["matryoshka-2d", "dense"])
def test_a_saved_folder_gives_the_same_codes_and_vectors_bit_for_bit(codec, family, tmp_path):
    coded = table_export.code_table(build(tmp_path, family=family, pooling="cls"), codec)
    opened = zoo.from_pretrained(coded.save(tmp_path / "model"))
    table, stored = (coded_table.find(each.backbone.model) for each in (coded, opened))
    assert table.facts == stored.facts
    assert all(torch.equal(part, stored.parts[name]) for name, part in table.parts.items())
    assert np.array_equal(opened.encode(TEXTS), coded.encode(TEXTS))
    assert opened.card_facts()["parameters"] == build(tmp_path, family=family, pooling="cls").card_facts()["parameters"]


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_are_those_of_the_decoded_table(kind, tmp_path):
    encoder = build(tmp_path, kind)
    coded = table_export.code_table(encoder, "int4")
    table = coded_table.find(coded.backbone.model)
    restored = table_export.restore_table(zoo.from_pretrained(coded.save(tmp_path / "coded")))
    opened = zoo.from_pretrained(restored.save(tmp_path / "plain"))
    weight = opened.backbone.model.get_input_embeddings().weight
    assert torch.equal(weight, table.decode())
    np.testing.assert_allclose(opened.encode(TEXTS), coded.encode(TEXTS), atol=1e-6)
    stock = sentence_transformers.SentenceTransformer(str(tmp_path / "plain"), device="cpu")
    np.testing.assert_allclose(stock.encode(TEXTS), coded.encode(TEXTS), atol=1e-5)


def test_the_encoder_that_was_coded_keeps_its_own_table_and_shares_the_rest(encoder):
    before = encoder.encode(TEXTS)
    coded = table_export.code_table(encoder, "int4")
    assert not np.array_equal(coded.encode(TEXTS), before)
    assert np.array_equal(encoder.encode(TEXTS), before)
    pointers = [
        {parameter.data_ptr() for name, parameter in each.backbone.model.named_parameters() if "layer" in name}
        for each in (encoder, coded)
    ]
    assert pointers[0] == pointers[1]
    assert coded.table_bytes == 48 * 32 * 4.5 / 8 + 5 * (32 * 4 + 8) < encoder.table_bytes == 48 * 32 * 4


def test_rows_of_special_tokens_stay_and_a_cut_view_keeps_the_codes(encoder, tmp_path):
    coded = table_export.code_table(encoder, "int4")
    special = list(range(len(tiny.SPECIAL_TOKENS)))
    weight = encoder.backbone.model.get_input_embeddings().weight
    assert torch.equal(coded_table.find(coded.backbone.model).decode()[special], weight[special])
    cut = zoo.from_pretrained(coded.truncate(1, 8).save(tmp_path / "cut"))
    np.testing.assert_array_equal(cut.encode(TEXTS), coded.truncate(1, 8).encode(TEXTS))


def test_half_precision_works_and_codes_are_in_memory_once(encoder):
    coded = table_export.code_table(encoder, "int8")
    np.testing.assert_allclose(coded.encode(TEXTS, precision="bf16"), coded.encode(TEXTS), atol=0.05)
    table = coded_table.find(coded.backbone.model)
    assert copy.deepcopy(table).codes.data_ptr() == table.codes.data_ptr()


def test_other_libraries_refuse_the_folder_instead_of_drawing_a_table_at_random(encoder, tmp_path):
    folder = table_export.code_table(encoder, "int8").save(tmp_path / "model")
    assert not (folder / "modules.json").exists()
    with pytest.raises((OSError, ValueError)):
        sentence_transformers.SentenceTransformer(str(folder), device="cpu")


def test_a_coded_table_is_not_trained(encoder, tmp_path):
    coded = table_export.code_table(encoder, "int8")
    folder = coded.save(tmp_path / "model")
    with pytest.raises(ZooError, match="cannot be trained: write a plain model"):
        coded.train(None)
    with pytest.raises(ZooError, match="cannot be trained: write a plain model"):
        Encoder.build(Spec(family="matryoshka-2d", backbone=str(folder)))


def test_distillation_brings_vectors_nearer_and_leaves_codes_and_network(tmp_path):
    encoder = build(tmp_path)
    torch.manual_seed(0)
    table = coded_table.encode(encoder.backbone.model, encoder.backbone.tokenizer, "pq", name="m", seed=1)
    table.words = (table.words + 0.05 * torch.randn(table.words.shape)).half()
    twin = table_export._replace_table(encoder, table)
    codes = table.codes.clone()
    network = {name: tensor.clone() for name, tensor in encoder.backbone.model.state_dict().items()}
    targets = encoder.encode(TEXTS)
    before = (twin.encode(TEXTS) * targets).sum(1).mean()
    table_export.table_distillation.distil(encoder, twin, table, tiny.SENTENCES, steps=40)
    twin._forget_engines()
    after = (twin.encode(TEXTS) * targets).sum(1).mean()
    assert 1 - after < 0.7 * (1 - before)
    assert torch.equal(table.codes, codes)
    assert table.words.dtype == torch.float16
    assert all(torch.equal(network[name], tensor) for name, tensor in encoder.backbone.model.state_dict().items())
    assert all(
        parameter.requires_grad for name, parameter in encoder.backbone.model.named_parameters() if "layer" in name
    )


def test_a_distillation_that_does_not_help_texts_that_were_set_aside_is_left_out(encoder):
    # A table of fewer rows than words is exact, so training can only make it worse.
    texts = tiny.SENTENCES
    coded, plain = (table_export.code_table(encoder, "pq", texts=texts, steps=steps, rate=0.1) for steps in (8, 0))
    tables_of_both = [coded_table.find(each.backbone.model) for each in (coded, plain)]
    assert torch.equal(tables_of_both[0].words, tables_of_both[1].words)
    assert tables_of_both[0].facts == tables_of_both[1].facts
    assert np.array_equal(coded.encode(TEXTS), plain.encode(TEXTS))


def test_frequent_tokens_get_finer_rows(encoder):
    texts = ["fever cough", "fever", "the fever", "cough"] * 20
    coded = table_export.code_table(encoder, "pq", texts=texts, finer=6 / encoder.backbone.model.config.vocab_size)
    table = coded_table.find(coded.backbone.model)
    finer = encoder.backbone.tokenizer.convert_ids_to_tokens(table.finer_ids.tolist())
    assert {"fever", "cough", "the"} <= set(finer)


@pytest.mark.parametrize(
    ("codec", "options", "message"),
    [
        ("float", {}, "is not coded"),
        ("int2", {}, "is not one of"),
        ("pq", {"steps": 3}, "need texts"),
        ("int8", {"steps": 3, "has_texts": True}, "no words to learn"),
        ("pq", {"finer": 1.0, "has_texts": True}, "from 0 to below 1"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_anything_is_coded(codec, options, message, encoder):
    with pytest.raises(ZooError, match=message):
        table_export.check(encoder, codec, **options)


def test_a_table_is_not_coded_twice_and_not_in_another_family(encoder, tmp_path):
    with pytest.raises(ZooError, match="coded already"):
        table_export.check(table_export.code_table(encoder, "int8"), "int4")
    other = types.SimpleNamespace(spec=types.SimpleNamespace(family="static"))
    with pytest.raises(ZooError, match="family static cannot hold a coded token table"):
        table_export.check(other, "int8")


def change_config(folder, change):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def change_parts(folder, change):
    parts = load_file(folder / "table.safetensors")
    change(parts)
    save_file(parts, folder / "table.safetensors")


DAMAGE = {
    "more rows than words": lambda folder: change_config(folder, lambda config: config.update(vocab_size=7)),
    "an unknown codec": lambda folder: change_config(
        folder, lambda config: config["zoo"]["table"].update(codec="int2")
    ),
    "huge": lambda folder: change_config(folder, lambda config: config["zoo"]["table"].update(rows=10**12)),
    "another module": lambda folder: change_config(folder, lambda config: config["zoo"]["table"].update(module="../x")),
    "an unknown fact": lambda folder: change_config(folder, lambda config: config["zoo"]["table"].update(other=1)),
    "no entry": lambda folder: change_config(folder, lambda config: config["zoo"].pop("table")),
    "a missing part": lambda folder: change_parts(folder, lambda parts: parts.pop("words")),
    "codes as floats": lambda folder: change_parts(folder, lambda p: p.update(codes=p["codes"].float())),
    "a word that is not there": lambda folder: change_parts(folder, lambda p: p["codes"].fill_(255)),
    "a row that is not there": lambda folder: change_parts(folder, lambda p: p["kept_ids"].add_(10**6)),
    "words that are not finite": lambda folder: change_parts(folder, lambda p: p["words"].fill_(float("nan"))),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_table_is_refused_in_one_line(damage, encoder, tmp_path):
    folder = table_export.code_table(encoder, "pq").save(tmp_path / "model")
    damage(folder)
    manifest.write(folder)
    with pytest.raises(ArtefactError) as error:
        zoo.from_pretrained(folder)
    assert "\n" not in str(error.value)
