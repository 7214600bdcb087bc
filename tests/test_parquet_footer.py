"""The footer of a Parquet file is read as Arrow reads it, in memory that no footer can fill."""

import io
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedctl.data.parquet_footer import read_groups

FOOTER_BYTES = 2**18


def parquet(rows: int, **options: object) -> io.BytesIO:
    words = [f"word {n % 7}" for n in range(rows)]
    columns = {"id": [str(n) for n in range(rows)], "text": words, "more": [{"a": [1, 2], "b": "c"}] * rows}
    sink = io.BytesIO()
    pq.write_table(pa.table({**columns, "fine": [True] * rows}), sink, **options)
    return sink


@pytest.mark.parametrize("rows", [1, 1000])
@pytest.mark.parametrize("dictionary", [True, False, ["text"]])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_groups_are_what_arrow_says_of_them(rows: int, dictionary: object, version: str):
    file = parquet(rows, row_group_size=300, use_dictionary=dictionary, data_page_version=version, compression="none")

    groups = list(read_groups(file, {"text"}))

    said = pq.read_metadata(file)
    known = [said.row_group(n) for n in range(said.num_row_groups)]
    assert [group.row_bytes for group in groups] == [one.total_byte_size // one.num_rows for one in known]
    distinct = [min(7, one.num_rows) if dictionary else 0 for one in known]
    assert [group.dictionary_bytes for group in groups] == [count * (4 + len("word 0")) for count in distinct]


def repeated(before: bytes, piece: bytes) -> bytes:
    return before + piece * (FOOTER_BYTES // len(piece))


COUNT = b"\xff\xff\xff\xff\x7f"  # more than there are
HOSTILE = {
    "numbers": repeated(b"\x29\xf5" + COUNT, b"\x02"),
    "flags": repeated(b"\x29\xf1" + COUNT, b"\x01"),
    "strings": repeated(b"\x29\xf8" + COUNT, b"\x01a"),
    "empty structs": repeated(b"\x29\xfc" + COUNT, b"\0"),
    "empty groups": repeated(b"\x49\xfc" + COUNT, b"\0"),
    "groups": repeated(b"\x49\xfc" + COUNT, b"\x19\x0c\x16\x02\x16\x02\x00"),
    "columns": repeated(b"\x49\x1c\x19\xfc" + COUNT, b"\x3c\x39\x18\x01a\0\0"),
    "names": repeated(b"\x49\x1c\x19\x1c\x3c\x39\xf8" + COUNT, b"\x01a"),
    "eights": b"\x29\xf7" + b"\xff" * 8 + b"\x7f",
    "one name": b"\x49\x1c\x19\x1c\x3c\x39\x18" + COUNT,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_no_footer_fills_the_memory(kind: str):
    footer = HOSTILE[kind]
    file = io.BytesIO(b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1")

    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="its footer ends too early"):
            for _ in read_groups(file, {"text"}):
                pass
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert most < 2 * len(footer) + 2**17
