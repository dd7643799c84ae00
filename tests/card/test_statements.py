"""A card says only what is so: a statement is there if it is true and not there if it is false, and none lacks a test."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import re
from importlib import metadata
from pathlib import Path

import card_claims
import jinja2
import pytest
from card_claims import ADVICE, TESTS, Claim
from card_folders import render_card, write_folder
from card_statements import CARDS, Statement, list_statements, normalise
from jinja2 import nodes

import cards
from zoo import families
from zoo.card.markdown import DASH
from zoo.card.run_record import Record

TEMPLATES = sorted(path.stem for path in CARDS.glob("*.md"))
GAPS = re.compile(
    rf"^[^|\n].*{DASH}.*"  # prose with the dash of an absent number or list
    rf"|^\| [^|]* \| (?:{DASH}|None)? *\|$"  # a row of two cells without a value
    r"|\]\(\)|.*: [.,;)].*|.*[:,] None\b.*|It is ``? at|.*starts from ?\.?$",
    flags=re.MULTILINE,
)
"""What a statement looks like whose value is missing."""
CLAIMS: list[Claim] = [claim for template in TEMPLATES for claim in card_claims.load(template).CLAIMS]


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: f"{claim.family}: {claim.sentences[0][:50]}")
def test_a_statement_is_there_only_if_it_is_true(claim, tmp_path):
    cards_of_claim = [
        cards.render(write_folder(tmp_path / name, claim.family, **parts))
        for name, parts in (("true", claim.true), ("false", claim.false))
    ]
    true_card, false_card = map(normalise, cards_of_claim)
    for sentence in claim.sentences:
        assert sentence in true_card
        assert sentence not in false_card
    for card in cards_of_claim:
        assert not GAPS.findall(card), "a statement without its value"


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_statement_of_a_template_has_a_test(template):
    claimed = [s for claim in CLAIMS if template in ("base", claim.family) for s in claim.sentences]
    proven = [s for sentences, _ in card_claims.load(template).PROOFS for s in sentences]
    advice = [s for sentences, proof in card_claims.load(template).PROOFS for s in sentences if proof == ADVICE]
    missing = [
        statement.text
        for statement in list_statements(f"{template}.md")
        if not _is_covered(statement, [*claimed, *advice] if statement.is_conditional else proven)
    ]
    assert not missing, f"cards/{template}.md: give these a claim or a proof, see tests/support/card_claims.py"


def _is_covered(statement: Statement, sentences: list[str]) -> bool:
    text = re.sub(r"^(?=\w)|(?<=\w)$", r"\\b", re.escape(statement.text))
    return any(re.search(text, sentence) for sentence in sentences) or any(
        len(sentence.split()) > 2 and sentence in statement.text for sentence in sentences
    )


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_proof_is_a_test_that_exists_of_a_statement_that_exists(template):
    source = normalise(" ".join(statement.text for statement in list_statements(f"{template}.md")))
    for sentences, proof in card_claims.load(template).PROOFS:
        assert not [sentence for sentence in sentences if normalise(sentence) not in source]
        if proof != ADVICE:
            path, name = proof.split("::")
            assert name in _list_tests(path), proof


@functools.cache
def _list_tests(path: str) -> set[str]:
    tree = ast.parse((TESTS / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_a_new_sentence_without_a_test_is_noticed():
    statement = Statement("static.md", "It is the best model of all.", is_conditional=False)
    assert not _is_covered(statement, [s for sentences, _ in card_claims.load("static").PROOFS for s in sentences])


# -- statements that are the same on all cards -------------------------------------------------------------------------


def test_the_package_has_the_name_that_cards_give():
    assert "embedding-zoo" in metadata.packages_distributions()["zoo"]


def test_a_card_does_not_say_how_to_install_what_is_not_published(tmp_path):
    for family in families.names():
        assert "pip install" not in render_card(tmp_path / family, family)


def test_no_language_is_claimed_that_the_author_did_not_give(tmp_path):
    text = cards.render(write_folder(tmp_path / "model", "static"))
    assert "Language" not in text
    assert "language:" not in text.split("\n---\n")[0]


# -- code on cards -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", families.names())
def test_the_calls_in_the_code_of_a_card_exist(family):
    encoder_class, calls = families.load_encoder(family), _list_calls(family)
    assert calls
    for name, argument_count, keywords in calls:
        signature = inspect.signature(getattr(encoder_class, name))
        signature.bind_partial(None, *[None] * argument_count, **dict.fromkeys(keywords))


def _list_calls(family: str) -> list[tuple[str, int, list[str]]]:
    """The methods that the Python blocks of a template call on an encoder: name, number of arguments, keywords."""
    source = (CARDS / f"{family}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", source, flags=re.DOTALL | re.MULTILINE)
    code = "".join(blocks).replace("{{cut_arguments}}", "dim=2").replace("{{sample}}", "[text]")
    tree = ast.parse(re.sub(r"{%.*?%}", "", re.sub(r"{{.*?}}", "8", code)))
    return [
        (node.func.attr, len(node.args), [str(keyword.arg) for keyword in node.keywords])
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _is_encoder(node.func.value)
    ]


def _is_encoder(node: ast.expr) -> bool:
    """Whether an expression is a variable that holds an encoder, or a view of one."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Attribute) and node.func.attr in ("view", "truncate")
    return isinstance(node, ast.Name) and node.id in ("encoder", "view", "small")


# -- values that templates read ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_value_that_a_template_reads_exists(template):
    names = {"facts": set(), "spec": set(), "record": {field.name for field in dataclasses.fields(Record)}}
    for family in families.names() if template == "base" else [template]:
        spec_class = families.load_spec(family)
        names["spec"] |= spec_class.model_fields.keys()
        for base in spec_class.__mro__[:-1]:
            folder = Path(inspect.getfile(base)).parent
            names["facts"] |= {word for path in folder.glob("*.py") for word in _list_strings(path)}
    tree = jinja2.Environment().parse((CARDS / f"{template}.md").read_text(encoding="utf-8"))
    read = {(n.node.name, n.attr) for n in tree.find_all(nodes.Getattr) if isinstance(n.node, nodes.Name)}
    unknown = {f"{owner}.{name}" for owner, name in read if owner in names and name not in names[owner]}
    assert not unknown, "a sentence that reads these is never shown"


@functools.cache
def _list_strings(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {str(node.value) for node in ast.walk(tree) if isinstance(node, ast.Constant)}
