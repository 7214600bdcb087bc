"""Work in several processes: everything once, failures told, nothing left running."""

import multiprocessing
import operator
import os
import signal
import subprocess
import sys
from functools import partial

import pytest

from embedctl.workers import Crew
from tests.conftest import options, prepare, train


def test_every_task_is_done_once_whoever_does_it():
    tasks = [*range(-20, 20)]

    for processes in (1, 2):
        with Crew(processes, "os") as crew:
            done = dict(crew.spread(abs, tasks))
        assert done == {task: abs(task) for task in tasks}


def test_a_crew_that_has_started_does_what_it_is_given_elsewhere():
    with Crew(2, "os") as crew:
        crew.start()
        [(task, pid)] = crew.spread(operator.methodcaller("__call__"), [os.getpid])

        assert (task, pid != os.getpid()) == (os.getpid, True)
    assert not multiprocessing.active_children()


def test_what_they_do_first_is_to_be_had():
    with Crew(2, "os") as crew:
        crew.start(os.getpid)

        assert crew.warmed() in {child.pid for child in multiprocessing.active_children()}
        assert dict(crew.spread(abs, [-1, 2])) == {-1: 1, 2: 2}
    with Crew(1, "os") as alone:
        alone.start(os.getpid)
        assert alone.warmed() is None


def test_what_they_do_first_may_fail():
    with Crew(2, "os") as crew:
        crew.start(partial(int, "no number"))
        assert crew.warmed() is None
        done = dict(crew.spread(abs, [-1, 2]))

    assert done == {-1: 1, 2: 2}
    with pytest.raises(KeyError), Crew(2, "os") as crew:
        crew.start(partial(int, "no number"))
        raise KeyError
    assert not multiprocessing.active_children()


def test_a_failure_is_raised_and_leaves_no_process():
    with pytest.raises(TypeError, match="bad operand"), Crew(2, "os") as crew:
        [*crew.spread(abs, [1, "two", 3, 4])]  # type: ignore[list-item]

    assert not multiprocessing.active_children()


def test_ctrl_c_is_left_to_the_parent():
    with Crew(2, "os") as crew:
        [*crew.spread(abs, [1, 2])]
        children = multiprocessing.active_children()
        assert len(children) == 2
        for child in children:
            os.kill(child.pid or 0, signal.SIGINT)
        done = dict(crew.spread(abs, [-1, -2, -3]))

    assert done == {-1: 1, -2: 2, -3: 3}
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_pandas_is_left_out_and_can_be_had_afterwards():
    code = """
import importlib.util, sys, pyarrow
from embedctl.workers import without_pandas
with without_pandas():
    pyarrow.array(["a"]).to_numpy(zero_copy_only=False)
    assert "pandas" not in sys.modules
    assert importlib.util.find_spec("pandas").origin is None  # as torch asks before it compiles
import pandas
assert pyarrow.table({"a": [1]}).to_pandas().equals(pandas.DataFrame({"a": [1]}))
assert pyarrow.array(pandas.Series([1, None])).null_count == 1
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("command", [["data", "tokenize", "--new-vocabulary"], ["embed", "generate"]], ids=" ".join)
def test_commands_that_have_no_use_for_pandas_leave_it_out(command: list[str]):
    train(prepare("training.epochs=1"), max_steps=1)
    words = [
        *options("training.epochs=1", "tokens.max_tokens=40" if command[0] == "data" else "embedding.dim=16"),
        *command,
    ]
    code = """
import sys
from embedctl.cli.app import main
try:
    main(sys.argv[1:])
finally:
    assert "pandas" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code, *words], check=True)
