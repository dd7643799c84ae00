"""The storage behind xet as far as an upload goes, for the unmodified hf_xet client: chunks arrive in "xorbs", and a "shard"
says which files they make. Files that are in one xorb are found by their sha256, as the Hub does it from the shard."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer

import hub_server

TOKEN = "short-lived-token-of-the-store"


class Store(hub_server.Handler):
    def route(self, path: str, query: dict[str, list[str]], sent: bytes) -> None:
        self.hub.cdn_tokens.append(self.headers.get("Authorization", ""))
        if path.startswith("/v1/xorbs/"):
            parts = list(chunks(sent))
            for begin in range(len(parts)):
                for end in range(begin + 1, len(parts) + 1):
                    content = b"".join(parts[begin:end])
                    self.hub.blobs[hashlib.sha256(content).hexdigest()] = content
            self.reply(200, {"was_inserted": True})
        elif path == "/v1/shards":
            self.reply(200, {"result": 1})
        else:
            self.reply(404, {"error": "not found"})


def chunks(xorb: bytes) -> Iterator[bytes]:
    """The chunks of a xorb that was not compressed: each after a header of version, stored size, scheme and size."""
    at = 0
    while at < len(xorb) and xorb[at] == 0:
        size = int.from_bytes(xorb[at + 1 : at + 4], "little")
        assert xorb[at + 4] == 0, "HF_XET_XORB_COMPRESSION_POLICY is not `none`"
        yield xorb[at + 8 : at + 8 + size]
        at += 8 + size


@contextmanager
def beside(hub: hub_server.Hub) -> Iterator[None]:
    """A Hub that hands out places in this store, as long as the block runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("", (Store,), {"hub": hub}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    hub.xet = {"X-Xet-Cas-Url": f"http://localhost:{server.server_port}", "X-Xet-Access-Token": TOKEN}
    try:
        yield
    finally:
        hub.xet = None
        server.shutdown()
        server.server_close()
