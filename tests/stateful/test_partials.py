"""Whoever reads a conversation while it is written holds a prefix of each text, or its event."""

import asyncio
from collections.abc import Sequence

import orjson
from hypothesis import settings, strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from events.checkpoints import Checkpoints
from events.cursor import Cursor
from events.errors import AppendFailed
from events.event import StoredEvent
from events.live import LiveReader, Opened, partial_of
from events.partials import Dropped, Piece
from events.stores.memory import MemoryEventStore
from tests.support.hooked import HookedEventStore
from tests.support.partials import finish
from tests.support.quick_loop import QuickLoop
from tests.support.streams import USER, message, open_stream

SECRETS = ("abcabc-9", "bca bc", "aaaa-bbbb-9")
PIECES = st.one_of(
    st.text("abc-9 ", min_size=1, max_size=8),
    st.sampled_from(SECRETS).flatmap(
        lambda one: st.integers(1, len(one)).map(lambda end: one[:end])
    ),
)


LONGEST_UNTOLD_SECONDS = 0.5
CHECKPOINT_SECONDS = 1.0


class MortalStore(HookedEventStore):
    """The store as one process sees it, which writes nothing once it is dead."""

    def __init__(self, inner):
        super().__init__(inner, self._check)
        self.dead = False

    async def put_asides(self, asides):
        await self._check("put_asides.before", "c")
        await self.inner.put_asides(asides)

    async def asides(self, conversation_id):
        return await self.inner.asides(conversation_id)

    async def _check(self, point, conversation_id):
        if self.dead:
            raise AppendFailed(f"the process is dead: {point} of {conversation_id}")


class View:
    """A client: what it holds, over any number of readers, and what was wrong."""

    def __init__(self, dropped):
        self.dropped = dropped
        self.ids: list[int] = []
        self.held: dict[str, str] = {}
        self.cursor = Cursor()
        self.reader: LiveReader | None = None

    def take(self, given):
        if isinstance(given, Opened):
            named = {partial.id: at for partial, at in given.partials}
            for one in [one for one in self.held if one not in named]:
                del self.held[one]
            assert all(len(self.held.get(one, "")) == at for one, at in named.items())
            return
        for one in given:
            if isinstance(one, StoredEvent):
                self.take_event(one)
            elif isinstance(one, Dropped):
                assert one.id in self.dropped
                del self.held[one.id]
            else:
                assert isinstance(one, Piece)
                assert one.at == len(self.held.get(one.id, ""))
                assert one.to - one.at == len(one.text) > 0
                self.held[one.id] = self.held.get(one.id, "") + one.text

    def take_event(self, event):
        self.ids.append(event.id)
        partial = partial_of(event)
        if partial is not None:
            payload = orjson.loads(event.body)
            whole, held = payload["args"]["content"], self.held.pop(partial, "")
            # After a crash the log may end earlier than what was shown; then this is its beginning.
            end = len(whole) if payload.get("interrupted") == "crashed" else len(held)
            assert held[:end] == whole[: len(held)]


class PartialsMachine(RuleBasedStateMachine):
    """Texts are written, finished, dropped; readers come, stall, are cut and come back; processes die."""

    written = Bundle("written")

    @initialize(secrets=st.lists(st.sampled_from(SECRETS), unique=True))
    def begin(self, secrets: Sequence[str]):
        self.runner = asyncio.Runner(loop_factory=QuickLoop)
        self.dropped: set[str] = set()
        self.views = [View(self.dropped), View(self.dropped)]
        self.log: list[int] = []
        self.disk = MemoryEventStore()
        self.secrets = {str(n): one for n, one in enumerate(secrets)}
        self.checkpointed: dict[str, str] = {}
        self.taken_back: dict[str, str] = {}
        self.run(self.start())

    async def start(self):
        """Begin a process, and open the conversation in it."""
        self.store = MortalStore(self.disk)
        self.checkpoints = Checkpoints(self.store, CHECKPOINT_SECONDS)
        self.stream = await open_stream(self.store, page_size=3, on_partials=self.checkpoints.note)
        self.stream.update_secrets(self.secrets)
        await self.checkpoints.recover(self.stream)

    async def end(self):
        """End the process; what its checkpoints still do comes to nothing if it is dead."""
        async with self.checkpoints:
            pass

    def shown(self):
        """The text shown of each partial of this process that is open."""
        return {one.id: one.shown for one in self.stream.partials.open if one.told}

    def is_open(self, partial):
        """Whether a partial is this process's, and open."""
        return partial in self.stream.partials.open

    def run(self, work):
        return self.runner.run(work)

    @rule(target=written)
    def write_a_text(self):
        if len(self.stream.partials.open) == 16:
            return multiple()
        return self.stream.partials.begin("message", "content", 0)

    @rule(partial=written, pieces=st.lists(PIECES, min_size=1, max_size=3), tell=st.booleans())
    def write(self, partial, pieces, tell):
        if not self.is_open(partial):
            return

        async def write():
            for piece in pieces:
                partial.write(piece)
            if tell:
                await self.stream.partials.next_telling()

        self.run(write())

    @rule(partial=consumes(written))
    def finish(self, partial):
        if not self.is_open(partial):
            return

        async def end():
            self.log.append((await finish(self.stream, partial)).id)

        self.run(end())

    @rule(partial=consumes(written))
    def drop(self, partial):
        if not self.is_open(partial):
            return

        async def drop():
            partial.drop("anew")

        self.dropped.add(partial.id)
        self.taken_back[partial.id] = partial.shown
        self.run(drop())

    @rule()
    def say(self):
        async def say():
            self.log.append((await self.stream.append(message("user"), USER)).id)

        self.run(say())

    @rule(which=st.integers(0, 1), steps=st.integers(1, 6))
    def read(self, which, steps):
        """A reader reads some steps; then it stalls, until it is asked again or cut."""
        view = self.views[which]

        async def read():
            if view.reader is None:
                view.reader = LiveReader(self.stream, view.cursor).__enter__()
            for _ in range(steps):
                reading = asyncio.ensure_future(view.reader.next())
                await asyncio.wait([reading], timeout=1.0)
                if not reading.done():
                    reading.cancel()
                    await asyncio.wait([reading])
                    return
                view.take(reading.result())

        self.run(read())

    @rule(which=st.integers(0, 1), through_text=st.booleans())
    def cut(self, which, through_text):
        """A connection is lost; its client comes back with its cursor."""
        view = self.views[which]
        if view.reader is not None:
            view.reader.__exit__()
            cursor = view.reader.cursor
            assert dict(cursor.held) == {one: len(text) for one, text in view.held.items()}
            view.cursor = Cursor.parse(str(cursor)) if through_text else cursor
            view.reader = None

    @rule()
    def rest(self):
        """So long that all that was written is told, and what is told is in the store."""
        self.run(asyncio.sleep(2 * LONGEST_UNTOLD_SECONDS + CHECKPOINT_SECONDS + 0.1))
        # A log without an event has no checkpoint: every turn begins with one.
        self.checkpointed = self.shown() if self.log else {}
        self.taken_back = {}

    @rule()
    def kill(self):
        """The process dies, and another opens the conversation: texts are in the log, each once.

        One that was taken back since the last checkpoint may be among them.
        """
        shown = self.shown()
        kept = {one: text for one, text in self.checkpointed.items() if one in shown}
        shown |= {one: text for one, text in self.taken_back.items() if one not in shown}
        for which in range(len(self.views)):
            self.cut(which, through_text=True)
        self.store.dead = True
        self.run(self.end())
        self.run(self.start())
        self.checkpointed, self.taken_back = {}, {}

        async def recovered():
            return [one async for one in self.stream.search_events(len(self.log))]

        for event in self.run(recovered()):
            payload = orjson.loads(event.body)
            assert payload["interrupted"] == "crashed"
            text, least = payload["args"]["content"], kept.pop(payload["partial"], "")
            assert shown.pop(payload["partial"]).startswith(text)
            assert text.startswith(least)
            self.log.append(event.id)
        assert not any(text.strip() for text in kept.values())

    @rule(partial=consumes(written))
    def kill_behind_an_event(self, partial):
        """The process dies when a text has its event and the store still its checkpoint."""
        self.rest()
        self.finish(partial)
        self.kill()

    @invariant()
    def every_event_once_in_order(self):
        for view in getattr(self, "views", ()):
            assert view.ids == self.log[: len(view.ids)]

    def teardown(self):
        if not hasattr(self, "runner"):
            return
        for which, view in enumerate(self.views):
            self.read(which, 1000)
            assert view.ids == self.log
            assert view.held == self.shown()
        self.run(self.stream.close())
        self.run(self.end())
        self.runner.close()


def test_readers_hold_a_prefix_of_each_text_or_its_event():
    run_state_machine_as_test(
        PartialsMachine, settings=settings(max_examples=150, stateful_step_count=40)
    )
