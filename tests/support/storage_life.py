"""A life of a storage: conversations are written to, and all that was told is kept, to be compared.

A storage is compared with what was told up to a moment of its life: nothing acknowledged is lost,
nothing is in it twice, what was refused is not in it, and what was underway is there whole or not
at all.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto
from random import Random
from typing import Any

import orjson

from events.batch import digest_of
from events.checkpoints import Checkpoint
from events.conformance.records import record, summary_of
from events.errors import AppendConflict, AppendUnknown, EventsError
from events.event import StoredEvent
from events.fence import Fence
from events.stores.base import PARTIALS, Aside
from storage.conversations.metadata import ConversationMetadata, MetadataChange
from storage.errors import ConversationNotFound, OutcomeUnknown, StorageError
from tests.support.backends import Opened
from tests.support.invariants import History
from tests.support.payloads import Payload

CONVERSATIONS = ("a", "b", "c")
MOST_EVENTS = 4
"""Of one batch."""


class Told(Enum):
    """The outcome of a request."""

    SENT = auto()
    ACKNOWLEDGED = auto()
    REFUSED = auto()


@dataclass(frozen=True, slots=True)
class Note:
    """Something that was asked for or told at a place of the life."""

    place: int
    conversation: str
    what: str
    """The key of an event; `saved`, `deleted`, or `title` and the title."""
    told: Told
    content: str = ""
    event_id: int = -1
    claim: Fence | None = None


class Life:
    """Asks for things in an order that a seed decides, and notes what it is told.

    `place` says where in the life something happens; what is asked for later has no lower place.
    """

    def __init__(self, random: Random, place: Callable[[], int]) -> None:
        self.notes: list[Note] = []
        self._random = random
        self._place = place
        self._count = 0
        self._claims = dict.fromkeys(CONVERSATIONS, Fence(1, 1))

    async def begin(self, stores: Opened) -> None:
        """Save the records."""
        for name in CONVERSATIONS:
            saved = ConversationMetadata(conversation_id=name, title=f"first {name}")
            await self._ask(
                name, "saved", stores.conversations.for_user("ann").save_metadata(saved)
            )

    async def live(self, stores: Opened, steps: int) -> None:
        """Do so many things; what fails is noted, and the next one is done."""
        for _ in range(steps):
            name = self._random.choice(CONVERSATIONS)
            chance = self._random.random()
            if chance < 0.75:
                await self.say(stores, name)
            elif chance < 0.85:
                await self._title(stores, name)
            elif chance < 0.95:
                await self._keep_aside(stores, name)
            else:
                self._claims[name] = Fence(self._claims[name].number + 1, self._count)

    async def delete(self, stores: Opened, name: str) -> None:
        """Delete a conversation; nothing is asked for of it from then on."""
        self._note(name, "deleted", Told.SENT)
        try:
            await stores.events.delete(name)
            await stores.conversations.for_user("ann").delete_metadata(name)
        except (EventsError, StorageError):
            return
        self._note(name, "deleted", Told.ACKNOWLEDGED)

    async def say(self, stores: Opened, name: str) -> bool:
        """Append a batch; return whether it was acknowledged."""
        try:
            first = (await stores.events.head(name)).next_id
        except EventsError:
            return False
        events = self._events(first)
        claim = self._claims[name]
        for one in events:
            self._note(name, _key_of(one), Told.SENT, content=_text_of(one))
        try:
            await stores.events.append(
                *(name, first, events),
                summary=summary_of(events),
                keys={place: digest_of(_key_of(one)) for place, one in enumerate(events)},
                fence=claim,
            )
        except (
            AppendUnknown,
            AppendConflict,
        ):  # a writer that sees its own event there reads it back
            return False
        except EventsError:
            for one in events:
                self._note(name, _key_of(one), Told.REFUSED)
            return False
        for one in events:
            self._note(name, _key_of(one), Told.ACKNOWLEDGED, event_id=one.id, claim=claim)
        return True

    def _events(self, first: int) -> list[StoredEvent]:
        return [self._event(first + more) for more in range(self._random.randint(1, MOST_EVENTS))]

    def _event(self, event_id: int) -> StoredEvent:
        self._count += 1
        key = f"key {self._count}"
        text = f"text of {key} " + "x" * self._random.choice((0, 0, 50, 900))
        moment = f"2026-05-04T12:{event_id // 60:02}:{event_id % 60:02}.000000Z"
        made = record(event_id, text, moment=moment)
        body = orjson.dumps({**orjson.loads(made.body), "client_id": key})
        return StoredEvent(made.id, made.flag, body)

    async def _title(self, stores: Opened, name: str) -> None:
        self._count += 1
        title = f"title {self._count}"
        update = stores.conversations.for_user("ann").update_metadata
        await self._ask(name, f"title {title}", update(name, MetadataChange(title=title)))

    async def _keep_aside(self, stores: Opened, name: str) -> None:
        try:
            body = Checkpoint(self._count, ()).encode()
            await stores.events.put_asides([Aside(name, PARTIALS, body)])
        except EventsError:
            return

    async def _ask(self, name: str, what: str, work: Awaitable[object]) -> None:
        self._note(name, what, Told.SENT)
        try:
            await work
        except OutcomeUnknown:
            return
        except StorageError:
            self._note(name, what, Told.REFUSED)
            return
        self._note(name, what, Told.ACKNOWLEDGED)

    def _note(self, name: str, what: str, told: Told, **more: Any) -> None:
        self.notes.append(Note(self._place(), name, what, told, **more))

    async def check(self, stores: Opened, place: int | None = None) -> int:
        """Compare a storage with what was told up to a place; the events that were acknowledged.

        Raises AssertionError. A part of a life that is not told was asked for at most.
        """
        notes = [one for one in self.notes if place is None or one.place <= place]
        return sum(
            [
                await _check_one(stores, name, [one for one in notes if one.conversation == name])
                for name in CONVERSATIONS
            ]
        )


def _key_of(event: StoredEvent) -> str:
    return str(orjson.loads(event.body)["client_id"])


def _text_of(event: StoredEvent) -> str:
    return str(orjson.loads(event.body)["message"])


async def log_in(stores: Opened, name: str) -> list[Payload]:
    """Return the whole log of a conversation."""
    end = (await stores.events.head(name)).next_id
    return [orjson.loads(one.body) for one in await stores.events.read(name, 0, end)]


async def _check_one(stores: Opened, name: str, notes: list[Note]) -> int:
    head = await stores.events.head(name)
    deletions = [one.told for one in notes if one.what == "deleted"]
    if head.deleted:
        assert deletions, f"{name} is deleted, and nobody asked for that"
        return 0
    assert Told.ACKNOWLEDGED not in deletions, f"{name} was deleted, and is there"
    history = _history_of(notes)
    log = await log_in(stores, name)
    history.check(log)
    for one in log:
        if "client_id" not in one:
            continue
        found = await stores.events.find(name, digest_of(one["client_id"]))
        assert found == one["id"], f"I8: the index has {found} for {one['client_id']}"
    await _check_record(stores, name, notes)
    return history.acknowledgements


def _history_of(notes: list[Note]) -> History:
    history = History()
    for one in notes:
        if not one.what.startswith("key "):
            continue
        if one.told is Told.SENT:
            history.sent(one.what, one.content)
        elif one.told is Told.REFUSED:
            history.refused(one.what)
        else:
            history.acknowledged(one.what, one.event_id, one.claim)
    return history


async def _check_record(stores: Opened, name: str, notes: list[Note]) -> None:
    ann = stores.conversations.for_user("ann")
    listed = {one.conversation_id: one for one in (await ann.search()).results}
    told = {one.told for one in notes if one.what == "saved"}
    try:
        found = await ann.get_metadata(name)
    except ConversationNotFound:
        assert Told.ACKNOWLEDGED not in told, f"the record of {name} is lost"
        assert name not in listed
        return
    assert found == listed[name], f"I8: the list tells something else of {name}"
    titles = [(f"first {name}", Told.ACKNOWLEDGED)]
    titles += [
        (one.what.removeprefix("title "), one.told)
        for one in notes
        if one.what.startswith("title ")
    ]
    acknowledged = [place for place, (_, one) in enumerate(titles) if one is Told.ACKNOWLEDGED]
    refused = {title for title, one in titles if one is Told.REFUSED}
    possible = {title for title, _ in titles[acknowledged[-1] :]} - refused
    assert found.title in possible, f"the title of {name} is {found.title}, not of {possible}"
