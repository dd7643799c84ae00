"""Counters and histograms in the text format of Prometheus.

With several worker processes, the values of all are added. They share a folder of memory-mapped files, whose address the first
process writes into the environment before the workers import prometheus_client.
"""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

from zoo.serve.batching import BatchRecord

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
TOKENS = (16, 64, 256, 1024, 4096, 16384, 65536, 262144)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The measurements of a server. Labels hold paths, models and statuses, never texts of a client."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("zoo_requests", "Requests by path and status.", ("path", "status"), registry=registry)
        self.seconds = Histogram(
            "zoo_request_seconds",
            "Seconds from the first byte to the answer.",
            ("path",),
            buckets=SECONDS,
            registry=registry,
        )
        self.inputs = Counter("zoo_inputs", "Inputs that were encoded.", ("model",), registry=registry)
        self.tokens = Counter("zoo_tokens", "Tokens that were encoded.", ("model",), registry=registry)
        self.dropped = Counter(
            "zoo_dropped_requests", "Requests that nobody waited for any more.", ("model",), registry=registry
        )
        self.batch_tokens = Histogram(
            "zoo_batch_tokens", "Tokens of a batch.", ("model",), buckets=TOKENS, registry=registry
        )
        self.batch_seconds = Histogram(
            "zoo_batch_seconds", "Seconds of a batch.", ("model",), buckets=SECONDS, registry=registry
        )
        self.waiting_tokens = Gauge(
            "zoo_waiting_tokens",
            "Estimated tokens that wait for a model.",
            ("model",),
            multiprocess_mode="livesum",
            registry=registry,
        )

    def record_batch(self, model: str, record: BatchRecord) -> None:
        """Count one batch."""
        self.inputs.labels(model).inc(record.inputs)
        self.tokens.labels(model).inc(record.tokens)
        self.batch_tokens.labels(model).observe(record.tokens)
        self.batch_seconds.labels(model).observe(record.seconds)

    def record_request(self, path: str, status: int, seconds: float) -> None:
        """Count one request."""
        self.requests.labels(path, str(status)).inc()
        self.seconds.labels(path).observe(seconds)

    def render(self) -> bytes:
        """Return all values in the text format of Prometheus."""
        if FOLDER_VARIABLE not in os.environ:
            return generate_latest(self.registry)
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
