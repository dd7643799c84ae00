"""Answers: vectors as JSON numbers or base64, and rankings."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from zoo.metrics.encoded_rows import as_float_vectors
from zoo.serve.errors import RequestError
from zoo.serve.model import ServedModel
from zoo.serve.requests import EmbeddingsBody, RerankBody

Rows = Sequence[np.ndarray[Any, Any]]


def encode_json(content: Any) -> bytes:
    """Return compact ASCII JSON."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()


def render_embeddings(model: ServedModel, body: EmbeddingsBody, rows: Rows, tokens: int) -> bytes:
    """Return the answer of /v1/embeddings. A JSON number has all digits, so it reads as exactly the float32 component."""
    vectors = np.stack(rows)
    if body.output_dtype == "decoded" and not model.encodes_to_codes:
        vectors = np.ascontiguousarray(vectors, dtype="<f4")
    elif body.output_dtype != "codes":
        vectors = as_float_vectors(model.encoder, vectors)
    values: list[Any]
    if body.encoding_format == "base64":
        values = [base64.b64encode(row.tobytes()).decode("ascii") for row in vectors]
    else:
        values = vectors.tolist()
    data = [{"object": "embedding", "index": index, "embedding": value} for index, value in enumerate(values)]
    return encode_json({"object": "list", "data": data, "model": model.name, "usage": count_usage(tokens)})


def choose_operation(model: ServedModel, body: EmbeddingsBody) -> str:
    """Return the operation that gives the numbers that are asked for.

    Raise RequestError if codes are asked of a model that gives vectors only.
    """
    if body.output_dtype == "float" or model.encodes_to_codes:
        return "embed"
    if not model.has_code_step:
        raise RequestError(
            400, f"the model {model.name!r} gives vectors, not codes: leave it out", param="output_dtype"
        )
    return body.output_dtype


def render_ranking(model: ServedModel, body: RerankBody, query: Rows, documents: Rows, tokens: int) -> bytes:
    """Return the answer of /v1/rerank: the best document first, equal ones in their order.

    The score is the model's own similarity: a cosine, a dot product, or the negative Hamming distance of codes.
    """
    scores = model.encoder.similarity(np.stack(query), np.stack(documents))[0].numpy()
    order = np.argsort(-scores, kind="stable")[: body.top_n]
    results: list[dict[str, Any]] = [{"index": int(i), "relevance_score": float(scores[i])} for i in order]
    if body.return_documents:
        for result in results:
            document = body.documents[result["index"]]
            result["document"] = {"text": document} if isinstance(document, str) else document
    return encode_json({"object": "list", "model": model.name, "results": results, "usage": count_usage(tokens)})


def render_traversal(model: ServedModel, outputs: np.ndarray[Any, Any], tokens: int) -> bytes:
    """Return the answer of /traverse: images (n, h, w[, 3]) as data URLs of PNG files, or vectors (n, d) as numbers."""
    data = [encode_image(image) for image in outputs] if outputs.dtype == np.uint8 else outputs.tolist()
    return encode_json({"object": "list", "data": data, "model": model.name, "usage": count_usage(tokens)})


def encode_image(pixels: np.ndarray[Any, Any]) -> str:
    """Return an image (h, w) or (h, w, 3) of uint8 as the data URL of a PNG file."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def count_usage(tokens: int) -> dict[str, int]:
    """Return the usage of a request, as OpenAI counts it."""
    return {"prompt_tokens": tokens, "total_tokens": tokens}
