"""All that judging a part needs, imported and compiled once: what judges is forked from a process that has it."""

from embedctl.data.checks import examiner, repair, screen, show  # noqa: F401

screen.automata()
