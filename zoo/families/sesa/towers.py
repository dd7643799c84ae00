"""The towers of an encoder of pairs: one that both sides share, or one for each; learned from the texts, or pretrained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from zoo.artefact import preflight, tensors
from zoo.core import atomic_files
from zoo.core.errors import ZooError
from zoo.core.lazy import lazy
from zoo.families.sesa.spec import TowerSpec
from zoo.text import engine as encoding
from zoo.text.truncatable import TruncatableEncoder, move_to_device

if TYPE_CHECKING:
    import numpy as np
    import torch

    from zoo.families.sesa import subwords, tower_modules
    from zoo.text import backbone
else:
    np, torch, backbone, subwords, tower_modules = map(
        lazy, ("numpy", "torch", "zoo.text.backbone", "zoo.families.sesa.subwords", "zoo.families.sesa.tower_modules")
    )

SIDES = ("query", "document")
SUBWORDS = "pieces.json"
LOOKED_UP = 1024  # texts at a time
DROPOUT = 0.2  # of what is learned from the texts alone


class Towers:
    """Readers of texts by side; one that both share is that of "query".

    Attributes:
        module: what they are made of; prompts: what stands before the texts of a side.
        base, backbone_revision: of the backbone, if there is one.
    """

    def __init__(self, spec: TowerSpec, made: Mapping[str, tower_modules.Reader]) -> None:
        self.spec, self.by_side = spec, dict(made)
        self.module = torch.nn.ModuleDict({side: each.module for side, each in self.by_side.items()})
        self.prompts: dict[str, str] = {}
        self.backbone_name: str | None = None
        self.backbone_revision = ""
        self._held: dict[str, dict[str, torch.Tensor]] = {side: {} for side in self.by_side}
        first = self.by_side["query"]
        self.width, self.max_length = first.width, first.max_length
        if isinstance(first, tower_modules.BackboneReader):
            self.prompts, self.backbone_name, self.backbone_revision = (
                dict(first.body.prompts),
                first.body.name,
                first.body.revision,
            )

    @staticmethod
    def _sides(spec: TowerSpec) -> tuple[str, ...]:
        return SIDES if spec.towers == "separate" else SIDES[:1]

    @classmethod
    def open(cls, spec: TowerSpec, folder: Path) -> Towers:
        """The backbone as it comes, once for each side that has a tower. Raises ZooError where it cannot be had."""
        made: dict[str, tower_modules.Reader] = {}
        for side in cls._sides(spec):
            body = backbone.load(spec.backbone or "", revision=spec.revision, folder=folder, max_length=spec.max_length)
            if any(body.prompts.values()) and not body.pooling.include_prompt:
                raise ZooError(f"backbone {body.name}: leaves prompts out of its pooling, which is not supported")
            made[side] = tower_modules.BackboneReader(body, spec.dropout, spec.word_dim)
        towers = cls(spec, made)
        for parameter in towers.pretrained() if towers.frozen else ():
            parameter.requires_grad_(False)
        return towers

    def weigh(self, texts: Sequence[str]) -> None:
        """Let subwords that are frequent in `texts` count less, to begin with."""
        for reader in self.by_side.values():
            reader.weigh(texts)

    def pretrained(self) -> list[torch.nn.Parameter]:
        """The parameters that come with a backbone."""
        known = [reader for reader in self.by_side.values() if isinstance(reader, tower_modules.BackboneReader)]
        return [parameter for reader in known for parameter in reader.inner.parameters()]

    @classmethod
    def learn(cls, spec: TowerSpec, texts: Iterable[str]) -> Towers:
        """Subwords of `texts`, and recurrent networks that know nothing yet."""
        known = list(texts)
        return cls._recurrent(spec, subwords.Pieces.learn(known, spec.vocab_size))

    @classmethod
    def _recurrent(cls, spec: TowerSpec, words: subwords.Pieces) -> Towers:
        drop = DROPOUT if spec.dropout is None else spec.dropout
        sizes = spec.dim, spec.hidden, spec.max_length, drop
        return cls(spec, {side: tower_modules.RecurrentReader(words, spec.reader, *sizes) for side in cls._sides(spec)})

    def reader(self, side: str | None) -> tower_modules.Reader:
        """That of a side; None stands for "query". Raises ZooError for what is no side."""
        if side not in (None, *SIDES):
            raise ZooError(f"prompt_type: {side!r} is not one of {', '.join(SIDES)}")
        return self.by_side.get(side or "query") or self.by_side["query"]

    @property
    def frozen(self) -> bool:
        """Whether training leaves them as they are."""
        return bool(self.spec.backbone) and not self.spec.backbone_lr_scale

    def hold(self, texts: Iterable[str], cache: Path) -> None:
        """Of frozen towers: the vectors of all texts of the training, which `batch` looks up; kept in `cache`."""
        for side, held in self._held.items():
            known = [text for text in dict.fromkeys(texts) if text not in held]
            if not known:
                continue
            path = (
                cache
                / f"{side}-{atomic_files.digest([self.backbone_name, self.backbone_revision, self.max_length, known])[:16]}.npy"
            )
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                with atomic_files.replace_file(path) as partial, partial.open("wb") as file:
                    np.save(file, self._read_at_once(side, known))
            held |= zip(known, torch.from_numpy(np.load(path)), strict=True)

    def _read_at_once(self, side: str, texts: Sequence[str]) -> np.ndarray:
        reader, prompt = self.reader(side), self.prompts.get(side, "")
        module, width = reader.module, reader.width
        if isinstance(reader, tower_modules.BackboneReader) and self.frozen:
            module, width = reader.inner, reader.body.width
        engine = encoding.Engine(module, reader.tokenize, reader.pad, width, reader.max_length)
        return engine.encode([prompt + text for text in texts])

    def _looked_up(self, side: str, cells: Sequence[str]) -> torch.Tensor:
        held = self._held[side if side in self._held else "query"]
        if new := [cell for cell in dict.fromkeys(cells) if cell not in held]:  # of validation rows
            held |= zip(new, torch.from_numpy(self._read_at_once(side, new)), strict=True)
        return torch.stack([held[cell] for cell in cells])

    def batch(self, side: str, cells: Sequence[str]) -> dict[str, Any]:
        """What `read` takes: every distinct text once, in chunks of similar length, and the place of each cell's; of frozen
        towers the backbone's vectors, and the subwords where they count."""
        if self.frozen:
            known: dict[str, Any] = {"vectors": self._looked_up(side, cells)}
            if self.spec.word_dim:
                prompt, reader = self.prompts.get(side, ""), self.reader(side)
                known["words"] = reader.pad(reader.tokenize([prompt + cell for cell in cells]))
            return known
        texts = list(dict.fromkeys(self.prompts.get(side, "") + cell for cell in cells))
        rank = {text: i for i, text in enumerate(texts)}
        chunks, order = tower_modules.chunks(self.reader(side), texts)
        return {"chunks": chunks, "places": order[[rank[self.prompts.get(side, "") + cell] for cell in cells]]}

    def read(self, side: str, batch: Mapping[str, Any]) -> torch.Tensor:
        """Vectors (cells, width) float32 of a `batch`."""
        module: Any = self.reader(side).module
        device = next(module.parameters()).device
        if "words" in batch:
            return module.join(batch["vectors"].to(device), move_to_device(device, batch["words"]))
        if "vectors" in batch:
            return batch["vectors"].to(device)
        return torch.cat([module(move_to_device(device, chunk)).float() for chunk in batch["chunks"]])[batch["places"]]

    def vectors(self, texts: Sequence[str]) -> torch.Tensor:
        """Unit vectors (n, width) of texts by the tower of queries, as it is now."""
        if self.frozen:
            parts = [texts[start : start + LOOKED_UP] for start in range(0, len(texts), LOOKED_UP)]
            with torch.no_grad():
                read = torch.cat([self.read("query", self.batch("query", part)).cpu() for part in parts])
            return torch.nn.functional.normalize(read, dim=-1)
        return torch.nn.functional.normalize(torch.from_numpy(self._read_at_once("query", texts)), dim=-1)

    def save(self, folder: Path) -> None:
        """A backbone as stock sentence-transformers modules, that of documents, if it is separate, below `document`; or subwords
        and model.safetensors."""
        from safetensors.torch import save_file

        for side, reader in self.by_side.items():
            if isinstance(reader, tower_modules.BackboneReader):
                reader.save(folder if side == "query" else folder / side)
            elif isinstance(reader, tower_modules.RecurrentReader):
                reader.pieces.save(folder / SUBWORDS)
        if self.backbone_name is None:
            save_file(tensors.extract(self.module), folder / "model.safetensors", metadata={"format": "pt"})

    @classmethod
    def load(cls, spec: TowerSpec, folder: Path) -> Towers:
        """Open what `save` wrote; every tensor must be there, fit the subwords and be finite, and none be left over."""
        if spec.backbone:
            places = {side: folder if side == "query" else folder / side for side in cls._sides(spec)}
            loaded = {
                side: tower_modules.BackboneReader.load(at, spec.backbone, spec.word_dim) for side, at in places.items()
            }
            return cls(spec, loaded)
        words = subwords.Pieces.load(folder / SUBWORDS)
        with torch.device("meta"):  # shapes without memory
            shell = cls._recurrent(spec, words)
        preflight.check_shapes(folder, tensors.get_shapes(shell.module))
        made = cls._recurrent(spec, words)
        tensors.fill(made.module, tensors.read(folder), folder)
        return made


class Plain(TruncatableEncoder):
    """A sentence encoder, whatever view of another encoder it stands beside."""

    def view(self, **options: Any) -> Self:
        """The whole of it."""
        return self.truncate()
