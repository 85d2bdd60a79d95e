"""One file of rows: an Arrow IPC file, named by what is in it and by its checksum, written whole or not at all.

A file is taken for what it says only if the checksum in its name is that of its bytes. Which of its rows are still good, the asked
table says: it names the bars behind any range of rows, and the file keeps those names for itself as a whole and for blocks of it, so
that a change in the middle costs the blocks that could see it.
"""

from __future__ import annotations

import json
import os
import re
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from cluster.cache.records import TableLike

FORMAT: Final = 1
TIME: Final = "issued_at"
PARTIAL: Final = ".partial-"
BLOCK: Final = 256
BLOCKS: Final = 128  # at most: where all bars count, naming a block reads the whole history before it
_SETTLED_SECONDS: Final = 2.0
_NAME: Final = re.compile(r"(\d{8}T\d{6})_(\d{8}T\d{6})_(\d+)rows_(\d+)ms_([0-9a-f]+)_([0-9a-f]{32})\.arrow")

# Files whose checksum was right in this process: path, size, times of change (people can set one of them), inode.
_verified: set[tuple[str, int, int, int, int]] = set()


class BrokenError(Exception):
    """A file that is not what was written; says why."""


@dataclass(frozen=True)
class Name:
    """What a file's name says: times to the second, for a first choice only."""

    first: str
    last: str
    rows: int
    milliseconds: int
    depends: str
    checksum: str

    def __str__(self) -> str:
        return f"{self.first}_{self.last}_{self.rows}rows_{self.milliseconds}ms_{self.depends}_{self.checksum}.arrow"


def parse(name: str) -> Name | None:
    """Returns what a file's name says, or None if it is not one of ours."""
    if (match := _NAME.fullmatch(name)) is None:
        return None
    try:
        datetime.fromisoformat(match[1]), datetime.fromisoformat(match[2])
    except ValueError:  # a date that is none
        return None
    return Name(match[1], match[2], int(match[3]), int(match[4]), match[5], match[6])


def stamp(time: np.datetime64) -> str:
    """Returns a time as names have it; later times never sort before."""
    return str(time.astype("datetime64[s]")).replace("-", "").replace(":", "")


@dataclass(frozen=True, eq=False)
class Segment:
    """An opened file, in memory as far as it is read.

    Attributes:
        path: Its file.
        times: int64 (n,) nanoseconds.
        depends: Names the bars behind it.
        blocks: (offset, rows, depends) of its parts.
        seconds: What building took.
    """

    path: Path
    times: np.ndarray
    depends: str
    blocks: tuple[tuple[int, int, str], ...]
    seconds: float
    _batch: pa.RecordBatch

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.times)

    def column(self, index: int) -> np.ndarray:
        """Returns float64 (n,) of the table's column, the file's own bytes."""
        return self._batch.column(index + 1).to_numpy(zero_copy_only=True)

    def position(self, table: TableLike) -> int | None:
        """Returns where the whole file lies in a table, or None if not all of it is good there."""
        return _place(table, self.times, self.depends)

    def valid(self, table: TableLike) -> list[tuple[int, int, int]]:
        """Returns what of it is good in a table: (offset in the file, position in the table, rows)."""
        if (at := self.position(table)) is not None:
            return [(0, at, self.rows)]
        found = []
        for offset, rows, depends in self.blocks if len(self.blocks) > 1 else ():
            at = _place(table, self.times[offset : offset + rows], depends)
            if at is not None:
                found.append((offset, at, rows))
            elif not table.reach:
                break  # where all bars count, later blocks saw the change too
        return found


def open_segment(path: Path, key: str, *, trusting: bool = True) -> Segment | None:
    """Opens a file after checking its bytes, once per process unless `trusting` is False.

    Returns:
        The segment, or None if another version of the format wrote it.

    Raises:
        BrokenError: It is not what was written, or not of this key.
        OSError: It cannot be read; FileNotFoundError if it was removed meanwhile.
    """
    name = parse(path.name)
    if name is None:
        raise BrokenError("its name is not one that this cache gives")
    stat = os.stat(path)
    if not stat.st_size:
        raise BrokenError("it is empty")
    seen = (str(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
    source = pa.memory_map(str(path))
    if not trusting or seen not in _verified:
        if blake2b(source.read_buffer(), digest_size=16).hexdigest() != name.checksum:
            _verified.discard(seen)
            raise BrokenError("its bytes do not have the checksum they were written with")
        source.seek(0)
    try:
        segment = _parsed(path, source, key)
    except (pa.ArrowException, KeyError, ValueError, TypeError) as error:
        raise BrokenError(f"it is not a table of this key: {error}") from error
    # A change right after the last one may leave the time as it is: clocks of file systems tick in milliseconds.
    if time.time() - stat.st_ctime > _SETTLED_SECONDS:
        _verified.add(seen)
    return segment


def write_segment(folder: Path, table: TableLike, first: int, values: np.ndarray, seconds: float) -> Path:
    """Writes rows [first, first + n) of a table; the file appears when all of it is on disk.

    Args:
        folder: The key's, existing.
        table: Which.
        first: Position of the first row.
        values: float64 (W, n), C order, n ≥ 1.
        seconds: What building took.

    Returns:
        The file.

    Raises:
        OSError: It could not be written; nothing stays.
    """
    rows = values.shape[1]
    times = np.ascontiguousarray(table.times[first : first + rows]).view(np.int64)
    depends = table.depends(first, first + rows)
    block = max(BLOCK, -(-rows // BLOCKS))
    blocks = [(o, min(block, rows - o), table.depends(first + o, first + min(o + block, rows))) for o in range(0, rows, block)]
    about = {
        "format": str(FORMAT),
        "key": table.key,
        "depends": depends,
        "blocks": json.dumps(blocks),
        "rows": str(rows),
        "seconds": repr(float(seconds)),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    schema = pa.schema([(TIME, pa.timestamp("ns", "UTC")), *((c, pa.float64()) for c in table.columns)], metadata=about)
    lines: list[tuple[pa.DataType, np.ndarray]] = [(schema.field(0).type, times), *((pa.float64(), line) for line in values)]
    arrays = [pa.Array.from_buffers(kind, rows, [None, pa.py_buffer(line)]) for kind, line in lines]
    partial = folder / f"{PARTIAL}{uuid.uuid4().hex}"
    try:
        checksum = _write(partial, pa.RecordBatch.from_arrays(arrays, schema=schema))
        first_stamp, last_stamp = (stamp(table.times[i]) for i in (first, first + rows - 1))
        path = folder / str(Name(first_stamp, last_stamp, rows, round(seconds * 1000), depends, checksum))
        os.replace(partial, path)
        sync_folder(folder)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    return path


def sync_folder(folder: Path) -> None:
    """Puts on disk which files a folder has."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Sink:
    """Where Arrow writes to: the file and its checksum."""

    closed = False

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._at, self.digest = descriptor, 0, blake2b(digest_size=16)

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self.digest.update(view)
        self._at += len(view)
        while view:  # a disk that is nearly full takes a part
            view = view[os.write(self._descriptor, view) :]
        return len(data)

    def tell(self) -> int:
        return self._at

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


def _write(path: Path, batch: pa.RecordBatch) -> str:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        sink = _Sink(descriptor)
        with pa.ipc.new_file(sink, batch.schema) as writer:
            writer.write_batch(batch)
        os.fsync(descriptor)
        return sink.digest.hexdigest()
    finally:
        os.close(descriptor)


def _parsed(path: Path, source: pa.NativeFile, key: str) -> Segment | None:
    reader = pa.ipc.open_file(source)
    about = {k.decode(): v.decode() for k, v in (reader.schema.metadata or {}).items()}
    if about["format"] != str(FORMAT):
        return None
    if about["key"] != key or reader.num_record_batches != 1:
        raise ValueError(f"key {about['key']}, {reader.num_record_batches} batches")
    batch = reader.get_batch(0)
    times = batch.column(0).view(pa.int64()).to_numpy(zero_copy_only=True)
    blocks = tuple((int(o), int(n), str(d)) for o, n, d in json.loads(about["blocks"]))
    return Segment(path, times, about["depends"], blocks, float(about["seconds"]), batch)


def _place(table: TableLike, times: np.ndarray, depends: str) -> int | None:
    axis = table.times.view(np.int64)
    at = int(np.searchsorted(axis, times[0]))
    if not np.array_equal(axis[at : at + len(times)], times) or table.depends(at, at + len(times)) != depends:
        return None
    return at
