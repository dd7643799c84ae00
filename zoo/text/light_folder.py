"""Read the folder of a text model with `tokenizers` and `safetensors` alone, if every entry in it is one that is known here.

Opening a folder with sentence-transformers imports it, transformers and their dependencies, which takes seconds. For the networks
of `flat_layout`, encoding does without them. This module is strict and raises no error: whatever it does not know exactly, it
leaves to sentence-transformers, which also says what is wrong with a folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tokenizers
import torch
from safetensors.torch import save_file

from zoo.artefact import headers, preflight, tensors, transformer_folder
from zoo.core.errors import ZooError
from zoo.text import coded_folder, flat_layout
from zoo.text.architectures import compute_max_length, list_tensors
from zoo.text.coded_table import CodedEmbedding
from zoo.text.flat_layout import Layout
from zoo.text.pooling import MODES

WORDS_WEIGHT = f"{flat_layout.WORDS}.weight"
POOLERS = ("pooler.dense.weight", "pooler.dense.bias")
WITHOUT_POOLER = ("ElectraModel", "DistilBertModel")
_LEGACY_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_TRANSFORMER_SETTINGS: dict[str, Any] = {
    "transformer_task": "feature-extraction",
    "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
    "module_output_name": "token_embeddings",
    "do_lower_case": False,
}
"""Entries of sentence_bert_config.json besides `max_seq_length`, with the only values that are known here."""
_SETTINGS = {"__version__", "default_prompt_name", "model_type", "prompts", "similarity_fn_name"}
_VERBATIM = ("TokenizersBackend", "PreTrainedTokenizerFast")
"""Tokenizer classes that use tokenizer.json as it is."""
_TOKENS = ("unk_token", "sep_token", "pad_token", "cls_token", "mask_token", "bos_token", "eos_token")
_TOKENIZER_SETTINGS = {
    *_TOKENS,
    *("backend", "is_local", "local_files_only", "model_max_length", "tokenizer_class", "name_or_path"),
    *("do_lower_case", "tokenize_chinese_chars", "strip_accents", "do_basic_tokenize", "never_split"),
    *("clean_up_tokenization_spaces", "special_tokens_map_file", "tokenizer_file", "added_tokens_decoder"),
    *("max_length", "stride", "truncation_side", "truncation_strategy", "padding_side", "model_input_names"),
    *(
        "pad_to_multiple_of",
        "pad_token_type_id",
        "add_prefix_space",
        "extra_special_tokens",
        "model_specific_special_tokens",
    ),
}
"""Entries of tokenizer_config.json that do not change the tokens of a text, or that are compared below."""


class _UnknownError(Exception):
    """Something is not known here."""


@dataclass(frozen=True)
class LightFolder:
    """The parts of a folder that encoding needs.

    Attributes:
        layout: the shape of the network.
        tensors: all its tensors, float32, with the names of transformers. A coded table is not among them.
        tokenizer: truncates on the right at `max_length` tokens.
        padding: the id of the padding token.
        max_length: in tokens.
        modes: of the pooling.
        prompts: its prompts by their own names.
        table: the coded token table, or None for a table of floats.
        similarity: how its vectors are compared, or None if it does not say.
        has_dense: whether a Dense follows the pooling.
    """

    layout: Layout
    tensors: Mapping[str, torch.Tensor]
    tokenizer: tokenizers.Tokenizer
    padding: int
    max_length: int
    modes: tuple[str, ...]
    prompts: Mapping[str, str] = field(default_factory=dict)
    table: CodedEmbedding | None = None
    similarity: str | None = None
    has_dense: bool = False

    @property
    def width(self) -> int:
        """Components of a pooled vector."""
        return self.layout.width * len(self.modes)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text with special tokens, truncated, not padded."""
        return [encoding.ids for encoding in self.tokenizer.encode_batch_fast(list(texts))]

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the rows (…, width) of the token table for token ids (…)."""
        if self.table is not None:
            rows: torch.Tensor = self.table(ids)
            return rows
        return torch.nn.functional.embedding(ids, self.tensors[WORDS_WEIGHT])

    def write_weights(self, root: Path) -> None:
        """Write the tensors into a folder of the network, in the files that they were read from."""
        stem = "model" if self.table is None else coded_folder.NETWORK
        save_file(dict(self.tensors), root / f"{stem}.safetensors", metadata={"format": "pt"})
        if self.table is not None:
            parts = {name: part.detach() for name, part in self.table.parts.items()}
            save_file(parts, root / f"{coded_folder.TABLE}.safetensors", metadata={"format": "pt"})


def read(folder: Path, *, is_model_folder: bool, table: Any = None) -> LightFolder | None:
    """Read a folder of sentence-transformers; None if something in it is not known here, or not right.

    Call the checks of `preflight` first.

    Args:
        is_model_folder: whether zoo wrote it. Its tensors must then be exactly those of its config, and it may have a Dense,
            which the caller reads.
        table: the entry of the `zoo` block about a coded token table, or None.
    """
    try:
        return _read(folder, is_model_folder, table)
    except (_UnknownError, ZooError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _require(condition: object) -> None:
    if not condition:
        raise _UnknownError


def _read_object(path: Path) -> dict[str, Any]:
    content = preflight.read_json(path) if path.exists() else {}
    _require(isinstance(content, dict))
    return dict(content)


def _read(folder: Path, is_model_folder: bool, entry_of_table: Any) -> LightFolder:
    table = None if entry_of_table is None else coded_folder.read_table(folder, entry_of_table)
    entries = preflight.read_list(folder / ("modules.json" if table is None else coded_folder.MODULES))
    names = [str(entry["type"]).rsplit(".", 1)[-1] for entry in entries]
    middles = ([], ["Dense"]) if is_model_folder else ([],)
    ends = (["Normalize"], []) if not is_model_folder else (["Normalize"],)
    _require(names in [["Transformer", "Pooling", *middle, *end] for middle in middles for end in ends])
    root = transformer_folder.find_transformer(folder)
    config = _read_object(root / "config.json")
    layout = flat_layout.read_layout(config)
    if layout is None:
        raise _UnknownError
    _require(not config.get("tie_encoder_decoder") and config.get("dtype", "float32") == "float32")
    _require(config.get("torch_dtype", "float32") == "float32" and config.get("embedding_size", layout.width))
    modes = _read_modes(_read_object(folder / str(entries[1]["path"]) / "config.json"), layout.width)
    settings = _read_object(folder / "config_sentence_transformers.json")
    _require(set(settings) <= _SETTINGS and not settings.get("default_prompt_name"))
    prompts = settings.get("prompts") or {}
    _require(all(isinstance(prompt, str) for prompt in prompts.values()))
    for entry, name in zip(entries, names, strict=True):
        if name == "Dense":
            _require_dense(folder / str(entry["path"]), layout.width)
    stored = _read_tensors(root, config, layout, is_model_folder, table)
    tokenizer, limit = _read_tokenizer(root, config, layout.vocabulary)
    padding = tokenizer.token_to_id(_read_text(_read_object(root / "tokenizer_config.json").get("pad_token")))
    if padding is None:
        raise _UnknownError
    similarity = settings.get("similarity_fn_name")
    return LightFolder(
        layout, stored, tokenizer, padding, limit, modes, prompts, table, similarity, has_dense="Dense" in names
    )


def _read_modes(pooling: dict[str, Any], width: int) -> tuple[str, ...]:
    """Return the modes of a Pooling's config, in the order of their vectors."""
    legacy = {name: pooling.pop(name) for name in _LEGACY_MODES if name in pooling}
    known = {"embedding_dimension", "word_embedding_dimension", "pooling_mode", "include_prompt"}
    _require(set(pooling) <= known and pooling.get("include_prompt", True) is True)
    _require(pooling.get("embedding_dimension", pooling.get("word_embedding_dimension")) == width)
    mode = pooling.get("pooling_mode", [_LEGACY_MODES[name] for name in _LEGACY_MODES if legacy.get(name)])
    modes = (mode,) if isinstance(mode, str) else tuple(mode)
    _require(modes and set(modes) <= set(MODES))
    return modes


def _require_dense(folder: Path, width: int) -> None:
    """Require that the config of a Dense says the shape of its weights, which read vectors of `width` components."""
    sizes = _read_object(folder / "config.json")
    shape = headers.read_header(folder / "model.safetensors")["linear.weight"]
    _require(shape == (sizes.get("out_features"), sizes.get("in_features")) and shape[1] == width)


def _read_tensors(
    root: Path, config: Mapping[str, Any], layout: Layout, is_model_folder: bool, table: CodedEmbedding | None
) -> dict[str, torch.Tensor]:
    """Return the tensors, which have exactly the names, shapes and dtype that the config describes, and are finite."""
    stem = "model" if table is None else coded_folder.NETWORK
    _require((root / f"{stem}.safetensors").is_file())
    entries = headers.read_header(root / f"{stem}.safetensors")
    # A config may claim any number of blocks, and their names are listed next. Each block has a tensor.
    preflight.check_integers(root / "config.json", config, max_layers=len(entries))
    _require(layout.depth <= len(entries))
    shapes = {name: shape for name, shape in list_tensors(config).items() if shape is not None}
    if layout.is_projected:
        size = (layout.width, int(config["embedding_size"]))
        shapes |= {f"{flat_layout.PROJECTION}.weight": size, f"{flat_layout.PROJECTION}.bias": size[:1]}
    _require(shapes.keys() == layout.list_tensors() | {WORDS_WEIGHT})
    if table is not None:
        facts = table.facts
        _require(facts.module == flat_layout.WORDS and (facts.rows, facts.dim) == shapes.pop(WORDS_WEIGHT))
    has_pooler = layout.architecture.class_name not in WITHOUT_POOLER
    pooler = {POOLERS[0]: (layout.width, layout.width), POOLERS[1]: (layout.width,)} if has_pooler else {}
    stored = {name: shape for name, shape in entries.items() if not name.endswith(".position_ids")}
    _require(stored == {**shapes, **pooler} or (stored == shapes and not is_model_folder))
    values = tensors.read(root, stem)
    _require(all(values[name].dtype == torch.float32 and bool(torch.isfinite(values[name]).all()) for name in stored))
    return {name: values[name] for name in stored}


def _read_tokenizer(root: Path, config: Mapping[str, Any], rows: int) -> tuple[tokenizers.Tokenizer, int]:
    """Return the tokenizer as transformers would use it, and the number of tokens at which it truncates."""
    settings = _read_object(root / "tokenizer_config.json")
    _require(set(settings) <= _TOKENIZER_SETTINGS and settings.get("truncation_side", "right") == "right")
    _require(not settings.get("extra_special_tokens") and not settings.get("model_specific_special_tokens"))
    stated = preflight.read_json(root / "tokenizer.json", memory=1 << 30)
    added = {token["content"]: token for token in stated["added_tokens"]}
    specials = [_read_text(settings[name]) for name in _TOKENS if settings.get(name) is not None]
    _require(all(name in added and added[name]["special"] for name in specials))
    for number, token in (settings.get("added_tokens_decoder") or {}).items():
        _require(added.get(token["content"]) == {"id": int(number), **token})
    _require(not (stated.get("truncation") or {}).get("stride"))
    unknown = stated["model"].get("unk_token")
    _require(unknown is None or unknown in stated["model"]["vocab"])
    _require(stated["post_processor"] is not None and settings.get("pad_token") is not None)
    kind = str(settings.get("tokenizer_class"))
    if kind.removesuffix("Fast") == "BertTokenizer":
        _require(config["model_type"] in ("bert", "electra", "distilbert") and set(added) == set(specials))
        _check_bert(stated, settings)
    else:
        _require(kind in _VERBATIM)
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(stated))
    limit = _read_limit(root, config, settings)
    _require(max(tokenizer.get_vocab().values()) < rows)
    tokenizer.no_padding()
    tokenizer.enable_truncation(limit)
    return tokenizer, limit


def _read_text(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)


def _check_bert(stated: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Require the parts that transformers builds for BertTokenizer from its settings, whatever tokenizer.json says."""
    _require(
        stated["normalizer"]
        == {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": settings.get("tokenize_chinese_chars", True),
            "strip_accents": settings.get("strip_accents"),
            "lowercase": settings.get("do_lower_case", True),
        }
    )
    _require(stated["pre_tokenizer"] == {"type": "BertPreTokenizer"})
    model = dict(stated["model"])
    vocabulary = model.pop("vocab")
    unknown = _read_text(settings.get("unk_token", "[UNK]"))
    usual = {
        "type": "WordPiece",
        "unk_token": unknown,
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
    }
    _require({"type": "WordPiece", **model} == usual)
    first, last = (_read_text(settings[name]) for name in ("cls_token", "sep_token"))
    post = stated["post_processor"]
    ids = {name: vocabulary[name] for name in (first, last)}
    if post["type"] == "TemplateProcessing":
        pieces = [next(iter(piece.values()))["id"] for piece in post["single"]]
        _require(
            pieces == [first, "A", last] and all(post["special_tokens"][name]["ids"] == [ids[name]] for name in ids)
        )
    else:
        _require(
            post["type"] == "BertProcessing" and post["cls"] == [first, ids[first]] and post["sep"] == [last, ids[last]]
        )


def _read_limit(root: Path, config: Mapping[str, Any], settings: Mapping[str, Any]) -> int:
    """Return the number of tokens at which sentence-transformers truncates, within the model's positions."""
    stated = _read_object(root / "sentence_bert_config.json")
    limit = stated.pop("max_seq_length", None)
    _require(
        all(name in _TRANSFORMER_SETTINGS and _TRANSFORMER_SETTINGS[name] == value for name, value in stated.items())
    )
    positions = config["max_position_embeddings"]
    if limit is None:
        limit = min(settings["model_max_length"], positions)
    _require(type(limit) is int and 0 < limit <= positions)
    return int(min(limit, compute_max_length(config) or limit))
