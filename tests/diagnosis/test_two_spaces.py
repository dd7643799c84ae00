"""A rotated copy is the same space, random sets have nothing in common, and the map has a row for each layer."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny
import tiny_matryoshka

from zoo.artefact import model_folder
from zoo.cli.main import main
from zoo.core.errors import ZooError
from zoo.diagnosis.two_spaces import compare_spaces, compute_cka, map_cka, measure_mutual_neighbours

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(600, 12)) @ RNG.normal(size=(12, 24))
ROTATION = np.linalg.qr(RNG.normal(size=(24, 24)))[0]


def test_a_rotated_and_scaled_copy_is_the_same_space():
    found = compare_spaces(VECTORS, 3 * VECTORS @ ROTATION)
    assert found.cka == pytest.approx(1, abs=1e-6)
    assert found.mutual_neighbours > 0.999
    assert found.procrustes_residual < 1e-6
    assert min(found.translates_forward, found.translates_backward) > 0.999
    assert found.cosine_agreement == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("rows", "dim", "limit"), [(400, 384, 0.03), (2000, 384, 0.03), (20_000, 64, 0.03)])
def test_random_sets_have_nothing_in_common_also_with_few_rows(rows, dim, limit):
    first, second = (RNG.normal(size=(rows, dim)) for _ in range(2))
    assert abs(compute_cka(first, second)) < limit


def test_random_neighbours_agree_by_chance_alone():
    first, second = (RNG.normal(size=(1000, 32)).astype(np.float32) for _ in range(2))
    assert measure_mutual_neighbours(first, second) == pytest.approx(10 / 1000, abs=0.005)


def test_cka_is_that_of_the_matrices_of_inner_products():
    first, second = VECTORS[:50], np.tanh(VECTORS[:50, :7])

    def compute_hsic(a, b):  # as Song et al. write it
        n = len(a)
        k, m = a @ a.T, b @ b.T
        np.fill_diagonal(k, 0)
        np.fill_diagonal(m, 0)
        ones = np.ones(n)
        middle = (ones @ k @ ones) * (ones @ m @ ones) / ((n - 1) * (n - 2))
        return (np.trace(k @ m) + middle - 2 / (n - 2) * (ones @ k @ m @ ones)) / (n * (n - 3))

    expected = compute_hsic(first, second) / np.sqrt(compute_hsic(first, first) * compute_hsic(second, second))
    assert compute_cka(first, second) == pytest.approx(expected)
    assert compute_cka(second, first) == pytest.approx(expected)
    assert compute_cka(first + 5, second - 3) == pytest.approx(expected)
    table = map_cka([first, second], [second, first])
    np.testing.assert_allclose(table, [[expected, 1], [1, expected]])


def test_a_space_with_less_in_it_translates_in_one_direction():
    found = compare_spaces(VECTORS, VECTORS[:, :3])
    assert found.translates_forward > 0.8 > 0.5 > found.translates_backward
    assert 0 < found.procrustes_residual < 1


def test_constant_vectors_have_nothing_in_common_and_no_figure_is_nan():
    found = compare_spaces(np.ones((30, 4)), VECTORS[:30])
    assert (found.cka, found.cosine_agreement) == (0, 0)
    assert np.isfinite(list(found)).all()


def test_vectors_of_other_inputs_are_refused():
    with pytest.raises(ZooError, match="600 and 599 vectors are not of the same inputs"):
        compare_spaces(VECTORS, VECTORS[:599])
    with pytest.raises(ZooError, match="5 inputs say nothing"):
        compare_spaces(VECTORS[:5], VECTORS[:5])


def test_the_verb_compares_all_layers_and_widths_of_two_models_and_draws_them(tmp_path, capsys):
    model = model_folder.save(tiny_matryoshka.build(tmp_path), tmp_path / "model")
    (tmp_path / "texts.txt").write_text("\n".join(tiny.SENTENCES))
    words = ["compare", str(model), str(model), "--space", "--data", str(tmp_path / "texts.txt")]
    picture = tmp_path / "map.png"
    assert main([*words, "--json", "--picture", str(picture), "--second-view", "layers=2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["views"]["first"], found["views"]["second"]) == (
        ["dim 8", "dim 16", "layer 1", "layer 2", "layer 3"],
        ["dim 8", "dim 16", "layer 1", "layer 2"],
    )
    table = np.array(found["views"]["cka"])
    np.testing.assert_allclose(table[2:4, 2:].diagonal(), 1, atol=1e-3)
    assert found["figures"]["cka"] == pytest.approx(table[4, 3], abs=1e-3)
    whole = tiny_matryoshka.build(tmp_path)
    widths = [whole.view(dim=dim).encode(list(dict.fromkeys(tiny.SENTENCES))) for dim in (8, 16)]
    shallow = whole.view(layers=2, dim=8).encode(list(dict.fromkeys(tiny.SENTENCES)))
    np.testing.assert_allclose(table[:2, 0], map_cka(widths, [shallow])[:, 0], atol=1e-3)
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert main(words) == 0
    assert "and not which one is better" in capsys.readouterr().out


def test_the_verb_compares_files_and_names_what_is_missing(tmp_path, capsys):
    for name, rows in (("a", VECTORS), ("b", VECTORS @ ROTATION)):
        np.save(tmp_path / f"{name}.npy", rows.astype(np.float32))
    files = [str(tmp_path / f"{name}.npy") for name in "ab"]
    assert main(["compare", *files]) == 0
    assert "cka 1.0000 1 for a rotated copy" in " ".join(capsys.readouterr().out.split())
    assert main(["compare", files[0], "model"]) == 1
    assert "a model is compared with a model" in capsys.readouterr().err
    assert main(["compare", "model", "model"]) == 1
    assert "--data: give inputs that both models read" in capsys.readouterr().err
