"""Kinds of hostile model folders that are generated: one change for each file, entry, number or family that it can be made to."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import golden

Change = Callable[[Path], None]
Changes = dict[str, Change]
WEIGHTS = "model.safetensors"
SETTINGS = (
    *("config.json", "tokenizer_config.json", "sentence_bert_config.json", "config_sentence_transformers.json"),
    "1_Pooling/config.json",
)
OTHER_REPOSITORY = "evil/model"
ADAPTER = {"peft_type": "LORA", "base_model_name_or_path": OTHER_REPOSITORY, "task_type": "FEATURE_EXTRACTION"}


def _edit(name: str, edit: Callable[[Any], Any]) -> Change:
    """Replace the content of a JSON file by a function of it. A file that is not there counts as {}."""

    def change(folder: Path) -> None:
        path = folder / name
        content = json.loads(path.read_text()) if path.exists() else {}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(edit(content)))

    return change


def _set(name: str, *place: str | int, value: Any) -> Change:
    """Set one value of a JSON file, at a path of keys."""

    def edit(content: Any) -> Any:
        inner = content
        for key in place[:-1]:
            inner = inner.setdefault(key, {}) if isinstance(inner, dict) else inner[key]
        inner[place[-1]] = value
        return content

    return _edit(name, edit)


def _repeat_key(name: str, key: str, value: Any) -> Change:
    """Write a key of a JSON file twice; the second value is the old one."""

    def change(folder: Path) -> None:
        text = (folder / name).read_text().lstrip()
        (folder / name).write_text(f"{{{json.dumps(key)}: {json.dumps(value)}, {text[1:]}")

    return change


def _rewrite_header(edit: Callable[[dict[str, Any]], dict[str, Any]]) -> Change:
    """Replace the header of the weights by a function of it, and leave the numbers as they are."""

    def change(folder: Path) -> None:
        data = (folder / WEIGHTS).read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        header = json.dumps(edit(json.loads(data[8 : 8 + length]))).encode()
        (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(header)) + header + data[8 + length :])

    return change


def _convert_weights(dtype: str) -> Change:
    """Store every tensor in another dtype."""

    def change(folder: Path) -> None:
        import torch
        from safetensors.torch import load_file, save_file

        tensors = {name: tensor.to(getattr(torch, dtype)) for name, tensor in load_file(folder / WEIGHTS).items()}
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})

    return change


def _name_references() -> Iterator[tuple[str, Change]]:
    """Entries that name something outside the folder."""
    values: dict[str, Any] = {
        "auto_map": {"AutoModel": f"{OTHER_REPOSITORY}--model.Model"},
        "tokenizer_name_or_path": OTHER_REPOSITORY,
        "audio_tokenizer": {"audio_tokenizer_name_or_path": OTHER_REPOSITORY},
        "base_model_name_or_path": "/etc",
        "transformers_weights": "../model.safetensors",
        "attn_implementation": f"{OTHER_REPOSITORY}:attention",
        "quantization_config": {"quant_method": "gptq", "bits": 4},
        "use_pretrained_backbone": True,
        "tokenizer_file": "/etc/passwd",
        "vocab_file": "../vocab.txt",
    }
    for name in SETTINGS:
        for key, value in values.items():
            yield f"{key} in {name}", _set(name, key, value=value)
    for key in ("auto_map", "transformers_weights", "use_pretrained_backbone"):
        yield f"{key} deep in config", _set("config.json", "text_config", "inner", key, value=values[key])
    for group in ("model_args", "model_kwargs", "tokenizer_args", "processor_kwargs", "config_args", "config_kwargs"):
        for key in (
            "subfolder",
            "revision",
            "gguf_file",
            "adapter_kwargs",
            "cache_dir",
            "config",
            "_adapter_model_path",
        ):
            yield f"{group} with {key}", _set("sentence_bert_config.json", group, key, value="../other")
    for name in ("adapter_config.json", "1_Pooling/adapter_config.json", "0_Transformer/adapter_config.json"):
        for base in (OTHER_REPOSITORY, "/etc", ".", "../model"):
            yield f"{name} on {base}", _edit(name, lambda _, base=base: ADAPTER | {"base_model_name_or_path": base})
    yield "another backend", _set("sentence_bert_config.json", "backend", value="onnx")


def _name_modules() -> Iterator[tuple[str, Change]]:
    """Modules and shards that the manifest does not list, or that are outside the folder."""
    for path in (".cache", ".git/module", "a/.hidden", "../model", "/etc", "a\\..\\b"):
        yield f"a module in {path}", _set("modules.json", 1, "path", value=path)
    for name in (".gitattributes", ".eval_results", "README.md", "LICENSE", "a/b.safetensors", "/model.safetensors"):
        index = {"weight_map": {"embeddings.LayerNorm.bias": name}}
        yield f"a shard called {name}", _edit(f"{WEIGHTS}.index.json", lambda _, index=index: index)


def _distort_sizes() -> Iterator[tuple[str, Change]]:
    """Numbers of the config with another sign, size or type."""
    sizes = ("hidden_size", "num_attention_heads", "intermediate_size", "vocab_size", "num_hidden_layers")
    for name in (*sizes, "max_position_embeddings", "type_vocab_size"):
        for value in (-1, 2**63, 0.5, "a", [1], None, 0):
            yield f"{name} of {value}", _set("config.json", name, value=value)
    for name in ("hidden_dropout_prob", "layer_norm_eps", "initializer_range"):
        for number in ("NaN", "Infinity", "-Infinity"):
            yield f"{name} of {number}", _set("config.json", name, value=float(number.replace("Infinity", "inf")))


def _distort_tokenizer() -> Iterator[tuple[str, Change]]:
    """Tokenizers that grow a text, add tokens without end, or give ids that no embedding has."""

    def put(name: str, *place: str | int, value: Any) -> tuple[str, Change]:
        return name, _set("tokenizer.json", *place, value=value)

    def replace(content: str, pattern: dict[str, str]) -> dict[str, Any]:
        return {"type": "Replace", "pattern": pattern, "content": content}

    doubling = replace("aa", {"String": "a"})
    steps = {"10 steps that double": [doubling] * 10, "10^5 steps": [{"type": "Lowercase"}] * 100_000}
    for name, inner in steps.items():
        yield put(name, "normalizer", value={"type": "Sequence", "normalizers": inner})
        yield put(f"decoder of {name}", "decoder", value={"type": "Sequence", "decoders": inner})
    nested: dict[str, Any] = doubling
    for _ in range(200):
        nested = {"type": "Sequence", "normalizers": [nested, doubling]}
    yield put("nested steps", "normalizer", value=nested)
    for name, step in {
        "a text of 10^6": replace("a" * 10**6, {"String": "a"}),
        "a text of 60": replace("a" * 60, {"String": "a"}),
        "a text between all": replace("a" * 60, {"Regex": ""}),
        "a long beginning": {"type": "Prepend", "prepend": "a" * 10**6},
        "a heavy pattern": replace("", {"Regex": "((a{1,1000}){1,1000}){1,1000}"}),
        "a long pattern": replace("", {"Regex": "a?" * 50_000}),
        "a damaged table": {"type": "Precompiled", "precompiled_charsmap": "!!!"},
        "a table of long texts": {
            "type": "Precompiled",
            "precompiled_charsmap": "BAAAAAAAAAA" + "YWFh" * 1000 + "YQ==",
        },
    }.items():
        yield put(f"normaliser: {name}", "normalizer", value=step)
    yield put(
        "pre-tokenizers: 10^5",
        "pre_tokenizer",
        value={"type": "Sequence", "pretokenizers": [{"type": "Digits"}] * 10**5},
    )
    yield put(
        "pre-tokenizer: a heavy pattern",
        *("pre_tokenizer",),
        value={"type": "Split", "pattern": {"Regex": "(a{1,1000}){1,1000}"}, "behavior": "Isolated", "invert": False},
    )
    cls, text = {"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    for name, single, ids in (
        ("10^5 tokens", [cls] * 10**5 + [text], [2]),
        ("10^5 texts", [text] * 10**5, [2]),
        ("a token of 10^5", [cls, text], [2] * 10**5),
        ("an id beyond", [cls, text], [10**6]),
        ("a negative id", [cls, text], [-1]),
    ):
        tokens = {"[CLS]": {"id": "[CLS]", "ids": ids, "tokens": ["[CLS]"] * len(ids)}}
        template = {"type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": tokens}
        yield put(f"a template: {name}", "post_processor", value=template)
        yield put(f"templates: {name}", "post_processor", value={"type": "Sequence", "processors": [template]})
    bert = {"type": "BertProcessing", "sep": ["[SEP]", 10**7], "cls": ["[CLS]", 2]}
    yield put("a separator beyond", "post_processor", value=bert)
    for name, padding in (("10^9", {"Fixed": 10**9}), ("minus 1", {"Fixed": -1})):
        rule = {"strategy": padding, "direction": "Right", "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}
        yield put(f"padding to {name}", "padding", value=rule | {"pad_to_multiple_of": None})
    yield put(
        "padding to a multiple of 2^40", "padding", value={"strategy": "BatchLongest", "pad_to_multiple_of": 2**40}
    )
    yield put("cut to 2^40", "truncation", value={"max_length": 2**40, "strategy": "LongestFirst", "stride": 0})

    def add(number: int, content: str = "token") -> dict[str, Any]:
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
        return {"id": number, "content": content, **flags}

    yield put("10^5 added tokens", "added_tokens", value=[add(0, f"t{n}") for n in range(10**5)])
    for name, token in {
        "of 10^6 characters": add(0, "a" * 10**6),
        "without a text": add(0, ""),
        "beyond the table": add(10**6),
        "of a negative id": add(-1),
        "of an id as text": add("0"),  # type: ignore[arg-type]
    }.items():
        yield put(f"an added token {name}", "added_tokens", value=[token])
    for name, model in {
        "10^12 characters a word": {"max_input_chars_per_word": 10**12},
        "tokens drawn at random": {"dropout": 0.5},
        "a prefix of 10^6": {"continuing_subword_prefix": "#" * 10**6},
        "a negative token": {"vocab": {"[UNK]": -1}},
        "a token as text": {"vocab": {"[UNK]": "0"}},
        "no vocabulary": {"vocab": 3},
    }.items():
        yield (
            f"a tokenizer: {name}",
            _edit("tokenizer.json", lambda old, new=model: old | {"model": old["model"] | new}),
        )
    for name, content in {"a list": [], "a number": 3, "nothing": None, "empty": {}}.items():
        yield f"a tokenizer that is {name}", _edit("tokenizer.json", lambda _, content=content: content)
    yield "a tokenizer of 2·10^7 lists", lambda folder: _write_lists(folder / "tokenizer.json")


def _write_lists(path: Path) -> None:
    path.write_text('{"a": [' + "[]," * 20_000_000 + "[]]}")


def _distort_weights() -> Iterator[tuple[str, Change]]:
    """Weights of another dtype, name or number."""
    for dtype in ("int8", "uint8", "int16", "bool", "float8_e4m3fn", "float8_e5m2"):
        yield f"weights as {dtype}", _convert_weights(dtype)

    def rename(prefix: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
        return lambda header: {prefix * (key != "__metadata__") + key: entry for key, entry in header.items()}

    for prefix in ("module.", "evil.", "encoder.layer.9."):
        yield f"weights below {prefix}", _rewrite_header(rename(prefix))
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    yield "10^5 more tensors", _rewrite_header(lambda header: {f"t{n}": empty for n in range(100_001)} | header)
    yield "10^6 sizes of a tensor", _rewrite_header(lambda header: header | {"t": empty | {"shape": [1] * 10**6 + [0]}})
    yield "10^6 notes", _rewrite_header(lambda header: header | {"__metadata__": {str(n): "" for n in range(10**6)}})


def _distort_manifest() -> Iterator[tuple[str, Change]]:
    """Manifests that cannot be believed. They are not written again after the change."""
    for value in (True, 1.0, "1", [1], None):
        yield f"a manifest of format {value!r}", _set("manifest.json", "format", value=value)
    yield "two formats", _repeat_key("manifest.json", "format", 1)
    yield "two lists of files", _repeat_key("manifest.json", "files", {})
    for path in ("/etc/passwd", "a\\b", "", ".cache/a.json", "a/../../b"):
        yield f"a manifest of {path!r}", _set("manifest.json", "files", path, value={"sha256": "0" * 64, "size": 1})
    yield (
        "a manifest of 10^7 lists",
        lambda folder: (folder / "manifest.json").write_text("[" + "[]," * 4_000_000 + "[]]"),
    )


def _distort_every_family() -> Iterator[tuple[str, Change]]:
    """Changes that any model folder can have."""
    yield "code", _set("config.json", "auto_map", value={"AutoModel": "evil.Model"})
    yield "an adapter", _edit("adapter_config.json", lambda _: ADAPTER)
    yield "a key twice", _repeat_key("config.json", "zoo", {})
    yield "a format that is true", _set("config.json", "zoo", "format", value=True)
    yield "a spec of nothing", _set("config.json", "zoo", "spec", value={})
    yield "weights in eight bits", _convert_weights("int8")
    yield "weights below a prefix", _rewrite_header(lambda header: {f"x.{key}": entry for key, entry in header.items()})
    yield "no weights", lambda folder: (folder / WEIGHTS).unlink()
    yield "weights that are a folder", lambda folder: ((folder / WEIGHTS).unlink(), (folder / WEIGHTS).mkdir())  # type: ignore[return-value]


def list_changes() -> Changes:
    """List the generated changes of the folder of a 2D Matryoshka encoder."""
    kinds = (_name_references, _name_modules, _distort_sizes, _distort_tokenizer, _distort_weights)
    return {name: change for kind in kinds for name, change in kind()}


def list_changes_after_manifest() -> Changes:
    """List the generated changes of such a folder after which the manifest is not written again."""
    return dict(_distort_manifest())


def list_changes_by_family() -> dict[str, Changes]:
    """List the generated changes of the golden folder of each family."""
    families = sorted(path.name for path in golden.GOLDEN.iterdir())
    return {family: {f"{family}: {name}": change for name, change in _distort_every_family()} for family in families}
