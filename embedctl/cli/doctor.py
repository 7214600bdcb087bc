"""``embedctl doctor``: what one runs when something is wrong, so it works when the settings do not load."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from embedctl.cli import render
from embedctl.cli.context import invocation, settings_of
from embedctl.errors import EmbedctlError

if TYPE_CHECKING:
    from embedctl.memory.machine import Check

_MARKS = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "bad": ("✗", "red")}


def register(app: typer.Typer) -> None:
    app.command("doctor", rich_help_panel="Project")(doctor)


def doctor(context: typer.Context) -> None:
    """Show the machine, versions, which keys are set (never what they are), and the workspace."""
    from embedctl.loading import SECRETS
    from embedctl.memory import machine

    checks = [*machine.machine(), *_attention(), *machine.versions()]
    folder, env_file = Path("artifacts"), Path(".env")
    try:
        loaded = settings_of(context)
        checks.append(machine.Check("settings", "ok", str(loaded.file) if loaded.file else "defaults, no config file"))
        folder = loaded.layout.root
        env_file = loaded.file.parent / ".env" if loaded.file else env_file
    except EmbedctlError as fault:
        checks.append(machine.Check("settings", "bad", fault.message, fault.hint))
    checks += [*machine.keys(env_file, SECRETS), *machine.workspace(folder)]
    if invocation(context).as_json:
        render.write_json([asdict(check) for check in checks])
        return
    render.table(["", "", ""], [_row(check) for check in checks])


def _attention() -> list["Check"]:
    """What attends on this processor, if it is one that has a faster way."""
    import torch

    from embedctl.memory.machine import Check
    from embedctl.model import native

    if torch.cpu._is_avx512_bf16_supported():
        if native.available():
            return [Check("attention", "ok", "in C, by tiles (AMX)" if native.has_tiles() else "in C")]
        gain = "embeds and trains a quarter faster"
    elif torch.backends.cpu.get_cpu_capability() == "AVX2":
        if native.has_floats():
            return [Check("attention", "ok", "in C where nothing is learned (AVX2)")]
        gain = "embeds half as fast again"
    else:
        return []
    hint = f"embedctl {gain} with it: install a C compiler, then embedctl again"
    return [Check("attention", "warn", "by torch: the part in C was not built", hint)]


def _row(check: "Check") -> list[object]:
    mark, style = _MARKS[check.state]
    hint = f"\nhint: {check.hint}" if check.hint else ""
    return [render.colored(mark, style), check.name, check.value + hint]
