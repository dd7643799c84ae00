"""Each check of a model folder refuses what it promises to refuse, says why, and passes everything else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import golden
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from zoo.artefact import preflight, transformer_folder
from zoo.core.errors import ArtefactError

BERT = "encoder.layer", "num_hidden_layers"


def write_sparse(path, size: int) -> None:
    """Write a file of `size` bytes that takes no space on the disk."""
    with path.open("wb") as file:
        file.truncate(size)


@pytest.fixture
def matryoshka(tmp_path):
    """A copy of a small model folder that passes every check."""
    return shutil.copytree(golden.GOLDEN / "matryoshka-2d" / "model", tmp_path / "model")


def edit_json(path, **entries) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


# -- sizes and links ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("config.json", preflight.LIMIT),
        ("1_Pooling/config.json", preflight.LIMIT),
        ("README.md", preflight.LIMIT),
        ("recipe.yaml", preflight.LIMIT),
        ("chat_template.jinja", preflight.LIMIT),
        ("model.safetensors.index.json", 64 * preflight.MIB),
        ("vocabulary.json", 5 * preflight.MIB),
        *preflight.LARGE.items(),
    ],
)
def test_a_text_file_of_the_largest_size_passes_and_a_larger_one_is_refused(tmp_path, name, limit):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    text_files = {"vocabulary.json": 5 * preflight.MIB}  # as a family declares them
    write_sparse(tmp_path / name, limit)
    preflight.check_sizes(tmp_path, text_files)
    write_sparse(tmp_path / name, limit + 1)
    with pytest.raises(ArtefactError, match=f"{limit + 1} bytes are more than such a file can need"):
        preflight.check_sizes(tmp_path, text_files)


def test_before_the_family_is_known_only_files_that_are_read_by_then_have_the_small_limit(tmp_path):
    write_sparse(tmp_path / "vocabulary.json", preflight.LARGEST)
    write_sparse(tmp_path / "config.json", preflight.LIMIT)
    preflight.check_sizes(tmp_path)
    write_sparse(tmp_path / "vocabulary.json", preflight.LARGEST + 1)
    with pytest.raises(ArtefactError, match=r"vocabulary\.json"):
        preflight.check_sizes(tmp_path)
    (tmp_path / "vocabulary.json").unlink()
    write_sparse(tmp_path / "config.json", preflight.LIMIT + 1)
    with pytest.raises(ArtefactError, match=r"config\.json"):
        preflight.check_sizes(tmp_path)


def test_weights_may_have_any_size(tmp_path):
    write_sparse(tmp_path / "model.safetensors", 300 * preflight.MIB)
    preflight.check_sizes(tmp_path)


def test_a_broken_link_is_refused(tmp_path):
    (tmp_path / "config.json").symlink_to(tmp_path / "missing.json")
    with pytest.raises(ArtefactError, match="is not a regular file"):
        preflight.check_sizes(tmp_path)


def test_links_inside_the_folder_pass_and_links_to_other_places_are_refused(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "a.json").write_text("{}")
    (folder / "b.json").symlink_to("a.json")
    preflight.check_links(folder)
    (tmp_path / "outside.json").write_text("{}")
    (folder / "c.json").symlink_to("../outside.json")
    with pytest.raises(ArtefactError, match=r"c\.json: is a link that leaves the folder"):
        preflight.check_links(folder)


def test_a_snapshot_of_the_hubs_cache_may_link_only_into_its_own_store(tmp_path):
    snapshot, blobs = tmp_path / "models--me--tiny" / "snapshots" / "c0ffee", tmp_path / "models--me--tiny" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "1234").write_text("{}")
    (snapshot / "config.json").symlink_to("../../blobs/1234")
    preflight.check_links(snapshot)
    other_store = tmp_path / "models--me--other" / "blobs"
    other_store.mkdir(parents=True)
    (other_store / "1234").write_text("{}")
    (snapshot / "more.json").symlink_to(other_store / "1234")
    with pytest.raises(ArtefactError, match=r"more\.json: is a link that leaves the folder"):
        preflight.check_links(snapshot)


# -- JSON and modules --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", '{"auto_map": {}}', "auto_map"),
        ("1_Pooling/config.json", '{"auto_map": {}}', "auto_map"),
        ("config.json", "[" * 100_000, "cannot be read as JSON"),
        ("modules.json", "{}", "is not a list"),
        ("modules.json", '[{"type": "subprocess.Popen"}]', "the module 'subprocess.Popen' is not supported"),
        ("modules.json", '[{"type": "evil.Transformer"}]', "the module 'evil.Transformer' is not supported"),
        ("modules.json", '[{"type": "sentence_transformers.models.CNN"}]', "is not supported"),
        ("modules.json", "[1]", "the module '' is not supported"),
        (
            "modules.json",
            '[{"type": "sentence_transformers.models.Pooling", "path": "../other"}]',
            "'../other' leaves the folder",
        ),
        ("model.safetensors", "x" * 100, "cannot be read as safetensors"),
    ],
)
def test_a_file_that_must_not_be_opened_is_named_with_the_reason(matryoshka, name, content, message):
    preflight.check(matryoshka)
    (matryoshka / name).write_text(content)
    with pytest.raises(ArtefactError, match=f"/{name}: .*{message}"):
        preflight.check(matryoshka)


def test_modules_of_every_version_of_sentence_transformers_pass(tmp_path):
    for path in ("sentence_transformers.models", "sentence_transformers.sentence_transformer.modules.pooling"):
        (tmp_path / "modules.json").write_text(json.dumps([{"type": f"{path}.Pooling"}]))
        preflight.check(tmp_path)


def test_the_model_type_is_found_beside_modules_json_or_in_the_transformers_own_folder(matryoshka, tmp_path):
    assert (
        transformer_folder.read_model_type(matryoshka)
        == json.loads((matryoshka / "config.json").read_text())["model_type"]
    )
    old_model = tmp_path / "old"
    (old_model / "0_Transformer").mkdir(parents=True)
    module = {"type": "sentence_transformers.models.Transformer", "path": "0_Transformer"}
    (old_model / "modules.json").write_text(json.dumps([module]))
    (old_model / "0_Transformer" / "config.json").write_text('{"model_type": "roberta"}')
    assert transformer_folder.read_model_type(old_model) == "roberta"
    (old_model / "0_Transformer" / "config.json").write_text("{}")
    with pytest.raises(ArtefactError, match="has no `model_type`"):
        transformer_folder.read_model_type(old_model)
    (old_model / "modules.json").write_text(json.dumps([{**module, "path": "../model"}]))
    with pytest.raises(ArtefactError, match="'../model' leaves the folder"):
        transformer_folder.read_model_type(old_model)


# -- configs and weights -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "entries", "message"),
    [
        ("config.json", {"num_hidden_layers": 4}, r"num_hidden_layers: 4, but the weights hold \d"),
        ("config.json", {"hidden_size": 10**12}, "hidden_size: 1000000000000 is beyond every model"),
        ("config.json", {"vocab_size": 5_000_000}, r"describes \d+ numbers, but the weights hold"),
        ("config.json", {"hidden_act": "unheard-of"}, "no model can be made of it"),
        ("1_Pooling/config.json", {"embedding_dimension": 7, "word_embedding_dimension": 7}, "pools 7 components"),
        ("2_Dense/config.json", {"in_features": 7}, r"describes a matrix of shape \(\d+, 7\)"),
    ],
)
def test_a_config_that_does_not_fit_its_weights_is_refused_with_the_reason(matryoshka, name, entries, message):
    transformer_folder.check(matryoshka, *BERT)
    edit_json(matryoshka / name, **entries)
    with pytest.raises(ArtefactError, match=f"/{name}: .*{message}"):
        transformer_folder.check(matryoshka, *BERT)


@pytest.mark.parametrize("name", ["word_embedding_dimension", "embedding_dimension"])
def test_a_pooling_names_its_width_by_either_entry_or_not_at_all(matryoshka, name):
    path = matryoshka / "1_Pooling" / "config.json"
    width = json.loads((matryoshka / "config.json").read_text())["hidden_size"]
    for entries in ({}, {name: width}):
        path.write_text(json.dumps({"pooling_mode": "mean", **entries}))
        transformer_folder.check(matryoshka, *BERT)
    path.write_text(json.dumps({"pooling_mode": "mean", name: width + 1}))
    with pytest.raises(ArtefactError, match=f"pools {width + 1} components, but the model has {width}"):
        transformer_folder.check(matryoshka, *BERT)


def test_a_checkpoint_may_lack_a_pooler_but_no_other_tensor_and_not_half_of_the_model(matryoshka):
    weights = load_file(matryoshka / "model.safetensors")
    without_pooler = {name: tensor for name, tensor in weights.items() if not name.startswith("pooler.")}
    assert without_pooler.keys() < weights.keys()
    save_file(without_pooler, matryoshka / "model.safetensors")
    transformer_folder.check(matryoshka, *BERT)
    del without_pooler["embeddings.LayerNorm.bias"]
    save_file(without_pooler, matryoshka / "model.safetensors")
    with pytest.raises(ArtefactError, match=r"lack 1 tensor of the model .*: embeddings\.LayerNorm\.bias; they hold"):
        transformer_folder.check(matryoshka, *BERT)
    save_file(weights, matryoshka / "model.safetensors")
    stored = sum(tensor.size for tensor in weights.values())
    config = json.loads((matryoshka / "config.json").read_text())
    edit_json(matryoshka / "config.json", vocab_size=config["vocab_size"] + int(1.2 * stored / config["hidden_size"]))
    with pytest.raises(ArtefactError, match=r"describes \d+ numbers, but the weights hold"):
        transformer_folder.check(matryoshka, *BERT)


def test_a_folder_without_weights_is_refused(matryoshka):
    (matryoshka / "model.safetensors").unlink()
    with pytest.raises(ArtefactError, match=r"has no model\.safetensors"):
        transformer_folder.check(matryoshka, *BERT)


def test_integers_have_limits_by_their_meaning(tmp_path):
    def check(config, max_layers=None):
        preflight.check_integers(tmp_path / "config.json", config, max_layers)

    check({"hidden_size": preflight.INTEGER, "num_labels": preflight.LABELS, "scale": 1e30, "tied": True})
    check({"zoo": {"dim": 10**12}})
    check({"num_hidden_layers": 12, "hidden_size": 768, "depths": [2, 12]}, max_layers=12)
    for config, max_layers in (
        ({"hidden_size": preflight.INTEGER + 1}, None),
        ({"hidden_size": -preflight.INTEGER - 1}, None),
        ({"num_labels": preflight.LABELS + 1}, None),
        ({"text_config": {"sizes": [[1, 10**12]]}}, None),
        ({"num_hidden_layers": 13}, 12),
        ({"depths": [2, 13]}, 12),
    ):
        with pytest.raises(ArtefactError, match="is beyond every model"):
            check(config, max_layers)


def test_integers_come_with_the_nearest_name_above_them():
    config = {"a": 1, "b": {"c": [2, [3]], "d": True, "e": 4.0, "f": "5"}}
    assert list(preflight.find_integers(config)) == [("a", 1), ("c", 2), ("c", 3)]
    assert list(preflight.find_integers([1])) == [("", 1)]


def test_shapes_of_one_file_or_of_shards_must_be_exactly_the_expected_ones(tmp_path):
    save_file({"a": np.zeros((2, 3), np.float32)}, tmp_path / "model-00001-of-00002.safetensors")
    save_file({"b": np.zeros(4, np.float16)}, tmp_path / "model-00002-of-00002.safetensors")
    shapes = {"a": (2, 3), "b": (4,)}
    preflight.check_shapes(tmp_path, shapes)
    for expected, message in (
        ({"a": (2, 3)}, "extra tensor b"),
        ({**shapes, "c": (1,)}, "missing tensor c"),
        ({**shapes, "a": (3, 2)}, r"tensor a has shape \(2, 3\), not \(3, 2\)"),
    ):
        with pytest.raises(ArtefactError, match=f"weights do not fit config.json: {message}"):
            preflight.check_shapes(tmp_path, expected)


@pytest.mark.parametrize("settings", [None, {}, {"epochs": preflight.EPOCHS, "learning_rate": 0.05, "seed": 2**32 - 1}])
def test_settings_of_a_training_are_returned(tmp_path, settings):
    assert preflight.check_training_settings(tmp_path, settings) == (settings or {})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([1], "are not numbers"),
        ({"epochs": "many"}, "are not numbers"),
        ({"epochs": True}, "are not numbers"),
        ({"seed": -1}, "are not numbers"),
        ({"seed": 2**32}, "are not numbers"),
        ({"learning_rate": float("nan")}, "are not numbers"),
        ({"epochs": float("inf")}, "are not numbers"),
        ({"epochs": preflight.EPOCHS + 1}, "epochs: 10001 are beyond every training"),
    ],
)
def test_settings_that_no_training_has_are_refused(tmp_path, settings, message):
    with pytest.raises(ArtefactError, match=message):
        preflight.check_training_settings(tmp_path, settings)


def test_the_checks_are_imported_without_torch_and_without_any_family():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from zoo.artefact import allowed_files, manifest, preflight, tensors\n"
        "print([name for name in sys.modules if name.startswith(('zoo.families', 'zoo.encoder', 'transformers'))])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"


@pytest.mark.parametrize("place", ["", "text_config"])
def test_a_tokenizer_is_checked_against_the_embeddings_that_the_config_beside_it_names(matryoshka, place):
    config = json.loads((matryoshka / "config.json").read_text())
    config["vocab_size"] = 3
    if place:
        config = {"vocab_size": None, place: {"vocab_size": 3}}
    (matryoshka / "config.json").write_text(json.dumps(config))
    with pytest.raises(ArtefactError, match=r"tokenizer\.json: its .* has the id \d+, but ids must be from 0 to 2"):
        preflight.check(matryoshka)
    (matryoshka / "config.json").unlink()
    preflight.check(matryoshka)


def test_only_the_zoo_section_of_the_folders_own_config_may_name_anything(matryoshka):
    entry = {"zoo": {"auto_map": {"AutoModel": "a"}}}
    edit_json(matryoshka / "config.json", **entry)
    preflight.check(matryoshka)
    (matryoshka / "vocab.json").write_text('{"auto_map": 1, "a": 2, "a": 3}')  # the words of a vocabulary
    preflight.check(matryoshka)
    edit_json(matryoshka / "1_Pooling" / "config.json", **entry)
    with pytest.raises(ArtefactError, match=r"1_Pooling/config\.json: auto_map: asks for code of its own"):
        preflight.check(matryoshka)


def test_a_size_cannot_be_negative_but_another_integer_can(tmp_path):
    preflight.check_integers(tmp_path / "config.json", {"offset": -3})
    with pytest.raises(ArtefactError, match="hidden_size: -3 is a size, so it cannot be negative"):
        preflight.check_integers(tmp_path / "config.json", {"a": [{"hidden_size": -3}]})
