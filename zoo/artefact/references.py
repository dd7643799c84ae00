"""Refuse a model folder whose files name something outside it: another repository, another folder, or code.

The libraries that open a model follow such names, with the user's token and without any hash. So a folder that was verified
could compute what somebody else decides later. Every JSON file is searched, at every depth, before anything is opened.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zoo.artefact import allowed_files
from zoo.core.errors import ArtefactError

ADAPTER_CONFIG = "adapter_config.json"
CODE = ("auto_map", "custom_pipelines", "custom_generate")
"""Entries that name code in a repository."""
REPOSITORIES = (
    "tokenizer_name_or_path",
    "audio_tokenizer_name_or_path",
    "base_model_name_or_path",
    "transformers_weights",
)
"""Entries that name another model."""
SWITCHES = ("use_pretrained_backbone", "quantization_config", "kernel_config", "fusion_config", "audio_tokenizer")
"""Entries that let transformers fetch weights or code, or change the weights."""
FILES = (
    "tokenizer_file",
    "vocab_file",
    "merges_file",
    "spm_file",
    "gguf_file",
    "added_tokens_file",
    "fast_tokenizer_files",
)
"""Entries that name files of a tokenizer. They may name files of the folder."""
ARGUMENTS = ("model_args", "model_kwargs", "tokenizer_args", "processor_kwargs", "config_args", "config_kwargs")
"""Entries of sentence-transformers that are passed on to transformers."""
SAFE_ARGUMENTS = frozenset(
    (
        *("attn_implementation", "dtype", "torch_dtype", "use_cache", "padding_side", "truncation", "padding"),
        *("model_max_length", "max_length", "add_bos_token", "add_eos_token", "clean_up_tokenization_spaces"),
    )
)
"""Arguments that cannot name anything outside the folder."""


def check(path: Path, content: Any, *, is_adapter: bool = False) -> None:
    """Raise ArtefactError if the JSON file `path` names something outside its folder.

    Args:
        path: the file, for the message.
        content: what it holds.
        is_adapter: whether the family says that the file is the config of its adapter. The family then pins the base itself.
    """
    if path.name == ADAPTER_CONFIG and not is_adapter:
        raise ArtefactError(
            f"{path}: an adapter makes the libraries load another model, whatever that holds by then; merge the adapter into "
            "the weights, or remove the file"
        )
    for name, value in _walk(content):
        problem = _find_problem(name, value, is_adapter)
        if problem:
            raise ArtefactError(f"{path}: {name}: {problem}; do not open this model")


def check_relative(path: Path, name: str) -> None:
    """Raise ArtefactError unless the file `path` may name `name`: a visible file or folder inside its own folder.

    Hidden files belong to git and to the client of the Hub. The manifest does not list them, so nothing is loaded from them.
    """
    is_hidden = any(part.startswith(".") for part in Path(name).parts)
    if name and (allowed_files.leaves_folder(name) or is_hidden):
        reason = "is hidden" if is_hidden and ".." not in Path(name).parts else "leaves the folder"
        raise ArtefactError(f"{path}: {name[:80]!r} {reason}; do not open this model")


def _find_problem(name: str, value: Any, is_adapter: bool) -> str | None:
    """Return what is wrong with an entry, or None."""
    if name in CODE and value is not None:
        return f"asks for code of its own ({name}), which is never run; use a model without it"
    if name in REPOSITORIES and value and not (is_adapter and name == "base_model_name_or_path"):
        return f"names {str(value)[:80]!r}, which is not in the folder"
    if name in SWITCHES and value:
        return "is not supported, because it reads or changes weights outside the folder's own"
    if name.endswith("attn_implementation") and isinstance(value, str) and ("/" in value or ":" in value):
        return f"{value[:80]!r} is code of another repository"
    if name == "backend" and value not in ("torch", None) and isinstance(value, str) and value in ("onnx", "openvino"):
        return f"{value!r} is not supported; only torch is"
    if name in FILES:
        outside = [entry for entry in (value if isinstance(value, list) else [value]) if _leaves(entry)]
        return f"names {str(outside[0])[:80]!r}, which is not in the folder" if outside else None
    if name in ARGUMENTS and isinstance(value, Mapping):
        others = sorted(map(str, value.keys() - SAFE_ARGUMENTS))
        return (
            f"holds {others[0][:80]!r}, which is not supported; only these are: {', '.join(sorted(SAFE_ARGUMENTS))}"
            if others
            else None
        )
    return None


def _leaves(value: Any) -> bool:
    return isinstance(value, str) and allowed_files.leaves_folder(value)


def _walk(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every entry of nested mappings and lists: its name and its value."""
    if isinstance(value, Mapping):
        for name, entry in value.items():
            yield str(name), entry
            yield from _walk(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _walk(entry)
