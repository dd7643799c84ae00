"""`Description`: the content of runtime.json, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from .checked_folder import read_json
from .errors import PackError

NAME = "runtime.json"
FORMAT = 1
ENGINES = ("onnx", "openvino")
MODALITIES = ("text", "image", "vector")


@dataclass(frozen=True)
class GraphFile:
    """One network of a folder.

    Attributes:
        file: its name, ending in .onnx or .xml.
        layers: the number of blocks that it has, or None if the family counts none.
        sides: the roles whose inputs it reads; [] for all.
    """

    file: str
    layers: int | None = None
    sides: tuple[str, ...] = ()


@dataclass(frozen=True)
class TokenSets:
    """Which tokens of a text count, in a model that gives a vector for each token.

    Attributes:
        dim: components of a token's vector.
        skipped_ids: token ids that do not count in documents.
        expanded_length: a query with fewer tokens is filled up to so many, which count; 0 for none.
        expansion_id: the token id that fills a query up.
        attends: whether the other tokens of a query see those that fill it up.
    """

    dim: int
    skipped_ids: tuple[int, ...] = ()
    expanded_length: int = 0
    expansion_id: int = 0
    attends: bool = False


@dataclass(frozen=True)
class Description:
    """The facts of a folder about its model. JSON holds the same names.

    Attributes:
        name, family: of the model.
        modality: text, image or vector.
        engine: onnx or openvino.
        precision: fp32 or int8.
        dim: components of a vector; bits of a packed code.
        dtype: of a vector: float32, or uint8 and uint16 for codes of latents; uint8 for packed bits.
        similarity: what vectors are compared with: cosine, dot or codes; hamming for packed bits.
        normalizes: whether vectors have unit norm.
        can_be_cut: whether the first components are a vector of their own.
        graphs: the networks, the whole one first.
        max_length: tokens of a text that are read; None for all.
        adds_special_tokens: whether the tokenizer adds its special tokens.
        pad_id: the token id that fills a batch up; it is masked.
        empty_id: the id that a text without any token gets; None for none.
        prompts: the text before a query, a document, and ("") a text without a role.
        size, channels: of an image; components: of a vector that is an input.
        classes, scale, threshold: of a classifier; the scores are multiplied by the scale.
        least_probability: a class that is less probable is not given.
        has_named_vectors: whether a text that is the name of a class has the vector of the class, in classes.safetensors.
        token_sets: which tokens count, if the model gives a vector for each token; else None.
        steps: names and fields of fitted steps, in order; their tensors are in NUMBER-NAME.safetensors.
        deviation: how far the vectors are from the exact ones, measured when the folder was written.
        source: where the model came from.
    """

    name: str
    family: str
    modality: str
    engine: str
    precision: str
    dim: int
    graphs: tuple[GraphFile, ...]
    dtype: str = "float32"
    similarity: str = "cosine"
    normalizes: bool = True
    can_be_cut: bool = False
    max_length: int | None = None
    adds_special_tokens: bool = True
    pad_id: int = 0
    empty_id: int | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)
    size: int = 0
    channels: int = 0
    components: int = 0
    classes: tuple[str | int, ...] = ()
    scale: float = 1.0
    threshold: float | None = None
    least_probability: float = 0.0
    has_named_vectors: bool = False
    token_sets: TokenSets | None = None
    steps: tuple[Mapping[str, Any], ...] = ()
    deviation: Mapping[str, Any] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)


def read(folder: Path) -> Description:
    """Read runtime.json of a folder whose manifest was verified. Raise PackError for anything that this version cannot use."""
    path = folder / NAME
    content = read_json(path)
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise PackError(f"{path}: is of another format; update embedding-zoo-runtime")
    unknown = content.keys() - {entry.name for entry in fields(Description)}
    if unknown:
        raise PackError(f"{path}: has the unknown entry {sorted(unknown)[0]!r}; update embedding-zoo-runtime")
    try:
        graphs = tuple(GraphFile(**{**entry, "sides": tuple(entry["sides"])}) for entry in content.pop("graphs"))
        values = _freeze(content)
        if values.get("token_sets") is not None:
            values["token_sets"] = TokenSets(**_freeze(values["token_sets"]))
        description = Description(**values, graphs=graphs)
    except (TypeError, KeyError, AttributeError):
        raise PackError(f"{path}: is malformed; write the folder again with zoo pack") from None
    _check(path, description)
    return description


def _freeze(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries with tuples instead of lists."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}


def _check(path: Path, description: Description) -> None:
    sets = description.token_sets or TokenSets(0)
    sizes = (
        *(description.dim, description.size, description.channels, description.components, description.pad_id),
        *(sets.dim, sets.expanded_length, sets.expansion_id, *sets.skipped_ids),
    )
    is_known = (
        description.engine in ENGINES
        and description.modality in MODALITIES
        and description.dtype in ("float32", "uint8", "uint16")
        and all(type(size) is int and 0 <= size < 1 << 31 for size in sizes)
        and isinstance(description.prompts, dict)
        and bool(description.graphs)
    )
    suffix = ".onnx" if description.engine == "onnx" else ".xml"
    names = [graph.file for graph in description.graphs]
    if not is_known or not all(isinstance(name, str) and "/" not in name and name.endswith(suffix) for name in names):
        raise PackError(f"{path}: describes a model that this version cannot use; update embedding-zoo-runtime")
    for name in names:
        if not (path.parent / name).is_file():
            raise PackError(f"{path.parent / name}: is missing; copy the folder again")
