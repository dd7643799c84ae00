"""The `evaluation:` section: official mteb tasks by name, and tasks over the user's own data. Pydantic only."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from zoo.core.suggest import suggest
from zoo.data.spec import Data
from zoo.evaluation.mmeb_sets import SETS
from zoo.schema import Kind, Positive, Section

View = dict[str, Any]
Roles = dict[str, Kind]
PAIR: Roles = {"query": "caption", "query_image": "pictures", "document": "caption", "document_image": "pictures"}
"""What may be asked and what may be right: a text, an image or both."""


class TaskSpec(Section):
    """What every task understands. `roles` says, for each data field, which columns it needs and what they hold."""

    roles: ClassVar[dict[str, Roles]] = {}
    optional: ClassVar[dict[str, Roles]] = {}

    task: str
    name: str | None = Field(None, description="How the report calls it; by default the task's type or official name.")
    views: tuple[View, ...] = Field(
        ({},), description="Cuts of the encoder, e.g. {layers: 3, dim: 64}; {} is the whole."
    )
    at_least: float | None = Field(
        None, description="`zoo train` and `zoo evaluate` exit 1 when a view scores below this."
    )


class Official(TaskSpec):
    """An mteb task by name, from the Hub, or from `folder` (or `$ZOO_DATA`): a result on local files never claims to be
    the official one."""

    folder: str | None = None


class Sts(TaskSpec):
    """Scored pairs. Main score: cosine_spearman."""

    roles = {"data": {"sentence1": "text", "sentence2": "text", "score": "number"}}
    task: Literal["sts"]
    data: Data


class PairClassification(TaskSpec):
    """Pairs that do (1) or do not (0) belong together. Main score: max_ap."""

    roles = {"data": {"sentence1": "text", "sentence2": "text", "label": "label"}}
    task: Literal["pair-classification"]
    data: Data


class Classification(TaskSpec):
    """A logistic regression on frozen embeddings of `train`, as mteb does it. Main score: accuracy."""

    roles = {"train": {"text": "text", "label": "label"}, "data": {"text": "text", "label": "label"}}
    task: Literal["classification"]
    train: Data
    data: Data


class ImageClassification(TaskSpec):
    """The same for images. Main score: accuracy."""

    roles = {"train": {"image": "image", "label": "label"}, "data": {"image": "image", "label": "label"}}
    task: Literal["image-classification"]
    train: Data
    data: Data


class ImageClustering(TaskSpec):
    """Images with a class each. Main score: v_measure."""

    roles = {"data": {"image": "image", "label": "label"}}
    task: Literal["image-clustering"]
    data: Data


class Recognition(TaskSpec):
    """What a family with classes of its own says of inputs of its modality: top-1 and top-5 accuracy, calibration, and more;
    neighbours are looked for among `train`, and `unknown` holds inputs of no class. Main score: top1."""

    roles = {"data": {"label": "label"}, "train": {"label": "label"}, "unknown": {}}
    optional = {part: {"text": "text", "image": "image"} for part in ("data", "train", "unknown")}
    task: Literal["recognition"]
    data: Data
    train: Data | None = None
    unknown: Data | None = None


class Infomec(TaskSpec):
    """Inputs with the labels of their true sources, each a column: how far every dimension of their vectors means one source
    (arXiv 2305.18378), of any encoder that reads them. Main score: infom."""

    optional = {"data": {"text": "text", "image": "image", "vector": "vector"}}
    task: Literal["infomec"]
    data: Data
    sources: tuple[str, ...] = Field(min_length=1, description="Columns of the sources.")

    @property
    def roles(self) -> dict[str, Roles]:  # type: ignore[override]
        """The columns of the sources."""
        return {"data": dict.fromkeys(self.sources, "label")}


class Clustering(TaskSpec):
    """Texts with a class each. Main score: v_measure."""

    roles = {"data": {"text": "text", "label": "label"}}
    task: Literal["clustering"]
    data: Data


class ZeroShot(TaskSpec):
    """Texts with the name of their class: the nearest name, encoded as a text, is the answer. Main score: accuracy."""

    roles = {"data": {"text": "text", "label": "label"}}
    task: Literal["zero-shot"]
    data: Data


class Retrieval(TaskSpec):
    """Main score: ndcg_at_10. Either `data`, rows of (query, document), whose documents together with the texts of
    `corpus` (when given; equal texts are one document) are the candidates; or `queries`, `corpus` and `qrels` with ids."""

    roles = {
        "data": {"query": "text", "document": "text"},
        "corpus": {"text": "text"},
        "queries": {"id": "id", "text": "text"},
        "qrels": {"query_id": "id", "document_id": "id"},
    }
    optional = {"corpus": {"id": "id", "title": "text"}, "qrels": {"score": "number"}}
    task: Literal["retrieval"]
    data: Data | None = None
    corpus: Data | None = None
    queries: Data | None = None
    qrels: Data | None = None

    @model_validator(mode="after")
    def _one_layout(self) -> Retrieval:
        by_id = self.queries is not None or self.qrels is not None
        if (self.data is None) != by_id:
            raise ValueError("give either `data` (query, document rows) or `queries` + `corpus` + `qrels`")
        if by_id and (self.queries is None or self.corpus is None or self.qrels is None):
            raise ValueError("the id layout needs all of `queries`, `corpus` and `qrels`")
        return self


class AnyRetrieval(TaskSpec):
    """Retrieval of and by texts, images and both. Rows of `data` are a query and a document that is right for it; the documents
    of all rows, and what `corpus` has besides, are the candidates; what rows of `known` say is right as well, for instance as it
    was trained on, is left out of that query's candidates. Main score: ndcg_at_10."""

    roles = {"data": {}, "corpus": {}, "known": {}}
    optional = {
        "data": dict(PAIR),
        "corpus": {"text": "caption", "image": "pictures"},
        "known": dict(PAIR),
    }
    task: Literal["any-retrieval"]
    data: Data
    corpus: Data | None = None
    known: Data | None = None


class Mmeb(TaskSpec):
    """The data sets of MMEB, each a task, in the layout of TIGER-Lab/MMEB-eval: from a `folder` that has a table or a folder of
    each set's name, or from the Hub. Main score: strict_hit_at_1, hit@1 among a query's own candidates, ties being misses."""

    task: Literal["mmeb"]
    sets: tuple[str, ...] = Field((), description="Names of data sets; all 36 by default.")
    folder: str | None = None
    images: str | None = Field(
        None, description="Where paths of images start; by default `images` in the folder, or it."
    )
    revision: str | None = Field(None, description="Of the data on the Hub.")
    limit: Positive | None = Field(None, description="Queries of each set, drawn by seed 0.")

    @field_validator("sets")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in SETS:
                raise ValueError(f"MMEB has no set {name!r}{suggest(name, SETS)}")
        return value


class Reranking(TaskSpec):
    """Rows of a query with lists of positive and negative candidates. Main score: map_at_1000."""

    roles = {"data": {"query": "text", "positive": "texts", "negative": "texts"}}
    task: Literal["reranking"]
    data: Data


def _shape(value: Any) -> str:
    task = value.get("task") if isinstance(value, dict) else getattr(value, "task", None)
    return task if task in OWN else "official"


OWN = (
    *("sts", "pair-classification", "classification", "clustering", "zero-shot", "retrieval", "reranking"),
    *("image-classification", "image-clustering", "recognition", "infomec", "any-retrieval", "mmeb"),
)

Task = Annotated[
    Annotated[Sts, Tag("sts")]
    | Annotated[PairClassification, Tag("pair-classification")]
    | Annotated[Classification, Tag("classification")]
    | Annotated[Clustering, Tag("clustering")]
    | Annotated[ZeroShot, Tag("zero-shot")]
    | Annotated[Retrieval, Tag("retrieval")]
    | Annotated[Reranking, Tag("reranking")]
    | Annotated[ImageClassification, Tag("image-classification")]
    | Annotated[ImageClustering, Tag("image-clustering")]
    | Annotated[Recognition, Tag("recognition")]
    | Annotated[Infomec, Tag("infomec")]
    | Annotated[AnyRetrieval, Tag("any-retrieval")]
    | Annotated[Mmeb, Tag("mmeb")]
    | Annotated[Official, Tag("official")],
    Discriminator(_shape),
]
"""One entry of `evaluation:` (a bare string NAME is read as {task: NAME})."""
