"""The ASGI application: routes, errors, start and end."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from zoo.core.errors import ZooError
from zoo.serve import logs, openapi, page_files
from zoo.serve.errors import RequestError
from zoo.serve.gate import CLIENT_GONE, Gate, make_error_response
from zoo.serve.metrics import Metrics
from zoo.serve.model import ServedModel
from zoo.serve.responses import encode_json
from zoo.serve.searching import attach_indexes
from zoo.serve.service import JSON, Service
from zoo.serve.settings import Settings

Answer = Callable[[Request], Awaitable[Response]]


def create_app(settings: Settings) -> ASGIApp:
    """Open the models and return the application. Raise ZooError for a model that cannot be opened."""
    return build_app(open_models(settings), settings)


def open_models(settings: Settings) -> list[ServedModel]:
    """Open all models, and their indexes. Raise ZooError if two have the same name."""
    models: dict[str, ServedModel] = {}
    for reference in settings.models:
        model = ServedModel.open(reference, settings)
        if model.name in models:
            raise ZooError(f"{reference}: its name, {model.name!r}, is that of another model; serve one of them")
        models[model.name] = model
    attach_indexes(settings.indexes, list(models.values()))
    return list(models.values())


def build_app(models: Sequence[ServedModel], settings: Settings) -> ASGIApp:
    """Return the application of open models. Raise ZooError if the variable of the API key is not set."""
    metrics = Metrics()
    service = Service(models, settings, metrics)

    @asynccontextmanager
    async def run_service(_: Starlette) -> AsyncIterator[None]:
        logs.log("ready", models=sorted(service.models))
        yield
        await service.close()
        logs.log("stopped")

    page_routes = page_files.make_routes() if settings.page else []
    page_paths = [route.path for route in page_routes]
    routes = [*make_routes(service), *page_routes]
    handlers: dict[Any, Any] = {HTTPException: _answer_http_error}
    app = Starlette(routes=routes, lifespan=run_service, exception_handlers=handlers)
    paths = frozenset(route.path for route in routes)
    return Gate(app, metrics, read_api_key(settings), paths, settings.limits.requests, page_paths)


def read_api_key(settings: Settings) -> str | None:
    """Return the API key from its environment variable; None without one. Raise ZooError for an empty key."""
    name = settings.api_key_variable
    if name is None:
        return None
    if not os.environ.get(name, "").strip():
        raise ZooError(f"--api-key-env {name}: this environment variable is not set; set it to the API key")
    return os.environ[name].strip()


def make_routes(service: Service) -> list[Route]:
    """Return the routes of a service."""

    def post(path: str, endpoint: Callable[[Request, Any], Awaitable[bytes]]) -> Route:
        return Route(path, _guard(lambda request: service.answer(request, endpoint)), methods=["POST"])

    def get(path: str, answer: Answer) -> Route:
        return Route(path, _guard(answer), methods=["GET"])

    document = encode_json(openapi.describe())

    async def show_document(_: Request) -> Response:
        return Response(document, media_type=JSON)

    return [
        post("/v1/embeddings", service.embed),
        post("/v1/rerank", service.rerank),
        post("/explain", service.explain),
        post("/predict", service.predict),
        post("/traverse", service.traverse),
        post("/search", service.search),
        get("/v1/models", service.list_models),
        get("/v1/models/{name:path}", service.show_model),
        get("/about", service.show_abilities),
        get("/about/card", service.show_card),
        get("/about/concepts", service.show_concepts),
        get("/health", _answer_ok),
        get("/ready", _answer_ok),
        get("/metrics", service.show_metrics),
        get("/openapi.json", show_document),
    ]


def _guard(answer: Answer) -> Answer:
    """Return the endpoint with errors as answers. The place of an unexpected error is logged, and the client is not told."""

    async def endpoint(request: Request) -> Response:
        try:
            return await answer(request)
        except RequestError as error:
            return make_error_response(error)
        except ClientDisconnect:
            return Response(status_code=CLIENT_GONE)
        except Exception as error:
            logs.log("fault", path=request.url.path, **logs.describe_error(error))
            message = "the server failed to answer; its log has the place"
            return make_error_response(RequestError(500, message, code="internal_error"))

    return endpoint


async def _answer_ok(_: Request) -> Response:
    """Answer /health and /ready. The models are open before the server listens, so both mean the same."""
    return Response(encode_json({"status": "ok"}), media_type=JSON)


async def _answer_http_error(request: Request, error: HTTPException) -> Response:
    message = {404: "there is no such path; /openapi.json lists the paths", 405: "use another method for this path"}
    response = make_error_response(RequestError(error.status_code, message.get(error.status_code, error.detail)))
    response.headers.update(error.headers or {})
    return response
