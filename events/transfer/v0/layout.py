"""The files of a V0 directory: its conversations, and the payloads of their events. Blocks."""

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from storage.backends.base import SESSIONS

logger = logging.getLogger(__name__)

USERS = "users"
EVENTS, PAGES, METADATA = "events", "event_cache", "metadata.json"
MAX_BYTES = 256 * 1024 * 1024
"""Bytes of the longest file that is read."""


class Found(NamedTuple):
    """The event of one id: its payload, or the fact that a file of it cannot be read."""

    id: int
    payload: Mapping[str, Any] | None
    is_torn: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class V0Conversation:
    """One conversation: the folders that hold parts of it, that of its user first."""

    conversation_id: str
    user_id: str | None
    """The user in whose tree it is, if it is in one's."""
    folders: tuple[Path, ...]

    def metadata(self) -> Mapping[str, Any] | None:
        """Return the record as it lies there; None where there is none that can be read."""
        for folder in reversed(self.folders):
            found = read_object(folder / METADATA)
            if found is not None:
                return found
        return None

    def first_payloads(self) -> Iterator[Mapping[str, Any]]:
        """Yield the payloads in the files of events, by id, then those in pages."""
        for path in sorted(self._numbered(), key=lambda one: int(one.stem)):
            found = read_object(path)
            if found is not None:
                yield found
        for one in self.events():
            if one.payload is not None:
                yield one.payload

    def _numbered(self) -> Iterator[Path]:
        for folder in self.folders:
            yield from (one for one in _json_files(folder / EVENTS) if one.stem.isdecimal())

    def events(self) -> Iterator[Found]:
        """Yield what is known of every id up to the greatest, ascending.

        The file of an event counts before its copy in a page. A page is never trusted by position:
        only by the ids inside it.
        """
        files: dict[int, list[Path]] = {}
        for path in self._numbered():
            files.setdefault(int(path.stem), []).append(path)
        pages = _Pages([path for folder in self.folders for path in _json_files(folder / PAGES)])
        end = max([*files, *([pages.last_id] if pages.last_id is not None else [])], default=-1)
        for event_id in range(end + 1):
            yield _found(event_id, files.get(event_id, []), pages)


def conversations_in(root: Path) -> Iterator[V0Conversation]:
    """Yield the conversations of a directory, by id. Raises OSError where it cannot be listed."""
    folders: dict[str, list[Path]] = {}
    owners: dict[str, str] = {}
    for user in _folders(root / USERS):
        for folder in _folders(user / "conversations"):
            folders.setdefault(folder.name, []).append(folder)
            owners.setdefault(folder.name, user.name)
    for folder in _folders(root / SESSIONS):
        folders.setdefault(folder.name, []).append(folder)
    for name in sorted(folders):
        yield V0Conversation(name, owners.get(name), tuple(folders[name]))


def read_object(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in a file; None where there is none, or the file is torn."""
    found = _read(path)
    return found if isinstance(found, dict) else None


@dataclass(slots=True)
class _Pages:
    """The copies of events in pages: which file has which, and the last file's, in memory."""

    paths: list[Path]
    last_id: int | None = None
    _files: dict[int, Path] = field(default_factory=dict)
    _held: tuple[Path, dict[int, Mapping[str, Any]]] | None = None

    def __post_init__(self) -> None:
        for path in self.paths:
            for event_id in self._read(path):
                self._files.setdefault(event_id, path)
        self.last_id = max(self._files, default=None)

    def get(self, event_id: int) -> Mapping[str, Any] | None:
        """Return the copy of an event."""
        path = self._files.get(event_id)
        if path is None:
            return None
        if self._held is None or self._held[0] != path:
            self._held = path, self._read(path)
        return self._held[1].get(event_id)

    def _read(self, path: Path) -> dict[int, Mapping[str, Any]]:
        found = _read(path)
        events = found if isinstance(found, list) else []
        return {
            one["id"]: one
            for one in events
            if isinstance(one, dict) and type(one.get("id")) is int and _is_event(one)
        }


def _found(event_id: int, files: list[Path], pages: _Pages) -> Found:
    whole = [one for one in map(read_object, files) if one is not None and _is_event(one)]
    if whole:
        notes: tuple[str, ...] = ()
        if any(one != whole[0] for one in whole[1:]):
            notes = (f"event {event_id} was written twice, and the user's own was taken",)
        if whole[0].get("id", event_id) != event_id:
            notes = (*notes, f"event {event_id} names itself {whole[0]['id']!r}")
        return Found(event_id, whole[0], notes=notes)
    copy = pages.get(event_id)
    if copy is not None:
        return Found(event_id, copy)
    return Found(event_id, None, is_torn=bool(files))


def _is_event(payload: Mapping[str, Any]) -> bool:
    return isinstance(payload.get("action") or payload.get("observation"), str)


def _folders(parent: Path) -> list[Path]:
    if not parent.is_dir():
        return []
    return sorted(one for one in parent.iterdir() if one.is_dir() and not one.name.startswith("."))


def _json_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.json")) if folder.is_dir() else []


def _read(path: Path) -> Any:
    """Return the JSON value in a file; None for what cannot be read."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return None
        return json.loads(path.read_text(encoding="utf-8", errors="surrogatepass"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        # Neither what is in it nor where an error quotes it: it may hold secrets.
        logger.debug("cannot read %s: %s", path, type(error).__name__)
        return None
