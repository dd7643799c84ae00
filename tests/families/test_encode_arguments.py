"""The arguments of `encode`, the names of sentence-transformers, and what is no list of inputs, for every family."""

from __future__ import annotations

import inspect
import os
import time
import warnings

import contract as properties
import datasets
import numpy as np
import pandas
import pyarrow
import pytest
import torch

import zoo
from zoo import families
from zoo.core import forks
from zoo.core.errors import ZooError


@pytest.fixture(scope="module", params=families.names())
def encoder(request, tmp_path_factory):
    """A trained tiny encoder; its inputs are in `inputs`."""
    contract = properties.load_contract(request.param, tmp_path_factory.mktemp(request.param))
    trained = properties.measure_learning(contract, contract.folder / "run").encoder
    trained.inputs, trained.a_view = contract.inputs, contract.view
    return trained


def text_encoder(encoder):
    if encoder.modalities != ("text",):
        pytest.skip("the family does not read texts alone")
    return encoder


# -- inputs ------------------------------------------------------------------------------------------------------------


NO_LISTS = {
    "text": "one bare text",
    "bytes": b"bytes",
    "bytearray": bytearray(b"bytes"),
    "mapping": {"text": ["a", "b"], "id": [1, 2]},
    "dataset-dict": datasets.DatasetDict({"train": datasets.Dataset.from_dict({"text": ["a"]})}),
    "set": {"a", "b"},
    "frozenset": frozenset("ab"),
    "pandas": pandas.DataFrame({"text": ["a", "b", "c"], "id": [1, 2, 3]}),
    "pyarrow": pyarrow.table({"text": ["a", "b"]}),
    "dataset": datasets.Dataset.from_dict({"text": ["a", "b"]}),
    "iterable-dataset": datasets.Dataset.from_dict({"text": ["a", "b"]}).to_iterable_dataset(),
    "number": 3,
    "none": None,
    "array-without-axis": np.array("a"),
}


@pytest.mark.parametrize("name", NO_LISTS)
def test_what_is_no_list_of_inputs_is_refused_with_words(name, encoder):
    for use in (encoder.encode, lambda inputs: next(encoder.stream(inputs)), encoder.encode_query):
        with pytest.raises(ZooError, match="takes a list of"):
            use(NO_LISTS[name])


@pytest.mark.parametrize("item", [["a", "b"], ("a", "b"), b"a", 3, None, float("nan"), np.array(["a"]), {"text": "a"}])
def test_an_item_that_is_no_text_is_refused_with_its_position(item, encoder):
    encoder = text_encoder(encoder)
    for inputs in (["one", item], iter(["one", item])):
        with pytest.raises(ZooError, match="input 1 is .*expected a string"):
            encoder.encode(inputs)
        break


def test_columns_of_tables_are_lists_of_texts(encoder):
    encoder = text_encoder(encoder)
    texts = [str(text) for text in encoder.inputs[:5]]
    table = datasets.Dataset.from_dict({"text": texts})
    forms = [
        pandas.Series(texts),
        pandas.Series(texts, index=range(9, 4, -1)),
        pandas.Series(texts, dtype="category"),
        np.array(texts),
        np.array(texts, dtype=object),
        pyarrow.array(texts),
        pyarrow.chunked_array([texts[:2], texts[2:]]),
        table["text"],
        table.to_iterable_dataset()["text"],
        dict.fromkeys(texts).keys(),
        tuple(texts),
        (text for text in texts),
    ]
    expected = encoder.encode(texts)
    for form in forms:
        if len(set(texts)) < len(texts) and isinstance(form, type({}.keys())):
            continue
        vectors = encoder.encode(form)
        np.testing.assert_allclose(vectors, expected, atol=1e-6, err_msg=str(type(form)))


LIST_WORDS = ("Iterable[", "Sequence[")
FOR_TRAINING = ("list_token_ids", "collate", "views_sharing_a_pass", "parameter_groups")


def list_methods_of_lists(encoder):
    """Public methods whose first list is of inputs, with what comes before it."""
    for name, method in inspect.getmembers(encoder, inspect.ismethod):
        parameters = list(inspect.signature(method).parameters.values())
        if (
            name.startswith("_")
            or name in FOR_TRAINING
            or (inspect.ismethod(method) and isinstance(method.__self__, type))
        ):
            continue
        if parameters and str(parameters[0].annotation).startswith(LIST_WORDS):
            yield name, method


def consume(result):
    """Run a generator, which checks nothing before its first item is asked for."""
    if inspect.isgenerator(result):
        list(result)


def test_every_method_that_takes_a_list_refuses_a_bare_string(encoder):
    names = []
    for name, method in list_methods_of_lists(encoder):
        names.append(name)
        others = [
            ["a"]
            for parameter in list(inspect.signature(method).parameters.values())[1:]
            if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        ]
        with pytest.raises(ZooError, match="list|has no|have no|only variant|not know|no classes"):
            consume(method("one bare text", *others))
    assert {"encode", "stream", "encode_query", "encode_document"} <= set(names)


# -- views -------------------------------------------------------------------------------------------------------------


def test_a_view_with_a_value_of_the_wrong_type_is_refused_by_name(encoder):
    fields = type(encoder.spec).View.model_fields
    for name, field in fields.items():
        is_text = "str" in str(field.annotation) and "dict" not in str(field.annotation)
        is_truth = "bool" in str(field.annotation)
        wrong = [1, 1.5, True, [1]] if is_text else ["x", 1.5, [1], {"x": "y"}]
        if not is_text:
            wrong += [1, "true"] if is_truth else ["3", True, -1, 0]
        for value in wrong:
            if name == "edit" and value in (0, {}):
                continue
            with pytest.raises(ZooError, match=name):
                encoder.view(**{name: value})
    with pytest.raises(ZooError, match=f"unheard: the family {encoder.spec.family} has"):
        encoder.view(unheard=1)
    assert repr(encoder.view(**dict.fromkeys(fields))) == repr(encoder.view())


def test_a_number_of_numpy_is_a_number(encoder):
    view = {name: np.int64(value) if type(value) is int else value for name, value in encoder.a_view.items()}
    np.testing.assert_array_equal(
        encoder.view(**view).encode(encoder.inputs[:2]), encoder.view(**encoder.a_view).encode(encoder.inputs[:2])
    )


# -- sentence-transformers ---------------------------------------------------------------------------------------------


def test_the_arguments_of_sentence_transformers_mean_the_same(encoder):
    inputs = encoder.inputs[:7]
    vectors = encoder.encode(inputs)
    for batch_size in (1, 3, 100):
        np.testing.assert_allclose(encoder.encode(inputs, batch_size=batch_size), vectors, atol=1e-5)
    assert encoder.encode([], batch_size=2).shape == (0, *vectors.shape[1:])
    further = {"show_progress_bar": None, "device": "cpu", "output_value": "sentence_embedding"}
    tensor = encoder.encode(inputs, convert_to_tensor=True, **further)
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_array_equal(tensor.numpy(), vectors)
    rows = encoder.encode(inputs, convert_to_numpy=False)
    assert isinstance(rows, list)
    assert torch.equal(torch.stack(rows), tensor)
    if vectors.dtype.kind == "f":
        unit = encoder.encode(inputs, normalize_embeddings=True)
        np.testing.assert_allclose(np.linalg.norm(unit, axis=1), np.linalg.norm(vectors, axis=1) > 0, atol=1e-5)
    else:
        with pytest.raises(ZooError, match="codes"):
            encoder.encode(inputs, normalize_embeddings=True)
    np.testing.assert_array_equal(encoder.encode(inputs, precision="float32"), vectors)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": "8"}, "batch_size"),
        ({"batchsize": 8}, "did you mean batch_size"),
        ({"show_progress": True}, "show_progress_bar"),
        ({"truncate_dim": 8}, "view"),
        ({"output_value": "token_embeddings"}, "one vector"),
        ({"precision": "uint8"}, "quantize_embeddings"),
        ({"precision": "fp8"}, "fp8"),
        ({"device": "nowhere"}, "device"),
        ({"prompt_name": "passage"}, "prompt_name"),
        ({"prompt_name": "query", "prompt_type": "document"}, "differ"),
        ({"prompt": 3}, "prompt"),
    ],
)
def test_what_means_something_else_here_is_told_by_name(options, words, encoder):
    with pytest.raises(ZooError, match=words):
        encoder.encode(encoder.inputs[:1], **options)


def test_a_prompt_is_put_before_each_text(encoder):
    encoder = text_encoder(encoder)
    texts = [str(text) for text in encoder.inputs[:3]]
    expected = encoder.encode([f"the man {text}" for text in texts])
    np.testing.assert_allclose(encoder.encode(texts, prompt="the man "), expected, atol=1e-6)
    np.testing.assert_allclose(encoder.encode(iter(texts), prompt="the man "), expected, atol=1e-6)
    np.testing.assert_allclose(encoder.encode_query(texts, prompt="the man "), expected, atol=1e-6)


def test_queries_and_documents_get_their_prompts(encoder):
    inputs = encoder.inputs[:3]
    for role, encode in (("query", encoder.encode_query), ("document", encoder.encode_document)):
        expected = encoder.encode(inputs, **({"prompt_name": role} if encoder.has_roles else {}))
        np.testing.assert_array_equal(encode(inputs), expected)
    if not encoder.has_roles:
        with pytest.raises(ZooError, match="has no prompts"):
            encoder.encode(inputs, prompt_name="query")


def test_similarities_are_those_of_the_vectors(encoder):
    vectors = encoder.encode(encoder.inputs[:4])
    similarities = encoder.similarity(vectors, vectors[:3])
    assert similarities.shape == (4, 3)
    for i in range(4):
        for j in range(3):
            a, b = vectors[i].astype(np.float64), vectors[j].astype(np.float64)
            if encoder.similarity_fn_name == "hamming":
                expected = -float(np.unpackbits(vectors[i] ^ vectors[j]).sum())
            else:
                expected = a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12)
            assert similarities[i, j].item() == pytest.approx(expected, abs=1e-5)
    pairs = encoder.similarity_pairwise(vectors[:3], vectors[1:])
    torch.testing.assert_close(pairs, encoder.similarity(vectors[:3], vectors[1:]).diagonal())
    one = encoder.similarity(torch.from_numpy(vectors[0]), list(torch.from_numpy(vectors)))
    torch.testing.assert_close(one, encoder.similarity(vectors[:1], vectors))
    for wrong in (["a text"], np.zeros((2, 2, 2)), np.zeros((1, vectors.shape[1] + 1), vectors.dtype)):
        with pytest.raises(ZooError):
            encoder.similarity(vectors, wrong)


def test_an_encoder_says_what_it_is_and_where_it_is(encoder):
    encoder.name = "my\x1b[31mmodel"
    text = repr(encoder)
    for part in (encoder.spec.family, str(encoder.dim), encoder.similarity_fn_name, encoder.modalities[0]):
        assert part in text
    assert "\x1b" not in text
    assert encoder.to("cpu") is encoder
    assert encoder.device == torch.device("cpu")
    for name, value in encoder.view(**encoder.a_view).view_options.items():
        assert f"{name}={value!r}" in repr(encoder.view(**encoder.a_view))
    with pytest.raises(ZooError, match="device"):
        encoder.to("nowhere")
    encoder.name = "encoder"


def test_a_saved_encoder_opens_again_and_no_other_folder_is_replaced(encoder, tmp_path):
    for saved in (encoder, encoder.view(**encoder.a_view)):
        try:
            path = saved.save_pretrained(str(tmp_path / "model"))  # the second call replaces the first folder
        except ZooError as error:
            assert saved is not encoder
            assert "cannot hold the view" in str(error)  # noqa: PT017 - only some families refuse
            continue
        np.testing.assert_allclose(
            zoo.from_pretrained(path).encode(encoder.inputs), saved.encode(encoder.inputs), atol=1e-5
        )
    modes = {file.stat().st_mode & 0o777 for file in (tmp_path / "model").rglob("*") if file.is_file()}
    (tmp_path / "ordinary").touch()
    assert modes == {(tmp_path / "ordinary").stat().st_mode & 0o777}
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter").write_text("dear")
    for place in (tmp_path / "home", str(tmp_path / "home" / "letter")):
        with pytest.raises(ZooError):
            encoder.save(place)
    assert (tmp_path / "home" / "letter").read_text() == "dear"


# -- forks -------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_encodes_instead_of_waiting_for_ever(encoder):
    """torch's threads do not survive a fork. With more than one, a child that shares out an operation never ends."""
    inputs = encoder.inputs * 20
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        expected = encoder.encode(inputs)
        a = torch.rand(512, 512)
        (a @ a).sum()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    vectors = encoder.encode(inputs)
                    (a @ a).sum()
                    status = 0 if np.allclose(vectors, expected, atol=1e-5) else 2
                finally:
                    os._exit(status)
        assert wait(child, seconds=60) == 0
    finally:
        torch.set_num_threads(threads)


def wait(child, seconds):
    """Return the exit status of a child process, or None after killing it if it does not end in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return None


def test_a_forked_child_is_told_once_how_to_use_more_threads(monkeypatch):
    monkeypatch.setattr(forks, "_warns_at_next_use", True)
    with pytest.warns(UserWarning, match="'spawn'"):
        assert forks.find_problem(uses_gpu=False) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert forks.find_problem(uses_gpu=False) is None
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    assert "'spawn'" in forks.find_problem(uses_gpu=True)


def test_a_progress_bar_goes_to_stderr(encoder, capsys, monkeypatch):
    encoder.encode(encoder.inputs[:2], show_progress_bar=True)
    assert not capsys.readouterr().out
