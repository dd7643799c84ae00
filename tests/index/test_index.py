"""An index finds what an exact search over all vectors finds, whatever was added, removed and filtered."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest
from tiny_rows import make_rows

import zoo
from zoo import families
from zoo.core.errors import ArtefactError, DataError, ZooError
from zoo.index import changes, folder

QUERIES = ["a broken bone", "the red cat eats", "fever and cough"]


def rank(encoder, rows, query, keeps=lambda row: True, top=10):
    """The ids of the nearest rows, by plain matrix products."""
    chosen = [row for row in rows if keeps(row)]
    scores = encoder.encode_document([row["text"] for row in chosen]) @ encoder.encode_query([query])[0]
    return [chosen[place]["id"] for place in np.argsort(-scores, kind="stable")[:top]]


def ids(hits):
    return [hit.id for hit in hits]


def test_a_search_is_exact(index, encoder, rows):
    for query, hits in zip(QUERIES, index.search(QUERIES), strict=True):
        assert ids(hits) == rank(encoder, rows, query)
        assert hits[0].row["text"] == hits[0].text
        expected = encoder.encode_document([hits[0].text])[0] @ encoder.encode_query([query])[0]
        assert hits[0].score == pytest.approx(float(expected), abs=1e-5)


def test_a_filter_is_applied_inside_the_search(index, encoder, rows):
    where = 'year >= 2023 and lang = "en"'
    kept = [row for row in rows if (row["year"] or 0) >= 2023 and row["lang"] == "en"]
    assert 3 < len(kept) < 30
    for query in QUERIES:
        (hits,) = index.search([query], 50, where=where)
        assert ids(hits) == rank(encoder, kept, query, top=50)
        assert len(hits) == len(kept)


def test_columns_keep_their_types(index, rows):
    (hits,) = index.search(["cough"], len(rows))
    by_id = {hit.id: hit.row for hit in hits}
    for row in rows:
        assert by_id[row["id"]] == row


def test_rows_that_are_added_and_removed_are_found_as_if_they_had_been_there(encoder, rows, tmp_path):
    index = zoo.Index.build(encoder, rows[:100], tmp_path / "index")
    index.add(rows[100:250])
    assert index.remove(["r3", "r120", "r249"]) == 3
    index.add(rows[250:])
    left = [row for row in rows if row["id"] not in ("r3", "r120", "r249")]
    for _ in range(2):  # before and after the index is rewritten
        assert len(index) == len(left)
        for query in QUERIES:
            assert ids(index.search([query])[0]) == rank(encoder, left, query)
        index.compact()
        assert len(index.shards) == 1
        assert not len(index.removed)
    reopened = zoo.Index.open(tmp_path / "index", encoder)
    assert ids(reopened.search(["cough"])[0]) == rank(encoder, left, "cough")


def test_a_removed_id_may_be_added_again(index, rows):
    index.remove(["r7"])
    index.add([{**rows[7], "text": "a dog eats"}])
    (hits,) = index.search(["a dog eats"], 1)
    assert (hits[0].id, hits[0].text) == ("r7", "a dog eats")


@pytest.mark.parametrize("shard_rows", [64, 5000])
def test_the_number_of_shards_changes_no_result(encoder, rows, tmp_path, shard_rows):
    changes.build(encoder, rows, tmp_path / "index", changes.BuildRequest(shard_rows=shard_rows))
    index = zoo.Index.open(tmp_path / "index", encoder)
    assert len(index.shards) == -(-len(rows) // shard_rows)
    assert ids(index.search(["fever"], 40)[0]) == rank(encoder, rows, "fever", top=40)


def test_rows_without_ids_are_numbered_for_good(encoder, rows, tmp_path):
    plain = [{"text": row["text"]} for row in rows]
    index = zoo.Index.build(encoder, plain[:10], tmp_path / "index")
    index.remove(["9"])
    index.compact()
    index.add(plain[10:12])
    assert sorted(ids(index.search(["fever"], 20)[0]), key=int) == [*map(str, range(9)), "10", "11"]


def test_several_columns_are_joined_by_a_space(encoder, tmp_path):
    rows = [{"title": "a cat", "body": "runs"}, {"title": None, "body": "a dog eats"}]
    index = zoo.Index.build(encoder, rows, tmp_path / "index", text=["title", "body"])
    assert {hit.text for hit in index.search(["x"])[0]} == {"a cat runs", "a dog eats"}
    with pytest.raises(DataError, match="say which column to encode with --text; the columns of texts are title, body"):
        zoo.Index.build(encoder, rows, tmp_path / "other")


def test_a_hit_names_the_window_of_a_long_text(backbone, tmp_path):
    spec = families.load_spec("dense").model_validate({"family": "dense", "backbone": backbone})
    encoder = families.load_encoder("dense").build(spec)
    filler = " ".join(["the small red"] * 12)
    rows = [{"text": f"{filler} acute heart failure {filler}"}, {"text": "a man runs"}]
    index = zoo.Index.build(encoder, rows, tmp_path / "index", long="windows")
    windows = encoder.encode_windows([rows[0]["text"]])
    assert len(index.shards[0].vectors) == len(windows.vectors) + 1 > 3
    query = encoder.encode_query(["heart failure"])[0]
    best = int(np.argmax(windows.vectors @ query))
    (hits,) = index.search(["heart failure"], 5)
    assert len(hits) == 2  # a row is found once, although it has several windows
    by_id = {hit.id: hit for hit in hits}
    assert by_id["0"].place == tuple(windows.spans[best])
    index.add([{"text": f"{filler} fever"}])
    index.remove(["1"])
    index.compact()
    again = {hit.id: hit for hit in index.search(["heart failure"], 5)[0]}
    assert again["0"] == by_id["0"]
    assert set(again) == {"0", "2"}


def test_hybrid_search_joins_two_rankings(index, rows):
    word = rows[5]["text"].split()[0]
    (hits,) = index.search([rows[5]["text"]], 5, hybrid=True)
    assert hits[0].id == "r5"
    assert hits[0].score == pytest.approx(2 / 61)  # the first of both rankings
    (filtered,) = index.search([word], 300, hybrid=True, where="year = 2020")
    assert {hit.row["year"] for hit in filtered} == {2020}


# -- another encoder, another folder -----------------------------------------------------------------------------------


def test_another_encoder_is_refused(index, tmp_path, encoder):
    import tiny

    other = zoo.from_pretrained(tiny.backbone(tmp_path / "other", seed=1))
    with pytest.raises(ArtefactError, match="the weights are others"):
        zoo.Index.open(index.path, other)
    with pytest.raises(ArtefactError, match="the view is another|another number of components|the weights are others"):
        zoo.Index.open(index.path, encoder.view(dim=16))
    assert zoo.Index.open(index.path, encoder).encoder is encoder


def test_another_prompt_is_refused(index, encoder, monkeypatch):
    monkeypatch.setattr(type(encoder), "find_prompt", lambda self, role: "query: " if role == "query" else "")
    with pytest.raises(ArtefactError, match="the prompts are others"):
        zoo.Index.open(index.path, encoder)


def test_another_pooling_of_the_same_weights_is_refused(index, tmp_path):
    import tiny

    other = zoo.from_pretrained(tiny.backbone(tmp_path / "other", pooling="cls"))
    with pytest.raises(ArtefactError, match="encodes otherwise"):
        zoo.Index.open(index.path, other)


def test_an_index_opens_its_model_and_view_again(backbone, rows, tmp_path):
    view = zoo.from_pretrained(backbone).view(dim=16)
    zoo.Index.build(view, rows, tmp_path / "index", reference=backbone)
    index = zoo.Index.open(tmp_path / "index")
    assert ids(index.search(["fever"])[0]) == rank(view, rows, "fever")
    assert index.encoder.dim == 16


def test_a_saved_encoder_opens_the_index_that_it_built_in_memory(encoder, index, tmp_path):
    encoder.save(tmp_path / "model")
    reopened = zoo.Index.open(index.path, tmp_path / "model")
    assert ids(reopened.search(["fever"])[0]) == ids(index.search(["fever"])[0])


def test_an_altered_file_is_refused_before_it_is_read(index, monkeypatch):
    name = next(name for name in index.manifest.files if name.endswith(".vectors.npy"))
    content = bytearray((index.path / name).read_bytes())
    content[-1] ^= 1
    (index.path / name).write_bytes(content)
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("the file was read"))
    with pytest.raises(ArtefactError, match="sha256"):
        zoo.Index.open(index.path)


def test_an_index_from_the_hub_is_not_read(index, tmp_path, monkeypatch):
    with pytest.raises(ArtefactError, match="not read from the Hub"):
        zoo.Index.open("owner/name")
    (index.path / ".cache" / "huggingface").mkdir(parents=True)
    with pytest.raises(ArtefactError, match="from the Hub is never read"):
        zoo.Index.open(index.path)
    shutil.rmtree(index.path / ".cache")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ArtefactError, match="from the Hub is never read"):
        zoo.Index.open(index.path)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", ".hidden"])
def test_a_manifest_that_leaves_the_folder_is_refused(index, name):
    content = json.loads((index.path / folder.MANIFEST).read_text())
    content["parts"]["model"] = name
    (index.path / folder.MANIFEST).write_text(json.dumps(content))
    with pytest.raises(ArtefactError, match="is not a file of the folder"):
        zoo.Index.open(index.path)


def test_a_folder_with_other_files_is_never_touched(encoder, rows, index, tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "model.json").write_text("mine")
    with pytest.raises(ZooError, match="is not empty"):
        zoo.Index.build(encoder, rows, tmp_path / "own")
    assert (tmp_path / "own" / "model.json").read_text() == "mine"
    with pytest.raises(ZooError, match="holds an index"):
        zoo.Index.build(encoder, rows, index.path)
    (index.path / "notes.txt").write_text("mine")
    zoo.Index.build(encoder, rows[:50], index.path, replace=True)
    assert (index.path / "notes.txt").read_text() == "mine"
    assert len(zoo.Index.open(index.path)) == 50


def test_two_changes_at_once_are_refused(index, rows):
    other = zoo.Index.open(index.path, index.encoder)
    index.remove(["r1"])
    with pytest.raises(ZooError, match="was changed since it was opened"):
        other.remove(["r2"])
    with folder.change(index.path), pytest.raises(ZooError, match="another process"):
        index.remove(["r2"])


# -- rows that cannot be indexed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "there are no rows"),
        ([{"text": "a", "id": "1"}, {"text": " ", "id": "2"}], "row 2: text: there is no text"),
        ([{"text": "a", "id": "1"}, {"text": "b", "id": None}], "row 2: id: the id is empty"),
        (["a"], "row 1 is str"),
        ([{"n": 1}], "no column holds texts"),
    ],
)
def test_bad_rows_are_named_before_one_is_encoded(encoder, tmp_path, monkeypatch, rows, message):
    monkeypatch.setattr(type(encoder), "encode_document", lambda *_: pytest.fail("a row was encoded"))
    with pytest.raises(DataError, match=message):
        zoo.Index.build(encoder, rows, tmp_path / "index")
    assert not (tmp_path / "index" / folder.MANIFEST).exists()


def test_rows_that_do_not_fit_the_index_are_refused_before_one_is_encoded(index, monkeypatch):
    monkeypatch.setattr(type(index.encoder), "encode_document", lambda *_: pytest.fail("a row was encoded"))
    for rows, message in (
        ([{"id": "new", "text": "a", "year": "many"}], "row 1: year: is 'many'"),
        ([{"id": "r5", "text": "a"}], "'r5' is in the index already"),
        ([{"id": "x", "text": "a"}, {"id": "x", "text": "b"}], "row 2: the id 'x' occurs twice"),
        ([{"id": "x", "body": "a"}], "there is no column 'text'"),
    ):
        with pytest.raises(DataError, match=message):
            index.add(rows)
    assert len(index) == 300


def test_an_unknown_id_is_named(index):
    with pytest.raises(ZooError, match="no row with the id 'r9999'"):
        index.remove(["r1", "r9999"])
    assert len(index) == 300


def test_a_search_takes_a_list_and_a_number(index):
    with pytest.raises(ZooError, match="takes a list of queries"):
        index.search("fever")
    with pytest.raises(ZooError, match="top: 0"):
        index.search(["fever"], 0)


def test_the_wish_is_checked_before_anything_is_encoded(encoder, tmp_path, monkeypatch):
    pytest.importorskip("faiss")
    monkeypatch.setattr(type(encoder), "encode_document", lambda *_: pytest.fail("a row was encoded"))
    for options, message in (
        ({"budget": "many"}, "budget: 'many'"),
        ({"recall": 95}, "recall: 95"),
        ({"code": "float32", "budget": 64}, "leaves nothing to choose"),
        ({"long": "all"}, "long: 'all'"),
        ({"code": "model"}, "no step that makes codes"),
        ({"recall": 0.9}, "5 rows are too few"),
        ({"budget": 4, "count": 50}, "budget: 4 bytes are too few, because the smallest type takes"),
    ):
        rows = make_rows(options.pop("count", 5))
        with pytest.raises(ZooError, match=message):
            zoo.Index.build(encoder, rows, tmp_path / "index", **options)


def test_binary_codes_are_kept_as_bits_and_scored_by_their_distance(encoder, rows, tmp_path, monkeypatch):
    """An encoder of packed codes is a text encoder here whose signs are packed."""
    from zoo.ops import codes

    encode_document, encode_query = encoder.encode_document, encoder.encode_query
    monkeypatch.setattr(encoder, "similarity_fn_name", "hamming")
    monkeypatch.setattr(encoder, "encode_document", lambda inputs: codes.pack(encode_document(inputs)))
    monkeypatch.setattr(encoder, "encode_query", lambda inputs: codes.pack(encode_query(inputs)))
    index = zoo.Index.build(encoder, rows, tmp_path / "index")
    assert (index.codec.name, index.codec.bytes_per_vector) == ("bits", encoder.dim // 8)
    packed = encoder.encode_document([row["text"] for row in rows])
    distances = codes.compute_hamming_distances(encoder.encode_query(["fever"]), packed)[0]
    (hits,) = index.search(["fever"])
    assert [-hit.score for hit in hits] == sorted(distances)[:10]
    assert [hit.id for hit in hits] == [rows[place]["id"] for place in np.argsort(distances, kind="stable")[:10]]
    with pytest.raises(ZooError, match="binary codes, which are kept as they are"):
        zoo.Index.build(encoder, rows, tmp_path / "other", budget=64)


def test_a_first_build_that_was_killed_can_be_run_again(encoder, rows, tmp_path):
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / folder.LOCK).touch()
    (tmp_path / "index" / "shard-00001-001.rows.parquet").write_bytes(b"half")
    with pytest.raises(ArtefactError, match="its build was interrupted: run it again"):
        zoo.Index.open(tmp_path / "index")
    index = zoo.Index.build(encoder, rows, tmp_path / "index")
    assert len(index) == 300
    assert set(index.manifest.files) | {folder.MANIFEST, folder.LOCK} == {path.name for path in index.path.iterdir()}


def test_an_index_without_rows_finds_nothing_and_can_grow_again(index, rows):
    index.remove([row["id"] for row in rows])
    assert index.search(["fever"]) == [[]]
    index.compact()
    assert len(index) == 0
    assert index.search(["fever"], hybrid=True) == [[]]
    index.add(rows[:3])
    assert len(index.search(["fever"])[0]) == 3


def test_a_missing_faiss_is_said_before_anything_is_encoded(encoder, rows, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with monkeypatch.context() as patch:
        patch.setattr(type(encoder), "encode_document", lambda *_: pytest.fail("a row was encoded"))
        with pytest.raises(ZooError, match=r"pip install .*faiss.*--code float32"):
            zoo.Index.build(encoder, rows, tmp_path / "index", recall=0.9)
    assert len(zoo.Index.build(encoder, rows, tmp_path / "index", code="float32")) == 300
