"""Publish a Space of Hugging Face that shows the page of `zoo serve` for a model that was pushed.

A Space holds two files: README.md, whose front matter configures it, and a Dockerfile. The Dockerfile installs this version of
embedding-zoo, downloads one commit of the model, and serves it. The Space runs the same server and page as `zoo serve`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import __version__
from zoo.core import repo_names
from zoo.core.errors import HubError
from zoo.hub.commit import compute_blob_id, create_api, load_card_metadata
from zoo.hub.push import COMMIT, PushResult
from zoo.hub.retries import WRITING, MisreadAnswerError, Say, as_hub_error, is_conflict, say_nothing, with_retries

if TYPE_CHECKING:
    from huggingface_hub import HfApi

PORT = 7860
"""The port at which a Space is expected to listen."""
UNKNOWN_COMMIT = "0" * 40
"""The commit that the files of a dry run name, because the model was not pushed."""
DOCKERFILE = """\
# Written by `zoo push --space`. It serves one commit of the model, with the page of `zoo serve`.
FROM python:3.12-slim
RUN useradd --create-home --uid 1000 user
USER user
WORKDIR /home/user
ENV PATH=/home/user/.local/bin:$PATH HF_HOME=/home/user/.cache/huggingface
RUN pip install --user --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu "embedding-zoo[{extras}]=={version}"
# Every file is checked by its sha256. A private model needs the secret HF_TOKEN in the settings of the Space.
RUN --mount=type=secret,id=HF_TOKEN,mode=0444,required=false \\
    HF_TOKEN="$(cat /run/secrets/HF_TOKEN 2>/dev/null || true)" \\
    python -c {download}
EXPOSE {port}
CMD {command}
"""
README = """\
---
{front_matter}---

# {title}

This Space shows the model [{repo}](https://huggingface.co/{repo}) at the commit `{commit}`: search your own texts, see what a
smaller cut of the model keeps, and read its card. It also answers OpenAI's requests for embeddings at `/v1/embeddings`.

Texts that you type stay in your browser and in the memory of this Space. They are not stored.
"""


def make_files(folder: Path, repo: str, commit: str, extras: Sequence[str] = ()) -> dict[str, bytes]:
    """Return the files of the Space by name.

    Args:
        folder: the model folder, whose card names the license.
        repo: `OWNER/NAME` of the model.
        commit: the commit of the model that is served, 40 hex digits.
        extras: extras of embedding-zoo that the model's family needs, besides `serve`.

    Raises HubError if `repo` is not the name of a repository or `commit` not the id of a commit. Raises HubError also for a card
    whose front matter cannot be read.
    """
    import yaml

    # Both stand in a command of the Dockerfile, so neither may hold a sign that a shell reads.
    if problem := repo_names.find_problem(repo):
        raise HubError(f"space: {problem}; nothing was sent")
    if not COMMIT.fullmatch(commit):
        raise HubError(f"space of {repo}: {commit[:60]!r} is not the id of a commit; push the model first")
    title = repo.rsplit("/", 1)[-1]
    card = load_card_metadata(folder)
    entries = {
        "title": title,
        "colorFrom": "green",
        "colorTo": "gray",
        "sdk": "docker",
        "app_port": PORT,
        "models": [repo],
        **{name: card[name] for name in ("license", "license_name", "license_link") if card.get(name)},
        "short_description": "Explore an embedding model",
    }
    front_matter = yaml.safe_dump(entries, sort_keys=False, allow_unicode=True)
    code = f"import os; from zoo.hub.fetch import fetch; os.symlink(fetch({repo!r}, {commit!r}), 'model')"
    dockerfile = DOCKERFILE.format(
        extras=",".join(["serve", *extras]),
        version=__version__,
        download=f'"{code}"',
        port=PORT,
        command=json.dumps(["zoo", "serve", "model", "--host", "0.0.0.0", "--port", str(PORT)]),
    )
    readme = README.format(front_matter=front_matter, title=title, repo=repo, commit=commit[:8])
    return {"README.md": readme.encode(), "Dockerfile": dockerfile.encode()}


def push_space(
    repo: str, files: Mapping[str, bytes], *, private: bool = False, dry_run: bool = False, say: Say = say_nothing
) -> PushResult:
    """Send the files of a Space in one commit. Other files of the Space stay.

    Args:
        repo: `OWNER/NAME` of the Space; it is created if it does not exist.
        files: content by name, from `make_files`.
        private: create a private Space, or require that it is private.
        dry_run: only list the files, without any request.
        say: receives a line for each wait.

    Raises HubError in one line that says what to do.
    """
    api = create_api()
    url = f"{api.endpoint}/spaces/{repo}"
    sizes = tuple((name, len(content)) for name, content in files.items())
    if dry_run:
        return PushResult(url, "", sizes, created=False)

    def create() -> None:
        with suppress(KeyError):  # the client's error for a 409 answer without an address
            api.create_repo(repo, repo_type="space", space_sdk="docker", private=private or None, exist_ok=True)

    with as_hub_error(f"space {repo}", WRITING):
        with_retries(create, say)
        commit, is_private, _ = with_retries(lambda: _read(api, repo, files), say)
        if private and not is_private:
            raise HubError(f"space {repo}: is public, and private was asked for: make it private on the Hub")
        return with_retries(lambda: _send(api, repo, files, commit, url, sizes), say)


def _read(api: HfApi, repo: str, files: Mapping[str, bytes]) -> tuple[str, bool, list[str]]:
    """Return the current commit, whether the Space is private, and the names of the files that differ."""
    info = api.space_info(repo, files_metadata=True)
    if not info.sha:
        raise MisreadAnswerError(f"{repo}: the answer names no commit")
    ids = {file.rfilename: str(file.blob_id or "") for file in info.siblings or []}
    changed = [name for name, content in files.items() if ids.get(name) != compute_blob_id(content)]
    return str(info.sha), bool(info.private), changed


def _send(
    api: HfApi, repo: str, files: Mapping[str, bytes], base: str, url: str, sizes: tuple[tuple[str, int], ...]
) -> PushResult:
    """Make the commit unless the Space holds these files already. Each attempt looks first, because an answer may be lost."""
    from huggingface_hub import CommitOperationAdd

    commit, _, changed = _read(api, repo, files)
    if not changed:
        return PushResult(url, commit, sizes, created=commit != base)
    operations: list[Any] = [CommitOperationAdd(name, files[name]) for name in changed]
    try:
        info = api.create_commit(
            repo, operations, commit_message="Show the model with zoo", repo_type="space", parent_commit=commit
        )
    except Exception as error:
        if not is_conflict(error):
            raise
        raise HubError(f"space {repo}: somebody else changed it meanwhile: look at it and push again") from None
    return PushResult(url, info.oid, sizes, created=True)
