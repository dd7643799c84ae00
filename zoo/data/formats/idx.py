"""idx files, the format of MNIST: images of bytes, and their labels from the file beside them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from zoo.core.errors import DataError
from zoo.data.formats.image_files import encode_pnm
from zoo.data.formats.text_lines import open_binary
from zoo.data.limits import CELL, MAX_RATIO, refuse_large_cell
from zoo.data.raw_rows import BadRow, Item, RowLocation

ENDINGS = ("-ubyte", "-ubyte.gz", ".idx", ".idx.gz")
IMAGE_AXES, LABEL_AXES = (3, 4), (1,)


def is_idx(path: Path) -> bool:
    """Return whether the name of a file is that of an idx file."""
    return path.name.lower().endswith(ENDINGS)


def read_column_names(path: Path, max_cell: int = CELL) -> tuple[str, ...]:
    """Return `image`, and `label` if the file of labels is beside it. Raise DataError if the file holds no images."""
    with open_binary(path) as file:
        _read_image_shape(path, file, max_cell)
    return ("image", "label") if _find_labels(path) else ("image",)


def read_rows(path: Path, max_cell: int = CELL) -> Iterator[Item]:
    """Yield a row for each image, as the bytes of a PGM or PPM file, with its label if the file of labels exists."""
    name, labels_path = str(path), _find_labels(path)
    with open_binary(path) as file:
        count, height, width, channels = _read_image_shape(path, file, max_cell)
        image_bytes = height * width * channels
        labels = _read_labels(labels_path, count, path) if labels_path else None
        for index in range(count):
            pixels = file.read(image_bytes)
            if len(pixels) < image_bytes:
                reason = f"ends after {index} of the {count} images; get the file again"
                yield RowLocation(name), BadRow(reason, ends_file=True)
                return
            row: dict[str, Any] = {"image": encode_pnm(pixels, width, height, channels)}
            if labels:
                row["label"] = labels[index]
            yield RowLocation(name, index + 1), row
        if file.read(1):
            yield RowLocation(name), BadRow(_describe_rest(count), ends_file=True)


def _describe_rest(count: int) -> str:
    return f"goes on after the {count} images that its header claims; get the file again"


def _find_labels(path: Path) -> Path | None:
    """Return the file of labels by its usual name, `train-labels-idx1-ubyte.gz` for `train-images-idx3-ubyte.gz`."""
    name = path.name.replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1")
    for candidate in (name, f"{name}.gz", name.removesuffix(".gz")):
        if candidate != path.name and path.with_name(candidate).is_file():
            return path.with_name(candidate)
    return None


def _read_labels(path: Path, count: int, images_path: Path) -> bytes:
    with open_binary(path) as file:
        (label_count,) = _read_shape(path, file, LABEL_AXES)
        labels = file.read(count + 1)
    if label_count != count or len(labels) != count:
        actual_count = label_count if len(labels) == count else len(labels)
        raise DataError(f"{path}: holds {actual_count} labels, but {images_path.name} holds {count} images")
    return labels


def _read_image_shape(path: Path, file: IO[bytes], max_cell: int) -> tuple[int, int, int, int]:
    """Return the number of images, their height, width and channels. Raise DataError if the file cannot hold them."""
    count, *size = _read_shape(path, file, IMAGE_AXES)
    channels = size[2] if len(size) == 3 else 1
    image_bytes = math.prod(size)
    if image_bytes > max_cell:
        refuse_large_cell(max_cell, f"{path}: an image")
    if (len(size) == 3 and channels != 3) or not image_bytes:
        shape = " × ".join(map(str, size))
        raise DataError(f"{path}: holds images of {shape}; they must be grey, or RGB with the channels last")
    _check_image_count(path, count, image_bytes, file.tell())
    return count, size[0], size[1], channels


def _check_image_count(path: Path, count: int, image_bytes: int, header_bytes: int) -> None:
    """Raise DataError if the file holds fewer or more bytes than the images that its header claims."""
    byte_count = path.stat().st_size
    if path.name.lower().endswith(".gz"):
        if count * image_bytes > byte_count * MAX_RATIO:
            raise DataError(
                f"{path}: claims {count} images, more than its {byte_count} bytes can hold; get the file again"
            )
        return
    whole_count, rest = divmod(byte_count - header_bytes, image_bytes)
    if whole_count < count:
        raise DataError(f"{path}: ends after {whole_count} of the {count} images; get the file again")
    if whole_count > count or rest:
        raise DataError(f"{path}: {_describe_rest(count)}")


def _read_shape(path: Path, file: IO[bytes], axes: tuple[int, ...]) -> list[int]:
    """Return the shape in the header of an idx file of bytes. Raise DataError unless it has one of the numbers of `axes`."""
    magic = file.read(4)
    if len(magic) < 4 or magic[:3] != b"\0\0\x08" or magic[3] not in axes:
        content = "labels, one byte each" if axes == LABEL_AXES else "images of bytes"
        raise DataError(f"{path}: is not an idx file of {content}")
    sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise DataError(f"{path}: ends inside its header")
    return [int.from_bytes(sizes[i : i + 4], "big") for i in range(0, len(sizes), 4)]
