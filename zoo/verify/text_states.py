"""The steps of a Transformer on the way to a vector, with which vectors are computed as a wrong server would."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from zoo.ops.inference import evaluation_mode
from zoo.text.architectures import DEPTH_ADAPTERS, compute_max_length
from zoo.text.backbone import Backbone
from zoo.text.text_encoder import TextEncoder

Array = npt.NDArray[Any]
Rows = list[list[int]]
POOLINGS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "the mean of all tokens": lambda states: states.mean(0),
    "the first token": lambda states: states[0],
    "the last token": lambda states: states[-1],
    "the maximum over the tokens": lambda states: states.max(0).values,
    "the mean without the first and the last token": lambda states: (
        states[1:-1].mean(0) if len(states) > 2 else states[0]
    ),
    "a mean in which later tokens weigh more": lambda states: (
        states * torch.arange(1, len(states) + 1, device=states.device).unsqueeze(-1)
    ).mean(0),
}
"""Ways to make one vector (width,) from the states (tokens, width) of a text."""


class TextStates:
    """The vectors of a text encoder with a Transformer, step by step. They are float32 and not normalised.

    Args:
        encoder: the encoder at the view that is verified.
    """

    def __init__(self, encoder: TextEncoder) -> None:
        self.encoder = encoder
        whole = encoder.backbone
        layers = getattr(encoder, "layers", None)
        self.backbone: Backbone = whole.cut(layers) if layers and layers < whole.depth else whole
        self.limit = whole.max_length
        self.positions = compute_max_length(whole.model.config.to_dict())
        self._known: dict[tuple[int, ...], Array] = {}
        self._variants: dict[tuple[int, ...], dict[tuple[str, str], Array]] = {}

    # -- tokens ----------------------------------------------------------------------------------------------------

    def tokenize(
        self, texts: Sequence[str], *, limit: int | None = None, has_special_tokens: bool = True, side: str = "right"
    ) -> Rows:
        """Return the token ids of each text. `limit` is the number of tokens that stay, and `side` the one that is cut."""
        tokenizer: Any = self.backbone.tokenizer
        before = tokenizer.truncation_side
        tokenizer.truncation_side = side
        try:
            rows: Rows = tokenizer(
                list(texts), truncation=True, max_length=limit or self.limit, add_special_tokens=has_special_tokens
            )["input_ids"]
        finally:
            tokenizer.truncation_side = before
        return rows

    def tokenize_otherwise(self, texts: Sequence[str], normalizer: Callable[[Any], Any]) -> Rows:
        """Return the token ids if `normalizer` changes the JSON description of the tokenizer's normaliser."""
        from tokenizers import Tokenizer

        backend: Any = self.backbone.tokenizer
        description = json.loads(backend.backend_tokenizer.to_str())
        description["normalizer"] = normalizer(description.get("normalizer"))
        tokenizer = Tokenizer.from_str(json.dumps(description))
        tokenizer.no_padding()
        tokenizer.enable_truncation(self.limit)
        return [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]

    def drop_special(self, rows: Rows, place: int) -> Rows:
        """Return rows without the special token at `place`, 0 for the first one and -1 for the last one."""
        special = set(self.backbone.tokenizer.all_special_ids)
        return [
            [token for number, token in enumerate(row) if number != place % len(row)]
            if len(row) > 1 and row[place] in special
            else row
            for row in rows
        ]

    # -- vectors ---------------------------------------------------------------------------------------------------

    def compute(self, rows: Rows) -> Array:
        """Return the vectors (n, dim) of rows of token ids, each computed by itself."""
        for row in {tuple(row) for row in rows} - self._known.keys():
            with self._inference():
                batch = self._pad([list(row)])
                states = self.backbone.model(**batch).last_hidden_state
                pooled = self.backbone.pool(states, batch["attention_mask"])
                self._known[row] = self.encoder.map_pooled(pooled)[0].float().cpu().numpy()
        return np.stack([self._known[tuple(row)] for row in rows])

    def list_variants(self, row: Sequence[int]) -> dict[tuple[str, str], Array]:
        """Return the vector of one row for other poolings, layers and heads, by cause and detail. One pass gives them all."""
        key = tuple(row)
        if key not in self._variants:
            with self._inference():
                variants = self._make_variants(list(row))
            self._variants[key] = {name: vector.float().cpu().numpy() for name, vector in variants.items()}
        return self._variants[key]

    def _make_variants(self, row: list[int]) -> dict[tuple[str, str], torch.Tensor]:
        batch = self._pad([row])
        outputs = self.backbone.model(**batch, output_hidden_states=True)
        mask, last = batch["attention_mask"], outputs.last_hidden_state
        own = self.backbone.pool(last, mask)
        variants = {("head", "the modules after the pooling are missing"): own[0]}
        for name, pool in POOLINGS.items():
            pooled = pool(last[0])
            if pooled.shape == own[0].shape:  # not if the encoder joins several poolings
                variants["pooling", f"the vectors come from {name}"] = self.encoder.map_pooled(pooled[None])[0]
                variants["pooling and head", f"the vectors come from {name}, without the modules after the pooling"] = (
                    pooled
                )
        if isinstance(getattr(outputs, "pooler_output", None), torch.Tensor):
            variants["pooling", "the vectors come from the pooler output of the Transformer"] = outputs.pooler_output[0]
        is_cuttable = "layers" in self.encoder.spec.View.model_fields  # its views have a head for each layer
        for number, states in enumerate(() if is_cuttable else outputs.hidden_states[1:-1], 1):
            for norm, normed in self._list_norms(states):
                pooled = self.backbone.pool(normed, mask)
                variants["layer", f"the vectors come from layer {number}{norm}, not from the last one"] = (
                    self.encoder.map_pooled(pooled)[0]
                )
        return variants

    def _list_norms(self, states: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
        """Return the states of a block as they are, and after the last norm if the architecture has one."""
        adapter = DEPTH_ADAPTERS.get(self.backbone.model.config.model_type)
        if adapter is None or not adapter.norm:
            return [("", states)]
        norm = self.backbone.model.get_submodule(adapter.norm)
        return [("", norm(states)), (" before the last norm", states)]

    def compute_padded(self, rows: Rows, length: int, *, attends: bool) -> Array:
        """Return the vectors (n, dim) if rows are padded to `length` tokens and the padding counts in the pooling.

        `attends` says whether the tokens also see the padding.
        """
        tokenizer: Any = self.backbone.tokenizer
        vectors = []
        with self._inference():
            for row in rows:
                ids = torch.tensor([[*row, *[tokenizer.pad_token_id] * (length - len(row))]], device=self._device)
                ones = torch.ones_like(ids)
                mask = ones if attends else (torch.arange(length, device=self._device) < len(row)).long()[None]
                states = self.backbone.model(input_ids=ids, attention_mask=mask).last_hidden_state
                vectors.append(self.encoder.map_pooled(self.backbone.pool(states, ones))[0].float().cpu().numpy())
        return np.stack(vectors)

    @property
    def _device(self) -> torch.device:
        return self.backbone.model.device

    def _pad(self, rows: Rows) -> dict[str, torch.Tensor]:
        return {name: values.to(self._device) for name, values in self.backbone.pad(rows).items()}

    @contextmanager
    def _inference(self) -> Iterator[None]:
        with evaluation_mode(self.encoder.module), torch.inference_mode():
            yield


def keep_case(normalizer: Any) -> Any:
    """Return the description of a normaliser that does not make texts lower case."""
    if not isinstance(normalizer, dict):
        return normalizer
    if normalizer.get("type") == "Sequence":
        parts = [keep_case(part) for part in normalizer["normalizers"]]
        return {**normalizer, "normalizers": [part for part in parts if part is not None]}
    if normalizer.get("type") == "Lowercase":
        return None
    return {**normalizer, "lowercase": False} if "lowercase" in normalizer else normalizer


def drop_normalizer(_: Any) -> None:
    """Return no normaliser."""
