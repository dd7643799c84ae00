"""Faults of any model folder, drawn by a seed: each replaces, removes or adds one file."""

from __future__ import annotations

import contextlib
import json
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save

from zoo.artefact import manifest

SMALL = 1 << 18  # bytes of a file that bits are flipped in
VALUES = (None, True, -1, 0, 1, 3, 10**6, 10**12, 1e308, float("nan"), "x", "../a", [], {}, [1, 2, 3], {"a": 1})
COUNTS = {"value": 16, "tensor": 8, "cut": 6, "extra": 4, "flip": 8}
"""Faults of each kind that `draw_faults` draws."""


class Fault(NamedTuple):
    """One changed file: `content` is what the file `path` holds instead; None if it is missing."""

    name: str
    path: str
    content: bytes | None

    @contextlib.contextmanager
    def apply(self, folder: Path) -> Iterator[None]:
        """Change the file in `folder`, and restore it at the end."""
        path = folder / self.path
        original = path.read_bytes() if path.exists() else None
        _write(path, self.content)
        try:
            yield
        finally:
            _write(path, original)


def _write(path: Path, content: bytes | None) -> None:
    if content is None:
        path.unlink(missing_ok=True)
    else:
        path.write_bytes(content)


def draw_faults(folder: Path, seed: int) -> list[Fault]:
    """Draw COUNTS faults of every kind for the files of a model folder; the same ones for the same seed."""
    draw = random.Random(seed)
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != manifest.NAME)
    kinds = {
        "value": _list_wrong_values(folder, paths, draw),
        "tensor": _list_wrong_tensors(folder, paths, draw),
        "cut": _list_cuts(folder, paths),
        "extra": _list_extra_files(),
        "flip": _list_flips(folder, paths, draw),
    }
    return [fault for kind, faults in kinds.items() for fault in draw.sample(faults, min(COUNTS[kind], len(faults)))]


def _list_wrong_values(folder: Path, paths: list[Path], draw: random.Random) -> list[Fault]:
    """Another value at a place of a JSON file; every second one in config.json."""
    faults = []
    for path in paths:
        if path.suffix != ".json":
            continue
        content = json.loads(path.read_text())
        places = list(_list_places(content))
        for _ in range(COUNTS["value"] if path.name == "config.json" and path.parent == folder else 4):
            place, value = draw.choice(places), draw.choice(VALUES)
            name = f"{path.name}: {'.'.join(map(str, place))} = {value!r}"
            changed = json.dumps(_replace_at(content, place, value)).encode()
            faults.append(Fault(name, path.relative_to(folder).as_posix(), changed))
    return faults


def _list_places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of keys to every value inside nested dicts and lists."""
    yield place
    entries = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else ()
    for key, entry in entries:
        yield from _list_places(entry, (*place, key))


def _replace_at(content: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    copied = content.copy()
    copied[place[0]] = _replace_at(copied[place[0]], place[1:], value)
    return copied


def _list_wrong_tensors(folder: Path, paths: list[Path], draw: random.Random) -> list[Fault]:
    """Tensors of other shapes, dtypes and values, and headers that claim tensors of 10^12 numbers."""
    faults = []
    for path in paths:
        if path.suffix != ".safetensors":
            continue
        relative, tensors = path.relative_to(folder).as_posix(), load_file(path)
        for name in draw.sample(sorted(tensors), min(4, len(tensors))):
            tensor = tensors[name]
            changes = {
                "one axis more": tensor[None],
                "one number": tensor.flatten()[:1].clone(),
                "twice as long": torch.cat([tensor, tensor]) if tensor.ndim else tensor[None],
                "empty": tensor.flatten()[:0].clone(),
                **{str(dtype): tensor.to(dtype) for dtype in (torch.int64, torch.float64, torch.bfloat16, torch.bool)},
            }
            if tensor.is_floating_point():
                values = (float("nan"), float("inf"), -float("inf"), 3e38)
                changes |= {f"full of {value}": torch.full_like(tensor, value) for value in values}
            for change, changed in changes.items():
                content = save(tensors | {name: changed}, metadata={"format": "pt"})
                faults.append(Fault(f"{relative}: {name} {change}", relative, content))
            faults.append(Fault(f"{relative}: {name} claims 10^12 numbers", relative, _claim_huge_shape(path, name)))
    return faults


def _claim_huge_shape(path: Path, name: str) -> bytes:
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header[name]["shape"] = [10**6, 10**6]
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def _list_cuts(folder: Path, paths: list[Path]) -> list[Fault]:
    faults = []
    for path in paths:
        relative, data = path.relative_to(folder).as_posix(), path.read_bytes()
        faults.append(Fault(f"half of {relative}", relative, data[: len(data) // 2]))
        faults.append(Fault(f"{relative} is empty", relative, b""))
        faults.append(Fault(f"{relative} is missing", relative, None))
    return faults


def _list_extra_files() -> list[Fault]:
    index = b'{"weight_map": {"a": "../model.safetensors"}}'
    contents = {
        "modeling_extra.py": b"raise SystemExit",
        "pytorch_model.bin": b"\x80\x04N.",
        "model.safetensors.index.json": index,
        "adapter_config.json": b"[]",
    }
    return [Fault(f"an extra {name}", name, content) for name, content in contents.items()]


def _list_flips(folder: Path, paths: list[Path], draw: random.Random) -> list[Fault]:
    """Three random bytes in every small file, each changed alone."""
    faults = []
    for path in paths:
        data = path.read_bytes()
        if not 0 < len(data) <= SMALL:
            continue
        relative = path.relative_to(folder).as_posix()
        for _ in range(COUNTS["flip"]):
            changed, place = bytearray(data), draw.randrange(len(data))
            changed[place] ^= draw.randrange(1, 256)
            faults.append(Fault(f"byte {place} of {relative} is {changed[place]}", relative, bytes(changed)))
    return faults
