"""Publish a model folder to the Hugging Face Hub in one commit, and fetch one from a single commit.

huggingface_hub does the talking; what it does not do is here: no commit when nothing changed, a look before pushing again
when an answer was lost, an allowlist of what may leave the machine, and one file tree for the whole of a download.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from zoo import files, manifest
from zoo.errors import ArtefactError, HubError, ZooError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from zoo.families import Encoder

Say = Callable[[str], None]
SUFFIXES = (".safetensors", ".json", ".jsonl", ".yaml", ".md", ".png", ".txt", ".model", ".csv", ".npy")
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".h5", ".msgpack")
TOKEN = re.compile(rb"hf_[A-Za-z0-9]{30,}")
WAITS = (1.0, 3.0, 9.0)  # seconds before each new attempt
PASSING = (429, 500, 502, 503, 504)
ADVICE = {
    401: "the token is missing or not valid: run `hf auth login`, or set HF_TOKEN",
    403: "the token may not do this: make one with write access to this repo at https://huggingface.co/settings/tokens",
    404: "there is no such repo or revision, or the token may not see it",
    409: "somebody else changed the repo meanwhile: look at it and push again",
    412: "somebody else changed the repo meanwhile: look at it and push again",
    413: "the files are larger than the repo may hold: see the Hub's storage limits",
}


@dataclass(frozen=True)
class Push:
    """What a push did: `created` is False when the repo already held exactly these files."""

    url: str
    commit: str
    files: tuple[tuple[str, int], ...]
    created: bool


def _api() -> HfApi:
    from huggingface_hub import HfApi

    return HfApi(endpoint=os.environ.get("HF_ENDPOINT"))


def may_write(repo: str) -> None:
    """Raises HubError unless the token at hand may write to `repo`; asked before training, not after it."""
    api = _api()
    if api.token is None and not _token():
        raise HubError(f"publish: {repo}: no token: run `hf auth login`, or set HF_TOKEN")
    with _explained(f"publish: {repo}"):
        who = _patiently(api.whoami, lambda _: None)
    role = who.get("auth", {}).get("accessToken", {}).get("role", "write")
    owner = repo.split("/")[0]
    orgs = {org["name"]: org.get("roleInOrg", "write") for org in who.get("orgs", [])}
    if role == "read":
        raise HubError(f"publish: {repo}: the token may only read: {ADVICE[403]}")
    if owner != who["name"] and orgs.get(owner, "read") == "read":
        raise HubError(
            f"publish: {repo}: {who['name']} may not write to {owner}; write to {who['name']}/… or ask for access"
        )


def _token() -> str | None:
    from huggingface_hub import get_token

    return get_token()


def listing(folder: Path) -> list[str]:
    """The files of a model folder that a push sends. Raises ArtefactError when the folder is not what its manifest says,
    and HubError for a file that must not leave the machine: one with an access token inside."""
    manifest.verify(folder)
    names = sorted({manifest.NAME, *manifest.read(folder), *(n for n in manifest.READERS if (folder / n).exists())})
    for name in names:
        path = folder / name
        if (
            path.is_symlink()
            or path.suffix not in SUFFIXES
            or any(part.startswith(".") for part in PurePosixPath(name).parts)
        ):
            raise HubError(
                f"{name}: is not the kind of file that a model folder holds; it was not sent, nor anything else"
            )
        if path.suffix != ".safetensors" and TOKEN.search(path.read_bytes()):
            raise HubError(f"{name}: holds an access token; take it out (and revoke it); nothing was sent")
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
    say: Say = lambda _: None,
) -> Push:
    """Make the repo hold exactly this model folder, in one commit on top of the head that was looked at.

    A push that dies anywhere leaves the branch as it was; running it again finishes it. Raises HubError in one line with
    what to do.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    names = listing(folder)
    sized = tuple((name, (folder / name).stat().st_size) for name in names)
    api, revision = _api(), branch or "main"
    page = f"{api.endpoint}/{repo}"
    if dry_run:
        return Push(page, "", sized, created=False)
    with _explained(f"push to {repo}"):
        _patiently(lambda: api.create_repo(repo, private=private, exist_ok=True), say)
        if branch:
            _patiently(lambda: api.create_branch(repo, branch=branch, exist_ok=True), say)
        head = _patiently(lambda: api.repo_info(repo, revision=revision).sha, say)
        remote = _patiently(lambda: _tree(api, repo, head), say)
        changed = [name for name in names if not _same(folder / name, remote.get(name))]
        gone = [name for name in remote if name not in names and _ours(name)]
        if not changed and not gone:
            _mark(api, repo, tag, head, say)
            return Push(page, head, sized, created=False)
        operations: list[Any] = [CommitOperationAdd(name, folder / name) for name in changed]
        operations += [CommitOperationDelete(name) for name in gone]

        def commit() -> str:
            now = str(api.repo_info(repo, revision=revision).sha)
            if now != head:
                if not create_pr and all(
                    _same(folder / n, t) for t, n in ((_tree(api, repo, now).get(n), n) for n in names)
                ):
                    return now  # the commit had landed and only its answer was lost
                raise HubError(f"push to {repo}: {ADVICE[412]}")
            message = f"Upload {folder.resolve().parent.name or 'model'} with zoo"
            info = api.create_commit(
                repo, operations, commit_message=message, revision=revision, parent_commit=head, create_pr=create_pr
            )
            return info.pr_url if create_pr and info.pr_url else info.oid

        made = _patiently(commit, say)
        if create_pr:
            return Push(made, "", sized, created=True)
        _mark(api, repo, tag, made, say)
        there = _patiently(lambda: _tree(api, repo, made), say)
    wrong = [name for name in names if not _same(folder / name, there.get(name))]
    if wrong:
        raise HubError(f"push to {repo}: the Hub holds something else for {', '.join(wrong[:3])}; push again")
    return Push(f"{page}/tree/{made}", made, sized, created=True)


def _mark(api: HfApi, repo: str, tag: str | None, commit: str, say: Say) -> None:
    if tag:
        _patiently(lambda: api.create_tag(repo, tag=tag, revision=commit, exist_ok=True), say)


def push_encoder(encoder: Encoder, repo: str, *, private: bool = False) -> str:
    """Save `encoder` to a temporary folder and push it; returns the commit's URL."""
    import tempfile

    from zoo import artefact, card

    with tempfile.TemporaryDirectory() as folder:
        out = artefact.save(encoder, Path(folder) / encoder.name)
        card.write(out)
        manifest.write(out)
        return push(out, repo, private=private).url


def fetch(repo: str, revision: str | None = None) -> Path:
    """A local folder with every file of one commit of `repo`, checked against its manifest where it has one.

    The revision is resolved once. A file that arrived damaged is fetched again once. Without a network the cache serves.
    Raises HubError (the Hub's own words, and what to do) and ArtefactError for a repo that must not be opened.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    api = _api()
    offline = constants.HF_HUB_OFFLINE
    commit = revision or "main"
    if not offline:
        try:
            with _explained(f"{repo}{f' at {revision}' if revision else ''}"):
                info = _patiently(lambda: api.model_info(repo, revision=revision), lambda _: None)
            commit, names = str(info.sha), [sibling.rfilename for sibling in info.siblings or []]
            _acceptable(repo, names)
        except _UnreachableError:
            offline = True
    wanted = [f"*{suffix}" for suffix in SUFFIXES]
    try:
        folder = Path(
            snapshot_download(
                repo, revision=commit, allow_patterns=wanted, endpoint=api.endpoint, local_files_only=offline
            )
        )
    except (LocalEntryNotFoundError, OfflineModeIsEnabled):
        raise HubError(
            f"{repo}: the Hub cannot be reached and the cache does not hold it; go online once, or name a folder"
        ) from None
    except Exception as error:
        raise HubError(f"{repo}: {_one_line(error)}") from None
    if not offline:  # so that the same name finds this commit again without a network, as the client's own cache does
        reference = folder.parents[1] / "refs" / (revision or "main")
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_text(commit, encoding="utf-8")
    if not (folder / manifest.NAME).exists():
        return folder
    damaged = manifest.faults(folder)
    if damaged and not offline:
        from huggingface_hub import hf_hub_download

        for name in (n for n, what in damaged.items() if not what.startswith("extra")):
            with _explained(f"{repo}/{name}"):
                hf_hub_download(repo, name, revision=commit, force_download=True, endpoint=api.endpoint)
    manifest.verify(folder)
    return folder


def _acceptable(repo: str, names: list[str]) -> None:
    for name in names:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name:
            raise ArtefactError(f"{repo}: refused: the file name {name!r} leaves the folder")
    if not any(name.endswith(".safetensors") for name in names):
        pickles = [name for name in names if name.endswith(PICKLES)]
        why = (
            f"its weights are pickles ({pickles[0]}), which run code when opened"
            if pickles
            else "it holds no safetensors"
        )
        raise ArtefactError(f"{repo}: refused: {why}; ask its author for safetensors")


def _tree(api: HfApi, repo: str, revision: str) -> dict[str, str]:
    """Path → git blob id, or sha256 for LFS files, of every file at a revision."""
    from huggingface_hub.hf_api import RepoFile

    items = api.list_repo_tree(repo, recursive=True, revision=revision)
    return {i.path: i.lfs.sha256 if i.lfs else i.blob_id for i in items if isinstance(i, RepoFile)}


def _same(path: Path, known: str | None) -> bool:
    if known is None:
        return False
    if len(known) == 64:
        return files.sha256(path) == known
    import hashlib

    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == known


def _ours(name: str) -> bool:
    """Whether a file in the repo is of the kind a push writes, and so is stale when the folder no longer has it."""
    return PurePosixPath(name).suffix in SUFFIXES and not any(p.startswith(".") for p in PurePosixPath(name).parts)


class _UnreachableError(HubError):
    """No answer at all, after all attempts."""


def _patiently(call: Callable[[], Any], say: Say) -> Any:
    """`call`, again after a wait when the Hub is overloaded or the connection drops."""
    from huggingface_hub.errors import HfHubHTTPError

    for wait in (*WAITS, None):
        try:
            return call()
        except HfHubHTTPError as error:
            if error.response.status_code not in PASSING or wait is None:
                raise
            what = f"the Hub answers {error.response.status_code}"
        except Exception as error:
            if not _dropped(error):
                raise
            if wait is None:
                raise _UnreachableError(f"no connection to the Hub ({type(error).__name__})") from None
            what = f"the connection dropped ({type(error).__name__})"
        say(f"{what}; trying again in {wait:g} s")
        time.sleep(wait)
    raise AssertionError("unreachable")


def _dropped(error: Exception) -> bool:
    """Whether no answer came. By name: which HTTP library the client stands on differs between its versions."""
    names = {each.__name__ for each in type(error).__mro__}
    return isinstance(error, ConnectionError | TimeoutError) or "TransportError" in names


@contextmanager
def _explained(doing: str) -> Iterator[None]:
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except ZooError as error:
        raise type(error)(f"{doing}: {error}" if isinstance(error, _UnreachableError) else str(error)) from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        raise HubError(f"{doing}: {_one_line(error)}; {ADVICE.get(status, f'the Hub answered {status}')}") from None
    except Exception as error:
        if type(error).__module__.startswith(("huggingface_hub", "httpx", "requests")):
            raise HubError(f"{doing}: {_one_line(error)}") from None
        raise


def _one_line(error: BaseException) -> str:
    """The first words of an error, without anything that looks like a token."""
    text = str(getattr(error, "server_message", None) or error).strip() or type(error).__name__
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return TOKEN.sub(b"hf_***", lines[0].encode()).decode()[:300]
