"""The form of a card: the same order in every family, figures first, at most two screens before the details, legible pictures."""

from __future__ import annotations

import math
import re
from typing import Any

import card_claims
import matplotlib.style
import pytest
from card_claims import RESULT, with_details, with_results
from card_folders import write_folder
from card_samples import write_sample
from markdown_it import MarkdownIt
from matplotlib.text import Text

import cards
from zoo import families
from zoo.card import plots, run_record, style

HEADINGS = ["At a glance", "Results", "Use", "Limits", "Details", "Citation"]
FOLDED = [
    "Speed, storage and memory",
    "How it was trained",
    "Data",
    "Mined hard negatives",
    "Settings",
    "Recipe, and how to train it again",
]
"""The folded parts that every family has, in order. Those of a family stand before them."""
SCREEN = 50  # lines
COLUMNS = 100  # characters of a line
PICTURE = 20  # lines that a picture takes
PHONE = 340  # pixels
MARKDOWN = MarkdownIt("commonmark").enable(["table"])


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of each family with its pictures, and its card without the front matter."""
    base = tmp_path_factory.mktemp("cards")
    written = {}
    for family in families.names():
        folder = write_sample(base / family, family)
        text = cards.write(folder).read_text(encoding="utf-8")
        written[family] = (folder, text.split("\n---\n", 1)[1])
    return written


@pytest.fixture(params=families.names())
def card(request, folders):
    return folders[request.param][1]


def split_folded(text: str) -> tuple[str, str]:
    """Return what a reader sees at once, and what is folded away."""
    parts = re.split(r"(<details>|</details>)", text)
    depth, shown, folded = 0, [], []
    for part in parts:
        depth += {"<details>": 1, "</details>": -1}.get(part, 0)
        assert depth >= 0
        (folded if depth or part == "</details>" else shown).append(part)
    assert depth == 0, "a folded part is not closed"
    return "".join(shown), "".join(folded)


def test_the_order_is_the_same_in_every_family(card):
    assert re.findall(r"^## (.*)$", card, re.MULTILINE) == HEADINGS
    summaries = re.findall(r"<summary>(.*?)</summary>", card)
    assert [summary for summary in summaries if summary in FOLDED] == FOLDED
    assert summaries[-len(FOLDED) :] == FOLDED


def test_a_part_without_content_is_left_out(tmp_path):
    text = cards.render(write_folder(tmp_path / "x", "static", results=[], lock={"data": {}}, recipe=False))
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == [name for name in HEADINGS if name != "Results"]
    assert re.findall(r"<summary>(.*?)</summary>", text) == ["Without zoo", "How it was trained"]


def test_the_score_is_the_first_thing_after_the_summary(card):
    paragraphs = [part.strip() for part in card.split("\n\n") if part.strip()]
    assert paragraphs[1].startswith("# ")
    assert paragraphs[2] == "Finds what belongs together."
    assert re.match(r"On \S+ this model scores \*\*0\.\d{4}\*\*", paragraphs[3])


def test_at_most_two_screens_stand_before_the_details(card):
    shown, _ = split_folded(card)
    lines = 0
    for line in shown.split("## Details")[0].splitlines():
        is_picture = line.startswith("![")
        lines += PICTURE if is_picture else math.ceil(len(line) / COLUMNS) if line.strip() else 0
    assert lines <= 2 * SCREEN


def test_settings_recipe_versions_and_fingerprints_are_folded_away(card):
    shown, folded = split_folded(card)
    for part in ("| `encoder.family` |", "batch_size: 64", "torch==2", "d" * 12, "sha256"):
        assert part in folded
        assert part not in shown


def test_markdown_in_folded_parts_is_rendered(card):
    tokens = MARKDOWN.parse(card)
    summaries = [token.content for token in tokens if token.type == "html_block" and "<summary>" in token.content]
    assert len(summaries) == card.count("<summary>")
    tables = [token for token in tokens if token.type == "table_open"]
    assert len(tables) == len(re.findall(r"^\|:?---", card, re.MULTILINE))


def test_sentences_are_short(card):
    """No sentence has more than 45 words, and nine of ten have at most 30."""
    text = re.sub(r"```.*?```", "", card, flags=re.DOTALL)
    prose = re.sub(r"^[|#<].*$|!\[.*?\]\(.*?\)", "", text, flags=re.MULTILINE)
    sentences = re.split(r"(?<=[.:;!?])\s|\n\n|\n(?=- )", prose)
    lengths = sorted(len(re.findall(r"\w[\w'.-]*", sentence)) for sentence in sentences if sentence.strip())
    assert lengths[-1] <= 45
    assert lengths[int(0.9 * len(lengths))] <= 30
    assert lengths[len(lengths) // 2] <= 18


@pytest.mark.parametrize("family", families.names())
def test_a_space_or_a_line_break_stands_between_sentences(family, tmp_path):
    """An inline `{% endif %}` at the end of a line swallows the line break."""
    claims = [*card_claims.load("base").CLAIMS, *card_claims.load(family).CLAIMS]
    parts = [part for claim in claims if claim.family == family for part in (claim.true, claim.false)]
    assert parts
    for number, part in enumerate(parts):
        text = cards.render(write_folder(tmp_path / str(number), family, **part))
        prose = re.sub(r"```.*?```|`[^`\n]*`|\]\(.*?\)", "c", text.split("\n---\n", 1)[1], flags=re.DOTALL)
        assert re.findall(r"\S*[a-z)\]*][.:;](?=[A-Z(*])\S*", prose) == [], part


def test_further_tasks_are_in_one_folded_part(tmp_path):
    results = [RESULT | {"task": f"task-{number}"} for number in range(36)]
    text = cards.render(write_folder(tmp_path / "x", "static", results=results))
    shown, folded = split_folded(text)
    assert "| Further tasks, under Details | 32 |" in shown
    for number in range(36):
        assert (f"### task-{number}\n" in shown) == (number == 0)
        assert (f"### task-{number}\n" in folded) == (number > 0)
    assert text.count("<summary>Further tasks</summary>") == 1


def test_a_long_list_of_cuts_is_folded_and_a_short_one_is_not(tmp_path):
    for count, is_folded in ((8, False), (9, True)):
        results = [RESULT | {"view": {"dim": number}} for number in range(1, count + 1)]
        text = cards.render(write_folder(tmp_path / str(count), "static", results=results))
        assert ("Every cut that was measured" in text) == is_folded


# -- pictures ----------------------------------------------------------------------------------------------------------


def draw_pictures(folder) -> dict[str, Any]:
    record = run_record.read(folder)
    with matplotlib.style.context(["default", style.STYLE]):
        pictures = plots.list_pictures(families.load_spec(record.zoo["family"]))
        return {name: figure for name, picture in pictures.items() if (figure := picture.draw(record))}


@pytest.mark.parametrize("family", families.names())
def test_text_in_pictures_is_legible_on_a_phone(family, folders):
    """Every text is at least 8 pixels high on a phone, and inside the picture; no picture is higher than two widths."""
    folder, _ = folders[family]
    with matplotlib.style.context(["default", style.STYLE]):
        for name, figure in draw_pictures(folder).items():
            assert figure.get_figwidth() == style.WIDTH
            assert figure.get_figheight() <= style.MAX_HEIGHT <= 2 * style.WIDTH
            figure.draw_without_rendering()
            width, height = figure.canvas.get_width_height()
            axes = [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]
            ticks = {
                tick.label1 for axis in axes for tick in axis.get_major_ticks()
            }  # those beyond the axes are not drawn
            for text in figure.findobj(Text):
                if not text.get_text().strip() or not text.get_visible():
                    continue
                assert text.get_fontsize() / 72 / style.WIDTH * PHONE >= 8, (name, text.get_text())
                box = text.get_window_extent()
                inside = box.x0 >= -1 and box.x1 <= width + 1 and box.y0 >= -1 and box.y1 <= height + 1
                assert inside or text in ticks, (name, text.get_text())


def test_every_picture_of_a_family_has_a_sample(folders):
    for family, (folder, _) in folders.items():
        assert families.load_spec(family).pictures.keys() <= draw_pictures(folder).keys()


def test_alternative_texts_say_a_figure_of_the_record(card, folders):
    pictures = re.findall(r"!\[(.*?)\]\((plots/.*?)\)", card)
    assert pictures
    for text, path in pictures:
        assert re.search(r"\d", text), path
        assert text.endswith("."), path


def describe(tmp_path, family: str, name: str, **parts: Any) -> str:
    record = run_record.read(write_folder(tmp_path / "model", family, **parts))
    return plots.list_pictures(families.load_spec(family))[name].describe(record)


CUTS = [
    RESULT
    | {"view": {"layers": layers, "dim": dim}, "value": layers / 8 + dim / 64, "sentences_per_second": 12 / layers}
    for layers in (1, 2)
    for dim in (8, 16)
]
SHARED_FINDINGS: list[tuple[str, dict[str, Any], str]] = [
    ("grid", {"results": CUTS}, "t: from 0.2500 (1 layer · 8) to 0.5000 (2 layers · 16). "),
    ("grid", {"results": CUTS}, "Training changed the cuts by +0.0000 to +0.2500."),
    (
        "quality-speed",
        {"results": CUTS},
        "t: 1 layer · 16 is 2.00 times as fast as 2 layers · 16, and scores 0.3750 instead of 0.5000.",
    ),
    (
        "loss",
        {"metrics": [{"step": step, "loss": 4.0 / step} for step in (1, 2, 4)]},
        "Loss of the training: 3.0000 at step 1, 1.5000 at step 4.",
    ),
    (
        "loss",
        {"metrics": [{"step": step, "validation_loss": 2.0 + abs(step - 2)} for step in (1, 2, 3)]},
        "The validation loss is lowest at step 2, 2.0000.",
    ),
    (
        "loss",
        {"metrics": [{"step": step, "validation_score": 0.5 - abs(step - 2) / 4} for step in (1, 2, 3)]},
        "The validation score is highest at step 2, 0.5000.",
    ),
]
SHARED_FINDINGS += [
    (
        "health",
        {
            "results": [
                RESULT
                | {
                    "type": "diagnose",
                    "view": {"dim": 8},
                    "details": {"variances": [[1, 0.25], [2, 0.125]], "dimensions": [[1, 6.5, 0.1], [2, 9.25, 0.1]]},
                }
            ],
            "metrics": [{"step": step, "space": {"rankme": 8.0 + step}} for step in (0, 10)],
        },
        "8 dims: the first direction has 25.0 % of the variance; intrinsic dimension 6.5 among nearest neighbours, 9.2 at large "
        "scale. Rankme: 8 at step 0, 18 at step 10.",
    )
]
FINDINGS = [("static", *finding) for finding in SHARED_FINDINGS] + [
    (family, *finding) for family in families.names() for finding in getattr(card_claims.load(family), "FINDINGS", [])
]


@pytest.mark.parametrize(("family", "name", "parts", "finding"), FINDINGS)
def test_an_alternative_text_is_computed_from_the_record(family, name, parts, finding, tmp_path):
    assert finding in describe(tmp_path, family, name, **parts)


def test_every_picture_is_among_the_findings():
    own = {(family, name) for family in families.names() for name in families.load_spec(family).pictures}
    assert own <= {(family, name) for family, name, *_ in FINDINGS}


@pytest.mark.parametrize("junk", [None, 7, "x", [], [1, 2, 3], [[]], {"documents": 3}, [{"label": 1}]])
def test_a_record_of_a_stranger_does_not_stop_the_card(junk, tmp_path):
    names = ("gram", "values", "usage", "sizes", "traversal", "pairs", "deletion", "error", "coherence")
    details = dict.fromkeys(
        (
            "variances",
            "dimensions",
            "remarks",
            "confusion",
            "classes",
            "calibration",
            "nmi",
            "sources",
            "active",
            "retrieved",
        ),
        junk,
    )
    for family in families.names():
        pictures = [*families.load_spec(family).pictures, *plots.SHARED]
        facts = {"facts": {"map": junk, **dict.fromkeys(names, junk)}} if family != "latent-quantized" else {}
        folder = write_folder(tmp_path / family, family, plots=pictures, **facts, **with_details(**details))
        assert "plots/loss.png" in cards.render(folder)


def test_a_name_in_an_alternative_text_cannot_break_the_card(tmp_path):
    hostile = "x](javascript:alert(1)) ![y](http://z) <img src=q> `"
    parts = with_results(task=hostile)["results"]
    results = [parts[0] | {"view": {"layers": n, "dim": d}, "value": n / d} for n in (1, 2) for d in (4, 8)]
    folder = write_folder(tmp_path / "x", "static", results=results, plots=["grid"])
    body = cards.render(folder).split("\n---\n", 1)[1]
    tokens = [child for token in MARKDOWN.parse(body) for child in token.children or []]
    images = [token for token in tokens if token.type == "image"]
    assert [image.attrs["src"] for image in images] == ["plots/grid.png"]
    assert not [token for token in tokens if token.type == "html_inline"]
