"""A card becomes HTML that runs nothing, loads nothing from elsewhere, and shows no file outside the model folder."""

from __future__ import annotations

import base64
import re

import numpy as np
import pytest
import serving

from zoo.core.errors import ArtefactError
from zoo.serve import card_html

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "text <b onclick=alert(1)>bold</b>",
    "<details ontoggle=alert(1) open>",
    "<svg><script>alert(1)</script></svg>",
    "[link](javascript:alert(1))",
    "[link](JaVaScRiPt:alert(1))",
    "[link](data:text/html;base64,AAAA)",
    "![picture](javascript:alert(1))",
    '![picture](x" onerror="alert(1))',
    "<a href='javascript:alert(1)'>link</a>",
    "<iframe src=//example.org></iframe>",
    "<style>*{background:url(//example.org)}</style>",
    "<!-- --><script>alert(1)</script><!-- -->",
    "<scr<!-- -->ipt>alert(1)</script>",
    "| a | b |\n|--|--|\n| <img src=x onerror=alert(1)> | b |",
]
TAG = re.compile(r"<[^>]*>")
SAFE_TAG = re.compile(
    r"</?(?:p|h[3-6]|b|i|em|strong|sub|sup|kbd|br|hr|code|pre|ul|ol|li|s|blockquote|details|summary|table|thead|tbody|tr)(?: /)?>"
    r"|</?t[hd](?: class=\"(?:left|right|center)\")?>|</a>|<a href=\"(?:https?://|#)?[^\":<>]*\">|<code class=\"language-\w+\">"
)


@pytest.fixture
def model_folder(tmp_path):
    (tmp_path / "plots").mkdir()
    data = base64.b64decode(serving.make_data_url(np.zeros((2, 2), np.uint8)).split(",")[1])
    (tmp_path / "plots" / "loss.png").write_bytes(data)
    return tmp_path


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_markup_becomes_text(text, tmp_path):
    html = card_html.render_markdown(text, tmp_path)
    assert all(SAFE_TAG.fullmatch(tag) for tag in TAG.findall(html)), html


def test_markdown_and_folded_parts_are_shown(model_folder):
    text = "# Model\n\n<details><summary>All figures</summary>\n\n| a | b |\n|:--|--:|\n| 1 | 2 |\n\n</details>\n"
    html = card_html.render_markdown(text, model_folder)
    assert "<h3>Model</h3>" in html
    assert "<details><summary>All figures</summary>" in html
    assert html.rstrip().endswith("</details>")
    assert '<td class="right">2</td>' in html


def test_pictures_of_the_folder_travel_inside_and_others_are_named(model_folder):
    html = card_html.render_markdown("![loss](plots/loss.png) ![far](https://example.org/a.png)", model_folder)
    assert 'src="data:image/png;base64,' in html
    assert "<em>far</em>" in html
    assert "example.org" not in html


@pytest.mark.parametrize(
    "name", ["../secret.png", "/etc/secret.png", "plots/../../secret.png", "secret.txt", "C:secret.png"]
)
def test_no_file_outside_the_folder_is_shown(model_folder, name):
    (model_folder.parent / "secret.png").write_bytes(b"secret")
    (model_folder / "secret.txt").write_bytes(b"secret")
    assert card_html.read_picture(model_folder, name) is None


def test_a_link_that_leaves_the_folder_is_refused(model_folder, tmp_path_factory):
    secret = tmp_path_factory.mktemp("other") / "secret.png"
    secret.write_bytes(b"secret")
    (model_folder / "plots" / "own.png").symlink_to(secret)
    (model_folder / "README.md").write_text("![own](plots/own.png)")
    with pytest.raises(ArtefactError, match="link"):
        card_html.render_card(model_folder)


def test_the_front_matter_is_left_out(model_folder):
    (model_folder / "README.md").write_text("---\nlicense: mit\n---\n\n# Model\n\n---\n\nmore\n")
    html = card_html.render_card(model_folder)
    assert "license" not in html
    assert "more" in html


def test_a_folder_without_a_card_has_none(tmp_path):
    assert not card_html.has_card(tmp_path)
    assert card_html.render_card(tmp_path) == card_html.render_card(None) == ""
