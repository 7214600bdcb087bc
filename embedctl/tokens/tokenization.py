"""The tokens artifact: records that passed validation, cut into chunks of token ids.

Each part of the corpus becomes one shard; shards are made by as many processes as there are cores, committed one
by one, and taken over as long as they would come out the same.
"""

import hashlib
import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import JsonValue

from embedctl.artifacts import growing, manifest
from embedctl.artifacts.folder import lock, sync, write_file
from embedctl.artifacts.growing import GrowingFolder, Shard, growing_folder
from embedctl.artifacts.layout import Layout
from embedctl.artifacts.manifest import Manifest
from embedctl.artifacts.outcome import Outcome, up_to_date
from embedctl.data import decided
from embedctl.data.corpus import parts_of, read_part
from embedctl.data.records import Record, split_of
from embedctl.data.starting import TOKENIZING
from embedctl.errors import ArtifactError, DataError
from embedctl.progress import Tick, Watch, unwatched
from embedctl.settings import TokensSettings
from embedctl.tokens import chunks, figures, published, shards, tokenizer
from embedctl.tokens import shard as sharding
from embedctl.workers import Crew, cores

_log = logging.getLogger(__name__)

# A vocabulary does not get better beyond so much text, and learning it takes a second for every few of these MB.
_VOCABULARY_CHARACTERS = 100e6
_VOCABULARY = "vocabulary"
# The settings that a vocabulary depends on.
_LEARNT_BY = ("algorithm", "vocabulary_size", "lowercase", "held_percent")


def tokenize(
    settings: TokensSettings,
    layout: Layout,
    *,
    held_percent: float,
    new_vocabulary: bool = False,
    processes: int | None = None,
    watch: Watch = unwatched,
) -> Outcome:
    """Turn ``corpus/NAME`` into token shards, leaving out the records that validation dropped.

    held_percent:   share of the records marked ``held``, by a hash of the id
    new_vocabulary: learn a vocabulary anew, even if the corpus has only grown since
    """
    with Crew(min(processes or cores(), len(parts_of(layout.corpus))), TOKENIZING) as crew:
        if settings.tokenizer is not None and not layout.tokens.exists():
            crew.start(partial(sharding.warm, settings.tokenizer))
        manifest.read(layout.corpus, "corpus")  # before any lock is made
        manifest.read(layout.validation, "validation")
        # Neither becomes another while it is read.
        with lock(layout.lock(layout.corpus), shared=True), lock(layout.lock(layout.validation), shared=True):
            return _tokenize(settings, layout, held_percent, crew, new_vocabulary=new_vocabulary, watch=watch)


def _tokenize(
    settings: TokensSettings, layout: Layout, held_percent: float, crew: Crew, *, new_vocabulary: bool, watch: Watch
) -> Outcome:
    corpus = manifest.read_verified(layout.corpus, "corpus")
    judged = manifest.read_verified(layout.validation, "validation", only=decided.READ)
    parents = {"corpus": corpus.content_id, "validation": judged.content_id}
    if judged.parents.get("corpus") != corpus.content_id:
        raise DataError(
            "the validation is of another corpus than the one at hand", hint="run `embedctl data validate` first"
        )
    recipe = recipe_of(settings, held_percent)
    identity = manifest.fingerprint("tokens", parents, recipe)
    with lock(layout.lock(layout.tokens)):
        found = None if new_vocabulary else up_to_date(layout.tokens, "tokens", identity)
        if found:
            growing.tidy(layout.tokens)
            return found
        with growing_folder(layout.tokens, identity) as folder:
            job = _Job(settings, layout, held_percent, corpus, judged, folder, recipe)
            job.tokenizer(crew, new=new_vocabulary, watch=watch)
            began = time.monotonic()
            made_now = job.shards(crew, watch)
            seconds = time.monotonic() - began
            known = folder.finish(sorted(folder.shards))
            facts = figures.facts([*folder.shards.values()], vocabulary=_VOCABULARY)
            facts["covered"] = list(job.covered)
            made = manifest.write(folder.path, "tokens", parents=parents, settings=recipe, facts=facts, known=known)
    if facts["cut_queries"]:
        _log.warning(
            "%s of %s queries were longer than tokens.query_max_tokens and were cut",
            f"{facts['cut_queries']:,}",
            f"{facts['queries']:,}",
        )
    return Outcome(layout.tokens, made, made=True, measured=figures.measured(made_now, seconds, crew))


def recipe_of(settings: TokensSettings, held_percent: float) -> dict[str, JsonValue]:
    """The settings on which the tokens depend."""
    recipe: dict[str, JsonValue] = settings.model_dump(mode="json", exclude={"tokenizer"})
    recipe["held_percent"] = held_percent
    recipe["cutting"] = chunks.FORMAT
    if settings.tokenizer is not None:
        recipe["tokenizer_sha256"] = published.digest_of(settings.tokenizer)
        for unused in ("algorithm", "vocabulary_size", "lowercase"):
            del recipe[unused]
    return recipe


class _Job:
    """One run over all parts."""

    def __init__(
        self,
        settings: TokensSettings,
        layout: Layout,
        held_percent: float,
        corpus: Manifest,
        judged: Manifest,
        folder: GrowingFolder,
        recipe: dict[str, JsonValue],
    ) -> None:
        self.settings, self.layout, self.held_percent = settings, layout, held_percent
        self.corpus, self.judged, self.folder, self.recipe = corpus, judged, folder, recipe
        self.parts = parts_of(layout.corpus)
        self.dropped = decided.dropped_rows(layout.validation)
        actions = judged.settings.get("actions")
        asked = actions if isinstance(actions, dict) else {}
        self.covered = [name for name in ("personal_data", "secret") if asked.get(name) == "fix"]

    def tokenizer(self, crew: Crew, *, new: bool, watch: Watch) -> None:
        """Put ``tokenizer.json`` into the folder: the given one, the one that was learnt before, or a new one."""
        path = self.folder.path / shards.TOKENIZER
        key = growing.key_of(
            {"recipe": self.recipe, "corpus": self.corpus.content_id, "validation": self.judged.content_id}
        )
        if not new and self.folder.take(_VOCABULARY, key):
            return
        kept = None if new or self.settings.tokenizer else self._still_good()
        if self.settings.tokenizer is not None:
            written, size = crew.warmed() or published.file_of(published.load(self.settings.tokenizer))
        elif kept is not None:
            written, size = kept, published.parse(kept, str(self.layout.tokens / shards.TOKENIZER)).get_vocab_size()
            _log.warning("the corpus has grown; its vocabulary stays (embedctl data tokenize --new-vocabulary)")
        else:
            written, size = published.file_of(tokenizer.train(lambda: self._training_texts(watch), self.settings))
        write_file(path, written)
        files = {path.name: manifest.entry_of(path)}
        self.folder.commit(Shard(name=_VOCABULARY, key=key, files=files, facts={"size": size}))

    def shards(self, crew: Crew, watch: Watch) -> list[Shard]:
        """Make every shard that is not there; those that were made."""
        path = self.folder.path / shards.TOKENIZER
        vocabulary = manifest.entry_of(path).sha256
        rows = {part.name: figures.number(part, "records") for part in growing.read_shards(self.layout.corpus)}
        works = [self._work(part, path, vocabulary) for part in self.parts]
        due = [work for work in works if self.folder.take(work.name, work.key) is None]
        total = sum(rows.values())
        done = total - sum(rows[work.name] for work in due)
        made: list[Shard] = []
        watch(Tick(done, total, "records"))
        began = time.monotonic()
        for work, shard in crew.spread(sharding.make_shard, due):
            # Here, as a worker that waits for the disk does nothing else.
            for file in shard.files:
                sync(self.folder.path / file)
            made.append(self.folder.commit(shard))
            done += rows[work.name]
            rate = sum(figures.number(shard, "bytes") for shard in made) / 1e6 / (time.monotonic() - began)
            watch(Tick(done, total, "records", {"rate": f"{rate:,.1f} MB/s"}))
        if not any(figures.number(shard, "records") for shard in self.folder.shards.values()):
            raise DataError(
                "validation left no record to tokenize",
                hint="see the report of `embedctl data validate`, or relax [validation]",
            )
        return made

    def _work(self, part: Path, path: Path, vocabulary: str) -> sharding.Work:
        dropped = self.dropped.get(part.stem, ())
        mended = decided.mended_file(self.layout.validation, part.stem)
        key = growing.key_of(
            {
                "part": self.corpus.files[part.name].sha256,
                "dropped": hashlib.sha256(np.array(dropped, "<i8").tobytes()).hexdigest(),
                "mended": self.judged.files[mended.name].sha256 if mended else "",
                "tokenizer": vocabulary,
                "recipe": self.recipe,
            }
        )
        return sharding.Work(
            name=part.stem,
            key=key,
            part=part,
            to=self.folder.path,
            tokenizer=path,
            vocabulary=vocabulary,
            settings=self.settings,
            held_percent=self.held_percent,
            source=self.corpus.files[part.name],
            dropped=dropped,
            mended=mended,
        )

    def _still_good(self) -> bytes | None:
        """The vocabulary of the tokens at hand, if most of what it was learnt from is still in the corpus."""
        try:
            found = manifest.find(self.layout.tokens, "tokens")
        except ArtifactError:
            return None
        noted = found.facts.get("covered") if found else None
        if not {*self.covered} <= {*(noted if isinstance(noted, list) else ())}:
            return None  # it holds what is covered by now
        if found is None or any(found.settings.get(name) != self.recipe.get(name) for name in _LEARNT_BY):
            return None
        here = {entry.sha256 for entry in self.corpus.files.values()}
        parts = [shard.facts.get("part") for shard in growing.read_shards(self.layout.tokens) if "part" in shard.facts]
        if not parts or 2 * sum(part in here for part in parts) < len(parts):
            return None
        return (self.layout.tokens / shards.TOKENIZER).read_bytes()

    def _training_texts(self, watch: Watch) -> Iterator[str]:
        # The vocabulary is learnt from the training split alone, so that held text stays unseen.
        total = self.corpus.number("records")
        share = min(_VOCABULARY_CHARACTERS / max(self.corpus.number("characters"), 1), 1.0) * 100
        for number, record in enumerate(self._records()):
            watch(Tick(number, total, "records", {"reading for": "vocabulary"}))
            if split_of(record.id, self.held_percent) == "train" and (share >= 100 or _drawn(record.id, share)):
                yield record.text
                if record.query:
                    yield record.query

    def _records(self) -> Iterator[Record]:
        for part in self.parts:
            dropped, mended = (
                set(self.dropped.get(part.stem, ())),
                decided.mended_rows(self.layout.validation, part.stem),
            )
            for row, record in enumerate(read_part(part)):
                if row not in dropped:
                    text, query = mended.get(row, (record.text, record.query))
                    yield replace(record, text=text, query=query)


def _drawn(record_id: str, percent: float) -> bool:
    return split_of(f"vocabulary/{record_id}", percent) == "held"
