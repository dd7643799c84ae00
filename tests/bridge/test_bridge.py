"""Bridges: a rotated space is joined exactly, other encoders are refused, and figures are those of texts held out."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import zoo
from zoo.bridge import bridge_file, fitting, maps, recall
from zoo.bridge.bridge import Bridge
from zoo.cli.main import main
from zoo.core.errors import ArtefactError, ZooError
from zoo.ops import exact_search

COUNT, DIM = 600, 24
WORDS = ("river", "stone", "cloud", "lamp", "paper", "garden", "engine", "window", "bread", "silver", "winter", "music")


def make_space(seed=0, count=COUNT, dim=DIM):
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((dim, dim)) / np.arange(1, dim + 1)[:, None] ** 0.5
    return recall.normalise(rng.standard_normal((count, dim)) @ mixing + 0.3)


def rotate(vectors, seed=1, scale=2.5, shift=0.2):
    """The same space after a rotation, a scale and a shift."""
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.standard_normal((vectors.shape[1], vectors.shape[1])))
    return (scale * vectors @ rotation + shift * rng.standard_normal(vectors.shape[1])).astype(np.float32)


def bend(vectors, seed=2, width=32):
    """A space of another width that no linear map reaches."""
    rng = np.random.default_rng(seed)
    hidden = vectors @ rng.standard_normal((vectors.shape[1], width)) * 1.5
    return recall.normalise(hidden + np.abs(hidden))


@pytest.fixture(scope="module")
def spaces():
    old = make_space()
    return old, rotate(old)


@pytest.fixture(scope="module")
def bridge(spaces):
    return Bridge.fit_vectors(*spaces, seed=3)


# -- maps ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["orthogonal", "ridge", "relative", "mlp"])
def test_every_kind_undoes_a_rotation_with_scale_and_shift(spaces, kind):
    old, new = spaces
    mapped = maps.FITS[kind](new[:500], old[:500], 0).apply(new[500:])
    cosines = (recall.normalise(mapped) * old[500:]).sum(1)
    assert cosines.min() > (0.999 if kind in ("orthogonal", "ridge") else 0.98)


def test_an_orthogonal_map_is_exact_and_has_orthonormal_axes(spaces):
    old, new = spaces
    mapping = maps.fit_orthogonal(new[:500], old[:500])
    np.testing.assert_allclose(mapping.apply(new), old, atol=1e-5)
    square = mapping.weight @ mapping.weight.T
    np.testing.assert_allclose(square / square[0, 0], np.eye(DIM), atol=1e-5)


@pytest.mark.parametrize("width", [16, 32])
def test_an_orthogonal_map_between_widths_is_that_of_a_singular_value_decomposition(width):
    rng = np.random.default_rng(0)
    source, target = (rng.standard_normal((200, d)).astype(np.float32) for d in (DIM, width))
    left, right = source - source.mean(0), target - target.mean(0)
    first, _, second = np.linalg.svd(left.T @ right, full_matrices=False)
    weight = maps.fit_orthogonal(source, target).weight
    expected = first @ second
    np.testing.assert_allclose(weight / np.linalg.norm(weight), expected / np.linalg.norm(expected), atol=1e-5)


def test_a_network_reaches_what_a_line_does_not():
    old = make_space(count=2000)
    new = bend(old)
    split = fitting.split_texts(len(old), 0)
    kept = {
        kind: fitting.fit_map(old, new, split, kind, 0, lambda line: None).neighbours.mean for kind in ("ridge", "mlp")
    }
    assert kept["mlp"] > kept["ridge"]


def test_maps_are_the_same_for_the_same_seed(spaces):
    import torch

    first, second = (maps.fit_mlp(spaces[1], spaces[0], 4).tensors() for _ in range(2))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    maps.fit_mlp(spaces[1][:200], spaces[0][:200], 4)
    assert torch.equal(torch.rand(2), expected)


# -- figures -------------------------------------------------------------------------------------------------------------


def test_a_rotated_space_keeps_everything_in_both_directions(bridge, spaces):
    old, new = spaces
    for to in ("to_old", "to_new"):
        assert bridge.facts[to]["itself"]["mean"] == 1
    assert bridge.facts["to_old"]["neighbours"]["mean"] > 0.99
    assert bridge.facts["to_old"]["kind"] == "orthogonal"  # the simplest of those that keep everything
    _, ids = exact_search.search(bridge.map_queries(new), old, 1)
    np.testing.assert_array_equal(ids[:, 0], np.arange(COUNT))


def test_random_vectors_keep_nothing():
    old, new = make_space(0), make_space(9)
    facts = Bridge.fit_vectors(old, new, kind="ridge").facts["to_old"]
    assert facts["neighbours"]["mean"] < 0.1
    assert facts["itself"]["mean"] < 0.15


def test_figures_are_those_of_texts_to_which_nothing_was_fitted(spaces):
    split = fitting.split_texts(COUNT, 5)
    numbers = [split.fitted, split.chosen, split.measured]
    assert sorted(np.concatenate(numbers)) == list(range(COUNT))
    old, new = spaces
    broken = old.copy()
    broken[split.measured] = make_space(7)[split.measured]  # only the texts of the figures no longer fit
    kept = fitting.fit_map(new, broken, split, "ridge", 0, lambda line: None)
    assert kept.recalls["ridge"] > 0.75
    assert kept.neighbours.mean < 0.5


def test_the_interval_is_that_of_a_bootstrap_over_texts():
    values = np.random.default_rng(0).random(400)
    kept = recall.estimate(values, 1)
    error = values.std() / 20
    assert kept.mean == values.mean()
    assert kept.low == pytest.approx(kept.mean - 1.96 * error, abs=error / 3)
    assert kept.high == pytest.approx(kept.mean + 1.96 * error, abs=error / 3)


def test_common_rows_are_counted():
    found, wanted = np.array([[1, 2, 3], [4, 5, 6]]), np.array([[3, 9, 1], [7, 8, 9]])
    np.testing.assert_allclose(recall.count_common(found, wanted), [2 / 3, 0])


# -- the file ------------------------------------------------------------------------------------------------------------


def test_a_saved_bridge_opens_as_it_was(bridge, spaces, tmp_path):
    opened = zoo.Bridge.open(bridge.save(tmp_path / "bridge.safetensors"))
    for to, vectors in zip(("new", "old"), spaces, strict=True):
        np.testing.assert_array_equal(opened.map(vectors, to=to), bridge.map(vectors, to=to))
    assert (opened.old, opened.new, opened.facts) == (bridge.old, bridge.new, bridge.facts)
    assert opened.describe() == bridge.describe()


def rewrite(path, change_tensors=lambda tensors: None, change_text=lambda text: text):
    tensors = load_file(path)
    with safe_open(path, framework="np") as file:
        text = file.metadata()[bridge_file.KEY]
    change_tensors(tensors)
    save_file(tensors, path, metadata={bridge_file.KEY: change_text(text)})


@pytest.mark.parametrize(
    ("tensors", "text", "message"),
    [
        (lambda t: t["to_old.weight"].__setitem__((0, 0), 5), lambda s: s, "not those that were saved"),
        (lambda t: t.update(extra=np.zeros(2)), lambda s: s, "not those that were saved"),
        (lambda t: t.pop("to_new.mean"), lambda s: s, "not those that were saved"),
        (lambda t: None, lambda s: s[:-9], "not a bridge"),
        (lambda t: None, lambda s: s.replace('"format": 1', '"format": 9'), "update embedding-zoo"),
        (lambda t: None, lambda s: s.replace('"dim": 24', '"dim": 25'), "not a bridge"),
    ],
)
def test_an_altered_file_is_refused(bridge, tmp_path, tensors, text, message):
    path = bridge.save(tmp_path / "bridge.safetensors")
    rewrite(path, tensors, text)
    with pytest.raises(ArtefactError, match=message):
        Bridge.open(path)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(ZooError, match="no such file"):
        Bridge.open(tmp_path / "none")
    save_file({"a": np.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ArtefactError, match="but not a bridge"):
        Bridge.open(tmp_path / "other.safetensors")
    (tmp_path / "short").write_bytes(b"12")
    with pytest.raises(ArtefactError):
        Bridge.open(tmp_path / "short")


def test_a_failed_save_leaves_the_old_file(bridge, tmp_path, monkeypatch):
    path = bridge.save(tmp_path / "bridge.safetensors")
    before = path.read_bytes()
    monkeypatch.setattr("safetensors.numpy.save_file", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        bridge.save(path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


# -- bad input -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "options", "message"),
    [
        (make_space(count=90), make_space(count=90), {}, "at least 100 different texts, and there are 90"),
        (make_space(), make_space(count=500), {}, "the same texts from both encoders"),
        (np.full((200, 4), np.nan), make_space(count=200), {}, "the old vectors hold NaN"),
        (make_space(), make_space(), {"kind": "rige"}, "did you mean ridge"),
    ],
)
def test_bad_vectors_are_refused(old, new, options, message):
    with pytest.raises(ZooError, match=message):
        Bridge.fit_vectors(old, new, **options)


def test_vectors_of_another_width_are_refused(bridge):
    with pytest.raises(ZooError, match=r"which have the shape \(n, 24\)"):
        bridge.map_queries(np.ones((3, 5)))
    with pytest.raises(ZooError, match="neither 'old' nor 'new'"):
        bridge.map(np.ones((3, DIM)), to="other")


# -- encoders ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """Two small encoders with different weights, the folder of each, and texts."""
    import tiny

    from zoo.artefact import model_folder
    from zoo.families.matryoshka_2d.encoder import Encoder
    from zoo.families.matryoshka_2d.spec import Spec

    base = tmp_path_factory.mktemp("bridge")
    backbone = tiny.backbone(base / "backbone")
    folders = []
    for seed in (1, 2):
        encoder = Encoder.build(Spec(family="matryoshka-2d", backbone=backbone, dims=(8, 16)), seed=seed)
        with __import__("torch").no_grad():
            for parameter in list(encoder.module.parameters())[:2]:
                parameter += 0.01 * seed
        encoder.name = f"tiny-{seed}"
        folders.append(model_folder.save(encoder, base / f"model-{seed}"))
    rng = np.random.default_rng(0)
    texts = list(dict.fromkeys(" ".join(rng.choice(WORDS, 4)) for _ in range(200)))
    return [zoo.from_pretrained(folder) for folder in folders], folders, texts


def test_a_bridge_refuses_other_encoders_by_the_hash_of_their_weights(encoders, tmp_path):
    (old, new), _, texts = encoders
    path = Bridge.fit(old, new, texts, kind="orthogonal").save(tmp_path / "bridge.safetensors")
    bridge = Bridge.open(path, old=old, new=new)
    assert bridge.map_queries(new.encode_query(texts[:3])).shape == (3, old.dim)
    for wrong, side in (({"old": new}, "old"), ({"new": old}, "new"), ({"new": new.view(layers=1)}, "new")):
        with pytest.raises(ArtefactError, match=f"its {side} model is tiny"):
            Bridge.open(path, **wrong)


def test_the_hash_of_an_encoder_is_that_of_an_index(encoders):
    """An index and a bridge of the same encoder can be compared by their records."""
    from zoo.bridge import identity
    from zoo.index import identity as identity_of_index

    (old, new), _, _ = encoders
    hashes = [identity.describe_encoder(encoder, None)["weights"] for encoder in (old, new)]
    assert hashes == [identity_of_index.describe_encoder(encoder, None)["weights"] for encoder in (old, new)]
    assert hashes[0] != hashes[1]


def test_the_command_fits_saves_and_says_what_is_kept(encoders, tmp_path, capsys):
    _, folders, texts = encoders
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    out = tmp_path / "bridge.safetensors"
    words = ["bridge", *map(str, folders), "--data", str(tmp_path / "texts.txt"), "--out", str(out), "--kind", "ridge"]
    assert not main([*words, "--rows", "1000", "--new-view", "layers=1"])
    printed = capsys.readouterr().out
    assert "of the ten rows" in printed
    assert "encoding 1,000 rows with tiny-2 would take about" in printed
    opened = Bridge.open(out)
    assert opened.new["view"]["layers"] == 1
    assert opened.old["reference"] == str(folders[0])
    json.dumps(opened.facts, allow_nan=False)


@pytest.mark.parametrize("column", ["text", "title"])
def test_texts_come_from_a_column_of_everything_that_data_reads(tmp_path, column):
    from zoo.cli import model_inputs

    (tmp_path / "rows.csv").write_text(f"{column},other\none,x\ntwo,y\none,z\n")
    assert model_inputs.read_texts(str(tmp_path / "rows.csv"), column, 10) == ["one", "two"]
    terms = model_inputs.read_texts("builtin:icd10cm/terms", "term", 50)
    assert len(set(terms)) == 50


def test_the_command_refuses_few_texts_and_a_missing_folder_before_it_opens_a_model(tmp_path, capsys):
    (tmp_path / "texts.txt").write_text("one\ntwo\n")
    words = ["bridge", "no-old", "no-new", "--data", str(tmp_path / "texts.txt"), "--out"]
    assert main([*words, str(tmp_path / "out")]) == 1
    assert "at least 100 different texts, and there are 2" in capsys.readouterr().err


def test_importing_zoo_imports_no_bridge():
    code = "import sys, zoo; assert 'zoo.bridge' not in sys.modules and 'numpy' not in sys.modules; zoo.Bridge"
    subprocess.run([sys.executable, "-c", code], check=True)
