"""The live view of one conversation's log: append, persist, publish, follow."""

import asyncio
import logging
from asyncio import Future
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple, Self

import orjson

from events.batch import (
    WAITING_BYTES,
    Appended,
    AppendQueue,
    ByteBudget,
    Settled,
    Waiting,
    digest_of,
    prepare,
    prepare_text,
    remask,
)
from events.errors import (
    BadEvent,
    ConversationDeleted,
    Fenced,
    LogShortened,
    StoreUnavailable,
    StreamClosed,
)
from events.event import Event, EventSource, StoredEvent
from events.fence import Fence
from events.filter import EventFilter
from events.page_reader import PageReader
from events.pages import page_bounds, page_of
from events.partials import Pace, Partials
from events.pump import AppendPump
from events.redaction import Redactor
from events.serialization import decode
from events.stores.base import EventStore, Head
from events.strictness import whole_text
from events.subscription import Callback, Subscription
from events.summary import SummaryChange

logger = logging.getLogger(__name__)

EVENT_BYTES = 16 * 1024 * 1024
"""Maximum bytes of one event as stored."""
GIVEN_LAST = ("id", "timestamp")
"""The fields a batch assigns to an event."""

NO_SECRETS = Redactor()
"""The redactor of every stream that knows no secret; it never learns one."""

Tap = Callable[[Sequence[StoredEvent], SummaryChange], None]
"""Takes events as they are committed, and their fold."""
WhenShortened = Callable[["EventStream", LogShortened], None]
"""Takes a stream whose log has lost published events, and which."""


class StreamLimits(NamedTuple):
    """Bounds and deadlines of a stream."""

    waiting_appends: int = 10_000
    subscription_queue: int = 1024
    append_seconds: float = 10.0
    waiting_bytes: int = WAITING_BYTES
    budget: ByteBudget | None = None
    """The bytes waiting to be appended in all streams together."""
    event_bytes: int = EVENT_BYTES
    unmasked_bytes: int = 8 * 1024 * 1024
    """The most bytes of events held without their masks until the agent has seen them."""
    pace: Pace | None = None
    """The interval between pieces of partials in all streams together."""
    on_partials: "Callable[[EventStream], None] | None" = None
    """Called when what is shown of a stream's partials has changed; must neither wait nor raise."""


class TakenBack(NamedTuple):
    """The ids of events that a log has lost: until then they are sent anew to whoever may hold them."""

    first_id: int
    last_id: int
    until: float
    """By the event loop's clock."""


class EventStream:
    """Appends to one conversation's log and publishes committed events to subscribers.

    The stream owns an append, not its caller: cancelling a caller never stops, repeats or hides
    it. At most one batch is in flight; what arrives meanwhile forms the next. Ids and timestamps
    are given when a batch is formed, so ids are dense and time never runs against them. Events
    are published after they are durable, in id order, each once.
    """

    # Many are open and only read: each holds only what it needs.
    __slots__ = (
        "_appends",
        "_closed",
        "_fence",
        "_growth",
        "_head",
        "_limits",
        "_masks_changed",
        "_partials",
        "_reader",
        "_redactor",
        "_store",
        "_subscriptions",
        "_taken_back",
        "_taps",
        "_unmasked",
        "_unmasked_bytes",
        "_when_shortened",
        "conversation_id",
    )

    def __init__(
        self,
        conversation_id: str,
        store: EventStore,
        reader: PageReader,
        head: Head,
        limits: StreamLimits,
    ) -> None:
        self.conversation_id = conversation_id
        self._head = head
        self._fence = head.fence
        self._store = store
        self._redactor = NO_SECRETS
        self._reader = reader
        self._limits = limits
        self._masks_changed: Callable[[int], None] | None = None
        self._appends: AppendPump | None = None
        self._taps: tuple[Tap, ...] = ()
        self._taken_back: TakenBack | None = None
        self._when_shortened: WhenShortened | None = None
        self._partials: Partials | None = None
        self._unmasked: dict[int, bytes] | None = None
        self._unmasked_bytes = 0
        self._subscriptions: tuple[Subscription, ...] = ()
        self._growth: Future[None] | None = None
        self._closed = False

    @classmethod
    async def open(
        cls,
        conversation_id: str,
        store: EventStore,
        reader: PageReader,
        limits: StreamLimits = StreamLimits(),  # noqa: B008 - immutable
    ) -> Self:
        """Open the stream at the log's end. Raises ConversationDeleted, StoreUnavailable."""
        head = await store.head(conversation_id)
        if head.deleted:
            raise ConversationDeleted(conversation_id)
        return cls(conversation_id, store, reader, head, limits)

    @property
    def epoch(self) -> str:
        """The random text made with the log, "" until its first append."""
        return self._head.epoch

    @property
    def append_seconds(self) -> float:
        """The seconds after which the outcome of an append counts as unknown."""
        return self._limits.append_seconds

    @property
    def next_id(self) -> int:
        """The id behind the newest event published here; every id below is committed.

        Where nobody else appends to the log, it is what the next event gets.
        """
        return (self._appends or self._head).next_id

    @property
    def settled(self) -> bool:
        """Whether nothing that was taken waits to become durable."""
        return self._appends is None or self._appends.settled

    @property
    def last_state_id(self) -> int | None:
        """The id of the newest state event."""
        return (self._appends or self._head).last_state_id

    @property
    def may_have_asides(self) -> bool:
        """Whether the log may have had asides when the stream was opened, or at a `look` since."""
        return self._head.asides

    @property
    def is_closed(self) -> bool:
        """Whether the published end is the end of the log."""
        return self._closed

    @property
    def shortened(self) -> LogShortened | None:
        """The error that tells which published events the log has lost; None while it has them all.

        The stream takes and gives nothing then.
        """
        return None if self._appends is None else self._appends.shortened

    @property
    def last_published(self) -> tuple[int, int] | None:
        """The id of the event published last, and the CRC-32 of its body.

        None where nothing was published since the stream was opened.
        """
        appends = self._appends
        if appends is None or appends.last_mark is None:
            return None
        return appends.next_id - 1, appends.last_mark

    async def first_other(self, last_id: int) -> int:
        """Return where the log begins to be another than the one published here, `last_id` being so.

        That is known as far as the last page is cached; else it is where that begins. Raises what
        reading the store does.
        """
        first_id = page_bounds(page_of(last_id, self._reader.page_size), self._reader.page_size)[0]
        ours = self._reader.cached(self.conversation_id, last_id)
        theirs = await self._store.read(self.conversation_id, first_id, last_id + 1)
        found = {event.id: event for event in theirs}
        others = [event.id for event in ours if found.get(event.id) != event]
        return others[0] if others and others[0] > ours[0].id else first_id

    def when_shortened(self, callback: "WhenShortened") -> None:
        """Have `callback` told once when events are gone: the stream is to be closed and opened anew.

        It must neither wait nor raise.
        """
        self._when_shortened = callback

    def shorten(self, next_id: int) -> None:
        """Be told that the log ends at `next_id` now; nothing happens unless that loses events.

        What waits to be appended is told LogShortened, and so is whoever reads or appends from now
        on. Cached pages are dropped, subscriptions and followers end.
        """
        if next_id < self.next_id and self.shortened is None:
            self._pump.shorten(next_id)

    def take_back(self, taken_back: "TakenBack") -> None:
        """Have `resume_after` serve anew those who may hold events that this log has lost."""
        self._taken_back = taken_back

    def resume_after(self, event_id: int) -> int:
        """Return the id behind which a client goes on that has the events up to `event_id`."""
        known = self._taken_back
        if known is not None and known.first_id <= event_id <= known.last_id:
            if asyncio.get_running_loop().time() < known.until:
                event_id = known.first_id - 1
            else:
                self._taken_back = None
        return min(event_id, self.next_id - 1)

    @property
    def partials(self) -> Partials:
        """The texts of coming events that are shown while they are written."""
        if self._partials is None:
            changed = self._limits.on_partials
            self._partials = Partials(
                self._own_redactor(),
                self._limits.pace or Pace(),
                None if changed is None else partial(changed, self),
            )
            if self._closed:
                self._partials.end()
        return self._partials

    def enqueue(
        self, event: Event, source: EventSource, *, client_id: str | None = None
    ) -> Future[Appended]:
        """Submit an event and return a future that is done when the event is durable.

        Cancelling the future changes nothing but that nobody is told. In the future: what `submit`
        tells as an error.
        """
        future: Future[Appended] = asyncio.get_running_loop().create_future()
        self.submit(event, source, partial(_tell, future), client_id=client_id, own=True)
        return future

    def submit(
        self,
        event: Event,
        source: EventSource,
        settled: Settled,
        *,
        client_id: str | None = None,
        own: bool = False,
        fence: Fence | None = None,
    ) -> None:
        """Take an event for appending, in the order of the calls; `settled` is told the outcome.

        It is called in the step in which the event becomes durable, before that is published.
        `client_id` is the idempotency key: an event with a key the log knows is not appended again
        and gives the first one's id. For the server's `own` events see AppendQueue.put, for `fence`
        `held_by`.
        Raises at once, taking nothing: StreamClosed, ConversationDeleted, StreamOverloaded,
        BadEvent (it was stored already, or cannot be encoded), EventTooLarge. Told: AppendFailed,
        ConversationDeleted, StreamClosed, Fenced, MasksChanged.
        """
        if event.id is not None:
            raise BadEvent("an event that has an id was stored already", code="forbidden_field")
        draft = prepare(event, source, client_id, self._redactor, self._limits.event_bytes)
        if draft.unmasked is not None:
            settled = partial(self._hold_unmasked, draft.unmasked, settled)
        digest = None if client_id is None else digest_of(client_id)
        # By position from here on: a call of a function with keyword-only arguments takes longer.
        self._pump.put(draft, digest, settled, own, fence)

    def submit_text(
        self, text: str, source: EventSource, settled: Settled, *, client_id: str | None = None
    ) -> None:
        """Submit a text message without creating an event object first."""
        draft = prepare_text(text, source, client_id, self._redactor, self._limits.event_bytes)
        if draft.unmasked is not None:
            settled = partial(self._hold_unmasked, draft.unmasked, settled)
        self._pump.put(draft, None if client_id is None else digest_of(client_id), settled)

    async def append(
        self, event: Event, source: EventSource, *, client_id: str | None = None
    ) -> Appended:
        """Append an event and wait until it is durable; cancelling leaves the append in flight."""
        return await self.enqueue(event, source, client_id=client_id)

    def held_by(self, fence: Fence) -> "HeldStream":
        """Return the view through which the holder of the log's loop appends."""
        if self._fence is None or fence.number > self._fence.number:
            self._fence = fence
        return HeldStream(self, fence)

    def claim(self) -> "HeldStream":
        """Return the view of a new holder of the loop in this process.

        Its claim is greater than any that was made here or had been when the stream was opened.
        With its first event the log refuses what earlier holders append from then on.
        """
        return self.held_by(Fence.after(self._fence))

    def reach(self, next_id: int) -> None:
        """Be told that the log has come to `next_id`; what others appended is read and published.

        Never waits. What cannot be read is logged, and left for the next time.
        """
        if next_id > self.next_id and not self._closed:
            self._pump.reach(next_id)

    def reached(self, events: Sequence[StoredEvent]) -> None:
        """Be handed what others appended, by whoever has read it; ids are consecutive.

        What goes on from here is published at once, unless a batch is in flight: then it is read
        again behind that.
        """
        if not self._closed:
            self._pump.reached(events)

    async def look(self) -> None:
        """Publish all events that the store has now.

        Raises StoreUnavailable, also past the deadline, ConversationDeleted, DamagedHead, LogShortened.
        """
        seconds = self._limits.append_seconds
        published = self.next_id
        try:
            async with asyncio.timeout(seconds):
                head = await self._store.head(self.conversation_id)
                if head.deleted:
                    raise ConversationDeleted(self.conversation_id)
                if head.next_id < published:
                    self.shorten(head.next_id)
                self._check_whole()
                self.need_masks(head.masks)
                if head.asides and not self._head.asides:
                    self._head = replace(self._head, asides=True)
                if head.next_id > self.next_id and not self._closed:
                    reached: Future[None] = asyncio.get_running_loop().create_future()
                    self._pump.reach(head.next_id, reached)
                    await reached
        except TimeoutError as error:
            raise StoreUnavailable(
                f"the log of {self.conversation_id} could not be read within {seconds:g} s"
            ) from error

    async def look_for(self, event_id: int) -> None:
        """Call `look` if a client has an event that is not published here, as of another process."""
        if event_id >= self.next_id:
            await self.look()

    def update_secrets(self, secrets: Mapping[str, str]) -> None:
        """Mask these values, too, in everything appended from now on."""
        if secrets:
            self._own_redactor().update(secrets)

    def learn_masks(self, masks: Mapping[str, str], version: int) -> None:
        """`update_secrets`, and name their version in every append from now on.

        What waits is masked anew first, and so is what comes back because the log refused it. A log
        to which somebody appended under a greater version takes nothing more under this one.
        """
        self.update_secrets(masks)
        self._pump.learn_masks(version, self._remask)

    def when_masks_change(self, callback: Callable[[int], None] | None) -> None:
        """Have `callback` told which version of masks is needed, when it is above the one learned.

        It must neither wait nor raise, and see to it that `learn_masks` is called: appends wait for
        that as long as for the store, and are then told MasksChanged.
        """
        self._masks_changed = callback

    def need_masks(self, version: int) -> None:
        """Report the version of masks that the log takes events under; asks for it if it is newer."""
        masks = None if self._appends is None else self._appends.masks
        if masks is not None and version > masks:
            self._ask_for_masks(version)

    def masked(self, text: str) -> str:
        """Return a text as an event appended now would hold it."""
        return self._redactor.redact_text(whole_text(text))

    def unmasked(self, stored: StoredEvent) -> Event:
        """Return an event as it was handed over, for the agent of this conversation only.

        What is stored and sent holds masks in the place of secrets. The texts without masks are in
        memory alone, until `forget_unmasked`, and of the newest `unmasked_bytes`; beyond that, and
        after a restart, there is what is stored. Raises BadEvent.
        """
        payload = orjson.loads(stored.body)
        unmasked = None if self._unmasked is None else self._unmasked.get(stored.id)
        if unmasked is not None:
            payload = {**orjson.loads(unmasked), **{key: payload[key] for key in GIVEN_LAST}}
        return decode(payload)

    def forget_unmasked(self, event_id: int) -> None:
        """Let go of the texts without masks up to an event: the agent has seen it."""
        while self._unmasked:
            first = next(iter(self._unmasked))
            if first > event_id:
                break
            self._unmasked_bytes -= len(self._unmasked.pop(first))

    def subscribe(self, name: str, callback: Callback, *, after: int | None = None) -> Subscription:
        """Hand every event after `after` (default: after now) to a callback, in order, each once."""
        last_id = self.next_id - 1
        position = last_id if after is None else max(-1, min(after, last_id))
        subscription = Subscription(
            f"{name} of {self.conversation_id}",
            callback,
            self.read,
            position=position,
            capacity=self._limits.subscription_queue,
        )
        self._subscriptions += (subscription,)
        if position < last_id:
            subscription.catch_up()
        return subscription

    def tap(self, callback: Tap) -> Callable[[], None]:
        """Call `callback` with events committed from now on; the returned function ends that.

        It runs in the step that commits, in id order, and must neither wait nor raise; what it
        raises is logged. For what cannot promise that there is `subscribe`.
        """
        self._taps += (callback,)

        def stop() -> None:
            self._taps = tuple(one for one in self._taps if one is not callback)

        return stop

    async def unsubscribe(self, subscription: Subscription, *, drain_seconds: float = 0.0) -> None:
        """End a subscription; unknown ones are ignored."""
        await subscription.close(drain_seconds=drain_seconds)
        self._subscriptions = tuple(one for one in self._subscriptions if one is not subscription)

    async def read(self, start_id: int) -> Sequence[StoredEvent]:
        """Committed events from `start_id` to the end of its page; none at the log's end."""
        self._check_whole()
        try:
            return await self._reader.read(self.conversation_id, start_id, self.next_id)
        except LogShortened as error:
            self.shorten(error.first_id)
            raise

    def search_events(
        self,
        start_id: int = 0,
        end_id: int | None = None,
        *,
        reverse: bool = False,
        filter: EventFilter | None = None,  # noqa: A002 - the contract's name
        limit: int | None = None,
    ) -> AsyncIterator[StoredEvent]:
        """See PageReader.search."""
        self._check_whole()
        return self._reader.search(
            self.conversation_id,
            self.next_id,
            start_id=start_id,
            end_id=end_id,
            reverse=reverse,
            filter=filter,
            limit=limit,
        )

    async def follow(self, after: int) -> AsyncIterator[StoredEvent]:
        """Yield every event after `after`, backlog and live, without gap or duplicate, until close."""
        position = max(-1, after)
        while True:
            for event in await self.read(position + 1):
                position = event.id
                yield event
            if position >= self.next_id - 1:
                if self._closed:
                    return
                await asyncio.shield(self.growth())

    def growth(self) -> Future[None]:
        """Return a future that is done when more is published, or the stream gives nothing more.

        All who ask share it: never cancel it.
        """
        if self._growth is None:
            self._growth = asyncio.get_running_loop().create_future()
        return self._growth

    async def flush(self, seconds: float = 5.0) -> None:
        """Wait, for a bounded time, until subscribers have received all committed events."""
        waits = [one.level() for one in self._subscriptions]
        if waits:
            await asyncio.wait([asyncio.ensure_future(one) for one in waits], timeout=seconds)

    async def close(self, *, drain_seconds: float = 5.0) -> None:
        """Accept no more events, finish accepted ones, publish them, end the subscribers.

        Events not durable by the deadline fail with StreamClosed; they may still be in the log
        later.
        """
        self._pump.stop(StreamClosed(f"the stream of {self.conversation_id} is closed"))
        if self.shortened is not None:
            drain_seconds = 0.0
        await self._pump.drain(drain_seconds)
        for subscription in self._subscriptions:
            await self.unsubscribe(subscription, drain_seconds=drain_seconds)
        self._closed = True
        if self._partials is not None:
            self._partials.end()
        self._wake_followers()

    async def mark_deleted(self) -> None:
        """Handle the deletion of the log: refuse waiting events, end subscribers, forget pages."""
        self._pump.stop(ConversationDeleted(self.conversation_id))
        await self.close(drain_seconds=1.0)
        self._reader.forget(self.conversation_id, self.next_id)

    @property
    def _pump(self) -> AppendPump:
        """Made for the first append."""
        if self._appends is None:
            self._appends = AppendPump(
                self.conversation_id,
                self._store,
                self._head,
                queue=AppendQueue(
                    self._limits.waiting_appends, self._limits.waiting_bytes, self._limits.budget
                ),
                append_seconds=self._limits.append_seconds,
                publish=self._publish,
                masks_changed=self._ask_for_masks,
                shortened=self._lose,
            )
        return self._appends

    def _lose(self, lost: LogShortened) -> None:
        count = lost.last_id + 1 - lost.first_id
        self._store.counters.events_lost += count
        logger.error(
            "%s, which had been acknowledged: a failover left them behind",
            *(lost,),
            extra={"conversation_id": self.conversation_id, "lost_events": count},
        )
        self._reader.forget(self.conversation_id, lost.last_id + 1)
        self._wake_followers()
        if self._when_shortened is not None:
            self._when_shortened(self, lost)

    def _check_whole(self) -> None:
        lost = self.shortened
        if lost is not None:
            raise lost

    def _ask_for_masks(self, version: int) -> None:
        if self._masks_changed is not None:
            self._masks_changed(version)

    def _remask(self, waiting: Waiting) -> None:
        before = waiting.draft
        waiting.draft = after = remask(before, self._redactor)
        if before.unmasked is None and after.unmasked is not None:
            callers = waiting.callers
            callers[0] = partial(self._hold_unmasked, after.unmasked, callers[0])

    def _own_redactor(self) -> Redactor:
        """Return the redactor that learns the secrets of this conversation."""
        if self._redactor is NO_SECRETS:
            self._redactor = Redactor()
        return self._redactor

    def _hold_unmasked(
        self, unmasked: bytes, settled: Settled, outcome: Appended | Exception
    ) -> None:
        # In the step in which the event becomes durable, before any subscriber hears of it.
        if isinstance(outcome, Appended) and not outcome.duplicate:
            if self._unmasked is None:
                self._unmasked = {}
            self._unmasked[outcome.id] = unmasked
            self._unmasked_bytes += len(unmasked)
            while self._unmasked_bytes > self._limits.unmasked_bytes and len(self._unmasked) > 1:
                self.forget_unmasked(next(iter(self._unmasked)))
        settled(outcome)

    def _publish(
        self, events: Sequence[StoredEvent], summary: SummaryChange, size_bytes: int
    ) -> None:
        for callback in self._taps:
            try:
                callback(events, summary)
            except Exception:
                ids = {"conversation_id": self.conversation_id}
                logger.exception(
                    "a callback for new events of %s failed", self.conversation_id, extra=ids
                )
        for subscription in self._subscriptions:
            if subscription.offer(events, size_bytes):
                self._store.counters.subscriptions_lagged += 1
        self._wake_followers()

    def _wake_followers(self) -> None:
        if self._growth is not None:
            self._growth.set_result(None)
            self._growth = None


class HeldStream:
    """Appends to a stream under a claim to the log's loop.

    Once another holder has claimed the loop with a greater number, every event fails with Fenced,
    and is not written. Appends to the stream itself claim nothing.
    """

    __slots__ = ("_let_go", "fence", "stream")

    def __init__(self, stream: EventStream, fence: Fence) -> None:
        self.stream = stream
        self.fence = fence
        self._let_go = False

    def let_go(self) -> None:
        """Append nothing more, although nobody has claimed the loop yet: all is told Fenced at once."""
        self._let_go = True

    @property
    def conversation_id(self) -> str:
        """The conversation whose log it is."""
        return self.stream.conversation_id

    def enqueue(
        self, event: Event, source: EventSource, *, client_id: str | None = None
    ) -> Future[Appended]:
        """See EventStream."""
        future: Future[Appended] = asyncio.get_running_loop().create_future()
        self.submit(event, source, partial(_tell, future), client_id=client_id, own=True)
        return future

    def submit(
        self,
        event: Event,
        source: EventSource,
        settled: Settled,
        *,
        client_id: str | None = None,
        own: bool = False,
    ) -> None:
        """See EventStream."""
        if self._let_go:
            raise Fenced(f"the loop of {self.conversation_id} was let go")
        self.stream.submit(event, source, settled, client_id=client_id, own=own, fence=self.fence)

    async def append(
        self, event: Event, source: EventSource, *, client_id: str | None = None
    ) -> Appended:
        """See EventStream."""
        return await self.enqueue(event, source, client_id=client_id)


def _tell(future: Future[Appended], outcome: Appended | Exception) -> None:
    if future.done():
        return
    if isinstance(outcome, Appended):
        future.set_result(outcome)
    else:
        future.set_exception(outcome)
        future.exception()  # nobody may be listening any more, and that is no fault
