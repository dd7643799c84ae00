"""The shapes of answers and errors, and vectors that equal those of `encode`."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import after_steps
import golden
import numpy as np
import pytest
import serving
import tiny

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from starlette.testclient import TestClient

import zoo
from zoo.after.material import Material
from zoo.core.errors import ZooError
from zoo.serve import app as apps
from zoo.serve import service
from zoo.serve.metrics import Metrics
from zoo.serve.searching import attach_indexes
from zoo.serve.service import Service
from zoo.serve.settings import Limits, Settings

FAMILIES = ("matryoshka-2d", "static", "dense", "binary-pv", "sesa", "lbl2vec", "equiangular", "vlm2vec")
TEXTS = ["the cat runs", "fever and acute cough", "the dog is not small", "chronic heart failure"]
TOLERANCE = 1e-6
MODEL = "golden-matryoshka-2d"
LIMITS = Limits(
    body_bytes=200_000,
    items=100,
    request_tokens=2100,
    image_bytes=20_000,
    image_pixels=4096,
    answer_seconds=30,
    views=2,
)
SETTINGS = Settings(tuple(map(serving.find_model, FAMILIES)), limits=LIMITS)


@pytest.fixture(scope="module")
def models():
    return apps.open_models(SETTINGS)


@pytest.fixture(scope="module")
def client(models):
    with TestClient(apps.build_app(models, SETTINGS)) as made:
        yield made


@pytest.fixture(scope="module")
def encoder():
    return zoo.from_pretrained(serving.find_model("matryoshka-2d"))


def embed(client, value, model=MODEL, **fields):
    return client.post("/v1/embeddings", json={"model": model, "input": value, **fields})


def read_vectors(response):
    assert response.status_code == 200, response.text
    data = response.json()["data"]
    assert [entry["index"] for entry in data] == list(range(len(data)))
    return np.array([entry["embedding"] for entry in data])


def read_error(response, status):
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


# -- vectors -------------------------------------------------------------------------------------------------------


def test_vectors_are_those_of_encode(client, encoder):
    np.testing.assert_allclose(read_vectors(embed(client, TEXTS)), encoder.encode(TEXTS), atol=TOLERANCE)


def test_a_single_text_and_a_list_of_one_are_the_same(client):
    assert embed(client, TEXTS[0]).json() == embed(client, TEXTS[:1]).json()


def test_base64_holds_the_same_numbers_as_json(client):
    numbers = read_vectors(embed(client, TEXTS)).astype(np.float32)
    entries = embed(client, TEXTS, encoding_format="base64").json()["data"]
    decoded = [np.frombuffer(base64.b64decode(entry["embedding"]), "<f4") for entry in entries]
    np.testing.assert_array_equal(np.stack(decoded), numbers)


def test_few_texts_are_read_and_answered_without_another_thread(client, encoder, monkeypatch):
    aside = []

    async def note(function, *arguments):
        aside.append(function.__name__)
        return function(*arguments)

    monkeypatch.setattr(service.asyncio, "to_thread", note)
    np.testing.assert_allclose(read_vectors(embed(client, TEXTS[:2])), encoder.encode(TEXTS[:2]), atol=TOLERANCE)
    assert aside == []
    read_vectors(embed(client, [f"text {number}" for number in range(service.FEW_TEXTS + 1)]))
    assert aside == ["read_inputs"]
    monkeypatch.setattr(service, "FEW_NUMBERS", 2 * encoder.dim - 1)
    read_vectors(embed(client, TEXTS[:2]))
    assert aside == ["read_inputs", "render_embeddings"]


def test_few_documents_are_ranked_and_predicted_without_another_thread(client, monkeypatch):
    aside = []

    async def note(function, *arguments):
        aside.append(function.__name__)
        return function(*arguments)

    monkeypatch.setattr(service.asyncio, "to_thread", note)
    many = [f"text {number}" for number in range(service.FEW_TEXTS + 1)]
    ranking = {"query": TEXTS[0], "documents": TEXTS[:3], "model": MODEL}
    assert client.post("/v1/rerank", json=ranking).status_code == 200
    assert client.post("/predict", json={"model": "golden-lbl2vec", "input": TEXTS[:2]}).status_code == 200
    assert aside == []
    assert client.post("/v1/rerank", json={**ranking, "documents": many}).status_code == 200
    assert aside == ["read_inputs", "render_ranking"]
    assert client.post("/predict", json={"model": "golden-lbl2vec", "input": many}).status_code == 200
    assert aside == ["read_inputs", "render_ranking", "read_inputs"]


def test_packed_bits_count_as_the_numbers_that_are_written(client, models, monkeypatch):
    aside = []

    async def note(function, *arguments):
        aside.append(function.__name__)
        return function(*arguments)

    model = next(model for model in models if model.name == "golden-binary-pv")
    monkeypatch.setattr(service.asyncio, "to_thread", note)
    monkeypatch.setattr(service, "FEW_NUMBERS", model.encoder.dim - 1)
    numbers = read_vectors(embed(client, TEXTS[0], model.name))
    assert numbers.size == model.encoder.dim
    assert aside == ["render_embeddings"]


@pytest.mark.parametrize(
    ("value", "are_few"),
    [
        ("a text", True),
        (["a", "text"], True),
        (["a"] * (service.FEW_TEXTS + 1), False),
        ([[1, 2]], False),
        ([1, 2], False),
        ("data:image/png;base64,AAAA", False),
        (["a", {"image": "data:image/png;base64,AAAA"}], False),
        (7, False),
    ],
)
def test_images_and_long_lists_are_read_in_a_thread(value, are_few):
    assert service.are_few_texts(value) == are_few


def test_options_are_those_of_views(client, encoder):
    whole = read_vectors(embed(client, TEXTS))
    for fields, view in [
        ({"dimensions": 8}, {"dim": 8}),
        ({"layers": 1}, {"layers": 1}),
        ({"layers": 2, "dimensions": 16}, {"layers": 2, "dim": 16}),
        ({"dimensions": 8}, {"dim": 8}),  # again, after other views were kept in its place
    ]:
        vectors = read_vectors(embed(client, TEXTS, **fields))
        np.testing.assert_allclose(vectors, encoder.view(**view).encode(TEXTS), atol=TOLERANCE)
        assert vectors.shape != whole.shape or not np.allclose(vectors, whole, atol=1e-3)


def test_few_views_are_kept(client, models):
    for dim in (8, 16, 32):
        embed(client, TEXTS, dimensions=dim, layers=1)
    assert len(next(model for model in models if model.name == MODEL)._views) == LIMITS.views


def test_the_input_type_chooses_the_prompt(models):
    model = next(model for model in models if model.name == MODEL)
    prompts = dict(model.encoder.prompts)
    model.encoder.prompts |= {"query": "fever ", "document": "dog "}
    try:
        with TestClient(apps.build_app([model], SETTINGS)) as client:
            query, document = (read_vectors(embed(client, TEXTS, input_type=kind)) for kind in ("query", "document"))
            by_hand = read_vectors(embed(client, [f"fever {text}" for text in TEXTS]))
    finally:
        model.encoder.prompts.clear()
        model.encoder.prompts |= prompts
    np.testing.assert_allclose(query, by_hand, atol=TOLERANCE)
    assert not np.allclose(query, document, atol=1e-3)


def test_a_model_without_prompts_takes_an_input_type(client):
    plain = read_vectors(embed(client, TEXTS, "golden-static"))
    np.testing.assert_array_equal(read_vectors(embed(client, TEXTS, "golden-static", input_type="query")), plain)


@pytest.mark.parametrize("model", [MODEL, "golden-static"])
def test_token_ids_are_those_of_the_model(client, models, model):
    encoder = next(served for served in models if served.name == model).encoder
    ids = [list(row) for row in encoder.list_token_ids(TEXTS)]
    vectors = read_vectors(embed(client, TEXTS, model))
    np.testing.assert_allclose(read_vectors(embed(client, ids, model)), vectors, atol=TOLERANCE)
    np.testing.assert_allclose(read_vectors(embed(client, ids[1], model)), vectors[1:2], atol=TOLERANCE)


def test_token_ids_without_special_tokens_or_beyond_the_limit_are_taken(client, encoder):
    ids = list(encoder.list_token_ids(TEXTS[:1])[0])
    short = read_vectors(embed(client, ids[1:-1]))
    np.testing.assert_allclose(short, read_vectors(embed(client, TEXTS[0])), atol=TOLERANCE)
    long = " ".join(["cat"] * 40)  # the tiny model reads 24 tokens
    cat = encoder.list_token_ids(["cat"])[0][1]
    np.testing.assert_allclose(
        read_vectors(embed(client, [cat] * 40)), read_vectors(embed(client, long)), atol=TOLERANCE
    )


@pytest.mark.parametrize("ids", [[5, 1_000_000], [1, 1], [2, 3], [2**40]])
def test_ids_that_are_no_text_of_the_tokenizer_are_refused(client, ids):
    assert read_error(embed(client, ids), 400)["param"] == "input"


def test_usage_counts_the_tokens_that_are_read(client, encoder):
    texts = [*TEXTS, " ".join(["cat"] * 100), "unknown" * 20 + " " + "word" * 200]
    expected = sum(map(len, encoder.list_token_ids(texts)))
    assert embed(client, texts).json()["usage"] == {"prompt_tokens": expected, "total_tokens": expected}


def test_codes_are_packed_bits_and_floats_are_their_signs(client):
    inputs, codes = golden.read("binary-pv")
    inputs, codes = inputs[:4], codes[:4]
    packed = read_vectors(embed(client, inputs, "golden-binary-pv", output_dtype="codes"))
    np.testing.assert_array_equal(packed, codes)
    signs = read_vectors(embed(client, inputs, "golden-binary-pv"))
    np.testing.assert_array_equal(np.packbits(signs > 0, axis=1), codes)
    assert set(np.unique(signs)) == {-1.0, 1.0}
    entry = embed(client, inputs[:1], "golden-binary-pv", output_dtype="codes", encoding_format="base64").json()[
        "data"
    ][0]
    assert base64.b64decode(entry["embedding"]) == codes[0].tobytes()


def test_images_are_read_from_data_urls(client):
    images, vectors = golden.read("equiangular")
    urls = [serving.make_data_url(np.asarray(image).squeeze()) for image in images]
    np.testing.assert_allclose(read_vectors(embed(client, urls, "golden-equiangular")), vectors, atol=1e-5)
    objects = [{"image": url} for url in urls]
    np.testing.assert_allclose(read_vectors(embed(client, objects, "golden-equiangular")), vectors, atol=1e-5)


def test_an_input_may_hold_text_and_image_if_the_model_reads_both(client, models):
    encoder = next(model for model in models if model.name == "golden-vlm2vec").encoder
    image = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    url = serving.make_data_url(image)
    vectors = read_vectors(embed(client, ["a cat", url, {"image": url, "text": "a cat"}], "golden-vlm2vec"))
    expected = encoder.encode(["a cat", image, {"image": image, "text": "a cat"}])
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


# -- other endpoints -----------------------------------------------------------------------------------------------


def test_reranking_orders_documents_by_similarity(client, encoder):
    body = {"model": MODEL, "query": "cough", "documents": TEXTS, "top_n": 3, "return_documents": True}
    answer = client.post("/v1/rerank", json=body).json()
    scores = encoder.similarity(encoder.encode_query(["cough"]), encoder.encode_document(TEXTS))[0].numpy()
    order = np.argsort(-scores)[:3]
    assert [result["index"] for result in answer["results"]] == list(order)
    np.testing.assert_allclose([r["relevance_score"] for r in answer["results"]], scores[order], atol=TOLERANCE)
    assert [result["document"]["text"] for result in answer["results"]] == [TEXTS[i] for i in order]
    assert answer["usage"]["total_tokens"] == sum(map(len, encoder.list_token_ids(["cough", *TEXTS])))


def test_codes_are_ranked_by_hamming_distance(client, models):
    encoder = next(model for model in models if model.name == "golden-binary-pv").encoder
    texts = golden.read("binary-pv")[0][:4]
    body = {"model": "golden-binary-pv", "query": texts[0], "documents": texts[1:]}
    results = client.post("/v1/rerank", json=body).json()["results"]
    scores = encoder.similarity(encoder.encode(texts[:1]), encoder.encode(texts[1:]))[0].numpy()
    assert [result["relevance_score"] for result in results] == sorted(scores, reverse=True)


def test_an_explanation_adds_up_to_the_score(client, models):
    encoder = next(model for model in models if model.name == "golden-sesa").encoder
    body = {"model": "golden-sesa", "query": TEXTS[1], "document": TEXTS[3], "top": 2}
    answer = client.post("/explain", json=body).json()
    expected = encoder.explain(TEXTS[1], TEXTS[3], 2)
    assert [part["id"] for part in answer["parts"]] == [part.id for part in expected.parts]
    assert answer["score"] == pytest.approx(expected.score, abs=TOLERANCE)
    assert sum(part["value"] for part in answer["parts"]) + answer["rest"] == pytest.approx(answer["score"])


def test_predictions_are_those_of_the_model(client, models):
    topics = next(model for model in models if model.name == "golden-lbl2vec").encoder
    data = client.post("/predict", json={"model": "golden-lbl2vec", "input": TEXTS}).json()["data"]
    assert [entry["label"] for entry in data] == [prediction.label for prediction in topics.classify(TEXTS)]
    images = golden.read("equiangular")[0]
    urls = [serving.make_data_url(np.asarray(image).squeeze()) for image in images]
    classes = next(model for model in models if model.name == "golden-equiangular").encoder
    data = client.post("/predict", json={"model": "golden-equiangular", "input": urls}).json()["data"]
    assert [entry["label"] for entry in data] == [prediction.label for prediction in classes.predict(images)]


@pytest.mark.parametrize(
    ("path", "body"), [("/explain", {"query": "a", "document": "b"}), ("/predict", {"input": "a"})]
)
def test_a_model_that_cannot_says_so(client, path, body):
    assert read_error(client.post(path, json={"model": MODEL, **body}), 400)["param"] == "model"


def test_models_are_listed_with_their_abilities(client):
    entries = {entry["id"]: entry for entry in client.get("/v1/models").json()["data"]}
    assert set(entries) == {f"golden-{family}" for family in FAMILIES}
    assert entries["golden-sesa"]["explains"]
    assert entries["golden-lbl2vec"]["predicts"]
    assert entries["golden-binary-pv"]["gives_codes"]
    assert entries[MODEL]["view_options"] == ["dim", "layers"]
    assert client.get(f"/v1/models/{MODEL}").json() == entries[MODEL]
    read_error(client.get("/v1/models/other"), 404)


def test_pages_of_operation_answer(client):
    assert client.get("/health").json() == client.get("/ready").json() == {"status": "ok"}
    embed(client, TEXTS)
    embed(client, 3)
    page = client.get("/metrics").text
    assert 'zoo_requests_total{path="/v1/embeddings",status="200"}' in page
    assert 'zoo_requests_total{path="/v1/embeddings",status="400"}' in page
    assert f'zoo_tokens_total{{model="{MODEL}"}}' in page
    assert "cat" not in page


def test_the_document_describes_every_path(client):
    document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.")
    service = Service([], SETTINGS, Metrics())
    assert set(document["paths"]) == {route.path for route in apps.make_routes(service) if "{" not in route.path}
    for path, entry in document["paths"].items():
        method = next(iter(entry))
        response = client.request(method.upper(), path, content=b"{}" if method == "post" else None)
        assert response.status_code in (200, 400), path
    fields = document["components"]["schemas"]["EmbeddingsBody"]["properties"]
    assert {"input", "model", "dimensions", "layers", "input_type", "encoding_format", "output_dtype"} <= set(fields)


@pytest.fixture(scope="module")
def searched(tmp_path_factory, models, encoder):
    """A client with an index of rows, and the index."""
    rows = [{"id": f"r{i}", "text": text, "number": i} for i, text in enumerate(tiny.SENTENCES)]
    folder = tmp_path_factory.mktemp("indexes") / "rows"
    index = zoo.Index.build(encoder, rows, folder)
    model = next(model for model in models if model.name == MODEL)
    attach_indexes([str(folder)], [other for other in models if other is not model] + [model])
    try:
        with TestClient(apps.build_app(models, SETTINGS)) as client:
            yield client, index
    finally:
        model.indexes.clear()


@pytest.mark.parametrize("options", [{}, {"where": "number < 30", "top": 4}, {"hybrid": True, "top": 3}])
def test_searching_finds_the_hits_of_the_index(searched, options):
    client, index = searched
    queries = ["the cat", "acute fever"]
    answer = client.post("/search", json={"query": queries, "index": "rows", **options}).json()
    expected = index.search(queries, **{"top": 10, **options})
    assert [[hit["id"] for hit in entry["hits"]] for entry in answer["data"]] == [
        [h.id for h in own] for own in expected
    ]
    for entry, own in zip(answer["data"], expected, strict=True):
        np.testing.assert_allclose([hit["score"] for hit in entry["hits"]], [hit.score for hit in own], atol=TOLERANCE)
        assert [hit["columns"]["number"] for hit in entry["hits"]] == [hit.row["number"] for hit in own]
    alone = client.post("/search", json={"query": queries[0], **options}).json()  # the only index needs no name
    assert [hit["id"] for hit in alone["data"][0]["hits"]] == [hit["id"] for hit in answer["data"][0]["hits"]]


def test_few_hits_are_written_without_another_thread(searched, monkeypatch):
    client, _ = searched
    aside = []

    async def note(function, *arguments):
        aside.append(function.__name__)
        return function(*arguments)

    monkeypatch.setattr(service.asyncio, "to_thread", note)
    for top, expected in ((service.FEW_TEXTS, []), (service.FEW_TEXTS + 1, ["encode_json"])):
        answer = client.post("/search", json={"query": "cat", "top": top}).json()
        assert len(answer["data"][0]["hits"]) == top
        assert aside == expected


def test_a_wrong_search_is_told(searched, client):
    own, _ = searched
    assert "numbr" in read_error(own.post("/search", json={"query": "cat", "where": "numbr < 3"}), 400)["message"]
    assert "relevance" in read_error(own.post("/search", json={"query": "cat", "relevant": True}), 400)["message"]
    assert read_error(own.post("/search", json={"query": "cat", "index": "row"}), 404)["param"] == "index"


def test_an_index_of_another_model_is_refused(tmp_path, models):
    index = tmp_path / "rows"
    zoo.Index.build(zoo.from_pretrained(serving.find_model("static")), [{"text": "cat"}, {"text": "dog"}], index)
    with pytest.raises(ZooError, match="not served"):
        attach_indexes([str(index)], [model for model in models if model.name == MODEL])


def test_codes_of_a_step_after_training_are_those_of_the_encoder():
    model = apps.open_models(replace(SETTINGS, models=(serving.find_model("matryoshka-2d"),)))[0]
    model.encoder.attach_steps([after_steps.fit("int8", Material(model.encoder.encode(tiny.SENTENCES)))])
    with TestClient(apps.build_app([model], SETTINGS)) as client:
        codes = read_vectors(embed(client, TEXTS, output_dtype="codes"))
        np.testing.assert_array_equal(codes, model.encoder.codes(TEXTS))
        read_error(embed(client, TEXTS, output_dtype="codes", dimensions=8), 400)  # the step was fitted on the whole
        assert client.get("/v1/models").json()["data"][0]["gives_codes"]


# -- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": None}, "input"),
        ({"input": [["a"]]}, "input"),
        ({"input": ["a", 3]}, "input"),
        ({"input": [True]}, "input"),
        ({"input": {"image": "data:image/png;base64,AAAA"}}, "input"),
        ({"input": {"texts": "a"}}, "input"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": "8"}, "dimensions"),
        ({"dimensions": 10_000}, "dimensions"),
        ({"layers": 99}, "layers"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"input_type": "passage"}, "input_type"),
        ({"output_dtype": "codes"}, "output_dtype"),
        ({"dimension": 8}, "dimension"),
    ],
)
def test_a_wrong_field_is_named(client, change, param):
    response = client.post("/v1/embeddings", json={"model": MODEL, "input": "cat", **change})
    error = read_error(response, 400)
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"


def test_an_option_that_the_model_lacks_is_named(client):
    assert read_error(embed(client, "cat", "golden-static", layers=1), 400)["param"] == "layers"
    assert read_error(embed(client, "cat", "golden-lbl2vec", dimensions=5), 400)["param"] == "dimensions"
    assert embed(client, "cat", "golden-lbl2vec", dimensions=32).status_code == 200  # all that it has


def test_an_unknown_model_is_not_found(client):
    error = read_error(embed(client, "cat", "golden-matryoshka"), 404)
    assert error["code"] == "model_not_found"
    assert "did you mean" in error["message"]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff\xfe", b'{"model": NaN}', b'{"model": "a", "model": "b"}', b"[" * 100_000, b'"a"'],
)
def test_a_body_that_is_not_an_object_of_json_is_refused(client, content):
    read_error(client.post("/v1/embeddings", content=content), 400)


def test_limits_are_told(client):
    assert "200,000 bytes" in read_error(embed(client, "cat " * 60_000), 413)["message"]
    assert read_error(embed(client, ["cat"] * 101), 413)["code"] == "too_many_inputs"
    assert read_error(embed(client, ["cat " * 30] * 100), 413)["code"] == "too_many_tokens"


def test_images_are_limited_before_they_are_decoded(client):
    noise = np.random.default_rng(0).integers(0, 255, (200, 200), dtype=np.uint8)
    assert (
        read_error(embed(client, serving.make_data_url(noise), "golden-equiangular"), 413)["code"] == "image_too_large"
    )
    flat = np.zeros((100, 100), dtype=np.uint8)  # few bytes, many pixels
    assert "pixels" in read_error(embed(client, serving.make_data_url(flat), "golden-equiangular"), 413)["message"]


@pytest.mark.parametrize(
    "url", ["data:image/png;base64,AAAA", "data:image/png;base64,???", "data:image/png,AAAA", "http://localhost/a.png"]
)
def test_what_is_not_an_image_is_refused(client, url):
    assert read_error(embed(client, {"image": url}, "golden-equiangular"), 400)["param"] == "input"


def test_other_paths_and_methods_have_errors_of_the_same_shape(client):
    read_error(client.get("/v1/chat"), 404)
    read_error(client.get("/v1/embeddings"), 405)


def test_a_fault_of_the_server_is_told_without_its_message(client, models, monkeypatch, capsys):
    model = next(model for model in models if model.name == MODEL)

    def fail(*_):
        raise RuntimeError("secret text")

    monkeypatch.setattr(model, "run", fail)
    assert "secret" not in json.dumps(read_error(embed(client, "cat"), 500))
    assert "secret" not in capsys.readouterr().err


def test_an_answer_that_takes_too_long_is_given_up(models, monkeypatch):
    import threading

    model, gate = next(model for model in models if model.name == MODEL), threading.Event()
    run = model.run
    monkeypatch.setattr(model, "run", lambda *arguments: (gate.wait(30), run(*arguments))[1])
    settings = replace(SETTINGS, limits=replace(LIMITS, answer_seconds=0.2))
    with TestClient(apps.build_app([model], settings)) as client:
        response = embed(client, "cat")
        assert read_error(response, 503)["code"] == "answer_timeout"
        assert "retry-after" in response.headers
        gate.set()
        assert embed(client, "cat").status_code == 200


# -- key, logs -----------------------------------------------------------------------------------------------------


def test_a_key_is_required_where_one_is_set(models, monkeypatch):
    monkeypatch.setenv("ZOO_TEST_KEY", "right")
    settings = replace(SETTINGS, api_key_variable="ZOO_TEST_KEY")
    with TestClient(apps.build_app(models[:1], settings)) as client:
        for headers in (
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": "right"},
            {"authorization": "Basic right"},
        ):
            assert read_error(client.get("/v1/models", headers=headers), 401)["type"] == "authentication_error"
        assert client.get("/v1/models", headers={"authorization": "Bearer right"}).status_code == 200
        assert client.get("/health").status_code == client.get("/ready").status_code == 200


@pytest.mark.parametrize("value", [None, "", "  "])
def test_an_empty_key_is_refused(monkeypatch, value):
    monkeypatch.delenv("ZOO_TEST_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("ZOO_TEST_KEY", value)
    with pytest.raises(ZooError, match="ZOO_TEST_KEY"):
        apps.read_api_key(replace(SETTINGS, api_key_variable="ZOO_TEST_KEY"))


def test_logs_hold_sizes_and_no_texts(client, capsys):
    embed(client, ["guitar", "headache"])
    embed(client, {"guitar": 1})
    client.get("/guitar?guitar=1")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    entries = [line for line in lines if line["event"] == "request"]
    assert [entry["status"] for entry in entries] == [200, 400, 404]
    assert entries[0]["inputs"] == 2
    assert not any(word in json.dumps(lines) for word in ("guitar", "headache"))


def test_two_models_of_one_name_are_refused():
    with pytest.raises(ZooError, match="name"):
        apps.open_models(replace(SETTINGS, models=(serving.find_model("static"),) * 2))


# -- clients -------------------------------------------------------------------------------------------------------


def test_the_openai_client_reads_vectors_models_and_errors(client, encoder):
    openai = pytest.importorskip("openai")
    api = openai.OpenAI(api_key="none", base_url="http://testserver/v1", http_client=client, max_retries=0)
    for extra in ({}, {"encoding_format": "float"}):
        answer = api.embeddings.create(model=MODEL, input=TEXTS, dimensions=16, **extra)
        vectors = [entry.embedding for entry in answer.data]
        np.testing.assert_allclose(vectors, encoder.view(dim=16).encode(TEXTS), atol=TOLERANCE)
    assert answer.usage.prompt_tokens == sum(map(len, encoder.list_token_ids(TEXTS)))
    ids = [list(row) for row in encoder.list_token_ids(TEXTS)]
    for value in (TEXTS[0], ids, ids[0]):
        api.embeddings.create(model=MODEL, input=value, extra_body={"layers": 1, "input_type": "query"})
    assert MODEL in {model.id for model in api.models.list()}
    assert api.models.retrieve(MODEL).owned_by == "zoo"
    with pytest.raises(openai.BadRequestError, match="dimensions"):
        api.embeddings.create(model="golden-lbl2vec", input="cat", dimensions=5)
    with pytest.raises(openai.NotFoundError):
        api.embeddings.create(model="other", input="cat")
