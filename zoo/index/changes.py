"""The changes of an index: build, add, remove, compact. Each writes new files first and then the manifest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.core import output_paths
from zoo.core.errors import ZooError
from zoo.core.suggest import suggest
from zoo.index import arrays, choice, folder, identity, model_file, words
from zoo.index.choice import Questions, Wish
from zoo.index.faiss_codec import FaissCodec, FaissVectors
from zoo.index.folder import Change, Manifest, ShardEntry
from zoo.index.model_file import ModelFile
from zoo.index.opened import OpenIndex
from zoo.index.rows import ID, Layout, RowSource, check_added_rows, find_layout, is_image_source, open_rows
from zoo.index.shard import ROWS, ROWS_OF_GROUP, Codec, Shard
from zoo.index.vectors import GivenVectors, RowEncoder
from zoo.index.writer import SHARD_ROWS, RowWriter, Written, merge_rows, store_vectors

if TYPE_CHECKING:
    from zoo.encoder import Encoder

CODES = ("auto", "float32", "model")
DRIFT_LIMIT, GROWTH_LIMIT = 1.25, 4
"""An index should be trained anew if added rows are so much farther from its centroids, or if it has so many times the rows."""
Say = Callable[[str], Any]


@dataclass(frozen=True)
class BuildRequest:
    """The arguments of `Index.build`."""

    text: tuple[str, ...] = ()
    id: str | None = None
    image: str | None = None
    long: str = "cut"
    budget: str | int | None = None
    recall: float | None = None
    code: str = "auto"
    queries: Sequence[str] | None = None
    vectors: str | Path | None = None
    replace: bool = False
    reference: str | None = None
    revision: str | None = None
    say: Say = lambda _: None
    advance: Callable[[int], Any] = int
    shard_rows: int = SHARD_ROWS

    def make_wish(self) -> Wish:
        """Return what is asked of the type. Raise ZooError for values that mean nothing."""
        if self.code not in CODES:
            raise ZooError(
                f"code: {self.code!r} is not one of {', '.join(CODES)}{suggest(self.code, CODES, listing='')}"
            )
        if self.code != "auto" and (self.budget is not None or self.recall is not None):
            raise ZooError(f"code: {self.code} leaves nothing to choose; leave out --budget and --recall, or --code")
        if self.recall is not None and not 0 < self.recall <= 1:
            raise ZooError(f"recall: {self.recall} is not a share above 0 and at most 1; write .95 for 95 %")
        budget = choice.read_budget(str(self.budget)) if self.budget is not None else None
        return Wish(budget, self.recall, self.code == "float32")


def build(encoder: Encoder | str | Path, rows: Any, path: Path, request: BuildRequest) -> Encoder:
    """Write an index of rows into a folder, and return the opened encoder. See `Index.build`."""
    wish = request.make_wish()
    output_paths.check_folder(path)
    with folder.change(path, create=True, replaces=request.replace) as change:
        source = open_rows(rows)
        image = request.image or ("image" if not request.text and is_image_source(source) else None)
        layout, count = find_layout(source, request.text, request.id, image)
        opened, reference, commit = _open_encoder(encoder, request)
        _require_modality(opened, layout)
        _check_code(opened, count, wish, request)
        row_encoder = RowEncoder(opened, request.long)
        given = GivenVectors(Path(request.vectors), opened) if request.vectors is not None else None
        if given is not None:
            given.require_count(count)
            if request.long != "cut":
                raise ZooError("vectors: the file has one vector for each row; leave --long out")
        writer = RowWriter(change, layout, shard_rows=request.shard_rows, advance=request.advance)
        written = writer.write(source, given or row_encoder, 0)
        queries = row_encoder.encode_queries(list(request.queries)) if request.queries else None
        questions = choice.draw_questions(written.vectors, queries)
        codec, parts, facts = _make_codec(change, opened, written, questions, wish, request)
        files = _store(change, written, codec) + _count_words(change, layout, written.shards)
        code = _describe_code(codec, opened)
        if isinstance(codec, FaissCodec):
            facts |= _measure(change, written, codec, questions, wish, request.say)
            code["probes"] = codec.probes
        model = ModelFile(identity.describe_encoder(opened, reference, commit), layout, request.long, code)
        parts["model"] = folder.MODEL if not change.before.generation else change.name_file("model", ".json")
        model.write(change.folder / parts["model"])
        after = Manifest(shards=written.shards, next_number=count, parts=parts, facts=facts)
        change.commit(after, [*written.files, *files, *parts.values()])
    return opened


def _open_encoder(encoder: Encoder | str | Path, request: BuildRequest) -> tuple[Encoder, str | None, str | None]:
    """Return the encoder, the reference by which it is opened again, and its commit. A folder has its full path."""
    from zoo import pretrained
    from zoo.core import paths

    reference = request.reference
    if isinstance(encoder, str | Path):
        reference = str(encoder)
        encoder = pretrained.from_pretrained(reference, request.revision)
    if reference is None:
        return encoder, None, None
    commit = identity.find_commit(reference, request.revision)
    return encoder, str(Path(reference).absolute()) if paths.is_folder(reference) else reference, commit


def _require_modality(encoder: Encoder, layout: Layout) -> None:
    needed = "image" if layout.image is not None else "text"
    if needed not in encoder.modalities:
        raise ZooError(
            f"the family {encoder.spec.family} encodes {' and '.join(encoder.modalities)}, and the rows are {needed}s; "
            f"choose another model, or name the column with --{'text' if needed == 'image' else 'image'}"
        )


def _check_code(encoder: Encoder, count: int, wish: Wish, request: BuildRequest) -> None:
    """Raise ZooError, before anything is encoded, if the vectors cannot be stored as the user asks."""
    if request.code == "model":
        model_file.require_code_step(encoder)
    elif encoder.similarity_fn_name != "hamming":
        choice.check_wish(count, encoder.dim, wish)
    elif wish != Wish():
        raise ZooError(
            "the model gives binary codes, which are kept as they are; leave out --budget, --recall and --code"
        )


def _make_codec(
    change: Change, encoder: Encoder, written: Written, questions: Questions, wish: Wish, request: BuildRequest
) -> tuple[Codec, dict[str, str], dict[str, Any]]:
    """Return the codec, the names of the files that it needs besides shards, and the figures that decided."""
    if request.code == "model":
        return arrays.make_step_codec(model_file.require_code_step(encoder)), {}, {}
    if encoder.similarity_fn_name == "hamming":
        return arrays.make_bit_codec(encoder.dim), {}, {}
    kind, figures = choice.choose_type(written.vectors, questions, wish, request.say)
    facts = {"figures": choice.describe_figures(figures)} if figures else {}
    if kind is None:
        request.say(f"float32, exact: {4 * written.vectors.shape[1]} bytes a vector")
        return arrays.make_float_codec(written.vectors.shape[1]), {}, facts
    sample = choice.draw_training_sample(written.vectors, kind)
    codec = choice.train_codec(kind, sample)
    parts = model_file.write_faiss_parts(change, codec, sample)
    drift = model_file.compute_drift(codec, sample.mean(0, keepdims=True), sample)
    return codec, parts, {**facts, "drift": {"trained": drift, "rows": len(written.vectors)}}


def _store(change: Change, written: Written, codec: Codec) -> list[str]:
    """Write the vectors of the shards as the codec stores them. Exact vectors of one shard are there already."""
    if codec.name != "float32" or len(written.shards) != 1:
        return store_vectors(change, written, codec)
    name = f"{written.shards[0].name}{codec.endings[0]}"
    written.vectors.path.rename(change.folder / name)
    written.vectors.path = change.folder / name
    return [name]


def _count_words(change: Change, layout: Layout, shards: Sequence[ShardEntry]) -> list[str]:
    """Write the words of new shards for BM25, and return the names of the files. Images have no words."""
    if layout.image is not None:
        return []
    names, temporary = [], change.folder / change.name_file("work", ".words")
    for shard in shards:
        texts = words.read_texts(change.folder / f"{shard.name}{ROWS}", layout, ROWS_OF_GROUP)
        names += words.write_words(texts, change.folder, shard.name, temporary)
    return names


def _describe_code(codec: Codec, encoder: Encoder) -> dict[str, Any]:
    if isinstance(codec, FaissCodec):
        return {"kind": "faiss", "name": codec.name, **codec.kind.to_json()}
    if codec.name == "step":
        return {"kind": "step", "sha256": identity.hash_step(model_file.require_code_step(encoder))}
    return {"kind": codec.name}


def _measure(
    change: Change, written: Written, codec: FaissCodec, questions: Questions, wish: Wish, say: Say
) -> dict[str, Any]:
    """Choose how many lists a search reads, and measure recall over all rows."""
    shards, start = [], 0
    for entry in written.shards:
        opened = codec.open([change.folder / f"{entry.name}{ending}" for ending in codec.endings])
        shards.append((start, opened))
        start += entry.vectors
    truth = choice.find_exact(written.vectors, questions)

    def search(probes: int) -> arrays.Numbers:
        codec.probes = probes
        return _search_shards(shards, questions.vectors)

    if codec.kind.lists:
        codec.probes, recall = choice.choose_probes(search, codec.kind.lists, truth, wish.recall)
    else:
        recall = truth.compute_recall(search(1))
    probes = f", {codec.probes} lists a search" if codec.kind.lists else ""
    size = f"{codec.bytes_per_vector} bytes a vector"
    say(f"{codec.name}: {size}{probes}, recall@{choice.TOP} {recall:.3f} ({questions.source})")
    if wish.recall is not None and recall < wish.recall:
        say(f"warning: over all rows, recall is below {wish.recall}; raise --budget, or build with --code float32")
    if wish.recall is None and wish.budget is None and recall < choice.USUAL_RECALL:
        say(
            f"warning: rows lie closer together than {codec.name} resolves; --recall {choice.USUAL_RECALL} chooses a larger code"
        )
    return {"recall": {"value": recall, "top": choice.TOP, "queries": questions.source}}


def _search_shards(shards: Sequence[tuple[int, FaissVectors]], queries: arrays.Vectors) -> arrays.Numbers:
    """Return the numbers (q, TOP + 1) of the best vectors of all shards."""
    found = [vectors.search(queries, choice.TOP + 1, None) for _, vectors in shards]
    scores = np.concatenate([part[0] for part in found], axis=1)
    numbers = [np.where(part[1] < 0, -1, part[1] + start) for (start, _), part in zip(shards, found, strict=True)]
    order = np.argsort(-scores, axis=1, kind="stable")[:, : choice.TOP + 1]
    return np.take_along_axis(np.concatenate(numbers, axis=1), order, 1)


def require_current(change: Change, index: OpenIndex) -> None:
    """Raise ZooError if the index was changed since it was opened."""
    if change.before.generation != index.manifest.generation:
        raise ZooError(f"{index.path}: was changed since it was opened; open it again")


def add(
    index: OpenIndex,
    rows: Any,
    vectors: str | Path | None,
    say: Say,
    advance: Callable[[int], Any],
    shard_rows: int = SHARD_ROWS,
) -> int:
    """Append rows as new shards, and return their number. See `Index.add`."""
    with folder.change(index.path) as change:
        require_current(change, index)
        source, before = open_rows(rows), index.manifest
        count = _check_added(index, source)
        given = GivenVectors(Path(vectors), index.encoder) if vectors is not None else None
        if given is not None:
            given.require_count(count)
        writer = RowWriter(change, index.model.layout, shard_rows=shard_rows, advance=advance)
        written = writer.write(source, given or index.row_encoder, before.next_number)
        facts = dict(before.facts)
        if isinstance(index.codec, FaissCodec):
            facts["drift"] = _report_drift(index, index.codec, written, say)
        files = _store(change, written, index.codec) + _count_words(change, index.model.layout, written.shards)
        after = replace(
            before, shards=(*before.shards, *written.shards), next_number=before.next_number + count, facts=facts
        )
        change.commit(after, [*written.files, *files])
    return count


def _check_added(index: OpenIndex, source: RowSource) -> int:
    """Check all rows before one is encoded, and return their number."""
    taken: set[str] = set()
    for start, shard in zip(index.starts, index.shards, strict=False):
        removed = index.removed[(index.removed >= start) & (index.removed < start + shard.count)] - start
        alive = np.setdiff1d(np.arange(shard.count), removed)
        taken.update(shard.read_columns([ID])[ID].take(alive).to_pylist())
    return check_added_rows(source, index.model.layout, taken.__contains__, index.manifest.next_number)


def _report_drift(index: OpenIndex, codec: FaissCodec, written: Written, say: Say) -> dict[str, Any]:
    """Say how far the added rows are from those for which the index was trained, and when to build it anew."""
    from safetensors.numpy import load_file

    sample = choice.draw_training_sample(written.vectors, codec.kind)
    mean = load_file(index.path / index.manifest.parts["ranges"])["mean"]
    added, facts = model_file.compute_drift(codec, mean, sample), dict(index.manifest.facts["drift"])
    ratio = added / max(facts["trained"], 1e-12)
    growth = (len(index) + len(written.vectors)) / max(1, facts["rows"])
    say(f"the added rows are {ratio:.2f} times as far from the trained centroids as the first ones")
    if ratio > DRIFT_LIMIT or (codec.kind.lists and growth > GROWTH_LIMIT):
        reason = "the added rows differ" if ratio > DRIFT_LIMIT else f"it has {growth:.1f} times the rows"
        say(f"warning: {reason} from those of the training; build the index anew with --replace to keep its recall")
    return {**facts, "added": added}


def remove(index: OpenIndex, ids: Sequence[str]) -> int:
    """Mark rows as removed, and return their number. See `Index.remove`."""
    numbers = index.find_ids(ids)
    with folder.change(index.path) as change:
        require_current(change, index)
        name = change.name_file("removed", ".npy")
        np.save(change.folder / name, np.union1d(index.removed, numbers), allow_pickle=False)
        before = index.manifest
        change.commit(replace(before, parts={**before.parts, "removed": name}), [name])
    return len(numbers)


def compact(index: OpenIndex, shard_rows: int = SHARD_ROWS) -> None:
    """Rewrite all shards without their removed rows. See `Index.compact`."""
    with folder.change(index.path) as change:
        require_current(change, index)
        groups: list[list[tuple[Shard, arrays.Mask]]] = [[]]
        size = 0
        for shard, mask in zip(index.shards, index.find_rows(), strict=True):
            kept = np.ones(shard.count, bool) if mask is None else mask
            if size and size + int(kept.sum()) > shard_rows:
                groups.append([])
                size = 0
            groups[-1].append((shard, kept))
            size += int(kept.sum())
        entries, files = [], []
        for group in groups:
            if not any(mask.any() for _, mask in group):
                continue
            name = change.name_shard()
            entry, names = merge_rows(group, index.model.layout, change.folder, name)
            masks = [mask if shard.places is None else mask[shard.places[:, 0]] for shard, mask in group]
            sources = [(shard.vector_files, mask) for (shard, _), mask in zip(group, masks, strict=True)]
            names += index.codec.merge(sources, change.folder, name)
            names += _count_words(change, index.model.layout, [entry])
            entries.append(entry)
            files += names
        parts = {role: name for role, name in index.manifest.parts.items() if role != "removed"}
        change.commit(replace(index.manifest, shards=tuple(entries), parts=parts), files)
