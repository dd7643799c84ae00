"""The settings of a server: what it serves, where it listens, and its limits. They travel to every worker process."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Limits:
    """How much one request may ask for, and how much may wait.

    Attributes:
        requests: requests that are answered at once.
        body_bytes: the size of a request's body.
        body_bytes_in_memory: the size of all bodies that are read at once.
        items: the inputs of one request.
        request_tokens: the tokens of one request, after long texts were cut.
        image_bytes: the size of one image's file.
        image_pixels: the pixels of one image.
        queue_tokens: the tokens that may wait for one model. A request that finds the queue empty is always taken.
        body_seconds: how long a client may take to send its body.
        answer_seconds: how long a request may wait for its answer after its body was read.
        drain_seconds: how long requests may take to finish after SIGTERM.
        views: different views of one model that are kept ready.
    """

    requests: int = 1024
    body_bytes: int = 8 << 20
    body_bytes_in_memory: int = 256 << 20
    items: int = 2048
    request_tokens: int = 300_000
    image_bytes: int = 4 << 20
    image_pixels: int = 1 << 24
    queue_tokens: int = 262_144
    body_seconds: float = 20.0
    answer_seconds: float = 60.0
    drain_seconds: float = 60.0
    views: int = 4


@dataclass(frozen=True)
class Settings:
    """The settings of a server.

    Attributes:
        models: model folders, Hub ids or `package:NAME`.
        host, port: the address. Port 0 lets the system choose.
        device: where the models encode; None leaves them where they open.
        precision: the precision of the arithmetic, as `Encoder.encode` has it; None for that of the model.
        engine, max_loss: the engine that encodes, as `zoo.from_pretrained` has them.
        max_tokens: the tokens that are encoded together. A batch of a long request ends there too. None depends on the device.
        workers: the number of processes. Each opens the models.
        indexes: folders of indexes that the models built.
        page: whether `/` is a page to explore the models.
        api_key_variable: the environment variable that holds the API key; None for no key.
        limits: the limits of requests.
    """

    models: tuple[str, ...]
    host: str = "127.0.0.1"
    port: int = 8000
    device: str | None = None
    precision: str | None = None
    engine: str = "torch"
    max_loss: float = 0.001
    max_tokens: int | None = None
    workers: int = 1
    indexes: tuple[str, ...] = ()
    api_key_variable: str | None = None
    page: bool = True
    limits: Limits = field(default_factory=Limits)
