"""The OpenAPI document of the server."""

from __future__ import annotations

from typing import Any

from zoo import __version__
from zoo.serve.requests import (
    AnyBody,
    EmbeddingsBody,
    ExplainBody,
    PredictBody,
    RerankBody,
    SearchBody,
    TraverseBody,
)

BODIES: dict[str, tuple[str, type[AnyBody]]] = {
    "/v1/embeddings": ("Turn texts or images into vectors or codes.", EmbeddingsBody),
    "/v1/rerank": ("Order documents by their similarity to a query.", RerankBody),
    "/explain": ("Say which concepts make the score of two texts.", ExplainBody),
    "/predict": ("Predict the class or topic of each input.", PredictBody),
    "/traverse": ("Decode an input with one latent at each of its values.", TraverseBody),
    "/search": ("Find the rows of an index that are nearest to each query.", SearchBody),
}
PAGES = {
    "/v1/models": "List the models.",
    "/about": "Say all that the models can do, and the limits of requests.",
    "/about/card": "The card of a model as HTML; the parameter `model` names it.",
    "/about/concepts": "The concepts of a model by component; the parameter `model` names it.",
    "/health": "Say that the process runs.",
    "/ready": "Say that the models are open.",
    "/metrics": "Measurements in the text format of Prometheus.",
    "/openapi.json": "This document.",
}
ERRORS = {
    "400": "The request is wrong.",
    "401": "The API key is wrong.",
    "404": "There is no such model or index.",
    "408": "The body came too slowly.",
    "413": "The request is too large.",
    "429": "The server has too much to do. The header Retry-After says when to try again.",
    "503": "The server stops, or the answer took too long.",
}


def describe() -> dict[str, Any]:
    """Return the document."""
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    errors = {status: {"description": text, "content": error} for status, text in ERRORS.items()}
    paths: dict[str, Any] = {}
    for path, (text, body_class) in BODIES.items():
        content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{body_class.__name__}"}}}
        body = {"required": True, "content": content}
        paths[path] = {
            "post": {
                "summary": text,
                "requestBody": body,
                "responses": {"200": {"description": "The answer."}, **errors},
            }
        }
    for path, text in PAGES.items():
        paths[path] = {"get": {"summary": text, "responses": {"200": {"description": "The answer."}}}}
    schemas = {body_class.__name__: body_class.model_json_schema() for _, body_class in BODIES.values()}
    fields = {name: {"type": ["string", "null"]} for name in ("message", "type", "param", "code")}
    schemas["Error"] = {
        "type": "object",
        "properties": {"error": {"type": "object", "properties": fields, "required": ["message", "type"]}},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "zoo serve", "version": __version__},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    }
