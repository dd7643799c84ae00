"""The upload half of a xet store, for the unmodified hf_xet client.

Chunks of files arrive in "xorbs", and a "shard" then says which chunks make up a file. This store does not read shards: it
indexes every sequence of chunks of a xorb by its sha256, so that the test Hub finds the files of a commit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import hub_server

TOKEN = "short-lived-token-of-the-store"


class Store(hub_server.Handler):
    def route(self, path: str, query: hub_server.Query, body: bytes) -> None:
        self.hub.cdn_tokens.append(self.headers.get("Authorization", ""))
        if path.startswith("/v1/xorbs/"):
            chunks = list(split_xorb(body))
            for start in range(len(chunks)):
                for stop in range(start + 1, len(chunks) + 1):
                    content = b"".join(chunks[start:stop])
                    self.hub.blobs[hashlib.sha256(content).hexdigest()] = content
            self.send_json(200, {"was_inserted": True})
        elif path == "/v1/shards":
            self.send_json(200, {"result": 1})
        else:
            self.send_json(404, {"error": "not found"})


def split_xorb(xorb: bytes) -> Iterator[bytes]:
    """Yield the chunks of an uncompressed xorb. A header of 8 bytes precedes each: version, stored size, scheme and size."""
    offset = 0
    while offset < len(xorb) and xorb[offset] == 0:
        size = int.from_bytes(xorb[offset + 1 : offset + 4], "little")
        assert xorb[offset + 4] == 0, "set HF_XET_XORB_COMPRESSION_POLICY to `none`"
        yield xorb[offset + 8 : offset + 8 + size]
        offset += 8 + size


@contextmanager
def attach(hub: hub_server.Hub) -> Iterator[None]:
    """Run a store beside `hub`, which sends clients to it inside this context."""
    server = hub_server.start_server(Store, hub)
    hub.xet = {"X-Xet-Cas-Url": f"http://localhost:{server.server_port}", "X-Xet-Access-Token": TOKEN}
    try:
        yield
    finally:
        hub.xet = None
        server.shutdown()
        server.server_close()
