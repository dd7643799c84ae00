"""The page in a headless Chromium: typing, sliding, dropping, the keyboard, and what hostile texts cannot do.

Rankings are compared with those of the encoders. One browser and one server serve all tests of this file.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from dataclasses import replace

import after_steps
import browsers
import golden
import numpy as np
import pytest
import serving
import tiny

if problem := browsers.describe_missing():
    pytest.skip(problem, allow_module_level=True)
pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from playwright.sync_api import expect

import zoo
from zoo.after.material import Material
from zoo.index import conditions
from zoo.index.column_kinds import KINDS
from zoo.serve import app as apps
from zoo.serve.searching import attach_indexes
from zoo.serve.settings import Settings

FAMILIES = ("matryoshka-2d", "sesa", "lbl2vec", "equiangular", "latent-quantized", "vlm2vec")
SETTINGS = Settings(tuple(map(serving.find_model, FAMILIES)))
TEXTS = list(dict.fromkeys(tiny.SENTENCES))[:40]
QUERY = "the cat runs"
HOSTILE = [
    "<img src=x onerror='window.hacked = 1'>",
    "<script>window.hacked = 1</script>",
    "\"><svg onload='window.hacked = 1'>",
    "javascript:window.hacked=1",
    "${window.hacked = 1} {{window.hacked = 1}}",
]
TOP = 10


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The open models by family. The first one has an index, and the last one a step for codes."""
    opened = apps.open_models(SETTINGS)
    opened[-1].encoder.attach_steps([after_steps.fit("binary", Material(opened[-1].encoder.encode(tiny.SENTENCES)))])
    rows = [{"id": f"r{i}", "text": text, "number": i, "kind": ["even", "odd"][i % 2]} for i, text in enumerate(TEXTS)]
    folder = tmp_path_factory.mktemp("indexes") / "rows"
    zoo.Index.build(opened[0].encoder, rows, folder)
    attach_indexes([str(folder)], opened)
    return dict(zip(FAMILIES, opened, strict=True))


@pytest.fixture(scope="module")
def address(models):
    with browsers.serve(apps.build_app(list(models.values()), SETTINGS)) as url:
        yield url


@pytest.fixture(scope="module")
def browser():
    with browsers.open_browser() as opened:
        yield opened


@pytest.fixture
def open_page(browser, address):
    """A function that opens the page. Afterwards nothing has failed, nothing was stored, and nobody else was asked."""
    contexts, faults, foreign = [], [], []

    def open_one(family="matryoshka-2d", texts=None, url=address, **options):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        context.set_default_timeout(10_000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: foreign.append(request.url) if is_foreign(request.url, url) else None)
        page.goto(url)
        if url == address:
            wait_until_ready(page)
            if family != "matryoshka-2d":
                page.select_option("#model", f"golden-{family}")
                wait_until_ready(page)
            if texts is not None:
                fill_texts(page, texts)
        return page

    open_one.faults = faults
    yield open_one
    stored = [context.storage_state() for context in contexts]
    for context in contexts:
        context.close()
    assert not foreign
    assert not faults
    assert all(not state["cookies"] and not state["origins"] for state in stored)


def is_foreign(asked, url):
    return not asked.startswith((url, "data:", "blob:"))


def wait_until_ready(page):
    expect(page.locator("#texts-status")).to_contain_text("ready")


def fill_texts(page, texts):
    page.fill("#lines", "\n".join(texts))
    expect(page.locator("#texts-status")).to_contain_text(re.compile(rf"^{len(set(texts))} text.*ready"))


def search(page, text, size=TOP):
    page.fill("#query", text)
    expect(page.locator(".hit-button")).to_have_count(size)


def read_hits(page):
    return page.locator(".hit-text").all_inner_texts()


def expect_hits(page, texts):
    """Wait until these texts are the results, in this order."""
    expect(page.locator(".hit-text")).to_have_text(texts)


def rank(queries, documents):
    """Return the row numbers, the best first, by cosine."""
    unit = documents / np.linalg.norm(documents, axis=1, keepdims=True)
    return np.argsort(-(unit @ queries[0]), kind="stable")


def list_best(encoder, texts, query=QUERY, **view):
    cut = encoder.view(**view) if view else encoder
    roles = [{"prompt_type": role} if cut.has_roles else {} for role in ("query", "document")]
    order = rank(cut.encode([query], **roles[0]), cut.encode(texts, **roles[1]))
    return [texts[i] for i in order]


def run(page, module, code, argument=None):
    """Return the value of a function body, in which `m` is a module of the page and `x` the argument."""
    return page.evaluate(f"async (x) => {{ const m = await import('/page/{module}'); {code} }}", argument)


def press(page, key, times=1):
    for _ in range(times):
        page.keyboard.press(key)


def read_figures(page):
    """Return the columns `full` and `this cut` of the table, by the names of rows."""
    code = "rows => rows.map((row) => [...row.cells].map((cell) => cell.innerText))"
    return {row[0]: row[1:] for row in page.eval_on_selector_all("#compare tr", code)}


def make_file(name, content, media_type="text/csv"):
    return {"name": name, "mimeType": media_type, "buffer": content}


def drop(page, selector, files):
    """Drop files on an element."""
    content = [{**file, "buffer": base64.b64encode(file["buffer"]).decode()} for file in files]
    transfer = page.evaluate_handle(
        """files => {
            const transfer = new DataTransfer();
            for (const { name, mimeType, buffer } of files) {
                const bytes = Uint8Array.from(atob(buffer), (sign) => sign.charCodeAt(0));
                transfer.items.add(new File([bytes], name, { type: mimeType }));
            }
            return transfer;
        }""",
        content,
    )
    page.dispatch_event(selector, "drop", {"dataTransfer": transfer})


def make_pictures(pixels):
    urls = [serving.make_data_url(own) for own in pixels]
    return [make_file(f"{i}.png", base64.b64decode(url.split(",")[1]), "image/png") for i, url in enumerate(urls)]


# -- functions -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain_page(browser, address):
    page = browser.new_page()
    page.goto(address)
    yield page
    page.close()


def test_rankings_are_stable_and_the_best_are_their_beginning(plain_page):
    scores = np.random.default_rng(0).integers(0, 20, 200).astype(float)
    order = run(plain_page, "vectors.js", "return m.rank(Float32Array.from(x))", scores.tolist())
    assert order == np.argsort(-scores, kind="stable").tolist()
    assert run(plain_page, "vectors.js", "return m.findBest(Float32Array.from(x), 12)", scores.tolist()) == order[:12]


@pytest.mark.parametrize(("count", "width"), [(60, 12), (5, 40), (2, 3)])
def test_the_map_is_that_of_principal_components(plain_page, count, width):
    random = np.random.default_rng(count)
    vectors = random.standard_normal((count, width)).astype(np.float32) * np.geomspace(3, 0.3, width, dtype=np.float32)
    code = "const r = m.computeMap(m.stack(x.map((v) => Float32Array.from(v)))); return [r.points, r.share];"
    points, share = run(plain_page, "vectors.js", code, vectors.tolist())
    centred = vectors.astype(float) - vectors.mean(0, dtype=float)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    expected = (left * sizes)[:, :2]
    np.testing.assert_allclose(np.abs(points), np.abs(expected), atol=1e-4)
    assert share == pytest.approx((sizes[:2] ** 2).sum() / (sizes**2).sum(), abs=1e-6)


def test_equal_texts_have_a_map_too(plain_page):
    code = "return m.computeMap(m.stack([0, 0, 0].map(() => Float32Array.from([1, 2])))).points;"
    assert run(plain_page, "vectors.js", code) == [[0, 0]] * 3


def test_stored_vectors_are_those_of_numpy(plain_page):
    vectors = np.random.default_rng(1).standard_normal((30, 8)).astype(np.float32)
    code = """
        const matrix = m.stack(x.map((vector) => Float32Array.from(vector)));
        return ["float16", "int8", "binary"].map((name) => [...m.store(matrix, name).data]);
    """
    half, whole, bits = (
        np.array(own).reshape(vectors.shape) for own in run(plain_page, "vectors.js", code, vectors.tolist())
    )
    np.testing.assert_array_equal(half, vectors.astype(np.float16))
    steps = np.ptp(vectors, axis=0) / 255
    assert (np.abs(whole - vectors) <= steps / 2 + 1e-6).all()
    assert all(len(np.unique(column)) <= 256 for column in whole.T)
    np.testing.assert_array_equal(np.sign(bits), np.where(vectors > 0, 1, -1))


TABLES = [
    [["text", "year"], ["one, two", "2020"], ['say "hi"', ""]],
    [["text"], ["two\nlines"], ["tab\tand ;"]],
    [["a b", "c"], ["", "x"], [" spaces ", "é\u2028"]],
]


@pytest.mark.parametrize("cells", TABLES)
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_csv_is_read_as_python_writes_it(plain_page, cells, ending):
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator=ending).writerows(cells)
    assert run(plain_page, "tables.js", "return m.parseCells(x)", stream.getvalue()) == cells


def test_tables_of_every_kind_have_columns_and_rows(plain_page):
    code = "const t = m.readTable(...x); return [t.columns, t.rows.map((row) => [...row.values()]), m.chooseColumn(t)];"
    read = lambda name, text: run(plain_page, "tables.js", code, [name, text])  # noqa: E731
    assert read("a.csv", "id;title\n1;first\n2;second\n") == [
        ["id", "title"],
        [["1", "first"], ["2", "second"]],
        "title",
    ]
    assert read("a.tsv", "n\tlong one\n1\tfirst, then\n")[2] == "long one"
    assert read("a.jsonl", '{"text": "one", "n": 1}\n{"text": "two", "tags": ["x"]}\n') == [
        ["text", "n", "tags"],
        [["one", "1", ""], ["two", "", '["x"]']],
        "text",
    ]
    assert read("a.txt", "one\n\n two \n") == [["text"], [["one"], ["two"]], "text"]


@pytest.mark.parametrize(
    ("column", "kind", "test", "value"),
    [
        ("year", "whole", ">=", "2020"),
        ("a name", "text", "=", 'say "hi" \\ there'),
        ("and", "text", "!=", "or 1 = 1"),
        ("flag", "flag", "=", "True"),
        ("day", "date", "<", "2020-12-31"),
        ("year", "whole", "is not null", ""),
    ],
)
def test_conditions_are_those_of_the_index(plain_page, column, kind, test, value):
    text = run(plain_page, "tables.js", "return m.writeCondition(...x)", [column, kind, test, value])
    condition = conditions.parse(text, {column: KINDS[kind]})
    assert condition.columns == (column,)


def test_batches_keep_the_order_and_the_limits(plain_page):
    texts = ["x" * length for length in np.random.default_rng(2).integers(1, 50, 100).tolist()]
    batches = run(plain_page, "api.js", "return m.makeBatches(x, 7, 100)", texts)
    assert [text for batch in batches for text in batch] == texts
    assert all(len(batch) <= 7 and sum(map(len, batch)) <= 100 for batch in batches)


# -- texts ---------------------------------------------------------------------------------------------------------


def test_results_are_those_of_the_encoder_as_one_types(open_page, models):
    page = open_page(texts=TEXTS)
    search(page, QUERY)
    expect_hits(page, list_best(models["matryoshka-2d"].encoder, TEXTS)[:TOP])
    search(page, "acute fever")
    expect_hits(page, list_best(models["matryoshka-2d"].encoder, TEXTS, "acute fever")[:TOP])
    assert re.search(r"10 of 40 texts\. The model takes .* ms", page.inner_text("#status"))
    page.fill("#query", "")
    expect(page.locator(".hit-button")).to_have_count(0)


def test_typing_fast_sends_few_requests_and_new_lines_are_sent_once(open_page):
    page = open_page(texts=TEXTS)
    sent = []
    page.on(
        "request",
        lambda request: sent.append(request.post_data_json["input"]) if request.url.endswith("embeddings") else None,
    )
    page.locator("#query").press_sequentially("the cat runs", delay=5)
    expect(page.locator(".hit-button")).to_have_count(TOP)
    assert sent[-1] == ["the cat runs"]
    assert len(sent) <= 3
    sent.clear()
    fill_texts(page, [*TEXTS, "a new line"])
    assert sent[0] == ["a new line"]


def test_many_texts_go_in_batches_and_can_be_stopped(open_page):
    page = open_page(texts=TEXTS)
    sizes = []

    def answer(route):
        sizes.append(len(route.request.post_data_json["input"]))
        if len(sizes) < 3:
            route.continue_()  # the third batch is never answered

    page.route("**/v1/embeddings", answer)
    page.fill("#lines", "\n".join(f"cat {i}" for i in range(300)))
    expect(page.locator("#texts-status")).to_contain_text("128 of 300")
    assert page.locator("#progress").get_attribute("value") == "128"
    page.click("#stop")
    expect(page.locator("#texts-status")).to_contain_text("Stopped")
    assert sizes == [64, 64, 64]
    page.unroute_all()
    fill_texts(page, TEXTS)


def test_a_busy_server_is_asked_again(open_page):
    page = open_page(texts=TEXTS)
    answers = iter([429])
    body = json.dumps({"error": {"message": "full", "type": "rate_limit_error"}})

    def answer(route):
        status = next(answers, None)
        if status is None:
            route.continue_()
        else:
            route.fulfill(status=status, body=body, headers={"retry-after": "0.1", "content-type": "application/json"})

    page.route("**/v1/embeddings", answer)
    search(page, QUERY)
    open_page.faults.clear()  # the browser reports the status of the first answer
    assert page.locator("#fault").is_hidden()


def test_a_dropped_csv_becomes_the_texts_and_its_column_can_be_chosen(open_page, models):
    page = open_page()
    rows = "number,text\n" + "".join(f'{i},"{text}, indeed"\n' for i, text in enumerate(TEXTS))
    drop(page, "#drop", [make_file("rows.csv", rows.encode())])
    expect(page.locator("#texts-status")).to_contain_text("40 texts, ready")
    assert page.input_value("#column") == "text"
    texts = [f"{text}, indeed" for text in TEXTS]
    assert page.input_value("#lines").splitlines() == texts
    search(page, QUERY)
    expect_hits(page, list_best(models["matryoshka-2d"].encoder, texts)[:TOP])
    page.select_option("#column", "number")
    expect(page.locator("#lines")).to_have_value("\n".join(map(str, range(40))))


def test_a_file_that_cannot_be_read_is_told(open_page):
    page = open_page()
    drop(page, "#drop", [make_file("rows.jsonl", b'{"text": "one"}\n{broken\n')])
    expect(page.locator("#fault")).to_have_text("rows.jsonl: line 2 is not valid JSON")
    drop(page, "#drop", [make_file("rows.txt", b"one\ntwo\n")])
    expect(page.locator("#texts-status")).to_contain_text("2 texts, ready")
    expect(page.locator("#fault")).to_be_hidden()


def test_hostile_texts_stay_texts(open_page):
    page = open_page()
    rows = "text,<b>column</b>\n" + "".join(f'"{text.replace(chr(34), chr(34) * 2)}",1\n' for text in HOSTILE)
    drop(page, "#drop", [make_file("<img src=x onerror=alert(1)>.csv", rows.encode())])
    expect(page.locator("#texts-status")).to_contain_text("5 texts, ready")
    search(page, HOSTILE[0], 5)
    page.locator(".hit-button").first.click()
    assert sorted(read_hits(page)) == sorted(HOSTILE)
    assert page.locator("main img, main script, #map svg svg").count() == 0
    assert page.evaluate("window.hacked") is None


def test_a_hostile_card_stays_text(plain_page):
    html = "".join(HOSTILE) + "<p onclick='window.hacked=1'>kept</p><a href='javascript:1'>link</a>"
    code = """
        const box = document.createElement("div");
        document.body.append(box);
        m.showCard(box, x);
        const shown = box.innerHTML;
        box.remove();
        return shown;
    """
    shown = run(plain_page, "card.js", code, html)
    assert "kept" in shown
    assert not re.search(r"<script|<svg|onerror|onclick|javascript:window.hacked=1\"|href|src=", shown)
    assert plain_page.evaluate("window.hacked") is None


# -- smaller models ------------------------------------------------------------------------------------------------


def test_sliders_show_the_ranking_and_the_bytes_of_the_cut(open_page, models):
    encoder = models["matryoshka-2d"].encoder
    page = open_page(texts=TEXTS)
    search(page, QUERY)
    full = list_best(encoder, TEXTS)
    assert read_figures(page)["Bytes of a vector"] == [str(4 * encoder.dim), ""]
    page.focus("#layers")
    press(page, "ArrowLeft", 2)
    page.focus("#size")
    press(page, "Home")
    size = page.evaluate("Number(document.querySelector('#size-value').textContent.split(' ')[0])")
    small = list_best(encoder, TEXTS, layers=1, dim=size)
    expect(page.locator(".hit-text").first).to_have_text(small[0])
    expect(page.locator("#kept")).to_contain_text("over 40 of your texts")
    expect_hits(page, small[:TOP])
    assert read_figures(page)["Bytes of a vector"] == [str(4 * encoder.dim), str(4 * size)]
    moves = page.locator(".hit-button .move .hidden").all_inner_texts()
    assert [read_move(text) for text in moves] == [full.index(text) - place for place, text in enumerate(small[:TOP])]
    kept = len(set(full[:TOP]) & set(small[:TOP])) / TOP
    assert f"For this query: {round(100 * kept)} %" in page.inner_text("#kept")
    assert page.inner_text("#kept strong") == f"{round(100 * measure_kept(encoder, size))} %"
    page.click("#reset-size")
    expect(page.locator(".hit-text").first).to_have_text(full[0])
    expect_hits(page, full[:TOP])


def read_move(text):
    match = re.search(r"(\d+) (up|down)", text)
    return 0 if match is None else int(match[1]) * (1 if match[2] == "up" else -1)


def measure_kept(encoder, size):
    """Return the mean share of the ten nearest texts of each text that stay the same."""
    near = []
    for vectors in (encoder.encode(TEXTS), encoder.view(layers=1, dim=size).encode(TEXTS)):
        orders = np.argsort(-(vectors @ vectors.T), kind="stable", axis=1)
        near.append([[j for j in order if j != i][:TOP] for i, order in enumerate(orders)])
    return np.mean([len({*left} & {*right}) / TOP for left, right in zip(*near, strict=True)])


def test_stored_bits_and_precision_change_the_figures(open_page, models):
    encoder = models["matryoshka-2d"].encoder
    page = open_page(texts=TEXTS)
    search(page, QUERY)
    for name, size in (("int8", encoder.dim), ("float16", 2 * encoder.dim), ("binary", encoder.dim // 8)):
        page.select_option("#store", name)
        expect(page.locator("#compare tr").first.locator("td").last).to_have_text(str(size))
    vectors = encoder.encode(TEXTS)
    scores = np.where(vectors > 0, 1, -1) @ encoder.encode([QUERY])[0] / np.sqrt(encoder.dim)
    expect(page.locator(".hit-score .value").first).to_have_text(f"{scores.max():.3f}")
    shown = page.locator(".hit-score .value").all_inner_texts()
    np.testing.assert_allclose([float(text) for text in shown], np.sort(scores)[::-1][:TOP], atol=6e-4)
    page.select_option("#store", "float32")
    with page.expect_request(lambda request: "bf16" in (request.post_data or "")):
        page.select_option("#precision", "bf16")
    expect(page.locator("#kept strong")).to_be_visible()


# -- families ------------------------------------------------------------------------------------------------------


def test_concepts_add_up_to_the_score_and_weights_change_the_ranking(open_page, models):
    encoder = models["sesa"].encoder
    page = open_page("sesa", TEXTS)
    search(page, QUERY)
    best = list_best(encoder, TEXTS)
    expect_hits(page, best[:TOP])
    explanation = encoder.explain(QUERY, best[0], 8)
    expect(page.locator("#why .name")).to_have_text([*(part.name for part in explanation.parts), "all others"])
    values = [float(text) for text in page.locator("#why .value").all_inner_texts()]
    assert sum(values) == pytest.approx(explanation.score, abs=0.002 * len(values))
    page.locator("#why input").first.focus()
    press(page, "Home")
    expect(page.locator("#weights li")).to_contain_text(f"{explanation.parts[0].name} × 0")
    edited = encoder.edit({explanation.parts[0].id: 0})
    roles = [{"prompt_type": role} for role in ("query", "document")]
    scores = edited.encode(TEXTS, **roles[1]) @ edited.encode([QUERY], **roles[0])[0]
    expect(page.locator(".hit-score .value").first).to_have_text(f"{scores.max():.3f}")
    shown = page.locator(".hit-score .value").all_inner_texts()
    np.testing.assert_allclose([float(text) for text in shown], np.sort(scores)[::-1][:TOP], atol=6e-4)
    assert page.evaluate("document.activeElement.type") == "range"
    page.get_by_role("button", name="Reset").click()
    expect(page.locator("#weights li")).to_have_count(0)
    expect_hits(page, best[:TOP])


def test_any_concept_can_be_weighted(open_page, models):
    page = open_page("sesa", TEXTS)
    name = models["sesa"].encoder.concept_list.names[0]
    page.fill("#concept", name)
    press(page, "Tab")
    expect(page.locator("#weights li")).to_contain_text(f"{name} × 0")


def test_topics_are_those_of_the_model(open_page, models):
    encoder = models["lbl2vec"].encoder
    page = open_page("lbl2vec", TEXTS)
    search(page, QUERY)
    prediction = encoder.classify([QUERY])[0]
    expect(page.locator("#verdict")).to_contain_text(str(prediction.label))
    best = sorted(prediction.confidence, key=prediction.confidence.get, reverse=True)
    assert page.locator("#classes .name").all_inner_texts() == [*best, "none of these"]
    labels = [own.label for own in encoder.classify(TEXTS)]
    legend = dict(text.split(" · ") for text in page.locator("#map-legend li").all_inner_texts())
    assert {name: int(number) for name, number in legend.items()} == {
        str(label or "none of these"): labels.count(label) for label in set(labels)
    }


def test_an_image_gets_its_class_or_none_of_these(open_page, models, monkeypatch):
    encoder = models["equiangular"].encoder
    images = [np.asarray(image).squeeze() for image in golden.read("equiangular")[0]]
    page = open_page("equiangular")
    drop(page, "#drop", make_pictures(images))
    expect(page.locator("#texts-status")).to_contain_text(f"{len(images)} images, ready")
    page.locator("#pictures button").first.click()
    prediction = encoder.predict(images[:1])[0]
    expect(page.locator("#verdict")).to_have_text(f"{prediction.label}, with probability {prediction.probability:.2f}")
    assert page.locator("#classes .bar-row").count() == min(8, len(encoder.classes)) + 1
    monkeypatch.setattr(encoder, "threshold", 2.0)
    page.locator("#pictures button").nth(1).click()
    expect(page.locator("#verdict")).to_contain_text("None of these")


def test_every_latent_is_traversed(open_page, models):
    encoder = models["latent-quantized"].encoder
    image = np.asarray(golden.read("latent-quantized")[0][0]).squeeze()
    page = open_page("latent-quantized")
    page.set_input_files("#query-file", make_pictures([image]))
    expect(page.locator(".latent")).to_have_count(encoder.spec.latents)
    for latent in range(encoder.spec.latents):
        expect(page.locator(".latent").nth(latent).locator("img")).to_have_count(len(encoder.traverse(image, latent)))


def test_a_text_finds_dropped_images(open_page, models):
    encoder = models["vlm2vec"].encoder
    pixels = [np.random.default_rng(i).integers(0, 255, (24, 24, 3), dtype=np.uint8) for i in range(5)]
    page = open_page("vlm2vec")
    page.click("#clear")
    drop(page, "#drop", make_pictures(pixels))
    expect(page.locator("#pictures img")).to_have_count(5)
    search(page, QUERY, 5)
    order = rank(encoder.encode([QUERY], prompt_type="query"), encoder.encode(pixels, prompt_type="document"))
    expect_hits(page, [f"{i}.png" for i in order])
    page.select_option("#store", "codes")
    scores = encoder.scores([QUERY], encoder.codes(pixels))[0]
    expect(page.locator(".hit-score .value").first).to_have_text(f"{scores.max():.3f}")
    expect_hits(page, [f"{i}.png" for i in np.argsort(-scores, kind="stable")])
    assert read_figures(page)["Bytes of a vector"][1] == str(encoder.find_code_step().bytes_per_vector)
    drop(page, "#query-drop", make_pictures(pixels[3:4]))
    expect(page.locator("#query-image img")).to_be_visible()


def test_an_index_is_searched_with_a_condition(open_page, models):
    index = models["matryoshka-2d"].indexes["rows"]
    page = open_page()
    page.get_by_label("rows (40 rows)").check()
    page.fill("#query", QUERY)
    expect(page.locator("#status")).to_contain_text("10 rows of 40")
    expect_hits(page, [hit.text for hit in index.search([QUERY])[0]])
    page.select_option("#filter-column", "number")
    page.select_option("#filter-test", "<")
    page.fill("#filter-value", "5")
    page.click("#filter-add")
    page.select_option("#filter-column", "kind")
    page.fill("#filter-value", "even")
    page.click("#filter-add")
    expect(page.locator("#status")).to_contain_text("3 rows of 40")
    where = 'number < 5 and kind = "even"'
    assert page.input_value("#where") == where
    expect_hits(page, [hit.text for hit in index.search([QUERY], where=where)[0]])
    page.fill("#where", "numbr < 5")
    expect(page.locator("#fault")).to_contain_text("numbr")
    open_page.faults.clear()  # the browser reports the status 400
    assert page.locator("#map-section").is_hidden()


# -- access --------------------------------------------------------------------------------------------------------


def test_the_key_is_asked_for_and_kept_in_memory(open_page, models, monkeypatch):
    monkeypatch.setenv("ZOO_TEST_KEY", "right-key")
    settings = replace(SETTINGS, api_key_variable="ZOO_TEST_KEY")
    with browsers.serve(apps.build_app([models["matryoshka-2d"]], settings)) as url:
        page = open_page(url=url)
        for key in ("wrong-key", "right-key"):
            expect(page.locator("#key-dialog")).to_be_visible()
            page.keyboard.type(key)
            press(page, "Enter")
            expect(page.locator("#key-note")).to_contain_text("wrong" if key == "wrong-key" else "")
        wait_until_ready(page)
        assert page.locator("#key-dialog").is_hidden()
        assert "right-key" not in page.content()
        assert page.evaluate("document.querySelector('#key').value + location.href").count("right-key") == 0
        page.reload()
        expect(page.locator("#key-dialog")).to_be_visible()
        open_page.faults.clear()  # the browser reports each status 401
        page.close()


def test_the_keyboard_reaches_results_and_points(open_page):
    page = open_page(texts=TEXTS)
    page.evaluate("document.activeElement.blur()")
    press(page, "/")
    assert page.evaluate("document.activeElement.id") == "query"
    page.keyboard.type(QUERY)
    expect(page.locator(".hit-button")).to_have_count(TOP)
    press(page, "ArrowDown", 3)
    assert page.evaluate("document.activeElement.querySelector('.hit-text').textContent") == read_hits(page)[2]
    press(page, "Enter")
    assert page.locator(".hit-button[aria-pressed=true] .hit-text").inner_text() == read_hits(page)[2]
    press(page, "ArrowUp", 3)
    assert page.evaluate("document.activeElement.id") == "query"
    page.focus("#map svg")
    press(page, "ArrowRight", 2)
    chosen = page.inner_text("#map-caption")
    assert chosen in TEXTS
    assert page.locator("#map .current").get_attribute("aria-label") == chosen
    press(page, "Enter")
    expect(page.locator("#query")).to_have_value(chosen)
    assert page.evaluate("document.activeElement.localName") == "svg"


def test_the_focus_goes_from_the_search_to_the_texts_in_the_order_of_the_page(open_page):
    page = open_page(texts=TEXTS)
    page.focus("#model")
    order = ["model"]
    for _ in range(22):
        press(page, "Tab")
        order.append(page.evaluate("(e => e.id || e.name || e.localName)(document.activeElement)"))
    known = [
        "model",
        "theme",
        "source",
        "query",
        "svg",
        "lines",
        "file",
        "clear",
        "layers",
        "size",
        "store",
        "precision",
    ]
    assert list(dict.fromkeys(name for name in order if name in known)) == known


def test_every_control_has_a_name(open_page):
    for family in ("matryoshka-2d", "sesa"):
        page = open_page(family, TEXTS)
        search(page, QUERY)
        nameless = page.evaluate(
            """() => [...document.querySelectorAll("button, input, select, textarea, progress, svg[role], [role=region]")]
                .filter((e) => !e.getAttribute("aria-label") && !e.getAttribute("aria-labelledby") && !e.labels?.length
                    && !(e.localName === "button" && e.textContent.trim()))
                .map((e) => e.outerHTML)"""
        )
        assert not nameless
        assert page.locator("[role=status], [role=alert]").count() >= 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_in_light_and_dark(open_page, scheme):
    page = open_page(texts=TEXTS, color_scheme=scheme)
    search(page, QUERY)
    page.select_option("#store", "binary")
    expect(page.locator("#kept strong")).to_be_visible()
    is_dark = luminance(read_colour(page, "html", "backgroundColor")) < 0.2
    assert is_dark == (scheme == "dark")
    for selector in (
        ".hit-text",
        ".value",
        ".note",
        "#status",
        "#kept strong",
        "#kept",
        ".compare th",
        "h1",
        "button#theme",
    ):
        assert contrast(read_colour(page, selector, "color"), read_colour(page, "html", "backgroundColor")) >= 4.5, (
            selector
        )
    for selector in (".move.up", ".move.down"):
        if page.locator(selector).count():
            assert contrast(read_colour(page, selector, "color"), read_colour(page, "html", "backgroundColor")) >= 4.5
    page.click("#theme")
    assert (luminance(read_colour(page, "html", "backgroundColor")) < 0.2) != is_dark


def read_colour(page, selector, name):
    text = page.locator(selector).first.evaluate("(e, name) => getComputedStyle(e)[name]", name)
    return [int(part) for part in re.findall(r"\d+", text)[:3]]


def luminance(colour):
    """Return the relative luminance as WCAG 2.2 defines it."""
    parts = np.array(colour) / 255
    return float(np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])


def contrast(one, other):
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("family", ["matryoshka-2d", "sesa"])
def test_a_phone_needs_no_sideways_scrolling(open_page, family):
    page = open_page(family, ["a" * 300, *TEXTS], viewport={"width": 390, "height": 844})
    search(page, QUERY)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    sizes, results, texts = (
        page.locator(name).bounding_box()["y"] for name in ("#size-section", "#hits", "#texts-section")
    )
    assert results < sizes < texts
    small = page.evaluate(
        """() => [...document.querySelectorAll("button, select")].filter((e) => e.offsetParent && e.offsetHeight < 24).length"""
    )
    assert small == 0
