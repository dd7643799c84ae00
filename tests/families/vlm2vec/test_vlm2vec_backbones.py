"""VLM2Vec on every supported architecture: training, model folders, sentence-transformers, and LoRA adapters."""

from __future__ import annotations

import json
import re
import types
from pathlib import Path

import numpy as np
import pytest
import tinyvlm
import torch
import transformers
from PIL import Image
from sentence_transformers import SentenceTransformer
from test_vlm2vec import INPUTS
from tiny_vlm2vec import COLOURS, build_encoder, draw_square, encode_png, make_rows

import zoo
from zoo.artefact import manifest, model_folder
from zoo.core.errors import ArtefactError, HubError, ZooError
from zoo.families.vlm2vec.architectures import ARCHITECTURES, IMAGE_PROCESSORS, find_pillow_processor
from zoo.families.vlm2vec.encoder import Encoder
from zoo.families.vlm2vec.spec import Lora, Spec, VLMSpec
from zoo.hub import push as hub
from zoo.recipe import recipe
from zoo.schema import Training

PIL_INPUTS = [
    "a red square",
    Image.fromarray(draw_square("red")),
    {"image": Image.fromarray(draw_square("blue")), "text": "what?"},
]
"""Inputs in forms that sentence-transformers takes too."""
IMAGE_SIZES = [(40, 30), (28, 28), (20, 64), (90, 31)]


@pytest.fixture(scope="module")
def backbones(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("vlms")
    return {kind: tinyvlm.write_backbone(folder / kind, kind) for kind in tinyvlm.KINDS}


def build_on(backbone: str, **fields) -> Encoder:
    size = fields.pop("size", None)
    return Encoder.build(Spec(family="vlm2vec", backbone=VLMSpec(model=backbone, size=size), **fields))


# -- architectures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", tinyvlm.KINDS)
def test_each_architecture_trains_and_opens_again_with_the_same_vectors(backbones, kind, tmp_path):
    encoder = build_on(backbones[kind], chunk=3)
    assert encoder.vlm.architecture is ARCHITECTURES[kind]
    before = encoder.encode(INPUTS)
    encoder.fit(make_rows(8), Training(max_steps=2, batch_size=4, learning_rate=1e-3, warmup=0.0), tmp_path)
    reopened = zoo.from_pretrained(model_folder.save(encoder, tmp_path / "model"))
    vectors = reopened.encode(INPUTS)
    np.testing.assert_array_equal(vectors, encoder.encode(INPUTS))
    assert np.abs(vectors - before).max() > 1e-4, "training changes vectors"
    alone = np.concatenate([reopened.encode([value]) for value in INPUTS])
    np.testing.assert_allclose(alone, vectors, atol=1e-5)
    assert np.abs(reopened.encode([draw_square("red")]) - reopened.encode([draw_square("blue")])).max() > 1e-4
    assert reopened.backbone_name == encoder.backbone_name


@pytest.mark.parametrize("kind", tinyvlm.KINDS)
def test_an_image_gets_the_tokens_that_the_processor_of_transformers_writes(backbones, kind):
    """The processors of Qwen and SmolVLM need torchvision, so only the method that writes the tokens is called."""
    vlm = build_on(backbones[kind]).vlm
    architecture = vlm.architecture
    images = [Image.new("RGB", size, "red") for size in IMAGE_SIZES]
    if architecture.has_nested_images:
        output = vlm.image_processor([images], return_tensors="pt", return_row_col_info=True)
    else:
        output = vlm.image_processor(images, return_tensors="pt")
    processor_class = getattr(transformers, architecture.processor)
    if kind in ("idefics3", "llava", "llava_next"):
        config = architecture.compute_processor_config(vlm.config, vlm.image_processor)
        processor = processor_class(vlm.image_processor, vlm.tokenizer, **config)
    else:
        processor = types.SimpleNamespace(
            image_processor=vlm.image_processor,
            image_token=architecture.image_token,
            image_seq_len=1,
            fake_image_token="<fake_token_around_image>",
            global_image_token="<global-img>",
        )
    start, end = ("<|vision_start|>", "<|vision_end|>") if kind.startswith("qwen") else ("", "")
    for i, size in enumerate(IMAGE_SIZES):
        expected = start + processor_class.replace_image_token(processor, output, i) + end
        assert architecture.write_image_tokens(output, i, vlm.config, vlm.image_processor) == expected, size


def test_every_image_processor_has_a_version_that_needs_only_pillow():
    for name in IMAGE_PROCESSORS:
        for suffix in ("", "Fast", "Pil"):
            class_name = find_pillow_processor(f"{name}ImageProcessor{suffix}")
            assert class_name == f"{name}ImageProcessorPil"
            assert hasattr(transformers, class_name)
    with pytest.raises(ZooError, match="'FuyuImageProcessor' is not supported"):
        find_pillow_processor("FuyuImageProcessor")


@pytest.mark.parametrize("kind", ["idefics3", "smolvlm", "llava_next", "qwen2_vl"])
def test_a_lower_resolution_gives_fewer_tokens(backbones, kind):
    image = Image.new("RGB", (56, 56), "red")
    if kind == "llava_next":
        with pytest.raises(ZooError, match="size: every resolution of this architecture is larger than 28 pixels"):
            build_on(backbones[kind], size=28)
        return
    lengths = [
        build_on(backbones[kind], size=size).vlm.prepare_batch([[image]], [None])["input_ids"].shape[1]
        for size in (28, 56)
    ]
    assert lengths[0] < lengths[1]


def test_a_fixed_resolution_cannot_be_changed(backbones):
    assert build_on(backbones["llava"], size=28).dim == 32
    with pytest.raises(ZooError, match="size: this architecture reads images of 28 × 28 pixels only, not 56"):
        build_on(backbones["llava"], size=56)


# -- model folders ------------------------------------------------------------------------------------------------------


def test_sentence_transformers_gives_the_same_vectors_with_and_without_instruction(tmp_path):
    encoder = build_encoder(instructions={"query": "Find what answers:"})
    encoder.prepare(make_rows(), None)
    encoder.module.eval()
    model = SentenceTransformer(str(model_folder.save(encoder, tmp_path / "model")), device="cpu")
    np.testing.assert_allclose(model.encode(PIL_INPUTS), encoder.encode(PIL_INPUTS), atol=1e-6)
    query_vectors = encoder.view(role="query").encode(PIL_INPUTS)
    np.testing.assert_allclose(model.encode(PIL_INPUTS, prompt_name="query"), query_vectors, atol=1e-6)
    np.testing.assert_array_equal(encoder.view(instruction="Find what answers:").encode(PIL_INPUTS), query_vectors)


@pytest.mark.parametrize("kind", ["llava", "llava_next"])
def test_sentence_transformers_opens_other_architectures(backbones, kind, tmp_path):
    encoder = build_on(backbones[kind])
    model = SentenceTransformer(str(model_folder.save(encoder, tmp_path / "model")), device="cpu")
    np.testing.assert_allclose(model.encode(PIL_INPUTS), encoder.encode(PIL_INPUTS), atol=1e-6)


def test_a_model_whose_tokens_do_not_fit_its_images_is_refused_when_it_is_opened(tmp_path):
    model = model_folder.save(build_encoder(), tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"image_token_id": 5}))
    manifest.write(model)
    with pytest.raises(ArtefactError, match="cannot be opened"):
        zoo.from_pretrained(model)


# -- LoRA adapters ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("keep", "dora"), [("merged", False), ("adapter", False), ("adapter", True)])
def test_only_the_adapter_is_trained_and_a_folder_holds_it_merged_or_alone(backbones, keep, dora, tmp_path):
    encoder = build_on(backbones["idefics3"], lora=Lora(rank=2, keep=keep, dora=dora))
    trainable = {name for name, parameter in encoder.module.named_parameters() if parameter.requires_grad}
    assert trainable
    assert all(name.startswith("text_model.") and "lora_" in name for name in trainable)
    before = {name: tensor.clone() for name, tensor in encoder.module.state_dict().items()}
    encoder.fit(make_rows(8), Training(max_steps=3, batch_size=4, learning_rate=1e-2, warmup=0.0), tmp_path)
    changed = {name for name, tensor in encoder.module.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == trainable
    trained_vectors = encoder.encode(INPUTS)
    encoder.finish(make_rows(8))
    np.testing.assert_allclose(encoder.encode(INPUTS), trained_vectors, atol=1e-6)
    model = model_folder.save(encoder, tmp_path / "model")
    reopened = zoo.from_pretrained(model)
    np.testing.assert_array_equal(reopened.encode(INPUTS), encoder.encode(INPUTS))
    assert (model / "model.safetensors").exists() == (keep == "merged")
    stock = SentenceTransformer(str(model if keep == "merged" else model / "adapter"), device="cpu")
    np.testing.assert_allclose(stock.encode(["a red square"]), encoder.encode(["a red square"]), atol=1e-6)


def test_saving_before_finish_merges_the_adapter_without_changing_a_vector(backbones, tmp_path):
    encoder = build_on(backbones["idefics3"], lora=Lora(rank=2, keep="merged"))
    encoder.module.eval()
    untrained_vectors = encoder.encode(INPUTS)
    with torch.no_grad():
        for name, parameter in encoder.module.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.05)
    vectors = encoder.encode(INPUTS)
    assert np.abs(vectors - untrained_vectors).max() > 1e-4
    model = model_folder.save(encoder, tmp_path / "model")
    np.testing.assert_allclose(zoo.from_pretrained(model).encode(INPUTS), vectors, atol=1e-6)


@pytest.mark.parametrize("kind", tinyvlm.KINDS)
def test_the_language_model_alone_is_adapted_unless_the_recipe_adds_the_vision_tower(backbones, kind):
    def list_adapted_layers(**fields) -> set[str]:
        model = build_on(backbones[kind], lora=Lora(rank=2, **fields)).vlm.model
        return {name.split(".lora_")[0] for name in model.state_dict() if ".lora_A" in name}

    language_model = f"{ARCHITECTURES[kind].language_model}."
    default_layers = list_adapted_layers()
    assert len(default_layers) == 7
    assert all(name.startswith(language_model) for name in default_layers)
    layers = list_adapted_layers(vision=True, modules=("q_proj", "v_proj", "proj", "fc1"))
    assert any(name.startswith(language_model) for name in layers)
    assert any(not name.startswith(language_model) for name in layers)


def test_lora_modules_that_the_backbone_does_not_have_are_refused(backbones):
    with pytest.raises(ZooError, match="lora.modules: the backbone has no linear map called query"):
        build_on(backbones["idefics3"], lora=Lora(modules=("query",)))


def test_an_adapter_is_refused_on_another_version_of_its_backbone(tmp_path):
    backbone = tinyvlm.write_backbone(tmp_path / "backbone", "idefics3")
    model = model_folder.save(build_on(backbone, lora=Lora(rank=2, keep="adapter")), tmp_path / "model")
    tinyvlm.write_backbone(tmp_path / "backbone", "idefics3", seed=1)
    with pytest.raises(ArtefactError, match="trained on another version of its backbone"):
        zoo.from_pretrained(model)


def test_an_adapter_of_another_rank_is_refused(backbones, tmp_path):
    models = {
        rank: model_folder.save(
            build_on(backbones["idefics3"], lora=Lora(rank=rank, keep="adapter")), tmp_path / f"rank-{rank}"
        )
        for rank in (2, 4)
    }
    weights = Path("adapter") / "adapter_model.safetensors"
    (models[2] / weights).write_bytes((models[4] / weights).read_bytes())
    manifest.write(models[2])
    with pytest.raises(ArtefactError, match=r"the adapter does not fit its backbone: tensor .* has shape"):
        zoo.from_pretrained(models[2])


def test_an_adapter_is_published_only_if_others_can_get_its_backbone(backbones, tmp_path):
    encoder = build_on(backbones["idefics3"], lora=Lora(rank=2, keep="adapter"))
    with pytest.raises(HubError, match="folder that others do not have"):
        hub.push(model_folder.save(encoder, tmp_path / "local"), "me/adapter", dry_run=True)
    encoder.vlm.name, encoder.vlm.revision = "org/base", "0" * 40
    assert hub.push(model_folder.save(encoder, tmp_path / "public"), "me/adapter", dry_run=True).files


TEST_TASK = """
evaluation:
  - {task: any-retrieval, data: {source: file, path: test.csv, columns: {query: caption, document_image: photo}}}
"""


def test_the_recipe_in_the_guide_trains_on_photos_of_ones_own(backbones, tmp_path):
    guide = (Path(__file__).parents[3] / "docs" / "guides" / "vlm2vec.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)
    (text,) = (block for block in blocks if "backbone: {model: " in block)
    for name in ("photos", "test"):
        lines = [f"a {colour} square,{name}-{colour}.png" for colour in COLOURS]
        (tmp_path / f"{name}.csv").write_text("\n".join(["caption,photo", *lines]))
        for i, colour in enumerate(COLOURS):
            (tmp_path / f"{name}-{colour}.png").write_bytes(encode_png(draw_square(colour, i)))
    smolvlm = [f"encoder.backbone.model={backbones['smolvlm']}", "encoder.lora.keep=adapter"]
    overrides = [*smolvlm, "training.max_steps=2", "training.batch_size=4"]
    encoder = zoo.train(recipe.loads(text + TEST_TASK, *overrides, folder=tmp_path), tmp_path / "run")
    assert encoder.encode(INPUTS).shape == (len(INPUTS), encoder.dim)
    (result,) = json.loads((tmp_path / "run" / "report.json").read_text())["results"]
    assert 0 <= result["value"] <= 1
    assert 0 <= result["baseline"] <= 1
    assert (tmp_path / "run" / "model" / "adapter" / "adapter_model.safetensors").is_file()
