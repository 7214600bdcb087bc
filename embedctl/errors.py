"""Every error a user can meet.

EmbedctlError
├── ConfigError      the settings or the options are wrong               exit 2
├── DataError        records break the rules, or a limit was hit         exit 3
├── ArtifactError    a file on disk is torn, foreign or of a newer format  exit 4
├── PartialError     done, but some items were rejected (file named)     exit 5
├── RemoteError      a server kept saying no; run again                  exit 6
├── AuthError        a key is missing or refused, a quota is used up     exit 7
├── OutOfMemory      no room even for the smallest batch                 exit 8
├── StorageError     the disk is full, read-only or not permitted        exit 9
├── LockedError      another embedctl owns the folder                    exit 10
├── RefusedError     an unsafe path, a pickle, remote code               exit 11
├── NotFoundError    no artifact, checkpoint or index of that name       exit 12
└── DivergedError    the loss is not finite any more                     exit 13

A signal exits with 128 + its number, after what was under way has been put in order.
"""

import signal


class EmbedctlError(Exception):
    """An expected failure: what is wrong, and in ``hint`` what to type next."""

    exit_code = 1
    name = "internal"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(EmbedctlError):
    exit_code = 2
    name = "usage"


class DataError(EmbedctlError):
    exit_code = 3
    name = "invalid-data"


class ArtifactError(EmbedctlError):
    exit_code = 4
    name = "corrupt"


class TornError(ArtifactError):
    """A file cannot be read at all."""


class PartialError(EmbedctlError):
    exit_code = 5
    name = "partial"


class RemoteError(EmbedctlError):
    exit_code = 6
    name = "remote-transient"


class AuthError(EmbedctlError):
    exit_code = 7
    name = "auth"


class OutOfMemory(EmbedctlError):
    exit_code = 8
    name = "out-of-memory"


class StorageError(EmbedctlError):
    exit_code = 9
    name = "storage"


class LockedError(EmbedctlError):
    exit_code = 10
    name = "locked"


class RefusedError(EmbedctlError):
    exit_code = 11
    name = "refused"


class NotFoundError(EmbedctlError):
    exit_code = 12
    name = "not-found"


class DivergedError(EmbedctlError):
    exit_code = 13
    name = "diverged"


class Interrupted(BaseException):
    """A signal asked the command to stop. Not an ``Exception``: nothing but the door catches it."""

    def __init__(self, number: int, *, message: str = "interrupted", hint: str | None = None) -> None:
        super().__init__(message)
        self.number = number
        self.message = message
        self.hint = hint

    @property
    def exit_code(self) -> int:
        return 128 + self.number

    @property
    def name(self) -> str:
        return signal.Signals(self.number).name.lower()


def stopping_signals() -> list[signal.Signals]:
    """The signals that ask a command to stop: INT, TERM, and HUP unless ``nohup`` has it ignored."""
    known = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    return [s for s in known if s.name != "SIGHUP" or signal.getsignal(s) is not signal.SIG_IGN]


# How CUDA, and torch's allocators on Linux and on Windows, say it; numpy raises a MemoryError.
_NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")


def is_out_of_memory(fault: BaseException) -> bool:
    """Whether a library has run out of memory; each has its own way to say so."""
    text = str(fault).lower()
    return isinstance(fault, MemoryError) or any(said in text for said in _NO_MEMORY)
