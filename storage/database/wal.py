"""The file of a write-ahead log, read without SQLite (https://sqlite.org/walformat.html).

SQLite ends a WAL at the first invalid frame and ignores everything after it. After a crash that end
is usually an interrupted write, and nothing after it was acknowledged. But frames of the same WAL
behind the end were written, flushed and acknowledged, or were just being.
"""

import struct
from array import array
from collections.abc import Iterator
from pathlib import Path
from sys import byteorder
from typing import BinaryIO, NamedTuple

_HEADER = struct.Struct(">8I")
_FRAME = struct.Struct(">6I")
_LITTLE, _BIG = 0x377F0682, 0x377F0683
"""The first word of a WAL, which gives the byte order of the checksums."""
_WORD = 0xFFFFFFFF
_USUAL_PAGE = 4096
_BUFFER_BYTES = 1024 * 1024
_PAGE_SIZES = frozenset(2**bits for bits in range(9, 17))


class WalFrames(NamedTuple):
    """The number of frames of a WAL that SQLite will apply, and the commits behind the first broken one.

    `behind` counts frames that bear the WAL's own salts, with `commits` among them; frames of an
    earlier round of the file bear others and are not counted.
    """

    taken: int
    behind: int
    commits: int

    def problem(self) -> str | None:
        """Return the problem as text; None if there is none."""
        if not self.commits:
            return None
        return (
            f"the write-ahead log is broken after {self.taken} frames, and {self.behind} more with"
            f" {self.commits} commits stand behind that: what they hold is lost, and was"
            " acknowledged, or was being written when the server was killed"
        )


NO_FRAMES = WalFrames(0, 0, 0)


def wal_of(path: Path) -> Path:
    """Return where the WAL of a database file lies."""
    return path.with_name(f"{path.name}-wal")


def read_wal(path: Path) -> WalFrames:
    """Read a WAL file frame by frame; empty if there is none.

    Blocks. Raises OSError. Must be called before SQLite opens the database, since SQLite overwrites
    frames it ignores.
    """
    try:
        with path.open("rb", buffering=_BUFFER_BYTES) as file:
            return _read(file)
    except FileNotFoundError:
        return NO_FRAMES


def _read(file: BinaryIO) -> WalFrames:
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return NO_FRAMES
    magic, _, page_size, _, *salts, first, second = _HEADER.unpack(header)
    words = _words(header[: _HEADER.size - 8], magic)
    is_sound = (
        magic in (_LITTLE, _BIG)
        and page_size in _PAGE_SIZES
        and _checksum(words, 0, 0) == (first, second)
    )
    if not is_sound:
        return _behind_a_broken_header(file, page_size)
    taken = behind = commits = 0
    sums: tuple[int, int] | None = (first, second)
    for number, (frame, page) in enumerate(_frames(file, page_size)):
        is_commit = frame[1] != 0
        if [*frame[2:4]] != salts:
            sums = None
            continue
        if sums is not None:
            sums = _checksum(_words(page[:8], magic), *sums)
            sums = _checksum(_words(page[24:], magic), *sums)
            if sums == frame[4:6] and frame[0]:
                taken = number + 1 if is_commit else taken
                continue
            sums = None
        behind += 1
        commits += is_commit
    return WalFrames(taken, behind, commits)


def _behind_a_broken_header(file: BinaryIO, page_size: int) -> WalFrames:
    """Count the frames of a WAL with an invalid header, which SQLite would overwrite."""
    salts: tuple[int, ...] | None = None
    behind = commits = 0
    for frame, _ in _frames(file, page_size if page_size in _PAGE_SIZES else _USUAL_PAGE):
        salts = salts or frame[2:4]
        if frame[2:4] == salts:  # of the round that begins the file
            behind += 1
            commits += frame[1] != 0
    return WalFrames(0, behind, commits)


def _frames(file: BinaryIO, page_size: int) -> Iterator[tuple[tuple[int, ...], bytes]]:
    """Yield each whole frame behind the header of the file: its own six words, and all its bytes."""
    size = _FRAME.size + page_size
    while len(frame := file.read(size)) == size:
        yield _FRAME.unpack_from(frame), frame


def _words(content: bytes, magic: int) -> "array[int]":
    words = array("I", content)
    if (magic == _BIG) != (byteorder == "big"):
        words.byteswap()
    return words


def _checksum(words: "array[int]", first: int, second: int) -> tuple[int, int]:
    pairs = iter(words)
    for one, other in zip(pairs, pairs, strict=True):
        first = first + one + second & _WORD
        second = second + other + first & _WORD
    return first, second
