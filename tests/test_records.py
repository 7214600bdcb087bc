"""Records: which side one is on hangs on its id alone."""

from hypothesis import given
from hypothesis import strategies as st

from embedctl.data.records import are_held, split_of


@given(record_id=st.text(), one=st.floats(0, 99), other=st.floats(0, 99))
def test_a_record_stays_held_as_the_share_grows(record_id: str, one: float, other: float):
    small, large = sorted((one, other))

    assert not (split_of(record_id, small) == "held" and split_of(record_id, large) == "train")


def test_the_held_share_is_about_what_was_asked():
    held = sum(split_of(str(n), 10) == "held" for n in range(10_000))

    assert 900 < held < 1100


@given(ids=st.lists(st.text()), percent=st.floats(0, 100))
def test_many_records_at_once_are_on_the_same_sides(ids: list[str], percent: float):
    assert are_held(ids, percent).tolist() == [split_of(record_id, percent) == "held" for record_id in ids]
