"""`Towers`: the tower of each side of a pair. Both sides share one tower, or each side has its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors.torch import save_file

from zoo.artefact import preflight, tensors
from zoo.core import atomic_files
from zoo.core.errors import ZooError
from zoo.families.sesa.spec import SIDES, TowerSpec
from zoo.families.sesa.tower_modules import BackboneTower, RecurrentTower, Tower, build_chunks
from zoo.text import backbone
from zoo.text import engine as encoding
from zoo.text.subwords import Subwords
from zoo.text.truncatable import TruncatableEncoder, move_to_device

SHARED_SIDE = "query"  # the side under which a shared tower stands, and the default side of `encode`
SUBWORDS_FILE = "pieces.json"
BLOCK_SIZE = 1024  # texts of a frozen tower that are read at a time
RECURRENT_DROPOUT = 0.2


class Towers:
    """The towers of an encoder, by side.

    Attributes:
        by_side: the tower of each side; {"query": tower} if both sides share it.
        module: a torch module of all towers.
        prompts: the text that is put before the texts of a side; {} without a backbone.
        width: components of a vector; max_length: tokens of a text.
        own_width: components at the start of a vector that compare texts without any concept.
        backbone_name, backbone_revision: those of the backbone; None and "" without one.
    """

    def __init__(self, spec: TowerSpec, by_side: Mapping[str, Tower]) -> None:
        self.spec, self.by_side = spec, dict(by_side)
        self.module = torch.nn.ModuleDict({side: tower.module for side, tower in self.by_side.items()})
        self.prompts: dict[str, str] = {}
        self.backbone_name: str | None = None
        self.backbone_revision = ""
        self._frozen_vectors: dict[str, dict[str, torch.Tensor]] = {side: {} for side in self.by_side}
        first = self.by_side[SHARED_SIDE]
        self.width, self.max_length = first.width, first.max_length
        self.own_width = first.own_width
        if isinstance(first, BackboneTower):
            self.prompts = dict(first.backbone.prompts)
            self.backbone_name, self.backbone_revision = first.backbone.name, first.backbone.revision

    @staticmethod
    def _list_sides(spec: TowerSpec) -> tuple[str, ...]:
        return tuple(SIDES) if spec.towers == "separate" else (SHARED_SIDE,)

    @classmethod
    def load_backbone(cls, spec: TowerSpec, folder: Path) -> Towers:
        """Load the backbone, once for each tower. Raise ZooError if it is not supported."""
        by_side: dict[str, Tower] = {}
        for side in cls._list_sides(spec):
            body = backbone.load(spec.backbone or "", revision=spec.revision, folder=folder, max_length=spec.max_length)
            if any(body.prompts.values()) and not body.pooling.include_prompt:
                raise ZooError(
                    f"backbone {body.name}: leaves prompts out of its pooling, which is not supported; choose another one"
                )
            by_side[side] = BackboneTower(body, spec.dropout, spec.word_dim)
        towers = cls(spec, by_side)
        if towers.is_frozen:
            for parameter in towers.get_pretrained_parameters():
                parameter.requires_grad_(False)
        return towers

    @classmethod
    def learn(cls, spec: TowerSpec, texts: Iterable[str]) -> Towers:
        """Learn subwords from `texts`, and build untrained recurrent networks over them."""
        return cls._build_recurrent(
            spec, Subwords.learn(list(texts), spec.vocab_size, marks_inside=bool(spec.lexical_dim))
        )

    @classmethod
    def _build_recurrent(cls, spec: TowerSpec, subwords: Subwords) -> Towers:
        dropout = RECURRENT_DROPOUT if spec.dropout is None else spec.dropout
        sizes = spec.dim, spec.hidden, spec.max_length, dropout, spec.lexical_dim or 0
        return cls(spec, {side: RecurrentTower(subwords, spec.reader, *sizes) for side in cls._list_sides(spec)})

    def initialise_rarity(self, texts: Sequence[str], *, by_texts: bool = False) -> None:
        """Give subwords that are frequent in `texts` a low weight, before training.

        With `by_texts`, the weight follows from the number of texts that have the subword, as in TF-IDF. This suits short and
        few texts, in which a word of the topic makes up a large share of all words.
        """
        for tower in self.by_side.values():
            tower.initialise_rarity(texts, by_texts=by_texts)

    def initialise_lexical(self, texts: Sequence[str], weight: float, seed: int) -> None:
        """Compute the fixed vectors of subwords, where recurrent towers have them."""
        for tower in self.by_side.values():
            if isinstance(tower, RecurrentTower) and tower.module.has_lexical:
                tower.initialise_lexical(texts, weight, seed)

    def scale_lexical(self, factor: float) -> None:
        """Multiply the weight of the fixed vectors' part that stands for single subwords."""
        for tower in self.by_side.values():
            if isinstance(tower, RecurrentTower):
                tower.scale_lexical(factor)

    def get_pretrained_parameters(self) -> list[torch.nn.Parameter]:
        """Return the parameters that come with a backbone."""
        pretrained = [tower for tower in self.by_side.values() if isinstance(tower, BackboneTower)]
        return [parameter for tower in pretrained for parameter in tower.inner.parameters()]

    def get_tower(self, side: str | None) -> Tower:
        """Return the tower of a side; None means "query". Raise ZooError for an unknown side."""
        if side not in (None, *SIDES):
            raise ZooError(f"prompt_type: {side!r} is not one of {', '.join(SIDES)}")
        return self.by_side.get(side or SHARED_SIDE) or self.by_side[SHARED_SIDE]

    @property
    def is_frozen(self) -> bool:
        """Whether the backbone does not change in training."""
        return bool(self.spec.backbone) and not self.spec.backbone_lr_scale

    def share_frozen_vectors(self, other: Towers) -> None:
        """Use the vectors that the same frozen backbones of `other` have computed."""
        self._frozen_vectors = other._frozen_vectors

    def compute_frozen_vectors(self, texts: Iterable[str], cache: Path) -> None:
        """Compute the vectors of all training texts by frozen backbones, so that training reads no text again.

        The vectors are also written into the folder `cache`, from which an interrupted run reads them.
        """
        for side, vectors in self._frozen_vectors.items():
            new_texts = [text for text in dict.fromkeys(texts) if text not in vectors]
            if not new_texts:
                continue
            key = atomic_files.digest([self.backbone_name, self.backbone_revision, self.max_length, new_texts])
            path = cache / f"{side}-{key[:16]}.npy"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                with atomic_files.replace_file(path) as partial, partial.open("wb") as file:
                    np.save(file, self._encode(side, new_texts))
            vectors |= zip(new_texts, torch.from_numpy(np.load(path)), strict=True)

    def _encode(self, side: str, texts: Sequence[str]) -> np.ndarray:
        """Encode texts without gradients, (n, width). Frozen towers leave out the words, which are trained."""
        tower, prompt = self.get_tower(side), self.prompts.get(side, "")
        module, width = tower.module, tower.width
        if isinstance(tower, BackboneTower) and self.is_frozen:
            module, width = tower.inner, tower.backbone.width
        engine = encoding.Engine(module, tower.tokenize, tower.pad, width, tower.max_length)
        return engine.encode([prompt + text for text in texts])

    def _look_up(self, side: str, texts: Sequence[str]) -> torch.Tensor:
        """Return the frozen backbone's vectors of texts, (n, width). New texts come from validation rows."""
        vectors = self._frozen_vectors[side if side in self._frozen_vectors else SHARED_SIDE]
        new_texts = [text for text in dict.fromkeys(texts) if text not in vectors]
        if new_texts:
            vectors |= zip(new_texts, torch.from_numpy(self._encode(side, new_texts)), strict=True)
        return torch.stack([vectors[text] for text in texts])

    def build_batch(self, side: str, texts: Sequence[str]) -> dict[str, Any]:
        """Build the input of `compute_vectors`.

        A trained tower gets each distinct text once, in chunks of similar length, and the position of each text among
        them. A frozen tower gets the vectors of its backbone, and with `word_dim` the subwords.
        """
        prompt = self.prompts.get(side, "")
        prompted_texts = [prompt + text for text in texts]
        if self.is_frozen:
            batch: dict[str, Any] = {"vectors": self._look_up(side, texts)}
            if self.spec.word_dim:
                tower = self.get_tower(side)
                batch["words"] = tower.pad(tower.tokenize(prompted_texts))
            return batch
        row_by_text = {text: row for row, text in enumerate(dict.fromkeys(prompted_texts))}
        chunks, positions = build_chunks(self.get_tower(side), list(row_by_text))
        return {"chunks": chunks, "positions": positions[[row_by_text[text] for text in prompted_texts]]}

    def compute_vectors(self, side: str, batch: Mapping[str, Any]) -> torch.Tensor:
        """Compute the vectors (n, width) float32 of a batch from `build_batch`."""
        module: Any = self.get_tower(side).module
        device = next(module.parameters()).device
        vectors: torch.Tensor
        if "words" in batch:
            vectors = module.append_words(batch["vectors"].to(device), move_to_device(device, batch["words"]))
        elif "vectors" in batch:
            vectors = batch["vectors"].to(device)
        else:
            vectors = torch.cat([module(move_to_device(device, chunk)).float() for chunk in batch["chunks"]])[
                batch["positions"]
            ]
        return vectors

    def encode_queries(self, texts: Sequence[str]) -> torch.Tensor:
        """Encode texts by the tower of queries, without gradients: unit vectors (n, width) float32."""
        if self.is_frozen:
            blocks = [texts[start : start + BLOCK_SIZE] for start in range(0, len(texts), BLOCK_SIZE)]
            with torch.no_grad():
                parts = [self.compute_vectors(SHARED_SIDE, self.build_batch(SHARED_SIDE, block)) for block in blocks]
            vectors = torch.cat([part.cpu() for part in parts])
        else:
            vectors = torch.from_numpy(self._encode(SHARED_SIDE, texts))
        return torch.nn.functional.normalize(vectors, dim=-1)

    def save(self, folder: Path) -> None:
        """Write the towers into an empty folder.

        A backbone becomes stock sentence-transformers modules; that of separate documents goes into the folder `document`.
        Recurrent towers become pieces.json and model.safetensors.
        """
        for side, tower in self.by_side.items():
            if isinstance(tower, BackboneTower):
                tower.save(_get_backbone_folder(folder, side))
            elif isinstance(tower, RecurrentTower):
                tower.subwords.save(folder / SUBWORDS_FILE)
        if self.backbone_name is None:
            save_file(tensors.extract(self.module), folder / "model.safetensors", metadata={"format": "pt"})

    @classmethod
    def load(cls, spec: TowerSpec, folder: Path) -> Towers:
        """Open what `save` wrote. Raise ArtefactError for a missing, extra, mis-shaped or non-finite tensor."""
        if spec.backbone:
            by_side = {
                side: BackboneTower.load(_get_backbone_folder(folder, side), spec.backbone, spec.word_dim)
                for side in cls._list_sides(spec)
            }
            return cls(spec, by_side)
        subwords = Subwords.load(folder / SUBWORDS_FILE)
        with torch.device("meta"):  # shapes without memory
            shell = cls._build_recurrent(spec, subwords)
        preflight.check_shapes(folder, tensors.get_shapes(shell.module))
        towers = cls._build_recurrent(spec, subwords)
        tensors.fill(towers.module, tensors.read(folder), folder)
        return towers


def _get_backbone_folder(folder: Path, side: str) -> Path:
    return folder if side == SHARED_SIDE else folder / side


class BaselineEncoder(TruncatableEncoder):
    """The backbone as a sentence encoder, before training. Every view of a SESA encoder has the same baseline."""

    def view(self, **options: Any) -> Self:
        """Return the whole encoder, whatever the options."""
        return self._make_view({})
