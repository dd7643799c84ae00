"""Images as data: folders by class, idx files, tables, damaged files, and a missing Pillow."""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pydantic import TypeAdapter

from zoo import data
from zoo.core.errors import DataError
from zoo.data.formats import image_files
from zoo.data.spec import Data

NEED = {"image": "image", "label": "label"}
RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (6, 4, 5), dtype=np.uint8)


def section(**entries) -> Data:
    return TypeAdapter(Data).validate_python(entries)


def read(folder, path, need=NEED, **entries):
    return data.read(section(source="file", path=str(path), **entries), need, folder=folder)


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind)
    return buffer.getvalue()


def classes(folder, kind="PNG"):
    for i, pixels in enumerate(PIXELS):
        path = folder / "pets" / ("cat" if i % 2 else "dog") / f"{i}.{kind.lower()}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(pixels, kind))
    return folder / "pets"


def idx(path, array: np.ndarray) -> None:
    sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
    content = bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def test_a_folder_of_images_has_the_names_of_its_folders_as_classes(tmp_path):
    base = classes(tmp_path)
    (base / ".cache").mkdir()
    (base / ".cache" / "x.png").write_bytes(b"hidden")
    (base / "notes.txt").write_text("no image")
    table = read(tmp_path, "pets")
    assert table.rows["label"][:] == ["cat"] * 3 + ["dog"] * 3
    assert table.rows["path"][:] == ["cat/1.png", "cat/3.png", "cat/5.png", "dog/0.png", "dog/2.png", "dog/4.png"]
    np.testing.assert_array_equal(np.asarray(table.rows[0]["image"]), PIXELS[1])
    assert table.origin.name == "pets"
    assert read(tmp_path, "pets/*/*.png").fingerprint == read(tmp_path, "pets").fingerprint
    assert read(tmp_path, "pets", where={"label": "dog"}).rows["label"][:] == ["dog"] * 3


def test_a_table_beside_images_is_read_instead_of_the_folder(tmp_path):
    base = classes(tmp_path)
    (base / "labels.csv").write_text("image,label\ncat/1.png,purrs\n")
    table = read(tmp_path, "pets")
    assert table.rows["label"][:] == ["purrs"]
    np.testing.assert_array_equal(np.asarray(table.rows[0]["image"]), PIXELS[1])


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("damage", ["cut", "noise", "empty", "text"])
def test_a_damaged_file_is_named_and_refused_or_skipped(tmp_path, kind, damage):
    base = classes(tmp_path, kind)
    path = base / "cat" / f"3.{kind.lower()}"
    whole = path.read_bytes()
    bad = {"cut": whole[: 2 * len(whole) // 3], "noise": RANDOM.bytes(200), "empty": b"", "text": b"<html>not found"}[
        damage
    ]
    path.write_bytes(bad)
    with pytest.raises(DataError, match=rf"3\.{kind.lower()}: image: is not an image that Pillow can open") as excinfo:
        read(tmp_path, "pets")
    assert "on_bad_row: skip" in str(excinfo.value)
    table = read(tmp_path, "pets", on_bad_row="skip")
    assert len(table.rows) == 5
    assert len(table.skipped) == 1
    assert str(path) in table.skipped[0]


def test_idx_images_are_read_with_the_labels_beside_them(tmp_path):
    for name, labels in (
        ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
        ("a.images.idx", "a.labels.idx"),
    ):
        idx(tmp_path / name, PIXELS)
        idx(tmp_path / labels, np.arange(6, dtype=np.uint8))
        table = read(tmp_path, name)
        assert table.rows["label"][:] == list(range(6))
        for row, pixels in zip(table.rows, PIXELS, strict=True):
            np.testing.assert_array_equal(np.asarray(row["image"]), pixels)
    colours = RANDOM.integers(0, 256, (2, 4, 5, 3), dtype=np.uint8)
    idx(tmp_path / "c-images-idx4-ubyte", colours)
    table = read(tmp_path, "c-images-idx4-ubyte", {"image": "image"})
    np.testing.assert_array_equal(np.asarray(table.rows[1]["image"]), colours[1])


def test_idx_files_may_name_their_classes(tmp_path):
    idx(tmp_path / "x-images-idx3-ubyte", PIXELS)
    idx(tmp_path / "x-labels-idx1-ubyte", np.array([2, 0, 1, 2, 1, 0], dtype=np.uint8))
    table = read(tmp_path, "x-images-idx3-ubyte", classes=["cat", "dog", "newt"])
    assert table.rows["label"][:] == ["newt", "cat", "dog", "newt", "dog", "cat"]
    with pytest.raises(DataError, match="row 1: label: is 2, but `classes` names the numbers from 0 to 1"):
        read(tmp_path, "x-images-idx3-ubyte", classes=["cat", "dog"])


def test_idx_files_that_are_damaged_or_do_not_match_are_refused(tmp_path):
    name, other = tmp_path / "x-images-idx3-ubyte", tmp_path / "x-labels-idx1-ubyte"
    idx(name, PIXELS)
    with pytest.raises(DataError, match="needs a column 'label'"):
        read(tmp_path, name)
    idx(other, np.arange(5, dtype=np.uint8))
    with pytest.raises(DataError, match="holds 5 labels, but x-images-idx3-ubyte holds 6 images"):
        read(tmp_path, name)
    idx(other, np.arange(6, dtype=np.uint8))
    whole = name.read_bytes()
    name.write_bytes(whole[:-3])
    for on_bad_row in ("error", "skip"):
        with pytest.raises(DataError, match="ends after 5 of the 6 images"):
            read(tmp_path, name, on_bad_row=on_bad_row)
    for content, message in (
        (b"", "is not an idx file"),
        (b"PK\3\4 something else", "is not an idx file"),
        (whole[:7], "ends inside its header"),
        (bytes([0, 0, 8, 3]) + (10**9).to_bytes(4, "big") * 3, "an image is larger than 16 MB"),
        (bytes([0, 0, 8, 4]) + b"".join(n.to_bytes(4, "big") for n in (1, 2, 2, 7)), "must be grey, or RGB"),
    ):
        name.write_bytes(content)
        with pytest.raises(DataError, match=message):
            read(tmp_path, name)
    idx(tmp_path / "x-images-idx3-ubyte.gz", PIXELS)
    packed = tmp_path / "x-images-idx3-ubyte.gz"
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(DataError, match="cut short"):
        read(tmp_path, packed)


def test_parquet_and_the_form_of_the_hub_equal_a_folder(tmp_path):
    base = classes(tmp_path)
    files = sorted(base.rglob("*.png"))
    contents, labels = [p.read_bytes() for p in files], [p.parent.name for p in files]
    plain = pa.table({"image": contents, "label": labels})
    hub = pa.table({"image": [{"bytes": c, "path": "x.png"} for c in contents], "label": labels})
    for name, table in (("plain", plain), ("hub", hub)):
        pq.write_table(table, tmp_path / f"{name}.parquet")
        assert read(tmp_path, f"{name}.parquet").fingerprint == read(tmp_path, "pets").fingerprint


def test_an_image_set_of_the_hub_keeps_its_images_encoded(tmp_path, monkeypatch):
    import datasets
    import huggingface_hub

    base = classes(tmp_path)
    files = sorted(base.rglob("*.png"))
    columns = {
        "img": [{"bytes": p.read_bytes(), "path": None} for p in files],
        "label": [p.parent.name == "dog" for p in files],
    }
    features = datasets.Features({"img": datasets.Image(), "label": datasets.Value("int64")})
    dataset = datasets.Dataset.from_dict(columns, features=features).cast_column(
        "label", datasets.ClassLabel(names=["cat", "dog"])
    )
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: None)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: dataset)
    source = section(source="hub", name="owner/pets", columns={"image": "img"})
    table = data.read(source, NEED, folder=tmp_path)
    assert table.rows["label"][:] == [0] * 3 + [1] * 3
    np.testing.assert_array_equal(np.asarray(table.rows[0]["image"]), PIXELS[1])
    encoded_images = table.rows.with_format("arrow")[:].column("image").to_pylist()
    assert [image["bytes"] for image in encoded_images] == [path.read_bytes() for path in files]


def test_an_official_task_over_images_runs_on_local_files_under_another_name(tmp_path, monkeypatch):
    import zoo
    from zoo.families.equiangular.encoder import Encoder, Spec
    from zoo.vision.spec import Vision

    (tmp_path / "mnist").mkdir()
    for name, seed in (("train", 0), ("t10k", 1)):
        labels = np.arange(40, dtype=np.uint8) % 4
        bright = labels[:, None, None] * 60 + np.random.default_rng(seed).integers(0, 30, (40, 8, 8))
        idx(tmp_path / "mnist" / f"{name}-images-idx3-ubyte.gz", bright.astype(np.uint8))
        idx(tmp_path / "mnist" / f"{name}-labels-idx1-ubyte.gz", labels)
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    encoder = Encoder.build(Spec(family="equiangular", backbone=Vision(build="resnet", width=4, size=8), dim=4))
    (result,) = zoo.evaluate(encoder, ["MNIST"])["results"]
    assert (result["task"], result["official"], result["metric"]) == ("MNIST (local)", False, "accuracy")
    assert result["value"] > 0.4, "an untrained network tells some of four brightnesses, above the 0.25 of chance"


def test_digits_ship_with_scikit_learn():
    from sklearn.datasets import load_digits

    table = data.read(section(source="builtin", name="digits"), NEED, folder=None)
    assert len(table.rows) == 1797
    assert table.rows["label"][:] == load_digits().target.tolist()
    expected = (load_digits().images[5] * 255 / 16).round()
    np.testing.assert_array_equal(np.asarray(table.rows[5]["image"]), expected)


def test_an_image_with_too_many_pixels_is_refused_before_it_is_decoded(monkeypatch):
    content = encoded(PIXELS[0], "PNG")
    assert image_files.decode_image(content, max_pixels=20).size == (5, 4)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda image: pytest.fail("the image was decoded"))
    with pytest.raises(ValueError, match="has 5 × 4 pixels, more than 19"):
        image_files.decode_image(content, max_pixels=19)


def test_an_image_is_rotated_as_its_exif_data_says():
    image = Image.fromarray(PIXELS[0])
    image.getexif()[0x0112] = 6  # orientation: rotate by 90° clockwise
    rotated = image_files.normalise_image(image, "L")
    np.testing.assert_array_equal(np.asarray(rotated), np.rot90(PIXELS[0], -1))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_become_white(mode):
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    if mode == "P":
        image = Image.new("P", (2, 1), 0)
        image.putpalette([255, 0, 0, 0, 0, 0])
        image.putpixel((1, 0), 1)
        image.info["transparency"] = 1
    normal = image_files.normalise_image(image.convert(mode))
    assert normal.mode == "RGB"
    assert normal.getpixel((1, 0)) == (255, 255, 255)
    assert normal.getpixel((0, 0)) == ((76, 76, 76) if mode == "LA" else (255, 0, 0))


def test_16_bits_become_8():
    pixels = np.array([[0, 256, 65535]], dtype=np.uint16)
    np.testing.assert_array_equal(np.asarray(image_files.normalise_image(Image.fromarray(pixels), "L")), [[0, 1, 255]])


@pytest.mark.parametrize(
    ("mode", "transparent"), [("P", 0), ("RGB", (0, 0, 0)), ("L", 0), ("1", 0), ("1", 1), ("I;16", 7), ("I;16", 0)]
)
def test_the_transparent_colour_of_a_png_becomes_white_in_every_mode(mode, transparent):
    value = {7: 7, 1: 255}.get(transparent, 0)
    image = Image.new(mode, (2, 1), value if mode != "RGB" else (0, 0, 0))
    image.putpixel((1, 0), {"RGB": (0, 80, 0), "I;16": 80 * 256}.get(mode, 80 if mode == "L" else 255 - value))
    buffer = io.BytesIO()
    options = {}
    if mode == "P":
        image.putpalette([0, 0, 0] * 255 + [80, 80, 80])
    image.save(buffer, "PNG", transparency=transparent, **options)
    content = buffer.getvalue()
    for decoded in (image_files.decode_image(content), Image.open(io.BytesIO(content))):
        pixels = np.asarray(image_files.normalise_image(decoded, "L")).ravel().tolist()
        assert pixels[0] == 255
        assert pixels[1] == {"RGB": 47, "1": 255 - value}.get(mode, 80)


def test_pixels_of_two_bits_keep_their_transparent_colour():
    """Pillow spreads the values 0 to 3 over 0 to 255, but leaves the transparent one as it is in the file."""
    header = b"IHDR" + (2).to_bytes(4, "big") + (1).to_bytes(4, "big") + bytes([2, 0, 0, 0, 0])
    parts = [header, b"tRNS\0\1", b"IDAT" + zlib.compress(bytes([0, 0b01_10_0000])), b"IEND"]
    chunks = (len(p[4:]).to_bytes(4, "big") + p + zlib.crc32(p).to_bytes(4, "big") for p in parts)
    image = image_files.decode_image(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    assert np.asarray(image_files.normalise_image(image, "L")).tolist() == [[255, 170]]


@pytest.mark.parametrize(
    ("pixels", "content"),
    [(np.zeros((2, 2), np.float32), "floating-point numbers"), (np.zeros((2, 2), np.int32), "32-bit integers")],
)
def test_pixels_without_an_exact_8_bit_form_are_refused_by_name(tmp_path, pixels, content):
    from zoo.core.errors import ZooError
    from zoo.vision.preprocessing import load_pixels

    (tmp_path / "x.tif").write_bytes(encoded(pixels, "TIFF"))
    (tmp_path / "x.csv").write_text("image,label\nx.tif,a\n")
    with pytest.raises(DataError, match=f"image: holds {content}.* save it with 8 or 16 bits"):
        read(tmp_path, "x.csv")
    for source in (tmp_path / "x.tif", Image.fromarray(pixels)):
        with pytest.raises(ZooError, match=f"holds {content}"):
            load_pixels(source, 2, 1)


def test_only_listed_formats_are_opened(monkeypatch):
    """A file is opened by its content, not by its name. EPS would start Ghostscript."""
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a program was started"))
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    for content in (eps, encoded(PIXELS[0], "PCX"), encoded(PIXELS[0], "JPEG2000")):
        with pytest.raises(ValueError, match="is not an image that Pillow can open as PNG, JPEG"):
            image_files.decode_image(content)


def test_without_pillow_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(DataError, match=r"embedding-zoo\[image\]"):
        image_files.decode_image(b"x")
    from zoo.vision.preprocessing import decode_image

    with pytest.raises(DataError, match=r"embedding-zoo\[image\]"):
        decode_image(PIXELS[0])


def test_checking_a_recipe_of_images_imports_neither_torch_nor_pillow():
    code = (
        "import sys; from zoo.recipe import recipe; recipe.load('equiangular-digits'); "
        "print({'torch', 'PIL'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
