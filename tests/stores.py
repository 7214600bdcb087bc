"""An upsert as the tests call it, against the loopback Pinecone or LanceDB."""

import numpy as np
import pyarrow as pa
from pydantic import SecretStr

from embedctl.embedding.vectors import matrix
from embedctl.loading import Loaded
from embedctl.settings import Secrets
from embedctl.store.retrying import Patience
from embedctl.store.upsert import Tally, Wish, upsert
from tests.conftest import tiny
from tests.loopback_pinecone import KEY, LoopbackPinecone


class Clock:
    """Time that passes only when somebody waits."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.waits = 0

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        self.waits += 1

    def now(self) -> float:
        return self.seconds


def project(*settings: str, kind: str = "pinecone") -> Loaded:
    return tiny(f"store.kind={kind}", *settings)


def bring(loaded: Loaded, wish: Wish | None = None, clock: Clock | None = None, **patience: float) -> Tally:
    clock = clock or Clock()
    patient = Patience(sleep=clock.sleep, now=clock.now, **patience)
    secrets = Secrets(pinecone_api_key=SecretStr(KEY))
    return upsert(loaded.settings.store, loaded.layout, wish, secrets=secrets, patience=patient)


def assert_stored(server: LoopbackPinecone, *wanted: pa.RecordBatch) -> None:
    """Exactly these ids, each with exactly these bits."""
    expected = {id_: v for rows in wanted for id_, v in zip(rows.column("id").to_pylist(), matrix(rows), strict=True)}
    stored = {id_: one["values"] for id_, one in server.vectors().items()}
    assert stored.keys() == expected.keys()
    assert all(np.array_equal(stored[id_].view(np.uint32), expected[id_].view(np.uint32)) for id_ in expected)
