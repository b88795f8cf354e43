"""The manifest of a kept workspace, and the blobs that hold the contents of its files.

Contents are named by a keyed hash, and cut and packed into blobs, which are named likewise. Nothing
here does any I/O, and everything may take long: it belongs in a thread.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple, Self, TypeAlias

from storage.errors import Damaged
from storage.workspaces.snapshot import Snapshot, WorkspaceLimits

Bytes: TypeAlias = bytes | memoryview
NameOf = Callable[[Iterable[Bytes]], str]
"""Returns the name of what some parts are together: equal for equal contents only."""

BLOB_BYTES = 1024 * 1024
"""Bytes of the largest blob: a longer content is cut, short ones are packed together."""
MOST_SMALL = 16
"""Blobs below half of that size that a workspace may have before they are packed anew."""


class Piece(NamedTuple):
    """A part of a blob."""

    blob: str
    start: int
    length: int


Pieces = tuple[Piece, ...]


class Blob(NamedTuple):
    """A blob to be written: its name, and the parts it is joined of."""

    name: str
    parts: Sequence[memoryview]


class Loaded(NamedTuple):
    """A workspace as it was read back.

    `lost` are the paths of files whose contents are damaged. If a record of the runtime's own is,
    there are none in the snapshot, and `own_lost` is set.
    """

    snapshot: Snapshot
    lost: tuple[str, ...] = ()
    own_lost: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A whole workspace: `files` and `own` name contents, `contents` says where each is.

    `blobs` are the blobs of these contents and their sizes in bytes.
    """

    kept_at: datetime
    files: Mapping[str, str]
    own: Mapping[str, str]
    folders: AbstractSet[str]
    contents: Mapping[str, Pieces]
    blobs: Mapping[str, int]

    def encode(self) -> bytes:
        """Return it as JSON."""
        blobs = {name: place for place, name in enumerate(self.blobs)}
        contents = {name: place for place, name in enumerate(self.contents)}
        body = {
            "kept_at": self.kept_at.isoformat(),
            "blobs": [*self.blobs.items()],
            "contents": [
                [name, [[blobs[one.blob], one.start, one.length] for one in pieces]]
                for name, pieces in self.contents.items()
            ],
            "files": {path: contents[name] for path, name in self.files.items()},
            "own": {path: contents[name] for path, name in self.own.items()},
            "folders": sorted(self.folders),
        }
        # A path that is no Unicode is written with escapes.
        return json.dumps(body, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, body: bytes, key: str) -> Self:
        """Read what `encode` returned. Raises Damaged, which names the key."""
        try:
            return cls._decoded(json.loads(body))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise Damaged(f"{key} cannot be read") from error

    @classmethod
    def _decoded(cls, body: Any) -> Self:
        blobs = {str(name): int(size) for name, size in body["blobs"]}
        names = [*blobs]
        contents = {
            str(name): tuple(
                Piece(names[blob], int(start), int(size)) for blob, start, size in pieces
            )
            for name, pieces in body["contents"]
        }
        digests = [*contents]
        return cls(
            kept_at=datetime.fromisoformat(body["kept_at"]),
            files={path: digests[place] for path, place in body["files"].items()},
            own={name: digests[place] for name, place in body["own"].items()},
            folders=frozenset(body["folders"]),
            contents=contents,
            blobs=blobs,
        )

    def sizes(self) -> Mapping[str, int]:
        """Return the bytes of each file."""
        lengths = {name: length_of(pieces) for name, pieces in self.contents.items()}
        return {path: lengths[name] for path, name in self.files.items()}

    def content(self, name: str, blobs: Mapping[str, bytes], name_of: NameOf) -> bytes | None:
        """Return a content, put together of the blobs it is in; None if it is damaged."""
        pieces = self.contents[name]
        parts = [
            memoryview(blobs.get(one.blob, b""))[one.start : one.start + one.length]
            for one in pieces
        ]
        content = b"".join(parts)
        return content if name_of([content]) == name else None

    def loaded(self, blobs: Mapping[str, bytes], name_of: NameOf) -> Loaded:
        """Return the workspace, of which all blobs are given that there are."""
        contents = {name: self.content(name, blobs, name_of) for name in self.contents}
        files = {path: contents[name] for path, name in self.files.items()}
        own = {path: contents[name] for path, name in self.own.items()}
        own_lost = None in own.values()
        snapshot = Snapshot(
            files={path: content for path, content in files.items() if content is not None},
            folders=self.folders,
            own={}
            if own_lost
            else {name: content for name, content in own.items() if content is not None},
        )
        lost = tuple(sorted(path for path, content in files.items() if content is None))
        return Loaded(snapshot, lost, own_lost)


class Contents(NamedTuple):
    """The contents of a snapshot: what each path and each own record names, and each one once."""

    files: Mapping[str, str]
    own: Mapping[str, str]
    bodies: Mapping[str, bytes]

    @classmethod
    def of(cls, snapshot: Snapshot, limits: WorkspaceLimits, name_of: NameOf) -> Self:
        """Return the contents of a snapshot. Raises WorkspaceTooLarge."""
        bodies: dict[str, bytes] = {}
        files = _named(snapshot.files, bodies, name_of)
        own = _named(snapshot.own, bodies, name_of)
        names = (*snapshot.files, *snapshot.folders, *snapshot.own)
        size = sum(len(name.encode("utf-8", "surrogatepass")) for name in names)
        limits.check(size + sum(map(len, bodies.values())), snapshot.entries)
        return cls(files, own, bodies)


class Change(NamedTuple):
    """A workspace's next manifest, and the blobs to be written before it."""

    manifest: Manifest
    blobs: Sequence[Blob]


def next_manifest(
    contents: Contents,
    folders: AbstractSet[str],
    now: datetime,
    known: Manifest | None,
    present: AbstractSet[str],
    blob_name: NameOf,
) -> Change | None:
    """Return how a workspace gets these contents and folders; None if it has them already.

    `known` is its manifest so far, `present` are the blobs that the medium has. Contents that are in
    those stay where they are, unless their blob is mostly unused or there are many small ones. A new
    blob is named by `blob_name`.
    """
    files, own, bodies = contents
    found = {} if known is None else _found(known, bodies.keys(), present)
    if known is not None and len(found) == len(bodies):
        same = (known.files, known.own, known.folders) == (files, own, folders)
        if same:
            return None
    placed = {} if known is None else _without_waste(found, known.blobs)
    sizes = {} if known is None else dict(known.blobs)
    packs = Packs()
    for name, body in bodies.items():
        if name not in placed:
            packs.add(name, body)
    new = packs.blobs(blob_name)
    placed |= packs.pieces(new)
    sizes |= {blob.name: sum(map(len, blob.parts)) for blob in new}
    used = {piece.blob for pieces in placed.values() for piece in pieces}
    manifest = Manifest(
        kept_at=now,
        files=files,
        own=own,
        folders=frozenset(folders),
        contents=placed,
        blobs={name: size for name, size in sizes.items() if name in used},
    )
    return Change(manifest, [blob for blob in new if blob.name not in present])


class Packs:
    """Contents put into blobs, in the order in which they come."""

    def __init__(self) -> None:
        self._packs: list[list[memoryview]] = []
        self._places: dict[str, list[tuple[int, int, int]]] = {}
        self._open: int | None = None
        """The pack that takes what is short."""
        self._size = 0

    def add(self, name: str, body: bytes) -> None:
        """Take a content: whole blobs of a long one, and its rest beside others."""
        view = memoryview(body)
        places = self._places[name] = []
        while len(view) >= BLOB_BYTES:
            places.append((len(self._packs), 0, BLOB_BYTES))
            self._packs.append([view[:BLOB_BYTES]])
            view = view[BLOB_BYTES:]
        if not view:
            return
        if self._open is None or self._size + len(view) > BLOB_BYTES:
            self._open, self._size = len(self._packs), 0
            self._packs.append([])
        places.append((self._open, self._size, len(view)))
        self._packs[self._open].append(view)
        self._size += len(view)

    def blobs(self, blob_name: NameOf) -> list[Blob]:
        """Return the blobs."""
        return [Blob(blob_name(parts), parts) for parts in self._packs]

    def pieces(self, blobs: Sequence[Blob]) -> dict[str, Pieces]:
        """Return where the contents are."""
        return {
            name: tuple(Piece(blobs[pack].name, start, length) for pack, start, length in places)
            for name, places in self._places.items()
        }


def digest_of(parts: Iterable[Bytes]) -> str:
    """Return the SHA-256 of what the parts are together. See NameOf."""
    digest = sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def length_of(pieces: Pieces) -> int:
    """Return the bytes of a content."""
    return sum(piece.length for piece in pieces)


def _named(named: Mapping[str, bytes], bodies: dict[str, bytes], name_of: NameOf) -> dict[str, str]:
    """Return the names of the contents, by path, and enter each once into `bodies`."""
    found = {}
    for path in sorted(named):
        body = named[path]
        found[path] = name_of([body])
        bodies.setdefault(found[path], body)
    return found


def _found(
    known: Manifest, wanted: AbstractSet[str], present: AbstractSet[str]
) -> dict[str, Pieces]:
    return {
        name: pieces
        for name, pieces in known.contents.items()
        if name in wanted and all(piece.blob in present for piece in pieces)
    }


def _without_waste(found: Mapping[str, Pieces], sizes: Mapping[str, int]) -> dict[str, Pieces]:
    """Leave out what is in blobs that are not worth to be kept."""
    used: Counter[str] = Counter()
    for pieces in found.values():
        for piece in pieces:
            used[piece.blob] += piece.length
    waste = {blob for blob, length in used.items() if 2 * length < sizes[blob]}
    small = {blob for blob in used if 2 * sizes[blob] < BLOB_BYTES}
    if len(small) > MOST_SMALL:
        waste |= small
    return {
        name: pieces
        for name, pieces in found.items()
        if not any(piece.blob in waste for piece in pieces)
    }
