"""Static embeddings: a text is the mean of its tokens' vectors, which are distilled from a sentence encoder and then trained.

`distillation` and `regression` make the vectors in closed form. Training moves them with an in-batch contrastive loss. A trained
model needs no network and no torch: opening it and encoding with it imports neither.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from zoo.artefact import preflight, tensors
from zoo.core.errors import ArtefactError, ZooError
from zoo.core.inputs import check_texts, read_in_windows
from zoo.data.mapped import read_column
from zoo.data.split import draw_positions
from zoo.encoder import Encoder as BaseEncoder
from zoo.encoder import TrainingRun
from zoo.families.static import token_bag
from zoo.families.static.spec import COLUMNS, Spec, describe_misfit
from zoo.families.static.token_bag import TokenBag
from zoo.graph import Graph, TextReader
from zoo.hub import model_references
from zoo.text import tokenizer_checks

if TYPE_CHECKING:
    import torch
    from datasets import Dataset

    from zoo.families.static.distillation import Distillation

Array = npt.NDArray[Any]
TENSOR = "embedding.weight"
BLOCK = 8192  # texts of a block of `stream`
MAX_PREPARED = 500_000  # rows whose texts are in memory at once before the training
PRECISIONS = ("auto", "fp32", "bf16", "fp16")


class Encoder(BaseEncoder):
    """A tokenizer and a vector for each of its tokens. Vectors of texts have unit norm at every width.

    Attributes:
        bag: the tokenizer and the table of token vectors, (tokens, dim) float32.
    """

    spec: Spec
    _moves = False  # numpy adds the vectors up

    def __init__(self, spec: Spec, bag: TokenBag) -> None:
        super().__init__()
        self.spec, self.bag, self.dim = spec, bag, bag.dim
        self.backbone_name = model_references.find_hub_id(spec.backbone) or spec.backbone
        self._module: torch.nn.Module | None = None
        self._distilled: Distillation | None = None
        self._chose_vocabulary = False

    # -- training --------------------------------------------------------------------------------------------------

    @classmethod
    def build(cls, spec: Spec, *, seed: int = 42, folder: Path = Path()) -> Self:
        """The distilled encoder. Raises ZooError if the backbone cannot be loaded or is narrower than `spec.dim`."""
        from zoo.families.static import distillation
        from zoo.text import backbone

        body = backbone.load(spec.backbone, revision=spec.revision, folder=folder)
        distilled = distillation.distil(body, spec)
        encoder = cls(spec, distilled.bag.truncate(spec.dim))
        encoder._distilled = distilled
        encoder.backbone_name, encoder.backbone_revision = body.name, body.revision
        encoder.seed, encoder.folder = seed, folder
        return encoder

    @property
    def module(self) -> torch.nn.Module:  # type: ignore[override]
        """The token vectors as a torch module, made when training first asks for it.

        The vector of the unknown token stays zero: it takes no part in a mean.
        """
        import torch

        if self._module is None:
            unknown = token_bag.find_unknown_id(self.bag.tokenizer)
            weight = torch.tensor(self.bag.table)
            rows, dim = weight.shape
            embedding = torch.nn.EmbeddingBag(rows, dim, mode="mean", padding_idx=unknown, _weight=weight)
            self._module = torch.nn.ModuleDict({"embedding": embedding})
        return self._module

    def prepare(self, rows: Dataset, cache: Path) -> None:
        """Fit the token vectors to the backbone's vectors of training texts, in closed form, or learn the texts' own vocabulary.

        The counts of tokens in the training texts decide the weights before, if the recipe wants that. If there are
        more than MAX_PREPARED rows, only so many are read, drawn by a fixed seed. An encoder that was
        opened from a model folder stays as it is.
        """
        if self._distilled is None:
            return
        from zoo.families.static import distillation, own_vocabulary, regression

        if len(rows) > MAX_PREPARED:
            rows = rows.select(draw_positions(len(rows), MAX_PREPARED))
        columns = [column for column in COLUMNS if column in rows.column_names]
        # One source of several may lack a column, whose cells are then None.
        texts = list(
            dict.fromkeys(text for column in columns for text in read_column(rows, column) if text is not None)
        )
        bag = self._distilled.bag
        if self.spec.vocabulary == "auto":
            spelled = own_vocabulary.measure_spelled(bag.tokenizer, texts)
            vocabulary = "texts" if self.spec.learns_vocabulary(spelled) else "backbone"
            self.spec, self._chose_vocabulary = self.spec.model_copy(update={"vocabulary": vocabulary}), True
        if self.spec.vocabulary == "texts":
            self.bag = own_vocabulary.learn(texts, self.dim, self.spec.max_length, self.seed)
            self._module = self._distilled = None
            return
        if self.spec.frequencies == "counted":
            bag = distillation.weigh_by_counts(bag, texts, self.spec.sif_coefficient)
        if self.spec.regression_texts:
            texts = random.Random(self.seed).sample(texts, min(len(texts), self.spec.regression_texts))
            targets = distillation.compute_text_vectors(self._distilled.body, texts, cache) @ self._distilled.axes
            bag = regression.fit_to_texts(bag, texts, targets, self.dim, self.spec.ridge)
        self.bag, self._module, self._distilled = bag.truncate(self.dim), None, None

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Tensors of n rows, all int64.

        They are the token ids (tokens,) of all texts in a row; `starts` (columns, n), where each text begins among them; and
        `text_keys` (columns, n), equal for equal texts.
        """
        import torch

        from zoo.ops.false_negatives import compute_text_key

        columns = [column for column in COLUMNS if column in rows[0]]
        texts = [row[column] for column in columns for row in rows]
        ids, ends = self.bag.tokenize(texts)
        starts = torch.from_numpy(ends[:-1]).view(len(columns), len(rows))
        text_keys = torch.tensor([compute_text_key(text) for text in texts]).view(starts.shape)
        return {"ids": torch.from_numpy(ids), "starts": starts, "text_keys": text_keys}

    def loss(self, batch: dict[str, Any]) -> torch.Tensor:
        """In-batch contrastive loss with false negatives masked, the mean over the full width and those of `spec.dims`."""
        import torch

        from zoo.ops import distributed, losses
        from zoo.ops.false_negatives import false_negative_mask

        starts, text_keys = batch["starts"], batch["text_keys"]
        means = self.module.get_submodule("embedding")(batch["ids"], starts.flatten())
        vectors = means.view(*starts.shape, -1)
        if self.module.training:  # in validation every process has all the rows
            vectors = distributed.all_gather_with_grad(vectors, dim=1)
            text_keys = distributed.all_gather_with_grad(text_keys, dim=1)
        mask = false_negative_mask(text_keys[0], text_keys[1:].flatten())
        widths = [*(dim for dim in self.spec.dims if dim < self.dim), self.dim]
        scale = 1 / self.spec.temperature
        terms = [
            losses.compute_contrastive_loss(vectors[0, :, :width], vectors[1:, :, :width].flatten(0, 1), scale, mask)
            for width in widths
        ]
        total = torch.stack(terms).mean()
        return distributed.global_batch_gradient(total) if self.module.training else total

    def train(self, run: TrainingRun) -> float:
        """Train the token vectors with `zoo.training`, and encode with them from now on."""
        if self._chose_vocabulary:
            self.chosen["encoder.vocabulary"] = self.spec.vocabulary
            if run.say is not None and self.spec.vocabulary == "texts":
                run.say(
                    f"encoder.vocabulary is not set: texts, {len(self.bag.table):,} subwords of the training texts, because "
                    f"{self.spec.backbone} spells most of their words letter by letter"
                )
        seconds = super().train(run)
        self.use_trained_weights()
        return seconds

    def use_trained_weights(self) -> None:
        """Encode with the token vectors of the torch module."""
        weight: Any = self.module.get_submodule("embedding").weight
        self.bag = TokenBag(self.bag.tokenizer, weight.detach().cpu().numpy())

    # -- use -------------------------------------------------------------------------------------------------------

    def _encode(self, inputs: Iterable[Any], *, show_progress: bool = False, precision: str = "fp32") -> Array:
        """Texts to (n, dim) float32 of unit norm, in order; a text without known tokens is zeros.

        `precision` changes nothing: sums of a few numbers gain nothing from fewer bits. Raises ZooError for an input that is not
        a string, for one bare string, and for vectors that are not finite.
        """
        return np.concatenate(list(self._stream(inputs, precision=precision)))

    def _stream(self, inputs: Iterable[Any], *, precision: str = "fp32") -> Iterator[Array]:
        """`encode` in blocks of at most BLOCK rows, in order; one empty block for no input."""
        if precision not in PRECISIONS:
            raise ZooError(f"precision: {precision!r} is not one of {', '.join(PRECISIONS)}")
        for block in read_in_windows(check_texts(inputs), BLOCK):
            vectors = self.bag.encode(block)
            if not np.isfinite(vectors).all():
                raise ZooError(
                    "encode() produced NaN or infinity. The weights are probably corrupted: download the model again or "
                    "retrain it."
                )
            yield vectors

    def _make_view(self, options: Mapping[str, Any]) -> Self:
        dim = options.get("dim")
        misfit = describe_misfit(dim, self.dim)
        if misfit:
            raise ZooError(misfit)
        twin = copy.copy(self)
        if dim is not None and dim < self.dim:
            twin.bag, twin.dim, twin._module = self.bag.truncate(dim), dim, None
        twin.view_options = {"dim": twin.dim}
        return twin

    def baseline(self) -> BaseEncoder | None:
        """The distilled encoder before training, as wide as this one; None if the backbone cannot be loaded (any more)."""
        try:
            untrained = type(self).build(self.spec, folder=self.folder)
        except ZooError:
            return None
        return untrained.view(dim=self.dim) if self.dim < untrained.dim else untrained

    # -- model folder ----------------------------------------------------------------------------------------------

    def write_weights(self, folder: Path) -> None:
        """Write the token vectors and the tokenizer as stock sentence-transformers modules: StaticEmbedding, Normalize."""
        import sentence_transformers
        import sentence_transformers.models as st_modules
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(self.bag.tokenizer.to_str())  # the stock module changes the one that it gets
        embedding = st_modules.StaticEmbedding(tokenizer, embedding_weights=self.bag.table.copy())
        stock = sentence_transformers.SentenceTransformer(modules=[embedding, st_modules.Normalize()], device="cpu")
        stock.save_pretrained(str(folder), create_model_card=False)

    @classmethod
    def load(cls, spec: Spec, folder: Path, config: Mapping[str, Any]) -> Self:
        """Open what `write_weights` wrote, without torch; the table must fit the tokenizer and the width, and be finite."""
        dim = config.get("dim", spec.dim)
        if type(dim) is not int or describe_misfit(dim, spec.dim):
            raise ArtefactError(f"{folder}: config.json: dim {dim!r} is outside 1…{spec.dim}")
        tokenizer = _open_tokenizer(folder, spec.max_length)
        preflight.check_shapes(folder, {TENSOR: (token_bag.count_ids(tokenizer), dim)})
        table = _read_table(folder)
        return cls(spec, TokenBag(tokenizer, table))

    def make_graph(self) -> Graph:
        """The sum of the token vectors as a graph."""
        from zoo.families.static.token_graph import TokenSum

        bag = self.bag
        truncation = bag.tokenizer.truncation
        length = truncation["max_length"] if truncation else None
        reader = TextReader(bag.tokenizer.to_str(), length, adds_special_tokens=False)
        return Graph({"": TokenSum(bag.table)}, reader=reader, can_be_cut=True)

    def list_token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text."""
        return [self.bag.tokenize([text])[0].tolist() for text in texts]

    def extra_config(self) -> dict[str, Any]:
        """The width that the folder holds."""
        return {"dim": self.dim}

    def card_facts(self) -> dict[str, Any]:
        """Widths, tokens and the longest input, for the card."""
        dims = sorted({*(dim for dim in self.spec.dims if dim < self.dim), self.dim})
        facts = {
            "dim": self.dim,
            "dims": dims,
            "tokens": len(self.bag.table),
            "regression_texts": self.spec.regression_texts,
        }
        return facts if self.spec.max_length is None else facts | {"max_length": self.spec.max_length}


def _open_tokenizer(folder: Path, max_length: int | None) -> Any:
    """The tokenizer of a model folder. Raises ZooError if the file is not one, or it does not take every text."""
    from tokenizers import Tokenizer

    with tokenizer_checks.as_zoo_error(f"{folder / 'tokenizer.json'}: is not a tokenizer that takes every text"):
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        token_bag.set_max_length(tokenizer, max_length)
        tokenizer.encode_batch_fast([tokenizer_checks.PROBE], add_special_tokens=False)
    return tokenizer


def _read_table(folder: Path) -> Array:
    """The table of token vectors. Raises ArtefactError unless its values are finite float32 numbers."""
    from safetensors.numpy import load_file

    parts: dict[str, Array] = {}
    for name in tensors.list_files(folder):
        parts |= load_file(folder / name)
    table = parts[TENSOR]
    if table.dtype != np.float32 or not np.isfinite(table).all():
        raise ArtefactError(f"{folder}: the tensor {TENSOR} must hold finite float32 numbers")
    return table
