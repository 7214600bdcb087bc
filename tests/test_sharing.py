"""Vectors made by killed runs, by several processes, on a cluster: always the bytes of one run by itself."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from embedctl.artifacts import growing
from embedctl.embedding.generation import generate
from tests.conftest import options
from tests.test_generation import SMALL, bytes_of, made, small_windows, trained

__all__ = ["small_windows"]


KILLED = """
import os, signal, sys
from embedctl.cli.app import main
from embedctl.embedding import cache, shards, windows
from embedctl.artifacts import growing
windows.CHUNKS = 32
folder = growing.GrowingFolder
places = [(folder, "commit"), (cache.VectorCache, "put"), (shards.vectors, "write_part"), (folder, "finish")]
words = sys.argv[1:]
for times in (1, 2, 4):
    for owner, name in places:
        for after in (False, True):
            child = os.fork()
            if not child:
                real, left = getattr(owner, name), [times]
                def killing(*a, **k):
                    left[0] -= 1
                    if not left[0] and not after:
                        os.kill(os.getpid(), signal.SIGKILL)
                    found = real(*a, **k)
                    if not left[0]:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return found
                setattr(owner, name, killing)
                try:
                    main(words)
                finally:
                    os._exit(0)
            print("ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_killed_anywhere_and_run_again_gives_the_same_bytes(monkeypatch: pytest.MonkeyPatch):
    loaded = trained(count=80)
    made(loaded)
    whole = bytes_of(loaded)
    made(loaded, with_text=False)
    for path in (loaded.layout.cache).iterdir():
        path.unlink()

    words = [*options(*SMALL), "--quiet", "embed", "generate"]
    ran = subprocess.run(
        [sys.executable, "-c", KILLED, *words], capture_output=True, text=True, timeout=120, check=True
    )

    codes = [int(line.split()[1]) for line in ran.stdout.splitlines() if line.startswith("ended ")]
    assert len(codes) == 24
    assert {*codes} == {0, -signal.SIGKILL}
    assert codes.count(-signal.SIGKILL) >= 6
    made(loaded)
    assert bytes_of(loaded) == whole


def test_processes_share_the_windows_and_the_bytes_are_those_of_one():
    loaded = trained(count=80)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "OMP_NUM_THREADS": "1"}
    Path("over.py").write_text(SMALL_WINDOWS)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "over.py"]
    ran = subprocess.run(
        [*torchrun, *options(*SMALL), "--json", "embed", "generate"], env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    together = bytes_of(loaded)
    for path in loaded.layout.cache.iterdir():
        path.unlink()
    made(loaded, with_text=False)

    alone = made(loaded, cache_megabytes=0)

    told = json.loads(ran.stdout)
    assert bytes_of(loaded) == together
    assert told["measured"]["embedded"] >= alone.measured["embedded"]


SMALL_WINDOWS = """
import sys
from embedctl.embedding import windows
windows.CHUNKS = 32
from embedctl.cli.app import main
main(sys.argv[1:])
"""


def test_on_a_ray_cluster_a_killed_node_loses_nothing(monkeypatch: pytest.MonkeyPatch):
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    loaded = trained(count=80)
    made(loaded, cache_megabytes=0)
    whole = bytes_of(loaded)
    made(loaded, with_text=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    other = cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        commit, left = growing.GrowingFolder.commit, [2]

        def killing(folder: growing.GrowingFolder, shard: growing.Shard) -> growing.Shard:
            left[0] -= 1
            if not left[0]:
                cluster.remove_node(other, allow_graceful=False)
            return commit(folder, shard)

        monkeypatch.setattr(growing.GrowingFolder, "commit", killing)
        settings = loaded.settings.embedding.model_copy(update={"cache_megabytes": 0})
        generate(settings, loaded.settings.compute, loaded.layout, engine="ray")
    finally:
        ray.shutdown()
        cluster.shutdown()

    assert left[0] < 0
    assert bytes_of(loaded) == whole
