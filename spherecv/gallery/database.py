"""SQLite connection: ownership, locking, error translation."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from spherecv.errors import GalleryError, GalleryLockedError, GalleryMismatchError, StorageError
from spherecv.gallery import checksums, log, upgrade
from spherecv.gallery.damage import Damage, OnDamage
from spherecv.gallery.locks import FileInUse

_APPLICATION = 0x53434756  # "SCGV", which marks a gallery among SQLite files
FORMAT, _UNCHECKED = 2, 1
"""What is written, and what was written before rows had checksums: it is read, and upgraded with the first change."""
PAGE = 16_384  # seven embeddings of 512 numbers a page; at SQLite's 4096 bytes it would be one, and half of it air
_SMALL = 64 << 20
"""Bytes up to which a file is simply written again after a removal, in a fraction of a second."""
_MOST_SCANNED = 16 << 30
"""Bytes that a search for traces may look through before rewriting a large file is the cheaper proof."""
_PIECE, _SCAN = 32, 64 << 20
_BY_WHO_ASKS: dict[str, bool] = {"effective_ids": True} if os.access in os.supports_effective_ids else {}

COUNTS = upgrade.COUNTS
_SMALL_TABLES = ("identities", "images", "faces")
_TABLES = """
CREATE TABLE properties (name TEXT PRIMARY KEY, value TEXT NOT NULL, checksum INTEGER) WITHOUT ROWID;
CREATE TABLE identities (
    id INTEGER PRIMARY KEY AUTOINCREMENT, lookup BLOB NOT NULL UNIQUE, name BLOB NOT NULL, metadata BLOB NOT NULL,
    checksum INTEGER);
CREATE TABLE images (
    id INTEGER PRIMARY KEY AUTOINCREMENT, identity INTEGER REFERENCES identities (id), lookup BLOB NOT NULL,
    path BLOB NOT NULL, digest BLOB NOT NULL, size INTEGER, mtime_ns INTEGER, problem BLOB NOT NULL, checksum INTEGER);
CREATE INDEX images_of ON images (identity);
CREATE INDEX images_by_lookup ON images (lookup);
CREATE TABLE faces (
    id INTEGER PRIMARY KEY AUTOINCREMENT, image INTEGER NOT NULL REFERENCES images (id), box BLOB, score REAL,
    quality REAL, checksum INTEGER, vector_checksum INTEGER);
CREATE INDEX faces_of ON faces (image);
CREATE TABLE vectors (face INTEGER PRIMARY KEY REFERENCES faces (id), vector BLOB NOT NULL);
CREATE TABLE attachments (name TEXT PRIMARY KEY, value BLOB NOT NULL, checksum INTEGER);
"""


class CorruptFileError(GalleryError):
    """The file's structure is damaged: some statements fail, while others still work."""


class Database:
    """A gallery's file.

    Parameters
    ----------
    path : path
    create : bool
        Whether a missing file is made.
    timeout : float
        Seconds to wait for another process that writes.
    damaged : {"warn", "raise"}
        What is done about damaged rows.

    Attributes
    ----------
    damage : Damage
    unled : dict of int to int
        Faces that were removed while nothing led to their embeddings, and the checksums of these: they may be in a
        damaged page all the same.

    Raises
    ------
    GalleryError
        Missing, damaged, or the file of something else.
    GalleryMismatchError
        Of another version.
    StorageError
        Not permitted, or no room.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, create: bool, timeout: float, damaged: OnDamage = "warn"
    ) -> None:
        # Absolute: the process may go to another folder and then fork, remove, or ask for the index beside the file.
        self.path = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links
        self.timeout = timeout
        self.damage = Damage(str(self.path), damaged)
        self._checked = False
        self._structure: list[str] | None = None
        self.unled: dict[int, Any] = {}
        self._lock = threading.RLock()
        self._check_place(create)
        self._process = os.getpid()
        self._left_behind: list[sqlite3.Connection] = []
        cut = log.is_cut(self.path)  # before SQLite passes over what is damaged in it
        self._raw = self._connect()
        try:
            if cut:
                self.damage.seen("its log (-wal) is damaged, and the latest changes may be missing")
            self._prepare()
            self._file = FileInUse(self.path)
        except BaseException:
            self._raw.close()
            raise

    def close(self) -> None:
        """Close the file; SQLite then folds its log (`-wal`) into it, if nobody else has it open."""
        with self._lock:
            self._raw.close()
            self._file.release()

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Give a connection that sees one state of the gallery, whatever others write meanwhile."""
        with self._lock, self._explained():
            connection = self._connection()
            if connection.in_transaction:
                yield connection
                return
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                _roll_back(connection)

    @contextmanager
    def write(self, *, rows: bool = True, wait: bool = True) -> Iterator[sqlite3.Connection]:
        """Give a connection whose changes become true together when the block ends well, and not at all otherwise.

        `rows` says whether they are in the tables: then a file of an earlier version is upgraded first. `wait` says
        whether to wait for another process that writes.
        """
        with self._lock, self._explained():
            connection = self._connection()
            self._begin_writing(connection, self.timeout if wait else 0)
            try:
                if rows and not self.checked(connection):
                    upgrade.add_checksums(connection)
                    connection.execute(f"PRAGMA user_version = {FORMAT}")
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                _roll_back(connection)
                self._checked = False  # an upgrade may have been taken back with it
                raise

    def _begin_writing(self, connection: sqlite3.Connection, timeout: float) -> None:
        """Wait for the lock by trying often: SQLite tries every tenth of a second, and a busy writer starves others."""
        until = time.monotonic() + timeout
        connection.execute("PRAGMA busy_timeout = 0")
        try:
            while True:
                try:
                    connection.execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError as error:
                    name = getattr(error, "sqlite_errorname", "") or ""
                    if not name.startswith("SQLITE_BUSY") or time.monotonic() > until:
                        raise
                    time.sleep(random.uniform(0.0005, 0.003))  # noqa: S311 - no secret
                else:
                    return
        finally:
            connection.execute(f"PRAGMA busy_timeout = {round(1000 * self.timeout)}")

    def checked(self, connection: sqlite3.Connection) -> bool:
        """Whether the rows of the file have checksums: those of an earlier version have none until they are changed."""
        if not self._checked:
            self._checked = connection.execute("PRAGMA user_version").fetchone()[0] != _UNCHECKED
        return self._checked

    def get(self, name: str) -> str | None:
        """Value of a property.

        Raises
        ------
        GalleryError
            It is damaged: there is nothing else that says it.
        """
        with self.read() as connection:
            return self._told(connection, name)

    def _told(self, connection: sqlite3.Connection, name: str) -> str | None:
        damaged = f"{self.path} is damaged: what it says of its {name} is not what was written"
        value = self.stored(connection, "properties", name, checksums.of_property, damaged)
        return None if value is None else str(value)

    def stored(
        self,
        connection: sqlite3.Connection,
        table: str,
        name: str,
        sum_of: Callable[[str, Any], int | None],
        damaged: str,
    ) -> Any:
        """A value of a table of named ones, None where there is none.

        Parameters
        ----------
        connection : sqlite3.Connection
        table : {"properties", "attachments"}
        name : str
        sum_of : callable
            The checksum that a value of that name has; None for what is no such value.
        damaged : str
            What to say where the value is not what was written.

        Raises
        ------
        GalleryError
            It is not.
        """
        checked = self.checked(connection)
        columns = "value, checksum" if checked else "value, 0"
        row = connection.execute(f"SELECT {columns} FROM {table} WHERE name = ?", (name,)).fetchone()  # noqa: S608
        if row is None:
            return None
        told = sum_of(name, row[0])
        if told is None or (checked and told != row[1]):
            raise GalleryError(damaged)
        return row[0]

    def put(self, connection: sqlite3.Connection, name: str, value: str, *, anew: bool = True) -> None:
        """Write a property; `anew` says whether it replaces the value that is there."""
        kept = "REPLACE" if anew else "IGNORE"
        row = (name, value, checksums.of_property(name, value))
        connection.execute(f"INSERT OR {kept} INTO properties VALUES (?, ?, ?)", row)  # noqa: S608

    def renew(self) -> None:
        """Begin with a new connection: one that failed at a damaged header fails ever after."""
        with self._lock:
            stale, self._raw = self._connection(), self._connect()
            self._set_up(self._raw)
            stale.close()

    def is_whole(self) -> bool:
        """Whether the tables of people, images and faces agree with their indexes, looked at once.

        Values are checked by themselves; but a damaged index, or a page that counts too few rows, hides whole ones.
        """
        return not self._structure_faults()

    @property
    def doubted(self) -> bool:
        """Whether a fault of the tables was seen so far; unlike `is_whole` it looks at nothing."""
        return bool(self._structure or self.unled)

    def check_structure(self) -> None:
        """Say where it is not whole."""
        for fault in self._structure_faults()[:1]:
            self.damage.seen(f"its tables are damaged, and people may be missing ({fault})")

    def _structure_faults(self) -> list[str]:
        if self._structure is None:
            with self.read() as connection:
                self._structure = [fault for table in _SMALL_TABLES for fault in structure(connection, table)]
                self._structure += self.hidden(connection)
        return self._structure

    def bytes_on_disk(self) -> int:
        """Bytes of the file and of its log."""
        files = (self.path, self._beside("-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    def flush(self) -> bool:
        """Fold the log into the file and empty it; False at once while other readers still need what is in it.

        To wait for them would be to hold the lock for writing meanwhile, and to have other writers refused.
        """
        with self._lock, self._explained():
            connection = self._connection()
            connection.execute("PRAGMA busy_timeout = 0")
            try:
                (busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                connection.execute(f"PRAGMA busy_timeout = {round(1000 * self.timeout)}")
        return not busy

    def replace(self, fresh: sqlite3.Connection, unchanged: Callable[[sqlite3.Connection], bool]) -> None:
        """Put another database in the place of this one's content, in one transaction.

        `unchanged` is asked, once nobody else can write any more, whether the content is still what it was made from.

        Raises
        ------
        GalleryLockedError
            Another process writes, or has written since.
        """
        with self._lock, self._explained():
            watching = self._connection()
            goal = self._connect()
            try:
                goal.execute(f"PRAGMA busy_timeout = {round(1000 * self.timeout)}")

                def look(_: int, left: int, __: int) -> None:
                    if left and not unchanged(watching):
                        raise GalleryLockedError(f"{self.path} was changed by another process meanwhile: try again")

                fresh.backup(goal, pages=1, progress=look)
            finally:
                goal.close()
            self._structure = None
            self.unled.clear()

    def hidden(self, connection: sqlite3.Connection) -> list[str]:
        """Images that moved between the known and the unknown: a question about the one would not find them."""
        try:
            told = self._told(connection, COUNTS)
            if told is None or told == upgrade.counted(connection):
                return []
        except (GalleryError, sqlite3.DatabaseError) as error:
            return [str(error)]
        columns = "id, identity, lookup, path, digest, size, mtime_ns, problem, checksum"
        rows = connection.execute(f"SELECT {columns} FROM images")  # noqa: S608 - a constant
        moved = [str(row[0]) for row in rows if checksums.of_image(*row[:8]) != row[8]][:5]
        return [f"images {', '.join(moved)} are not what was written" if moved else "the number of images has changed"]

    def count(self, connection: sqlite3.Connection, known: int, unknown: int) -> None:
        """Write down that there are so many more images of known people and of nobody."""
        try:
            held = [int(part) for part in (self._told(connection, COUNTS) or "0 0").split()]
        except GalleryError:  # damaged: nothing is known of them until the file is written again
            return
        self.put(connection, COUNTS, f"{held[0] + known} {held[1] + unknown}")

    def erase(self, traces: Iterable[bytes] | None) -> bool:
        """Make sure that removed values are in no byte of the files.

        SQLite overwrites what is deleted (`secure_delete`) and the log is emptied; but pages that were rearranged
        earlier may hold a second copy in the space between their cells. So a small file is written again, and a large
        one is searched for the values, and written again where a piece of one is found.

        Parameters
        ----------
        traces : iterable of bytes, or None
            Values that were removed, as they were written; None where they are not known any more.

        Returns
        -------
        bool
            False while another process still reads an older state: the removal holds, the log keeps the bytes until
            the next call.
        """
        if not self.flush():
            return False
        if traces is None or self._size() <= _SMALL or self._holds(_pieces(traces)):
            with self._lock, self._explained():
                connection = self._connection()
                connection.execute("PRAGMA temp_store = FILE")  # as large as the gallery: not in memory
                try:
                    connection.execute("VACUUM")
                    self._structure = None
                finally:
                    connection.execute("PRAGMA temp_store = MEMORY")
            return self.flush()
        return True

    def _size(self) -> int:
        with self._explained():
            return self.path.stat().st_size

    def _holds(self, pieces: set[bytes]) -> bool:
        if len(pieces) * self._size() > _MOST_SCANNED:
            return True
        longest = max(map(len, pieces), default=0)
        tail = b""
        with self._explained():
            place = 0
            while block := self._file.read(_SCAN, place):
                place += len(block)
                content = tail + block
                if any(piece in content for piece in pieces):
                    return True
                tail = content[-longest:]
        return False

    def _connection(self) -> sqlite3.Connection:
        if self._process != os.getpid():
            # After a fork: SQLite must not see one connection in two processes, nor a child close its parent's.
            self._left_behind.append(self._raw)
            self._process = os.getpid()
            self._raw = self._connect()
            self._set_up(self._raw)
        return self._raw

    def _connect(self) -> sqlite3.Connection:
        with self._explained():
            connection = self._opened(str(self.path)) if self._can_log() else self._opened_read_only()
            connection.text_factory = _text  # a damaged text is one that does not fit, not one that cannot be read
            return connection

    def _opened(self, place: str, *, uri: bool = False) -> sqlite3.Connection:
        return sqlite3.connect(
            place, timeout=self.timeout, isolation_level=None, check_same_thread=False, cached_statements=64, uri=uri
        )

    @property
    def writable(self) -> bool:
        """Whether this process may change the file."""
        return self._can_log() and os.access(self.path, os.W_OK, **_BY_WHO_ASKS)

    def _can_log(self) -> bool:
        """Whether SQLite can have the files beside the gallery that it reads by: they are there, or can be made."""
        shared = self._beside("-shm").exists()
        return shared or not self.path.exists() or os.access(self.path.parent, os.W_OK, **_BY_WHO_ASKS)

    def _opened_read_only(self) -> sqlite3.Connection:
        """Open a gallery of a read-only folder, and its log with it, which SQLite would pass over in silence."""
        log_file = self._beside("-wal")
        if not log_file.exists() or not log_file.stat().st_size:
            return self._opened(f"{self.path.as_uri()}?mode=ro&immutable=1", uri=True)
        # The copy is gone from the folder at once; on Windows, when it is closed and something clears the folder.
        with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            copy = Path(folder) / "gallery"
            shutil.copyfile(self.path, copy)
            shutil.copyfile(log_file, copy.with_name("gallery-wal"))
            connection = self._opened(str(copy))
            connection.execute("PRAGMA journal_mode = DELETE")  # takes the log in
            connection.execute("PRAGMA query_only = ON")
            return connection

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)

    def _set_up(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA synchronous = FULL")  # a commit survives a power cut, not only a kill
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA cache_size = -16384")
        connection.execute("PRAGMA temp_store = MEMORY")  # no second place that could keep what was removed
        connection.execute("PRAGMA trusted_schema = OFF")  # a file from elsewhere may hold triggers

    def _check_place(self, create: bool) -> None:
        if self.path.is_dir():
            raise GalleryError(f"{self.path} is a folder, not a gallery")
        if not create and not self.path.exists():
            raise GalleryError(f"{self.path}: no such gallery (make one with `spherecv gallery enrol`)")
        if not self.path.parent.is_dir():
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StorageError(f"{self.path.parent} cannot be made: {error.strerror or error}") from None

    def _prepare(self) -> None:
        with self._explained():
            self._set_up(self._raw)
            owner = self._raw.execute("PRAGMA application_id").fetchone()[0]
            if owner != _APPLICATION:
                self._make_tables()
            self._refuse_what_cannot_be_written()
            found = self._raw.execute("PRAGMA user_version").fetchone()[0]
        if found not in (FORMAT, _UNCHECKED):
            raise GalleryMismatchError(
                f"{self.path} is a gallery of format {found}, but this version of SphereCV reads format {FORMAT}"
            )

    def _refuse_what_cannot_be_written(self) -> None:
        """Refuse a file of which one byte says that it is of a later SQLite: it could be read, and nobody removed."""
        if not self.writable:
            return
        self._raw.execute("PRAGMA busy_timeout = 0")
        try:
            self._raw.execute("BEGIN")
            self._raw.execute("DELETE FROM properties WHERE 0")
        except sqlite3.OperationalError as error:
            name = getattr(error, "sqlite_errorname", "") or ""
            if name.startswith("SQLITE_READONLY"):
                raise GalleryError(
                    f"{self.path} is damaged: its header says that only a later SQLite may write to it; "
                    "bring back a copy of it"
                ) from None
            if not name.startswith("SQLITE_BUSY"):  # busy: another process is writing to it
                raise
        finally:
            _roll_back(self._raw)
            self._raw.execute(f"PRAGMA busy_timeout = {round(1000 * self.timeout)}")

    def _make_tables(self) -> None:
        with self.read() as connection:  # both of one state: another process may be making the same gallery
            owner = connection.execute("PRAGMA application_id").fetchone()[0]
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if owner == _APPLICATION:
            return
        if owner or tables:
            raise GalleryError(f"{self.path} is a SQLite file of another program, not a gallery")
        self._raw.execute(f"PRAGMA page_size = {PAGE}")
        self._use_log()
        with self.write() as connection:
            # Two processes may make the same gallery at once: the second finds it made.
            if connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION:
                make_tables(connection)

    def _use_log(self) -> None:
        """Switch to WAL mode, for which SQLite does not wait where another process does the same."""
        until = time.monotonic() + self.timeout
        while True:
            try:
                self._raw.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > until:
                    raise
                time.sleep(0.01)
            else:
                return

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Say what a failure of SQLite means for the user."""
        try:
            yield
        except OSError as error:
            raise StorageError(f"{self.path} cannot be read: {error.strerror or error}") from None
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "") or ""
            text = str(error)
            if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
                raise GalleryLockedError(
                    f"{self.path} is being written to by another process (waited {self.timeout:g} s)"
                ) from None
            if name.startswith("SQLITE_NOTADB"):
                raise GalleryError(f"{self.path} is not a gallery") from None
            if name.startswith("SQLITE_CORRUPT") or "text encoding" in text:  # VACUUM, of a damaged header
                raise CorruptFileError(f"{self.path} is damaged ({text}): bring back a copy of it") from None
            if name.startswith("SQLITE_READONLY"):
                raise StorageError(f"{self.path} is read-only here: it can be asked, but not changed") from None
            if name.startswith(("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_PERM")):
                raise StorageError(f"{self.path} cannot be written or read: {text}; nothing was lost") from None
            if "closed database" in text:
                raise GalleryError(f"{self.path} was closed: open it again") from None
            if isinstance(error, sqlite3.IntegrityError):
                raise CorruptFileError(f"{self.path} is damaged ({text}): bring back a copy of it") from None
            if isinstance(error, sqlite3.ProgrammingError):
                raise
            raise GalleryError(f"{self.path}: {text}") from None


def make_tables(connection: sqlite3.Connection) -> None:
    """Make the tables of an empty gallery."""
    for statement in _TABLES.strip().split(";\n"):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {_APPLICATION}")
    connection.execute(f"PRAGMA user_version = {FORMAT}")


def structure(connection: sqlite3.Connection, table: str) -> list[str]:
    """What SQLite finds wrong with a table and its indexes, or (empty) the file; nothing where it is whole."""
    which = f"({table})" if table else ""
    try:
        found = [str(row[0]) for row in connection.execute(f"PRAGMA integrity_check{which}")]
    except sqlite3.DatabaseError as error:
        return [str(error)]
    return [] if found == ["ok"] else [line.replace("\n", " ") for line in found]


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


def _pieces(traces: Iterable[bytes]) -> set[bytes]:
    """Parts to look for: short values whole, of long ones three parts (a copy may be half overwritten)."""
    pieces = set()
    for trace in traces:
        if len(trace) <= 8 * _PIECE:
            pieces.add(trace)
        else:
            middle = len(trace) // 2
            pieces |= {trace[:_PIECE], trace[middle : middle + _PIECE], trace[-_PIECE:]}
    return pieces - {b""}


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        with contextlib.suppress(sqlite3.Error):  # SQLite may have rolled back itself: full disk, broken file
            connection.execute("ROLLBACK")
