"""Sending pieces to a store, several at once, until each is acknowledged or its bad records are set aside."""

import hashlib
import heapq
import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass

import pyarrow as pa

from embedctl.errors import DataError
from embedctl.stopping import signals_held
from embedctl.store.checking import Rejects
from embedctl.store.ledger import Ledger, Payload
from embedctl.store.protocol import Busy, Refused, Store
from embedctl.store.retrying import Gate, Patience

_log = logging.getLogger(__name__)

# A store that refuses so many records and takes none refuses something else than records.
_REFUSED_AT_MOST = 20
# When the command has to stop: how long to wait for answers that are on their way.
_LANDING_SECONDS = 5.0


# Requests, and whether the store has none of their ids.
Window = tuple[list[pa.RecordBatch], bool]


@dataclass(slots=True)
class Piece:
    """One request.

    number:    of its batch in the ledger
    new:       the store has none of the ids
    failed_at: when it first failed
    """

    rows: pa.RecordBatch
    number: int
    new: bool
    tries: int = 0
    failed_at: float | None = None
    sent_at: float = 0.0


@dataclass(slots=True)
class Counts:
    """Vectors that were sent, again and again if need be; of those acknowledged, and refused."""

    sent: int = 0
    acknowledged: int = 0
    refused: int = 0

    @property
    def settled(self) -> int:
        return self.acknowledged + self.refused


class Sender:
    """Owns the threads; the ledger is written by the caller's thread alone, once per round of answers."""

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        *,
        model: str,
        note_ids: bool,
        rejects: Rejects,
        patience: Patience,
        told: Callable[[], None],
        trusted: Callable[[], bool],
    ) -> None:
        """note_ids: note each id in the ledger; told: called whenever a piece is done with.

        trusted: whether the store holds vectors like these already, and so refuses records for what they are
        """
        self.counts = Counts()
        self._store, self._ledger, self._model, self._note_ids = store, ledger, model, note_ids
        self._rejects, self._patience, self._told, self._trusted = rejects, patience, told, trusted
        self._gate = Gate(store.limits.concurrency, patience)
        self._ready: deque[Piece] = deque()
        self._waiting: list[tuple[float, int, Piece]] = []
        self._under_way: dict[Future[None], Piece] = {}
        self._landed: list[Piece] = []
        self._refused: list[int] = []
        self._turn = itertools.count()

    def send(self, windows: Iterator[Window]) -> None:
        """Send all pieces of all windows; raises ``RemoteError`` when the store keeps failing."""
        pool = ThreadPoolExecutor(self._store.limits.concurrency, thread_name_prefix="upsert")
        try:
            more = True
            while more:
                # A signal in between must not lose what is under way or has landed.
                with signals_held():
                    more = self._dispatch(windows, pool)
                if more:
                    self._collect()
        except BaseException:
            self._land()
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _dispatch(self, windows: Iterator[Window], pool: ThreadPoolExecutor) -> bool:
        """Note what has come back, and send what there is room for; whether anything is still to come."""
        now = self._patience.now()
        going: list[Piece] = []
        for _ in range(self._gate.room(len(self._under_way), now)):
            piece = self._next(windows, now)
            if piece is None:
                break
            going.append(piece)
        self._note(going)
        for piece in going:
            piece.tries, piece.sent_at = piece.tries + 1, now
            self.counts.sent += len(piece.rows)
            new = piece.new and piece.tries == 1  # a try that failed may have been applied
            self._under_way[pool.submit(self._store.write, piece.rows, model=self._model, new=new)] = piece
        # The next window is made ready while these are under way.
        if not self._ready and going:
            self._refill(windows)
        return bool(self._under_way or self._waiting or self._ready)

    def _next(self, windows: Iterator[Window], now: float) -> Piece | None:
        if self._waiting and self._waiting[0][0] <= now:
            return heapq.heappop(self._waiting)[2]
        if not self._ready:
            self._refill(windows)
        return self._ready.popleft() if self._ready else None

    def _refill(self, windows: Iterator[Window]) -> None:
        for pieces, new in windows:
            self._ready.extend(self._planned(pieces, new=new))
            if self._ready:
                return

    def _planned(self, batches: list[pa.RecordBatch], *, new: bool) -> list[Piece]:
        numbers = self._ledger.plan(self._store.target, [_payload(rows) for rows in batches])
        return [Piece(rows, number, new) for rows, number in zip(batches, numbers, strict=True)]

    def _note(self, going: list[Piece]) -> None:
        landed, self._landed = self._landed, []
        refused, self._refused = self._refused, []
        if not (going or landed or refused):
            return
        first = [piece for piece in going if not piece.tries]
        unsure = [id_ for piece in first for id_ in piece.rows.column("id").to_pylist()] if self._note_ids else []
        stored = [pair for piece in landed for pair in _pairs(piece.rows)] if self._note_ids else []
        self._ledger.note(
            self._store.target,
            sent=[piece.number for piece in going],
            refused=refused,
            acknowledged=[piece.number for piece in landed],
            unsure=unsure,
            stored=stored,
        )

    def _collect(self) -> None:
        """Wait until something comes back, or may be sent again."""
        now = self._patience.now()
        again = max(self._waiting[0][0], self._gate.opens_at) if self._waiting else self._gate.opens_at
        pause = max(0.0, again - now) if self._waiting or again > now else None
        if not self._under_way:
            self._patience.sleep(pause or 0.0)
            return
        done, _ = wait(self._under_way, timeout=pause or None, return_when=FIRST_COMPLETED)
        with signals_held():
            for future in done:
                self._settle(self._under_way.pop(future), future)

    def _settle(self, piece: Piece, answer: "Future[None]") -> None:
        try:
            answer.result()
        except Busy as fault:
            self._again(piece, fault)
        except Refused as fault:
            self._halve(piece, fault)
        else:
            self._gate.succeeded()
            self._landed.append(piece)
            self.counts.acknowledged += len(piece.rows)
            self._told()

    def _again(self, piece: Piece, fault: Busy) -> None:
        now = self._patience.now()
        self._gate.failed(fault, sent_at=piece.sent_at, now=now)
        piece.failed_at = now if piece.failed_at is None else piece.failed_at
        pause = self._gate.wait(piece.tries, fault)
        began = min(piece.failed_at, self._gate.failing_since)
        if max(now + pause, self._gate.opens_at) - began > self._patience.deadline_seconds:
            raise self._patience.gone(self._store.target, fault)
        _log.info("%s: %s; trying again in %.1f s", self._store.target, fault.reason, pause)
        heapq.heappush(self._waiting, (now + pause, next(self._turn), piece))

    def _halve(self, piece: Piece, fault: Refused) -> None:
        """Some record of these is bad, or they are too many: half of them at a time, down to a single one."""
        self._refused.append(piece.number)
        count = len(piece.rows)
        if count > 1:
            parts = [piece.rows.slice(0, count // 2), piece.rows.slice(count // 2)]
            halves = self._planned(parts, new=piece.new and piece.tries == 1)
            self._ready.extendleft(reversed(halves))
            return
        self._rejects.reasons[piece.rows.column("id")[0].as_py()] = fault.reason
        self.counts.refused += 1
        self._told()
        if not self.counts.acknowledged and self.counts.refused >= _REFUSED_AT_MOST and not self._trusted():
            raise DataError(
                f"{self._store.target} takes none of the vectors: {fault.reason}",
                hint="embedctl embed upsert --dry-run says what would be sent",
            )

    def _land(self) -> None:
        """Wait a moment for what is under way, so that what the store has taken is noted; or until it has ended."""
        exclusive = self._store.limits.exclusive
        with signals_held(patient=True) if exclusive else nullcontext():
            done, _ = wait(self._under_way, timeout=None if exclusive else _LANDING_SECONDS)
            taken = [future for future in done if not future.cancelled() and future.exception() is None]
            self._landed += [self._under_way[future] for future in taken]
            self._note([])


def _payload(rows: pa.RecordBatch) -> Payload:
    ids = rows.column("id")
    # The digests are of all that is in the rows.
    told = hashlib.sha256(rows.select(["id", "digest"]).serialize()).hexdigest()
    return Payload(ids[0].as_py(), ids[-1].as_py(), told, len(rows))


def _pairs(rows: pa.RecordBatch) -> Iterator[tuple[str, str]]:
    return zip(rows.column("id").to_pylist(), rows.column("digest").to_pylist(), strict=True)
