"""`ConceptEncoder`: an encoder whose components are named concepts.

It says what a text is about and why two texts score as they do. Its views keep fewer components or edit concepts, and an
inverted index searches its sparse vectors. A family that trains such an encoder derives from it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from safetensors.torch import save_file

from zoo.artefact import headers, preflight, tensors
from zoo.core.errors import ArtefactError, ZooError
from zoo.core.inputs import check_texts
from zoo.encoder import Encoder as BaseEncoder
from zoo.families.sesa import concept_space, inverted_index, tag_prediction
from zoo.families.sesa.concept_space import ConceptSpace, ConceptTower
from zoo.families.sesa.concepts import Concepts
from zoo.families.sesa.explanation import Contribution, Explanation
from zoo.families.sesa.inverted_index import InvertedIndex
from zoo.families.sesa.spec import ConceptEncoderSpec
from zoo.families.sesa.tag_prediction import TagPrediction
from zoo.families.sesa.towers import SHARED_SIDE, BaselineEncoder, Towers
from zoo.graph import Graph
from zoo.label_geometry import LabelMetric
from zoo.label_geometry.rules import check_rule
from zoo.text import engine as encoding
from zoo.text import text_graph

CONCEPTS_FILE = "concepts.json"
SPACE_STEM = "space"  # space.safetensors
COMPONENTS_KEY, COMPONENTS_FROM_LOGITS = "components", "evidence"
"""The entry of config.json that says how components are computed. Early versions did not write it: theirs are relative."""
SHARE_KEY = "unnamed_share"
"""The entry of config.json with the unnamed share; there is none if it is 0."""


class ConceptEncoder(BaseEncoder):
    """Encodes texts as unit vectors float32 whose first C components, one per concept, are not negative.

    The score of two texts is the dot product of their vectors. Further components are the unnamed part of a score, which
    no concept explains.

    Attributes:
        unnamed_share: how much of a score is unnamed; 0 for vectors (n, C) of concepts alone.
        concept_list: the concepts; None until they are known.
        towers: the networks that read the texts; None until they are built.
        space: turns the towers' vectors into components.
    """

    spec: ConceptEncoderSpec
    space: ConceptSpace

    def __init__(self, spec: ConceptEncoderSpec) -> None:
        super().__init__()
        self.spec, self.dim, self.unnamed_share = spec, 0, spec.unnamed_share or 0.0
        self.concept_list: Concepts | None = None
        self.towers: Towers | None = None
        self.module = torch.nn.Module()
        self._engines: dict[tuple[str, bool], encoding.Engine] = {}

    # -- vectors ---------------------------------------------------------------------------------------------------

    def _encode(
        self,
        inputs: Iterable[Any],
        *,
        show_progress: bool = False,
        precision: str = "fp32",
        prompt_type: str | None = None,
        sparse: bool | Literal["torch"] = False,
    ) -> Any:
        """Encode texts in order, as unit vectors (n, dim) float32; the first C components are not negative.

        A text without any active concept has a zero vector if no part is unnamed. Raise ZooError for an input that is not
        a string, and if the encoder is not trained.

        Args:
            inputs: a list or any iterable of texts.
            show_progress: whether a progress bar is shown on stderr.
            precision: see `zoo.encoder.Encoder.encode`.
            prompt_type: the side that texts are read as, "query" or "document"; None means "query".
            sparse: True returns a scipy CSR array; "torch" returns a sparse COO tensor.
        """
        if sparse:
            vectors = inverted_index.to_csr(self._stream(inputs, precision=precision, prompt_type=prompt_type))
            return inverted_index.to_torch(vectors) if sparse == "torch" else vectors
        engine = self._get_engine(prompt_type)
        return engine.encode(self._add_prompts(inputs, prompt_type), show_progress=show_progress, precision=precision)

    def _stream(
        self, inputs: Iterable[Any], *, precision: str = "fp32", prompt_type: str | None = None
    ) -> Iterator[np.ndarray]:
        """Encode in blocks, in order. The memory does not grow with the length of `inputs`."""
        return self._get_engine(prompt_type).stream(self._add_prompts(inputs, prompt_type), precision=precision)

    def make_graph(self) -> Graph:
        """The graph of this view; one for each side if the towers are separate."""
        towers, _ = self._require_trained()
        is_shared = len(towers.by_side) == 1
        sides = {"": None} if is_shared else {side: side for side in towers.by_side}
        modules = {name: text_graph.TokensToVector(self._get_engine(side).module) for name, side in sides.items()}
        for module in modules.values():
            module.add_module(
                "space", self.space
            )  # `ConceptTower` hides it, and an export takes weights of modules only
        readers = [tower.make_reader(towers.prompts) for tower in towers.by_side.values()]
        if any(reader.tokenizer != readers[0].tokenizer for reader in readers):
            raise ZooError("the two towers have different tokenizers, so they cannot be exported as one model")
        return Graph(modules, reader=readers[0], similarity=self.similarity_fn_name)

    def probabilities(self, texts: Iterable[str], *, prompt_type: str | None = None) -> np.ndarray:
        """Compute p(c | text), (n, C) float32, as combined by `hierarchy.reconcile_levels`.

        Without parents in the list, each row is a distribution over all concepts. Raise ZooError for an opaque space.
        """
        self._require_named_components()
        engine = self._get_engine(prompt_type, probabilities=True)
        return engine.encode(self._add_prompts(texts, prompt_type))

    def predict_tags(
        self,
        texts: Iterable[str],
        *,
        rule: str = "argmax",
        metric: LabelMetric | None = None,
        answers: str = "all",
        prompt_type: str | None = None,
    ) -> list[TagPrediction]:
        """Predict one concept for each text, among the concepts without children.

        Args:
            rule: `argmax` for the most probable concept; `frechet` for the concept with the smallest expected squared distance
                to the truth (see `zoo.label_geometry.frechet`), which may stand higher in the hierarchy.
            metric: distances between ids of concepts; None for the paths in the hierarchy of the encoder's own concepts.
            answers: labels that the rule `frechet` may give: `classes`, `leaves` or `all` labels of the metric.
            prompt_type: the side that texts are read as, "query" or "document"; None means "query".

        Raises ZooError for an unknown rule, for an opaque space, and for concepts without a hierarchy if no metric is given.
        """
        concepts = self._require_named_components()
        if rule == "frechet" and metric is None:
            metric = tag_prediction.make_metric(concepts)
        check_rule(rule, metric)
        probabilities = self.probabilities(texts, prompt_type=prompt_type)
        return tag_prediction.predict_tags(probabilities, concepts, metric=metric, answers=answers)

    def _add_prompts(self, inputs: Iterable[Any], side: str | None) -> Iterable[Any]:
        prompt = self.towers.prompts.get(side or "") if self.towers else None
        if not prompt:
            return inputs
        texts = (prompt + text for text in check_texts(inputs))
        return list(texts) if isinstance(inputs, list | tuple) else texts

    def _get_engine(self, side: str | None, *, probabilities: bool = False) -> encoding.Engine:
        """Return the engine that encodes by the tower of a side; build it at the first call."""
        towers, concepts = self._require_trained()
        tower = towers.get_tower(side)
        key = side or SHARED_SIDE, probabilities
        if key not in self._engines:
            factors = torch.ones(len(concepts))
            for concept, weight in (self.view_options.get("edit") or {}).items():
                # Both vectors get the root, so that the contribution of the concept is multiplied by `weight`.
                factors[concepts.find_row(concept)] = weight**0.5
            max_active = min(self.view_options.get("active") or self.spec.max_active, self.spec.max_active)
            module = ConceptTower(
                tower.module,
                self.space,
                max_active,
                factors,
                unnamed_share=self._get_unnamed_share(),
                unnamed_width=towers.own_width,
                probabilities=probabilities,
            )
            width = len(concepts) if probabilities else self.dim
            self._engines[key] = encoding.Engine(module, tower.tokenize, tower.pad, width, tower.max_length)
        return self._engines[key]

    def _get_unnamed_share(self) -> float:
        """Return the unnamed share of this view: 0 for a view of the most active concepts."""
        return 0.0 if self.view_options.get("active") else self.unnamed_share

    def set_unnamed_share(self, share: float) -> None:
        """Set how much of a score is unnamed, and with it the number of components."""
        self.unnamed_share = share
        self._engines.clear()
        self._count_components()

    def _count_components(self) -> None:
        if self.towers is not None and self.concept_list is not None:
            self.dim = len(self.concept_list) + (self.towers.own_width if self._get_unnamed_share() else 0)

    def _forget_engines(self) -> None:
        self._engines.clear()

    def _require_trained(self) -> tuple[Towers, Concepts]:
        """Return the towers and the concepts. Raise ZooError if the encoder does not have them yet."""
        if self.towers is None or self.concept_list is None:
            raise ZooError("the encoder has not been trained: call `prepare` and `fit` first")
        return self.towers, self.concept_list

    def _require_named_components(self) -> Concepts:
        """Return the concepts. Raise ZooError if components do not stand for them."""
        if self.spec.space == "opaque" or self.concept_list is None:
            raise ZooError(
                "the components of this encoder have no names, because its space is opaque or it has not been trained"
            )
        return self.concept_list

    # -- explanations ----------------------------------------------------------------------------------------------

    def explain(self, a: str, b: str, top: int = 5) -> Explanation:
        """Explain the score of `a` as a query and `b` as a document by the `top` largest contributions to it.

        A contribution is a concept's term of the dot product. Raise ZooError if components have no names.
        """
        self._require_named_components()
        left = self.encode([a], prompt_type="query")[0].astype(np.float64)
        right = self.encode([b], prompt_type="document")[0].astype(np.float64)
        parts, rest = self._select_largest(left * right, top)
        return Explanation(float((left * right).sum()), parts, rest)

    def concepts(self, text: str, top: int = 5, *, prompt_type: str | None = None) -> list[Contribution]:
        """List the `top` most active concepts of a text, the most active first."""
        self._require_named_components()
        return list(self._select_largest(self.encode([text], prompt_type=prompt_type)[0], top)[0])

    def _select_largest(self, values: np.ndarray, top: int) -> tuple[tuple[Contribution, ...], float]:
        """Return at most `top` positive values of concepts with their names, and the sum of all other values (dim,)."""
        concepts = self._require_named_components()
        order = np.argsort(-values[: len(concepts)], kind="stable")
        rows = [int(row) for row in order[: max(top, 0)] if values[row] > 0]
        rest = float(np.delete(values, rows).sum())
        parts = tuple(Contribution(concepts.ids[row], concepts.names[row], float(values[row])) for row in rows)
        return parts, rest

    # -- views -----------------------------------------------------------------------------------------------------

    def edit(self, weights: Mapping[str, float]) -> Self:
        """Return a view in which the contributions of concepts are multiplied by `weights`.

        Keys are ids or names; 0 removes a concept from every score. Vectors have unit length again afterwards. Raise
        ZooError for an unknown concept.
        """
        return self.view(**{**self.view_options, "edit": {**(self.view_options.get("edit") or {}), **weights}})

    def _make_view(self, options: Mapping[str, Any]) -> Self:
        mistake = self.spec.find_view_mistake(options, self.folder)
        if mistake:
            raise ZooError(mistake)
        if self.concept_list is not None:
            for concept in options.get("edit") or {}:
                self._require_named_components().find_row(concept)
        view = copy.copy(self)
        view.view_options, view._engines = dict(options), {}
        view._count_components()
        return view

    def baseline(self) -> BaseEncoder | None:
        """Return the backbone as a sentence encoder; None without a backbone, or if it cannot be loaded."""
        if not self.spec.backbone:
            return None
        try:
            return BaselineEncoder.build(self.spec.as_sentence_encoder(), folder=self.folder)
        except ZooError:
            return None

    # -- search ----------------------------------------------------------------------------------------------------

    def index(self, texts: Iterable[str]) -> InvertedIndex:
        """Build an inverted index of documents, for `search`."""
        return InvertedIndex.from_vectors(self.encode(texts, prompt_type="document", sparse=True))

    def search(self, index: InvertedIndex, queries: Sequence[str], top: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """Find the `top` items of an index for each query: item numbers and scores, (q, top) each, the best first."""
        return index.search(self.encode(queries, prompt_type="query", sparse=True), top)

    # -- model folder ----------------------------------------------------------------------------------------------

    def build_module(self, towers: Towers, concepts: Concepts, *, relative: bool = False) -> None:
        """Put a new concept space on top of the towers. For `relative`, see `ConceptSpace`."""
        self.concept_list = concepts
        self._set_towers(towers)
        self._count_components()
        self.space = ConceptSpace(concepts, towers.width, opaque=self.spec.space == "opaque", relative=relative)
        self.module = torch.nn.ModuleDict({"towers": towers.module, "space": self.space})
        self._engines = {}

    def _set_towers(self, towers: Towers) -> None:
        self.towers = towers
        self.backbone_name, self.backbone_revision = towers.backbone_name, towers.backbone_revision

    def write_weights(self, folder: Path) -> None:
        """Write the towers, concepts.json and space.safetensors. Raise ZooError if the encoder is not trained."""
        towers, concepts = self._require_trained()
        towers.save(folder)
        concepts.save(folder / CONCEPTS_FILE)
        save_file(tensors.extract(self.space), folder / f"{SPACE_STEM}.safetensors", metadata={"format": "pt"})

    @classmethod
    def load(cls, spec: Any, folder: Path, config: Mapping[str, Any]) -> Self:
        """Open what `write_weights` wrote. Raise ArtefactError for a missing, extra, mis-shaped or non-finite tensor."""
        encoder = cls(spec)
        concepts, towers = Concepts.load(folder / CONCEPTS_FILE), Towers.load(spec, folder)
        with torch.device("meta"):  # shapes without memory
            shell = ConceptSpace(concepts, towers.width, opaque=spec.space == "opaque")
        stored_names = headers.read_header(folder / f"{SPACE_STEM}.safetensors").keys()
        is_early = stored_names & set(concept_space.CONCEPT_TENSORS) == {"threshold"}
        shapes = tensors.get_shapes(shell)
        if is_early:
            shapes = concept_space.list_early_shapes(shapes, len(shell.level_concepts))
        preflight.check_shapes(folder, shapes, SPACE_STEM)
        encoder.unnamed_share = _read_share(config, folder)
        encoder.build_module(towers, concepts, relative=config.get(COMPONENTS_KEY) != COMPONENTS_FROM_LOGITS)
        stored = tensors.read(folder, SPACE_STEM)
        if is_early:
            stored = concept_space.convert_early_tensors(stored, encoder.space)
        tensors.fill(encoder.space, stored, folder)
        encoder.module.eval()
        return encoder

    def find_stock_folder(self, folder: Path) -> None:
        """None, because sentence-transformers opens the backbone of the folder, without the concepts."""
        return

    def list_token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text, one tower after the other."""
        towers, _ = self._require_trained()
        sides = [tower.tokenize(texts) for tower in towers.by_side.values()]
        return [[token for ids in rows for token in ids] for rows in zip(*sides, strict=True)]

    def extra_config(self) -> dict[str, Any]:
        """Return how components are computed, and how much of a score is unnamed."""
        share = {SHARE_KEY: self.unnamed_share} if self.unnamed_share else {}
        return share | ({} if self.space.is_relative else {COMPONENTS_KEY: COMPONENTS_FROM_LOGITS})

    def card_facts(self) -> dict[str, Any]:
        """Return the number of concepts, the largest number of active ones, the space, and the tokens of a text."""
        count = len(self.concept_list) if self.concept_list else 0
        facts: dict[str, Any] = {"dim": count, "active": min(self.spec.max_active, count), "space": self.spec.space}
        facts |= {SHARE_KEY: self.unnamed_share} if self.unnamed_share else {}
        facts |= {"lexical_dim": self.spec.lexical_dim} if self.spec.lexical_dim else {}
        return facts | ({"max_length": self.towers.max_length} if self.towers else {})


def _read_share(config: Mapping[str, Any], folder: Path) -> float:
    """Return the unnamed share in config.json. Raise ArtefactError if it is not a share."""
    share = config.get(SHARE_KEY, 0.0)
    if not isinstance(share, int | float) or not 0 <= share < 1:
        raise ArtefactError(
            f"{folder / 'config.json'}: {SHARE_KEY} is not a share below 1; download or save the model again"
        )
    return float(share)
