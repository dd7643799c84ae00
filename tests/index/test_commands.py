"""`zoo index` and `zoo search` on the command line."""

from __future__ import annotations

import io
import json

import pytest

from zoo.cli.main import main


@pytest.fixture
def table(tmp_path, rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


@pytest.fixture
def built(table, backbone, tmp_path, capsys):
    assert main(["index", backbone, str(table), "--out", str(tmp_path / "index")]) == 0
    assert "300 rows, float32" in capsys.readouterr().out
    return str(tmp_path / "index")


def run(capsys, *words):
    status = main(list(words))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_a_search_prints_a_table(built, capsys):
    status, out, _ = run(capsys, "search", built, "fever and cough", "-k", "3", "--explain")
    lines = out.splitlines()
    assert status == 0
    assert lines[0].split() == ["score", "id", "text", "year", "price", "lang", "new", "why"]
    assert len(lines) == 4


def test_queries_are_read_from_stdin_and_json_is_one_object_each(built, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("fever\n\na cat\n"))
    status, out, _ = run(capsys, "search", built, "--json", "--where", "year >= 2020", "-k", "4")
    answers = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    assert [answer["query"] for answer in answers] == ["fever", "a cat"]
    for answer in answers:
        assert len(answer["hits"]) == 4
        assert all(hit["columns"]["year"] >= 2020 for hit in answer["hits"])


def test_an_index_is_changed_and_measured(built, tmp_path, capsys):
    (tmp_path / "more.jsonl").write_text('{"id": "new", "text": "a dog eats a cat"}\n')
    assert run(capsys, "index", built, "--add", str(tmp_path / "more.jsonl"))[1].startswith(f"{built}: 1 rows added")
    assert "2 rows removed; 299 are left" in run(capsys, "index", built, "--remove", "r1", "r2")[1]
    assert run(capsys, "index", built, "--compact")[0] == 0
    (tmp_path / "q.jsonl").write_text('{"text": "a dog eats a cat", "relevant": "new"}\n')
    facts = json.loads(run(capsys, "index", built, "--measure", str(tmp_path / "q.jsonl"), "--json")[1])
    assert facts["ndcg@10"] == 1
    assert (facts["rows"], facts["shards"], facts["removed"]) == (299, 1, 0)
    assert facts["bytes"] > facts["bytes_of_rows"] > 0
    described = json.loads(run(capsys, "index", built, "--json")[1])
    assert described.items() <= facts.items()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["search", "INDEX", "x", "--where", "yeer = 3"], "did you mean year?"),
        (["search", "INDEX", "x", "--columns", "yeer"], "--columns: there is no column 'yeer'; did you mean year?"),
        (["search", "owner/name", "x"], "not read from the Hub"),
        (["search", "INDEX", "x", "--relevant"], "no step `relevance`"),
        (["index", "INDEX", "--add", "a", "--compact"], "two changes"),
        (["index", "INDEX", "--budget", "64B"], "--budget belongs to building"),
        (["index", "INDEX", "rows.csv"], "name the folder of the index with --out"),
        (["index", "MODEL", "--out", "x"], "name the rows"),
        (["index", "MODEL", "ROWS", "--out", "INDEX"], "holds an index"),
        (["index", "INDEX", "--remove", "r999999"], "no row with the id"),
        (["index", "nowhere"], "there is no such folder"),
    ],
)
def test_a_mistake_is_one_line(built, backbone, table, capsys, words, message):
    names = {"INDEX": built, "MODEL": backbone, "ROWS": str(table)}
    status, _, err = run(capsys, *(names.get(word, word) for word in words))
    assert status == 1
    assert message in err
    assert err.count("\n") == 1


def test_a_budget_is_met_and_its_figures_are_printed_and_kept(table, backbone, tmp_path, capsys):
    pytest.importorskip("faiss")
    (tmp_path / "queries.txt").write_text("a broken bone\nfever and cough\nthe red cat\n" * 5)
    words = ["index", backbone, str(table), "--out", str(tmp_path / "small"), "--budget", "24B"]
    status, out, err = run(capsys, *words, "--queries", str(tmp_path / "queries.txt"))
    assert status == 0, err
    assert "recall@10" in err
    assert "15 queries" in err
    facts = json.loads(run(capsys, "index", str(tmp_path / "small"), "--json")[1])
    assert facts["bytes_per_vector"] <= 24
    assert facts["recall_measured_with"] == "15 queries"
    assert facts["code"] in out
    assert 0.3 < facts["recall@10_at_build"] <= 1
