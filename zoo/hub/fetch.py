"""Fetch the files of a model from one commit of the Hugging Face Hub, and verify every byte.

huggingface_hub downloads the files. This module adds what it lacks: an allowlist of files, a check of their content against
the commit, and a second download of damaged files.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.artefact import allowed_files, manifest, preflight
from zoo.core import atomic_files, paths
from zoo.core.errors import ArtefactError, HubError
from zoo.hub.commit import Tree, create_api, fetch_tree, has_id
from zoo.hub.retries import READING, UnreachableError, as_hub_error, with_retries

if TYPE_CHECKING:
    from huggingface_hub import HfApi


def fetch(reference: str, revision: str | None = None) -> Path:
    """Return a local folder with the files of one commit of a Hub model. A local folder is returned as it is.

    The revision is resolved once, so that all files belong to the same commit. Every file is checked against the commit, and
    against manifest.json if there is one. A file that arrived damaged is downloaded once more. If the Hub cannot be reached,
    the files come from the cache.

    Raises HubError, which repeats the Hub's message and says what to do, and ArtefactError if the model must not be opened.
    """
    if paths.is_folder(reference):
        return Path(reference)
    api = create_api()
    with as_hub_error(f"{reference} at {revision}" if revision else reference, READING):
        try:
            tree = with_retries(lambda: fetch_tree(api, reference, revision))
        except UnreachableError as error:
            return _find_in_cache(reference, revision, str(error))
        folder = _download(api, reference, tree)
        if revision != tree.commit:
            # Record which commit the name means, so that the name also works offline. The client does the same.
            atomic_files.write_text(folder.parents[1] / "refs" / (revision or "main"), tree.commit)
    return folder


def _download(api: HfApi, reference: str, tree: Tree) -> Path:
    from huggingface_hub import hf_hub_download

    _refuse_unsafe(reference, tree.ids)
    folder = with_retries(lambda: _download_snapshot(reference, tree.commit, endpoint=api.endpoint))
    ids = {name: object_id for name, object_id in tree.ids.items() if object_id and allowed_files.is_allowed(name)}
    download_again = partial(
        hf_hub_download, reference, revision=tree.commit, force_download=True, endpoint=api.endpoint
    )
    damaged = [name for name, object_id in ids.items() if not has_id(folder / name, object_id)]
    for name in damaged:
        with_retries(partial(download_again, name))  # forced, because the client trusts a cached file of the right size
        if not has_id(folder / name, ids[name]):
            raise HubError(f"{reference}: {name} arrived damaged twice: try again later, or from another network")
    return _verify(folder)


def _find_in_cache(reference: str, revision: str | None, reason: str) -> Path:
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = _download_snapshot(reference, revision or "main", local_files_only=True)
    except LocalEntryNotFoundError:
        raise HubError(
            f"{reference}: {reason}; the cache does not hold all of it; go online once, or name a folder"
        ) from None
    # Another client may have left files in the cache that zoo itself never downloads.
    _refuse_unsafe(reference, (path.relative_to(folder).as_posix() for path in folder.rglob("*")))
    return _verify(folder)


def _verify(folder: Path) -> Path:
    preflight.check_sizes(folder)
    preflight.check_links(folder)
    if (folder / manifest.NAME).exists():
        manifest.verify(folder)
    return folder


def _download_snapshot(reference: str, revision: str, **options: Any) -> Path:
    from huggingface_hub import snapshot_download

    folder = snapshot_download(
        reference,
        revision=revision,
        allow_patterns=list(allowed_files.ALLOWED),
        ignore_patterns=list(allowed_files.NEVER),
        **options,
    )
    return Path(folder)


def _refuse_unsafe(reference: str, names: Iterable[str]) -> None:
    reason = allowed_files.find_reason_to_refuse(names)
    if reason:
        raise ArtefactError(f"{reference}: refused: {reason}")
