"""A small Hub on loopback for the unmodified huggingface_hub client: repos, LFS, commits, a CDN on another port, faults."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

TOKEN = "hf_" + "writer" * 6
READ_ONLY = "hf_" + "reader" * 6


@dataclass
class Repo:
    private: bool = False
    commits: list[tuple[str, str, dict[str, bytes]]] = field(default_factory=list)  # (id, message, tree), oldest first
    refs: dict[str, str] = field(default_factory=dict)
    lfs: set[str] = field(default_factory=set)

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        commit = self.refs.get(revision, revision)
        return next(((oid, tree) for oid, _, tree in self.commits if oid == commit), None)

    def add(self, message: str, tree: dict[str, bytes], branch: str = "main") -> str:
        oid = hashlib.sha1(f"{len(self.commits)}{message}{sorted(tree)}".encode()).hexdigest()
        self.commits.append((oid, message, tree))
        self.refs[branch] = oid
        return oid


class Hub:
    """State of the server; `fault(method, path, number)` may return a status, "drop" or "lose" (done, answer lost)."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.cdn_tokens: list[str] = []
        self.fault: Callable[[str, str, int], Any] = lambda method, path, number: None
        self.corrupt: set[str] = set()
        self.api, self.cdn = (
            ThreadingHTTPServer(("127.0.0.1", 0), handler) for handler in (_handler(self), _cdn(self))
        )
        for server in (self.api, self.cdn):
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.api.server_port}"

    @property
    def cdn_url(self) -> str:
        return f"http://localhost:{self.cdn.server_port}"

    def files(self, repo: str, revision: str = "main") -> dict[str, bytes]:
        found = self.repos[repo].at(revision)
        return dict(found[1]) if found else {}

    def commits(self, repo: str) -> list[str]:
        return [message for _, message, _ in self.repos[repo].commits]

    def close(self) -> None:
        for server in (self.api, self.cdn):
            server.shutdown()
            server.server_close()


def _cdn(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Cdn(_Base):
        def do_GET(self) -> None:
            hub.cdn_tokens.append(self.headers.get("Authorization", ""))
            content = hub.blobs[self.path.split("/")[-1].split("?")[0]]
            if self.path.split("/")[-1] in hub.corrupt:
                hub.corrupt.discard(self.path.split("/")[-1])
                content = bytes([content[0] ^ 1]) + content[1:]
            self.send_content(content)

        do_HEAD = do_GET

        def do_PUT(self) -> None:
            hub.cdn_tokens.append(self.headers.get("Authorization", ""))
            content = self.body()
            hub.blobs[hashlib.sha256(content).hexdigest()] = content
            self.reply(200, {})

    return Cdn


class _Base(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") == "chunked":
            out = b""
            while size := int(self.rfile.readline(), 16):
                out += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return out
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def reply(self, status: int, content: Any, **headers: str) -> None:
        raw = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)

    def send_content(self, content: bytes, **headers: str) -> None:
        span = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        status, part = 200, content
        if span:
            start, end = int(span[1]), int(span[2] or len(content) - 1)
            status, part = 206, content[start : end + 1]
        self.send_response(status)
        if span:
            self.send_header("Content-Range", f"bytes {span[1]}-{int(span[1]) + len(part) - 1}/{len(content)}")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(part)


def _blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Api(_Base):
        def handle_one(self) -> None:
            url = urlparse(self.path)
            path = unquote(url.path)
            hub.requests.append((self.command, path))
            sent = self.body()
            fault = hub.fault(self.command, path, len(hub.requests))
            if fault == "drop":
                self.close_connection = True
                self.connection.close()
                return
            if isinstance(fault, int):
                self.reply(fault, {"error": f"fault {fault}"})
                return
            if fault == "lose":
                self.reply = lambda *a, **k: None  # type: ignore[method-assign]
                self.route(path, parse_qs(url.query), sent)
                del self.reply
                self.close_connection = True
                self.connection.close()
                return
            self.route(path, parse_qs(url.query), sent)

        do_GET = do_POST = do_HEAD = do_PUT = do_DELETE = handle_one

        def role(self) -> str | None:
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            return {TOKEN: "write", READ_ONLY: "read"}.get(token)

        def missing(self, code: str, what: str) -> None:
            self.reply(404, {"error": what}, X_Error_Code=code, X_Error_Message=what)

        def route(self, path: str, query: dict[str, list[str]], sent: bytes) -> None:
            given = self.headers.get("Authorization", "")
            if given and self.role() is None:
                self.reply(401, {"error": "Invalid credentials in Authorization header"})
            elif path == "/api/whoami-v2":
                if not given:
                    self.reply(401, {"error": "Invalid username or password."})
                else:
                    self.reply(
                        200,
                        {
                            "name": "me",
                            "type": "user",
                            "orgs": [],
                            "auth": {"accessToken": {"role": self.role(), "displayName": "t"}},
                        },
                    )
            elif self.command == "POST" and self.role() != "write" and "paths-info" not in path:
                self.reply(403 if given else 401, {"error": "You don't have the rights to do this"})
            elif path == "/api/repos/create":
                self.create(json.loads(sent))
            elif path == "/api/validate-yaml":
                self.reply(200, {"errors": [], "warnings": []})
            elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/([a-z-]+)(?:/([^/]+))?(?:/(.*))?)?", path):
                self.model(match[1], match[2], match[3], match[4], query, sent)
            elif match := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
                self.lfs(json.loads(sent))
            elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.*)", path):
                self.resolve(match[1], match[2], match[3])
            else:
                self.missing("EntryNotFound", f"no route {path}")

        def create(self, asked: dict[str, Any]) -> None:
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            if name in hub.repos:
                self.reply(409, {"error": "You already created this model repo", "url": f"{hub.endpoint}/{name}"})
                return
            repo = hub.repos[name] = Repo(private=bool(asked.get("private") or asked.get("visibility") == "private"))
            repo.add("initial commit", {".gitattributes": b"*.safetensors filter=lfs\n"})
            self.reply(200, {"url": f"{hub.endpoint}/{name}", "name": name, "id": name})

        def model(
            self, name: str, verb: str | None, revision: str | None, rest: str | None, query: Any, sent: bytes
        ) -> None:
            repo = hub.repos.get(name)
            if repo is None or (repo.private and self.role() is None):
                self.missing("RepoNotFound", "Repository not found")
                return
            if verb == "branch" and self.command == "POST":
                repo.refs.setdefault(str(revision), repo.refs["main"])
                self.reply(200, {})
                return
            if verb == "tag" and self.command == "POST":
                repo.refs[json.loads(sent)["tag"]] = repo.refs.get(str(revision), str(revision))
                self.reply(200, {})
                return
            found = repo.at(revision or "main")
            if found is None:
                self.missing("RevisionNotFound", "Invalid rev id")
                return
            oid, tree = found
            if verb in (None, "revision"):
                siblings = [{"rfilename": path} for path in tree]
                self.reply(
                    200,
                    {
                        "id": name,
                        "modelId": name,
                        "sha": oid,
                        "private": repo.private,
                        "siblings": siblings,
                        "tags": [],
                    },
                )
            elif verb == "tree":
                self.reply(200, [self.entry(repo, path, content) for path, content in tree.items()])
            elif verb == "paths-info":
                asked = json.loads(sent)["paths"] if sent.startswith(b"{") else parse_qs(sent.decode()).get("paths", [])
                self.reply(200, [self.entry(repo, p, tree[p]) for p in asked if p in tree])
            elif verb == "preupload":
                asked = json.loads(sent)["files"]
                kind = {True: "lfs", False: "regular"}
                files = [
                    {
                        "path": f["path"],
                        "uploadMode": kind[f["path"].endswith((".safetensors", ".png"))],
                        "shouldIgnore": False,
                    }
                    for f in asked
                ]
                self.reply(200, {"files": files})
            elif verb == "commit":
                self.commit(repo, name, str(revision), sent, query)
            else:
                self.missing("EntryNotFound", f"no route {verb}")

        def entry(self, repo: Repo, path: str, content: bytes) -> dict[str, Any]:
            out: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": _blob(content)}
            if path in repo.lfs:
                out["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
            return out

        def commit(self, repo: Repo, name: str, branch: str, sent: bytes, query: Any) -> None:
            lines = [json.loads(line) for line in sent.decode().splitlines() if line.strip()]
            head = next(line["value"] for line in lines if line["key"] == "header")
            if head.get("parentCommit") and head["parentCommit"] != repo.refs[branch]:
                self.reply(412, {"error": "A commit has happened since. Please refresh and try again."})
                return
            tree = dict(repo.at(branch)[1])  # type: ignore[index]
            for line in lines:
                value = line["value"]
                if line["key"] == "file":
                    tree[value["path"]] = base64.b64decode(value["content"])
                    repo.lfs.discard(value["path"])
                elif line["key"] == "lfsFile":
                    if value["oid"] not in hub.blobs:
                        self.reply(400, {"error": "LFS object is not there"})
                        return
                    tree[value["path"]] = hub.blobs[value["oid"]]
                    repo.lfs.add(value["path"])
                elif line["key"] == "deletedFile":
                    tree.pop(value["path"])
            target = "refs/pr/1" if query.get("create_pr") else branch
            oid = repo.add(head["summary"], tree, target)
            answer = {"commitUrl": f"{hub.endpoint}/{name}/commit/{oid}", "commitOid": oid, "success": True}
            if query.get("create_pr"):
                answer["pullRequestUrl"] = f"{hub.endpoint}/{name}/discussions/1"
            self.reply(200, answer)

        def lfs(self, asked: dict[str, Any]) -> None:
            objects = []
            for each in asked["objects"]:
                upload = {"upload": {"href": f"{hub.cdn_url}/{each['oid']}"}}
                objects.append({**each, **({} if each["oid"] in hub.blobs else {"actions": upload})})
            self.reply(200, {"transfer": "basic", "objects": objects})

        def resolve(self, name: str, revision: str, path: str) -> None:
            repo = hub.repos.get(name)
            found = repo.at(revision) if repo else None
            if repo is None or found is None or (repo.private and self.role() is None):
                self.missing("RepoNotFound", "Repository not found")
            elif path not in found[1]:
                self.reply(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound", X_Repo_Commit=found[0])
            elif path in repo.lfs:
                content = found[1][path]
                oid = hashlib.sha256(content).hexdigest()
                hub.blobs[oid] = content
                headers = {"X_Repo_Commit": found[0], "X_Linked_Etag": f'"{oid}"', "X_Linked_Size": str(len(content))}
                self.reply(302, {}, Location=f"{hub.cdn_url}/{oid}", ETag=f'"{oid}"', **headers)
            else:
                content = found[1][path]
                self.send_content(content, X_Repo_Commit=found[0], ETag=f'"{_blob(content)}"')

    return Api
