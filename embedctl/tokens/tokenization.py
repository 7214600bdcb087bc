"""The tokens artifact: records that passed validation, cut into chunks of token ids.

Each part of the corpus becomes one shard; shards are made by as many processes as there are cores, committed one
by one, and taken over as long as they would come out the same.
"""

import hashlib
import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from pydantic import JsonValue

from embedctl.artifacts import growing, manifest
from embedctl.artifacts.folder import lock, write_file
from embedctl.artifacts.growing import GrowingFolder, Shard, growing_folder
from embedctl.artifacts.layout import Layout
from embedctl.artifacts.manifest import Manifest
from embedctl.artifacts.outcome import Outcome, up_to_date
from embedctl.data import validation
from embedctl.data.corpus import parts_of, read_part
from embedctl.data.records import Record, split_of
from embedctl.data.report import describe
from embedctl.errors import ArtifactError, DataError
from embedctl.progress import Tick, Watch, unwatched
from embedctl.settings import TokensSettings
from embedctl.tokens import chunks, published, shards, tokenizer
from embedctl.tokens import shard as sharding
from embedctl.workers import cores, spread

_log = logging.getLogger(__name__)

# A vocabulary does not get better beyond so much text, and learning it takes a second for every few of these MB.
_VOCABULARY_CHARACTERS = 100e6
_VOCABULARY = "vocabulary"


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
    corpus = manifest.read_verified(layout.corpus, "corpus")
    judged = manifest.read_verified(layout.validation, "validation")
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
            return found
        with growing_folder(layout.tokens, identity) as folder:
            job = _Job(settings, layout, held_percent, corpus, judged, folder, recipe)
            job.tokenizer(new=new_vocabulary, watch=watch)
            began = time.monotonic()
            made_now = job.shards(watch, processes)
            seconds = time.monotonic() - began
            known = folder.finish(sorted(folder.shards))
            facts = job.facts()
            made = manifest.write(folder.path, "tokens", parents=parents, settings=recipe, facts=facts, known=known)
    if facts["cut_queries"]:
        _log.warning(
            "%s of %s queries were longer than tokens.query_max_tokens and were cut",
            f"{facts['cut_queries']:,}",
            f"{facts['queries']:,}",
        )
    return Outcome(layout.tokens, made, made=True, measured=_measured(made_now, seconds))


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
        self.dropped = validation.dropped_rows(layout.validation)

    def tokenizer(self, *, new: bool, watch: Watch) -> None:
        """Put ``tokenizer.json`` into the folder: the given one, the one that was learnt before, or a new one."""
        path = self.folder.path / shards.TOKENIZER
        key = growing.key_of(
            {"recipe": self.recipe, "corpus": self.corpus.content_id, "validation": self.judged.content_id}
        )
        if not new and self.folder.take(_VOCABULARY, key):
            return
        kept = None if new or self.settings.tokenizer else self._still_good()
        if self.settings.tokenizer is not None:
            content = published.load(self.settings.tokenizer).to_str(pretty=True)
        elif kept is not None:
            content = kept
            _log.warning("the corpus has grown; its vocabulary stays (embedctl data tokenize --new-vocabulary)")
        else:
            content = tokenizer.train(lambda: self._training_texts(watch), self.settings).to_str(pretty=True)
        write_file(path, (content + "\n").encode())
        files = {path.name: manifest.entry_of(path)}
        self.folder.commit(Shard(name=_VOCABULARY, key=key, files=files))

    def shards(self, watch: Watch, processes: int | None) -> list[Shard]:
        """Make every shard that is not there; those that were made."""
        path = self.folder.path / shards.TOKENIZER
        vocabulary = manifest.entry_of(path).sha256
        due: list[sharding.Work] = []
        done = 0
        for part in self.parts:
            work = self._work(part, path, vocabulary)
            ready = self.folder.take(work.name, work.key)
            if ready is None:
                due.append(work)
            else:
                done += _number(ready, "bytes")
        total = self._bytes()
        made: list[Shard] = []
        watch(Tick(done, total, "bytes"))
        for _, shard in spread(sharding.make_shard, due, processes=processes):
            made.append(self.folder.commit(shard))
            done += _number(shard, "bytes")
            watch(Tick(done, total, "bytes"))
        if not any(_number(shard, "records") for shard in self.folder.shards.values()):
            raise DataError(
                "validation left no record to tokenize",
                hint="see the report of `embedctl data validate`, or relax [validation]",
            )
        return made

    def facts(self) -> dict[str, JsonValue]:
        """What all shards hold together."""
        parts = [shard for shard in self.folder.shards.values() if shard.name != _VOCABULARY]
        totals: dict[str, JsonValue] = {
            name: sum(_number(shard, name) for shard in parts)
            for name in (
                "records",
                "held_records",
                "split_records",
                "queries",
                "cut_queries",
                "inexact_chunks",
                "characters",
                "bytes",
            )
        }
        lengths = Counter[int]()
        for shard in parts:
            lengths.update(_lengths(shard))
        every = np.repeat(np.array(list(lengths), np.int64), list(lengths.values()))
        tokens = int(every.sum())
        used = published.load(self.folder.path / shards.TOKENIZER)
        return {
            **totals,
            "chunks": len(every),
            "tokens": tokens,
            "tokens_per_character": round(tokens / max(int(str(totals["characters"])), 1), 4),
            "vocabulary": used.get_vocab_size(),
            "length_tokens": {**describe(every), "histogram": _histogram(lengths)},
            "engines": [*sorted({str(shard.facts["engine"]) for shard in parts})],
        }

    def _work(self, part: Path, path: Path, vocabulary: str) -> sharding.Work:
        dropped = self.dropped.get(part.stem, ())
        mended = validation.mended_file(self.layout.validation, part.stem)
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
            source=self.corpus.files[part.name].sha256,
            dropped=dropped,
            mended=mended,
        )

    def _still_good(self) -> str | None:
        """The vocabulary of the tokens at hand, if most of what it was learnt from is still in the corpus."""
        try:
            found = manifest.find(self.layout.tokens, "tokens")
        except ArtifactError:
            return None
        if found is None or found.settings != self.recipe:
            return None
        here = {entry.sha256 for entry in self.corpus.files.values()}
        parts = [shard.facts.get("part") for shard in growing.read_shards(self.layout.tokens) if "part" in shard.facts]
        if not parts or 2 * sum(part in here for part in parts) < len(parts):
            return None
        return (self.layout.tokens / shards.TOKENIZER).read_text(encoding="utf-8").removesuffix("\n")

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
            dropped = set(self.dropped.get(part.stem, ()))
            yield from (r for row, r in enumerate(read_part(part)) if row not in dropped)

    def _bytes(self) -> int:
        sources = self.corpus.facts.get("sources")
        each: Iterable[JsonValue] = sources.values() if isinstance(sources, dict) else ()
        return sum(int(str(source.get("bytes", 0))) for source in each if isinstance(source, dict))


def _drawn(record_id: str, percent: float) -> bool:
    return split_of(f"vocabulary/{record_id}", percent) == "held"


def _number(shard: Shard, fact: str) -> int:
    value = shard.facts.get(fact, 0)
    return value if isinstance(value, int) else 0


def _lengths(shard: Shard) -> Counter[int]:
    """The chunks of a shard by their number of tokens."""
    pairs = shard.facts["lengths"]
    assert isinstance(pairs, list)
    return Counter({int(str(pair[0])): int(str(pair[1])) for pair in pairs if isinstance(pair, list)})


def _histogram(lengths: Counter[int]) -> list[JsonValue]:
    """Chunks by length, in sixteen equal bins up to the longest."""
    longest = max(lengths, default=0)
    width = max(-(-longest // 16), 1)
    counts = Counter[int]()
    for length, count in lengths.items():
        counts[(length - 1) // width] += count
    return [
        {"from": n * width + 1, "to": (n + 1) * width + 1, "chunks": counts[n]}
        for n in range(max(counts, default=-1) + 1)
    ]


def _measured(made: list[Shard], seconds: float) -> dict[str, JsonValue]:
    """How fast it went; not in the manifest, which says the same whenever it is made."""
    if not made:
        return {}
    size = sum(_number(shard, "bytes") for shard in made)
    tokens = sum(length * count for shard in made for length, count in _lengths(shard).items())
    return {
        "megabytes_per_second": round(size / 1e6 / seconds, 1),
        "tokens_per_second": round(tokens / seconds),
        "processes": min(cores(), len(made)),
        "seconds": round(seconds, 2),
    }
