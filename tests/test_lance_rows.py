"""What LanceDB's rows are made of: metadata cut from its text says what the whole line says."""

import json

import pytest

from embedctl.store.lance_rows import _split

METADATA = [
    {"record": "r1", "chunk": 0, "source": "a", "text": "Rest, and drink."},
    {"big": 10**30, "text": "x"},
    {"small": -(2**63) - 1, "text": "x"},
    {"list": [10**30, 1.5, "a"], "flag": True, "nothing": None, "text": "é\u2028\ud800"},
    {"number": float("inf"), "text": "q"},
    {"text": "alone"},
    {"inner": {"text": "in"}, "text": "out"},
    {"quoted": 'x", "text": "y', "text": 'a", "text": "b'},
    {"text": "first", "after": 1},
    {"text": ["no", "text"]},
    {"none": 1},
    {},
]


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("metadata", METADATA, ids=str)
def test_a_text_cut_from_its_metadata_leaves_what_json_reads(metadata: dict[str, object], ascii_only: bool):
    rest, own, text = _split(json.dumps(metadata, ensure_ascii=ascii_only))

    whole = dict(metadata)
    want = whole.pop("text") if isinstance(whole.get("text"), str) else None
    assert (own, text) == (whole, want)
    assert json.loads(rest) == whole
    assert [type(value) for value in own.values()] == [type(value) for value in whole.values()]
