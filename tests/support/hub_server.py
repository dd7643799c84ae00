"""A small Hub on the local machine for the unmodified huggingface_hub client, with faults that a test can ask for.

It has repositories, commits, pull requests, LFS, and a storage for large files under another host name.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

import yaml

TOKEN = "hf_" + "writer" * 6
READ_ONLY = "hf_" + "reader" * 6
FINE_GRAINED = "hf_" + "grains" * 6
LFS = (".safetensors", ".png")
SPACES = "spaces/"
"""Spaces have names of their own: `me/tiny` may be a model, and `spaces/me/tiny` a Space."""

Commit = tuple[str, dict[str, bytes]]
"""The id of a commit and its files by path."""
Query = dict[str, list[str]]


@dataclass
class Repo:
    private: bool = False
    gated: bool = False
    commits: list[tuple[str, str, dict[str, bytes]]] = field(default_factory=list)  # (id, message, files), oldest first
    refs: dict[str, str] = field(default_factory=dict)

    def find_commit(self, revision: str) -> Commit | None:
        """Return the commit that a branch, a tag or an id names."""
        commit = self.refs.get(revision, revision)
        return next(((commit_id, tree) for commit_id, _, tree in self.commits if commit_id == commit), None)

    def add(self, message: str, tree: dict[str, bytes], branch: str = "main") -> str:
        """Add a commit to a branch and return its id."""
        commit_id = hashlib.sha1(f"{len(self.commits)}{message}{sorted(tree)}".encode()).hexdigest()
        self.commits.append((commit_id, message, tree))
        self.refs[branch] = commit_id
        return commit_id

    def list_pull_requests(self) -> list[int]:
        return [int(ref.rsplit("/")[-1]) for ref in self.refs if ref.startswith("refs/pr/")]


@dataclass
class Fault:
    """A fault that strikes requests whose path contains `path`: from the `at`-th on, `times` times, or always for None."""

    action: int | str | Callable[[], Any]
    path: str
    at: int
    times: int | None
    headers: dict[str, str]
    matching_requests: int = 0

    def strikes(self, path: str) -> bool:
        """Count the request and return whether it meets the fault."""
        if self.path not in path:
            return False
        self.matching_requests += 1
        is_before_end = self.times is None or self.matching_requests < self.at + self.times
        return self.matching_requests >= self.at and is_before_end


class Hub:
    """The state of the server. The storage ("cdn") listens on another port and another host name than the API."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.clear()
        self.api = start_server(Api, self)
        self.cdn = start_server(Cdn, self)

    def clear(self) -> None:
        """Remove every repository, file and fault."""
        self.repos: dict[str, Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []  # (method, path) of both servers, in the order of arrival
        self.cdn_tokens: list[str] = []  # the Authorization header of every request to the storage
        self.faults: list[Fault] = []
        self.orgs: dict[str, str] = {}  # organisation → role of the user there
        self.tokens: dict[str, dict[str, Any]] = {TOKEN: {"role": "write"}, READ_ONLY: {"role": "read"}}
        self.xet: dict[str, str] | None = None  # headers with the address of the xet store
        self.damage = 0  # this many of the first downloads of each file have one byte changed
        self.downloads: Counter[str] = Counter()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.api.server_port}"

    @property
    def cdn_url(self) -> str:
        return f"http://localhost:{self.cdn.server_port}"

    def read_files(self, repo: str, revision: str = "main") -> dict[str, bytes]:
        """Return the content of every file of a commit by path."""
        commit = self.repos[repo].find_commit(revision)
        return dict(commit[1]) if commit else {}

    def list_messages(self, repo: str) -> list[str]:
        """Return the messages of all commits, oldest first."""
        return [message for _, message, _ in self.repos[repo].commits]

    def fail(
        self,
        action: int | str | Callable[[], Any],
        *,
        path: str = "",
        at: int = 1,
        times: int | None = 1,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Let requests fail, counted from this call on.

        Args:
            action: an HTTP status; "drop" (no answer, and nothing is done); "lose" (the request is done, but the answer is
                lost); "cut" (done, and half of the answer arrives); "html" (the error page of a gateway); "portal" (the login
                page of a network, with status 200); "circle" (a redirect to the same address); "empty" and "garbage" (done, but
                the answer is `{}` or no JSON); or a function that is called before the request is served as usual.
            path: part of the path of the requests that are counted.
            at: number of the first request that fails.
            times: how many requests fail from there on; None for all.
            headers: headers of an answer with a status.
        """
        self.faults.append(Fault(action, path, at, times, headers or {}))

    def heal(self) -> None:
        """Remove all faults."""
        self.faults.clear()

    def log_request(self, method: str, path: str) -> Fault | None:
        """Record a request and return the fault that it meets."""
        with self.lock:
            self.requests.append((method, path))
            faults = [fault for fault in self.faults if fault.strikes(path)]
            return faults[0] if faults else None

    def damage_download(self, key: str, content: bytes) -> bytes:
        """Count a download of `key` and change its first byte if `damage` asks for it."""
        with self.lock:
            self.downloads[key] += 1
            is_damaged = content and self.downloads[key] <= self.damage
            return bytes([content[0] ^ 1]) + content[1:] if is_damaged else content

    def read_card(self, readme: bytes) -> dict[str, Any]:
        """Read the front matter of a card."""
        front_matter = re.match(r"---\n(.*?)\n---", readme.decode(), re.DOTALL)
        return (yaml.safe_load(front_matter[1]) if front_matter else None) or {}

    def close(self) -> None:
        for server in (self.api, self.cdn):
            server.shutdown()
            server.server_close()


class Handler(BaseHTTPRequestHandler):
    """Serve a request, or let it fail if the Hub says so."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # send an answer in one packet: two would wait 40 ms for each other (Nagle's algorithm)
    disable_nagle_algorithm = True
    hub: Hub

    def log_message(self, *_: Any) -> None:
        """Print nothing."""

    def handle_any(self) -> None:
        url = urlparse(self.path)
        path, query = unquote(url.path), parse_qs(url.query)
        body = self.read_body()
        fault = self.hub.log_request(self.command, path)
        if fault is None:
            self.route(path, query, body)
        elif callable(fault.action):
            fault.action()
            self.route(path, query, body)
        elif isinstance(fault.action, int):
            self.send_json(fault.action, {"error": f"fault {fault.action}"}, **fault.headers)
        elif fault.action == "html":
            self.send_answer(502, b"<html>Bad Gateway</html>")
        elif fault.action == "portal":
            self.send_answer(200, b"<html>Please log in to the network</html>", Content_Type="text/html")
        elif fault.action == "circle":
            self.send_answer(307, b"", Location=self.path)
        elif fault.action in ("empty", "garbage"):
            self.route_with_other_answer(path, query, body, b"{}" if fault.action == "empty" else b'{"\xff')
        else:
            if fault.action in ("lose", "cut"):
                self.route_without_full_answer(path, query, body, is_cut=fault.action == "cut")
            self.close_connection = True
            self.connection.close()

    do_GET = do_POST = do_HEAD = do_PUT = do_DELETE = handle_any

    def route_without_full_answer(self, path: str, query: Query, body: bytes, *, is_cut: bool) -> None:
        """Serve the request, but send only half of the answer, or nothing."""
        wire, self.wfile = self.wfile, io.BytesIO()
        self.route(path, query, body)
        answer = self.wfile.getvalue()
        wire.write(answer[: len(answer) // 2 if is_cut else 0])
        wire.flush()

    def route_with_other_answer(self, path: str, query: Query, body: bytes, answer: bytes) -> None:
        """Serve the request, but send another answer."""
        wire, self.wfile = self.wfile, io.BytesIO()
        self.route(path, query, body)
        self.wfile = wire
        self.send_answer(200, answer)

    def route(self, path: str, query: Query, body: bytes) -> None:
        raise NotImplementedError

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def send_json(self, status: int, content: Any, **headers: str) -> None:
        self.send_answer(status, json.dumps(content).encode(), **headers)

    def send_answer(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def send_file(self, key: str, content: bytes, **headers: str) -> None:
        """Send a file, or the range of it that the request asks for."""
        if self.command == "GET":
            content = self.hub.damage_download(key, content)
        span = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if span:
            start, end = int(span[1]), min(int(span[2] or len(content) - 1), len(content) - 1)
            headers["Content_Range"] = f"bytes {start}-{end}/{len(content)}"
            content = content[start : end + 1]
        self.send_answer(206 if span else 200, content, Accept_Ranges="bytes", **headers)


def start_server(handler: type[Handler], hub: Hub) -> ThreadingHTTPServer:
    """Start a server for `hub` on a free port of the local machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("", (handler,), {"hub": hub}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server


class Cdn(Handler):
    """The storage of large files, addressed by sha256. The client must never send the Hub's token to it."""

    def route(self, path: str, query: Query, body: bytes) -> None:
        self.hub.cdn_tokens.append(self.headers.get("Authorization", ""))
        sha256 = path.removeprefix("/cdn/")
        if self.command != "PUT":
            self.send_file(sha256, self.hub.blobs[sha256])
        elif hashlib.sha256(body).hexdigest() == sha256:
            self.hub.blobs[sha256] = body
            self.send_json(200, {})
        else:
            self.send_json(400, {"error": "the content is not that of the address"})


def compute_blob_id(content: bytes) -> str:
    """Compute the id that git gives to a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def describe_file(path: str, content: bytes) -> dict[str, Any]:
    """Describe a file as the Hub's `tree` and `paths-info` do."""
    description: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": compute_blob_id(content)}
    if path.endswith(LFS):
        sha256 = hashlib.sha256(content).hexdigest()
        description["lfs"] = {"oid": sha256, "sha256": sha256, "size": len(content), "pointerSize": 130}
    return description


def describe_sibling(path: str, content: bytes, with_blobs: bool) -> dict[str, Any]:
    """Describe a file as the Hub's page of a model does; `with_blobs` adds its size and ids."""
    file = describe_file(path, content)
    blobs = {"size": file["size"], "blobId": file["oid"], **({"lfs": file["lfs"]} if "lfs" in file else {})}
    return {"rfilename": path, **(blobs if with_blobs else {})}


class Api(Handler):
    """The Hub's own addresses."""

    @property
    def token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def get_role(self, name: str) -> str | None:
        """Return what the caller may do in a repository: "write", "read" (if it is visible at all), or None."""
        owner = name.removeprefix(SPACES).split("/")[0]
        rights = self.hub.tokens.get(self.token)
        if rights is None:
            return None
        scopes = rights.get("fineGrained", {}).get("scoped", [])
        scopes = [scope for scope in scopes if scope["entity"]["name"] in (owner, name)]
        may_token_write = rights["role"] == "write" or any("repo.write" in scope["permissions"] for scope in scopes)
        may_user_write = owner == "me" or self.hub.orgs.get(owner, "read") != "read"
        return "write" if may_user_write and may_token_write else "read"

    def send_missing(self, code: str, message: str) -> None:
        self.send_json(404, {"error": message}, X_Error_Code=code, X_Error_Message=message)

    def send_refusal(self) -> None:
        self.send_json(403 if self.token else 401, {"error": "You don't have the rights to do this"})

    def find_repo(self, name: str) -> Repo | None:
        """Return the repository if the caller may see it; otherwise answer as the Hub does.

        Without a token the answer is the same for private and for missing repositories.
        """
        repo = self.hub.repos.get(name)
        if repo and (self.token or not repo.private):
            return repo
        if self.token:
            self.send_missing("RepoNotFound", "Repository not found")
        else:
            self.send_json(401, {"error": "Invalid username or password."}, X_Error_Code="RepoNotFound")
        return None

    def route(self, path: str, query: Query, body: bytes) -> None:
        with self.hub.lock:
            if self.token and self.token not in self.hub.tokens:
                message = "Invalid credentials in Authorization header"
                self.send_json(401, {"error": message}, X_Error_Message=message)
            elif path == "/api/whoami-v2":
                self.send_account()
            elif path == "/api/repos/create":
                self.create_repo(json.loads(body))
            elif path == "/api/validate-yaml":
                is_bad = "\nlicense: [" in json.loads(body)["content"]
                errors = [{"message": '"license" must be a string'}] if is_bad else []
                self.send_json(400 if is_bad else 200, {"errors": errors, "warnings": []})
            elif match := re.fullmatch(r"/api/(models|spaces)/([^/]+/[^/]+)(?:/([a-z-]+)(?:/(.+))?)?", path):
                name = match[2] if match[1] == "models" else f"{SPACES}{match[2]}"
                self.route_model(name, match[3], match[4] or "main", query, body)
            elif match := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
                self.send_upload_addresses(match[1], json.loads(body))
            elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/(refs/pr/\d+|[^/]+)/(.*)", path):
                self.send_repo_file(match[1], match[2], match[3])
            else:
                self.send_missing("EntryNotFound", f"no route {path}")

    def send_account(self) -> None:
        if not self.token:
            self.send_json(401, {"error": "Invalid username or password."})
            return
        orgs = [{"type": "org", "name": name, "roleInOrg": role} for name, role in self.hub.orgs.items()]
        access = {"displayName": "t", **self.hub.tokens[self.token]}
        self.send_json(200, {"name": "me", "type": "user", "orgs": orgs, "auth": {"accessToken": access}})

    def create_repo(self, request: dict[str, Any]) -> None:
        is_space = request.get("type") == "space"
        name = f"{SPACES if is_space else ''}{request.get('organization') or 'me'}/{request['name']}"
        url = f"{self.hub.endpoint}/{name}"
        if is_space and request.get("sdk") != "docker":
            self.send_json(400, {"error": "a Space here needs the sdk docker"})
            return
        if self.get_role(name) != "write":
            self.send_refusal()
        elif name in self.hub.repos:
            self.send_json(409, {"error": "You already created this model repo", "url": url})
        else:
            is_private = bool(request.get("private") or request.get("visibility") == "private")
            self.hub.repos[name] = Repo(private=is_private)
            self.hub.repos[name].add("initial commit", {".gitattributes": b"*.safetensors filter=lfs\n"})
            self.send_json(200, {"url": url, "name": name, "id": name})

    def route_model(self, name: str, verb: str | None, rest: str, query: Query, body: bytes) -> None:
        """Serve /api/models/NAME/VERB/REVISION/PATH."""
        repo = self.find_repo(name)
        if repo is None:
            return
        revision, _, path = rest.partition("/")
        if match := re.match(r"(refs/pr/\d+)/?(.*)", rest):
            revision, path = match.groups()
        opens_request = verb in ("preupload", "commit") and "create_pr" in query
        writes = verb in ("preupload", "commit", "branch", "tag", "xet-write-token")
        if writes and not opens_request and self.get_role(name) != "write":
            self.send_refusal()
        elif verb == "xet-write-token":
            self.send_xet_token()
        elif verb == "branch":
            self.create_reference(repo, revision, repo.refs["main"])
        elif verb == "discussions":
            self.send_discussions(repo, name)
        else:
            commit = repo.find_commit(revision)
            if commit is None:
                self.send_missing("RevisionNotFound", "Invalid rev id")
            elif verb == "tag":
                self.create_reference(repo, json.loads(body)["tag"], commit[0])
            elif verb == "commit":
                self.add_commit(repo, name, revision, commit, body, opens_request)
            else:
                self.send_commit(repo, name, verb, commit, path, query, body)

    def send_commit(
        self, repo: Repo, name: str, verb: str | None, commit: Commit, path: str, query: Query, body: bytes
    ) -> None:
        """Answer a question about the files of a commit, or about files that are about to be sent to it."""
        commit_id, tree = commit
        if verb in (None, "revision"):
            siblings = [describe_sibling(file, content, "blobs" in query) for file, content in tree.items()]
            gated = repo.gated and "manual"
            model = {"id": name, "modelId": name, "private": repo.private, "gated": gated, "tags": []}
            card = {"cardData": self.hub.read_card(tree.get("README.md", b""))}
            self.send_json(200, {**model, "sha": commit_id, "siblings": siblings, **card})
        elif verb == "tree":
            files = [describe_file(file, content) for file, content in tree.items() if file.startswith(path)]
            if files:
                self.send_json(200, files)
            else:
                self.send_missing("EntryNotFound", f"{path} does not exist")
        elif verb == "paths-info":
            is_json = body.startswith(b"{")
            paths = json.loads(body)["paths"] if is_json else parse_qs(body.decode()).get("paths", [])
            self.send_json(200, [describe_file(file, tree[file]) for file in paths if file in tree])
        elif verb == "preupload":
            paths = [file["path"] for file in json.loads(body)["files"]]
            modes = {file: "lfs" if file.endswith(LFS) else "regular" for file in paths}
            files = [{"path": file, "uploadMode": mode, "shouldIgnore": False} for file, mode in modes.items()]
            self.send_json(200, {"files": files})
        else:
            self.send_missing("EntryNotFound", f"no route {verb}")

    def send_xet_token(self) -> None:
        expiration = int(time.time()) + 3600
        headers = {**(self.hub.xet or {}), "X-Xet-Token-Expiration": str(expiration)}
        content = {"casUrl": headers["X-Xet-Cas-Url"], "accessToken": headers["X-Xet-Access-Token"], "exp": expiration}
        self.send_json(200, content, **headers)

    def create_reference(self, repo: Repo, reference: str, commit: str) -> None:
        if reference in repo.refs:
            self.send_json(409, {"error": f"Reference already exists: {reference}"})
        else:
            repo.refs[reference] = commit
            self.send_json(200, {})

    def send_discussions(self, repo: Repo, name: str) -> None:
        request = {"status": "open", "isPullRequest": True, "repo": {"name": name, "type": "model"}}
        request |= {"title": "t", "author": {"name": "me"}, "createdAt": "2026-01-01T00:00:00.000Z"}
        numbers = sorted(repo.list_pull_requests(), reverse=True)
        discussions = [{"num": number, **request} for number in numbers]
        self.send_json(200, {"discussions": discussions, "count": len(discussions), "start": 0})

    def add_commit(self, repo: Repo, name: str, branch: str, base: Commit, body: bytes, opens_request: bool) -> None:
        lines = [json.loads(line) for line in body.decode().splitlines() if line.strip()]
        header = next(line["value"] for line in lines if line["key"] == "header")
        if header.get("parentCommit", base[0]) != base[0]:
            self.send_json(412, {"error": "A commit has happened since. Please refresh and try again."})
            return
        tree = dict(base[1])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                tree[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile" and value["oid"] not in self.hub.blobs:
                self.send_json(400, {"error": "LFS object is not there"})
                return
            elif line["key"] == "lfsFile":
                tree[value["path"]] = self.hub.blobs[value["oid"]]
            elif line["key"] == "deletedFile" and tree.pop(value["path"], None) is None:
                self.send_missing("EntryNotFound", "A file with this name doesn't exist")
                return
        number = 1 + len(repo.list_pull_requests())
        commit_id = repo.add(header["summary"], tree, f"refs/pr/{number}" if opens_request else branch)
        url = f"{self.hub.endpoint}/{name}"
        answer = {"commitUrl": f"{url}/commit/{commit_id}", "commitOid": commit_id, "success": True}
        if opens_request:
            answer["pullRequestUrl"] = f"{url}/discussions/{number}"
        self.send_json(200, answer)

    def send_upload_addresses(self, name: str, request: dict[str, Any]) -> None:
        """Send the addresses to which LFS files go; a file that is stored already gets none."""
        if self.get_role(name) is None:
            self.send_refusal()
            return
        objects = []
        for file in request["objects"]:
            upload = {"upload": {"href": f"{self.hub.cdn_url}/cdn/{file['oid']}?X-Amz-Signature=secret"}}
            objects.append({**file, **({} if file["oid"] in self.hub.blobs else {"actions": upload})})
        self.send_json(200, {"transfer": "basic", "objects": objects})

    def send_repo_file(self, name: str, revision: str, path: str) -> None:
        """Send a file, or for LFS the address of the file in the storage."""
        repo = self.find_repo(name)
        if repo is None:
            return
        commit = repo.find_commit(revision)
        if repo.gated:
            message = f"Access to model {name} is restricted and you are not in the authorized list."
            self.send_json(403, {"error": message}, X_Error_Code="GatedRepo", X_Error_Message=message)
        elif commit is None:
            self.send_missing("RevisionNotFound", "Invalid rev id")
        elif path not in commit[1]:
            self.send_json(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound", X_Repo_Commit=commit[0])
        elif path.endswith(LFS):
            content = commit[1][path]
            sha256 = hashlib.sha256(content).hexdigest()
            self.hub.blobs[sha256] = content
            ids = {"X_Linked_Etag": f'"{sha256}"', "X_Linked_Size": str(len(content)), "ETag": f'"{sha256}"'}
            location = f"{self.hub.cdn_url}/cdn/{sha256}?X-Amz-Signature=secret"
            self.send_json(302, {}, Location=location, X_Repo_Commit=commit[0], **ids)
        else:
            content = commit[1][path]
            etag = f'"{compute_blob_id(content)}"'
            self.send_file(f"{name}/{path}", content, X_Repo_Commit=commit[0], ETag=etag)
