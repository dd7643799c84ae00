"""A small Hub on loopback for the unmodified huggingface_hub client: repos, LFS, commits, storage on another origin, faults."""

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


@dataclass
class Repo:
    private: bool = False
    gated: bool = False
    commits: list[tuple[str, str, dict[str, bytes]]] = field(default_factory=list)  # (id, message, tree), oldest first
    refs: dict[str, str] = field(default_factory=dict)

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        commit = self.refs.get(revision, revision)
        return next(((oid, tree) for oid, _, tree in self.commits if oid == commit), None)

    def add(self, message: str, tree: dict[str, bytes], branch: str = "main") -> str:
        oid = hashlib.sha1(f"{len(self.commits)}{message}{sorted(tree)}".encode()).hexdigest()
        self.commits.append((oid, message, tree))
        self.refs[branch] = oid
        return oid


@dataclass
class Fault:
    """Requests whose path holds `path`, from the `at`-th on and `times` times (None: for good), meet `what`."""

    what: int | str | Callable[[], Any]
    path: str
    at: int
    times: int | None
    headers: dict[str, str]
    seen: int = 0

    def strikes(self, path: str) -> bool:
        if self.path not in path:
            return False
        self.seen += 1
        return self.seen >= self.at and (self.times is None or self.seen < self.at + self.times)


class Hub:
    """The state of the server. The storage ("cdn") listens on another port and another host name than the API."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.clear()
        self.api, self.cdn = (
            ThreadingHTTPServer(("127.0.0.1", 0), type("", (kind,), {"hub": self})) for kind in (Api, Cdn)
        )
        for server in (self.api, self.cdn):
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def clear(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []  # of both servers, in the order of arrival
        self.cdn_tokens: list[str] = []
        self.faults: list[Fault] = []
        self.orgs: dict[str, str] = {}  # organisation → the user's role there
        self.tokens: dict[str, dict[str, Any]] = {TOKEN: {"role": "write"}, READ_ONLY: {"role": "read"}}
        self.xet: dict[str, str] | None = None  # where the store is, for clients that ask for it
        self.damage = 0  # so many of the first downloads of each file have one byte changed
        self.served: Counter[str] = Counter()

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

    def fail(
        self,
        what: int | str | Callable[[], Any],
        *,
        path: str = "",
        at: int = 1,
        times: int | None = 1,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Let requests fail, counted from now on: with a status, "drop" (no answer, nothing done), "lose" (done, but the
        answer is lost), "cut" (done, and half of the answer comes) or "html" (a gateway's page); a callable is run before
        the request is served as usual."""
        self.faults.append(Fault(what, path, at, times, headers or {}))

    def heal(self) -> None:
        self.faults.clear()

    def strike(self, method: str, path: str) -> Fault | None:
        with self.lock:
            self.requests.append((method, path))
            struck = [fault for fault in self.faults if fault.strikes(path)]
            return struck[0] if struck else None

    def content(self, key: str, content: bytes) -> bytes:
        with self.lock:
            self.served[key] += 1
            return bytes([content[0] ^ 1]) + content[1:] if content and self.served[key] <= self.damage else content

    def card(self, readme: bytes) -> dict[str, Any]:
        """What this Hub makes of a card."""
        found = re.match(r"---\n(.*?)\n---", readme.decode(), re.DOTALL)
        return (yaml.safe_load(found[1]) if found else None) or {}

    def close(self) -> None:
        for server in (self.api, self.cdn):
            server.shutdown()
            server.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer in one packet: two would wait 40 ms for each other (Nagle's algorithm)
    disable_nagle_algorithm = True
    hub: Hub

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def handle_any(self) -> None:
        url = urlparse(self.path)
        path = unquote(url.path)
        sent = self.body()
        fault = self.hub.strike(self.command, path)
        if fault is None or callable(fault.what):
            if fault:
                fault.what()  # type: ignore[operator]
            self.route(path, parse_qs(url.query), sent)
        elif isinstance(fault.what, int):
            self.reply(fault.what, {"error": f"fault {fault.what}"}, **fault.headers)
        elif fault.what == "html":
            self.reply(502, "<html>Bad Gateway</html>", raw=True)
        else:
            if fault.what in ("lose", "cut"):
                wire, self.wfile = self.wfile, io.BytesIO()
                self.route(path, parse_qs(url.query), sent)
                answer = self.wfile.getvalue()
                wire.write(answer[: len(answer) // 2 if fault.what == "cut" else 0])
                wire.flush()
            self.close_connection = True
            self.connection.close()

    do_GET = do_POST = do_HEAD = do_PUT = do_DELETE = handle_any

    def route(self, path: str, query: dict[str, list[str]], sent: bytes) -> None:
        raise NotImplementedError

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") == "chunked":
            out = b""
            while size := int(self.rfile.readline(), 16):
                out += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return out
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def reply(self, status: int, content: Any, raw: bool = False, **headers: str) -> None:
        self.answer(status, content.encode() if raw else json.dumps(content).encode(), **headers)

    def answer(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def send_content(self, key: str, content: bytes, **headers: str) -> None:
        if self.command == "GET":
            content = self.hub.content(key, content)
        span = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if span:
            start, end = int(span[1]), min(int(span[2] or len(content) - 1), len(content) - 1)
            headers["Content_Range"] = f"bytes {start}-{end}/{len(content)}"
            content = content[start : end + 1]
        self.answer(206 if span else 200, content, Accept_Ranges="bytes", **headers)


class Cdn(Handler):
    """Storage of large files, addressed by sha256. It must never be shown the Hub's token."""

    def route(self, path: str, query: dict[str, list[str]], sent: bytes) -> None:
        self.hub.cdn_tokens.append(self.headers.get("Authorization", ""))
        oid = path.removeprefix("/cdn/")
        if self.command != "PUT":
            self.send_content(oid, self.hub.blobs[oid])
        elif hashlib.sha256(sent).hexdigest() == oid:
            self.hub.blobs[oid] = sent
            self.reply(200, {})
        else:
            self.reply(400, {"error": "the content is not that of the address"})


def blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def file_info(path: str, content: bytes) -> dict[str, Any]:
    out: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": blob_id(content)}
    if path.endswith(LFS):
        sha256 = hashlib.sha256(content).hexdigest()
        out["lfs"] = {"oid": sha256, "sha256": sha256, "size": len(content), "pointerSize": 130}
    return out


class Api(Handler):
    @property
    def token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def role(self, name: str) -> str | None:
        """What the caller may do in repo `name`: write, read (if he may see it at all), or None."""
        owner = name.split("/")[0]
        known = self.hub.tokens.get(self.token)
        if known is None:
            return None
        scopes = known.get("fineGrained", {}).get("scoped", [])
        scoped = any("repo.write" in s["permissions"] for s in scopes if s["entity"]["name"] in (owner, name))
        ours = owner == "me" or self.hub.orgs.get(owner, "read") != "read"
        return "write" if ours and (known["role"] == "write" or scoped) else "read"

    def missing(self, code: str, what: str) -> None:
        self.reply(404, {"error": what}, X_Error_Code=code, X_Error_Message=what)

    def refused(self) -> None:
        self.reply(403 if self.token else 401, {"error": "You don't have the rights to do this"})

    def repo(self, name: str) -> Repo | None:
        """The repo if the caller may see it; else answers as the Hub does: whoever is not logged in learns nothing."""
        found = self.hub.repos.get(name)
        if found and (self.token or not found.private):
            return found
        if self.token:
            self.missing("RepoNotFound", "Repository not found")
        else:
            self.reply(401, {"error": "Invalid username or password."}, X_Error_Code="RepoNotFound")
        return None

    def route(self, path: str, query: dict[str, list[str]], sent: bytes) -> None:
        with self.hub.lock:
            if self.token and self.token not in self.hub.tokens:
                what = "Invalid credentials in Authorization header"
                self.reply(401, {"error": what}, X_Error_Message=what)
            elif path == "/api/whoami-v2":
                self.whoami()
            elif path == "/api/repos/create":
                self.create(json.loads(sent))
            elif path == "/api/validate-yaml":
                bad = "\nlicense: [" in json.loads(sent)["content"]
                errors = [{"message": '"license" must be a string'}] if bad else []
                self.reply(400 if bad else 200, {"errors": errors, "warnings": []})
            elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/([a-z-]+)(?:/(.+))?)?", path):
                revision, below = re.fullmatch(r"(refs/pr/\d+|[^/]*)/?(.*)", match[3] or "main").groups()  # type: ignore[union-attr]
                self.model(match[1], match[2], revision, below, query, sent)
            elif match := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
                self.lfs(match[1], json.loads(sent))
            elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/(refs/pr/\d+|[^/]+)/(.*)", path):
                self.resolve(match[1], match[2], match[3])
            else:
                self.missing("EntryNotFound", f"no route {path}")

    def whoami(self) -> None:
        if not self.token:
            self.reply(401, {"error": "Invalid username or password."})
            return
        orgs = [{"type": "org", "name": name, "roleInOrg": role} for name, role in self.hub.orgs.items()]
        access = {"displayName": "t", **self.hub.tokens[self.token]}
        self.reply(200, {"name": "me", "type": "user", "orgs": orgs, "auth": {"accessToken": access}})

    def create(self, asked: dict[str, Any]) -> None:
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        if self.role(name) != "write":
            self.refused()
        elif name in self.hub.repos:
            self.reply(409, {"error": "You already created this model repo", "url": f"{self.hub.endpoint}/{name}"})
        else:
            repo = self.hub.repos[name] = Repo(
                private=bool(asked.get("private") or asked.get("visibility") == "private")
            )
            repo.add("initial commit", {".gitattributes": b"*.safetensors filter=lfs\n"})
            self.reply(200, {"url": f"{self.hub.endpoint}/{name}", "name": name, "id": name})

    def model(
        self, name: str, verb: str | None, revision: str, below: str, query: dict[str, list[str]], sent: bytes
    ) -> None:
        repo = self.repo(name)
        if repo is None:
            return
        asks = verb in ("preupload", "commit") and "create_pr" in query
        if (
            verb in ("preupload", "commit", "branch", "tag", "xet-write-token")
            and not asks
            and self.role(name) != "write"
        ):
            self.refused()
        elif verb == "xet-write-token":
            told = {**(self.hub.xet or {}), "X-Xet-Token-Expiration": str(int(time.time()) + 3600)}
            names = {"casUrl": told["X-Xet-Cas-Url"], "accessToken": told["X-Xet-Access-Token"]}
            self.reply(200, {**names, "exp": int(told["X-Xet-Token-Expiration"])}, **told)
        elif verb == "branch":
            self.point(repo, revision, repo.refs["main"])
        elif verb == "discussions":
            self.discussions(repo, name)
        elif (found := repo.at(revision)) is None:
            self.missing("RevisionNotFound", "Invalid rev id")
        elif verb == "tag":
            self.point(repo, json.loads(sent)["tag"], found[0])
        elif verb in (None, "revision"):
            siblings = [self.sibling(path, content, "blobs" in query) for path, content in found[1].items()]
            known = {"id": name, "modelId": name, "private": repo.private, "gated": repo.gated and "manual", "tags": []}
            card = {"cardData": self.hub.card(found[1].get("README.md", b""))}
            self.reply(200, {**known, "sha": found[0], "siblings": siblings, **card})
        elif verb == "tree":
            inside = [file_info(p, content) for p, content in found[1].items() if p.startswith(below)]
            self.reply(200, inside) if inside else self.missing("EntryNotFound", f"{below} does not exist")
        elif verb == "paths-info":
            asked = json.loads(sent)["paths"] if sent.startswith(b"{") else parse_qs(sent.decode()).get("paths", [])
            self.reply(200, [file_info(path, found[1][path]) for path in asked if path in found[1]])
        elif verb == "preupload":
            asked = [each["path"] for each in json.loads(sent)["files"]]
            mode = {True: "lfs", False: "regular"}
            modes = [{"path": p, "uploadMode": mode[p.endswith(LFS)], "shouldIgnore": False} for p in asked]
            self.reply(200, {"files": modes})
        elif verb == "commit":
            self.commit(repo, name, revision, found, sent, "create_pr" in query)
        else:
            self.missing("EntryNotFound", f"no route {verb}")

    def point(self, repo: Repo, reference: str, commit: str) -> None:
        if reference in repo.refs:
            self.reply(409, {"error": f"Reference already exists: {reference}"})
        else:
            repo.refs[reference] = commit
            self.reply(200, {})

    def sibling(self, path: str, content: bytes, blobs: bool) -> dict[str, Any]:
        info = file_info(path, content)
        more = {"size": info["size"], "blobId": info["oid"], **({"lfs": info["lfs"]} if "lfs" in info else {})}
        return {"rfilename": path, **(more if blobs else {})}

    def discussions(self, repo: Repo, name: str) -> None:
        numbers = [int(ref.rsplit("/")[-1]) for ref in repo.refs if ref.startswith("refs/pr/")]
        known = {"status": "open", "isPullRequest": True, "repo": {"name": name, "type": "model"}}
        known |= {"title": "t", "author": {"name": "me"}, "createdAt": "2026-01-01T00:00:00.000Z"}
        found = [{"num": number, **known} for number in sorted(numbers, reverse=True)]
        self.reply(200, {"discussions": found, "count": len(found), "start": 0})

    def commit(
        self, repo: Repo, name: str, branch: str, base: tuple[str, dict[str, bytes]], sent: bytes, asks: bool
    ) -> None:
        lines = [json.loads(line) for line in sent.decode().splitlines() if line.strip()]
        head = next(line["value"] for line in lines if line["key"] == "header")
        if head.get("parentCommit", base[0]) != base[0]:
            self.reply(412, {"error": "A commit has happened since. Please refresh and try again."})
            return
        tree = dict(base[1])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                tree[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile" and value["oid"] not in self.hub.blobs:
                self.reply(400, {"error": "LFS object is not there"})
                return
            elif line["key"] == "lfsFile":
                tree[value["path"]] = self.hub.blobs[value["oid"]]
            elif line["key"] == "deletedFile" and tree.pop(value["path"], None) is None:
                self.missing("EntryNotFound", "A file with this name doesn't exist")
                return
        number = 1 + sum(ref.startswith("refs/pr/") for ref in repo.refs)
        oid = repo.add(head["summary"], tree, f"refs/pr/{number}" if asks else branch)
        answer = {"commitUrl": f"{self.hub.endpoint}/{name}/commit/{oid}", "commitOid": oid, "success": True}
        if asks:
            answer["pullRequestUrl"] = f"{self.hub.endpoint}/{name}/discussions/{number}"
        self.reply(200, answer)

    def lfs(self, name: str, asked: dict[str, Any]) -> None:
        if self.role(name) is None:
            self.refused()
            return
        objects = []
        for each in asked["objects"]:
            upload = {"upload": {"href": f"{self.hub.cdn_url}/cdn/{each['oid']}?X-Amz-Signature=secret"}}
            objects.append({**each, **({} if each["oid"] in self.hub.blobs else {"actions": upload})})
        self.reply(200, {"transfer": "basic", "objects": objects})

    def resolve(self, name: str, revision: str, path: str) -> None:
        repo = self.repo(name)
        if repo is None:
            return
        found = repo.at(revision)
        if repo.gated:
            what = f"Access to model {name} is restricted and you are not in the authorized list."
            self.reply(403, {"error": what}, X_Error_Code="GatedRepo", X_Error_Message=what)
        elif found is None:
            self.missing("RevisionNotFound", "Invalid rev id")
        elif path not in found[1]:
            self.reply(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound", X_Repo_Commit=found[0])
        elif path.endswith(LFS):
            content = found[1][path]
            oid = hashlib.sha256(content).hexdigest()
            self.hub.blobs[oid] = content
            linked = {"X_Linked_Etag": f'"{oid}"', "X_Linked_Size": str(len(content)), "ETag": f'"{oid}"'}
            where = f"{self.hub.cdn_url}/cdn/{oid}?X-Amz-Signature=secret"
            self.reply(302, {}, Location=where, X_Repo_Commit=found[0], **linked)
        else:
            content = found[1][path]
            self.send_content(f"{name}/{path}", content, X_Repo_Commit=found[0], ETag=f'"{blob_id(content)}"')
