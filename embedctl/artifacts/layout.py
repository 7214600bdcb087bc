"""Where everything lies under the workspace; the one place that knows the names of folders."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Layout:
    """The workspace as one project sees it: ``name`` is the corpus, ``run`` the training run."""

    root: Path
    name: str
    run: str

    @property
    def corpus(self) -> Path:
        return self.root / "corpus" / self.name

    @property
    def validation(self) -> Path:
        return self.root / "validation" / self.name

    @property
    def tokens(self) -> Path:
        return self.root / "tokens" / self.name

    @property
    def negatives(self) -> Path:
        return self.root / "negatives" / self.name

    @property
    def run_folder(self) -> Path:
        return self.root / "runs" / self.run

    @property
    def checkpoints(self) -> Path:
        return self.run_folder / "checkpoints"

    @property
    def evaluation(self) -> Path:
        return self.root / "evaluation" / self.run

    @property
    def vectors(self) -> Path:
        return self.root / "vectors" / self.run

    @property
    def cache(self) -> Path:
        return self.root / "cache" / "vectors"

    @property
    def exports(self) -> Path:
        return self.root / "exports"

    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def ledger(self) -> Path:
        return self.root / "ledger" / "acknowledged.sqlite"

    def lock(self, folder: Path) -> Path:
        """The lock that guards writing to ``folder``."""
        return self.root / ".locks" / (folder.relative_to(self.root).as_posix().replace("/", "-") + ".lock")
