"""Pictures of a run: loss, rate of learning, gradient norm, speed and quality over the steps."""

import logging
from pathlib import Path

from embedctl.training.tracking import read_metrics

PICTURE = "curves.png"

# Title of each picture, and the figures in it.
_SHOWN = (
    ("loss (nats)", ("loss_nats",)),
    ("quality on what is held out", ()),
    ("gradient norm", ("gradient_norm",)),
    ("learning rate", ("learning_rate",)),
    ("tokens/s", ("tokens_per_second",)),
    ("share of", ("mfu", "padding_avoided", "data_wait_share")),
)
_COUNTS = {"queries"}

_log = logging.getLogger(__name__)


def draw(folder: Path) -> None:
    """Write ``curves.png`` into the folder of a run, from its metrics.jsonl. A picture never stops a run."""
    lines = read_metrics(folder)
    steps = [line for line in lines if "loss_nats" in line]
    judged = [line for line in lines if "evaluation" in line]
    if not steps:
        return
    try:
        from matplotlib.figure import Figure
    except ImportError as fault:
        _log.warning("no picture of the curves: %s", fault)
        return
    figure = Figure(figsize=(14, 7))
    # By numbers: matplotlib would draw everything twice to find them.
    figure.subplots_adjust(left=0.06, right=0.98, bottom=0.08, top=0.94, wspace=0.22, hspace=0.32)
    for axes, (title, names) in zip(figure.subplots(2, 3).flat, _SHOWN, strict=True):
        for name in names:
            axes.plot([line["step"] for line in steps], [line[name] for line in steps], linewidth=1, label=name)
        for name in sorted(set(judged[-1]["evaluation"]) - _COUNTS) if judged and not names else ():
            axes.plot(
                [line["step"] for line in judged], [line["evaluation"].get(name) for line in judged],
                marker="o", markersize=3, label=name,
            )  # fmt: skip
        axes.set(title=title, xlabel="step")
        if len(names) != 1 and axes.lines:
            axes.legend(fontsize="small")
    partial = folder / f".{PICTURE}"
    try:
        figure.savefig(partial, format="png", dpi=100)
        partial.replace(folder / PICTURE)
    except OSError as fault:
        _log.warning("no picture of the curves: %s", fault)
