"""An encoder whose components have names: what a text is about, why two score as they do, views that edit a concept, and
retrieval by an inverted index. A family that trains such an encoder derives from `ConceptEncoder` and says how.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from zoo.artefact import preflight, tensors
from zoo.core.errors import ZooError
from zoo.core.inputs import check_texts
from zoo.core.lazy import lazy
from zoo.encoder import Encoder as BaseEncoder
from zoo.families.sesa import inverted_index
from zoo.families.sesa.concepts import Concepts
from zoo.families.sesa.explanation import Contribution, Explanation
from zoo.families.sesa.spec import ConceptEncoderSpec, View
from zoo.families.sesa.towers import Plain, Towers
from zoo.text import engine as encoding

if TYPE_CHECKING:
    import numpy as np
    import torch

    from zoo.families.sesa import concept_space
else:
    np, torch, concept_space = lazy("numpy"), lazy("torch"), lazy("zoo.families.sesa.concept_space")

LIST, SPACE = "concepts.json", "space"
COMPONENTS, EVIDENCE = "components", "evidence"


class ConceptEncoder(BaseEncoder):
    """Encodes texts as (n, C) float32 of unit norm, one non-negative component a concept; a score is their dot product.

    Attributes:
        listed: the concepts, once they are known.
        towers: what reads the texts; space: what makes components of their vectors.
    """

    spec: ConceptEncoderSpec
    space: concept_space.Space

    def __init__(self, spec: ConceptEncoderSpec) -> None:
        super().__init__()
        self.spec, self.dim = spec, 0
        self.listed: Concepts | None = None
        self.towers: Towers | None = None
        self.module = torch.nn.Module()
        self._engines: dict[tuple[str, bool], encoding.Engine] = {}

    def encode(
        self,
        inputs: Iterable[Any],
        *,
        show_progress: bool = False,
        precision: str = "fp32",
        prompt_type: str | None = None,
        sparse: bool | Literal["torch"] = False,
    ) -> Any:
        """Texts to (n, C) float32 of unit norm, in order, none of it below 0; with `sparse` a scipy CSR array, or, where
        it is "torch", a sparse COO tensor. A text of which nothing is known is zero. Of separate towers `prompt_type`
        says which: "query" (the one that None stands for) or "document". Raises ZooError for an input that is not a
        string, and before `prepare`."""
        if sparse:
            vectors = inverted_index.csr(self.stream(inputs, precision=precision, prompt_type=prompt_type))
            return inverted_index.as_torch(vectors) if sparse == "torch" else vectors
        engine = self._engine(prompt_type)
        return engine.encode(self._prompted(inputs, prompt_type), show_progress=show_progress, precision=precision)

    def stream(
        self, inputs: Iterable[Any], *, precision: str = "fp32", prompt_type: str | None = None
    ) -> Iterator[np.ndarray]:
        """`encode` in pieces of constant memory."""
        return self._engine(prompt_type).stream(self._prompted(inputs, prompt_type), precision=precision)

    def probabilities(self, texts: Iterable[str], *, prompt_type: str | None = None) -> np.ndarray:
        """p(c | text), (n, C) float32, as the levels of the hierarchy agree on it (`hierarchy.agreed`); where there is one
        level, a distribution over its concepts."""
        self._named_components()
        return self._engine(prompt_type, probabilities=True).encode(self._prompted(texts, prompt_type))

    def _prompted(self, inputs: Iterable[Any], role: str | None) -> Iterable[Any]:
        prompt = self.towers.prompts.get(role or "") if self.towers else None
        if not prompt:
            return inputs
        texts = (prompt + text for text in check_texts(inputs))
        return list(texts) if isinstance(inputs, list | tuple) else texts

    def _engine(self, role: str | None, *, probabilities: bool = False) -> encoding.Engine:
        if self.listed is None or self.towers is None:
            raise ZooError("the encoder has not been trained: it knows no concepts yet")
        reader, options = self.towers.reader(role), self.view_options
        key = role or "query", probabilities
        if key not in self._engines:
            factors = torch.ones(self.dim)
            for word, weight in (options.get("edit") or {}).items():
                factors[self.listed.find(word)] = weight**0.5  # on both sides: a contribution counts `weight` times
            active = min(options.get("active") or self.spec.max_active, self.spec.max_active)
            tower = concept_space.Tower(reader.module, self.space, active, factors, probabilities=probabilities)
            self._engines[key] = encoding.Engine(tower, reader.tokenize, reader.pad, self.dim, reader.max_length)
        return self._engines[key]

    def _named_components(self) -> Concepts:
        if self.spec.space == "opaque" or self.listed is None:
            raise ZooError(
                "the components of this encoder have no names: its space is opaque, or it is not trained yet"
            )
        return self.listed

    def explain(self, a: str, b: str, top: int = 5) -> Explanation:
        """Why `a` (as a query) and `b` (as a document) score as they do: the `top` concepts by what they add to the dot product
        of their vectors. Raises ZooError where components have no names."""
        self._named_components()
        left = self.encode([a], prompt_type="query")[0].astype(np.float64)
        right = self.encode([b], prompt_type="document")[0].astype(np.float64)
        parts, rest = self._largest(left * right, top)
        return Explanation(float((left * right).sum()), parts, rest)

    def concepts(self, text: str, top: int = 5, *, prompt_type: str | None = None) -> list[Contribution]:
        """The `top` most active concepts of a text, the most active first."""
        self._named_components()
        return list(self._largest(self.encode([text], prompt_type=prompt_type)[0], top)[0])

    def _largest(self, values: np.ndarray, top: int) -> tuple[tuple[Contribution, ...], float]:
        listed = self._named_components()
        best = [int(i) for i in np.argsort(-values, kind="stable")[: max(top, 0)] if values[i] > 0]
        rest = float(np.delete(values, best).sum())
        return tuple(Contribution(listed.ids[i], listed.names[i], float(values[i])) for i in best), rest

    def edit(self, weights: Mapping[str, float]) -> Self:
        """A view in which concepts, by id or name, count `weights` times in every score, 0 for not at all; vectors have unit
        norm again afterwards. Raises ZooError for a concept that there is not."""
        return self.view(**{**self.view_options, "edit": {**(self.view_options.get("edit") or {}), **weights}})

    def view(self, **options: Any) -> Self:
        """`active` and `edit`, see `View`."""
        if unknown := set(options) - set(View.model_fields):
            raise ZooError(f"a SESA encoder has the views active and edit, not {', '.join(sorted(unknown))}")
        try:
            asked = View.model_validate(options)
        except ValueError as error:
            raise ZooError(f"this is no view of a SESA encoder: {str(error).splitlines()[-2].strip()}") from None
        if problem := self.spec.find_view_mistake(options, self.folder):
            raise ZooError(problem)
        for word in asked.edit or {} if self.listed else ():
            self._named_components().find(word)
        view = copy.copy(self)
        view.view_options, view._engines = asked.model_dump(exclude_none=True), {}
        return view

    def index(self, texts: Iterable[str]) -> inverted_index.Index:
        """An inverted index of texts as documents, for `search`."""
        return inverted_index.Index.of(self.encode(texts, prompt_type="document", sparse=True))

    def search(
        self, index: inverted_index.Index, queries: Sequence[str], top: int = 10
    ) -> tuple[np.ndarray, np.ndarray]:
        """The `top` items of an index for each query: places and scores, (q, top) each, the best first."""
        return index.search(self.encode(queries, prompt_type="query", sparse=True), top)

    def baseline(self) -> BaseEncoder | None:
        """The sentence encoder alone; None without one."""
        try:
            return Plain.build(self.spec.as_sentence_encoder(), folder=self.folder) if self.spec.backbone else None
        except ZooError:
            return None

    # -- artefact --------------------------------------------------------------------------------------------------

    def make(self, towers: Towers, listed: Concepts, *, relative: bool = False) -> None:
        """A space of these concepts on top of the towers, its weights drawn anew; `relative`: see `Space`."""
        self.towers, self.listed, self.dim = towers, listed, len(listed)
        self.backbone_name, self.backbone_revision = towers.backbone_name, towers.backbone_revision
        opaque = self.spec.space == "opaque"
        self.space = concept_space.Space(listed, towers.width, opaque=opaque, relative=relative)
        self.module = torch.nn.ModuleDict({"towers": towers.module, "space": self.space})
        self._engines = {}

    def save(self, folder: Path) -> None:
        """The towers, concepts.json and space.safetensors. Raises ZooError before the encoder knows its concepts."""
        from safetensors.torch import save_file

        if self.listed is None or self.towers is None:
            raise ZooError("the encoder has not been trained: there is nothing to save")
        self.towers.save(folder)
        self.listed.save(folder / LIST)
        save_file(tensors.extract(self.space), folder / f"{SPACE}.safetensors", metadata={"format": "pt"})

    @classmethod
    def load(cls, spec: Any, folder: Path, config: Mapping[str, Any]) -> Self:
        """Open what `save` wrote; every tensor must be there, fit the towers and the concepts and be finite."""
        encoder, listed, towers = cls(spec), Concepts.load(folder / LIST), Towers.load(spec, folder)
        with torch.device("meta"):  # shapes without memory
            shell = concept_space.Space(listed, towers.width, opaque=spec.space == "opaque")
        named = preflight.read_header(folder / f"{SPACE}.safetensors").keys() & set(concept_space.OWN)
        early, shapes = named == {"threshold"}, tensors.get_shapes(shell)
        preflight.check_shapes(folder, concept_space.earlier(shapes, len(shell.groups)) if early else shapes, SPACE)
        encoder.make(towers, listed, relative=config.get(COMPONENTS) != EVIDENCE)
        held = tensors.read(folder, SPACE)
        tensors.fill(encoder.space, concept_space.renewed(held, encoder.space) if early else held, folder)
        encoder.module.eval()
        return encoder

    def extra_config(self) -> dict[str, Any]:
        """What components are made of; earlier versions, whose were relative, did not say."""
        return {} if self.space.relative else {COMPONENTS: EVIDENCE}

    def card_facts(self) -> dict[str, Any]:
        """Concepts, how many of them a text has, and tokens."""
        shape = {"dim": self.dim, "active": min(self.spec.max_active, self.dim), "space": self.spec.space}
        return shape | ({"max_length": self.towers.max_length} if self.towers else {})
