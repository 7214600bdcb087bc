"""``embedctl config``: what the settings are and where each came from."""

from typing import Annotated, Any

import typer

from embedctl.cli import render
from embedctl.cli.context import invocation, settings_of

app = typer.Typer(no_args_is_help=True, help="Show, check and describe the settings.")


@app.command()
def show(
    context: typer.Context,
    key: Annotated[str | None, typer.Argument(metavar="KEY", help="A section or a dotted key.")] = None,
) -> None:
    """Show the effective settings and where each comes from: default, file, .env, environment or option."""
    from pydantic import BaseModel

    from embedctl.loading import value_at

    loaded = settings_of(context)
    if key is not None and not isinstance(value_at(loaded.settings, key), BaseModel):
        value: Any = value_at(loaded.settings, key)
        shown = {"key": key, "value": _plain(value), "origin": loaded.origins[key]}
        render.write_json(shown) if invocation(context).as_json else render.line(_text(value))
        return
    wanted = [dotted for dotted in loaded.origins if key is None or dotted.startswith(f"{key}.")]
    rows = [(dotted, value_at(loaded.settings, dotted), loaded.origins[dotted]) for dotted in wanted]
    if invocation(context).as_json:
        render.write_json({dotted: {"value": _plain(value), "origin": origin} for dotted, value, origin in rows})
        return
    cells = [
        [dotted, _text(value), render.colored(origin, "dim" if origin == "default" else "cyan")]
        for dotted, value, origin in rows
    ]
    render.table(["setting", "value", "from"], cells)


@app.command()
def check(context: typer.Context) -> None:
    """Load the settings and say whether they are right."""
    loaded = settings_of(context)
    changed = sum(origin != "default" for origin in loaded.origins.values())
    if invocation(context).as_json:
        render.write_json({"ok": True, "file": loaded.file and str(loaded.file), "changed": changed})
        return
    render.line(f"{loaded.file or 'no config file'}: the settings are right; {changed} differ from the defaults")


@app.command()
def schema(context: typer.Context) -> None:
    """Print the JSON Schema of the settings, for editors."""
    from embedctl.settings import Settings

    render.write_json(Settings.model_json_schema())


def _plain(value: object) -> object:
    """As JSON: of the tables of a list their keys."""
    from pydantic import BaseModel

    rows = value if isinstance(value, tuple) else ()
    return [row.model_dump(mode="json") if isinstance(row, BaseModel) else row for row in rows] if rows else value


def _text(value: object) -> str:
    from pydantic import BaseModel

    if value is None:
        return "-"
    if isinstance(value, BaseModel):
        # A table of a list has no rows of its own here: what it sets, in one.
        said = [name for name in type(value).model_fields if name in value.model_fields_set]
        return ", ".join(f"{name} = {_text(getattr(value, name))}" for name in said)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
        return "\n".join(map(_text, value))
    return "[" + ", ".join(map(str, value)) + "]" if isinstance(value, tuple) else str(value)
