"""How often, how long and how many at once: the rules of trying again, without a server and without time."""

import pytest

from embedctl.errors import DataError, RemoteError
from embedctl.store.protocol import Busy, Refused
from embedctl.store.retrying import Gate, Patience, persist
from tests.stores import Clock


def gate(most: int = 16) -> Gate:
    return Gate(most, Patience())


def failed(one: Gate, *, at: float, sent: float | None = None, asked: float | None = None) -> None:
    one.failed(Busy("HTTP 503", retry_after=asked), sent_at=at if sent is None else sent, now=at)


def test_waits_double_with_jitter_up_to_a_bound_and_never_fall_short_of_what_was_asked():
    patience = Patience(first_wait_seconds=1, longest_wait_seconds=8)
    waits = [[patience.wait(tries) for _ in range(300)] for tries in range(6)]

    assert [max(some) <= most for some, most in zip(waits, (1, 2, 4, 8, 8, 8), strict=True)] == [True] * 6
    assert all(min(some) < 0.2 * max(some) for some in waits)  # full jitter: also almost at once
    assert all(patience.wait(0, 5.0) >= 5 for _ in range(20))


def test_it_widens_quickly_until_a_fault_then_slowly():
    one = gate()
    for _ in range(20):
        one.succeeded()
    wide = one.room(0, 0)
    failed(one, at=1)
    halved = one.room(0, 1)
    for _ in range(8):
        one.succeeded()

    assert (wide, halved, one.room(0, 2), one.room(6, 2)) == (16, 8, 8, 2)


def test_faults_of_one_round_halve_once():
    one = gate()
    for _ in range(20):
        one.succeeded()
    for _ in range(5):
        failed(one, at=2.0, sent=1.0)

    assert one.room(0, 2.0) == 8


def test_when_one_is_told_to_wait_all_wait():
    one = gate()
    failed(one, at=10, asked=7)

    assert [one.room(0, now) > 0 for now in (10, 16.9, 17)] == [False, False, True]


def test_after_many_faults_in_a_row_it_shuts_and_then_lets_one_through():
    one = gate()
    for n in range(60):
        failed(one, at=float(n))

    assert one.room(0, 1000) == 1
    one.succeeded()
    assert one.room(0, 1000) > 0


def test_one_store_has_one_writer():
    one = gate(most=1)
    for _ in range(50):
        one.succeeded()

    assert one.room(0, 0) == 1


def test_a_question_is_asked_again_until_the_deadline():
    clock, asked = Clock(), []
    patience = Patience(deadline_seconds=60, sleep=clock.sleep, now=clock.now)

    def busy() -> None:
        asked.append(clock.seconds)
        raise Busy("HTTP 500")

    with pytest.raises(RemoteError, match="the store kept failing for 60 s: HTTP 500"):
        persist(busy, "the store", patience)
    assert 5 < len(asked) < 60
    assert 30 < clock.seconds <= 60


def test_a_question_that_is_refused_is_not_asked_again():
    def refused() -> None:
        raise Refused("HTTP 400: no")

    with pytest.raises(DataError, match="the store refuses the request: HTTP 400: no"):
        persist(refused, "the store")
