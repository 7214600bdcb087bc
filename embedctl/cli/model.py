"""``embedctl model``."""

from pathlib import Path
from typing import Annotated

import typer

from embedctl.cli import show
from embedctl.cli.context import settings_of

app = typer.Typer(no_args_is_help=True, help="Take the model elsewhere.")


@app.callback()
def group() -> None:
    """Take the model elsewhere."""


@app.command()
def export(
    context: typer.Context,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="sentence-transformers; onnx (pip install 'embedctl\\[onnx]'); or torchscript, deprecated by PyTorch.",
        ),
    ] = "sentence-transformers",
    to: Annotated[Path | None, typer.Option("--to", metavar="DIR", help="A new folder, or an older export.")] = None,
) -> None:
    """Write the head of the run for other programs, and check that they get the same vectors."""
    from embedctl.checkpoint.export import FORMATS, export_model

    if form not in FORMATS:
        raise typer.BadParameter(f"want {', '.join(FORMATS)}; got {form!r}", param_hint="--format")
    made = export_model(settings_of(context).layout, form, to=to)
    facts = {"step": "steps trained", "dim": "dimensions"}
    show.outcome(context, made, facts=facts, then=_how_to_open(form, made.folder))


def _how_to_open(form: str, folder: Path) -> str:
    where = show.short(folder)
    return {
        "sentence-transformers": f'SentenceTransformer("{where}").encode(["some text"])',
        "onnx": f'onnxruntime.InferenceSession("{where}/model.onnx"), its tokens by {where}/tokenizer.json',
        "torchscript": f'torch.jit.load("{where}/model.pt"), its tokens by {where}/tokenizer.json',
    }[form]
