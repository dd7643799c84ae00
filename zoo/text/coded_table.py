"""`CodedEmbedding`: a token table that stays coded in memory, and how it takes the place of a backbone's own table."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import torch

from zoo.core.errors import ArtefactError, ZooError
from zoo.ops import tables
from zoo.ops.tables import Codec
from zoo.text.containers import copy_container

FLOAT_BYTES = 4
BLOCK = 1 << 13
"""Rows that are decoded together."""
LARGEST = 10_000_000
"""Most rows, and most components, of a table that is opened."""
SPECIAL_TOKENS = ("pad", "cls", "sep", "unk", "mask", "bos", "eos")


@dataclass(frozen=True)
class TableFacts:
    """Facts about a coded table for config.json and the card.

    Attributes:
        codec: int8, int4 or pq.
        module: path of the table in the network.
        rows, dim: its shape.
        kept, finer: numbers of rows in float32 and of further rows in int8.
        bytes: of all its parts, in the file and in memory.
        float_bytes: of the table as float32.
        mean_error, worst_error: squared error of a row relative to its squared norm.
        worst_token: the token of the row with the largest error.
        worst_cosine: the lowest cosine between a text's vector and the float model's.
        texts: how many texts `worst_cosine` was measured on.
        distilled_steps: steps of distillation; 0 without.
        undistilled_worst_cosine: `worst_cosine` before the distillation; None without.
    """

    codec: Codec
    module: str
    rows: int
    dim: int
    kept: int
    finer: int
    bytes: int
    float_bytes: int
    mean_error: float
    worst_error: float
    worst_token: str
    worst_cosine: float = 1.0
    texts: int = 0
    distilled_steps: int = 0
    undistilled_worst_cosine: float | None = None


class CodedEmbedding(torch.nn.Module):
    """A token table of codes. `forward` decodes the rows that a batch needs, by one gather and one scale.

    The parts are those of `zoo.ops.tables`. Only the kept rows are a parameter: their dtype is that of the output. Codes are
    never changed, so deep copies share them.

    Args:
        facts: codec and shape.
        parts: the parts of the table; None for parts of zeros, to be filled.
    """

    def __init__(self, facts: TableFacts, parts: Mapping[str, torch.Tensor] | None = None) -> None:
        super().__init__()
        self.facts = facts
        shapes = tables.describe_shapes(facts.codec, facts.rows, facts.dim, facts.kept, facts.finer)
        for name, shape in shapes.items():
            part = torch.zeros(shape, dtype=tables.get_dtype(name)) if parts is None else parts[name]
            if name == "kept_rows":
                self.kept_rows = torch.nn.Parameter(part, requires_grad=False)
            else:
                self.register_buffer(name, part)

    @property
    def num_embeddings(self) -> int:
        """The number of tokens, as in `torch.nn.Embedding`."""
        return self.facts.rows

    @property
    def embedding_dim(self) -> int:
        """The components of a row, as in `torch.nn.Embedding`."""
        return self.facts.dim

    @property
    def parts(self) -> dict[str, torch.Tensor]:
        """The tensors of the table by name."""
        return {**dict(self.named_buffers()), "kept_rows": self.kept_rows}

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the rows (…, dim) of token ids (…)."""
        return tables.decode(self.parts, self.facts.codec, ids, self.facts.dim)

    def decode(self) -> torch.Tensor:
        """Return the whole table (rows, dim) float32."""
        with torch.no_grad():
            ids = torch.arange(self.facts.rows, device=self.kept_rows.device)
            blocks = [ids[start : start + BLOCK] for start in range(0, len(ids), BLOCK)]
            return torch.cat([self(block).float().cpu() for block in blocks])

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        memo.update({id(part): part for part in self.buffers()})
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        twin.__dict__ = copy.deepcopy(self.__dict__, memo)
        return twin


def find(model: Any) -> CodedEmbedding | None:
    """Return the coded table of a transformers model, or None if its table is of floats."""
    table = model.get_input_embeddings()
    return table if isinstance(table, CodedEmbedding) else None


def count_parameters(model: Any) -> int:
    """Return the number of weights of a model, in which a coded table counts as the numbers that it stands for."""
    table = find(model)
    coded = 0 if table is None else table.facts.rows * table.facts.dim - table.kept_rows.numel()
    weights: int = sum(parameter.numel() for parameter in model.parameters())
    return coded + weights


def find_plain_table(model: Any, name: str) -> str:
    """Return the path of a model's token table. Raise ZooError, which names the model, if it cannot be coded."""
    table = model.get_input_embeddings()
    if isinstance(table, CodedEmbedding):
        raise ZooError(
            f"{name}: its token table is coded already ({table.facts.codec}): export it with --table float first"
        )
    if type(table) is not torch.nn.Embedding or table.num_embeddings != getattr(model.config, "vocab_size", None):
        raise ZooError(
            f"{name}: its token table is not a plain look-up with one row for each token, so it cannot be coded"
        )
    if model.all_tied_weights_keys:
        raise ZooError(f"{name}: its token table shares its weights with another layer, so it cannot be coded")
    return next(str(path) for path, module in model.named_modules() if module is table)


def encode(
    model: Any, tokenizer: Any, codec: Codec, finer: Sequence[int] = (), *, name: str, seed: int
) -> CodedEmbedding:
    """Encode the token table of a transformers model. The rows of special tokens stay as they are.

    Raises ZooError, which names the model, if its table cannot be coded.
    """
    path = find_plain_table(model, name)
    weight = model.get_input_embeddings().weight.detach().float().cpu()
    special = {getattr(tokenizer, f"{token}_token_id", None) for token in SPECIAL_TOKENS}
    kept = [row for row in special if row is not None and row < len(weight)]
    try:
        parts = tables.encode(weight, codec, kept=kept, finer=finer, seed=seed)
    except ValueError as error:
        raise ZooError(f"{name}: {error}") from None
    rows, dim = weight.shape
    counts = {"kept": len(parts["kept_ids"]), "finer": len(parts.get("finer_ids", ()))}
    sizes = {"bytes": tables.count_bytes(parts), "float_bytes": rows * dim * FLOAT_BYTES}
    facts = TableFacts(codec, path, rows, dim, **counts, **sizes, mean_error=0.0, worst_error=0.0, worst_token="")
    return describe_errors(CodedEmbedding(facts, parts), weight, tokenizer)


def describe_errors(table: CodedEmbedding, weight: torch.Tensor, tokenizer: Any) -> CodedEmbedding:
    """Set the errors of the rows in the facts of `table`, compared with `weight` (rows, dim), and return it."""
    errors = tables.compute_row_errors(weight, table.decode())
    errors = errors.nan_to_num(posinf=0.0)  # a row of almost nothing has no direction that could be wrong
    worst = int(errors.argmax())
    table.facts = replace(
        table.facts,
        mean_error=float(errors.mean()),
        worst_error=float(errors[worst]),
        worst_token=str(tokenizer.convert_ids_to_tokens(worst)),
    )
    return table


def insert(model: Any, table: torch.nn.Module) -> Any:
    """Return a copy of a transformers model with `table` as its token table, which shares every other tensor."""
    old = model.get_input_embeddings()
    path = next(path for path, module in model.named_modules() if module is old).split(".")
    twin = parent = copy_container(model)
    for name in path[:-1]:
        child = copy_container(parent.get_submodule(name))
        parent._modules[name] = child
        parent = child
    parent._modules[path[-1]] = table
    return twin


def make_plain(table: CodedEmbedding, padding: int | None) -> torch.nn.Embedding:
    """Return the decoded table as a plain embedding."""
    return torch.nn.Embedding(table.facts.rows, table.facts.dim, padding_idx=padding, _weight=table.decode())


def describe(model: Any) -> dict[str, Any]:
    """Return the entry `table` of the `zoo` block of config.json; {} for a table of floats."""
    table = find(model)
    return {} if table is None else {"table": asdict(table.facts)}


def read_facts(place: Any, entry: Any) -> TableFacts:
    """Read the entry `table` of the `zoo` block. Raise ArtefactError, which names `place`, if it is malformed."""
    try:
        facts = TableFacts(**entry)
    except TypeError:
        raise ArtefactError(f"{place}: the entry `table` is malformed; download the model again") from None
    numbers = (facts.rows, facts.dim, facts.kept, facts.finer)
    is_sized = all(type(number) is int and 0 <= number <= LARGEST for number in numbers)
    if facts.codec not in tables.CODECS or not is_sized or not facts.rows or not facts.dim:
        raise ArtefactError(f"{place}: the entry `table` names no table that this version opens; update embedding-zoo")
    if not isinstance(facts.module, str) or not facts.module.replace(".", "_").isidentifier():
        raise ArtefactError(f"{place}: the entry `table` names no module; download the model again")
    return facts
