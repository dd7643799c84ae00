"""The runtime runs alone, refuses folders that were altered, and has the codes of zoo's steps."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import after_steps
import numpy as np
import pytest
import tiny
from safetensors.numpy import load_file, save_file

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import zoo
from zoo.after.material import Material
from zoo.artefact import manifest, model_folder
from zoo.cli.main import main
from zoo.families.matryoshka_2d.encoder import Encoder
from zoo.families.matryoshka_2d.spec import Spec
from zoo.runtime import PackError, codes, open_model

ROOT = Path(__file__).parents[2]
TEXTS = tiny.SENTENCES[:40]
ALLOWED_IMPORTS = {"numpy", "onnxruntime", "openvino", "tokenizers", *sys.stdlib_module_names}
ALONE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "zoo", "sentence_transformers", "safetensors", "scipy", "onnx"):
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())
import numpy as np
import zoo_runtime

model = zoo_runtime.open_model(sys.argv[1])
assert model.verify().is_same
np.save(sys.argv[2], model.encode(["the red dog", "a fever"]))
"""


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runtime")
    built = Encoder.build(Spec(family="matryoshka-2d", backbone=tiny.backbone(folder / "backbone")))
    built.name = "tiny"
    built.module.eval()
    built.attach_steps([after_steps.fit("int8", Material(built.encode(TEXTS)))])
    return built


@pytest.fixture(scope="module")
def packed(encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    model = model_folder.save(encoder, folder / "model")
    (model / "LICENSE").write_text("mine")
    assert main(["pack", str(model), str(folder / "out"), "--depths", "1,3"]) == 0
    return folder / "out"


@pytest.fixture
def copied(packed, tmp_path):
    import shutil

    return Path(shutil.copytree(packed, tmp_path / "copy"))


def test_a_folder_runs_without_torch_transformers_and_zoo(packed, encoder, tmp_path):
    command = [sys.executable, "-c", ALONE, str(packed), str(tmp_path / "v.npy")]
    environment = {"PYTHONPATH": str(ROOT / "runtime" / "src"), "OMP_NUM_THREADS": "1", "PATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert np.abs(np.load(tmp_path / "v.npy") - encoder.encode(["the red dog", "a fever"])).max() < 1e-5


def test_the_package_is_the_same_files_and_imports_nothing_else():
    assert (ROOT / "runtime" / "src" / "zoo_runtime").resolve() == (ROOT / "zoo" / "runtime").resolve()
    project = tomllib.loads((ROOT / "runtime" / "pyproject.toml").read_text())["project"]
    assert project["version"] == zoo.__version__
    for path in (ROOT / "zoo" / "runtime").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [str(node.module)]
            assert {name.split(".")[0] for name in names} <= ALLOWED_IMPORTS, path


def test_a_pack_has_depths_codes_licence_card_and_provenance(packed, encoder):
    model = open_model(packed)
    assert model.depths == (1, 3)
    assert (packed / "LICENSE").read_text() == "mine"
    source = model.description.source
    assert source["name"] == "tiny"
    assert len(source["manifest_sha256"]) == 64
    card = (packed / "README.md").read_text()
    assert "mean cosine 1.00000" in card
    assert "takes 1, 3 layers" in card
    code_rows = model.codes(TEXTS)
    assert (code_rows == encoder.codes(TEXTS)).mean() > 0.999, "values in the middle of two levels may fall to either"
    assert np.allclose(model.decode(code_rows), encoder.decode(code_rows))
    assert np.allclose(model.scores(TEXTS[:3], code_rows), encoder.scores(TEXTS[:3], code_rows), atol=1e-5)
    with pytest.raises(PackError, match="fitted on vectors of the whole model"):
        model.view(dim=8).codes(TEXTS)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("int8", {}),
        ("binary", {}),
        ("binary", {"rescore": "int8"}),
        ("binary", {"query": "signs"}),
        ("codes", {"bits": 2}),
        ("codes", {"bits": 2, "rounding": "nearest"}),
        ("codes", {"bits": 2, "norm": True, "symmetric": True}),
    ],
)
def test_codes_are_those_of_the_steps(name, fields):
    vectors = after_steps.draw_clustered(400)
    step = after_steps.fit(name, Material(vectors), **fields)
    mine = codes.open_step({"step": name, "fields": step.spec.model_dump(mode="json")}, step.tensors())
    packed = step.encode(vectors[:50])
    assert np.array_equal(mine.encode(vectors[:50]), packed)
    assert np.allclose(mine.decode(packed), step.decode(packed), atol=1e-6)
    queries = after_steps.draw_clustered(7, seed=5)
    assert np.allclose(mine.transform_queries(queries), step.transform_queries(queries), atol=1e-6)


def test_an_altered_graph_is_refused(copied):
    path = copied / "model.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(PackError, match=r"model\.onnx: was altered or damaged"):
        open_model(copied)


@pytest.mark.parametrize(
    ("name", "message"),
    [("extra.json", "the manifest does not list it"), ("code.py", "files of this kind"), ("model.pkl", "of this kind")],
)
def test_a_file_that_does_not_belong_there_is_refused(copied, name, message):
    (copied / name).write_text("{}")
    with pytest.raises(PackError, match=message):
        open_model(copied)


def test_a_link_and_a_folder_are_refused(copied, tmp_path):
    (copied / "LICENSE").unlink()
    (copied / "LICENSE").symlink_to(tmp_path / "secret")
    with pytest.raises(PackError, match="is not a plain file"):
        open_model(copied)
    (copied / "LICENSE").unlink()
    (copied / "a.json").mkdir()
    with pytest.raises(PackError, match="is not a plain file"):
        open_model(copied)
    (copied / "a.json").rmdir()
    (copied / "canaries" / "more.json").write_text("{}")
    with pytest.raises(PackError, match="files of this kind do not belong"):
        open_model(copied)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "runtime.json", "manifest.json"])
def test_a_missing_file_is_named(copied, name):
    (copied / name).unlink()
    with pytest.raises(PackError, match=name):
        open_model(copied)


@pytest.mark.parametrize(
    "change",
    [{"format": 2}, {"engine": "x"}, {"dim": -1}, {"unknown": 1}, {"graphs": []}, {"graphs": [{"file": "../x.onnx"}]}],
)
def test_a_malformed_description_is_refused(copied, change):
    path = copied / "runtime.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    manifest.write(copied)
    with pytest.raises(PackError, match=r"runtime\.json"):
        open_model(copied)


def test_another_space_is_found_by_the_canaries(copied, capsys):
    from zoo.runtime.__main__ import main as run

    assert run([str(copied)]) == 0
    assert capsys.readouterr().out.startswith("the same space: mean cosine 1.00000")
    path = copied / "canaries" / "vectors.safetensors"
    save_file({"vectors": np.roll(load_file(path)["vectors"], 1, axis=1)}, path)
    manifest.write(copied)
    assert run([str(copied)]) == 1
    assert capsys.readouterr().out.startswith("NOT the same space")
    assert run([str(copied / "nothing")]) == 1
    assert "there is no such folder" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"\xff" * 8, (10).to_bytes(8, "little") + b"{}", b"\x02" + b"\0" * 7 + b"[]"])
def test_a_damaged_safetensors_file_is_refused(content, tmp_path):
    from zoo.runtime import tensors

    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(PackError, match="is not a safetensors file"):
        tensors.read(path)


def test_a_safetensors_file_is_read_as_its_library_reads_it(tmp_path):
    from zoo.runtime import tensors

    arrays = {
        "a": np.arange(6, dtype=np.int64).reshape(2, 3),
        "b": np.float32([[1.5]]),
        "c": np.zeros((0, 4), np.uint8),
    }
    save_file(arrays, tmp_path / "x.safetensors")
    found = tensors.read(tmp_path / "x.safetensors")
    assert found.keys() == arrays.keys()
    assert all(np.array_equal(found[name], arrays[name]) for name in arrays)
    assert all(found[name].dtype == arrays[name].dtype for name in arrays)


def test_export_to_onnx_on_the_command_line(packed, tmp_path, capsys):
    model = packed.parent / "model"
    assert main(["export", str(model), str(tmp_path / "cut"), "--to", "onnx", "--layers", "2", "--dim", "8"]) == 0
    out = capsys.readouterr().out
    assert "100 inputs, beside the exact engine: mean cosine 1.00000" in out
    assert "zoo_runtime.open_model" in out
    assert open_model(tmp_path / "cut").encode(["a dog"]).shape == (1, 8)
    assert main(["pack", str(model), str(tmp_path / "cut")]) == 1
    assert "is there already" in capsys.readouterr().err
    assert main(["pack", str(model), str(tmp_path / "no"), "--depths", "9"]) == 1
    assert main(["export", str(model), str(tmp_path / "no"), "--int8"]) == 1
    assert "are for graphs: add --to onnx" in capsys.readouterr().err
