"""VLM2Vec in training: exact gradients of large batches, the loss, and training sets."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from datasets import Dataset
from tiny_vlm2vec import COLOURS, TINY, build_encoder, draw_square, encode_png, make_image_value, make_rows

import zoo
from zoo import data
from zoo.core.errors import DataError, ZooError
from zoo.data.data_source import DataSource
from zoo.data.spec import FileData
from zoo.families.vlm2vec import chunk_size
from zoo.families.vlm2vec.dataset import MixtureDataset, read_row
from zoo.families.vlm2vec.encoder import Encoder
from zoo.families.vlm2vec.infonce import compute_infonce
from zoo.families.vlm2vec.spec import ROLES, Share, Spec, VLMSpec
from zoo.ops import gradcache
from zoo.ops.false_negatives import false_negative_mask
from zoo.recipe import recipe
from zoo.schema import Training


def collate_rows(encoder: Encoder, table: Dataset) -> dict:
    rows = MixtureDataset({"data": table}, {}, None)
    return encoder.collate([rows[i] for i in range(len(rows))])


def compute_gradients(encoder: Encoder, batch: dict, uses_gradcache: bool) -> list[torch.Tensor]:
    encoder.module.zero_grad()
    encoder._uses_gradcache = uses_gradcache
    torch.manual_seed(3)
    encoder.loss(batch).backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in encoder.module.parameters()]


def compute_relative_error(actual: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    actual_vector, expected_vector = (
        torch.cat([gradient.flatten().double() for gradient in gradients]) for gradients in (actual, expected)
    )
    return float((actual_vector - expected_vector).norm() / expected_vector.norm())


# -- GradCache ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_gradcache_gives_the_gradients_of_one_graph(dropout):
    encoder = build_encoder(dropout=dropout, instructions={"query": "Find:"})
    encoder.vlm.set_dropout(dropout)
    encoder.module.train()
    encoder._chunk_size = 5
    batch = collate_rows(encoder, make_rows(12))
    assert len(batch["chunks"]) > 4
    gradients = compute_gradients(encoder, batch, uses_gradcache=True)
    assert compute_relative_error(gradients, compute_gradients(encoder, batch, uses_gradcache=False)) <= 1e-6
    # In float32 the rounding of other chunks exceeds 1e-6, because the vectors are much alike.
    encoder.module.double()
    gradients = compute_gradients(encoder, batch, uses_gradcache=True)
    encoder._chunk_size = 100
    large_chunks = collate_rows(encoder, make_rows(12))
    error = compute_relative_error(gradients, compute_gradients(encoder, large_chunks, uses_gradcache=False))
    assert (error <= 1e-6) == (dropout == 0), "other chunks draw other dropout masks"


def test_gradcache_repeats_dropout_and_autocast_and_leaves_the_random_generator_alone():
    layer, unused = torch.nn.Linear(4, 4), torch.nn.Parameter(torch.ones(3))
    parameters = [*layer.parameters(), unused]
    chunks = [torch.randn(2, 4), torch.randn(3, 4)]
    outputs: list[torch.Tensor] = []

    def run(chunk: torch.Tensor) -> torch.Tensor:
        outputs.append(torch.nn.functional.dropout(layer(chunk), 0.5))
        return outputs[-1]

    with torch.autocast("cpu", dtype=torch.bfloat16):
        vectors = gradcache.run_chunks(run, chunks, parameters)
    state = torch.get_rng_state()
    vectors.float().sum().backward()
    first_runs, second_runs = outputs[:2], outputs[2:]
    for first, second in zip(first_runs, second_runs, strict=True):
        assert second.dtype == torch.bfloat16
        torch.testing.assert_close(second, first, atol=0, rtol=0)
    torch.testing.assert_close(torch.get_rng_state(), state)
    torch.testing.assert_close(unused.grad, torch.zeros(3))


def test_activations_are_measured_without_parameters_and_each_storage_once():
    weight = torch.nn.Parameter(torch.randn(16, 16))

    def run(rows: torch.Tensor) -> torch.Tensor:
        exponential = (rows @ weight).exp()  # backward needs rows, weight and the exponential
        return exponential.sin()  # backward needs the exponential again

    assert gradcache.measure_activation_bytes(run, torch.randn(8, 16)) == 8 * 16 * 4


def test_less_free_memory_gives_smaller_chunks_and_no_random_draw(monkeypatch):
    encoder = build_encoder(chunk="auto")
    rows = MixtureDataset({"data": make_rows(4)}, {}, None)
    settings = Training(batch_size=64)
    state = torch.get_rng_state()
    choices = []
    for free_memory in (1 << 40, 1 << 26, 1 << 22, 1):
        monkeypatch.setattr(chunk_size, "measure_free_memory", lambda device, value=free_memory: value)
        choices.append(encoder._choose_chunk_size(rows, settings))
    assert choices[0] == (chunk_size.MAX_CHUNK_SIZE, False)
    assert choices[-1] == (1, True)
    sizes = [size for size, uses_gradcache in choices if uses_gradcache]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) > 1
    torch.testing.assert_close(torch.get_rng_state(), state)


def test_gradient_checkpointing_gives_the_same_gradients():
    encoder = build_encoder()
    encoder.module.train()
    batch = collate_rows(encoder, make_rows(4))
    expected = compute_gradients(encoder, batch, uses_gradcache=False)
    encoder.vlm.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    for uses_gradcache in (False, True):
        gradients = compute_gradients(encoder, batch, uses_gradcache=uses_gradcache)
        assert compute_relative_error(gradients, expected) <= 1e-6


# -- the loss -----------------------------------------------------------------------------------------------------------


def test_false_negatives_and_missing_candidates_are_masked():
    queries, candidates = torch.tensor([1, 1, 2, 3]), torch.tensor([10, 11, 12, 12, 10, 99])
    mask = false_negative_mask(queries, candidates, torch.tensor([True, True, True, True, True, False]))
    assert mask.int().tolist() == [
        [0, 1, 0, 0, 1, 1],  # the positive of the equal query, its own positive once more, and the missing candidate
        [1, 0, 0, 0, 1, 1],
        [0, 0, 0, 1, 0, 1],
        [0, 0, 1, 0, 0, 1],
    ]


@pytest.mark.parametrize("seed", range(3))
def test_the_mask_agrees_with_a_search_through_all_pairs(seed):
    generator = torch.Generator().manual_seed(seed)
    queries, candidates = (torch.randint(0, 6, (size,), generator=generator) for size in (12, 30))
    present = torch.rand(30, generator=generator) < 0.8
    present[:12] = True
    mask = false_negative_mask(queries, candidates, present)
    right_pairs = {(int(query), int(positive)) for query, positive in zip(queries, candidates[:12], strict=True)}
    for i in range(12):
        for j in range(30):
            is_right = (int(queries[i]), int(candidates[j])) in right_pairs
            assert mask[i, j] == (i != j and (is_right or not present[j]))


def test_infonce_is_the_log_sum_over_unmasked_candidates_minus_the_positive():
    generator = torch.Generator().manual_seed(0)
    query, candidates = torch.randn(1, 8, generator=generator), torch.randn(6, 8, generator=generator)
    mask = torch.tensor([[False, True, False, False, True, True]])
    logits = torch.nn.functional.cosine_similarity(query, candidates[~mask[0]]) / 0.1
    expected = torch.logsumexp(logits, 0) - logits[0]
    torch.testing.assert_close(compute_infonce(query, candidates, mask, 0.1), expected)


def test_the_symmetric_loss_is_the_mean_of_both_directions():
    table = Dataset.from_list([{"query": f"query {i}", "positive": f"answer {i}"} for i in range(5)])
    encoder = build_encoder(temperature=0.1)
    encoder.module.eval()
    batch = collate_rows(encoder, table)
    with torch.no_grad():
        forward = encoder.loss(batch)
        backward = encoder.loss({**batch, **{key: batch[key].flip(0) for key in ("vector_index", "content_keys")}})
        encoder.spec = encoder.spec.model_copy(update={"symmetric": True})
        torch.testing.assert_close(encoder.loss(batch), (forward + backward) / 2)
    assert abs(float(forward - backward)) > 1e-6


def test_hard_negatives_are_candidates_and_rows_may_have_none():
    red, blue = (make_image_value(draw_square(name)) for name in ("red", "blue"))
    table = Dataset.from_list(
        [
            {"query": "red", "positive_image": red, "negative": ["blue", ""], "negative_image": None},
            {"query": "blue", "positive_image": blue, "negative": [], "negative_image": None},
        ]
    )
    encoder = build_encoder()
    batch = collate_rows(encoder, table)
    assert (batch["vector_index"] >= 0).int().tolist() == [[1, 1], [1, 1], [1, 0]]
    assert torch.isfinite(encoder.loss(batch))


# -- training sets ------------------------------------------------------------------------------------------------------


def test_sub_batches_hold_one_set_and_come_by_weight():
    tables = {"data": make_rows(40), "more": make_rows(40, 50)}
    rows = MixtureDataset(tables, {"more": Share(weight=3)}, 8)
    set_numbers = [[int(index >= 40) for index in rows.order(1, epoch)] for epoch in range(20)]
    sub_batches = [epoch[i : i + 8] for epoch in set_numbers for i in range(0, 80, 8)]
    assert all(len(set(sub_batch)) == 1 for sub_batch in sub_batches)
    assert 0.6 < np.mean(sub_batches) < 0.9
    assert rows.order(1, 0) == rows.order(1, 0) != rows.order(1, 1)
    assert rows[45]["share"].weight == 3


def test_no_row_of_a_set_comes_twice_before_all_others_came_once():
    rows = MixtureDataset({"data": make_rows(6), "more": make_rows(30, 50)}, {"data": Share(weight=5)}, 4)
    small_set = [index for index in rows.order(1, 0) if index < 6]
    assert len(small_set) > 12
    for start in range(0, len(small_set) - 5, 6):
        assert sorted(small_set[start : start + 6]) == list(range(6))


def test_several_sets_are_trained_together_each_under_its_own_instructions(tmp_path):
    for name in ("one", "two"):
        rows = [
            {"qry": f"{name} {i}", "pos_text": f"answer {i}", "neg_text": ["no", "never"][: i % 3]} for i in range(12)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sections = {
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
    loaded = recipe.loads(json.dumps(sections), folder=tmp_path)
    encoder = zoo.train(loaded, tmp_path / "run")
    assert encoder.dim == 16
    assert set(json.loads((tmp_path / "run" / "lock.json").read_text())["data"]) == {"train", "more"}
    untrained = Encoder.build(loaded.encoder)
    rows = MixtureDataset({"data": make_rows(2), "more": make_rows(2)}, loaded.encoder.mixture, 4)
    instructions = [lazy_input.instruction for i in (0, 2) for lazy_input in untrained._read_row(rows[i])]
    assert instructions == ["First:", None, "Second:", None]
    sections["training"]["batch_size"] = 6
    with pytest.raises(ZooError, match="sub_batch: 4 must divide training.batch_size, 6"):
        zoo.train(recipe.loads(json.dumps(sections), folder=tmp_path), tmp_path / "other")


def test_the_prompts_of_a_source_replace_the_instructions_of_the_encoder():
    encoder = build_encoder(instructions={"query": "All:", "document": "Doc:"})
    encoder.sources = {"one": DataSource("one", prompts={"query": "One:"}), "two": DataSource("two")}
    items = MixtureDataset({"one": make_rows(1), "two": make_rows(1)}, {}, None)
    instructions = [
        [lazy_input.instruction for lazy_input in encoder._read_row({**items[i], "source": name})]
        for i, name in enumerate(("one", "two"))
    ]
    assert instructions == [["One:", "Doc:"], ["All:", "Doc:"]]


def test_a_damaged_image_is_named_when_it_is_opened(tmp_path):
    (tmp_path / "torn.png").write_bytes(encode_png(draw_square("red"))[:60])
    (tmp_path / "rows.jsonl").write_text('{"query": "red", "positive_image": "torn.png"}\n')
    table = data.read(FileData(source="file", path="rows.jsonl"), {}, ROLES, folder=tmp_path)
    with pytest.raises(DataError, match=r"data, row 1: positive: .*torn\.png is not an image"):
        collate_rows(build_encoder(), table.rows)


def test_a_missing_image_file_is_named_when_the_data_is_read(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"query": "red", "positive_image": "gone.png"}\n')
    with pytest.raises(DataError, match=r"rows\.jsonl.*positive_image: is 'gone\.png'"):
        data.read(FileData(source="file", path="rows.jsonl"), {}, ROLES, folder=tmp_path)


def test_images_may_lie_in_another_folder_and_columns_may_have_the_names_of_mmeb(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "red.png").write_bytes(encode_png(draw_square("red")))
    row = {"qry": "red", "pos_image_path": "red.png", "neg_image_path": ["red.png", ""]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    section = FileData(source="file", path="rows.jsonl", images="other")
    table = data.read(section, {}, ROLES, folder=tmp_path)
    inputs = read_row(table.rows[0], None, None, ("data", 0))
    assert [len(lazy_input.images) for lazy_input in inputs] == [0, 1, 1]
    assert table.fingerprint == data.read(section, {}, ROLES, folder=tmp_path).fingerprint


def test_rows_with_an_empty_side_are_refused_before_training():
    red = make_image_value(draw_square("red"))
    rows = [
        {"query": "red", "positive": None, "positive_image": red},
        {"query": " ", "positive": "x", "positive_image": []},
        {"query": "red", "positive": "", "positive_image": [{"bytes": None, "path": None}]},
        {"query": "red", "positive": None, "positive_image": None},
        {"query": "red", "positive": None, "positive_image": [{"bytes": None, "path": "a.png"}]},
    ]
    table = Dataset.from_list(rows)
    with pytest.raises(DataError, match="data, row 2: query: neither text nor image$"):
        MixtureDataset({"data": table}, {}, None)
    with pytest.raises(DataError, match=r"data, row 2: positive: neither text nor image \(2 such rows\)"):
        MixtureDataset({"data": table.select([4, 2, 0, 3])}, {}, None)
    with pytest.raises(DataError, match="data: needs a column `query`"):
        MixtureDataset({"data": Dataset.from_dict({"positive": ["a"]})}, {}, None)


def test_texts_and_images_of_negatives_must_pair_up():
    row = {"query": "a", "positive": "b", "negative": ["c"], "negative_image": make_image_value(draw_square("red")) * 2}
    with pytest.raises(DataError, match="data, row 3: has 1 texts and 2 images of negatives"):
        read_row(row, None, None, ("data", 2))


def test_equal_inputs_have_equal_keys_and_others_do_not():
    red, blue = (make_image_value(draw_square(name)) for name in ("red", "blue"))

    def compute_key(text: str | None, image: list | None, instruction: str | None = None) -> int:
        row = {"query": text, "query_image": image, "positive": "x"}
        return read_row(row, instruction, None, ("data", 0))[0].content_key

    assert compute_key("a", red) == compute_key("a", red)
    keys = [compute_key("a", red), compute_key("a", blue), compute_key("b", red), compute_key("a", None)]
    keys += [compute_key(None, red), compute_key("a", red, "Find:")]
    assert len(set(keys)) == len(keys)
    assert all(0 <= key < 1 << 63 for key in keys), "keys fit into int64"


# -- training -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("freeze_vision", [False, True])
def test_a_step_changes_every_part_except_a_frozen_vision_tower(freeze_vision, tmp_path):
    encoder = build_encoder(chunk=4, freeze_vision=freeze_vision)
    encoder.prepare(make_rows(), None)
    before = {name: tensor.clone() for name, tensor in encoder.module.state_dict().items()}
    encoder.fit(make_rows(), Training(max_steps=2, batch_size=8, learning_rate=1e-3, warmup=0.0), tmp_path)
    after = encoder.module.state_dict()
    changed_parts = {name.split(".")[0] for name in after if (after[name] != before[name]).any()}
    frozen_parts = {"vision_model", "connector"} if freeze_vision else set()
    assert changed_parts == {"vision_model", "connector", "text_model"} - frozen_parts


def test_training_finds_which_text_belongs_to_which_image(tmp_path):
    encoder = Encoder.build(Spec(family="vlm2vec", backbone=VLMSpec(**{**TINY, "hidden": 32}), temperature=0.1))
    table = make_rows(64)
    encoder.prepare(table, None)
    encoder.fit(table, Training(max_steps=60, batch_size=16, learning_rate=3e-3), tmp_path)
    texts = encoder.encode([f"a {name} square" for name in COLOURS])
    images = encoder.encode([draw_square(name, 500 + i) for i, name in enumerate(list(COLOURS) * 4)])
    assert ((images @ texts.T).argmax(1) == np.arange(16) % 4).mean() > 0.9
