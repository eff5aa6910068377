"""What survives a restart: one SQLite file, written by a thread of its own. Trouble with it never stops the controller.

The file has one row (how often the controller booted, and one JSON object) and the answers to commands. WAL with
synchronous=FULL makes a write survive a power cut; a checkpoint after every write keeps the main file whole by itself,
so that a copy of it, or a look at it in a directory that has become read-only, shows the newest value.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

import structlog

FILE = "podkeeper.sqlite"
SCHEMA = 1
LOCK_WAIT_S = 2.0
RETRY_S = 10.0  # how long after a failed write it is tried again
ASIDE_MAX = 100
CORRUPT_CODES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
EMPTY = "{}"
ANSWERS_MAX = 65_536  # that are read back: 16 principals with 4096 each


class Answer(NamedTuple):
    """What was answered to one command: ``digest`` tells whether it comes again, ``reply`` is the answer as it was."""

    principal: str
    id: str
    digest: str
    reply: str
    at_ms: int


class Answers(Protocol):
    """Where answers to commands are kept, so that a repeated one is answered and not done again."""

    def answers(self) -> list[Answer]:
        """Return what was kept, oldest first."""

    def keep_answer(self, answer: Answer, forget: str | None = None) -> None:
        """Keep ``answer``, in place of one with the same principal and id; forget that principal's id ``forget``."""


class NoAnswers:
    """Keeps nothing: answers are remembered for as long as the process runs."""

    def answers(self) -> list[Answer]:
        return []

    def keep_answer(self, answer: Answer, forget: str | None = None) -> None:
        pass


class _CorruptError(Exception):
    """The file is not one that this module wrote."""


class _LaterSchemaError(Exception):
    """A later release wrote the file."""


class Store:
    """What the controller must remember.

    Attributes:
        problem: why what is saved now may be forgotten, in words; empty while all is well.
    """

    def __init__(self, directory: Path) -> None:
        """Open or make the store in ``directory``; never raises for what is wrong with the disk."""
        self._trouble = ""  # with writing; over once a write succeeds
        self._lost = ""  # what was found corrupt at the start; to be told until the next one
        self._path = directory / FILE
        self._log = structlog.get_logger()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, "store")
        self._written, self._wanted = EMPTY, EMPTY
        self._kept: dict[tuple[str, str], Answer | None] = {}  # answers to write, None to delete
        self._answers: list[Answer] = []
        self._busy = False
        self._retry: threading.Timer | None = None
        self._boots = 0
        self._database: sqlite3.Connection | None = None
        self._open()
        self._wanted = self._written

    @property
    def problem(self) -> str:
        return self._trouble or self._lost

    def boot(self) -> int:
        """Count this boot; return its number, from 1."""
        self._boots += 1
        self._write(self._written)
        return self._boots

    def load(self) -> dict[str, Any]:
        """Return what was saved last; empty on the first boot."""
        loaded: dict[str, Any] = json.loads(self._written)
        return loaded

    async def save(self, values: Mapping[str, Any]) -> None:
        """Hand ``values`` (JSON) to the writing thread and return at once; ``flush`` waits until they are on disk.

        Does nothing when they are what was saved last. Of values that come faster than the disk, the newest wins.
        What could not be written is tried again every RETRY_S.
        """
        try:
            text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
        except (TypeError, ValueError) as error:
            self._report(f"what was to be saved is not JSON: {error}")
            return
        with self._lock:
            self._wanted = text
            if self._busy or text == self._written:
                return
            self._busy = True
        self._submit()

    def answers(self) -> list[Answer]:
        """Return the answers that an earlier run kept, oldest first."""
        return self._answers

    def keep_answer(self, answer: Answer, forget: str | None = None) -> None:
        """Hand an answer to the writing thread and return at once."""
        with self._lock:
            self._kept[answer.principal, answer.id] = answer
            if forget is not None:
                self._kept[answer.principal, forget] = None
            while len(self._kept) > ANSWERS_MAX:  # the disk has failed for long
                del self._kept[next(iter(self._kept))]
            if self._busy:
                return
            self._busy = True
        self._submit()

    async def flush(self) -> bool:
        """Wait until what was saved last is on disk; return whether it is."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(RuntimeError):  # closed already
            await loop.run_in_executor(self._pool, self._write_newest)
        return self._database is not None and self._written == self._wanted and not self._kept

    def close(self) -> None:
        """Write what is not written yet, and close the file. May take as long as the disk does."""
        self._pool.shutdown(wait=True)
        if self._database:
            self._write_newest()
            self._database.close()
            self._database = None
        self._cancel_retry()

    # ------------------------------------------------------------------ opening

    def _open(self) -> None:
        """Open the file for writing, else read what it holds, else start from nothing."""
        try:
            try:
                self._database = self._opened()
            except _CorruptError as error:
                self._move_aside(str(error))
                self._database = self._opened()
        except _LaterSchemaError as error:
            self._report(f"{error}; nothing is read from it or written to it")
        except (OSError, sqlite3.Error, _CorruptError) as error:
            self._report(f"{self._unwritable(error)}{self._read_only()}")

    def _unwritable(self, error: Exception) -> str:
        return f"{self._path} can't be written, a restart will forget what changes now: {error}"

    def _opened(self) -> sqlite3.Connection:
        if not self._path.parent.is_dir():
            raise NotADirectoryError(f"no directory {self._path.parent}")
        database = sqlite3.connect(self._path, LOCK_WAIT_S, isolation_level=None, check_same_thread=False)
        try:
            with _corruption_told():
                database.execute("PRAGMA locking_mode = EXCLUSIVE")
                self._check_schema(database)  # before the first pragma that writes: a later file is left as it is
                database.execute("PRAGMA journal_mode = WAL")
                database.execute("PRAGMA synchronous = FULL")
                database.execute("PRAGMA wal_autocheckpoint = 1")
                self._make(database)
                self._boots, self._written = _content(database)
                self._answers = _answers(database)
        except BaseException:
            database.close()
            raise
        return database

    def _check_schema(self, database: sqlite3.Connection) -> None:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        if not tables:
            return
        if not {"schema", "kept"} <= tables:
            raise _CorruptError("not a file of this controller")
        versions = [version for (version,) in database.execute("SELECT version FROM schema")]
        if len(versions) != 1 or not isinstance(versions[0], int):
            raise _CorruptError("its schema version can't be read")
        if versions[0] > SCHEMA:
            raise _LaterSchemaError(
                f"{self._path} has schema {versions[0]}, this release knows up to {SCHEMA}: it is from a later release"
            )

    @staticmethod
    def _make(database: sqlite3.Connection) -> None:
        database.execute("BEGIN IMMEDIATE")
        try:
            if not database.execute("SELECT 1 FROM sqlite_schema WHERE name = 'kept'").fetchone():
                database.execute("CREATE TABLE schema (version INTEGER NOT NULL)")
                database.execute("CREATE TABLE kept (boots INTEGER NOT NULL, content TEXT NOT NULL)")
                database.execute("INSERT INTO schema VALUES (?)", (SCHEMA,))
                database.execute("INSERT INTO kept VALUES (0, ?)", (EMPTY,))
            database.execute(
                "CREATE TABLE IF NOT EXISTS answers (principal TEXT, id TEXT, digest TEXT NOT NULL,"
                " reply TEXT NOT NULL, at_ms INTEGER NOT NULL, PRIMARY KEY (principal, id)) WITHOUT ROWID"
            )
            database.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                database.execute("ROLLBACK")
            raise

    def _move_aside(self, reason: str) -> None:
        """Rename the file and what belongs to it to the first free ``*.corrupt-<n>``."""
        for number in range(1, ASIDE_MAX + 1):
            aside = self._path.with_name(f"{FILE}.corrupt-{number}")
            if not aside.exists():
                break
        else:
            raise OSError(f"{ASIDE_MAX} corrupt files lie in {self._path.parent} already")
        self._path.rename(aside)
        for suffix in ("-wal", "-shm", "-journal"):
            with contextlib.suppress(FileNotFoundError):
                self._path.with_name(FILE + suffix).rename(aside.with_name(aside.name + suffix))
        self._lost = f"{self._path} was corrupt ({reason}), is now {aside.name}; what it kept is forgotten"
        self._log.error("store_problem", problem=self._lost)

    def _read_only(self) -> str:
        """Take what can be read of a file that can't be written; return why nothing can."""
        if not self._path.is_file():
            return ""
        try:
            database = sqlite3.connect(f"file:{quote(str(self._path))}?mode=ro&immutable=1", uri=True)
            with contextlib.closing(database), _corruption_told():
                self._check_schema(database)
                self._boots, self._written = _content(database)
        except (OSError, sqlite3.Error, _CorruptError, _LaterSchemaError) as error:
            return f"; nor read: {error}"
        return ""

    # ------------------------------------------------------------------ writing

    def _write_newest(self) -> None:
        """Write until nothing newer is wanted. Runs in the writing thread, or after it has ended."""
        while True:
            with self._lock:
                text, kept = self._wanted, dict(self._kept)
                if (text == self._written and not kept) or self._database is None:
                    self._busy = False
                    return
            if not self._write(
                text, kept
            ):  # busy until the retry, so that a save in between only changes what is wanted
                self._cancel_retry()
                self._retry = threading.Timer(RETRY_S, self._submit)
                self._retry.daemon = True
                self._retry.start()
                return
            with self._lock:
                self._written = text
                for key, answer in kept.items():
                    if self._kept.get(key, kept) is answer:
                        del self._kept[key]

    def _cancel_retry(self) -> None:
        if self._retry:
            self._retry.cancel()

    def _submit(self) -> None:
        with contextlib.suppress(RuntimeError):  # closed already
            self._pool.submit(self._write_newest)

    def _write(self, content: str, answers: Mapping[tuple[str, str], Answer | None] | None = None) -> bool:
        database = self._database
        if database is None:
            return False
        try:
            database.execute("BEGIN IMMEDIATE")
            database.execute("UPDATE kept SET boots = ?, content = ?", (self._boots, content))
            for key, answer in (answers or {}).items():
                if answer is None:
                    database.execute("DELETE FROM answers WHERE principal = ? AND id = ?", key)
                else:
                    database.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)", answer)
            database.execute("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                database.execute("ROLLBACK")
            self._report(self._unwritable(error))
            return False
        if self._trouble:
            self._log.info("store_back", path=str(self._path))
            self._trouble = ""
        return True

    def _report(self, problem: str) -> None:
        if problem != self._trouble:
            self._trouble = problem
            self._log.error("store_problem", problem=problem)


def _content(database: sqlite3.Connection) -> tuple[int, str]:
    """Return boots and content, after a check of the whole (small) file."""
    ((verdict,), *_) = database.execute("PRAGMA quick_check(1)").fetchall()
    if verdict != "ok":
        raise _CorruptError(str(verdict))
    rows = database.execute("SELECT boots, content FROM kept").fetchall()
    if len(rows) != 1:
        raise _CorruptError(f"{len(rows)} rows instead of one")
    boots, content = rows[0]
    try:
        whole = isinstance(boots, int) and isinstance(json.loads(content), dict)
    except (TypeError, ValueError):
        whole = False
    if not whole:
        raise _CorruptError("its content is not what was saved")
    return boots, content


def _answers(database: sqlite3.Connection) -> list[Answer]:
    rows = database.execute("SELECT * FROM answers ORDER BY at_ms DESC LIMIT ?", (ANSWERS_MAX,)).fetchall()
    return [Answer(*row) for row in reversed(rows)]


@contextlib.contextmanager
def _corruption_told() -> Iterator[None]:
    """Turn SQLite's ways to say that a file is corrupt into one."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise _CorruptError(str(error)) from error
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in CORRUPT_CODES or "decode to UTF-8" in str(error):
            raise _CorruptError(str(error)) from error
        raise
