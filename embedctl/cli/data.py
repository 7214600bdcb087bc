"""``embedctl data``: from a source to token shards."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from embedctl.cli import render, show
from embedctl.cli.context import invocation, settings_of

if TYPE_CHECKING:
    from embedctl.loading import Loaded
    from embedctl.settings import TokensSettings

app = typer.Typer(no_args_is_help=True, help="Fetch, check and tokenize text.")


@app.command()
def fetch(
    context: typer.Context,
    fresh: Annotated[bool, typer.Option("--fresh", help="Write all anew, not only what is new or changed.")] = False,
) -> None:
    """Bring the records of the configured sources into the workspace; later only what is new or changed."""
    from embedctl.data import corpus

    loaded = settings_of(context)
    with render.progress("fetch", quiet=invocation(context).quiet) as watch:
        made = corpus.fetch(
            loaded.settings.data,
            loaded.layout,
            seed=loaded.settings.project.seed,
            secrets=loaded.secrets,
            fresh=fresh,
            watch=watch,
        )
    if not invocation(context).as_json:
        _show_sources(made.manifest.facts)
    facts = {
        "records": "records",
        "records_with_query": "with a query",
        "characters": "characters",
        "new_records": "new",
        "changed_records": "changed",
        "gone_records": "gone",
    }
    show.outcome(context, made, facts=facts, then="embedctl data validate")


@app.command()
def validate(
    context: typer.Context,
    fail_on: Annotated[
        str | None,
        typer.Option("--fail-on", metavar="SEVERITY", help="Exit 3 at never, low, medium, high or critical findings."),
    ] = None,
) -> None:
    """Judge every record: encoding, hidden text, injections, secrets, copies; leaves report.json and report.html."""
    from embedctl.data import starting

    loaded = settings_of(context)
    starting.start(starting.JUDGING, loaded.layout, loaded.layout.validation)
    from embedctl.data import validation
    from embedctl.settings import Severity
    from embedctl.tokens import published

    settings = loaded.settings.validation
    if fail_on is not None:
        known = ("never", *get_args(Severity))
        if fail_on not in known:
            raise typer.BadParameter(f"want {', '.join(known)}; got {fail_on!r}")
        settings = settings.model_copy(update={"fail_on": fail_on})
    with render.progress("validate", quiet=invocation(context).quiet) as watch:
        made = validation.validate(
            settings,
            loaded.layout,
            held_percent=loaded.settings.data.held_percent,
            similarity_file=loaded.settings.evaluation.similarity_file,
            plan=published.plan(_tokens(loaded)),
            watch=watch,
        )
    report = validation.read_report(made.folder)
    if not invocation(context).as_json:
        _show_report(report, quiet=invocation(context).quiet)
    facts = {"records": "records", "kept": "kept", "flagged": "flagged", "fixed": "mended", "dropped": "dropped"}
    fault = validation.refusal(settings, made)
    show.outcome(context, made, facts=facts, then="embedctl data tokenize", fault=fault)


@app.command()
def tokenize(
    context: typer.Context,
    new_vocabulary: Annotated[
        bool, typer.Option("--new-vocabulary", help="Learn the vocabulary anew, even if the corpus has only grown.")
    ] = False,
) -> None:
    """Train or load the tokenizer, cut the texts into chunks, write token shards."""
    from embedctl.data import starting

    loaded = settings_of(context)
    used = _tokens(loaded)
    # Where a vocabulary is learnt first, they would only wait.
    if used.tokenizer is not None:
        starting.start(starting.TOKENIZING, loaded.layout, loaded.layout.tokens)
    from embedctl.tokens import tokenization
    from embedctl.workers import without_pandas

    held = loaded.settings.data.held_percent
    with without_pandas(), render.progress("tokenize", quiet=invocation(context).quiet) as watch:
        made = tokenization.tokenize(used, loaded.layout, held_percent=held, new_vocabulary=new_vocabulary, watch=watch)
    if not invocation(context).as_json:
        show_tokens(made.manifest.facts, made.measured)
    facts = {"records": "records", "held_records": "held out", "chunks": "chunks", "tokens": "tokens"}
    show.outcome(context, made, facts=facts, then="embedctl train")


def _show_sources(facts: Mapping[str, Any]) -> None:
    sources = facts.get("sources", {})
    if len(sources) > 1:
        rows = [[name, s["records"], render.size(s["bytes"]), _encodings(s)] for name, s in sources.items()]
        render.table(["source", "records", "text", "encodings"], rows, right=("records", "text"))
    else:
        for source in sources.values():
            if set(source.get("encodings", {})) - {"utf-8"}:
                render.line(f"encodings: {_encodings(source)}")


def _encodings(source: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in source.get("encodings", {}).items())


def _show_report(report: Mapping[str, Any], *, quiet: bool) -> None:
    if report["findings"]:
        columns = ["check", "severity", "action", "records", "places", "first seen"]
        # What context shows to be harmless is counted, and nothing is done about it.
        rows = [
            [
                f["check"],
                f["severity"],
                f["action"] if f["records"] else "none",
                f["records"],
                f["occurrences"],
                _first(f["samples"]),
            ]
            for f in report["findings"]
        ]
        render.table(columns, rows, right=("records", "places"))
    named = ("mean", "std", "min", "p5", "p50", "p95", "max")
    lengths = [
        [label, *(round(report[key][name]) for name in named)]
        for label, key in (("texts", "length_characters"), ("queries", "query_length_characters"))
        if report[key].get("count")
    ]
    render.table(["characters", *named], lengths, right=named)
    shares = list(report["languages"]["shares"].items())
    languages = ", ".join(f"{name} {share:.1%}" for name, share in shares[:5]) + (", …" if len(shares) > 5 else "")
    render.line(f"languages: {languages}")
    cut = report["truncation"]
    basis = "" if cut["basis"] == "tokenizer" else " (estimated)"
    asked = report["query_length_characters"]["count"]
    queries = f", {cut['queries_cut_percent']:.1f} % of the queries lose their end" if asked else ""
    render.line(
        f"{cut['texts_split_percent']:.1f} % of the texts will be cut into chunks of {cut['max_tokens']} tokens"
        f"{queries}{basis}"
    )
    _offer_fixes(report["findings"], quiet=quiet)


def _offer_fixes(findings: list[dict[str, Any]], *, quiet: bool) -> None:
    from embedctl.data.checks.repair import FIXABLE

    for name in [f["check"] for f in findings if f["records"] and f["action"] == "flag" and f["check"] in FIXABLE]:
        render.note(f"to have it mended: --set validation.actions.{name}=fix", quiet=quiet)


def _first(samples: list[dict[str, Any]]) -> str:
    return f"{samples[0]['id']}: {samples[0]['shown']}" if samples else ""


def show_tokens(facts: Mapping[str, Any], measured: Mapping[str, Any]) -> None:
    """What was made of the texts, drawn; and how fast."""
    lengths = facts["length_tokens"]
    most = max((bar["chunks"] for bar in lengths["histogram"]), default=1)
    rows = [
        [f"{bar['from']}-{bar['to'] - 1}", bar["chunks"], "█" * round(40 * bar["chunks"] / most) or "▏"]
        for bar in lengths["histogram"]
        if bar["chunks"]
    ]
    render.table(["tokens", "chunks", ""], rows, right=("chunks",))
    split = 100 * facts["split_records"] / max(facts["records"], 1)
    cut = f", {100 * facts['cut_queries'] / facts['queries']:.1f} % of the queries were cut" if facts["queries"] else ""
    render.line(
        f"{facts['tokens_per_character']:.3f} tokens per character; {split:.1f} % of the records in several chunks{cut}"
    )
    # The speed of less than a second says how long a process takes to start.
    if measured and measured["seconds"] >= 1:
        processes = "1 process" if measured["processes"] == 1 else f"{measured['processes']} processes"
        render.line(
            f"{measured['megabytes_per_second']:,.1f} MB/s, {measured['tokens_per_second']:,} tokens/s, "
            f"{processes}, by {' and '.join(facts['engines'])}"
        )


def _tokens(loaded: "Loaded") -> "TokensSettings":
    """The tokens settings; with the tokenizer and the prompts of a published model, if training begins with one."""
    if not loaded.settings.model.init_from:
        return loaded.settings.tokens
    from embedctl.model.published import tokens_settings

    return tokens_settings(loaded.settings.model, loaded.settings.tokens)
