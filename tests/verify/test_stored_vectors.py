"""Stored vectors that a model does not make are named with their fault, and those that it makes are not accused."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import tiny_dense

from zoo.artefact import model_folder
from zoo.cli.main import main
from zoo.core.errors import ZooError
from zoo.verify.stored_vectors import COMPARED, compare

TEXTS = [*tiny.SENTENCES[:60], " ".join(tiny.SENTENCES[:6])]
PROMPTS = {"query": "the red ", "document": "a big "}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return tiny_dense.build(tmp_path_factory.mktemp("stored"), prompts=PROMPTS)


@pytest.mark.parametrize("seed", range(10))
def test_a_wrong_prompt_is_named_and_the_right_one_is_not_accused(encoder, seed):
    as_queries = encoder.encode_query(TEXTS)
    assert compare(encoder, as_queries, TEXTS, seed=seed).findings == ()
    assert compare(encoder, encoder.encode(TEXTS), TEXTS, seed=seed).findings == ()
    (swapped,) = compare(encoder, as_queries, TEXTS, role="document", seed=seed).findings
    assert "'the red ' stands before each text instead of 'a big '" in swapped.message


def test_a_doubled_and_a_missing_prompt_are_named(encoder):
    doubled = encoder.encode(["the red the red " + text for text in TEXTS])
    (twice,) = compare(encoder, doubled, TEXTS, role="query").findings
    assert "'the red ' stands before each text twice" in twice.message
    (missing,) = compare(encoder, encoder.encode(TEXTS), TEXTS, role="query").findings
    assert "the prompt 'the red ' is missing" in missing.message


def test_the_role_that_fits_is_said(encoder):
    assert "which encoded each as a query" in compare(encoder, encoder.encode_query(TEXTS), TEXTS).note
    assert "which encoded each (" in compare(encoder, encoder.encode(TEXTS), TEXTS).note


def test_a_few_inputs_and_the_longest_one_are_compared(encoder):
    vectors = encoder.encode(TEXTS)
    assert compare(encoder, vectors, TEXTS).verdict.count in (COMPARED, COMPARED + 1)
    vectors[-1] = encoder.encode([TEXTS[-1][:20]])[0]
    assert compare(encoder, vectors, TEXTS).findings, "the longest text was cut"


def test_vectors_of_another_model_are_named(encoder, tmp_path):
    other = tiny_dense.build(tmp_path, "roberta")
    (finding,) = compare(encoder, other.encode(TEXTS), TEXTS).findings
    assert "these are not the vectors of" in finding.message


def test_a_role_that_the_encoder_lacks_is_refused(encoder):
    class Plain:
        has_roles = False
        spec = encoder.spec

    with pytest.raises(ZooError, match="--prompt: the family dense has no prompts"):
        compare(Plain(), np.ones((3, 4)), ["a", "b", "c"], role="query")


def test_the_verb_names_the_prompt_of_a_file(encoder, tmp_path, capsys):
    model = str(model_folder.save(encoder, tmp_path / "model"))
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS) + "\n")
    file, texts = str(tmp_path / "vectors.npy"), str(tmp_path / "texts.txt")
    np.save(file, encoder.encode_query(TEXTS))
    words = ["diagnose", file, "--of", model, "--data", texts]
    assert main([*words, "--prompt", "document"]) == 0
    assert "'the red ' stands before each text instead of 'a big '" in capsys.readouterr().out
    assert main(words) == 0
    printed = capsys.readouterr()
    assert "these are not the vectors" not in printed.out
    assert "are those of the model, which encoded each as a query" in printed.err
    np.save(file, encoder.encode(TEXTS[:50]))
    assert main(words) == 1
    assert "has 50 vectors, and" in capsys.readouterr().err
    assert main(["diagnose", file, "--of", model]) == 1
    assert "--of: needs --data FILE" in capsys.readouterr().err
    assert main(["diagnose", model, "--of", model, "--data", texts]) == 1
    assert "name that file alone" in capsys.readouterr().err
    assert main(["diagnose", file, "--prompt", "query"]) == 1
    assert "belongs to --of MODEL" in capsys.readouterr().err
