"""One commit of a Hub repo: looked at, compared with a model folder, and made."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.artefact import allowed_files, preflight
from zoo.core import atomic_files
from zoo.core.errors import HubError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

CARD = ("license", "library_name", "pipeline_tag", "base_model", "language", "tags")
"""Entries of a card by which the Hub lists a model."""
REQUESTS = 20  # open pull requests that are looked through for one that already holds the folder


@dataclass(frozen=True)
class Tree:
    """One commit of a repo. `ids` maps a path to its git blob id, or to its sha256 where it is stored with LFS; `card` is
    what the Hub itself reads from the front matter of README.md."""

    commit: str
    private: bool
    ids: dict[str, str]
    card: dict[str, Any]


def open_api() -> HfApi:
    from huggingface_hub import HfApi

    return HfApi(endpoint=(os.environ.get("HF_ENDPOINT") or "").rstrip("/") or None)


def look(api: HfApi, repo: str, revision: str | None) -> Tree:
    """The commit that `revision` names now and its files, in one answer, so that both are of the same moment."""
    info = api.model_info(repo, revision=revision, files_metadata=True)
    ids = {s.rfilename: str(s.lfs.sha256 if s.lfs else s.blob_id or "") for s in info.siblings or []}
    return Tree(str(info.sha), bool(info.private), ids, info.card_data.to_dict() if info.card_data else {})


@dataclass
class Target:
    """A model folder and the place on the Hub that is to hold it; `before` is the commit that the push was planned on."""

    api: HfApi
    repo: str
    folder: Path
    names: Sequence[str]
    branch: str | None
    create_pr: bool
    before: Tree

    def __post_init__(self) -> None:
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        self.changed, self.gone = self.difference(self.before)
        # Kept over all attempts, as the client notes in them what is uploaded already.
        self.operations: list[Any] = [CommitOperationAdd(name, self.folder / name) for name in self.changed]
        self.operations += [CommitOperationDelete(name) for name in self.gone]

    def difference(self, tree: Tree) -> tuple[list[str], list[str]]:
        """The files that are new or other than in `tree`, and those of an older version that it still has."""
        changed = [name for name in self.names if not same(self.folder / name, tree.ids.get(name, ""))]
        ours = (name for name in tree.ids if allowed_files.belongs(name) or fnmatchcase(name, allowed_files.RESULTS))
        return changed, [name for name in ours if name not in self.names]

    def plan(self) -> str:
        """What is about to be sent, for the user."""
        size = sum((self.folder / name).stat().st_size for name in self.changed)
        removed = f", removing {', '.join(self.gone)} of an older version" if self.gone else ""
        return f"sending {len(self.changed)} files, {size / 1e6:.1f} MB{removed}"

    def landed(self) -> tuple[str, str] | None:
        """URL and id of the commit that already holds the folder, on the branch or in an open pull request."""
        now = look(self.api, self.repo, self.branch)
        if not any(self.difference(now)):
            return self.url(now.commit), now.commit
        if self.create_pr:
            asked = self.api.get_repo_discussions(self.repo, discussion_type="pull_request", discussion_status="open")
            for request in islice(asked, REQUESTS):
                tree = look(self.api, self.repo, request.git_reference)
                if not any(self.difference(tree)):
                    return str(request.url), tree.commit
        return None

    def commit(self) -> tuple[str, str]:
        """Send the one commit; returns its URL (the pull request's, where that was asked for) and id."""
        folder = self.folder.resolve()
        made = self.api.create_commit(
            self.repo,
            self.operations,
            commit_message=f"Upload {folder.parent.name if folder.name == 'model' else folder.name} with zoo",
            revision=self.branch,
            parent_commit=self.before.commit,
            create_pr=self.create_pr,
        )
        return str(made.pr_url) if self.create_pr else self.url(made.oid), made.oid

    def confirm(self, there: Tree) -> None:
        """Raises HubError when the commit does not hold what was sent: by the ids of all files, by the headers of the weights,
        read back from their storage, and by what the Hub makes of the card."""
        wrong = [name for names in self.difference(there) for name in names]
        wrong += [name for name in self.names if name.endswith(".safetensors") and not self._headed(name, there.commit)]
        if wrong:
            raise HubError(
                f"push to {self.repo}: the Hub does not hold what was sent: {', '.join(wrong[:3])}; push again"
            )
        told = card_metadata(self.folder)
        for key in CARD:
            if there.card and _listed(told.get(key)) != _listed(there.card.get(key)):
                raise HubError(
                    f"push to {self.repo}: everything is there, but the Hub reads {key} {there.card.get(key)!r} from the card, "
                    f"not {told.get(key)!r}: look at the head of README.md"
                )

    def _headed(self, name: str, commit: str) -> bool:
        """Whether the stored weights begin with the header of those here; asks for that range alone."""
        from huggingface_hub.errors import SafetensorsParsingError

        try:
            there = self.api.parse_safetensors_file_metadata(self.repo, name, revision=commit)
        except SafetensorsParsingError:
            return False
        return {n: tuple(t.shape) for n, t in there.tensors.items()} == preflight.header(self.folder / name)

    def url(self, commit: str) -> str:
        return f"{self.api.endpoint}/{self.repo}/tree/{commit}"


def card_metadata(folder: Path) -> dict[str, Any]:
    """The front matter of the card; empty where there is none."""
    from huggingface_hub import metadata_load

    path = folder / "README.md"
    return (metadata_load(path) if path.exists() else None) or {}


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def same(path: Path, known: str) -> bool:
    """Whether a file is the one of this git blob id or sha256."""
    if len(known) == 64:
        return atomic_files.sha256(path) == known
    content = path.read_bytes() if known else b""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == known
