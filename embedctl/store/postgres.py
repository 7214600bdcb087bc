"""A connection to PostgreSQL: opened when it is needed, its failures told apart, its password never shown."""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, LiteralString
from urllib.parse import quote

from pydantic import SecretStr

from embedctl.errors import AuthError, ConfigError, EmbedctlError, NotFoundError, RemoteError, StorageError
from embedctl.store.protocol import Busy, Refused, Where

_CONNECT_SECONDS = 10
_KEY = "DATABASE_URL"
_OLDEST = (0, 8)  # the first pgvector whose index goes on until a filter has let k rows through

# SQLSTATEs (classes, or whole codes) of what may pass: connections, serialization, deadlocks, too many clients,
# locks that are not free, a server that shuts down or starts.
_PASSING = ("08", "40", "53300", "55P03", "57P01", "57P02", "57P03", "57P05")
# Of values that the server will never take: NUL and other text, numbers and rows too large, one id twice.
_REFUSED = ("22", "21000", "54000")


class Postgres:
    """Sessions with one database: as many as are in use at once, each kept for the next who wants one."""

    def __init__(self, url: SecretStr | None) -> None:
        """Raises ``AuthError`` without a URL, ``ConfigError`` for one that cannot be read."""
        self._url = _readable(url)
        # A list's pop and append are whole steps: threads share it without a lock.
        self._free: list[Any] = []

    @property
    def where(self) -> str:
        """Host, port and database, as far as the URL names them; neither user nor password."""
        from psycopg.conninfo import conninfo_to_dict

        said = conninfo_to_dict(self._url)
        return f"{said.get('host', 'localhost')}:{said.get('port', 5432)}/{said.get('dbname', '')}"

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """A cursor; what is done with it is done as a whole or not at all.

        Raises ``Busy`` for what may pass, ``Refused`` for rows that it will never take, else an ``EmbedctlError``.
        """
        import psycopg

        session = None
        try:
            session = self._session()
            with session.transaction(), session.cursor() as cursor:
                yield cursor
        except psycopg.Error as fault:
            if session is None:
                raise self._unreachable(fault) from None
            if session.broken:
                raise Busy(self._shown(fault)) from None
            raise self._explain(fault) from None
        finally:
            if session is not None:
                if session.broken or session.closed:
                    session.close()
                else:
                    self._free.append(session)

    def _session(self) -> Any:
        import psycopg

        with contextlib.suppress(IndexError):
            return self._free.pop()
        wanted = _missing(self._url, connect_timeout=_CONNECT_SECONDS, application_name="embedctl")
        # Prepared statements are lost behind a pooler that gives each transaction another session.
        return psycopg.connect(self._url, prepare_threshold=None, **wanted)

    def _unreachable(self, fault: Any) -> Exception:
        """Why there is no session. libpq gives no SQLSTATE before there is one: its words have to do."""
        reason, connection = self._shown(fault), fault.pgconn
        unknown = "does not exist" in reason
        if "authentication failed" in reason or ("role" in reason and unknown):
            return AuthError(f"PostgreSQL refuses the login: {reason}", hint=f"check the user and password of {_KEY}")
        if "no password supplied" in reason or (connection is not None and connection.needs_password):
            return AuthError(f"PostgreSQL wants a password: {reason}", hint=f"put it into {_KEY}")
        if "no pg_hba.conf entry" in reason:
            return AuthError(f"PostgreSQL refuses the login: {reason}", hint="the server's pg_hba.conf decides who may")
        if "database" in reason and unknown:
            return NotFoundError(reason, hint="createdb NAME makes one")
        if "connection option" in reason:
            return ConfigError(f"{_KEY}: {reason}")
        return Busy(reason)

    def _explain(self, fault: Any) -> Exception:
        reason, state = self._shown(fault), fault.sqlstate or ""
        if state.startswith(_PASSING):
            return Busy(reason)
        if state.startswith(_REFUSED):
            return Refused(reason)
        if state == "42501":
            return AuthError(f"PostgreSQL: {reason}", hint="grant the rights, or set another user in " + _KEY)
        if state in ("53100", "53200", "58030"):
            return StorageError(f"PostgreSQL: {reason}")
        return _other(reason, state)

    def _shown(self, fault: Any) -> str:
        """The server's own sentence, without the password."""
        return _redacted(str(fault), self._url)


def _other(reason: str, state: str) -> EmbedctlError:
    return RemoteError(f"PostgreSQL: {reason} (SQLSTATE {state or 'unknown'})")


def _readable(url: SecretStr | None) -> str:
    text = url.get_secret_value().strip() if url else ""
    if not text:
        raise AuthError(
            f"{_KEY} is not set",
            hint=f"put {_KEY}=postgresql://USER:PASSWORD@HOST/DATABASE into .env or the environment",
        )
    try:
        import psycopg
        from psycopg.conninfo import conninfo_to_dict
    except ImportError:
        raise ConfigError(
            'store.kind = "pgvector" wants psycopg, which is not installed', hint="pip install 'embedctl[pg]'"
        ) from None
    try:
        conninfo_to_dict(text)
    except psycopg.Error:
        # What libpq says of it repeats the URL, with the password.
        raise ConfigError(
            f"{_KEY} is not a connection string", hint="want postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
        ) from None
    return text


def _missing(url: str, **wanted: object) -> dict[str, Any]:
    """Those of ``wanted`` that the URL does not say for itself."""
    from psycopg.conninfo import conninfo_to_dict

    said = conninfo_to_dict(url)
    return {name: value for name, value in wanted.items() if name not in said}


def _redacted(message: str, url: str) -> str:
    from psycopg.conninfo import conninfo_to_dict

    password = str(conninfo_to_dict(url).get("password") or "")
    lines = [line.strip() for line in message.replace(url, "(DATABASE_URL)").splitlines() if line.strip()]
    shown = lines[0] if lines else "no reason given"
    for secret in {password, quote(password), quote(password, safe="")} - {""}:
        shown = shown.replace(secret, "***")
    return shown


def need_pgvector(cursor: Any) -> None:
    """Set the extension up where it is not; raises ``ConfigError`` where that cannot be."""
    from psycopg.errors import InsufficientPrivilege

    found = cursor.execute(
        "SELECT installed_version, default_version FROM pg_available_extensions WHERE name = 'vector'"
    ).fetchone()
    if found is None:
        raise ConfigError(
            "this PostgreSQL server has no pgvector",
            hint="install it there: apt install postgresql-18-pgvector, or run the image pgvector/pgvector:pg18",
        )
    installed, newest = found
    version = str(installed or newest)
    if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST:
        raise ConfigError(f"pgvector {version} is too old, want 0.8", hint="ALTER EXTENSION vector UPDATE")
    if installed is None:
        try:
            cursor.execute("CREATE EXTENSION IF NOT EXISTS vector")
        except InsufficientPrivilege:
            raise ConfigError(
                "pgvector is not set up in this database, and this user may not do it",
                hint="as a superuser, in the same database: CREATE EXTENSION vector",
            ) from None


def condition_of(model: str, where: Where) -> tuple[LiteralString, list[Any]]:
    """SQL that lets through what ``where`` wants of the rows of ``model``, with a mark for each value; and the values.

    Containment is what the GIN index answers.
    """
    from psycopg.types.json import Jsonb

    parts: list[LiteralString] = ["model = %s"]
    values: list[Any] = [model]
    for key, allowed in where.items():
        either = [form for value in allowed for form in ({key: value}, {key: [value]})]
        parts.append("(" + " OR ".join(["metadata @> %s"] * len(either)) + ")")
        values += [Jsonb(form) for form in either]
    return " AND ".join(parts), values


def quoted(lexeme: str) -> str:
    """A word of a tsquery, which is a value and no SQL."""
    return "'" + lexeme.replace("\\", "\\\\").replace("'", "''") + "'"
