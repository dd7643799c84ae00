"""BM25 from the counted words of an index gives the scores of bm25s, whatever was added, removed and rewritten."""

from __future__ import annotations

import bm25s
import numpy as np
import pytest

import zoo
from zoo.core.errors import ArtefactError
from zoo.index import changes, folder, words
from zoo.index.lexical import Lexical
from zoo.index.words import ShardWords, split_words

QUERIES = ["fever and cough", "a RED cat, the red cat", "nothing-of-this", ""]


def compute_oracle(texts, query):
    """The scores of bm25s over all texts at once."""
    corpus = [split_words(text) for text in texts]
    index = bm25s.BM25()
    index.index(corpus, show_progress=False)
    known = {word for text in corpus for word in text}
    asked = [word for word in dict.fromkeys(split_words(query)) if word in known]
    return np.asarray(index.get_scores(asked), np.float32) if asked else np.zeros(len(texts), np.float32)


def list_texts(index):
    names = [row["text"] for shard in index.shards for batch in shard.iterate_rows() for row in batch.to_pylist()]
    return [name or "" for name in names]


def check_scores(index):
    texts = list_texts(index)
    for query in QUERIES:
        np.testing.assert_allclose(index.lexical.compute_scores(query), compute_oracle(texts, query), rtol=1e-6)


@pytest.mark.parametrize("shard_rows", [37, 5000])
def test_scores_are_those_of_bm25s_after_every_change(encoder, rows, tmp_path, shard_rows):
    changes.build(encoder, rows[:200], tmp_path / "index", changes.BuildRequest(shard_rows=shard_rows))
    index = zoo.Index.open(tmp_path / "index", encoder)
    assert len(index.shards) == -(-200 // shard_rows)
    check_scores(index)
    index.add(rows[200:])
    assert index.lexical.count == 300
    check_scores(index)
    index.remove(["r3", "r250"])
    check_scores(index)
    index.compact()
    assert index.lexical.count == 298
    check_scores(index)


def test_no_text_is_read_for_a_hybrid_search(index, encoder, monkeypatch):
    (before,) = index.search(["fever and cough"], 5, hybrid=True)
    monkeypatch.setattr(words, "write_words", None)
    monkeypatch.setattr(words, "read_texts", None)
    again = zoo.Index.open(index.path, encoder)
    assert again.search(["fever and cough"], 5, hybrid=True) == [before]


def test_an_index_without_counted_words_answers_alike(index, encoder):
    (before,) = index.search(["fever and cough"], 5, hybrid=True)
    manifest = folder.read_manifest(index.path)
    names = [name for name in manifest.files if name.endswith(words.ENDINGS)]
    assert len(names) == 3
    kept = {name: entry for name, entry in manifest.files.items() if name not in names}
    with folder.change(index.path) as change:
        change.commit(folder.replace(manifest, files=kept), [])
    assert not any((index.path / name).exists() for name in names)
    old = zoo.Index.open(index.path, encoder)
    assert old.search(["fever and cough"], 5, hybrid=True) == [before]
    old.compact()
    assert sum(name.endswith(words.ENDINGS) for name in old.manifest.files) == 3


def test_altered_words_are_refused(index, encoder):
    name = next(name for name in index.manifest.files if name.endswith(words.POSTINGS))
    content = bytearray((index.path / name).read_bytes())
    content[-1] ^= 1
    (index.path / name).write_bytes(content)
    again = zoo.Index.open(index.path, encoder)
    assert again.search(["fever"], 3)[0]
    with pytest.raises(ArtefactError, match=r"postings\.npy: its sha256 is not the manifest's"):
        again.search(["fever"], 3, hybrid=True)


def test_the_size_of_a_block_changes_no_list(rows, tmp_path, monkeypatch):
    texts = [[row["text"] for row in rows[:150]], [row["text"] for row in rows[150:]], ["", "…"]]
    opened = []
    for name, block in (("one", 7), ("two", words.BLOCK)):
        monkeypatch.setattr(words, "BLOCK", block)
        files = words.write_words(texts, tmp_path, name, tmp_path / "work")
        opened.append([(tmp_path / file).read_bytes() for file in files])
        assert not (tmp_path / "work").exists()
    assert opened[0] == opened[1]
    shard = ShardWords([tmp_path / file for file in files])
    flat = [text for batch in texts for text in batch]
    for word in ("cat", "absent", "zzz", "0"):
        found, counts = shard.find(word)
        own = [split_words(text).count(word) for text in flat]
        assert found.tolist() == np.flatnonzero(own).tolist()
        assert counts.tolist() == [count for count in own if count]


@pytest.mark.parametrize("texts", [[], [["", "…"]]])
def test_rows_without_words_find_nothing(tmp_path, texts):
    files = words.write_words(texts, tmp_path, "s", tmp_path / "work")
    lexical = Lexical([ShardWords([tmp_path / file for file in files])])
    assert (lexical.search(["a word"], 3, None)[1] == -1).all()
    assert (Lexical([]).search(["a word"], 3, None)[1] == -1).all()
