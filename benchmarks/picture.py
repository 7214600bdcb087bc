"""The picture of the README: a command in a real terminal, drawn as SVG.

python -m benchmarks.picture docs/demo.svg 'make demo'      (needs tmux)
"""

import io
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS, ROWS = 110, 60


def main() -> None:
    target, command = Path(sys.argv[1]), sys.argv[2]
    screen = capture(command)
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text.from_ansi(f"$ {command}\n{screen}"))
    target.write_text(console.export_svg(title="embedctl"), encoding="utf-8")


def capture(command: str) -> str:
    """What stands on the terminal when the command is done."""
    tmux(
        "new-session", "-d", "-s", "picture", "-x", str(COLUMNS), "-y", str(ROWS), f"{command}; tmux wait -S done; cat"
    )
    try:
        tmux("wait", "done")
        time.sleep(0.5)
        return tmux("capture-pane", "-t", "picture", "-p", "-e").rstrip()
    finally:
        tmux("kill-session", "-t", "picture")


def tmux(*words: str) -> str:
    return subprocess.run(["tmux", "-f", "/dev/null", *words], check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
