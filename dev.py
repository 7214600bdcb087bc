#!/usr/bin/env python3
"""Set the project up in .venv and do one job. Needs nothing but Python.

demo   train, embed and search the example, with the packages that users get
test   the tests
check  ruff, mypy --strict, import-linter
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
STAMP = VENV / "embedctl-installed.txt"
CONSTRAINTS = ROOT / "constraints.txt"
QUESTION = "Is obesity a risk factor for prostate cancer?"


def main() -> None:
    os.chdir(ROOT)
    jobs = {"demo": demo, "test": test, "check": check}
    if len(sys.argv) < 2 or sys.argv[1] not in jobs:
        sys.exit(f"usage: python3 dev.py {'|'.join(jobs)}")
    if sys.version_info < (3, 11):
        sys.exit(f"error: embedctl needs Python 3.11 or newer; this is {sys.version.split()[0]}")
    jobs[sys.argv[1]](sys.argv[2:])


def demo(arguments: list[str]) -> None:
    install("tensorboard")
    embedctl = [PYTHON, "-m", "embedctl", "--config", Path("examples", "pubmedqa", "config.toml")]
    run(*embedctl, "run", *arguments)
    print(f'\n$ embedctl --config examples/pubmedqa/config.toml embed search "{QUESTION}" -k 3', flush=True)
    run(*embedctl, "embed", "search", QUESTION, "-k", "3")
    activate = VENV.name + (r"\Scripts\activate" if os.name == "nt" else "/bin/activate")
    print(f"To type embedctl yourself: {'' if os.name == 'nt' else '. '}{activate}")


def test(arguments: list[str]) -> None:
    install("dev")
    # They start the program some hundreds of times: its modules are compiled once, as installing it compiles them.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # Many tests wait for processes that they start. Each worker holds torch, so there are not many of them.
    workers = min(4, os.cpu_count() or 1)
    run(PYTHON, "-m", "pytest", "-n", workers, "--dist", "worksteal", *arguments)


def check(arguments: list[str]) -> None:
    install("dev")
    run(PYTHON, "-m", "ruff", "check", *arguments)
    run(PYTHON, "-m", "ruff", "format", "--check")
    run(PYTHON, "-m", "mypy")
    run(BIN / "lint-imports", "--no-cache")


def install(extra: str) -> None:
    """Make .venv hold the package and its dependencies; done once for each state of the files that decide it."""
    make_venv()
    decisive = (ROOT / "pyproject.toml", CONSTRAINTS, *sorted((ROOT / "embedctl").glob("*/*.[ch]")))
    want = hashlib.sha256(b"".join(path.read_bytes() for path in decisive)).hexdigest()
    done = STAMP.read_text(encoding="utf-8") if STAMP.is_file() else ""
    if done in (f"{want} {extra}", f"{want} dev"):
        return
    print("installing into .venv (a minute or two, once)", flush=True)
    torch = CONSTRAINTS.read_text(encoding="utf-8").splitlines()[0]
    # torch by itself first, so that no other package chooses its version.
    pip("install", "--quiet", torch)
    pip("install", "--quiet", "-c", str(CONSTRAINTS), "-e", f".[{extra}]")
    STAMP.write_text(f"{want} {extra}", encoding="utf-8")


def make_venv() -> None:
    if PYTHON.exists():
        return
    made = subprocess.run([sys.executable, "-m", "venv", VENV], stdout=subprocess.PIPE, text=True)
    if made.returncode:
        print(made.stdout, file=sys.stderr)
        sys.exit(
            "error: Python cannot make a virtual environment\n hint: on Debian or Ubuntu: apt install python3-venv"
        )


def pip(*words: str) -> None:
    run(PYTHON, "-m", "pip", "--disable-pip-version-check", *words)


def run(*words: object) -> None:
    """Run a command as it is; if it fails, end with its exit code."""
    try:
        code = subprocess.run([str(word) for word in words]).returncode
    except KeyboardInterrupt:
        code = 130
    if code:
        sys.exit(code if code > 0 else 128 - code)


if __name__ == "__main__":
    main()
