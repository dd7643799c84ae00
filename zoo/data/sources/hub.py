"""`source: hub`: a data set of the Hugging Face Hub, through `datasets`. No code of a data set is ever run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zoo.core.errors import DataError
from zoo.data.formats.tabular import Item, batch_rows
from zoo.data.spec import HubData
from zoo.data.table import Origin, Place, Source


def open_source(data: HubData) -> Source:
    """Resolve the revision once, then load that. Raises DataError when the data set cannot be had."""
    import datasets

    if Path(data.name).exists():  # `datasets` would quietly read it in place of the Hub's
        raise DataError(
            f"{data.name}: a file or folder here has the name of the data set; use source: file, or run elsewhere"
        )
    info = _info(data)
    revision = getattr(info, "sha", None) or data.revision
    try:
        loaded = datasets.load_dataset(data.name, data.config, revision=revision, split=data.split)
    except Exception as error:  # its own, those of the HTTP client beneath it, and those of every file format
        raise DataError(_why(data, error)) from error
    columns = tuple(loaded.column_names)
    name = f"{data.name}[{data.split}]"

    def rows() -> Iterator[Item]:
        number = 0
        for batch in loaded.with_format("arrow").iter(batch_size=1024):  # images stay encoded
            for row in batch_rows(batch):
                number += 1
                yield Place(name, number), row

    card: Any = getattr(info, "card_data", None)
    licence = (card.get("license") if card else None) or loaded.info.license or ""
    origin = Origin(
        data.name,
        revision or "",
        licence if isinstance(licence, str) else ", ".join(map(str, licence)),
        f"https://huggingface.co/datasets/{data.name}",
        (loaded.info.citation or "").strip(),
    )
    return Source(origin, ((name, columns),), rows)


def _info(data: HubData) -> Any:
    """What the Hub says of the data set, or None when it cannot be asked; loading may still find it in the cache."""
    import huggingface_hub

    try:
        return huggingface_hub.HfApi().dataset_info(data.name, revision=data.revision, timeout=10)
    except Exception:  # of whichever HTTP client the library is built on
        return None


def _why(data: HubData, error: Exception) -> str:
    from datasets.exceptions import DatasetNotFoundError

    config = f", config {data.config}" if data.config else ""
    where = f"hub data set {data.name}{config}, revision {data.revision or 'main'}, split {data.split}"
    if isinstance(error, DatasetNotFoundError):
        advice = "check its name and revision; for a private or gated one log in with `hf auth login`"
    elif isinstance(error, ConnectionError) or re.search(
        "offline|connect|resolv|Name or service|timed out", str(error)
    ):
        advice = "the Hub cannot be reached and the data set is not in the cache; go online once, or use source: file"
    else:
        advice = "check name, config, revision and split"
    said = re.sub(r"\s+", " ", str(error)).strip()[:200] or type(error).__name__
    return f"{where}: {said}; {advice}"
