"""Model folders that a stranger might send: each a change of an honest one, with a manifest that agrees."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zoo import manifest

Change = Callable[[Path], None]


def edit(name: str, **values: Any) -> Change:
    def change(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


def zoo_block(**values: Any) -> Change:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        config = json.loads(path.read_text())
        config["zoo"] |= values
        path.write_text(json.dumps(config))

    return change


def text(name: str, content: str) -> Change:
    return lambda folder: (folder / name).write_text(content) and None


def header(**values: Any) -> Change:
    """Replace entries of the safetensors header and leave the numbers as they are."""

    def change(folder: Path) -> None:
        path = folder / "model.safetensors"
        data = path.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        entries = json.loads(data[8 : 8 + length])
        name = next(n for n in entries if n != "__metadata__")
        entries[name] = entries[name] | values
        new = json.dumps(entries).encode()
        path.write_bytes(struct.pack("<Q", len(new)) + new + data[8 + length :])

    return change


def head(change: Callable[[bytes], bytes]) -> Change:
    return lambda folder: (
        (folder / "model.safetensors").write_bytes(change((folder / "model.safetensors").read_bytes())) and None
    )


def not_a_number(folder: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    name = max(tensors, key=lambda n: tensors[n].numel())
    tensors[name].view(-1)[0] = torch.nan
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def heads(**tensors: list[list[float]]) -> Change:
    """The heads of shallow layers, others put in: `layer_part=values`."""

    def change(folder: Path) -> None:
        import torch
        from safetensors.torch import load_file, save_file

        new = {name.replace("_", "."): torch.tensor(values) for name, values in tensors.items()}
        save_file(load_file(folder / "heads.safetensors") | new, folder / "heads.safetensors")

    return change


def symlink(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.json").symlink_to("/etc/passwd")


def leaving(folder: Path) -> None:
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    content["files"]["../outside.json"] = {"sha256": "0" * 64, "size": 1}
    path.write_text(json.dumps(content))


DEEP = "[" * 1_000_000 + "]" * 1_000_000
INDEX = "model.safetensors.index.json"
POOL, DENSE = "1_Pooling/config.json", "2_Dense/config.json"
CHANGES: dict[str, Change] = {
    "10^12 layers": edit("config.json", num_hidden_layers=10**12),
    "a layer too many": edit("config.json", num_hidden_layers=4),
    "10^12 components": edit("config.json", hidden_size=10**12),
    "10^6 components": edit("config.json", hidden_size=1_000_000),
    "10^9 words": edit("config.json", vocab_size=10**9),
    "5·10^6 words": edit("config.json", vocab_size=5_000_000),
    "10^9 positions": edit("config.json", max_position_embeddings=10**9),
    "10^12 labels": edit("config.json", num_labels=10**12),
    "10^7 inner components": edit("config.json", intermediate_size=10_000_000),
    "negative sizes": edit("config.json", hidden_size=-32),
    "sizes as text": edit("config.json", hidden_size="32; import os"),
    "no heads": edit("config.json", num_attention_heads=0),
    "another architecture": edit("config.json", model_type="gpt2"),
    "unknown architecture": edit("config.json", model_type="../evil"),
    "code of its own": edit("config.json", auto_map={"AutoModel": "evil.Model"}),
    "a tokenizer's code": edit("tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Tok", None]}),
    "a foreign module": text("modules.json", '[{"idx": 0, "name": "0", "path": "", "type": "subprocess.Popen"}]'),
    "a module outside": text(
        "modules.json",
        '[{"idx": 0, "name": "0", "path": "../../etc", "type": "sentence_transformers.models.Transformer"}]',
    ),
    "modules are no list": text("modules.json", '{"idx": 0}'),
    "deep config": text("config.json", DEEP),
    "deep modules": text("modules.json", DEEP),
    "a config of 100 MB": text("config.json", '{"zoo": "' + "a" * 100_000_000 + '"}'),
    "config is no object": text("config.json", "[]"),
    "config is no JSON": text("config.json", "{"),
    "pooling of another width": edit(POOL, embedding_dimension=10**9, word_embedding_dimension=10**9),
    "a dense of 10^12": edit(DENSE, in_features=10**6, out_features=10**6),
    "a view of 10^12": zoo_block(dim=10**12),
    "a negative view": zoo_block(dim=-3),
    "no family": zoo_block(family=None),
    "a family of paths": zoo_block(family="../../os"),
    "a newer format": zoo_block(format=10**6),
    "a spec of another kind": zoo_block(spec=[1, 2]),
    "header longer than the file": head(lambda data: struct.pack("<Q", 2**62) + data[8:]),
    "header of 50 MB in a small file": head(lambda data: struct.pack("<Q", 50_000_000) + data[8:]),
    "header is no JSON": head(lambda data: data[:8] + b"\xff" * 16 + data[24:]),
    "deep header": head(lambda data: struct.pack("<Q", len(DEEP)) + DEEP.encode()),
    "a tensor of 10^12": header(shape=[10**6, 10**6]),
    "a negative shape": header(shape=[-1, 4]),
    "offsets beyond the file": header(data_offsets=[0, 2**50]),
    "offsets that run back": header(data_offsets=[64, 0]),
    "an unknown dtype": header(dtype="Q99"),
    "not a number": not_a_number,
    "half the weights": head(lambda data: data[: len(data) // 2]),
    "empty weights": head(lambda data: b""),
    "deep tokenizer": text("tokenizer.json", DEEP),
    "no tokenizer": lambda folder: (folder / "tokenizer.json").unlink(),
    "a link to another place": symlink,
    "an index without a map": text(INDEX, "{}"),
    "an index that is a list": text(INDEX, "[]"),
    "an index of no names": text(INDEX, '{"weight_map": {}}'),
    "an index of a number": text(INDEX, '{"weight_map": 3}'),
    "an index of lists": text(INDEX, '{"weight_map": {"a": ["model.safetensors"]}}'),
    "an index that leaves": text(INDEX, '{"weight_map": {"a": "../model.safetensors"}}'),
    "an index of files that are not there": text(INDEX, '{"weight_map": {"a": "b.safetensors"}}'),
    "deep index": text(INDEX, DEEP),
    "a head of no layer": heads(l_weight=[[0.0]]),
    "a head of the 99th layer": heads(**{"99_weight": [[0.0]]}),
    "a head of another shape": heads(**{"1_weight": [[0.0]]}),
    "a head that is not a number": heads(**{"1_weight": [[float("nan")] * 32] * 8}),
}
AFTER: dict[str, Change] = {  # the manifest itself
    "a path that leaves": leaving,
    "deep manifest": text("manifest.json", DEEP),
    "manifest of another format": text("manifest.json", '{"format": 99, "files": {}}'),
    "manifest without sizes": text("manifest.json", '{"format": 1, "files": {"config.json": {}}}'),
}


def make(honest: Path, target: Path) -> list[Path]:
    """One folder a change, below `target`, each named after it."""
    out = []
    for name, change in (CHANGES | AFTER).items():
        folder = target / name.replace("/", " of ")
        shutil.copytree(honest, folder)
        change(folder)
        if name in CHANGES:
            manifest.write(folder)
        out.append(folder)
    return out


CHILD = """
import json, resource, sys, time
import zoo
from zoo.errors import ZooError
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
zoo.from_pretrained(sys.argv[1]).encode(["the dog"])
for folder in sys.argv[2:]:
    before, began = peak(), time.perf_counter()
    try:
        zoo.from_pretrained(folder)
        word = "opened"
    except ZooError as error:
        word = "refused: " + str(error)[:200]
    except Exception as error:
        word = f"crashed: {type(error).__name__}: {error}"[:200]
    print(json.dumps([folder, word, peak() - before, time.perf_counter() - began]), flush=True)
"""
"""Opens the honest folder argv[1], then each other one; a line of JSON each: folder, what happened, MB more, seconds."""
