"""A pretrained model opens with its own weights or not at all: prefixes, missing tensors, shapes and dtypes."""

from __future__ import annotations

import contextlib
import json
import shutil
import warnings
from pathlib import Path

import pytest
import tiny
import tinyvlm
import torch
from safetensors.torch import load_file, save_file

from zoo.artefact import weight_names, weights_look
from zoo.artefact.headers import Entry
from zoo.core.errors import WeightsWarning, ZooError
from zoo.families.vlm2vec import checkpoint
from zoo.families.vlm2vec.spec import VLMSpec, find_backbone_problem
from zoo.text import architectures, weights_check
from zoo.text import backbone as text_backbone
from zoo.vision import pretrained
from zoo.vision.spec import Vision

MODALITIES = ("text", "image", "image-text")


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> Path:
    """Tiny pretrained models: a folder for each modality."""
    import transformers

    root = tmp_path_factory.mktemp("originals")
    tiny.backbone(root / "text")
    sizes = {"hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 8}
    torch.manual_seed(0)
    transformers.ViTModel(transformers.ViTConfig(**sizes, image_size=8, patch_size=4)).save_pretrained(root / "image")
    tinyvlm.write_backbone(root / "image-text", "idefics3")
    return root


@pytest.fixture(params=MODALITIES)
def case(request, originals, tmp_path):
    """A modality and a copy of its model."""
    return request.param, shutil.copytree(originals / request.param, tmp_path / "model")


def open_model(modality: str, folder: Path):
    """Open a pretrained model as its families do, and return the model of transformers."""
    if modality == "text":
        return text_backbone.load(str(folder)).model
    if modality == "image":
        return pretrained.build(Vision(model=str(folder))).module.body.model
    return checkpoint.load_pretrained(VLMSpec(model=str(folder)), Path()).model


def open_weights(modality: str, folder: Path) -> dict[str, torch.Tensor]:
    """Open a pretrained model as its families do, and return the tensors that it works with."""
    return dict(open_model(modality, folder).state_dict())


def find_problem(modality: str, folder: Path) -> str | None:
    """What `zoo check` says about the model."""
    if modality == "text":
        return weights_check.find_problem(str(folder), Path())
    if modality == "image":
        return Vision(model=str(folder)).find_problem(Path())
    return find_backbone_problem(VLMSpec(model=str(folder)), Path())


def change_weights(folder: Path, change) -> None:
    weights = {name: tensor.clone() for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(change(weights), folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "0.auto_model.", "model.", "module.model."])
def test_a_prefix_of_a_known_wrapper_is_removed_and_told(case, prefix):
    modality, folder = case
    expected = open_weights(modality, folder)
    change_weights(folder, lambda weights: {prefix + name: tensor for name, tensor in weights.items()})
    told = prefix
    if modality == "image-text" and prefix in ("model.", "module.model."):  # transformers itself removes `model.`
        told = prefix.removesuffix("model.")
    with pytest.warns(WeightsWarning, match=f"begin with `{told}`") if told else contextlib.nullcontext():
        weights = open_weights(modality, folder)
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in expected.items())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", WeightsWarning)
        assert find_problem(modality, folder) is None


def replace_norm_names(name: str) -> str:
    """The names of old checkpoints of BERT."""
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


@pytest.mark.filterwarnings("ignore::zoo.core.errors.WeightsWarning")
@pytest.mark.parametrize(
    "rename",
    [lambda name: f"module.{name}", lambda name: f"_orig_mod.{name}", replace_norm_names],
    ids=["module", "compiled", "gamma"],
)
def test_a_model_is_saved_under_its_own_names_and_not_under_those_that_were_read(case, rename, tmp_path):
    modality, folder = case
    open_model(modality, folder).save_pretrained(tmp_path / "usual")
    change_weights(folder, lambda weights: {rename(name): tensor for name, tensor in weights.items()})
    open_model(modality, folder).save_pretrained(tmp_path / "saved")
    usual, saved = (load_file(tmp_path / name / "model.safetensors") for name in ("usual", "saved"))
    assert saved.keys() == usual.keys()
    assert all(torch.equal(saved[name], tensor) for name, tensor in usual.items())


def test_an_unknown_prefix_is_an_error_that_names_tensors(case):
    modality, folder = case
    change_weights(folder, lambda weights: {f"wrapped.{name}": tensor for name, tensor in weights.items()})
    with pytest.raises(ZooError, match=r"lack \d+ tensors of the model .*weight"):
        open_weights(modality, folder)
    assert "wrapped" in find_problem(modality, folder)


def test_a_tensor_that_is_missing_is_named_by_opening_and_by_the_check(case):
    modality, folder = case
    names = load_file(folder / "model.safetensors")
    lists = {path: blocks for path, blocks in weights_look._list_blocks(names) if len(blocks) > 2}
    name = next((f"{path}.1.{min(blocks[1])}" for path, blocks in lists.items()), "text_model.norm.weight")
    change_weights(folder, lambda weights: {key: tensor for key, tensor in weights.items() if key != name})
    with pytest.raises(ZooError, match=r"lack 1 tensor of the model .*: .*\.(bias|weight); they hold") as caught:
        open_weights(modality, folder)
    assert modality == "image" or name in str(caught.value)  # transformers calls the tensors of a ViT by other names
    if lists:
        assert name in find_problem(modality, folder)


def test_a_pooler_may_be_missing_and_an_unexpected_tensor_is_told(case):
    modality, folder = case

    def change(weights):
        kept = {name: tensor for name, tensor in weights.items() if "pooler" not in name}
        return kept | {"cls.predictions.bias": torch.zeros(3)}

    change_weights(folder, change)
    with pytest.warns(WeightsWarning, match=r"1 tensor is not part of the model and ignored: cls\.predictions\.bias"):
        open_weights(modality, folder)
    assert find_problem(modality, folder) is None


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.float8_e4m3fn, torch.int64])
def test_weights_that_are_not_floats_are_refused_before_a_model_is_built(case, dtype, monkeypatch):
    modality, folder = case
    change_weights(folder, lambda weights: {name: tensor.to(dtype) for name, tensor in weights.items()})
    monkeypatch.setattr(torch.nn.Linear, "__init__", lambda *_, **__: pytest.fail("a model was built"))
    with pytest.raises(ZooError, match="dtype|is stored as"):
        open_weights(modality, folder)
    assert "dtype" in find_problem(modality, folder) or "stored as" in find_problem(modality, folder)


def test_half_precision_is_read(case):
    modality, folder = case
    change_weights(folder, lambda weights: {name: tensor.to(torch.bfloat16) for name, tensor in weights.items()})
    assert all(tensor.dtype == torch.float32 for tensor in open_weights(modality, folder).values())
    assert find_problem(modality, folder) is None


def test_a_tensor_of_another_shape_is_refused(case):
    modality, folder = case
    name = max(load_file(folder / "model.safetensors"), key=len)
    change_weights(folder, lambda weights: weights | {name: torch.zeros(5, 3)})
    with pytest.raises(ZooError, match="shape|size mismatch"):
        open_weights(modality, folder)


@pytest.mark.parametrize(
    "kind", ["bert", "roberta", "xlm-roberta", "camembert", "electra", "mpnet", "distilbert", "modernbert"]
)
def test_the_check_knows_the_tensors_of_every_text_architecture(kind):
    import transformers

    if kind in ("camembert", "electra"):
        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
        config = transformers.AutoConfig.for_model(kind, **sizes)
    else:
        config = tiny.make_config(kind, 2, 32)
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(config)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items() if "pooler" not in name}
    listed = architectures.list_tensors(config.to_dict())
    optional = {"layers.1.attn_norm.weight"} if kind == "modernbert" else set()
    if kind == "electra":
        optional |= {"embeddings_project.weight", "embeddings_project.bias"}
    assert listed == {name: shape for name, shape in shapes.items() if name not in optional}
    assert optional <= shapes.keys()
    assert architectures.get_depth_adapter(kind).prefix == f"{model.base_model_prefix}."


def test_the_prefix_of_a_task_head_and_old_names_are_those_of_the_model():
    expected = {"encoder.LayerNorm.weight": (2,), "encoder.dense.weight": (2, 2)}
    stored = {
        "bert.encoder.LayerNorm.gamma": Entry((2,), "F32"),
        "bert.encoder.dense.weight": Entry((2, 2), "F16"),
        "bert.embeddings.position_ids": Entry((1, 9), "I64"),
    }
    assert weight_names.check(Path("m"), stored, expected, "bert.") == weight_names.Names("", ())


def test_gaps_in_a_numbered_list_are_found_and_small_or_first_blocks_may_differ():
    def name_tensors(blocks):
        return [f"encoder.layer.{number}.{name}" for number in blocks for name in ("q", "k", "v", "o")]

    assert weights_look.find_gaps(name_tensors(range(4))) == []
    assert weights_look.find_gaps(name_tensors([0, 1, 3])) == ["encoder.layer.2"]
    assert weights_look.find_gaps(name_tensors(range(4))[1:]) == []
    assert weights_look.find_gaps(["mlp.0.weight", "mlp.2.weight"]) == []
    five = [f"layers.{number}.{name}" for number in range(3) for name in ("q", "k", "v", "o", "g")]
    assert weights_look.find_gaps([name for name in five if name != "layers.1.g"]) == ["layers.1.g"]


def test_integers_do_not_become_floats_in_a_model_folder(tmp_path):
    from zoo.artefact import tensors
    from zoo.core.errors import ArtefactError

    layer = torch.nn.Linear(2, 2)
    with pytest.raises(ArtefactError, match=r"tensor bias is stored as torch\.int32, not torch\.float32"):
        tensors.fill(layer, {"weight": torch.zeros(2, 2), "bias": torch.zeros(2, dtype=torch.int32)}, tmp_path)


def test_the_check_reads_weights_of_a_recipe(tmp_path):
    from zoo.core.errors import RecipeError
    from zoo.recipe import recipe

    tiny.backbone(tmp_path / "b")
    change_weights(tmp_path / "b", lambda weights: {f"x.{name}": tensor for name, tensor in weights.items()})
    (tmp_path / "t.csv").write_text("anchor,positive\na,b\n")
    (tmp_path / "c.csv").write_text("id,name\na,b\nc,d\n")
    text = "name: n\nencoder: {family: FAMILY, backbone: b}\ndata: {source: file, path: t.csv}\n"
    extra = {
        "matryoshka-2d": "loss: contrastive",
        "static": "dim: 8",
        "sesa": "concepts: {source: file, path: c.csv}",
        "equiangular": "",
        "lbl2vec": "labels: {a: [b], c: [d]}",
    }
    for family, fields in extra.items():
        section = text.replace("FAMILY, backbone: b", f"{family}, backbone: b, {fields}")
        with pytest.raises(RecipeError) as caught:
            recipe.loads(section, folder=tmp_path, file="r.yaml")
        assert any("encoder.backbone" in line and "the weights lack" in line for line in caught.value.problems), family


def test_shards_and_an_index_are_read_by_the_check(tmp_path):
    from zoo.artefact import tensors

    tiny.backbone(tmp_path / "b")
    tensors.split(tmp_path / "b", 1 << 14)
    assert not (tmp_path / "b" / "model.safetensors").exists()
    assert weights_check.find_problem("b", tmp_path) is None
    next((tmp_path / "b").glob("model-*.safetensors")).unlink()
    assert "has no model-" in weights_check.find_problem("b", tmp_path)
    assert json.loads((tmp_path / "b" / "model.safetensors.index.json").read_text())
