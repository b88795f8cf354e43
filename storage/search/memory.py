"""A search index in memory: the reference of the contract, which reads every entry."""

from collections.abc import Mapping, Sequence

from storage.search.base import (
    Entry,
    Found,
    LogChange,
    LogState,
    SearchIndex,
    SearchQuery,
    closed,
    first_place,
    place_at,
)
from storage.search.words import is_at, tokens_of


class MemorySearchIndex(SearchIndex):
    """See SearchIndex."""

    def __init__(self) -> None:
        self._states: dict[str, LogState] = {}
        self._places: dict[int, tuple[str, Entry]] = {}
        self._closed = False

    async def states(self, conversation_ids: Sequence[str]) -> Mapping[str, LogState]:
        """See SearchIndex."""
        self._check()
        return {one: self._states[one] for one in conversation_ids if one in self._states}

    async def conversations(self, after: str, limit: int) -> list[str]:
        """See SearchIndex."""
        self._check()
        return sorted(one for one in self._states if one > after)[:limit]

    async def write(self, changes: Sequence[LogChange]) -> int:
        """See SearchIndex."""
        self._check()
        applied = 0
        for change in changes:
            conversation_id = change.conversation_id
            if change.before is None:
                self._erase(conversation_id)
            elif self._states.get(conversation_id) != change.before:
                continue
            dropped = {entry.event_id for entry in change.entries}.union(change.withdrawn)
            self._drop(conversation_id, dropped)
            first = place = -1
            for entry in change.entries:
                wanted = first_place(conversation_id, entry.moment)
                first, place = wanted, place + 1 if wanted == first else wanted
                while place in self._places:
                    place += 1
                self._places[place] = conversation_id, entry
            self._states[conversation_id] = change.after
            applied += 1
        return applied

    async def erase(self, conversation_ids: Sequence[str]) -> None:
        """See SearchIndex."""
        self._check()
        for conversation_id in conversation_ids:
            self._erase(conversation_id)

    async def clear(self) -> None:
        """See SearchIndex."""
        self._check()
        self._states.clear()
        self._places.clear()

    async def find(self, query: SearchQuery, limit: int) -> list[Found]:
        """See SearchIndex."""
        self._check()
        found = [
            Found(place, conversation_id, entry.event_id)
            for place, (conversation_id, entry) in self._places.items()
            if self._fits(query, place, conversation_id, entry)
        ]
        return sorted(found, reverse=True)[:limit]

    async def close(self) -> None:
        """See SearchIndex."""
        self._closed = True

    def _check(self) -> None:
        if self._closed:
            raise closed()

    def _fits(self, query: SearchQuery, place: int, conversation_id: str, entry: Entry) -> bool:
        words = [token.word for token in tokens_of(entry.text)]
        return (
            bool(query.phrases)
            and self._states[conversation_id].owner == query.owner
            and query.conversation_id in (None, conversation_id)
            and query.source in (None, entry.source)
            and query.kind in (None, entry.kind)
            and (query.since is None or place >= place_at(query.since))
            and (query.below is None or place < query.below)
            and all(
                any(is_at(phrase, words, start) for start in range(len(words)))
                for phrase in query.phrases
            )
        )

    def _erase(self, conversation_id: str) -> None:
        self._states.pop(conversation_id, None)
        self._drop(conversation_id, None)

    def _drop(self, conversation_id: str, event_ids: set[int] | None) -> None:
        for place, (found, entry) in list(self._places.items()):
            if found == conversation_id and (event_ids is None or entry.event_id in event_ids):
                del self._places[place]
