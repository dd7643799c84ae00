"""Transformer architectures whose depth can be cut, and what their config.json says about their size.

Architectures differ in where the blocks are, what follows the last block, and which config entries count or list the blocks.
`DEPTH_ADAPTERS` describes the architectures that were verified. Others can be encoders at their whole depth only. Imports no
torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zoo.core.errors import UncuttableError


@dataclass(frozen=True)
class DepthAdapter:
    """How the depth of an architecture is cut.

    Attributes:
        blocks: path of the ModuleList with the blocks.
        norm: path of a module that follows the last block at every depth, if any.
        count: config entry with the number of blocks.
        lists: config entries with one item per block.
        prefix: what a model with a task's head puts before the names of the bare model's tensors.
        template: the tensors, as `list_tensors` reads them.
    """

    blocks: str = "encoder.layer"
    norm: str | None = None
    count: str = "num_hidden_layers"
    lists: tuple[str, ...] = ()
    prefix: str = "bert."
    template: str = ""


# One tensor a line: its name, and its shape in entries of the config, numbers and products of them. {n} is the block's number.
# A line that ends with + also stands for the bias.
_BERT_BLOCK = """
encoder.layer.{n}.attention.self.query.weight        hidden_size hidden_size +
encoder.layer.{n}.attention.self.key.weight          hidden_size hidden_size +
encoder.layer.{n}.attention.self.value.weight        hidden_size hidden_size +
encoder.layer.{n}.attention.output.dense.weight      hidden_size hidden_size +
encoder.layer.{n}.attention.output.LayerNorm.weight  hidden_size +
"""
_BERT_FEED_FORWARD = """
encoder.layer.{n}.intermediate.dense.weight          intermediate_size hidden_size +
encoder.layer.{n}.output.dense.weight                hidden_size intermediate_size +
encoder.layer.{n}.output.LayerNorm.weight            hidden_size +
"""
_EMBEDDINGS = """
embeddings.word_embeddings.weight                    vocab_size hidden_size
embeddings.position_embeddings.weight                max_position_embeddings hidden_size
embeddings.LayerNorm.weight                          hidden_size +
"""
_TOKEN_TYPES = """
embeddings.token_type_embeddings.weight              type_vocab_size hidden_size
"""
_BERT = _EMBEDDINGS + _TOKEN_TYPES + _BERT_BLOCK + _BERT_FEED_FORWARD
_ELECTRA = (_EMBEDDINGS + _TOKEN_TYPES).replace("hidden_size", "embedding_size") + _BERT_BLOCK + _BERT_FEED_FORWARD
_MPNET = (
    _EMBEDDINGS
    + """
encoder.layer.{n}.attention.attn.q.weight            hidden_size hidden_size +
encoder.layer.{n}.attention.attn.k.weight            hidden_size hidden_size +
encoder.layer.{n}.attention.attn.v.weight            hidden_size hidden_size +
encoder.layer.{n}.attention.attn.o.weight            hidden_size hidden_size +
encoder.layer.{n}.attention.LayerNorm.weight         hidden_size +
encoder.relative_attention_bias.weight               relative_attention_num_buckets num_attention_heads
"""
    + _BERT_FEED_FORWARD
)
_DISTILBERT = (
    _EMBEDDINGS.replace("hidden_size", "dim")
    + """
transformer.layer.{n}.attention.q_lin.weight         dim dim +
transformer.layer.{n}.attention.k_lin.weight         dim dim +
transformer.layer.{n}.attention.v_lin.weight         dim dim +
transformer.layer.{n}.attention.out_lin.weight       dim dim +
transformer.layer.{n}.sa_layer_norm.weight           dim +
transformer.layer.{n}.ffn.lin1.weight                hidden_dim dim +
transformer.layer.{n}.ffn.lin2.weight                dim hidden_dim +
transformer.layer.{n}.output_layer_norm.weight       dim +
"""
)
_MODERNBERT = """
embeddings.tok_embeddings.weight                     vocab_size hidden_size
embeddings.norm.weight                               hidden_size
layers.{n}.attn.Wqkv.weight                          3*hidden_size hidden_size
layers.{n}.attn.Wo.weight                            hidden_size hidden_size
layers.{n}.mlp_norm.weight                           hidden_size
layers.{n}.mlp.Wi.weight                             2*intermediate_size hidden_size
layers.{n}.mlp.Wo.weight                             hidden_size intermediate_size
final_norm.weight                                    hidden_size
"""

# Decoders end with one norm, which follows the last block at every depth. Their tensors are checked when they are opened.
_DECODER = DepthAdapter(blocks="layers", norm="norm", lists=("layer_types",), prefix="model.")
_DECODERS = (
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma",
    "gemma2",
    "gemma3_text",
    "phi3",
    "smollm3",
    "olmo2",
    "granite",
)

DEPTH_ADAPTERS: dict[str, DepthAdapter] = {
    **dict.fromkeys(_DECODERS, _DECODER),
    "bert": DepthAdapter(template=_BERT),
    **dict.fromkeys(("roberta", "xlm-roberta", "camembert"), DepthAdapter(prefix="roberta.", template=_BERT)),
    "electra": DepthAdapter(prefix="electra.", template=_ELECTRA),
    "mpnet": DepthAdapter(prefix="mpnet.", template=_MPNET),
    "distilbert": DepthAdapter(
        blocks="transformer.layer", count="n_layers", prefix="distilbert.", template=_DISTILBERT
    ),
    "modernbert": DepthAdapter(
        blocks="layers", norm="final_norm", lists=("layer_types",), prefix="model.", template=_MODERNBERT
    ),
}

# their first position is the one after the padding token's id
_OFFSET_BY_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet")


_ENCODER_CLASSES = {
    "t5": "T5EncoderModel",
    "mt5": "MT5EncoderModel",
    "umt5": "UMT5EncoderModel",
    "longt5": "LongT5EncoderModel",
}
"""Models with an encoder and a decoder → the class of transformers that holds the encoder alone."""


def get_class_name(model_type: str) -> str:
    """Return the class of transformers that turns the tokens of a text into hidden states."""
    return _ENCODER_CLASSES.get(model_type, "AutoModel")


def get_depth_adapter(model_type: str) -> DepthAdapter:
    """Return the adapter of an architecture. Raise UncuttableError if it has none."""
    if model_type not in DEPTH_ADAPTERS:
        supported = ", ".join(sorted(DEPTH_ADAPTERS))
        raise UncuttableError(
            f"the architecture {model_type!r} has no depth adapter, so its layers cannot be cut; there are: {supported}"
        )
    return DEPTH_ADAPTERS[model_type]


def read_depth_and_width(config: Mapping[str, Any]) -> tuple[int, int]:
    """Return (number of blocks, hidden size) of a config.json. Raise UncuttableError for an architecture without an adapter."""
    adapter = get_depth_adapter(str(config.get("model_type")))
    width = config.get("hidden_size", config.get("dim"))
    return int(config[adapter.count]), int(width or 0)


def list_tensors(config: Mapping[str, Any]) -> dict[str, tuple[int, ...] | None]:
    """List the tensors that a config.json describes, without a pooler: name → shape, or None where the config is silent.

    The list is empty for an architecture without a template. Tensors that only a rare entry of the config asks for, for example
    biases of ModernBERT, are left out.
    """
    adapter = DEPTH_ADAPTERS.get(str(config.get("model_type")), DepthAdapter())
    tensors: dict[str, tuple[int, ...] | None] = {}
    for line in adapter.template.split("\n"):
        name, *sizes = line.split() or [""]
        shape = [_compute_size(size, config) for size in sizes if size != "+"]
        known_shape = None if None in shape else tuple(size for size in shape if size is not None)
        for number in range(int(config.get(adapter.count, 0))) if "{n}" in name else range(1 if name else 0):
            tensors[name.format(n=number)] = known_shape
            if sizes[-1] == "+":
                tensors[name.format(n=number).replace(".weight", ".bias")] = known_shape and known_shape[:1]
    return tensors


def _compute_size(size: str, config: Mapping[str, Any]) -> int | None:
    """Compute one size of a template, for example `3*hidden_size`. Return None if the config does not have the entry."""
    factor, _, name = size.rpartition("*")
    value = config.get(name)
    return value * int(factor or 1) if type(value) is int else None


def compute_max_length(config: Mapping[str, Any]) -> int | None:
    """Return the number of tokens that the position table of a config.json allows; None if it does not say."""
    positions = config.get("max_position_embeddings")
    if not positions:
        return None
    model_type = config.get("model_type")
    # MPNet's padding position is 1 whatever its config says
    padding_id = 1 if model_type == "mpnet" else int(config.get("pad_token_id") or 0)
    unused_positions = padding_id + 1 if model_type in _OFFSET_BY_PADDING else 0
    return int(positions) - unused_positions
