"""Compare a commit on the Hub with a model folder, and make the commit of a push."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.artefact import allowed_files, headers
from zoo.core import atomic_files
from zoo.core.errors import HubError, first_line
from zoo.hub.retries import MisreadAnswerError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

CARD_ENTRIES = ("license", "library_name", "pipeline_tag", "base_model", "language", "tags")
"""Entries of a card's front matter by which the Hub lists a model."""
MAX_PULL_REQUESTS = 20
"""Number of open pull requests that are searched for one that already holds the folder."""


@dataclass(frozen=True)
class Tree:
    """The files of one commit of a repository.

    Attributes:
        commit: id of the commit.
        private: whether the repository is private.
        ids: path → git blob id, or the sha256 of a file that is stored with LFS.
        card: the front matter of README.md as the Hub reads it.
    """

    commit: str
    private: bool
    ids: dict[str, str]
    card: dict[str, Any]


class Page(NamedTuple):
    """The web page of a commit or of its pull request, and the id of the commit."""

    url: str
    commit: str


def create_api() -> HfApi:
    """Create the client for the Hub at HF_ENDPOINT, or for huggingface.co if the variable is empty."""
    from huggingface_hub import HfApi

    return HfApi(endpoint=(os.environ.get("HF_ENDPOINT") or "").rstrip("/") or None)


def fetch_tree(api: HfApi, repo: str, revision: str | None) -> Tree:
    """Read the commit that `revision` names now and its files. One request gives both, so that they agree."""
    info = api.model_info(repo, revision=revision, files_metadata=True)
    if not info.sha:
        raise MisreadAnswerError(f"{repo}: the answer names no commit")
    ids = {file.rfilename: str(file.lfs.sha256 if file.lfs else file.blob_id or "") for file in info.siblings or []}
    card_data: Any = info.card_data  # the client does not annotate `to_dict`
    return Tree(str(info.sha), bool(info.private), ids, card_data.to_dict() if card_data else {})


@dataclass
class Target:
    """A model folder and the branch on the Hub that is to hold it.

    Attributes:
        names: relative paths of the files to send.
        base: the commit on which the push was planned; the new commit is its child.
        changed_files: files that are new or differ from those of `base`.
        removed_files: files of an older version that `base` still has.
        operations: the additions and deletions of the commit.
    """

    api: HfApi
    repo: str
    folder: Path
    names: Sequence[str]
    branch: str | None
    create_pr: bool
    base: Tree

    def __post_init__(self) -> None:
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        self.changed_files, self.removed_files = self.compare(self.base)
        # All attempts share these objects, in which the client notes the files that are uploaded already.
        self.operations: list[Any] = [CommitOperationAdd(name, self.folder / name) for name in self.changed_files]
        self.operations += [CommitOperationDelete(name) for name in self.removed_files]

    def compare(self, tree: Tree) -> tuple[list[str], list[str]]:
        """List the files that are new or differ from `tree`, and the stale files that `tree` has."""
        changed = [name for name in self.names if not has_id(self.folder / name, tree.ids.get(name, ""))]
        model_files = [
            name for name in tree.ids if allowed_files.is_allowed(name) or fnmatchcase(name, allowed_files.RESULTS)
        ]
        return changed, [name for name in model_files if name not in self.names]

    def describe(self) -> str:
        """Describe for the user what is about to be sent and removed."""
        size = sum((self.folder / name).stat().st_size for name in self.changed_files)
        removed = f", removing {', '.join(self.removed_files)} of an older version" if self.removed_files else ""
        return f"sending {len(self.changed_files)} files, {size / 1e6:.1f} MB{removed}"

    def find_commit(self) -> Page | None:
        """Find a commit that already holds the folder: the head of the branch, or of an open pull request."""
        head = fetch_tree(self.api, self.repo, self.branch)
        if not any(self.compare(head)):
            return Page(self._get_url(head.commit), head.commit)
        if self.create_pr:
            requests = self.api.get_repo_discussions(
                self.repo, discussion_type="pull_request", discussion_status="open"
            )
            for request in islice(requests, MAX_PULL_REQUESTS):
                tree = fetch_tree(self.api, self.repo, request.git_reference)
                if not any(self.compare(tree)):
                    return Page(str(request.url), tree.commit)
        return None

    def create_commit(self) -> Page:
        """Send the commit. The Hub refuses it if the branch no longer ends at `base`."""
        folder = self.folder.resolve()
        info = self.api.create_commit(
            self.repo,
            self.operations,
            commit_message=f"Upload {folder.parent.name if folder.name == 'model' else folder.name} with zoo",
            revision=self.branch,
            parent_commit=self.base.commit,
            create_pr=self.create_pr,
        )
        return Page(str(info.pr_url) if self.create_pr else self._get_url(info.oid), info.oid)

    def verify(self, tree: Tree) -> None:
        """Raise HubError if the commit does not hold what was sent.

        The ids of all files are compared, the headers of the weights, which are read back from their storage, and the
        entries of the card that the Hub reads.
        """
        different = [name for names in self.compare(tree) for name in names]
        weights = [name for name in self.names if name.endswith(".safetensors")]
        # A second look, because an answer that was damaged on its way is no reason to push again.
        different += [name for name in weights if not any(self._has_same_header(name, tree.commit) for _ in range(2))]
        if different:
            raise HubError(
                f"push to {self.repo}: the Hub does not hold what was sent: {', '.join(different[:3])}; push again"
            )
        card = load_card_metadata(self.folder)
        for key in CARD_ENTRIES:
            if tree.card and _as_list(card.get(key)) != _as_list(tree.card.get(key)):
                raise HubError(
                    f"push to {self.repo}: all files are sent, but the Hub reads {key} {tree.card.get(key)!r} from the card, "
                    f"not {card.get(key)!r}: correct the front matter of README.md"
                )

    def _has_same_header(self, name: str, commit: str) -> bool:
        """Compare the header of stored weights with the local one. The client requests only the bytes of the header."""
        from huggingface_hub.errors import SafetensorsParsingError

        try:
            stored = self.api.parse_safetensors_file_metadata(self.repo, name, revision=commit)
        except SafetensorsParsingError:
            return False
        shapes = {tensor_name: tuple(tensor.shape) for tensor_name, tensor in stored.tensors.items()}
        return shapes == headers.read_header(self.folder / name)

    def _get_url(self, commit: str) -> str:
        return f"{self.api.endpoint}/{self.repo}/tree/{commit}"


def load_card_metadata(folder: Path) -> dict[str, Any]:
    """Load the front matter of the card; it is empty if there is no card or no front matter.

    Raises HubError for front matter that the Hub could not read either.
    """
    import yaml
    from huggingface_hub import metadata_load

    path = folder / "README.md"
    try:
        return (metadata_load(path) if path.exists() else None) or {}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, yaml.YAMLError) as error:
        raise HubError(
            f"{path}: the front matter cannot be read ({first_line(error, limit=100)}); correct it, or make the card again"
        ) from None


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def has_id(path: Path, object_id: str) -> bool:
    """Return whether a file has this git blob id or, for 64 hex digits, this sha256. An empty id matches no file."""
    if len(object_id) == 64:
        return atomic_files.sha256(path) == object_id
    return bool(object_id) and compute_blob_id(path.read_bytes()) == object_id


def compute_blob_id(content: bytes) -> str:
    """Return the id that git gives to a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
