"""The ends of logs, read for many streams at a time and compared with what those have published."""

import logging
from collections.abc import Mapping, Sequence

from events.errors import DamagedHead
from events.stores.base import EventStore, Head
from events.stream import EventStream

logger = logging.getLogger(__name__)

HEADS_AT_ONCE = 1_000
"""Logs whose ends are read in one call."""


async def compare_ends(store: EventStore, streams: Sequence[EventStream]) -> Mapping[str, Head]:
    """Return the heads of the streams' logs, and shorten the streams whose logs end too soon.

    A damaged head is left out, and logged. Raises StoreUnavailable.
    """
    published = [(stream, stream.next_id) for stream in streams]
    heads = await _sound_heads(store, [stream.conversation_id for stream in streams])
    for stream, next_id in published:
        head = heads.get(stream.conversation_id)
        if head is not None and head.next_id < next_id and not head.deleted:
            stream.shorten(head.next_id)
    return heads


async def _sound_heads(store: EventStore, names: Sequence[str]) -> dict[str, Head]:
    """Return the heads by their conversations; where one is damaged, the halves are read apart."""
    try:
        return dict(zip(names, await store.heads(names), strict=True))
    except DamagedHead as damage:
        if len(names) == 1:
            ids = {"conversation_id": names[0]}
            logger.warning("cannot look at the end of %s: %s", names[0], damage, extra=ids)
            return {}
    middle = len(names) // 2
    return await _sound_heads(store, names[:middle]) | await _sound_heads(store, names[middle:])
