"""Recognise the Transformers that `FlatTransformer` computes, and name their tensors. Needs no torch.

Recognition is strict: an architecture, a class, an activation or a config entry that is not known here is not recognised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}
"""The activation of a config → that of `zoo.ops.packed_linear`."""


@dataclass(frozen=True)
class BlockNames:
    """The layers of a block by their names in it: linear layers without suffix, then the two layer norms."""

    query: str
    key: str
    value: str
    attention_output: str
    attention_norm: str
    up: str
    down: str
    output_norm: str

    @property
    def layers(self) -> tuple[str, ...]:
        """All names."""
        return tuple(vars(self).values())


@dataclass(frozen=True)
class Architecture:
    """Its class, the names of its parts, and the entries of its config.

    Attributes:
        module, class_name: where transformers defines it.
        blocks: path of the list of blocks.
        names: the layers of a block.
        counts_padding: whether positions start after the padding token's id and skip padding tokens.
        has_types: whether the first row of a table of token types is added.
        has_relative_bias: whether attention has MPNet's bias for relative positions.
        width, heads, inner, depth, activation: the entries of the config.
        epsilon: that of the layer norms; None for the config's `layer_norm_eps`.
    """

    module: str
    class_name: str
    names: BlockNames
    blocks: str = "encoder.layer"
    counts_padding: bool = False
    has_types: bool = True
    has_relative_bias: bool = False
    width: str = "hidden_size"
    heads: str = "num_attention_heads"
    inner: str = "intermediate_size"
    depth: str = "num_hidden_layers"
    activation: str = "hidden_act"
    epsilon: float | None = None


_BERT = BlockNames(
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "attention.output.LayerNorm",
    "intermediate.dense",
    "output.dense",
    "output.LayerNorm",
)
_MPNET = BlockNames(
    "attention.attn.q",
    "attention.attn.k",
    "attention.attn.v",
    "attention.attn.o",
    "attention.LayerNorm",
    "intermediate.dense",
    "output.dense",
    "output.LayerNorm",
)
_DISTILBERT = BlockNames(
    "attention.q_lin",
    "attention.k_lin",
    "attention.v_lin",
    "attention.out_lin",
    "sa_layer_norm",
    "ffn.lin1",
    "ffn.lin2",
    "output_layer_norm",
)
ARCHITECTURES = {
    "bert": Architecture("bert.modeling_bert", "BertModel", _BERT),
    "electra": Architecture("electra.modeling_electra", "ElectraModel", _BERT),
    "roberta": Architecture("roberta.modeling_roberta", "RobertaModel", _BERT, counts_padding=True),
    "xlm-roberta": Architecture("xlm_roberta.modeling_xlm_roberta", "XLMRobertaModel", _BERT, counts_padding=True),
    "camembert": Architecture("camembert.modeling_camembert", "CamembertModel", _BERT, counts_padding=True),
    "mpnet": Architecture(
        "mpnet.modeling_mpnet",
        "MPNetModel",
        _MPNET,
        counts_padding=True,
        has_types=False,
        has_relative_bias=True,
    ),
    "distilbert": Architecture(
        "distilbert.modeling_distilbert",
        "DistilBertModel",
        _DISTILBERT,
        blocks="transformer.layer",
        has_types=False,
        width="dim",
        heads="n_heads",
        inner="hidden_dim",
        depth="n_layers",
        activation="activation",
        epsilon=1e-12,
    ),
}
WORDS = "embeddings.word_embeddings"
POSITIONS = "embeddings.position_embeddings.weight"
TYPES = "embeddings.token_type_embeddings.weight"
NORM = "embeddings.LayerNorm"
PROJECTION = "embeddings_project"
RELATIVE_BIAS = "encoder.relative_attention_bias.weight"
UNUSED = ("pooler.",)
"""Beginnings of names of tensors that are never computed."""


@dataclass(frozen=True)
class Layout:
    """The shape of a recognised Transformer.

    Attributes:
        architecture: what it is.
        depth, width, heads: blocks, components of a state, attention heads.
        activation: of `zoo.ops.packed_linear`.
        epsilon: of its layer norms.
        padding: the padding token's id, for positions; None if they are simply counted.
        is_projected: whether a linear layer follows the embeddings.
        vocabulary: number of tokens.
    """

    architecture: Architecture
    depth: int
    width: int
    heads: int
    activation: str
    epsilon: float
    padding: int | None
    is_projected: bool
    vocabulary: int

    def name_block(self, number: int) -> dict[str, str]:
        """The full names of the layers of a block, by their field in `BlockNames`; the first block is 0."""
        prefix = f"{self.architecture.blocks}.{number}."
        return {field: prefix + name for field, name in vars(self.architecture.names).items()}

    def list_tensors(self) -> set[str]:
        """The names of all tensors but those of the word embeddings."""
        layers = [name for number in range(self.depth) for name in self.name_block(number).values()]
        layers += [NORM, *([PROJECTION] if self.is_projected else [])]
        tables = [POSITIONS]
        tables += [TYPES] if self.architecture.has_types else []
        tables += [RELATIVE_BIAS] if self.architecture.has_relative_bias else []
        return {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")} | set(tables)


def read_layout(config: Mapping[str, Any]) -> Layout | None:
    """Return the layout that a config of transformers describes; None if it is not exactly one of those known here."""
    architecture = ARCHITECTURES.get(str(config.get("model_type")))
    if architecture is None:
        return None
    sizes = [config.get(getattr(architecture, name)) for name in ("depth", "width", "heads")]
    sizes.append(config.get("vocab_size"))
    activation = ACTIVATIONS.get(str(config.get(architecture.activation)))
    epsilon = config.get("layer_norm_eps") if architecture.epsilon is None else architecture.epsilon
    padding = (
        1 if architecture.has_relative_bias else config.get("pad_token_id")
    )  # MPNet's is 1 whatever its config says
    depth, width, heads, vocabulary = (size if type(size) is int and size > 0 else 0 for size in sizes)
    is_plain = (
        not config.get("is_decoder")
        and not config.get("add_cross_attention")
        and not config.get("quantization_config")
        and config.get("position_embedding_type", "absolute") in ("absolute", None)
        and config.get("relative_attention_num_buckets", 32) == 32
    )
    if (
        not is_plain
        or activation is None
        or not isinstance(epsilon, float)
        or not depth
        or not heads
        or not vocabulary
        or width % heads
    ):
        return None
    if architecture.counts_padding and type(padding) is not int:
        return None
    embedding_size = config.get("embedding_size", width) if architecture.class_name == "ElectraModel" else width
    return Layout(
        architecture,
        depth,
        width,
        heads,
        activation,
        epsilon,
        padding if architecture.counts_padding else None,
        embedding_size != width,
        vocabulary,
    )


def recognise(model: Any) -> Layout | None:
    """Return the layout of a module of transformers, or None unless every part of it is exactly the known one.

    A replaced layer, a hook, an overridden `forward`, a tensor of another name, device or precision, all say no.
    """
    config: Any = getattr(model, "config", None)
    layout = read_layout(config.to_dict()) if hasattr(config, "to_dict") else None
    if layout is None or not _is_class(type(model), layout.architecture, model=True):
        return None
    words = model.get_input_embeddings()
    inside_words = {id(part) for part in words.modules()}
    for part in model.modules():
        if id(part) not in inside_words and not _is_plain(part, layout.architecture):
            return None
    if not _is_plain(words, layout.architecture) and type(words).__name__ != "CodedEmbedding":
        return None
    tensors = dict(model.named_parameters())
    names = {name for name in tensors if not name.startswith((*UNUSED, f"{WORDS}."))}
    is_exact = all(str(tensor.dtype) == "torch.float32" and tensor.device.type == "cpu" for tensor in tensors.values())
    return layout if is_exact and names == layout.list_tensors() else None


def _is_plain(part: Any, architecture: Architecture) -> bool:
    has_hooks = part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part)
    return not has_hooks and _is_class(type(part), architecture)


def _is_class(kind: type, architecture: Architecture, *, model: bool = False) -> bool:
    if kind.__module__ == f"transformers.models.{architecture.module}":
        return kind.__name__ == architecture.class_name if model else True
    return not model and kind.__module__.startswith(("torch.nn.modules.", "transformers.activations"))
