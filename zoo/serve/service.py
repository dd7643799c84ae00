"""`Service`: the endpoints. Each reads a body, lets the model's batcher run it, and writes the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from zoo.core.errors import ZooError
from zoo.core.suggest import suggest
from zoo.serve import abilities, card_html, responses
from zoo.serve import body as bodies
from zoo.serve.batching import Batcher, BatchRecord, Outcome
from zoo.serve.errors import RequestError
from zoo.serve.gate import NOTES
from zoo.serve.inputs import IMAGE_PREFIX, read_input, read_inputs
from zoo.serve.metrics import CONTENT_TYPE, Metrics
from zoo.serve.model import Operation, ServedModel
from zoo.serve.requests import (
    Body,
    EmbeddingsBody,
    ExplainBody,
    PredictBody,
    RerankBody,
    SearchBody,
    TraverseBody,
    read_body,
)
from zoo.serve.settings import Settings

Work = tuple[Operation, Sequence[Any]]
NamedBody = TypeVar("NamedBody", bound=Body)
Result = TypeVar("Result")
JSON = "application/json"
FEW_TEXTS = 16
FEW_NUMBERS = 4096
"""Up to so many texts are read, and up to so many numbers, documents and hits written, in the thread of the server."""


class Service:
    """The endpoints of some models.

    Args:
        models: the models; their names differ.
        settings: the limits.
        metrics: counts batches and dropped requests.
    """

    def __init__(self, models: Sequence[ServedModel], settings: Settings, metrics: Metrics) -> None:
        self.limits, self.metrics = settings.limits, metrics
        self.models = {model.name: model for model in models}
        self._memory = bodies.MemoryBudget(settings.limits.body_bytes_in_memory)
        self._batchers = {model.name: self._make_batcher(model) for model in models}

    def _make_batcher(self, model: ServedModel) -> Batcher:
        def observe(record: BatchRecord) -> None:
            self.metrics.record_batch(model.name, record)

        return Batcher(model, self.limits.queue_tokens, self.limits.request_tokens, observe)

    async def close(self) -> None:
        """Answer what waits, and end the threads."""
        await asyncio.gather(*(asyncio.to_thread(batcher.close) for batcher in self._batchers.values()))

    # -- endpoints -----------------------------------------------------------------------------------------------------

    async def embed(self, request: Request, content: Any) -> bytes:
        """Answer /v1/embeddings."""
        body, model = self._read(request, EmbeddingsBody, content)
        name = responses.choose_operation(model, body)
        view = model.check_view(body.layers, body.dimensions)
        inputs = await self._read_inputs(body.input, model)
        options = (("precision", model.check_precision(body.precision)),)
        work = (Operation(name, view, body.input_type, options=options), inputs)
        (outcome,) = await self._run(request, model, [work])
        # A row of packed bits is written as so many numbers as the encoder has components.
        numbers = len(outcome.results) * max(outcome.results[0].size, model.encoder.dim)
        answer = (model, body, outcome.results, outcome.tokens)
        return await call(responses.render_embeddings, *answer, is_short=numbers <= FEW_NUMBERS)

    async def rerank(self, request: Request, content: Any) -> bytes:
        """Answer /v1/rerank."""
        body, model = self._read(request, RerankBody, content)
        view = model.check_view(body.layers, body.dimensions)
        query = await self._read_input(body.query, model, "query")
        documents = await self._read_inputs(body.documents, model, "documents")
        sides: list[Work] = [
            (Operation("embed", view, "query"), [query]),
            (Operation("embed", view, "document"), documents),
        ]
        left, right = await self._run(request, model, sides)
        answer = (model, body, left.results, right.results, left.tokens + right.tokens)
        return await call(responses.render_ranking, *answer, is_short=len(documents) <= FEW_TEXTS)

    async def explain(self, request: Request, content: Any) -> bytes:
        """Answer /explain."""
        body, model = self._read(request, ExplainBody, content)
        if not model.can_explain:
            raise RequestError(400, f"the model {model.name!r} cannot explain a score", param="model")
        if not (body.query and body.document):
            raise RequestError(400, "query and document: must not be empty", param="query")
        (outcome,) = await self._run(
            request, model, [(Operation("explain", options=(("top", body.top),)), [(body.query, body.document)])]
        )
        return responses.encode_json(
            {
                "object": "explanation",
                "model": model.name,
                **outcome.results[0],
                "usage": responses.count_usage(outcome.tokens),
            }
        )

    async def predict(self, request: Request, content: Any) -> bytes:
        """Answer /predict."""
        body, model = self._read(request, PredictBody, content)
        if not model.can_predict:
            raise RequestError(400, f"the model {model.name!r} has no classes", param="model")
        inputs = await self._read_inputs(body.input, model)
        (outcome,) = await self._run(request, model, [(Operation("predict", options=(("top", body.top),)), inputs)])
        data = [{"index": index, **prediction} for index, prediction in enumerate(outcome.results)]
        usage = responses.count_usage(outcome.tokens)
        return responses.encode_json({"object": "list", "data": data, "model": model.name, "usage": usage})

    async def traverse(self, request: Request, content: Any) -> bytes:
        """Answer /traverse."""
        body, model = self._read(request, TraverseBody, content)
        if not model.can_traverse:
            raise RequestError(400, f"the model {model.name!r} has no latents", param="model")
        item = await self._read_input(body.input, model, "input")
        work = (Operation("traverse", options=(("latent", body.latent),)), [item])
        (outcome,) = await self._run(request, model, [work])
        return await asyncio.to_thread(responses.render_traversal, model, outcome.results[0], outcome.tokens)

    async def search(self, request: Request, content: Any) -> bytes:
        """Answer /search."""
        body = read_body(SearchBody, content)
        name, model = self._find_index(body.index)
        request.scope[NOTES]["model"] = model.name
        queries = await self._read_inputs(body.query, model, "query")
        options = tuple(sorted(body.model_dump(include={"top", "where", "hybrid", "relevant"}).items()))
        work = (Operation("search", index=name, options=options), queries)
        (outcome,) = await self._run(request, model, [work])
        data = [
            {"index": number, "hits": [hit.describe() for hit in hits]} for number, hits in enumerate(outcome.results)
        ]
        usage = responses.count_usage(outcome.tokens)
        answer = {"object": "list", "index": name, "model": model.name, "data": data, "usage": usage}
        is_short = sum(len(hits) for hits in outcome.results) <= FEW_TEXTS
        return await call(responses.encode_json, answer, is_short=is_short)

    async def list_models(self, request: Request) -> Response:
        """Answer /v1/models."""
        data = [model.describe() for model in self.models.values()]
        return Response(responses.encode_json({"object": "list", "data": data}), media_type=JSON)

    async def show_model(self, request: Request) -> Response:
        """Answer /v1/models/NAME."""
        model = self._find_model(request.path_params["name"])
        return Response(responses.encode_json(model.describe()), media_type=JSON)

    async def show_abilities(self, request: Request) -> Response:
        """Answer /about."""
        content = abilities.describe(list(self.models.values()), self.limits)
        return Response(responses.encode_json(content), media_type=JSON)

    async def show_card(self, request: Request) -> Response:
        """Answer /about/card."""
        model = self._find_asked_model(request)
        try:
            html = await asyncio.to_thread(card_html.render_card, model.folder)
        except ZooError as error:
            raise RequestError(404, str(error), param="model") from None
        return Response(responses.encode_json({"model": model.name, "html": html}), media_type=JSON)

    async def show_concepts(self, request: Request) -> Response:
        """Answer /about/concepts."""
        model = self._find_asked_model(request)
        content = {"model": model.name, "concepts": abilities.list_concepts(model)}
        return Response(responses.encode_json(content), media_type=JSON)

    async def show_metrics(self, request: Request) -> Response:
        """Answer /metrics."""
        return Response(self.metrics.render(), headers={"content-type": CONTENT_TYPE})

    async def answer(self, request: Request, endpoint: Callable[[Request, Any], Any]) -> Response:
        """Read the body, and let an endpoint answer it. Raise RequestError."""
        with self._memory.hold() as share:
            content = await bodies.read_json(request, self.limits, share)
            return Response(await endpoint(request, content), media_type=JSON)

    # -- parts ---------------------------------------------------------------------------------------------------------

    async def _read_inputs(self, value: Any, model: ServedModel, param: str = "input") -> list[Any]:
        """Return the inputs of a request. Few texts are read at once, because they need no thread of their own."""
        return await call(read_inputs, value, model.encoder, self.limits, param, is_short=are_few_texts(value))

    async def _read_input(self, value: Any, model: ServedModel, place: str) -> Any:
        """Return one input of a request."""
        return await call(read_input, value, model.encoder, self.limits, place, is_short=are_few_texts(value))

    def _read(self, request: Request, body_class: type[NamedBody], content: Any) -> tuple[NamedBody, ServedModel]:
        body = read_body(body_class, content)
        model = self._find_model(body.model)
        request.scope[NOTES]["model"] = model.name
        return body, model

    def _find_index(self, name: str | None) -> tuple[str, ServedModel]:
        """Return the name of an index, and the model that searches it."""
        by_name = {index: model for model in self.models.values() for index in model.indexes}
        if name is None and len(by_name) == 1:
            name = next(iter(by_name))
        if name is None or name not in by_name:
            problem = "name one of the indexes" if name is None else f"there is no index {name[:100]!r}"
            hint = suggest((name or "")[:100], by_name, listing="the indexes are") if by_name else "; none is served"
            raise RequestError(404, f"{problem}{hint}", param="index", code="index_not_found")
        return name, by_name[name]

    def _find_asked_model(self, request: Request) -> ServedModel:
        """Return the model that the address names; the only one needs no name. Raise RequestError."""
        name = request.query_params.get("model")
        if name is None and len(self.models) == 1:
            name = next(iter(self.models))
        if name is None:
            raise RequestError(400, "name a model: add ?model=… to the address", param="model")
        return self._find_model(name)

    def _find_model(self, name: str) -> ServedModel:
        if name not in self.models:
            message = f"there is no model {name[:100]!r}{suggest(name[:100], self.models, listing='the models are')}"
            raise RequestError(404, message, param="model", code="model_not_found")
        return self.models[name]

    async def _run(self, request: Request, model: ServedModel, works: Sequence[Work]) -> list[Outcome]:
        """Let the model's batcher run some work, and return the outcomes.

        The work is dropped if the client goes, or if the answer takes too long. Raise RequestError or ClientDisconnect.
        """
        batcher = self._batchers[model.name]
        futures: list[asyncio.Future[Outcome]] = []
        gone = asyncio.ensure_future(_wait_for_disconnect(request))
        answers: asyncio.Future[list[Outcome]] | None = None
        try:
            for operation, items in works:
                futures.append(asyncio.wrap_future(batcher.submit(operation, items)))
            self.metrics.waiting_tokens.labels(model.name).set(batcher.waiting_tokens)
            answers = asyncio.gather(*futures)
            # A dropped request ends with an error that nobody waits for; asyncio would log it.
            answers.add_done_callback(lambda done: done.cancelled() or done.exception())
            both: set[asyncio.Future[Any]] = {answers, gone}
            await asyncio.wait(both, timeout=self.limits.answer_seconds, return_when=asyncio.FIRST_COMPLETED)
            if answers.done():
                outcomes = answers.result()
                notes = {"inputs": sum(len(items) for _, items in works), "tokens": sum(o.tokens for o in outcomes)}
                request.scope[NOTES].update(notes)
                return outcomes
            self.metrics.dropped.labels(model.name).inc()
            if gone.done():
                raise ClientDisconnect
            message = (
                f"no answer within {self.limits.answer_seconds:g} seconds, because the server is busy: try again later"
            )
            raise RequestError(503, message, code="answer_timeout", retry_after=self.limits.answer_seconds / 2)
        finally:
            gone.cancel()
            for future in futures:
                future.cancel()
            if answers is not None and not answers.done():
                answers.cancel()
            self.metrics.waiting_tokens.labels(model.name).set(batcher.waiting_tokens)


async def call(function: Callable[..., Result], *arguments: Any, is_short: bool) -> Result:
    """Call a function that blocks. A long one runs in a thread of its own, so that other requests go on.

    For a short one, a change of threads would take longer than its work, because it waits for the thread that encodes.
    """
    return function(*arguments) if is_short else await asyncio.to_thread(function, *arguments)


def are_few_texts(value: Any) -> bool:
    """Return whether an input is a text or a short list of texts. An image, which is a data URL, is none."""
    texts = [value] if isinstance(value, str) else value
    is_list = isinstance(texts, list) and len(texts) <= FEW_TEXTS
    return is_list and all(isinstance(text, str) and not text.startswith(IMAGE_PREFIX) for text in texts)


async def _wait_for_disconnect(request: Request) -> None:
    """Return when the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
