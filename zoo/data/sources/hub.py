"""`source: hub`: a data set on the Hugging Face Hub, read through `datasets`. Code of a data set is never run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from zoo.core import faults
from zoo.core.errors import DataError, first_line
from zoo.data.formats.parquet_files import convert_batch
from zoo.data.raw_rows import BadRow, Item, Origin, Row, RowLocation, Source
from zoo.data.spec import HubData

BATCH = 1024  # rows
INFO_TIMEOUT = 10  # seconds


def open_source(data: HubData) -> Source:
    """Resolve the revision to a commit, then load that commit. Raise DataError if the data set cannot be loaded."""
    import datasets

    if Path(data.name).exists():  # `datasets` would read it instead of the Hub's, without saying so
        raise DataError(
            f"{data.name}: a file or folder here has the name of the data set; use source: file, or run elsewhere"
        )
    info = _fetch_info(data)
    revision = getattr(info, "sha", None) or data.revision
    try:
        options = {"streaming": True} if data.streaming else {}
        dataset: Any = datasets.load_dataset(data.name, data.config, revision=revision, split=data.split, **options)
        if data.streaming:
            return _open_stream(data, dataset, _describe_origin(data, info, revision, dataset.info))
    except Exception as error:  # from `datasets`, its HTTP client, or the reader of any file format
        faults.refuse_full_memory(error, f"hub data set {data.name}", DataError)
        raise DataError(_explain(data, error)) from error
    name = f"{data.name}[{data.split}]"

    def read_rows() -> Iterator[Item]:
        return read_rows_at(range(len(dataset)))

    def read_rows_at(positions: Any) -> Iterator[Item]:
        rows = dataset if len(positions) == len(dataset) else dataset.select(positions)
        batches = rows.with_format("arrow").iter(batch_size=BATCH)  # in this format images stay encoded
        for position, row in zip(positions, chain.from_iterable(map(convert_batch, batches)), strict=True):
            yield RowLocation(name, int(position) + 1), row if isinstance(row, BadRow) else _embed_images(row)

    parts = ((name, tuple(dataset.column_names)),)
    origin = _describe_origin(data, info, revision, dataset.info)
    return Source(origin, parts, read_rows, len(dataset), read_rows_at)


def _open_stream(data: HubData, dataset: Any, origin: Origin) -> Source:
    """Return a source that asks the Hub for the rows again at each reading. Their number is not known."""
    name = f"{data.name}[{data.split}]"
    columns = dataset.column_names or list(next(iter(dataset), {}))

    def read_rows() -> Iterator[Item]:
        batches = dataset.with_format("arrow").iter(batch_size=BATCH)
        try:
            for number, row in enumerate(chain.from_iterable(map(convert_batch, batches)), 1):
                yield RowLocation(name, number), row if isinstance(row, BadRow) else _embed_images(row)
        except Exception as error:  # from the HTTP client, or the reader of any file format
            faults.refuse_full_memory(error, f"hub data set {data.name}", DataError)
            raise DataError(_explain(data, error)) from error

    return Source(origin, ((name, tuple(columns)),), read_rows)


def _embed_images(row: Row) -> Row:
    """Return a row with the bytes of images that `datasets` left in its cache. No path outside the cache is read."""
    import datasets
    import huggingface_hub

    paths = {name: value.get("path") for name, value in row.items() if _names_file(value)}
    roots = [datasets.config.HF_CACHE_HOME, datasets.config.HF_DATASETS_CACHE, huggingface_hub.constants.HF_HUB_CACHE]
    embedded = dict(row)
    for name, path in paths.items():
        if any(Path(path).resolve().is_relative_to(Path(root).resolve()) for root in roots) and Path(path).is_file():
            embedded[name] = {"bytes": Path(path).read_bytes(), "path": None}
    return embedded


def _names_file(value: Any) -> bool:
    return isinstance(value, dict) and value.get("bytes") is None and isinstance(value.get("path"), str)


def _fetch_info(data: HubData) -> Any:
    """Return the Hub's description of the data set, or None if the Hub cannot be reached. The cache may still hold the data."""
    import huggingface_hub

    try:
        return huggingface_hub.HfApi().dataset_info(data.name, revision=data.revision, timeout=INFO_TIMEOUT)
    except Exception:  # the class depends on the HTTP client that huggingface_hub uses
        return None


def _describe_origin(data: HubData, hub_info: Any, revision: str | None, dataset_info: Any) -> Origin:
    card: Any = getattr(hub_info, "card_data", None)
    licence = (card.get("license") if card else None) or dataset_info.license or ""
    return Origin(
        name=data.name,
        revision=revision or "",
        licence=licence if isinstance(licence, str) else ", ".join(map(str, licence)),
        url=f"https://huggingface.co/datasets/{data.name}",
        citation=(dataset_info.citation or "").strip(),
    )


def _explain(data: HubData, error: Exception) -> str:
    """Return one line that says which data set could not be loaded, why, and what to do."""
    from datasets.exceptions import DatasetNotFoundError

    config = f", config {data.config}" if data.config else ""
    location = f"hub data set {data.name}{config}, revision {data.revision or 'main'}, split {data.split}"
    is_offline = re.search("offline|connect|resolv|Name or service|timed out", str(error))
    if isinstance(error, DatasetNotFoundError):
        advice = "check its name and revision; for a private or gated one log in with `hf auth login`"
    elif isinstance(error, ConnectionError) or is_offline:
        advice = "the Hub cannot be reached and the data set is not in the cache; go online once, or use source: file"
    else:
        advice = "check name, config, revision and split"
    return f"{location}: {first_line(error, limit=200)}; {advice}"
