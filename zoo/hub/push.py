"""Push a model folder to the Hugging Face Hub in one commit.

huggingface_hub sends the files. This module adds what it lacks: no commit if nothing changed, a look at the repository
before a lost answer is followed by a second commit, and an allowlist of the files that may leave the machine.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.artefact import allowed_files, headers, manifest
from zoo.core import atomic_files, findings, repo_names
from zoo.core.errors import HubError
from zoo.hub.commit import Page, Target, Tree, create_api, fetch_tree, load_card_metadata
from zoo.hub.retries import WRITING, MisreadAnswerError, Say, as_hub_error, is_conflict, say_nothing, with_retries

if TYPE_CHECKING:
    from huggingface_hub import HfApi

COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class PushResult:
    """The result of a push.

    Attributes:
        url: page of the commit, or of the pull request; on a dry run, of the repository.
        commit: id of the commit; empty on a dry run.
        files: name and size in bytes of every file of the model folder.
        created: whether a commit was made. False if the Hub already held exactly these files, and on a dry run.
    """

    url: str
    commit: str
    files: tuple[tuple[str, int], ...]
    created: bool


def check_write_access(repo: str, *, private: bool = False, say: Say = say_nothing) -> None:
    """Raise HubError unless the current token may write to `repo`. Call this before training, not after it.

    Args:
        repo: `OWNER/NAME` on the Hub; it need not exist.
        private: also raise HubError if the repository exists and is public.
        say: receives a line for each wait.
    """
    from huggingface_hub import get_token
    from huggingface_hub.errors import RepositoryNotFoundError

    action = f"publish: {repo}"
    _require_name(repo)
    if not get_token():
        raise HubError(f"{action}: no token: run `hf auth login`, or set HF_TOKEN")
    api = create_api()
    with as_hub_error(action, WRITING):
        account = with_retries(lambda: _fetch_account(api), say)
    user, owner = account["name"], repo.split("/")[0]
    roles = {org["name"]: org.get("roleInOrg", "write") for org in account.get("orgs", [])}
    if owner != user and roles.get(owner) in (None, "read", "no_access"):
        raise HubError(f"{action}: {user} may not write to {owner}; write to {user}/… or ask for access")
    if not _may_token_write(account.get("auth", {}).get("accessToken", {}), owner, repo):
        raise HubError(f"{action}: the token may only read there: {WRITING[403]}")
    if private:
        # A repository that does not exist is created as a private one by the push.
        with as_hub_error(action, WRITING), suppress(RepositoryNotFoundError):
            _require_private(repo, with_retries(lambda: fetch_tree(api, repo, None), say))


def _fetch_account(api: HfApi) -> dict[str, Any]:
    account = api.whoami()
    if not isinstance(account, dict) or not isinstance(account.get("name"), str):
        raise MisreadAnswerError("the answer names no user")
    return account


def _require_name(repo: str) -> None:
    if problem := repo_names.find_problem(repo):
        raise HubError(f"repository: {problem}; nothing was sent")


def _may_token_write(token: dict[str, Any], owner: str, repo: str) -> bool:
    """Read the rights of a token. A fine-grained token lists them by owner and repository; any other has one role."""
    if token.get("role") != "fineGrained" or "fineGrained" not in token:
        return bool(token.get("role") != "read")
    scopes = token["fineGrained"].get("scoped", [])
    return any("repo.write" in scope["permissions"] for scope in scopes if scope["entity"].get("name") in (owner, repo))


def _require_private(repo: str, tree: Tree) -> None:
    if not tree.private:
        raise HubError(f"{repo}: is public, and private was asked for: make it private on the Hub, or drop `private`")


def list_files(folder: Path) -> list[str]:
    """List the relative paths of the files that a push sends.

    Raises ArtefactError if the folder does not agree with its manifest or if its weights are not safetensors. Raises HubError
    for a file that must not leave the machine: a file of another kind, a symbolic link, a file with an access token, or an
    adapter whose base is a folder of this machine. Raises HubError also for a card whose front matter cannot be read.
    """
    manifest.verify(folder)
    load_card_metadata(folder)
    editable = (name for name in manifest.EDITABLE if (folder / name).exists())
    results = [path.relative_to(folder).as_posix() for path in folder.glob(allowed_files.RESULTS)]
    names = sorted({manifest.NAME, *manifest.read(folder), *editable, *results})
    for name in names:
        path = folder / name
        if not (allowed_files.is_allowed(name) or name in results) or path.is_symlink():
            raise HubError(f"{path}: is not a kind of file that a model folder holds: remove it; nothing was sent")
        if allowed_files.contains_token(path):
            raise HubError(f"{path}: contains an access token: remove it and revoke it; nothing was sent")
        if name.endswith(".safetensors"):
            headers.read_header(path)
        if path.name == "adapter_config.json":
            _require_public_base(path)
    return names


def _require_public_base(path: Path) -> None:
    """Raise HubError if an adapter's base is a local folder: then `revision` is a sha256, not the id of a commit."""
    adapter = atomic_files.read_json(path)
    if not COMMIT.fullmatch(str(adapter.get("revision"))):
        raise HubError(
            f"{path}: the adapter's base is {adapter.get('base_model_name_or_path')}, a folder that others do not have: "
            "name the base by its Hub id, or train with `lora: {keep: merged}`; nothing was sent"
        )


def _refuse_dead_model(folder: Path, repo: str) -> None:
    """Raise HubError for a model that was found to be of no use after its training."""
    report = folder / "report.json"
    dead = findings.list_dead(atomic_files.read_json(report)) if report.exists() else []
    if dead:
        raise HubError(f"push to {repo}: the model is dead: {dead[0]}; train it again, or push it with --anyway")


def push(
    folder: Path,
    repo: str,
    *,
    private: bool = False,
    branch: str | None = None,
    tag: str | None = None,
    create_pr: bool = False,
    dry_run: bool = False,
    anyway: bool = False,
    say: Say = say_nothing,
) -> PushResult:
    """Send a model folder in one commit, after which the repository holds exactly its files.

    The commit also removes the files of an older version; files of other kinds stay. If a push is interrupted, the branch
    holds either the old version or the new one; push again to finish. A change that somebody else makes meanwhile is never
    overwritten.

    Args:
        folder: the model folder.
        repo: `OWNER/NAME` on the Hub; it is created if it does not exist.
        private: create a private repository, or require that it is private.
        branch: the branch to push to; it is created if it does not exist. None for `main`.
        tag: name of a tag for the commit.
        create_pr: open a pull request instead of writing to `main`.
        dry_run: only check and list the files, without any request.
        anyway: send a model too whose report says that it is dead.
        say: receives a line for each wait and for each file that is sent.

    Raises HubError in one line that says what to do, and ArtefactError for a folder that must not be sent.
    """
    if create_pr and (branch or tag):
        raise HubError(f"push to {repo}: a pull request goes to main and gets no tag: leave branch and tag out")
    _require_name(repo)
    names = list_files(folder)
    if not anyway:
        _refuse_dead_model(folder, repo)
    files = tuple((name, (folder / name).stat().st_size) for name in names)
    api = create_api()
    if dry_run:
        return PushResult(f"{api.endpoint}/{repo}", "", files, created=False)
    with as_hub_error(f"push to {repo}", WRITING):
        base = _prepare_repository(api, repo, private=private, branch=branch, say=say)
        target = Target(api, repo, folder, names, branch, create_pr, base)
        return _send(target, tag, files, say)


def _prepare_repository(api: HfApi, repo: str, *, private: bool, branch: str | None, say: Say) -> Tree:
    """Create the repository and the branch if they do not exist, and return the current commit of the branch."""

    # The client raises KeyError for a 409 answer without the address of the repository. Whether it exists shows below.
    def create() -> None:
        with suppress(KeyError):
            # None rather than False leaves the choice to an organisation whose default is private.
            api.create_repo(repo, private=private or None, exist_ok=True)

    with_retries(create, say)
    if branch:
        with_retries(lambda: api.create_branch(repo, branch=branch, exist_ok=True), say)
    tree = with_retries(lambda: fetch_tree(api, repo, branch), say)
    if private:
        _require_private(repo, tree)
    return tree


def _send(target: Target, tag: str | None, files: tuple[tuple[str, int], ...], say: Say) -> PushResult:
    """Make the commit unless the Hub already holds the files, verify it, and tag it."""
    api, repo = target.api, target.repo
    page = with_retries(target.find_commit, say)
    tagged_commit = with_retries(lambda: _find_tagged_commit(api, repo, tag), say) if tag else None
    if tagged_commit and (page is None or page.commit != tagged_commit):
        raise HubError(
            f"push to {repo}: {tag} already names {tagged_commit[:8]}: choose another tag, or delete that one"
        )
    created = page is None
    if page is None:
        say(target.describe())
        # Each attempt looks first, because the attempt before may have made the commit and lost only the answer.
        page, created = _commit(target, say)
    url, commit = page
    if created:
        with_retries(lambda: target.verify(fetch_tree(api, repo, commit)), say)
    if tag and not tagged_commit:
        with_retries(lambda: api.create_tag(repo, tag=tag, revision=commit, exist_ok=True), say)
    return PushResult(url, commit, files, created)


def _commit(target: Target, say: Say) -> tuple[Page, bool]:
    """Make the commit. If somebody else has changed the branch meanwhile, see whether it holds the same files now."""
    try:
        return with_retries(lambda: target.find_commit() or target.create_commit(), say), True
    except Exception as error:
        page = with_retries(target.find_commit, say) if is_conflict(error) else None
        if page is None:
            raise
        say("somebody else has pushed the same files meanwhile: the Hub holds them, and there is nothing to do")
        return page, False


def _find_tagged_commit(api: HfApi, repo: str, tag: str) -> str | None:
    from huggingface_hub.errors import RevisionNotFoundError

    try:
        return fetch_tree(api, repo, tag).commit
    except RevisionNotFoundError:
        return None
