"""VLM2Vec: which inputs an encoder takes, how instructions and views act, and which recipes it refuses."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from contract import Contract
from PIL import Image
from pydantic import ValidationError
from tiny_vlm2vec import TINY, build_encoder, draw_square, encode_png, make_rows

from zoo.core.errors import DataWarning, ZooError
from zoo.families.vlm2vec import checkpoint, from_scratch, inference, mixed_inputs
from zoo.families.vlm2vec.encoder import Encoder
from zoo.families.vlm2vec.prompt_template import apply_template
from zoo.families.vlm2vec.spec import Lora, Spec, VLMSpec, find_backbone_problem
from zoo.schema import Training

INPUTS = [
    "a red square",
    draw_square("red", 90),
    {"image": draw_square("blue", 91), "text": "which colour is it?"},
    [draw_square("red", 92), "is like", draw_square("grey", 93)],
    "green",
    {"image": [draw_square("red", 94), draw_square("blue", 95)]},
    "a text that is longer than the others, so that they are padded",
]


def contract(folder) -> Contract:
    spec = Spec(
        family="vlm2vec", backbone=VLMSpec(**TINY), instructions={"document": "Represent the given image."}, dropout=0.1
    )
    training = Training(max_steps=6, batch_size=8, learning_rate=0.003, checkpoint_every=1000)
    return Contract(
        spec, make_rows(), training, INPUTS, {"role": "document"}, folder, spec.model_copy(update={"dropout": 0.0})
    )


@pytest.fixture(scope="module")
def untrained() -> Encoder:
    encoder = build_encoder()
    encoder.prepare(make_rows(), None)
    with torch.no_grad():  # with the initial weights, vectors hardly depend on the inputs
        for parameter in encoder.module.parameters():
            parameter.mul_(5 if parameter.ndim > 1 else 1)
    encoder.module.eval()
    return encoder


# -- inputs -------------------------------------------------------------------------------------------------------------


def test_the_same_image_has_the_same_vector_in_every_form(untrained, tmp_path):
    image = draw_square("red", 7)
    path = tmp_path / "red.png"
    path.write_bytes(encode_png(image))
    forms = [image, Image.fromarray(image), path, encode_png(image), {"image": str(path)}]
    vectors = untrained.encode(forms)
    np.testing.assert_array_equal(vectors, np.repeat(vectors[:1], len(forms), axis=0))


@pytest.mark.parametrize(
    ("parts", "instruction", "expected"),
    [
        (["a dog"], None, "a dog"),
        (["a dog"], "Find it:", "Find it: a dog\n"),
        (["#"], "Represent the given image.", "# Represent the given image.\n"),
        (["#", "who?"], "Answer.", "# Answer. who?\n"),
        (["is", "#", "like", "#"], None, "is # like #\n"),
        (["#", "#"], None, "# #\n"),
    ],
)
def test_the_template_puts_images_instruction_and_text_where_the_paper_has_them(parts, instruction, expected):
    image = object()
    pieces = apply_template([image if part == "#" else part for part in parts], instruction)
    assert "".join("#" if piece is None else piece for piece in pieces) == expected


def test_images_go_to_the_places_that_a_text_marks_for_them():
    red, blue = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    assert mixed_inputs.place_images("<|image_1|>\nwho?", [red]) == [red, "who?"]
    assert mixed_inputs.place_images("is <|image_2|> like <|image_1|>?", [red, blue]) == ["is", blue, "like", red, "?"]
    assert mixed_inputs.place_images("who? <|image_2|>", [red, blue]) == [red, "who?", blue]
    assert mixed_inputs.place_images("who?", [red, blue]) == [red, blue, "who?"]
    with pytest.raises(ZooError, match="has a place for image 2, but 1 images"):
        mixed_inputs.place_images("<|image_2|>", [red])


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("", "is empty: neither text nor image"),
        ({"text": "", "image": []}, "is empty: neither text nor image"),
        ({"text": "a", "video": 1}, "has video; a mapping may hold `text`, `image` or both"),
        ({"text": 7}, "has a `text` of type int"),
        (7, "expected an image"),
    ],
)
def test_a_wrong_input_is_reported_with_its_position(untrained, value, problem):
    with pytest.raises(ZooError, match=f"input 1 .*{problem}"):
        untrained.encode(["a", value])


@pytest.mark.parametrize("value", ["a", {"image": "a.png"}, Image.new("RGB", (4, 4)), b"GIF"])
def test_one_input_in_place_of_a_list_is_refused(untrained, value):
    with pytest.raises(ZooError, match="takes a list of inputs, not"):
        untrained.encode(value)


def test_a_text_cannot_pass_for_an_image(untrained):
    text = "a <image> and <fake_token_around_image><global-img> here"
    image = Image.new("RGB", (8, 8))
    image_token = untrained.vlm.tokenizer.convert_tokens_to_ids("<image>")
    counts = [
        int((untrained.vlm.prepare_batch([parts], [None])["input_ids"] == image_token).sum())
        for parts in ([text, image], [image])
    ]
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("in_list", [False, True])
def test_a_text_that_is_the_path_of_an_image_is_warned_of_once(untrained, tmp_path, monkeypatch, recwarn, in_list):
    monkeypatch.setattr(untrained.vlm, "warns_of_image_paths", True)
    path = tmp_path / "photo.PNG"
    path.write_bytes(encode_png(draw_square("red")))
    harmless = ["a car", "photo.png", f"{path} ", path, {"image": str(path)}, [path, "photo.png"]]
    untrained.encode(harmless)
    assert len(recwarn) == 0
    inputs = [*harmless, ["see", str(path)] if in_list else str(path), str(path)]
    vectors = untrained.encode(inputs)
    (warning,) = recwarn
    assert issubclass(warning.category, DataWarning)
    assert str(warning.message) == (
        f"input 6, {str(path)!r}, is encoded as a text, but an image file has this path; to encode the image, give "
        f'{{"image": {str(path)!r}}} or Path({str(path)!r})'
    )
    np.testing.assert_array_equal(untrained.encode(inputs), vectors)
    assert len(recwarn) == 1


def test_a_long_text_is_cut_at_its_end_and_its_images_stay(untrained):
    encoder = build_encoder()
    encoder.vlm.tokenizer, encoder.vlm.max_length = untrained.vlm.tokenizer, 4
    encoder.module.eval()
    text = "a red square that nobody has ever seen before"
    beginning = untrained.vlm.tokenizer.decode(untrained.vlm.tokenizer(text)["input_ids"][:4])
    assert len(beginning) < len(text)
    np.testing.assert_array_equal(encoder.encode([[text, INPUTS[1]]]), encoder.encode([[beginning, INPUTS[1]]]))
    assert np.abs(encoder.encode([[text, INPUTS[1]]]) - encoder.encode([beginning])).max() > 1e-4


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_either_side_does_not_change_a_vector(untrained, side):
    inputs = [mixed_inputs.split_into_parts(value) for value in INPUTS]
    vlm = untrained.vlm
    vlm.tokenizer.padding_side = side
    try:
        with torch.no_grad():
            together = vlm.compute_features(vlm.prepare_batch(inputs, [None] * len(inputs)))
            alone = torch.cat([vlm.compute_features(vlm.prepare_batch([parts], [None])) for parts in inputs])
    finally:
        vlm.tokenizer.padding_side = "right"
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_the_mask_of_pixels_is_not_kept_as_integers(untrained):
    batch = untrained.vlm.prepare_batch([[Image.new("RGB", (8, 8))]], [None])
    assert batch["pixel_attention_mask"].dtype == torch.bool


def test_chunks_hold_every_input_once_and_images_apart_from_texts():
    generator = np.random.default_rng(0)
    sizes = [(int(generator.integers(0, 3)), int(generator.integers(0, 100))) for _ in range(50)]
    chunks = inference.split_into_chunks(sizes, 8)
    assert sorted(index for chunk in chunks for index in chunk) == list(range(50))
    assert max(map(len, chunks)) == 8
    assert all(len({sizes[index][0] > 0 for index in chunk}) == 1 for chunk in chunks)
    text_lengths = [sizes[index][1] for chunk in chunks for index in chunk if sizes[index][0] == 0]
    assert text_lengths == sorted(text_lengths)


def test_vectors_that_are_not_finite_are_refused():
    encoder = build_encoder()
    with torch.no_grad():
        next(encoder.module.parameters()).fill_(torch.nan)
    with pytest.raises(ZooError, match="NaN or infinity"):
        encoder.encode([INPUTS[1]])


# -- instructions and views ---------------------------------------------------------------------------------------------


def test_the_order_of_images_and_the_instruction_change_the_vector(untrained):
    red, blue = draw_square("red", 1), draw_square("blue", 2)
    vectors = [
        *untrained.encode([[red, blue], [blue, red], ["x", red]]),
        untrained.view(instruction="Say:").encode([[red, blue]])[0],
    ]
    for i, vector in enumerate(vectors):
        assert all(np.abs(vector - other).max() > 1e-4 for other in vectors[:i])


def test_a_view_may_replace_the_instructions_of_queries_and_documents(untrained):
    encoder = build_encoder(instructions={"query": "Find:", "document": "Read:"})
    encoder.vlm = untrained.vlm
    inputs = [draw_square("red", 1), "a word"]
    view = encoder.view(query="Name:", document="Find:")
    for prompt_type, instruction in (("query", "Name:"), ("document", "Find:"), (None, None)):
        expected = untrained.view(instruction=instruction) if instruction else untrained
        np.testing.assert_array_equal(view.encode(inputs, prompt_type=prompt_type), expected.encode(inputs))
    query_view, document_view = encoder.view(query="Name:"), encoder.view(role="document")
    np.testing.assert_array_equal(
        query_view.encode(inputs, prompt_type="document"), document_view.encode(inputs), err_msg="the other role stays"
    )
    np.testing.assert_array_equal(
        encoder.view(query="").encode(inputs, prompt_type="query"),
        untrained.encode(inputs),
        err_msg='"" is no instruction',
    )


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"instruction": "x", "query": "y"}, "give `instruction` or `query`, not both"),
        ({"layers": 3}, "layers: the family vlm2vec has no such view option"),
        ({"role": "passage"}, "role: must be 'query' or 'document', not 'passage'"),
        ({"query": 3}, "query: must be a valid string, not 3"),
    ],
)
def test_a_wrong_view_is_refused(untrained, options, problem):
    with pytest.raises(ZooError, match=problem):
        untrained.view(**options)


# -- recipes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"backbone": {"build": "idefics3", "model": "org/name"}}, "either `build` or `model`, not both"),
        ({"backbone": {}}, "either `build` or `model`"),
        ({"backbone": {"build": "idefics3", "revision": "main"}}, "`revision` needs a `model`"),
        ({"backbone": {**TINY, "heads": 3}}, "hidden: 16 is not a multiple of 2 × heads, 6"),
        ({"backbone": {**TINY, "size": 30}}, "size: 30 is not a multiple of patch × merge, 14"),
        ({"mixture": {"more": {}}}, "mixture: there is no set 'more'; there are: data"),
        ({"sets": {"data": {"source": "file", "path": "a.csv"}}}, "sets: `data` is the name of the recipe's own data"),
        ({"lora": {"keep": "adapter"}}, "lora.keep: an adapter needs a published backbone"),
    ],
)
def test_a_section_that_contradicts_itself_is_refused(fields, problem):
    with pytest.raises(ValidationError, match=problem):
        Spec(**{"family": "vlm2vec", "backbone": TINY, **fields})


def test_an_unsupported_backbone_is_reported_without_opening_it(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "qwen2_vlx"}')
    for model, problem in ((str(tmp_path), "did you mean qwen2_vl"), ("./nowhere", "no such folder")):
        ((path, message),) = Spec(family="vlm2vec", backbone=VLMSpec(model=model)).find_mistakes(tmp_path)
        assert path == ("backbone",)
        assert problem in message
    assert find_backbone_problem(VLMSpec(model="org/name"), tmp_path) is None, "a model of the Hub is not looked up"


def test_a_missing_library_is_reported_with_its_extra_before_a_download(monkeypatch):
    def fetch(*_):
        pytest.fail("a model was downloaded")

    monkeypatch.setattr(checkpoint, "fetch", fetch)
    with monkeypatch.context() as context:
        context.setitem(sys.modules, "peft", None)
        with pytest.raises(ZooError, match=r"embedding-zoo\[lora\]"):
            Encoder.build(Spec(family="vlm2vec", backbone=VLMSpec(**TINY), lora=Lora()))
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ZooError, match=r"embedding-zoo\[image\]"):
        Encoder.build(Spec(family="vlm2vec", backbone=VLMSpec(model="org/name")))


def test_the_tokenizer_from_scratch_depends_on_its_texts_alone():
    texts = ["a red square", "a green square", "a blue circle"]
    vocabularies = [from_scratch.train_tokenizer(texts, 300).get_vocab() for _ in range(2)]
    assert vocabularies[0] == vocabularies[1]
    assert len(vocabularies[0]) <= 300
    assert from_scratch.train_tokenizer(["other words"], 300).get_vocab() != vocabularies[0]
