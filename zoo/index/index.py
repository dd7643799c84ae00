"""`Index`: the rows of a user on disk, searched with the encoder that built it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from zoo.core.errors import ZooError
from zoo.index import answers, changes
from zoo.index.opened import Hit, OpenIndex

if TYPE_CHECKING:
    from zoo.bridge.bridge import Bridge
    from zoo.encoder import Encoder


class Index(OpenIndex):
    """An index in a folder. `build` makes one, and `open` opens one."""

    @classmethod
    def build(
        cls,
        encoder: Encoder | str | Path,
        rows: Any,
        path: str | Path,
        *,
        text: Sequence[str] = (),
        id: str | None = None,
        image: str | None = None,
        long: str = "cut",
        budget: str | int | None = None,
        recall: float | None = None,
        code: str = "auto",
        queries: Sequence[str] | None = None,
        vectors: str | Path | None = None,
        replace: bool = False,
        reference: str | None = None,
        revision: str | None = None,
        say: Callable[[str], Any] = lambda _: None,
        advance: Callable[[int], Any] = int,
    ) -> Self:
        """Encode rows, and write an index of them into the folder `path`.

        Args:
            encoder: an encoder, or a reference that `zoo.from_pretrained` opens.
            rows: a path that `data:` of a recipe reads, a data section, or a list of mappings from columns to values.
            text: the columns to encode, joined by a space. By default `text`, or the only column of texts.
            id: the column of the ids. By default `_id` or `id`, or else rows are numbered.
            image: the column whose images are encoded instead of texts.
            long: `windows` gives each window of a long text a vector, and a hit says which window it is.
            budget: largest number of bytes of a vector, for example "64B".
            recall: least recall@10 on `queries`, or on sampled rows in their place.
            code: `auto`; `float32` for exact search; `model` for the codes of the model's own step.
            queries: texts for measuring recall.
            vectors: a .npy file with the vectors of all rows, which are then not encoded.
            replace: build the index anew if the folder holds one. The old one stays until the new one is whole.
            reference: by which `zoo.from_pretrained` opens `encoder` again, if that is not a reference itself.
            revision: the commit, tag or branch of the reference on the Hub.
            say: receives lines about the choice of the type.
            advance: receives the number of rows that were encoded since the last call.

        Raise ZooError for bad rows and wishes that cannot be fulfilled.
        """
        request = changes.BuildRequest(
            tuple(text),
            id,
            image,
            long,
            budget,
            recall,
            code,
            queries,
            vectors,
            replace,
            reference,
            revision,
            say,
            advance,
        )
        return cls(Path(path), changes.build(encoder, rows, Path(path), request))

    @classmethod
    def open(cls, path: str | Path, model: Any = None, bridge: str | Path | Bridge | None = None) -> Self:
        """Open the index in a folder. All files are checked by their sha256 before they are read.

        Args:
            path: a folder that `build` wrote on this machine or on another one that you trust.
            model: the encoder, or a reference to it. By default the reference in model.json is opened at the first search.
            bridge: a file of `zoo bridge`, or a bridge that is open. Then `model` is the new encoder, whose queries are mapped.

        Raise ArtefactError for a folder of the Hub, a damaged file, and an encoder that did not build the index.
        """
        if isinstance(bridge, str | Path):
            from zoo.bridge.bridge import Bridge as AnyBridge

            bridge = AnyBridge.open(bridge)
        return cls(Path(path), model, bridge)

    def add(
        self,
        rows: Any,
        *,
        vectors: str | Path | None = None,
        say: Callable[[str], Any] = lambda _: None,
        advance: Callable[[int], Any] = int,
    ) -> int:
        """Add rows with the columns of the index, and return their number. Raise ZooError for an id that is there already."""
        count = changes.add(self, rows, vectors, say, advance)
        self._read()
        return count

    def remove(self, ids: Sequence[str | int]) -> int:
        """Remove the rows with these ids, and return their number. Raise ZooError, which names an id that is not there."""
        count = changes.remove(self, [str(one) for one in ids])
        self._read()
        return count

    def compact(self) -> int:
        """Rewrite the index without its removed rows, in as few shards as possible. Return the bytes that became free."""
        before = self.byte_count
        changes.compact(self)
        self._read()
        return before - self.byte_count

    def fit_hybrid(self, questions: Any, *, say: Callable[[str], Any] = lambda _: None) -> dict[str, Any]:
        """Fit the map of hybrid searches to judged queries, keep it in the folder, and return its figures.

        Args:
            questions: rows with `text` and `relevant`, the ids of the rows that answer it, as `zoo index --measure` reads.
            say: receives a line about the figures.

        Raise ZooError for too few queries, and for an id that is not in the index.
        """
        from zoo.index import hybrid_fit, measure

        fitted = hybrid_fit.fit_hybrid(self, measure.read_questions(questions), say)
        self._read()
        return dict(fitted.facts)

    def search(
        self,
        queries: Sequence[Any],
        top: int = 10,
        *,
        where: str | None = None,
        hybrid: bool | str = False,
        relevant: bool = False,
    ) -> list[list[Hit]]:
        """Return the best rows for each query, the best first.

        Args:
            queries: texts, or images for an encoder of images.
            top: at most so many rows for each query. So many come back if so many rows fulfil `where`.
            where: a condition, for example `year >= 2020 and lang = "en"`; see `zoo.index.conditions`.
            hybrid: join the ranking of the encoder with that of BM25: `rank` or True by reciprocal ranks, `relevance` by the
                map that `fit_hybrid` fitted.
            relevant: leave out rows below the threshold of the model's step `relevance`, or of that map.

        Raise ZooError for a mistake in `where`, for `relevant` if the model has no such step, and for a map that is missing.
        """
        if isinstance(queries, str):
            raise ZooError("search takes a list of queries: write search([query])")
        if not isinstance(top, int) or isinstance(top, bool) or top < 1:
            raise ZooError(f"top: {top!r} is not a number of rows, 1 or more")
        masks = self.find_rows(where)  # before the model, which may take long to open
        return answers.answer(self, list(queries), top, masks, hybrid=hybrid, relevant=relevant)
