"""Store and forward: what one link could not send yet, in one SQLite file, written by a thread of its own.

The journal (audit and events) and telemetry stand in two tables; audit outlives events, events outlive telemetry. A
message counts as kept once its transaction is on disk (WAL, synchronous=FULL), and is deleted only after the broker's
receipt, so that a crash repeats a message rather than losing it. Age is counted in seconds that the controller ran: a
wall clock that is set makes nothing old. While the disk fails the journal is held in memory, and ``problem`` says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import structlog

from controller.config.enclosure import OutboxLimits
from controller.northbound.publisher import AUDIT, EVENT, TELEMETRY, Kind, Message

SCHEMA: Final = 1
CLASSES: Final[tuple[Kind, ...]] = (AUDIT, EVENT, TELEMETRY)  # the first is given up last
JOURNAL, VALUES = "journal", "telemetry"
TABLES: Final = (JOURNAL, VALUES)
ROW_OVERHEAD: Final = 64  # bytes that SQLite and its index need beside topic and payload
BATCH_S: Final = 2.0  # telemetry is written this late, so that flash is not worn by a write for each document
WAITING_MAX: Final = 20_000  # messages in memory that are not on disk
LOCK_WAIT_S: Final = 2.0
RETRY_S: Final = 10.0
EVICTED_AT_ONCE: Final = 500
MIB: Final = 1024 * 1024
CORRUPT: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
INSERT: Final = "INSERT INTO {} (class, at, topic, payload, qos, retain, size) VALUES (?, ?, ?, ?, ?, ?, ?)"

T = TypeVar("T")


class Kept(NamedTuple):
    """One kept message; ``id`` is negative where it is held in memory only."""

    id: int
    message: Message


class _CorruptError(Exception):
    """The file is not one that this module wrote, or is torn."""


class Outbox:
    """What one link has not sent yet. All methods are for the event loop's thread; none waits for the disk.

    Args:
        path: the file; its directory must exist.
        limits: caps by bytes and age.
        available: called, in the writing thread, when there is something new to take.

    Attributes:
        kept, lost: messages by kind: those waiting, and those given up since the file was made.
        kept_bytes: what is kept counts for, as the cap sees it.
        problem: why what is kept now may be lost, in words; empty while all is well.
    """

    def __init__(
        self,
        path: Path,
        limits: OutboxLimits,
        *,
        available: Callable[[], None] = lambda: None,
        now: Callable[[], float] = time.monotonic,
        max_bytes: int = 0,
    ) -> None:
        self._path = path
        self._max_bytes = max_bytes or limits.max_mib * MIB
        self._max_age_s = limits.max_age_h * 3600.0
        self._available = available
        self._now = now
        self._age_0 = 0.0  # what is added to ``now`` to count on from the newest message of an earlier run
        self._log = structlog.get_logger()
        self._pool = ThreadPoolExecutor(1, "outbox")
        self._lock = threading.Lock()
        self._waiting: deque[Kept] = deque()
        self._numbers = 0
        self._asked = False
        self._later: threading.Timer | None = None
        self._database: sqlite3.Connection | None = None
        self._retry_at = float("-inf")
        self.kept: dict[Kind, int] = dict.fromkeys(CLASSES, 0)
        self.lost: dict[Kind, int] = dict.fromkeys(CLASSES, 0)
        self.kept_bytes = 0
        self.problem = ""
        self._submit()

    # ------------------------------------------------------------------ for the event loop

    def put(self, messages: Iterable[Message]) -> None:
        """Take messages over. The journal is written at once, telemetry within BATCH_S."""
        urgent = False
        with self._lock:
            for message in messages:
                self._numbers += 1
                self._waiting.append(Kept(-self._numbers, message))
                urgent = urgent or message.kind != TELEMETRY
            while len(self._waiting) > WAITING_MAX:
                self._forget_one()
            if not self._waiting or self._asked:
                return
            if not urgent:
                if self._later is None:
                    self._later = threading.Timer(BATCH_S, self._submit)
                    self._later.daemon = True
                    self._later.start()
                return
        self._submit()

    @property
    def journal_waits(self) -> bool:
        return bool(self.kept[AUDIT] or self.kept[EVENT]) or bool(self.problem and self._waiting)

    @property
    def telemetry_waits(self) -> bool:
        return bool(self.kept[TELEMETRY])

    async def take(self, count: int, *, journal: bool) -> list[Kept]:
        """Return the oldest ``count`` messages; they stay until ``done``."""
        return await self._run(lambda: self._take(count, journal=journal)) or []

    async def done(self, taken: Sequence[Kept]) -> None:
        """Forget messages that the broker has."""
        await self._run(lambda: self._done(taken))

    async def flush(self) -> None:
        """Wait until all that was put is on disk, or can't be written."""
        await self._run(self._write)

    def close(self) -> None:
        """Write what waits, and close the file. May take as long as the disk does."""
        if self._later:
            self._later.cancel()
        with contextlib.suppress(RuntimeError):
            self._pool.submit(self._write)
            self._pool.submit(self._shut)
        self._pool.shutdown(wait=True)

    async def _run(self, work: Callable[[], T]) -> T | None:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        except RuntimeError:  # closed already
            return None

    def _submit(self) -> None:
        with contextlib.suppress(RuntimeError):
            self._asked = True
            self._pool.submit(self._write)

    def _forget_one(self) -> None:
        """Give up the oldest of the lowest class that is in memory only."""
        for kind in reversed(CLASSES):
            for index, held in enumerate(self._waiting):
                if held.message.kind == kind:
                    del self._waiting[index]
                    self.lost[kind] += 1
                    return

    # ------------------------------------------------------------------ in the writing thread

    def _write(self) -> None:
        """Bring what waits to the disk in one transaction, and keep the caps."""
        with self._lock:
            self._asked, self._later = False, None
            batch = list(self._waiting)
        written = self._guarded(lambda database: self._insert(database, batch))
        if written:
            with self._lock:
                for _ in batch:
                    self._waiting.popleft()
        if self._waiting and self.problem:
            self._retry()
        if batch:
            self._available()

    def _insert(self, database: sqlite3.Connection, batch: Sequence[Kept]) -> bool:
        if not batch:
            return True
        at = self._age_0 + self._now()
        rows: dict[str, list[tuple[Any, ...]]] = {table: [] for table in TABLES}
        kept, size = dict(self.kept), self.kept_bytes
        for _, (topic, payload, qos, retain, kind) in batch:
            cost = len(topic) + len(payload) + ROW_OVERHEAD
            rows[VALUES if kind == TELEMETRY else JOURNAL].append(
                (CLASSES.index(kind), at, topic, payload, qos, retain, cost)
            )
            kept[kind] += 1
            size += cost
        with _transaction(database):
            for table, items in rows.items():
                database.executemany(INSERT.format(table), items)
            lost, freed = self._evict(database, size, at)
            if lost:
                database.executemany(
                    "INSERT INTO lost VALUES (?, ?) ON CONFLICT (class) DO UPDATE SET count = count + excluded.count",
                    [(CLASSES.index(kind), count) for kind, count in lost.items()],
                )
        with self._lock:
            for kind, count in lost.items():
                kept[kind] -= count
                self.lost[kind] += count
        self.kept, self.kept_bytes = kept, size - freed
        return True

    def _evict(self, database: sqlite3.Connection, size: int, at: float) -> tuple[dict[Kind, int], int]:
        """Delete what is too old, and of the lowest class the oldest while all is too big."""
        lost: dict[Kind, int] = {}
        freed = 0
        for table in TABLES:
            chosen = f"SELECT id, class, size FROM {table} WHERE at < ? ORDER BY id LIMIT {EVICTED_AT_ONCE}"  # noqa: S608
            while found := database.execute(chosen, (at - self._max_age_s,)).fetchall():
                freed += _delete(database, table, found, lost)
        for table, number in ((VALUES, 2), (JOURNAL, 1), (JOURNAL, 0)):
            chosen = f"SELECT id, class, size FROM {table} WHERE class = ? ORDER BY id LIMIT {EVICTED_AT_ONCE}"  # noqa: S608
            while size - freed > self._max_bytes:
                found, over = [], size - freed - self._max_bytes
                for row in database.execute(chosen, (number,)).fetchall():
                    if over <= 0:
                        break
                    found.append(row)
                    over -= row[2]
                if not found:
                    break
                freed += _delete(database, table, found, lost)
        return lost, freed

    def _take(self, count: int, *, journal: bool) -> list[Kept]:
        table = JOURNAL if journal else VALUES
        chosen = f"SELECT id, class, topic, payload, qos, retain FROM {table} ORDER BY id LIMIT ?"  # noqa: S608
        rows = self._guarded(lambda database: database.execute(chosen, (count,)).fetchall()) or []
        taken = [
            Kept(number, Message(topic, bytes(payload), qos, bool(retain), CLASSES[kind]))
            for number, kind, topic, payload, qos, retain in rows
        ]
        if not taken and journal and self.problem:
            with self._lock:
                taken = [held for held in self._waiting if held.message.kind != TELEMETRY][:count]
        return taken

    def _done(self, taken: Sequence[Kept]) -> None:
        memory = {number for number, _ in taken if number < 0}
        if memory:
            with self._lock:
                self._waiting = deque(held for held in self._waiting if held.id not in memory)
        stored = [held for held in taken if held.id >= 0]
        self._guarded(lambda database: self._delete_sent(database, stored))

    def _delete_sent(self, database: sqlite3.Connection, sent: Sequence[Kept]) -> bool:
        kept, size = dict(self.kept), self.kept_bytes
        with _transaction(database):
            for number, message in sent:
                table = VALUES if message.kind == TELEMETRY else JOURNAL
                # What was evicted since it was taken is counted as lost already.
                if database.execute(f"DELETE FROM {table} WHERE id = ?", (number,)).rowcount:  # noqa: S608
                    kept[message.kind] -= 1
                    size -= len(message.topic) + len(message.payload) + ROW_OVERHEAD
        self.kept, self.kept_bytes = kept, size
        return True

    # ------------------------------------------------------------------ the file

    def _guarded(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """Do ``work`` on the file; on trouble say so, and return None."""
        if self._database is None and self._now() < self._retry_at:
            return None
        try:
            if self._database is None:
                self._database = self._opened_or_new()
            done = work(self._database)
        except sqlite3.Error as error:
            corrupt = getattr(error, "sqlite_errorcode", 0) & 0xFF in CORRUPT
            self._shut()
            self._trouble(f"{self._path} can't be written: {error}")
            self._retry_at = float("-inf") if corrupt else self._now() + RETRY_S
            return None
        except (OSError, _CorruptError) as error:
            self._trouble(f"{self._path} can't be used: {error}")
            self._retry_at = self._now() + RETRY_S
            return None
        if self.problem:
            self._log.info("outbox_back", path=str(self._path))
            self.problem = ""
        return done

    def _trouble(self, words: str) -> None:
        if words != self.problem:
            self._log.error("outbox_problem", problem=words)
        self.problem = words

    def _retry(self) -> None:
        with self._lock:
            if self._later is None:
                self._later = threading.Timer(RETRY_S, self._submit)
                self._later.daemon = True
                self._later.start()

    def _shut(self) -> None:
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):
                self._database.close()
            self._database = None

    def _opened_or_new(self) -> sqlite3.Connection:
        try:
            return self._opened()
        except _CorruptError as error:
            aside = self._path.with_name(f"{self._path.name}.corrupt")
            self._path.replace(aside)
            for suffix in ("-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
            self._log.error("outbox_corrupt", path=str(self._path), moved_to=aside.name, why=str(error))
            self.kept, self.kept_bytes = dict.fromkeys(CLASSES, 0), 0
            return self._opened()

    def _opened(self) -> sqlite3.Connection:
        if not self._path.parent.is_dir():
            raise NotADirectoryError(f"no directory {self._path.parent}")
        database = sqlite3.connect(self._path, LOCK_WAIT_S, isolation_level=None, check_same_thread=False)
        try:
            database.execute("PRAGMA locking_mode = EXCLUSIVE")
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            database.execute(f"PRAGMA journal_size_limit = {4 * MIB}")
            self._make(database)
            self._count(database)
        except BaseException as error:
            database.close()
            if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in CORRUPT:
                raise _CorruptError(str(error)) from error
            raise
        return database

    @staticmethod
    def _make(database: sqlite3.Connection) -> None:
        ((verdict,), *_) = database.execute("PRAGMA quick_check(1)").fetchall()
        ((version,),) = database.execute("PRAGMA user_version").fetchall()
        if verdict != "ok" or version not in (0, SCHEMA):
            raise _CorruptError(f"{verdict}; schema {version}, this release knows {SCHEMA}")
        if version == SCHEMA:
            return
        with _transaction(database):
            for table in TABLES:
                database.execute(
                    f"CREATE TABLE {table} (id INTEGER PRIMARY KEY AUTOINCREMENT, class INTEGER NOT NULL,"
                    " at REAL NOT NULL, topic TEXT NOT NULL, payload BLOB NOT NULL, qos INTEGER NOT NULL,"
                    " retain INTEGER NOT NULL, size INTEGER NOT NULL)"
                )
            database.execute("CREATE INDEX journal_class ON journal (class, id)")
            database.execute("CREATE TABLE lost (class INTEGER PRIMARY KEY, count INTEGER NOT NULL)")
            database.execute(f"PRAGMA user_version = {SCHEMA}")

    def _count(self, database: sqlite3.Connection) -> None:
        kept: dict[Kind, int] = dict.fromkeys(CLASSES, 0)
        size, newest = 0, 0.0
        for table in TABLES:
            rows = database.execute(f"SELECT class, COUNT(*), SUM(size), MAX(at) FROM {table} GROUP BY class")  # noqa: S608
            for number, count, cost, at in rows:
                kept[CLASSES[number]] = count
                size, newest = size + cost, max(newest, at)
        self.kept, self.kept_bytes = kept, size
        for number, count in database.execute("SELECT class, count FROM lost"):
            self.lost[CLASSES[number]] = max(count, self.lost[CLASSES[number]])
        self._age_0 = max(self._age_0, newest - self._now())


def _delete(database: sqlite3.Connection, table: str, found: Sequence[Any], lost: dict[Kind, int]) -> int:
    """Delete rows (id, class, size), count them as lost, and return their bytes."""
    database.executemany(f"DELETE FROM {table} WHERE id = ?", [(row[0],) for row in found])  # noqa: S608
    for _, number, _ in found:
        lost[CLASSES[number]] = lost.get(CLASSES[number], 0) + 1
    return sum(row[2] for row in found)


@contextlib.contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            database.execute("ROLLBACK")
        raise
