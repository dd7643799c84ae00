"""Read the arguments of `Encoder.encode`, which are those of sentence-transformers, around the family's own encoding."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from zoo.core import inputs as input_checks
from zoo.core.errors import ZooError, first_line
from zoo.core.suggest import suggest

if TYPE_CHECKING:
    import numpy as np

ROLES = ("query", "document")
DIFFERENCES = {
    "output_value": "an encoder gives one vector for each input: leave it out",
    "truncate_dim": "cut the encoder first, if its family can be cut: encoder.view(dim=…)",
    "pool": "an encoder encodes in its own process: leave it out",
    "chunk_size": "an encoder encodes in its own process: leave it out",
    "show_progress": "it is called show_progress_bar",
    "prompts": "set `prompts:` in the recipe, or pass prompt=…",
}
"""Arguments of sentence-transformers that mean nothing here, and what to do instead."""
NEUTRAL_VALUES = (None, "sentence_embedding")
PRECISIONS = {"auto": "auto", "float32": "fp32", "bfloat16": "bf16", "float16": "fp16", "int8": "int8"}
"""Names of torch → names of zoo, which both work."""
QUANTISED = ("uint8", "binary", "ubinary")


def check_options(options: Mapping[str, Any], encode: Callable[..., Any]) -> dict[str, Any]:
    """Return the options that the family's own `encode` takes. Raises ZooError that says what an unknown one is called here."""
    if not options:
        return {}  # reading a signature takes as long as a tenth of a short query
    own = inspect.signature(encode).parameters.keys() - {"inputs", "show_progress", "precision", "prompt_type"}
    taken = {}
    for name, value in options.items():
        if name in own:
            taken[name] = value
        elif name in DIFFERENCES:
            if value not in NEUTRAL_VALUES:
                raise ZooError(f"encode has no {name}: {DIFFERENCES[name]}")
        else:
            known = [*own, "batch_size", "prompt", "prompt_name", "convert_to_tensor", "normalize_embeddings", "device"]
            raise ZooError(f"encode has no argument {name!r}{suggest(name, known, listing='')}")
    return taken


def read_precision(name: str) -> str:
    """Return zoo's name of a precision. Raises ZooError for a quantised one, which sentence-transformers means by the word."""
    if name in QUANTISED:
        raise ZooError(
            f"precision: {name!r}: here the word means the arithmetic: fp32, bf16, fp16, int8 or auto. To quantise vectors, pass "
            "them to sentence_transformers.quantize_embeddings"
        )
    if name not in (*PRECISIONS.values(), *PRECISIONS):
        raise ZooError(f"precision: {name!r} is not one of {', '.join(PRECISIONS.values())}")
    return PRECISIONS.get(name, name)


def read_role(prompt_name: str | None, prompt_type: str | None, has_roles: bool, family: str) -> str | None:
    """Return "query", "document" or None. Raises ZooError for another name, and if a family has no prompts."""
    if prompt_name is not None and prompt_type is not None and prompt_name != prompt_type:
        raise ZooError(f"prompt_name: {prompt_name!r} and prompt_type: {prompt_type!r} differ; give one of them")
    role = prompt_name if prompt_name is not None else prompt_type
    if role is None:
        return None
    if not has_roles:
        raise ZooError(f"prompt_name: {role!r}: the family {family} has no prompts; leave it out, or pass prompt=…")
    if role not in ROLES:
        name = "prompt_name" if prompt_name is not None else "prompt_type"
        raise ZooError(f"{name}: {role!r} is not one of {', '.join(ROLES)}")
    return role


def add_prompt(prompt: str, inputs: Iterable[Any]) -> Iterable[str]:
    """Put `prompt` before each text."""
    if not isinstance(prompt, str):
        raise ZooError(f"prompt: {prompt!r} is not a text")
    texts = (prompt + text for text in input_checks.check_texts(inputs))
    return list(texts) if isinstance(inputs, list | tuple) else texts


def encode_in_batches(encode: Callable[[list[Any]], Any], inputs: Iterable[Any], batch_size: int) -> Any:
    """Encode at most `batch_size` inputs at once, texts of similar length together, and return the vectors in order."""
    import numpy as np

    if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
        raise ZooError(f"batch_size: {batch_size!r} is not a number of inputs, 1 or more")
    items = list(inputs)
    order = sorted(range(len(items)), key=lambda i: -len(items[i]) if isinstance(items[i], str) else 0)
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)] or [[]]
    blocks = [encode([items[i] for i in batch]) for batch in batches[:1]]
    if not isinstance(blocks[0], np.ndarray):  # a form that a family's own option asks for
        return encode(items)
    blocks += [encode([items[i] for i in batch]) for batch in batches[1:]]
    vectors = np.concatenate(blocks)
    return vectors[np.argsort(order, kind="stable")] if order else vectors


def convert_to_tensor(vectors: Any, device: Any) -> Any:
    """Return vectors as a tensor on `device`."""
    import torch

    return torch.from_numpy(vectors).to(device)


def normalize(vectors: np.ndarray) -> np.ndarray:
    """Return the vectors with unit norm; a vector of zeros stays. Raises ZooError for codes."""
    import numpy as np

    if vectors.dtype.kind != "f":
        raise ZooError(
            f"normalize_embeddings: these are codes ({vectors.dtype}), which have no norm; leave it out, or take a view with "
            "real values, if the family has one"
        )
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: np.ndarray = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
    return unit


def read_device(name: Any) -> Any:
    """Return a torch device. Raises ZooError for a name that torch does not know, and for a GPU that is not there."""
    import torch

    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        raise ZooError(f"device: {name!r} cannot be used here: {first_line(error)}") from None
    return device
