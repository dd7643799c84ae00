"""Data with known sources: images drawn by code, files of arrays, and rows that are left out and so not drawn."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter

from zoo import data
from zoo.core.errors import DataError
from zoo.data.formats import arrays
from zoo.data.sources.builtins import _ray_tracer, scenes, sprites
from zoo.data.spec import Data

ALL = dict.fromkeys(sprites.SOURCES, "label")


def section(**fields):
    return TypeAdapter(Data).validate_python(fields)


def pixels(row) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(row["image"])).convert("RGB" if b"P6" in row["image"][:2] else "L"))


# -- sprites -----------------------------------------------------------------------------------------------------------


def test_sprites_have_the_place_and_size_of_their_sources():
    random = np.random.default_rng(0)
    positions = np.sort(random.choice(737_280, 300, replace=False))
    sources = sprites.decode_positions(positions)
    images = sprites.render_images(sources)
    assert set(np.unique(images)) == {0, 255}
    for image, (shape, scale, orientation, x, y) in zip(images, sources, strict=True):
        rows, cols = np.nonzero(image)
        assert abs((cols.min() + cols.max()) / 2 - (x + 16)) <= 4 + 4 * (shape == 2)
        assert abs((rows.min() + rows.max()) / 2 - (y + 16)) <= 4 + 4 * (shape == 2)
        size = np.linspace(0.5, 1, 6)[scale] * 16
        exact = {0: (1.4 * size) ** 2, 1: np.pi * size**2 / 2, 2: 3.66 * (size / 1.3) ** 2}[shape]
        assert (image > 0).sum() == pytest.approx(exact, rel=0.12), (shape, scale, orientation)


def test_every_source_changes_the_image_and_x_and_y_move_it_by_a_pixel():
    for source, size in enumerate(sprites.SOURCES.values()):
        base = np.tile([2, 3, 5, 10, 12], (size, 1))
        base[:, source] = np.arange(size)
        assert len(np.unique(sprites.render_images(base).reshape(size, -1), axis=0)) == size
    one, right, down = sprites.render_images(np.array([[2, 3, 5, 10, 12], [2, 3, 5, 11, 12], [2, 3, 5, 10, 13]]))
    np.testing.assert_array_equal(np.roll(one, 1, axis=1), right)
    np.testing.assert_array_equal(np.roll(one, 1, axis=0), down)


def test_no_sprite_is_cut_by_its_window():
    edge = sprites._render_windows().copy()
    edge[..., 1:-1, 1:-1] = 0
    inside = sprites._render_windows().sum((-1, -2), dtype=np.int64)
    assert (edge.sum((-1, -2), dtype=np.int64) <= 0.03 * inside).all()


def test_the_grid_has_the_order_of_dsprites():
    assert sprites.decode_positions(np.array([0, 1, 32, 1024, 40_960, 245_760, 737_279])).tolist() == [
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 1],
        [0, 0, 0, 1, 0],
        [0, 0, 1, 0, 0],
        [0, 1, 0, 0, 0],
        [1, 0, 0, 0, 0],
        [2, 5, 39, 31, 31],
    ]


# -- scenes ------------------------------------------------------------------------------------------------------------


def test_scenes_show_three_hues_and_every_source_changes_them():
    for source, size in enumerate(scenes.SOURCES.values()):
        base = np.tile([0, 3, 6, 4, 0, 2], (size, 1))
        base[:, source] = np.arange(size)
        assert len(np.unique(scenes.render_images(base).reshape(size, -1), axis=0)) == size
    picture = scenes.render_images(np.array([[0, 3, 6, 4, 2, 7]]))[0]
    floor, wall, thing = picture[-1, 32], picture[0, 32], picture[34, 32]
    for colour, hue in ((floor, 0.0), (wall, 0.3), (thing, 0.6)):
        shown_hue = np.array(Image.fromarray(colour.reshape(1, 1, 3)).convert("HSV"))[0, 0, 0] / 255
        assert shown_hue == pytest.approx(hue, abs=0.02)


def test_a_larger_scale_shows_more_of_the_object_and_a_turned_camera_mirrors_the_opposite_one():
    size = (_ray_tracer.trace_scenes()[:, 0, 7] // _ray_tracer.LIGHT_LEVELS == _ray_tracer.OBJECT).sum((1, 2))
    assert (np.diff(size) > 0).all()
    for shape in range(4):
        left, right = (_ray_tracer.trace_scenes()[4, shape, k] // _ray_tracer.LIGHT_LEVELS for k in (2, 12))
        assert (left != right[:, ::-1]).mean() < 0.003
        assert (left != right).mean() > 0.01


# -- rows that are left out --------------------------------------------------------------------------------------------


@pytest.fixture
def small_grid(monkeypatch):
    """The first 2,000 rows of the sprites. The value lists the positions that were drawn one by one."""
    positions: list[int] = []
    original = sprites.read_rows_at

    def read_rows_at(table, chosen):
        positions.extend(chosen.tolist())
        return original(table, chosen)

    monkeypatch.setattr(sprites, "read_rows_at", read_rows_at)
    monkeypatch.setattr(sprites, "read_rows", lambda table: original(table, np.arange(2000)))
    monkeypatch.setitem(sprites.COUNTS, "sprites", 2000)
    return positions


def read_sprites(**fields):
    return data.read(section(source="builtin", name="sprites", **fields), {"image": "image", **ALL}, folder=Path())


@pytest.mark.parametrize(
    "fields",
    [
        {"limit": 12},
        {"holdout": {"size": 0.9999, "side": "train"}},
        {"holdout": {"size": 30, "side": "test", "seed": 3}, "limit": 12},
    ],
)
def test_rows_that_are_left_out_are_not_drawn_and_the_others_do_not_change(fields, small_grid, monkeypatch):
    table = read_sprites(**fields)
    assert len(small_grid) == len(table.rows) < 40
    monkeypatch.delattr(sprites, "COUNTS")  # now every row is drawn
    assert read_sprites(**fields).fingerprint == table.fingerprint


@pytest.mark.parametrize(
    "fields",
    [
        {"where": {"orientation": 1}, "limit": 12},
        {"on_bad_row": "skip", "limit": 12},
        {"holdout": {"size": 500, "take": "held-out", "by": "x"}},
    ],
)
def test_a_selection_by_content_reads_all_rows(fields, small_grid, monkeypatch):
    table = read_sprites(**fields)
    assert small_grid == []
    assert len(table.rows) >= 12
    monkeypatch.delattr(sprites, "COUNTS")
    assert read_sprites(**fields).fingerprint == table.fingerprint


# -- files -------------------------------------------------------------------------------------------------------------


def dsprites(path, count=40):
    sources = sprites.decode_positions(np.arange(0, 737_280, 737_280 // count)[:count])
    classes = np.insert(sources, 0, 0, axis=1)
    meta = np.array([{"author": "a pickle"}], dtype=object)
    np.savez_compressed(
        path,
        imgs=sprites.render_images(sources) // 255,
        latents_classes=classes,
        latents_values=classes * 0.1,
        metadata=meta,
    )
    return sources


def test_dsprites_npz_is_read_without_its_pickle_and_only_at_the_rows_of_a_limit(tmp_path, monkeypatch):
    sources = dsprites(tmp_path / "d.npz")
    assert arrays.read_column_names(tmp_path / "d.npz") == ("image", *arrays.DSPRITES)
    need = {"image": "image", **ALL, "color": "label"}
    table = data.read(section(source="file", path="d.npz"), need, folder=tmp_path).rows
    np.testing.assert_array_equal(np.stack([table[name] for name in arrays.DSPRITES[1:]], 1), _ranks(sources))
    shown = np.stack([np.asarray(image.convert("L")) for image in table["image"]])
    np.testing.assert_array_equal(shown, sprites.render_images(sources))
    encoded_images = []
    original = arrays._encode_image
    monkeypatch.setattr(arrays, "_encode_image", lambda p: encoded_images.append(1) or original(p))
    few = data.read(section(source="file", path="d.npz", limit=7), need, folder=tmp_path)
    assert len(encoded_images) == 7
    positions = [i for i, row in enumerate(table) if row["image"] in list(few.rows["image"])]
    assert len(positions) >= 7


def _ranks(values):
    return np.stack([np.unique(column, return_inverse=True)[1] for column in values.T], axis=1)


def test_mpi3d_npz_has_the_sources_of_its_grid(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "GRIDS", {24: (2, 1, 1, 1, 1, 3, 4)})
    pictures = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "m.npz", images=pictures)
    rows = [row for _, row in arrays.read_rows(tmp_path / "m.npz", positions=np.array([0, 5, 23]))]
    assert [(r["object_color"], r["horizontal"], r["vertical"]) for r in rows] == [(0, 0, 0), (0, 1, 1), (1, 2, 3)]
    np.testing.assert_array_equal(pixels(rows[1]), pictures[5])


def test_shapes3d_h5_is_read_or_names_what_it_needs(tmp_path, monkeypatch):
    import sys

    (tmp_path / "s.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(DataError, match=r"embedding-zoo\[factors\]"):
        arrays.read_column_names(tmp_path / "s.h5")
    monkeypatch.delitem(sys.modules, "h5py")
    import h5py

    pictures = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    labels = np.array([[0.1, 0, 0, 0.75, 3, -30 + 15 * k] for k in range(6)])
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["images"], file["labels"] = pictures, labels
    rows = [row for _, row in arrays.read_rows(tmp_path / "s.h5")]
    assert [row["orientation"] for row in rows] == list(range(6))
    np.testing.assert_array_equal(pixels(rows[2]), pictures[2])
    (tmp_path / "t.h5").write_bytes(b"nothing")
    with pytest.raises(DataError, match="cannot be read"):
        arrays.read_column_names(tmp_path / "t.h5")


def test_arrays_of_any_names_are_columns_and_an_npy_of_two_axes_holds_vectors(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    np.savez(tmp_path / "a.npz", emb=vectors, kind=np.array([1, 1, 0, 2, 0]), word=np.array(["a", "b", "c", "d", "é"]))
    need = {"vector": "vector", "kind": "label", "word": "text"}
    table = data.read(section(source="file", path="a.npz", columns={"vector": "emb"}), need, folder=tmp_path)
    np.testing.assert_array_equal(np.array(table.rows["vector"], dtype=np.float32), vectors)
    assert (list(table.rows["kind"]), table.rows["word"][4]) == ([1, 1, 0, 2, 0], "é")
    np.save(tmp_path / "b.npy", vectors)
    again = data.read(section(source="file", path="b.npy", limit=2), {"vector": "vector"}, folder=tmp_path)
    assert len(again.rows) == 2
    assert np.array(again.rows["vector"][0], dtype=np.float32).tolist() in vectors.tolist()


@pytest.mark.parametrize(
    ("vector", "message"),
    [([1.0, float("nan")], "finite"), ([], "empty"), ("[1, 2", "JSON list"), ("x", "list of numbers")],
)
def test_bad_vectors_are_refused(tmp_path, vector, message):
    import json

    (tmp_path / "v.jsonl").write_text(json.dumps({"vector": [1, 2]}) + "\n" + json.dumps({"vector": vector}) + "\n")
    with pytest.raises(DataError, match=message):
        data.read(section(source="file", path="v.jsonl"), {"vector": "vector"}, folder=tmp_path)
    (tmp_path / "w.jsonl").write_text('{"vector": [1, 2]}\n{"vector": [1, 2, 3]}\n')
    with pytest.raises(DataError, match="vectors of 2 and of 3 components"):
        data.read(section(source="file", path="w.jsonl"), {"vector": "vector"}, folder=tmp_path)


def test_damaged_files_of_arrays_are_named(tmp_path):
    dsprites(tmp_path / "d.npz")
    whole = (tmp_path / "d.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    np.savez(tmp_path / "none.npz", scalar=np.float32(1))
    np.save(tmp_path / "f.npy", np.asfortranarray(np.zeros((3, 2))))
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object))
    (tmp_path / "e.npy").write_bytes(b"")
    for name, message in (
        ("cut.npz", "cannot be read"),
        ("none.npz", "no array of numbers"),
        ("f.npy", "Fortran"),
        ("o.npy", "no array of numbers"),
        ("e.npy", "cannot be read"),
    ):
        with pytest.raises(DataError, match=message):
            arrays.read_column_names(tmp_path / name)
    np.save(tmp_path / "g.npy", np.zeros((9, 8, 8), np.uint8))
    (tmp_path / "g.npy").write_bytes((tmp_path / "g.npy").read_bytes()[:-100])
    with pytest.raises(DataError, match="g.npy: cannot be read: the header claims 576 bytes, but only 476 follow"):
        data.read(section(source="file", path="g.npy"), {"image": "image"}, folder=tmp_path)


def test_an_array_that_is_too_large_for_memory_is_refused(tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", n=np.arange(100), m=np.arange(100))
    monkeypatch.setattr(arrays, "MAX_ARRAY_BYTES", 100)
    with pytest.raises(DataError, match="n is too large to be held in memory"):
        data.read(section(source="file", path="a.npz"), {"n": "number"}, folder=tmp_path)


def test_two_arrays_for_one_column_are_refused(tmp_path):
    pixels = np.zeros((3, 4, 4), np.uint8)
    np.savez(tmp_path / "a.npz", first=pixels, image=np.arange(3))
    with pytest.raises(DataError, match="has two columns called 'image'; rename one array"):
        arrays.read_column_names(tmp_path / "a.npz")
