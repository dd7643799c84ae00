"""Publish a model folder to the Hugging Face Hub in one commit, and fetch one from a single commit.

huggingface_hub does the talking; what it does not do is here: no commit when nothing changed, a look before pushing again
when an answer was lost, an allowlist of what may leave the machine, and a check of every byte that arrives.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.artefact import allowed_files, manifest, preflight
from zoo.core import atomic_files
from zoo.core.errors import ArtefactError, HubError
from zoo.hub.commit import Target, Tree, look, open_api, same
from zoo.hub.retries import READING, WRITING, Say, UnreachableError, as_hub_error, quiet, with_retries

if TYPE_CHECKING:
    from huggingface_hub import HfApi

COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Push:
    """What a push did: `created` is False when the Hub already held exactly these files, and on a dry run."""

    url: str
    commit: str
    files: tuple[tuple[str, int], ...]
    created: bool


def check_write_access(repo: str, *, private: bool = False, say: Say = quiet) -> None:
    """Raises HubError unless the token at hand may write to `repo`; asked before training, not after it.

    With `private`, also when the repo exists and is public. Waits are announced by `say`.
    """
    from huggingface_hub import get_token
    from huggingface_hub.errors import RepositoryNotFoundError
    from huggingface_hub.utils import validate_repo_id

    doing = f"publish: {repo}"
    if not get_token():
        raise HubError(f"{doing}: no token: run `hf auth login`, or set HF_TOKEN")
    api = open_api()
    with as_hub_error(doing, WRITING):
        validate_repo_id(repo)
        who = with_retries(api.whoami, say)
    me, owner = who["name"], repo.split("/")[0]
    orgs = {org["name"]: org.get("roleInOrg", "write") for org in who.get("orgs", [])}
    if owner != me and orgs.get(owner) in (None, "read", "no_access"):
        raise HubError(f"{doing}: {me} may not write to {owner}; write to {me}/… or ask for access")
    if not _may_token_write(who.get("auth", {}).get("accessToken", {}), owner, repo):
        raise HubError(f"{doing}: the token may only read there: {WRITING[403]}")
    if private:
        with as_hub_error(doing, WRITING), suppress(RepositoryNotFoundError):  # the push will create it
            _private_as_asked(repo, with_retries(lambda: look(api, repo, None), say))


def _may_token_write(token: dict[str, Any], owner: str, repo: str) -> bool:
    """A fine-grained token lists its rights by user, organisation or repo; any other has one role."""
    if token.get("role") != "fineGrained" or "fineGrained" not in token:
        return token.get("role") != "read"
    scopes = token["fineGrained"].get("scoped", [])
    return any("repo.write" in s["permissions"] for s in scopes if s["entity"].get("name") in (owner, repo))


def _private_as_asked(repo: str, tree: Tree) -> None:
    if not tree.private:
        raise HubError(f"{repo}: is public, and private was asked for: make it private on the Hub, or drop `private`")


def listing(folder: Path) -> list[str]:
    """The files of a model folder that a push sends. Raises ArtefactError when the folder is not what its manifest says or
    its weights are no safetensors, and HubError for a file that must not leave the machine: of another kind, or with an
    access token inside, or an adapter whose base is a folder of this machine."""
    manifest.verify(folder)
    readers = (name for name in manifest.READERS if (folder / name).exists())
    results = [path.relative_to(folder).as_posix() for path in folder.glob(allowed_files.RESULTS)]
    names = sorted({manifest.NAME, *manifest.read(folder), *readers, *results})
    for name in names:
        if not (allowed_files.belongs(name) or name in results) or (folder / name).is_symlink():
            raise HubError(f"{folder / name}: is not a kind of file that a model folder holds; nothing was sent")
        if allowed_files.holds_token(folder / name):
            raise HubError(f"{folder / name}: holds an access token: take it out and revoke it; nothing was sent")
        if name.endswith(".safetensors"):
            preflight.header(folder / name)
        if Path(name).name == "adapter_config.json":
            _base_of_others(folder / name)
    return names


def _base_of_others(path: Path) -> None:
    held = atomic_files.read_json(path)
    if not COMMIT.fullmatch(str(held.get("revision"))):  # of a folder it is the weights' sha256
        raise HubError(
            f"{path}: the adapter's base is {held.get('base_model_name_or_path')}, a folder that others do not have: name "
            "the base by its Hub id, or train with `lora: {keep: merged}`; nothing was sent"
        )


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
    api = open_api()
    if dry_run:
        return Push(f"{api.endpoint}/{repo}", "", sized, created=False)
    with as_hub_error(f"push to {repo}", WRITING):
        with suppress(
            KeyError
        ):  # at a 409 without the repo's address: whether it is there, the look that follows tells
            # None, not False: an organisation may have private as its default
            with_retries(lambda: api.create_repo(repo, private=private or None, exist_ok=True), say)
        if branch:
            with_retries(lambda: api.create_branch(repo, branch=branch, exist_ok=True), say)
        before = with_retries(lambda: look(api, repo, branch), say)
        if private:
            _private_as_asked(repo, before)
        target = Target(api, repo, folder, names, branch, create_pr, before)
        done = with_retries(target.landed, say)
        tagged = with_retries(lambda: _tagged(api, repo, tag), say) if tag else None
        if tagged and (done is None or done[1] != tagged):
            raise HubError(f"push to {repo}: {tag} already names {tagged[:8]}: choose another tag, or delete that one")
        if created := done is None:
            say(target.plan())
            # Each attempt looks first: the commit of the one before may have landed, and only its answer been lost.
            done = with_retries(lambda: target.landed() or target.commit(), say)
            commit = done[1]
            with_retries(lambda: target.confirm(look(api, repo, commit)), say)
        url, commit = done
        if tag and not tagged:
            with_retries(lambda: api.create_tag(repo, tag=tag, revision=commit, exist_ok=True), say)
    return Push(url, commit, sized, created)


def _tagged(api: HfApi, repo: str, tag: str) -> str | None:
    from huggingface_hub.errors import RevisionNotFoundError

    try:
        return look(api, repo, tag).commit
    except RevisionNotFoundError:
        return None


def fetch(ref: str, revision: str | None = None) -> Path:
    """A local folder with the files of one commit of the Hub model `ref`; a folder stays as it is.

    The revision is resolved once. Every file is checked against the commit, and against manifest.json where there is one;
    what arrived damaged is fetched again once. Without a network the cache serves. Raises HubError (the Hub's own words,
    and what to do) and ArtefactError for a repo that must not be opened.
    """
    if Path(ref).is_dir():
        return Path(ref)
    api = open_api()
    with as_hub_error(f"{ref} at {revision}" if revision else ref, READING):
        try:
            tree = with_retries(lambda: look(api, ref, revision))
        except UnreachableError as error:
            return _cached(ref, revision, str(error))
        folder = _downloaded(api, ref, tree)
        if revision != tree.commit:
            # So that the same name finds this commit without a network, as it does for the client's own downloads.
            atomic_files.write_text(folder.parents[1] / "refs" / (revision or "main"), tree.commit)
    return folder


def _downloaded(api: HfApi, ref: str, tree: Tree) -> Path:
    from huggingface_hub import hf_hub_download

    _refuse(ref, tree.ids)
    folder = with_retries(lambda: _snapshot(ref, tree.commit, endpoint=api.endpoint))
    known = {name: oid for name, oid in tree.ids.items() if oid and allowed_files.belongs(name)}
    again = partial(hf_hub_download, ref, revision=tree.commit, force_download=True, endpoint=api.endpoint)
    for name in [name for name, oid in known.items() if not same(folder / name, oid)]:
        with_retries(partial(again, name))  # past the cache, as the client itself compares sizes only
        if not same(folder / name, known[name]):
            raise HubError(f"{ref}: {name} arrived damaged twice: try again later, or from another network")
    return _verified(folder)


def _cached(ref: str, revision: str | None, why: str) -> Path:
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = _snapshot(ref, revision or "main", local_files_only=True)
    except LocalEntryNotFoundError:
        raise HubError(f"{ref}: {why}; the cache does not hold all of it; go online once, or name a folder") from None
    _refuse(ref, (path.relative_to(folder).as_posix() for path in folder.rglob("*")))
    return _verified(folder)


def _verified(folder: Path) -> Path:
    preflight.sizes(folder)
    preflight.links(folder)
    if (folder / manifest.NAME).exists():
        manifest.verify(folder)
    return folder


def _snapshot(ref: str, revision: str, **options: Any) -> Path:
    from huggingface_hub import snapshot_download

    allow, never = list(allowed_files.ALLOWED), list(allowed_files.NEVER)
    return Path(snapshot_download(ref, revision=revision, allow_patterns=allow, ignore_patterns=never, **options))


def _refuse(ref: str, names: Iterable[str]) -> None:
    if why := allowed_files.why_not_open(names):
        raise ArtefactError(f"{ref}: refused: {why}")
