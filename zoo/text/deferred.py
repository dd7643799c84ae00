"""`DeferredBackbone`: a backbone that encodes at once, and that sentence-transformers opens when anything else is asked of it."""

from __future__ import annotations

import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from zoo.artefact import preflight, tensors, transformer_folder
from zoo.core.errors import ArtefactError, ZooError
from zoo.hub.model_references import PACKAGES, find_hub_id
from zoo.ops.int8_linear import can_multiply
from zoo.ops.packed_linear import PackedLinear
from zoo.text import coded_folder, int8_ranges, light_folder, pooling, stock_modules
from zoo.text.conversions import CACHE
from zoo.text.engine import Engine
from zoo.text.flat_transformer import FlatTransformer, PackedBlock, pack_block
from zoo.text.int8_ranges import Calibration
from zoo.text.int8_transformer import Int8Network, Int8Transformer, quantise_blocks
from zoo.text.light_folder import LightFolder
from zoo.text.padding import pad

SMALL = (".json", ".txt", ".model")
"""Suffixes of the files that are kept in memory, in case that the folder changes before it is opened."""
_lock = threading.RLock()


@dataclass(eq=False)
class DeferredBackbone:
    """The facts about a backbone that are known before sentence-transformers has opened it.

    Attributes:
        light: the parts that encoding needs.
        name, revision: where it came from.
        prompts, named_prompts: as in `Backbone`.
        open_parts: returns the attributes that an encoder has once the folder is open, by name. It gets the folder, or a copy.
        folder: where it lies.
        calibration: the ranges of activations that the folder holds, or None.
    """

    light: LightFolder
    name: str
    revision: str
    prompts: Mapping[str, str]
    named_prompts: Mapping[str, str]
    open_parts: Callable[[Path], dict[str, Any]]
    folder: Path
    calibration: Calibration | None = None
    _files: dict[str, bytes] = field(default_factory=dict)
    _stamps: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    _parts: dict[str, Any] | None = None
    _int8: weakref.WeakValueDictionary[int, Int8Network] = field(default_factory=weakref.WeakValueDictionary)
    _blocks: weakref.WeakValueDictionary[Any, PackedBlock] = field(default_factory=weakref.WeakValueDictionary)

    def __post_init__(self) -> None:
        self._stamps = self._stamp_files()
        self._files = {name: (self.folder / name).read_bytes() for name in self._stamps if name.endswith(SMALL)}

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return self.light.layout.depth

    @property
    def width(self) -> int:
        """Components of a pooled vector."""
        return self.light.width

    @property
    def is_open(self) -> bool:
        """Whether `open` was called."""
        return self._parts is not None

    def open(self) -> dict[str, Any]:
        """Open the folder with sentence-transformers, once, and return the attributes of the encoder by name."""
        with _lock:
            if self._parts is None:
                if self._stamp_files() == self._stamps:
                    self._parts = self.open_parts(self.folder)
                else:
                    with tempfile.TemporaryDirectory(prefix="zoo-") as name:
                        self._parts = self.open_parts(self._restore(Path(name)))
            return self._parts

    def make_engine(self, layers: int, head: torch.nn.Linear | None, dim: int, *, normalizes: bool = True) -> Engine:
        """The engine of the first `layers` blocks, with a head and the first `dim` components."""
        module = LightNetwork(self, layers, head, dim, normalizes=normalizes)
        return LightEngine(module, self.light.tokenize, self.pad, dim, self.light.max_length)

    def pad(self, ids: Any) -> dict[str, torch.Tensor]:
        """Pad rows of token ids as `Backbone.pad` does."""
        return pad(ids, self.light.padding)

    def flatten(self, layers: int, dtype: torch.dtype) -> FlatTransformer:
        """Return the first blocks in a precision. Networks of all depths share their packed blocks."""
        tensors, layout = self.light.tensors, self.light.layout
        blocks = []
        if dtype == torch.int8:
            return self._flatten_int8(layers)
        with _lock:
            for number in range(layers):
                block = self._blocks.get((dtype, number))
                if block is None:
                    block = self._blocks[dtype, number] = pack_block(tensors, layout, number, dtype)
                blocks.append(block)
        return FlatTransformer(replace(layout, depth=layers), tensors, self.light.embed, blocks, dtype)

    def _flatten_int8(self, layers: int) -> FlatTransformer:
        tensors, layout = self.light.tensors, self.light.layout
        with _lock:
            network = self._int8.get(layout.depth)
            if network is None:
                flat = self.flatten(layout.depth, torch.float32)
                blocks = quantise_blocks(flat, tensors, self.light.tokenize, self.calibration)
                network = Int8Network(tuple(blocks), calibration=self.calibration)
                self._int8[layout.depth] = network
        return Int8Transformer(replace(layout, depth=layers), tensors, self.light.embed, network)

    def _stamp_files(self) -> dict[str, tuple[int, int, int]]:
        """Return size, time of change and number of each file in the folder, by its path in it; {} without a folder."""
        names = (*SMALL, ".safetensors")
        files = [path for path in sorted(self.folder.rglob("*")) if path.suffix in names and path.is_file()]
        states = {str(path.relative_to(self.folder)): path.stat() for path in files}
        return {name: (state.st_size, state.st_mtime_ns, state.st_ino) for name, state in states.items()}

    def _restore(self, folder: Path) -> Path:
        """Write the folder again as it was, from memory. Raises ArtefactError if it has weights that are not in memory."""
        for name, content in self._files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        root = transformer_folder.find_transformer(folder)
        stems = ("model",) if self.light.table is None else (coded_folder.NETWORK, coded_folder.TABLE)
        in_memory = {root / f"{stem}.safetensors" for stem in stems} | {folder / f"{int8_ranges.STEM}.safetensors"}
        others = [name for name in self._stamps if name.endswith(".safetensors") and folder / name not in in_memory]
        for name in others:
            if not (self.folder / name).is_file():
                raise ArtefactError(f"{self.folder}: {name} is gone since the model was opened: open the model again")
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.folder / name, folder / name)
        self.light.write_weights(root)
        if self.calibration is not None:
            int8_ranges.write(folder, self.calibration.blocks)
        return folder


class LightEngine(Engine):
    """The engine of a backbone that is not open. Its weights never change."""

    module: LightNetwork

    @property
    def device(self) -> torch.device:
        """The CPU; an encoder that moves is opened first."""
        return torch.device("cpu")

    def can_use_int8(self) -> bool:
        """Whether the processor multiplies 8-bit integers fast; the network is a known one."""
        return can_multiply()

    def _convert_module(self, dtype: torch.dtype) -> torch.nn.Module:
        module: torch.nn.Module = CACHE.get(self, dtype, None, lambda: self.module.convert(dtype))
        return module


class LightNetwork(torch.nn.Module):
    """One module from a batch of tokens to vectors (batch, dim): network, pooling, head, cut and normalisation."""

    def __init__(
        self, backbone: DeferredBackbone, layers: int, head: torch.nn.Linear | None, dim: int, *, normalizes: bool
    ) -> None:
        super().__init__()
        self._source, self.layers, self.dim, self.normalizes = (backbone,), layers, dim, normalizes
        self.head = head
        self.network: FlatTransformer | None = None
        self.packed_head: PackedLinear | None = None

    def convert(self, dtype: torch.dtype) -> tuple[torch.nn.Module, dict[int, int]]:
        """Return a copy that computes in `dtype`, and the bytes of its packed blocks."""
        twin = LightNetwork(self._source[0], self.layers, None, self.dim, normalizes=self.normalizes)
        twin.network = self._source[0].flatten(self.layers, dtype)
        if self.head is not None:
            dtype = torch.float32 if dtype == torch.int8 else dtype
            bias = None if self.head.bias is None else self.head.bias.detach().to(dtype)
            twin.packed_head = PackedLinear(self.head.weight.detach().to(dtype), bias)
        return twin.eval(), twin.network.parts

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Encode the tensors that `pad` makes."""
        assert self.network is not None  # `convert` sets it
        ids, mask = batch["input_ids"], batch["attention_mask"]
        shown = None if len(ids) == 1 or bool(mask.all()) else mask  # `pad` adds nothing to a single text
        states = self.network(ids, shown).last_hidden_state
        vectors = pooling.pool(states, shown, self._source[0].light.modes)
        if self.packed_head is not None:
            vectors = self.packed_head(vectors.to(states.dtype)).float()
        vectors = vectors[:, : self.dim]
        if not self.normalizes:
            return vectors
        unit: torch.Tensor = vectors / torch.linalg.vector_norm(vectors, dim=-1, keepdim=True).clamp_min_(1e-12)
        return unit


def defer(
    folder: Path | None,
    spec: Any,
    open_encoder: Callable[[Path], Any],
    *,
    is_model_folder: bool = False,
    table: Any = None,
) -> DeferredBackbone | None:
    """Return the backbone in `folder` without opening it; None if the folder is not exactly as `light_folder` knows it.

    Args:
        folder: a local folder, which is checked first, or None for none.
        spec: the encoder's section of the recipe. A packaged model is opened only if its weights are the expected ones.
        open_encoder: opens the whole encoder from a folder.
        is_model_folder: whether zoo wrote the folder.
        table: the entry of the `zoo` block about a coded token table, or None.
    """
    if folder is None or (spec.max_length and not is_model_folder):  # a model folder says its own limit
        return None
    if not is_model_folder:
        preflight.check_sizes(folder, {})
        preflight.check(folder)
    light = light_folder.read(folder, is_model_folder=is_model_folder, table=table)
    if light is None or light.modes != light.modes[:1]:
        return None
    revision = "" if is_model_folder else tensors.compute_digest(transformer_folder.find_transformer(folder))
    package = PACKAGES.get(spec.backbone.removeprefix("package:")) if spec.backbone.startswith("package:") else None
    if package is not None and not is_model_folder and revision != package.sha256:
        return None  # opening it says that the weights are not the expected ones

    def open_parts(place: Path) -> dict[str, Any]:
        encoder = open_encoder(place)
        if encoder.backbone_revision != revision:
            raise ZooError(f"{folder}: its weights have changed since the model was opened: open the model again")
        parts = ("backbone", "module", "heads", "calibration")  # not every family has heads
        return {name: getattr(encoder, name) for name in parts if hasattr(encoder, name)}

    name = find_hub_id(spec.backbone) or spec.backbone
    prompts = stock_modules.find_prompts(light.prompts)
    named_prompts = {name: prompt for name, prompt in light.prompts.items() if prompt}
    calibration = _read_calibration(folder, light) if is_model_folder else None
    return DeferredBackbone(light, name, revision, prompts, named_prompts, open_parts, folder, calibration)


def _read_calibration(folder: Path, light: LightFolder) -> Calibration | None:
    inputs = int8_ranges.count_inputs(light.tensors, light.layout)
    blocks = int8_ranges.read(folder, inputs)
    return None if blocks is None else Calibration(blocks)
