"""Files: all formats give equal tables, every fault is named, and no bytes raise anything but DataError."""

import contextlib
import csv
import gzip
import io
import json
import os
import re
import shutil
import warnings
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from zoo import data
from zoo.core.errors import DataError, DataWarning
from zoo.data.formats import json_stream, tabular
from zoo.data.spec import FileData

NEED = {"text": "text", "score": "number", "label": "label", "id": "id"}


def read(path, need=NEED, folder=Path("/nonexistent"), **fields):
    return data.read(FileData(source="file", path=str(path), **fields), need, folder=folder)


def write(path: Path, rows: list[dict], bom: bool = False) -> Path:
    """`rows` in the format that the name of `path` asks for."""
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)
        return path
    text = io.StringIO(newline="")
    if kind == "json":
        json.dump(rows, text, ensure_ascii=len(rows) % 2 == 0, indent=len(rows) % 3 or None)
    elif kind == "jsonl":
        text.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    else:
        writer = csv.writer(text, delimiter="\t" if kind == "tsv" else ",")
        writer.writerow(rows[0])
        for row in rows:
            writer.writerow([json.dumps(v) if isinstance(v, list) else v for v in map(row.__getitem__, rows[0])])
    content = (b"\xef\xbb\xbf" if bom else b"") + text.getvalue().encode()
    path.write_bytes(gzip.compress(content) if path.name.endswith(".gz") else content)
    return path


# -- all formats give equal tables ---------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
rows = st.lists(
    st.fixed_dictionaries(
        {
            "text": texts,
            "score": st.floats(allow_nan=False, allow_infinity=False),
            "label": st.integers(-(2**63), 2**63 - 1),
            "id": texts,
            "list": st.lists(texts, min_size=1, max_size=3),
        }
    ),
    min_size=1,
    max_size=5,
)


@given(rows, st.booleans())
@settings(max_examples=25, deadline=None)
def test_all_formats_give_equal_tables_and_fingerprints(tmp_path_factory, rows, bom):
    folder = tmp_path_factory.mktemp("formats")
    need = {**NEED, "list": "texts"}
    tables = [read(write(folder / f"x{ending}", rows, bom), need) for ending in tabular.ENDINGS]
    shutil.rmtree(folder)
    for table in tables:
        assert table.rows.to_list() == rows
        assert table.rows.features == tables[0].rows.features
        assert table.fingerprint == tables[0].fingerprint


def test_text_that_looks_like_a_number_stays_text(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("text,score,label,id\n007,007,007,007\nNA,1e2,1,1.0\n")
    assert read(path).rows.to_list() == [
        {"text": "007", "score": 7.0, "label": "007", "id": "007"},
        {"text": "NA", "score": 100.0, "label": "1", "id": "1.0"},
    ]


def test_a_long_document_fits_a_csv_field(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("text\n" + "word " * 100_000 + "\nlast")
    assert [len(text) for text in read(path, {"text": "text"}).rows["text"]] == [500_000, 4]


@pytest.mark.parametrize(
    ("name", "lines"), [("x.csv", ["text", "a", "b"]), ("x.jsonl", ['{"text": "a"}', '{"text": "b"}'])]
)
def test_a_blank_line_is_a_row_that_is_missing_unless_it_ends_the_file(tmp_path, name, lines):
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n\n\r\n")
    assert read(path, {"text": "text"}).rows["text"][:] == ["a", "b"]
    path.write_text("\n".join([*lines[:-1], "", "", lines[-1]]) + "\n\n")
    with pytest.raises(DataError, match="row 2.*: is empty(.|\n)*row 3.*: is empty(.|\n)*2 bad rows"):
        read(path, {"text": "text"})
    table = read(path, {"text": "text"}, on_bad_row="skip")
    assert table.rows["text"][:] == ["a", "b"]
    assert len(table.skipped) == 2


def test_a_json_list_longer_than_a_chunk(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "CHUNK", 7)
    rows = [{"text": f"räksmörgås {n}" * (n % 5 + 1), "n": n} for n in range(50)]
    assert read(write(tmp_path / "x.json", rows), {"text": "text"}).rows.to_list() == rows


def test_a_number_across_two_chunks_is_one_value(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "CHUNK", 5)
    (tmp_path / "x.json").write_text('[12345678901, {"text": "a"}]')
    table = read(tmp_path / "x.json", {"text": "text"}, on_bad_row="skip")
    assert table.rows["text"][:] == ["a"]
    assert [line.partition(":row ")[2] for line in table.skipped] == ["1: is not a record; write {column: value, …}"]


# -- which files a path means --------------------------------------------------------------------------------------


def test_folders_and_globs_are_read_sorted_and_hidden_files_are_not(tmp_path, monkeypatch):
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / ".cache").mkdir()
    for name in ("b.csv", "a.jsonl.gz", "deep/c.parquet", ".hidden.csv", ".cache/x.csv"):
        write(tmp_path / "data" / name, [{"text": name}])
    (tmp_path / "data" / "README.md").write_text("not data")

    def read_names(path):
        return read(path, {"text": "text"}, folder=tmp_path).rows["text"][:]

    assert read_names("data") == read_names(tmp_path / "data") == ["a.jsonl.gz", "b.csv", "deep/c.parquet"]
    assert read_names("data/*") == ["a.jsonl.gz", "b.csv"]
    assert read_names("data/**/*.parquet") == ["deep/c.parquet"]
    assert read_names("./data/deep/*") == ["deep/c.parquet"]
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    assert read_names("$ZOO_DATA/data/b.csv") == read_names("${ZOO_DATA}/data/b.csv") == ["b.csv"]


def test_names_that_look_like_globs_are_found(tmp_path):
    (tmp_path / "run[1]").mkdir()
    write(tmp_path / "run[1]" / "x[1].csv", [{"text": "a"}])
    for path in ("x[1].csv", "*.csv", "."):
        assert len(read(path, {"text": "text"}, folder=tmp_path / "run[1]").rows) == 1


def test_columns_of_only_one_file_are_empty_in_the_others(tmp_path):
    write(tmp_path / "1.csv", [{"text": "a", "more": "b"}])
    write(tmp_path / "2.parquet", [{"text": "c"}])
    assert read("*", {"text": "text"}, folder=tmp_path).rows["more"][:] == ["b", None]
    with pytest.raises(DataError, match=r"2\.parquet: needs a column 'more'"):
        read("*", {"text": "text", "more": "text"}, folder=tmp_path)


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("trian.csv", r"{folder}/trian\.csv: there is no such file or folder; did you mean train\.csv\?"),
        ("none/train.csv", "the folder {folder}/none does not exist either"),
        ("*.jsonl", "matches no files"),
        ("empty", "has no files of these kinds below it"),
        ("notes.doc", "files of this kind cannot be read"),
        ("$ZOO_DATA/x.csv", "ZOO_DATA is not set"),
        ("a\0b.csv", "there is no such file|cannot be looked up"),
        ("x" * 5000 + ".csv", "cannot be looked up"),
        ("~nobody-of-this-name/x.csv", "cannot be looked up"),
    ],
)
def test_a_path_without_files_is_refused(tmp_path, monkeypatch, path, what):
    monkeypatch.delenv("ZOO_DATA", raising=False)
    write(tmp_path / "train.csv", [{"text": "a"}])
    (tmp_path / "notes.doc").write_text("a")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=what.format(folder=tmp_path)):
        read(path, folder=tmp_path)


def test_the_lines_of_a_txt_file_are_texts(tmp_path):
    (tmp_path / "lines.txt").write_bytes('\ufeffone text, with a comma\r\n"two" \n'.encode())
    table = read("lines.txt", {"text": "text"}, folder=tmp_path)
    assert list(table.rows["text"]) == ["one text, with a comma", '"two" ']


@pytest.mark.parametrize(
    ("content", "what"), [(b"", "is empty"), (b"a\n\nb\n", r"row 2: is empty"), (b"a\n\xff\n", "row 2: .*not UTF-8")]
)
def test_a_bad_line_of_a_txt_file_is_named(tmp_path, content, what):
    (tmp_path / "lines.txt").write_bytes(content)
    with pytest.raises(DataError, match=what):
        read("lines.txt", {"text": "text"}, folder=tmp_path)


def test_a_txt_file_beside_other_files_is_read_only_if_it_is_named(tmp_path):
    write(tmp_path / "train.csv", [{"text": "a"}])
    (tmp_path / "LICENCE.txt").write_text("line of a licence\n")
    assert list(read(".", {"text": "text"}, folder=tmp_path).rows["text"]) == ["a"]
    assert list(read("*", {"text": "text"}, folder=tmp_path).rows["text"]) == ["a"]
    assert list(read("*.txt", {"text": "text"}, folder=tmp_path).rows["text"]) == ["line of a licence"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(tmp_path):
    path = write(tmp_path / "x.csv", [{"text": "a"}])
    path.chmod(0)
    with pytest.raises(DataError, match="Permission denied"):
        read(path)


def test_an_origin_does_not_tell_where_on_the_disk_a_file_is(tmp_path, monkeypatch):
    path = write(tmp_path / "x.csv", [{"text": "a"}])
    assert read(path, {"text": "text"}).origin.name == "x.csv"
    assert read("x.csv", {"text": "text"}, folder=tmp_path).origin.name == "x.csv"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read("~/x.csv", {"text": "text"}).origin.name == "x.csv"


# -- faults in a file ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("x.csv", b"", "is empty"),
        ("x.jsonl", b"\n \n", "is empty"),
        ("x.json", b"", "is empty"),
        ("x.json", b"[]", "is empty"),
        ("x.jsonl", b"{}\n{}\n", "every record is empty"),
        ("x.csv", b"text,text\na,b\n", "two columns called 'text'"),
        ("x.csv", "text\nä\n".encode("utf-16"), "the header holds bytes that are not UTF-8"),
        ("x.csv", b'"text\na\n', "the header cannot be read"),
        ("x.csv", b'"te\nxt",b\na,b\n', r"needs a column 'text'; did you mean 'te\\nxt'\?; name"),
        ("x.json", b'{"text": "a"}\n{"text": "b"}', r"name it \.jsonl"),
        ("x.jsonl", b'["a"]\n', "no record that can be read: is not a record"),
        ("x.csv.gz", b"text\na\n", "cannot be read: the gzip file is damaged"),
        ("x.csv.gz", gzip.compress(b"text\na\n", mtime=0)[:12], "cannot be read: the gzip file is cut short"),
        ("x.parquet", b"PAR1 nothing PAR1", "cannot be read as parquet"),
    ],
)
def test_a_file_that_is_not_a_table_is_refused(tmp_path, name, content, what):
    (tmp_path / name).write_bytes(content)
    for on_bad_row in ("error", "skip"):
        with pytest.raises(DataError, match=what):
            read(tmp_path / name, {"text": "text"}, on_bad_row=on_bad_row)
    [(path, message)] = data.problems(FileData(source="file", path=name), {"text": "text"}, folder=tmp_path)
    assert path in (("path",), ("columns",))
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("x.csv", b"text,n\na,1\nb\nc,3\n", r"row 2 \(line 3\): has 1 fields but the header has 2"),
        ("x.csv", b"text,n\na,1\nb,2,3\nc,3\n", r"row 2 \(line 3\): has 3 fields"),
        ("x.csv", b'text,n\na,1\n"b"b,2\nc,3\n', r"row 2 \(line 3\): is not well-formed"),
        ("x.csv", b"text,n\na,1\nb\xff,2\nc,3\n", r"row 2 \(line 3\): holds bytes that are not UTF-8"),
        ("x.tsv", b"text\tn\na\t1\nb\t2\t3\nc\t3\n", r"row 2 \(line 3\): has 3 fields"),
        ("x.jsonl", b'{"text": "a"}\n{"text": "b"\n{"text": "c"}\n', "row 2: is not JSON: .* at column"),
        ("x.jsonl", b'{"text": "a"}\n[1]\n{"text": "c"}\n', "row 2: is not a record"),
        ("x.jsonl", b'{"text": "a"}\n{"text": "\xe9"}\n{"text": "c"}\n', "row 2: holds bytes that are not UTF-8"),
        ("x.jsonl", b'{"text": "a"}\n{"text": "\\ud800"}\n{"text": "c"}\n', "row 2: text: holds half a surrogate"),
        ("x.jsonl", b'{"text": "a"}\n{"text": ' + b"[" * 200_000 + b'}\n{"text": "c"}\n', "row 2: is not JSON"),
        ("x.jsonl", b'{"text": "a"}\n{"text": ' + b"1" * 5000 + b'}\n{"text": "c"}\n', "row 2: is not JSON"),
        ("x.json", b'[{"text": "a"}, 7, {"text": "c"}]', "row 2: is not a record"),
        ("x.json", b'[{"text": "a"}, {"text": "\xe9"}, {"text": "c"}]', "row 2: holds bytes that are not UTF-8"),
    ],
)
def test_one_bad_row_is_named_or_skipped(tmp_path, name, content, what):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=what):
        read(tmp_path / name, {"text": "text"})
    table = read(tmp_path / name, {"text": "text"}, on_bad_row="skip")
    assert table.rows["text"][:] == ["a", "c"]
    assert len(table.skipped) == 1


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("x.csv", b'text\na\nb\n"c\nd\n', r"row 3 \(line 4\): .* a quote is never closed, and 2 lines are lost"),
        ("x.csv", b'text,n\n"a,1' + b"\nb,1" * 900 + b'\nc"d,1\ne,1\n', r"row 1 \(line 2\): .* 902 lines are lost"),
        ("x.json", b'[{"text": "a"}, {"text": "b"}, {"text": "c', "row 3: is not JSON .* the rest of the file is lost"),
        (
            "x.json",
            b'[{"text": "a"},\n{"text": "b";}\n' + b',{"text": "c"}\n' * 90 + b"]",
            "row 2: .* 92 lines are lost",
        ),
        ("x.json", b'[{"text": "a"}, {"text": "b"}; {"text": "c"}]', "row 3: is not JSON"),
        ("x.json", b'[{"text": "a"}, {"text": "b"}] trailing', "goes on after the list"),
    ],
)
def test_a_fault_behind_which_nothing_can_be_read_is_an_error_even_if_bad_rows_are_skipped(
    tmp_path, name, content, what
):
    (tmp_path / name).write_bytes(content)
    for on_bad_row in ("error", "skip"):
        with pytest.raises(DataError, match=what):
            read(tmp_path / name, {"text": "text"}, on_bad_row=on_bad_row)


def test_a_malformed_row_of_a_few_lines_says_how_many_are_lost(tmp_path):
    (tmp_path / "x.csv").write_text('text,n\na,1\n"b,2\nc"d,3\ne,4\n')
    table = read(tmp_path / "x.csv", {"text": "text"}, on_bad_row="skip")
    assert table.rows["text"][:] == ["a", "e"]
    assert "row 2 (line 3): is not well-formed" in table.skipped[0]
    assert "2 lines are lost" in table.skipped[0]


def test_a_csv_row_of_many_lines_is_warned_about_because_a_quote_may_be_open(tmp_path):
    lines = [f"text {n},{n}" for n in range(10)]
    lines[3], lines[9] = f'"{lines[3]}', 'text 9",9'
    (tmp_path / "x.csv").write_text("\n".join(["text,n", *lines]) + "\n")
    with pytest.warns(DataWarning, match=r"x\.csv:row 4 \(line 5\): one row has more than 5 lines, and this one has 7"):
        table = read(tmp_path / "x.csv", {"text": "text"})
    assert len(table.rows) == 4
    (tmp_path / "x.csv").write_text('text,n\n"a\nb\nc",1\n')
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(read(tmp_path / "x.csv", {"text": "text"}).rows) == 1


@pytest.mark.parametrize("ending", ["csv.gz", "tsv.gz", "json.gz", "jsonl.gz"])
def test_a_cut_gzip_file_is_an_error_even_if_bad_rows_are_skipped(tmp_path, ending):
    whole = [{"text": f"text {n} {n * 7919 % 10007}"} for n in range(3000)]
    path = write(tmp_path / f"x.{ending}", whole)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"cut short after \d+ whole rows") as excinfo:
        read(path, {"text": "text"})
    rows_before = int(re.search(r"after (\d+) whole rows, and the rest is lost", str(excinfo.value))[1])
    assert 100 < rows_before < 3000
    with pytest.raises(DataError, match=f"cut short after {rows_before} whole rows"):
        read(path, {"text": "text"}, on_bad_row="skip")


def test_a_flipped_byte_in_a_gzip_file_is_noticed(tmp_path):
    path = write(tmp_path / "x.csv.gz", [{"text": f"text {n}"} for n in range(50)])
    content = bytearray(path.read_bytes())
    content[-6] ^= 1  # in the checksum
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"the gzip file is damaged .* after 50 whole rows"):
        read(path, {"text": "text"})


def test_strings_in_parquet_that_are_not_utf8_cost_one_row(tmp_path):
    binary = pa.array([b"a", b"\xff", b"c"], pa.binary())
    array = pa.Array.from_buffers(pa.string(), 3, binary.buffers())
    pq.write_table(pa.table({"text": array}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="row 2: holds bytes that are not UTF-8"):
        read(tmp_path / "x.parquet", {"text": "text"})
    assert read(tmp_path / "x.parquet", {"text": "text"}, on_bad_row="skip").rows["text"][:] == ["a", "c"]


def test_a_damaged_page_of_a_parquet_file_is_named(tmp_path):
    path = write(tmp_path / "x.parquet", [{"text": "b" * 50 + str(n)} for n in range(1000)])
    content = bytearray(path.read_bytes())
    content[4:40] = b"\xff" * 36
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged after 0 of 1000 rows"):
        read(path, {"text": "text"})


# -- fuzz ----------------------------------------------------------------------------------------------------------

PIECES = b"""text|,|\t|\n|\r|"|[|]|{|}|:|1|null|NaN| |\xff|\\ud8|\xef\xbb\xbf|{"text": "a"}|"text"|text\n|\x00|\x1f\x8b|-|1e999"""
pieces = st.sampled_from(PIECES.split(b"|"))


@pytest.mark.parametrize("ending", [ending for ending in tabular.ENDINGS if ending != ".parquet"])
@given(content=st.one_of(st.binary(max_size=60), st.lists(pieces, max_size=25).map(b"".join)), zipped=st.booleans())
@example(content=b"text\n\x00\n", zipped=True)
@example(content=b'[{"\\ud800": 1, "text": "a"}]', zipped=True)
@example(content=b'{"text": "a", "": 1}\n', zipped=True)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_bytes_only_data_errors_are_raised(tmp_path, ending, content, zipped):
    path = tmp_path / f"fuzz{ending}"
    path.write_bytes(gzip.compress(content) if zipped and ending.endswith(".gz") else content)
    fields = FileData(source="file", path=str(path), on_bad_row="skip")
    for need in ({"text": "text"}, {"text": "number"}, {"text": "texts"}, {"text": "label"}):
        problems = data.problems(fields, need, folder=tmp_path)
        try:
            table = data.read(fields, need, folder=tmp_path)
        except DataError:
            continue
        assert problems == []
        assert len(table.rows) > 0


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=3))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_bytes_of_a_parquet_file_only_data_errors_are_raised(tmp_path, noise):
    path = write(tmp_path / "x.parquet", [{"text": f"text {n}", "n": n} for n in range(9)])
    content = bytearray(path.read_bytes())
    for position, byte in noise:
        content[position % len(content)] = byte
    path.write_bytes(content)
    for on_bad_row in ("error", "skip"):
        with contextlib.suppress(DataError):
            assert len(read(path, {"text": "text"}, on_bad_row=on_bad_row).rows) > 0


@given(st.integers(0, 10**6), st.binary(min_size=1, max_size=4))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_gzip_file_never_gives_other_rows_without_an_error(tmp_path, position, noise):
    whole = [{"text": f"text {n}"} for n in range(30)]
    path = write(tmp_path / "x.jsonl.gz", whole)
    content = bytearray(path.read_bytes())
    start = 10 + position % (len(content) - 10 - len(noise))  # behind gzip's own header
    same = content[start : start + len(noise)] == noise
    content[start : start + len(noise)] = noise
    path.write_bytes(content)
    try:
        assert read(path, {"text": "text"}).rows.to_list() == whole
    except DataError:
        assert not same
