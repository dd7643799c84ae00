"""VLM2Vec as a family: inputs of every kind, exact gradients of large batches, artefacts, sets of rows."""

from __future__ import annotations

import json
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import tinyvlm
import torch
import transformers
from contract import Contract
from datasets import Dataset
from PIL import Image
from sentence_transformers import SentenceTransformer
from tiny_vlm2vec import COLOURS, TINY, built, encoded, held, picture, rows

import zoo
from zoo.artefact import model_folder
from zoo.core.errors import ArtefactError, DataError, HubError, ZooError
from zoo.families.vlm2vec import chunk_size, dataset, infonce, mixed_inputs
from zoo.families.vlm2vec.architectures import ARCHITECTURES
from zoo.families.vlm2vec.encoder import Encoder
from zoo.families.vlm2vec.prompt_template import worded
from zoo.families.vlm2vec.spec import Lora, Share, Spec, VLMSpec
from zoo.hub import push as hub
from zoo.recipe import recipe
from zoo.schema import Training

INPUTS = [
    "a red square",
    picture("red", 90),
    {"image": picture("blue", 91), "text": "which colour is it?"},
    [picture("red", 92), "is like", picture("grey", 93)],
    "green",
    {"image": [picture("red", 94), picture("blue", 95)]},
    "a text that is longer than the others, so that they are padded",
]


def contract(folder) -> Contract:
    spec = Spec(
        family="vlm2vec", backbone=VLMSpec(**TINY), instructions={"document": "Represent the given image."}, dropout=0.1
    )
    training = Training(max_steps=6, batch_size=8, learning_rate=0.003, checkpoint_every=1000)
    return Contract(spec, rows(), training, INPUTS, {"role": "document"}, folder)


@pytest.fixture(scope="module")
def plain() -> Encoder:
    encoder = built()
    encoder.prepare(rows(), None)
    with torch.no_grad():  # as they are drawn, hardly anything would change anything
        for parameter in encoder.module.parameters():
            parameter.mul_(5 if parameter.ndim > 1 else 1)
    encoder.module.eval()
    return encoder


def test_the_same_image_is_one_input_in_every_form(plain, tmp_path):
    image = picture("red", 7)
    (tmp_path / "red.png").write_bytes(encoded(image))
    forms = [image, Image.fromarray(image), tmp_path / "red.png", encoded(image), {"image": str(tmp_path / "red.png")}]
    vectors = plain.encode(forms)
    np.testing.assert_array_equal(vectors, np.repeat(vectors[:1], len(forms), axis=0))


def test_texts_images_and_an_instruction_stand_where_the_paper_has_them():
    image = object()
    for parts, instruction, said in (
        (["a dog"], None, "a dog"),
        (["a dog"], "Find it:", "Find it: a dog\n"),
        ([image], "Represent the given image.", "# Represent the given image.\n"),
        ([image, "who?"], "Answer.", "# Answer. who?\n"),
        (["is", image, "like", image], None, "is # like #\n"),
        ([image, image], None, "# #\n"),
    ):
        assert "".join("#" if word is None else word for word in worded(parts, instruction)) == said


def test_images_take_the_places_that_a_text_has_for_them():
    one, two = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    assert mixed_inputs.placed("<|image_1|>\nwho?", [one]) == [one, "who?"]
    assert mixed_inputs.placed("is <|image_2|> like <|image_1|>?", [one, two]) == ["is", two, "like", one, "?"]
    assert mixed_inputs.placed("who?", [one, two]) == [one, two, "who?"]
    with pytest.raises(ZooError, match="image 2"):
        mixed_inputs.placed("<|image_2|>", [one])


def test_the_order_of_images_and_the_instruction_change_the_vector(plain):
    red, blue = picture("red", 1), picture("blue", 2)
    vectors = [
        *plain.encode([[red, blue], [blue, red], ["x", red]]),
        plain.view(instruction="Say:").encode([[red, blue]])[0],
    ]
    for i, vector in enumerate(vectors):
        assert all(np.abs(vector - other).max() > 1e-4 for other in vectors[:i])


def test_a_task_may_have_instructions_of_its_own_for_queries_and_documents(plain):
    asked, own = built(instructions={"query": "Find:", "document": "Read:"}), [picture("red", 1), "a word"]
    asked.vlm = plain.vlm
    back = asked.view(query="Name:", document="Find:")
    for prompt, instruction in (("query", "Name:"), ("document", "Find:"), (None, None)):
        wanted = plain.view(instruction=instruction) if instruction else plain
        np.testing.assert_array_equal(back.encode(own, prompt_type=prompt), wanted.encode(own))
    half = asked.view(query="Name:")
    np.testing.assert_array_equal(half.encode(own, prompt_type="document"), asked.view(role="document").encode(own))
    np.testing.assert_array_equal(asked.view(query="").encode(own, prompt_type="query"), plain.encode(own))
    with pytest.raises(ZooError, match="give `instruction` or `query`, not both"):
        asked.view(instruction="x", query="y")


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_either_side_changes_nothing(plain, side):
    inputs = [mixed_inputs.parts(each) for each in INPUTS]
    plain.vlm.tokenizer.padding_side = side
    try:
        with torch.no_grad():
            together = plain.vlm.features(plain.vlm.batch(inputs, [None] * len(inputs)))
            alone = torch.cat([plain.vlm.features(plain.vlm.batch([each], [None])) for each in inputs])
    finally:
        plain.vlm.tokenizer.padding_side = "right"
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_a_text_cannot_pass_for_an_image(plain):
    sly = "a <image> and <fake_token_around_image><global-img> here"
    ids = plain.vlm.batch([[sly, Image.new("RGB", (8, 8))]], [None])["input_ids"]
    image = plain.vlm.tokenizer.convert_tokens_to_ids("<image>")
    assert int((ids == image).sum()) == int(
        (plain.vlm.batch([[Image.new("RGB", (8, 8))]], [None])["input_ids"] == image).sum()
    )


def test_of_a_long_text_the_beginning_is_read_and_its_images_always(plain):
    cut = built()
    cut.vlm.tokenizer, cut.vlm.max_length = plain.vlm.tokenizer, 4
    words = "a red square that nobody has ever seen before"
    short = plain.vlm.tokenizer.decode(plain.vlm.tokenizer(words)["input_ids"][:4])
    assert cut.vlm._plain(words) == short
    cut.module.eval()
    np.testing.assert_array_equal(cut.encode([[words, INPUTS[1]]]), cut.encode([[short, INPUTS[1]]]))


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("", "empty"),
        ({"text": "", "image": []}, "empty"),
        ({"text": "a", "video": 1}, "video"),
        (7, "expected an image"),
    ],
)
def test_what_is_no_input_is_told_with_its_place(plain, given, why):
    with pytest.raises(ZooError, match=f"input 1 .*{why}"):
        plain.encode(["a", given])
    with pytest.raises(ZooError, match="list"):
        plain.encode({"image": "a.png"})


# -- training ----------------------------------------------------------------------------------------------------------


def relative(found: list, wanted: list) -> float:
    flat = [torch.cat([g.flatten().double() for g in some]) for some in (found, wanted)]
    return float((flat[0] - flat[1]).norm() / flat[1].norm())


def gradients(encoder: Encoder, batch: dict, again: bool) -> list:
    encoder.module.zero_grad()
    encoder._again = again
    torch.manual_seed(3)
    encoder.loss(batch).backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in encoder.module.parameters()]


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_gradients_of_chunks_that_are_run_again_are_those_of_one_graph(dropout):
    encoder = built(dropout=dropout, instructions={"query": "Find:"})
    encoder.vlm.set_dropout(dropout)
    table = dataset.MixtureDataset({"data": rows(12)}, {}, None)
    encoder.module.train()
    encoder._chunk = 5
    batch = encoder.collate([table[i] for i in range(12)])
    assert len(batch["chunks"]) > 4
    found = gradients(encoder, batch, again=True)
    assert relative(found, gradients(encoder, batch, again=False)) <= 1e-6
    encoder.module.double()  # in float32 the rounding of other batches is beyond 1e-6 where vectors are much alike
    found = gradients(encoder, batch, again=True)
    encoder._chunk = 100
    whole = encoder.collate([table[i] for i in range(12)])
    assert (relative(found, gradients(encoder, whole, again=False)) <= 1e-6) == (dropout == 0)


def test_the_less_memory_is_free_the_fewer_inputs_are_held_and_the_draws_stay_what_they_were(monkeypatch):
    encoder = built(chunk="auto")
    table = dataset.MixtureDataset({"data": rows(4)}, {}, None)
    settings, found = Training(batch_size=64), []
    state = torch.get_rng_state()
    for free in (1 << 40, 1 << 26, 1 << 22, 1):
        monkeypatch.setattr(chunk_size, "free", lambda device, free=free: free)
        found.append(encoder._held(table, settings))
    assert found[0] == (chunk_size.MOST, False)
    assert found[-1] == (1, True)
    sizes = [size for size, again in found if again]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) > 1
    torch.testing.assert_close(torch.get_rng_state(), state)


def test_blocks_that_are_run_again_give_the_same_gradient():
    encoder = built()
    encoder.module.train()
    table = dataset.MixtureDataset({"data": rows(4)}, {}, None)
    batch = encoder.collate([table[i] for i in range(4)])
    plain = gradients(encoder, batch, again=False)
    encoder.vlm.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    for again in (False, True):
        assert relative(gradients(encoder, batch, again=again), plain) <= 1e-6


def test_several_sets_are_trained_on_together_under_instructions_of_their_own(tmp_path):
    for name in ("one", "two"):
        lines = [
            {"qry": f"{name} {i}", "pos_text": f"answer {i}", "neg_text": ["no", "never"][: i % 3]} for i in range(12)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = {
        "name": "two-sets",
        "encoder": {
            "family": "vlm2vec",
            "backbone": TINY,
            "sets": {"more": {"source": "file", "path": "two.jsonl"}},
            "mixture": {"data": {"query": "First:"}, "more": {"query": "Second:", "weight": 2}},
            "sub_batch": 4,
        },
        "data": {"source": "file", "path": "one.jsonl"},
        "training": {"max_steps": 2, "batch_size": 8},
    }
    made = recipe.loads(json.dumps(told), folder=tmp_path)
    encoder = zoo.train(made, tmp_path / "run")
    assert encoder.dim == 16
    assert set(json.loads((tmp_path / "run" / "lock.json").read_text())["data"]) == {"train", "more"}
    known = Encoder.build(made.encoder)
    table = dataset.MixtureDataset({"data": rows(2), "more": rows(2)}, made.encoder.mixture, 4)
    assert [cell.instruction for i in (0, 2) for cell in known._cells(table[i])] == ["First:", None, "Second:", None]
    told["training"]["batch_size"] = 6
    with pytest.raises(ZooError, match="must divide"):
        zoo.train(recipe.loads(json.dumps(told), folder=tmp_path), tmp_path / "other")


def test_a_step_moves_every_part_of_the_model():
    encoder = built(chunk=4)
    before = {name: tensor.clone() for name, tensor in encoder.module.state_dict().items()}
    encoder.prepare(rows(), None)
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        encoder.fit(rows(), Training(max_steps=2, batch_size=8, learning_rate=1e-3, warmup=0.0), Path(folder))
    after = encoder.module.state_dict()
    for part in ("vision_model", "connector", "text_model"):
        assert any((after[name] != before[name]).any() for name in after if name.startswith(part)), part


def test_what_is_right_twice_is_never_a_negative():
    queries, positives = torch.tensor([1, 1, 2, 3]), torch.tensor([10, 11, 12, 12, 10, 99])
    masked = infonce.false_negative_mask(queries, positives, torch.tensor([True, True, True, True, True, False]))
    assert masked.int().tolist() == [
        [0, 1, 0, 0, 1, 1],  # the other positive of the same query, its own positive once more, and what is missing
        [1, 0, 0, 0, 1, 1],
        [0, 0, 0, 1, 0, 1],
        [0, 0, 1, 0, 0, 1],
    ]
    draw = torch.Generator().manual_seed(0)
    a, b = torch.randn(4, 8, generator=draw), torch.randn(6, 8, generator=draw)
    kept = ~masked[0]
    cosine = torch.nn.functional.cosine_similarity(a[:1], b[kept]) / 0.1
    wanted = torch.logsumexp(cosine, 0) - cosine[0]
    one = infonce.infonce(a[:1], b, masked[:1], 0.1)
    torch.testing.assert_close(one, wanted)


@pytest.mark.parametrize("seed", range(3))
def test_what_is_masked_is_what_a_search_through_all_pairs_finds(seed):
    draw = torch.Generator().manual_seed(seed)
    queries, candidates = (torch.randint(0, 6, (size,), generator=draw) for size in (12, 30))
    present = torch.rand(30, generator=draw) < 0.8
    present[:12] = True
    found = infonce.false_negative_mask(queries, candidates, present)
    pairs = {(int(q), int(c)) for q, c in zip(queries, candidates[:12], strict=True)}
    for i in range(12):
        for j in range(30):
            right = (int(queries[i]), int(candidates[j])) in pairs
            assert found[i, j] == (i != j and (right or not present[j]))


def test_hard_negatives_are_candidates_and_rows_may_have_none():
    table = Dataset.from_list(
        [
            {"query": "red", "positive_image": held(picture("red")), "negative": ["blue", ""], "negative_image": None},
            {"query": "blue", "positive_image": held(picture("blue")), "negative": [], "negative_image": None},
        ]
    )
    encoder = built()
    one = dataset.MixtureDataset({"data": table}, {}, None)
    batch = encoder.collate([one[0], one[1]])
    assert (batch["cells"] >= 0).int().tolist() == [[1, 1], [1, 1], [1, 0]]
    assert torch.isfinite(encoder.loss(batch))


def test_sub_batches_hold_one_set_and_come_by_weight():
    tables = {"data": rows(40), "more": rows(40, 50)}
    both = dataset.MixtureDataset(tables, {"more": Share(weight=3)}, 8)
    picked = [[int(i >= 40) for i in epoch] for epoch in (both.order(1, e) for e in range(20))]
    blocks = [epoch[i : i + 8] for epoch in picked for i in range(0, 80, 8)]
    assert all(len(set(block)) == 1 for block in blocks)
    assert 0.6 < np.mean(blocks) < 0.9
    assert both.order(1, 0) == both.order(1, 0) != both.order(1, 1)
    assert both[45]["share"].weight == 3


def test_a_damaged_image_is_named_when_its_turn_comes(tmp_path):
    (tmp_path / "torn.png").write_bytes(encoded(picture("red"))[:60])
    (tmp_path / "rows.jsonl").write_text('{"query": "red", "positive_image": "torn.png"}\n')
    from zoo import data
    from zoo.data.spec import FileData

    table = data.read(FileData(source="file", path="rows.jsonl"), {}, dataset.ROLES, folder=tmp_path)
    encoder = built()
    with pytest.raises(DataError, match=r"data, row 1: positive: .*torn\.png is not an image"):
        encoder.collate([dataset.MixtureDataset({"data": table.rows}, {}, None)[0]])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "red.png").write_bytes(encoded(picture("red")))
    (tmp_path / "rows.jsonl").write_text(
        '{"qry": "red", "pos_image_path": "red.png", "neg_image_path": ["red.png", ""]}\n'
    )
    elsewhere = FileData(source="file", path="rows.jsonl", images="other")
    found = data.read(elsewhere, {}, dataset.ROLES, folder=tmp_path)
    assert [len(c.images) for c in dataset.cells(found.rows[0], None, None, ("data", 0))] == [0, 1, 1]
    assert found.fingerprint == data.read(elsewhere, {}, dataset.ROLES, folder=tmp_path).fingerprint
    (tmp_path / "rows.jsonl").write_text('{"query": "red", "positive_image": "gone.png"}\n')
    with pytest.raises(DataError, match=r"rows\.jsonl.*positive_image: is 'gone\.png'"):
        data.read(FileData(source="file", path="rows.jsonl"), {}, dataset.ROLES, folder=tmp_path)
    nothing = {"bytes": None, "path": None}
    some = [
        {"query": "red", "positive": None, "positive_image": held(picture("red"))},
        {"query": " ", "positive": "x", "positive_image": []},
        {"query": "red", "positive": "", "positive_image": [nothing]},
        {"query": "red", "positive": None, "positive_image": None},
        {"query": "red", "positive": None, "positive_image": [{"bytes": None, "path": "a.png"}]},
    ]
    with pytest.raises(DataError, match="data, row 2: query: neither text nor image$"):
        dataset.MixtureDataset({"data": Dataset.from_list(some)}, {}, None)
    with pytest.raises(DataError, match=r"data, row 2: positive: neither text nor image \(2 such rows\)"):
        dataset.MixtureDataset({"data": Dataset.from_list(some).select([4, 2, 0, 3])}, {}, None)
    with pytest.raises(DataError, match="column `query`"):
        dataset.MixtureDataset({"data": Dataset.from_dict({"positive": ["a"]})}, {}, None)


def test_it_learns_which_text_belongs_to_which_image(tmp_path):
    encoder = Encoder.build(Spec(family="vlm2vec", backbone=VLMSpec(**{**TINY, "hidden": 32}), temperature=0.1))
    table = rows(64)
    encoder.prepare(table, None)
    encoder.fit(table, Training(max_steps=60, batch_size=16, learning_rate=3e-3), tmp_path)
    texts = encoder.encode([f"a {name} square" for name in COLOURS])
    images = encoder.encode([picture(name, 500 + i) for i, name in enumerate(list(COLOURS) * 4)])
    assert ((images @ texts.T).argmax(1) == np.arange(16) % 4).mean() > 0.9


# -- artefact ----------------------------------------------------------------------------------------------------------


def test_stock_sentence_transformers_gives_the_same_vectors(tmp_path):
    encoder = built(instructions={"query": "Find what answers:"})
    encoder.prepare(rows(), None)
    encoder.module.eval()
    model = SentenceTransformer(str(model_folder.save(encoder, tmp_path / "model")), device="cpu")
    inputs = [
        "a red square",
        Image.fromarray(picture("red")),
        {"image": Image.fromarray(picture("blue")), "text": "what?"},
    ]
    np.testing.assert_allclose(model.encode(inputs), encoder.encode(inputs), atol=1e-6)
    asked = model.encode(inputs, prompt_name="query")
    np.testing.assert_allclose(asked, encoder.view(role="query").encode(inputs), atol=1e-6)
    np.testing.assert_array_equal(
        encoder.view(instruction="Find what answers:").encode(inputs), encoder.view(role="query").encode(inputs)
    )


# -- every architecture ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vlms")
    return {kind: tinyvlm.backbone(folder / kind, kind) for kind in tinyvlm.KINDS}


@pytest.mark.parametrize("kind", tinyvlm.KINDS)
def test_each_architecture_goes_through_training_and_a_folder_without_a_difference(pretrained, kind, tmp_path):
    spec = Spec(family="vlm2vec", backbone=VLMSpec(model=pretrained[kind]), chunk=3)
    encoder = Encoder.build(spec)
    assert encoder.vlm.architecture is ARCHITECTURES[kind]
    before = encoder.encode(INPUTS)
    encoder.fit(rows(8), Training(max_steps=2, batch_size=4, learning_rate=1e-3, warmup=0.0), tmp_path)
    again = zoo.from_pretrained(model_folder.save(encoder, tmp_path / "model"))
    np.testing.assert_array_equal(again.encode(INPUTS), encoder.encode(INPUTS))
    assert np.abs(encoder.encode(INPUTS) - before).max() > 1e-4
    alone = np.concatenate([again.encode([each]) for each in INPUTS])
    np.testing.assert_allclose(alone, again.encode(INPUTS), atol=1e-5)
    assert np.abs(again.encode([picture("red")]) - again.encode([picture("blue")])).max() > 1e-4
    assert again.backbone_name == encoder.backbone_name


SIZES = [(40, 30), (28, 28), (20, 64), (90, 31)]


@pytest.mark.parametrize("kind", tinyvlm.KINDS)
def test_an_image_is_worded_as_the_real_processor_words_it(pretrained, kind):
    """The processors of Qwen and SmolVLM cannot be made without torchvision; what they write for an image is asked of them all
    the same."""
    vlm = Encoder.build(Spec(family="vlm2vec", backbone=VLMSpec(model=pretrained[kind]))).vlm
    images = [Image.new("RGB", size, "red") for size in SIZES]
    told = {"return_row_col_info": True} if vlm.architecture.nested else {}
    made = vlm.image_processor([images] if vlm.architecture.nested else images, return_tensors="pt", **told)
    real = getattr(transformers, vlm.architecture.processor)
    if kind in ("idefics3", "llava", "llava_next"):
        self = real(vlm.image_processor, vlm.tokenizer, **vlm.architecture.told(vlm.config, vlm.image_processor))
    else:
        self = types.SimpleNamespace(
            image_processor=vlm.image_processor,
            image_token=vlm.architecture.image_token,
            image_seq_len=1,
            fake_image_token="<fake_token_around_image>",
            global_image_token="<global-img>",
        )
    around = ("<|vision_start|>", "<|vision_end|>") if kind.startswith("qwen") else ("", "")
    for i in range(len(images)):
        wanted = real.replace_image_token(self, made, i).join(around)
        assert vlm.architecture.tokens(made, i, vlm.config, vlm.image_processor) == wanted, SIZES[i]


@pytest.mark.parametrize("kind", ["llava", "llava_next"])
def test_stock_sentence_transformers_opens_other_architectures(pretrained, kind, tmp_path):
    encoder = Encoder.build(Spec(family="vlm2vec", backbone=VLMSpec(model=pretrained[kind])))
    model = SentenceTransformer(str(model_folder.save(encoder, tmp_path / "model")), device="cpu")
    inputs = [
        "a red square",
        Image.fromarray(picture("red")),
        {"image": Image.fromarray(picture("blue")), "text": "what?"},
    ]
    np.testing.assert_allclose(model.encode(inputs), encoder.encode(inputs), atol=1e-6)


# -- low-rank adapters -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("keep", "dora"), [("merged", False), ("adapter", False), ("adapter", True)])
def test_an_adapter_is_trained_alone_and_kept_merged_or_apart(pretrained, keep, dora, tmp_path):
    lora = Lora(rank=2, keep=keep, dora=dora)
    encoder = Encoder.build(Spec(family="vlm2vec", backbone=VLMSpec(model=pretrained["idefics3"]), lora=lora))
    trained = {name for name, parameter in encoder.module.named_parameters() if parameter.requires_grad}
    assert trained
    assert all(name.startswith("text_model.") and "lora_" in name for name in trained)
    before = {n: t.clone() for n, t in encoder.module.state_dict().items()}
    encoder.fit(rows(8), Training(max_steps=3, batch_size=4, learning_rate=1e-2, warmup=0.0), tmp_path)
    changed = {n for n, t in encoder.module.state_dict().items() if not torch.equal(t, before[n])}
    assert changed == trained
    apart = encoder.encode(INPUTS)
    encoder.finish(rows(8))
    np.testing.assert_allclose(encoder.encode(INPUTS), apart, atol=1e-6)
    model = model_folder.save(encoder, tmp_path / "model")
    again = zoo.from_pretrained(model)
    np.testing.assert_array_equal(again.encode(INPUTS), encoder.encode(INPUTS))
    assert (model / "model.safetensors").exists() == (keep == "merged")
    stock = SentenceTransformer(str(model if keep == "merged" else model / "adapter"), device="cpu")
    np.testing.assert_allclose(stock.encode(["a red square"]), encoder.encode(["a red square"]), atol=1e-6)


def test_the_recipe_in_the_readme_trains_on_ones_own_photos(pretrained, tmp_path):
    blocks = re.findall(r"```yaml\n(.*?)```", (Path(__file__).parents[3] / "README.md").read_text(), re.DOTALL)
    (text,) = (block for block in blocks if "family: vlm2vec" in block)
    for name in ("photos", "test"):
        lines = [f"a {colour} square,{name}-{colour}.png" for colour in COLOURS]
        (tmp_path / f"{name}.csv").write_text("\n".join(["caption,photo", *lines]))
        for i, colour in enumerate(COLOURS):
            (tmp_path / f"{name}-{colour}.png").write_bytes(encoded(picture(colour, i)))
    less = [f"encoder.backbone.model={pretrained['smolvlm']}", "training.max_steps=2", "training.batch_size=4"]
    encoder = zoo.train(recipe.loads(text, *less, folder=tmp_path), tmp_path / "run")
    assert encoder.encode(INPUTS).shape == (len(INPUTS), encoder.dim)
    (result,) = json.loads((tmp_path / "run" / "report.json").read_text())["results"]
    assert 0 <= result["value"] <= 1
    assert 0 <= result["baseline"] <= 1
    assert (tmp_path / "run" / "model" / "adapter" / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize("kind", tinyvlm.KINDS)
def test_adapters_are_put_into_the_language_model_unless_the_vision_tower_is_asked_for(pretrained, kind):
    def adapted(**more) -> set[str]:
        vlm = Encoder.build(
            Spec(family="vlm2vec", backbone=VLMSpec(model=pretrained[kind]), lora=Lora(rank=2, **more))
        ).vlm
        return {name.split(".lora_")[0] for name in vlm.model.state_dict() if ".lora_A" in name}

    language = f"{ARCHITECTURES[kind].language}."
    alone = adapted()
    assert len(alone) == 7
    assert all(name.startswith(language) for name in alone)
    modules = ("q_proj", "v_proj", "proj", "fc1")
    both = adapted(vision=True, modules=modules)
    assert any(name.startswith(language) for name in both)
    assert any(not name.startswith(language) for name in both)


def test_an_adapter_is_refused_on_another_base_and_where_it_does_not_fit(pretrained, tmp_path):
    base = tinyvlm.backbone(tmp_path / "base", "idefics3")
    encoder = Encoder.build(Spec(family="vlm2vec", backbone=VLMSpec(model=base), lora=Lora(rank=2, keep="adapter")))
    model = model_folder.save(encoder, tmp_path / "model")
    with pytest.raises(HubError, match="folder that others do not have"):
        hub.push(model, "me/adapter", dry_run=True)
    encoder.vlm.name, encoder.vlm.revision = "org/base", "0" * 40
    assert hub.push(model_folder.save(encoder, tmp_path / "public"), "me/adapter", dry_run=True).files
    tinyvlm.backbone(tmp_path / "base", "idefics3", seed=1)
    with pytest.raises(ArtefactError, match="any more"):
        zoo.from_pretrained(model)
    with pytest.raises(ZooError, match="no linear map"):
        Encoder.build(Spec(family="vlm2vec", backbone=VLMSpec(model=base), lora=Lora(modules=("query",))))


def test_what_is_not_installed_is_told_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ZooError, match=r"embedding-zoo\[lora\]"):
        Encoder.build(Spec(family="vlm2vec", backbone=VLMSpec(**TINY), lora=Lora()))
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ZooError, match=r"embedding-zoo\[image\]"):
        built()


def test_a_backbone_that_cannot_be_is_refused_before_it_is_read(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "qwen2_vlx"}')
    for model, why in ((str(tmp_path), "did you mean qwen2_vl"), ("./nowhere", "no such folder")):
        (found,) = Encoder.check(Spec(family="vlm2vec", backbone=VLMSpec(model=model)), tmp_path)
        assert why in found[1]
