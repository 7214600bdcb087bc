"""``python -m embedctl``, and the entry point of the command."""

# `signal` without its Python half, which takes 10 ms to load: Ctrl-C in that time would show where it was.
import _signal as signal  # type: ignore[import-not-found]  # isort: skip
import os
import sys

# Read by the numerical libraries when they are loaded, so set before anything else; the user's own values win.
ENVIRONMENT = {
    # Threads that wait by spinning make training nine times slower when anything else runs on the machine.
    "OMP_WAIT_POLICY": "PASSIVE",
    # A moment of spinning, though, saves a tenth of a step in waking them up.
    "GOMP_SPINCOUNT": "2000",
    # oneDNN keeps a compiled kernel for every shape it meets; batches of flat tokens are all of another shape.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "32",
    "TOKENIZERS_PARALLELISM": "true",
    # LanceDB warns of tables that are not there yet, and of clusters that came out small.
    "LANCE_LOG": "error",
}


def main() -> None:
    """Answer ``--version`` at once; leave all else to the command line proper."""
    if sys.argv[1:] == ["--version"]:
        from importlib.metadata import version

        sys.stdout.write(f"embedctl {version('embedctl')}\n")
        return
    # Until the command line takes the signal over, Ctrl-C ends the process quietly, without Python's traceback.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from embedctl.cli.app import main as run

    run()


if __name__ == "__main__":
    main()
