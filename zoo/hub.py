"""Publish a model folder to the Hugging Face Hub in one commit, and fetch one from a single commit.

huggingface_hub does the talking; what it does not do is here: no commit when nothing changed, a look before pushing again
when an answer was lost, an allowlist of what may leave the machine, and a check of every byte that arrives.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import allowlist, files, manifest
from zoo.errors import ArtefactError, HubError
from zoo.hub_calls import READING, WRITING, Say, UnreachableError, explained, one_line, patiently, quiet

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from zoo.families import Encoder

REQUESTS = 20  # open pull requests that are looked through for the one a lost answer was about


@dataclass(frozen=True)
class Push:
    """What a push did: `created` is False when the Hub already held exactly these files, and on a dry run."""

    url: str
    commit: str
    files: tuple[tuple[str, int], ...]
    created: bool


@dataclass(frozen=True)
class _Tree:
    """One commit of a repo. `ids` maps a path to its git blob id, or to its sha256 where it is stored with LFS."""

    commit: str
    private: bool
    ids: dict[str, str]


def _api() -> HfApi:
    from huggingface_hub import HfApi

    return HfApi(endpoint=(os.environ.get("HF_ENDPOINT") or "").rstrip("/") or None)


def _look(api: HfApi, repo: str, revision: str | None) -> _Tree:
    """The commit that `revision` names now and its files, in one answer, so that both are of the same moment."""
    info = api.model_info(repo, revision=revision, files_metadata=True)
    ids = {s.rfilename: str(s.lfs.sha256 if s.lfs else s.blob_id or "") for s in info.siblings or []}
    return _Tree(str(info.sha), bool(info.private), ids)


def may_write(repo: str, *, private: bool = False) -> None:
    """Raises HubError unless the token at hand may write to `repo`; asked before training, not after it.

    With `private`, also when the repo exists and is public.
    """
    from huggingface_hub import get_token
    from huggingface_hub.errors import RepositoryNotFoundError
    from huggingface_hub.utils import validate_repo_id

    doing = f"publish: {repo}"
    if not get_token():
        raise HubError(f"{doing}: no token: run `hf auth login`, or set HF_TOKEN")
    api = _api()
    with explained(doing, WRITING):
        validate_repo_id(repo)
        who = patiently(api.whoami)
    me, owner = who["name"], repo.split("/")[0]
    orgs = {org["name"]: org.get("roleInOrg", "write") for org in who.get("orgs", [])}
    if owner != me and orgs.get(owner) in (None, "read", "no_access"):
        raise HubError(f"{doing}: {me} may not write to {owner}; write to {me}/… or ask for access")
    if not _may_token_write(who.get("auth", {}).get("accessToken", {}), owner, repo):
        raise HubError(f"{doing}: the token may only read there: {WRITING[403]}")
    if private:
        with explained(doing, WRITING):
            try:
                _private_as_asked(repo, patiently(lambda: _look(api, repo, None)))
            except RepositoryNotFoundError:
                pass  # the push will create it


def _may_token_write(token: dict[str, Any], owner: str, repo: str) -> bool:
    """A fine-grained token lists its rights by user, organisation or repo; any other has one role."""
    if token.get("role") != "fineGrained" or "fineGrained" not in token:
        return token.get("role") != "read"
    scopes = token["fineGrained"].get("scoped", [])
    return any("repo.write" in s["permissions"] for s in scopes if s["entity"].get("name") in (owner, repo))


def _private_as_asked(repo: str, tree: _Tree) -> None:
    if not tree.private:
        raise HubError(f"{repo}: is public, and private was asked for: make it private on the Hub, or drop `private`")


def listing(folder: Path) -> list[str]:
    """The files of a model folder that a push sends. Raises ArtefactError when the folder is not what its manifest says,
    and HubError for a file that must not leave the machine: of another kind, or with an access token inside."""
    manifest.verify(folder)
    readers = (name for name in manifest.READERS if (folder / name).exists())
    names = sorted({manifest.NAME, *manifest.read(folder), *readers})
    for name in names:
        if not allowlist.belongs(name) or (folder / name).is_symlink():
            raise HubError(f"{folder / name}: is not a kind of file that a model folder holds; nothing was sent")
        if allowlist.holds_token(folder / name):
            raise HubError(f"{folder / name}: holds an access token: take it out and revoke it; nothing was sent")
    return names


def push(
    folder: Path,
    repo: str,
    *,
    private: bool = False,
    branch: str | None = None,
    tag: str | None = None,
    create_pr: bool = False,
    dry_run: bool = False,
    say: Say = quiet,
) -> Push:
    """Make the repo hold exactly this model folder, in one commit on top of the head that was looked at.

    Files of an older version go in the same commit; files of other kinds stay. A push that dies anywhere leaves the branch
    as it was or complete, and running it again finishes it. Raises HubError in one line with what to do.
    """
    if create_pr and (branch or tag):
        raise HubError(f"push to {repo}: a pull request goes to main and gets no tag: leave branch and tag out")
    names = listing(folder)
    sized = tuple((name, (folder / name).stat().st_size) for name in names)
    api, revision = _api(), branch or "main"
    if dry_run:
        return Push(f"{api.endpoint}/{repo}", "", sized, created=False)
    with explained(f"push to {repo}", WRITING):
        # None, not False: an organisation may have private as its default
        patiently(lambda: api.create_repo(repo, private=private or None, exist_ok=True), say)
        if branch:
            patiently(lambda: api.create_branch(repo, branch=branch, exist_ok=True), say)
        before = patiently(lambda: _look(api, repo, revision), say)
        if private:
            _private_as_asked(repo, before)
        changed, gone = _difference(folder, names, before)
        marked = patiently(lambda: _marked(api, repo, tag), say) if tag else None
        if marked and (changed or gone or marked != before.commit):
            raise HubError(f"push to {repo}: the tag {tag} already names {marked[:8]}: choose another, or delete it")
        url, commit, created = f"{api.endpoint}/{repo}/tree/{before.commit}", before.commit, False
        if (changed or gone) and not (found := patiently(lambda: _request(api, repo, folder, names, create_pr), say)):
            say(f"sending {len(changed)} files" + (f", removing {', '.join(gone)} of an older version" if gone else ""))
            url, commit = _commit(api, repo, folder, names, before, revision, create_pr, say)
            created = True
        elif changed or gone:
            url, commit = found
        there = patiently(lambda: _look(api, repo, commit), say)
        if any(wrong := _difference(folder, names, there)):
            raise HubError(f"push to {repo}: the Hub does not hold what was sent: {', '.join(sum(wrong, [])[:3])}")
        if tag and not marked:
            patiently(lambda: api.create_tag(repo, tag=tag, revision=commit, exist_ok=True), say)
    return Push(url, commit, sized, created)


def _commit(
    api: HfApi,
    repo: str,
    folder: Path,
    names: Sequence[str],
    before: _Tree,
    revision: str,
    create_pr: bool,
    say: Say,
) -> tuple[str, str]:
    """URL and id of the one commit that turns `before` into the folder."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    changed, gone = _difference(folder, names, before)
    operations: list[Any] = [CommitOperationAdd(name, folder / name) for name in changed]
    operations += [CommitOperationDelete(name) for name in gone]
    title = folder.resolve().parent.name if folder.resolve().name == "model" else folder.resolve().name

    def attempt() -> tuple[str, str]:
        now = _look(
            api, repo, revision
        )  # the commit of the last attempt may have landed, and only its answer been lost
        if now.commit != before.commit:
            if create_pr or any(_difference(folder, names, now)):
                raise HubError(f"push to {repo}: {WRITING[412]}")
            return f"{api.endpoint}/{repo}/tree/{now.commit}", now.commit
        if found := _request(api, repo, folder, names, create_pr):
            return found
        made = api.create_commit(
            repo,
            operations,
            commit_message=f"Upload {title} with zoo",
            revision=revision,
            parent_commit=before.commit,
            create_pr=create_pr,
        )
        return str(made.pr_url) if create_pr else f"{api.endpoint}/{repo}/tree/{made.oid}", made.oid

    return patiently(attempt, say)


def _request(api: HfApi, repo: str, folder: Path, names: Sequence[str], create_pr: bool) -> tuple[str, str] | None:
    """URL and commit of an open pull request that already holds the folder."""
    if not create_pr:
        return None
    requests = api.get_repo_discussions(repo, discussion_type="pull_request", discussion_status="open")
    for request in islice(requests, REQUESTS):
        tree = _look(api, repo, request.git_reference)
        if not any(_difference(folder, names, tree)):
            return request.url, tree.commit
    return None


def _marked(api: HfApi, repo: str, tag: str) -> str | None:
    from huggingface_hub.errors import RevisionNotFoundError

    try:
        return _look(api, repo, f"refs/tags/{tag}").commit
    except RevisionNotFoundError:
        return None


def push_encoder(encoder: Encoder, repo: str, *, private: bool = False) -> str:
    """Save `encoder` to a temporary folder and push it; returns the commit's URL."""
    import tempfile

    from zoo import artefact, card

    with tempfile.TemporaryDirectory() as folder:
        out = artefact.save(encoder, Path(folder) / encoder.name)
        card.write(out)
        manifest.write(out)
        return push(out, repo, private=private).url
