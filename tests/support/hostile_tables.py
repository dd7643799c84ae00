"""Hostile tables: csv, tsv, json, jsonl and parquet files, plain and compressed."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hostile_arrays import make_zip

ROWS = [{"text": f"text {n}", "label": n % 3, "n": n / 4} for n in range(6)]


def make_jsonl(rows: Any = ROWS) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def nest(depth: int, opening: str = "[", closing: str = "]") -> str:
    return opening * depth + closing * depth


def list_tables() -> Iterator[tuple[str, bytes]]:
    """Yield text tables: cells, rows, columns and levels without end, broken quotes, wrong encodings, archives."""
    csv = b"text,label,n\n" + b"".join(b"text %d,%d,%d\n" % (n, n, n) for n in range(6))
    large = b"x" * (17 << 20)
    texts: dict[str, bytes] = {
        "cell.csv": b"text,n\na,1\n" + large + b",2\n",
        "cell.tsv": b"text\tn\n" + large + b"\t2\n",
        "cell.jsonl": b'{"text": "' + large + b'"}\n',
        "cell.json": b'[{"text": "' + large + b'"}]',
        "header.csv": large + b"\na\n",
        "quote.csv": b'text,n\n"a,1\n' + b"b,2\n" * 50,
        "quote-end.csv": b'text,n\na,"1\n',
        "quote-inside.csv": b'text,n\n"a"b,1\n"a" "b,2',
        "columns.csv": ",".join(f"c{n}" for n in range(20_000)).encode() + b"\n",
        "columns.tsv": b"\t" * 200_000 + b"\n",
        "columns.jsonl": make_jsonl([{f"c{n}": 1 for n in range(20_000)}]),
        "columns.json": json.dumps([{f"c{n}": 1 for n in range(20_000)}]).encode(),
        "twice.csv": b"text,text\na,b\n",
        "ragged.csv": b"text,n\na,1,2,3\n",
        "short.csv": b"text,n,label\na\n",
        "empty.csv": b"",
        "blank.csv": b"\n\n\n",
        "head.csv": b"text,n\n",
        "utf16.csv": "text,n\na,1\n".encode("utf-16"),
        "utf32.csv": "text,n\na,1\n".encode("utf-32"),
        "latin.csv": "text,n\ncafé,1\n".encode("latin1"),
        "nul.csv": b"text\0,n\na,1\n",
        "binary.csv": bytes(range(256)) * 40,
        "zip.csv": make_zip({"x.csv": csv}),
        "gzip.csv": gzip.compress(csv),
        "html.csv": b"<!DOCTYPE html><html><body>404</body></html>",
        "pointer.csv": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
        "array.jsonl": b"[1, 2]\n[3]\n",
        "number.jsonl": b"1\n2\n",
        "text.jsonl": b'"a"\n',
        "null.jsonl": b"null\n",
        "open.jsonl": b'{"text": "a"\n',
        "comma.jsonl": b'{"text": "a",}\n',
        "two.jsonl": b'{"text": "a"} {"text": "b"}\n',
        "surrogate.jsonl": b'{"text": "\\ud800"}\n',
        "nan.jsonl": b'{"text": NaN}\n',
        "empty.jsonl": b"",
        "spaces.jsonl": b" \n \n",
        "list.jsonl": b'{"text": ["a", "b"]}\n',
        "object.jsonl": b'{"text": {"a": 1}}\n',
        "true.jsonl": b'{"text": true}\n',
        "absent.jsonl": b'{"other": "a"}\n',
        "latin.jsonl": '{"text": "café"}\n'.encode("latin1"),
        "utf16.jsonl": '{"text": "a"}\n'.encode("utf-16"),
        "deep.jsonl": f'{{"text": "a", "d": {nest(100_000)}}}\n'.encode(),
        "deep-objects.jsonl": ('{"text": ' * 5000 + "1" + "}" * 5000 + "\n").encode(),
        "deep33.jsonl": f'{{"text": "a", "d": {nest(40)}}}\n'.encode(),
        "deep.json": f'[{{"text": "a", "d": {nest(100_000)}}}]'.encode(),
        "open.json": b'[{"text": "a"}, ',
        "object.json": b'{"text": "a"}',
        "number.json": b"12",
        "more.json": b'[{"text": "a"}] x',
        "list.json": b'[["a"]]',
        "empty.json": b"",
        "nothing.json": b"[]",
        "comma.json": b'[{"text": "a"} {"text": "b"}]',
        "long-number.json": b'[{"text": ' + b"9" * 100_000 + b"}]",
    }
    for name, content in texts.items():
        yield f"table-{name}", content
        if name in (
            "cell.csv",
            "quote.csv",
            "cell.jsonl",
            "deep.jsonl",
            "open.jsonl",
            "open.json",
            "columns.csv",
            "empty.csv",
            "utf16.csv",
        ):
            yield f"table-{name}.gz", gzip.compress(content)
    whole = gzip.compress(csv * 50)
    for name, content in {
        "cut": whole[:-9],
        "checksum": whole[:-8] + b"abcdefgh",
        "plain": csv,
        "none": b"",
        "magic": whole[:2],
        "trail": whole + b"trail",
        "deflate": zlib.compress(csv),
        "twice": gzip.compress(gzip.compress(csv)),
        "bomb": gzip.compress(b"text\n" + bytes(1 << 25)),
    }.items():
        yield f"gzip-{name}.csv.gz", content
    values = {
        "date": '"2020-01-01"',
        "word": '"four"',
        "list": "[1, 2]",
        "huge": '"1e999"',
        "long": '"' + "9" * 400 + '"',
        "null": "null",
        "object": "{}",
        "nan": "NaN",
        "infinity": "Infinity",
        "big": "1e400",
        "empty": '""',
        "hex": '"0x1F"',
        "underscore": '"1_000"',
    }
    for name, value in values.items():
        yield f"number-{name}.jsonl", f'{{"n": {value}}}\n'.encode()


def write_parquet(table: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


def list_parquet() -> Iterator[tuple[str, bytes]]:
    """Yield parquet files with damaged footers, claims, levels without end and odd types."""
    honest = write_parquet(pa.Table.from_pylist(ROWS))
    footer = int.from_bytes(honest[-8:-4], "little")
    for size in (0, 3, 4, 8, 12, len(honest) - footer, len(honest) - 9, len(honest) - 4, len(honest) - 1):
        yield f"parquet-cut-{size}.parquet", honest[:size]
    for name, length in {
        "zero": 0,
        "most": 2**32 - 1,
        "negative": 2**31,
        "file": len(honest),
        "short": footer // 2,
    }.items():
        yield f"parquet-footer-{name}.parquet", honest[:-8] + struct.pack("<I", length) + b"PAR1"
    for position in (0, 1, 8, 20, 40):
        start = len(honest) - 8 - footer + position
        yield f"parquet-ff-{position}.parquet", honest[:start] + b"\xff" * 8 + honest[start + 8 :]
    yield "parquet-encrypted.parquet", honest[:-4] + b"PARE"
    yield "parquet-text.parquet", b"text\na\n"
    yield "parquet-cell.parquet", write_parquet(pa.table({"text": ["x" * (17 << 20)]}))
    yield "parquet-rows.parquet", write_parquet(pa.table({"n": pa.array([1] * 2_000_000, pa.int8())}))
    deep = pa.int8()
    for _ in range(40):
        deep = pa.list_(deep)
    yield "parquet-deep.parquet", write_parquet(pa.table({"text": ["a"], "n": pa.nulls(1, deep)}))
    yield "parquet-columns.parquet", write_parquet(pa.table({f"c{n}": [1] for n in range(10_001)}))
    yield "parquet-none.parquet", write_parquet(pa.table({"text": pa.array([], pa.string())}))
    yield "parquet-nulls.parquet", write_parquet(pa.table({"text": pa.nulls(4)}))
    yield "parquet-other.parquet", write_parquet(pa.table({"other": ["a"]}))
    yield "parquet-binary.parquet", write_parquet(pa.table({"text": [b"\xff\xfe"]}))
