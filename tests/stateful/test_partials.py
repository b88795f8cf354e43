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

from events.actions import MessageAction
from events.cursor import Cursor
from events.event import StoredEvent
from events.live import LiveReader, Opened, partial_of
from events.partials import Dropped, Piece
from events.stores.memory import MemoryEventStore
from tests.support.quick_loop import QuickLoop
from tests.support.streams import AGENT, USER, message, open_stream

SECRETS = ("abcabc-9", "bca bc", "aaaa-bbbb-9")
PIECES = st.one_of(
    st.text("abc-9 ", min_size=1, max_size=8),
    st.sampled_from(SECRETS).flatmap(
        lambda one: st.integers(1, len(one)).map(lambda end: one[:end])
    ),
)


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
            whole = orjson.loads(event.body)["args"]["content"]
            assert whole.startswith(self.held.pop(partial, ""))


class PartialsMachine(RuleBasedStateMachine):
    """Texts are written, finished, dropped; readers come, stall, are cut and come back."""

    written = Bundle("written")

    @initialize(secrets=st.lists(st.sampled_from(SECRETS), unique=True))
    def begin(self, secrets: Sequence[str]):
        self.runner = asyncio.Runner(loop_factory=QuickLoop)
        self.dropped: set[str] = set()
        self.views = [View(self.dropped), View(self.dropped)]
        self.log: list[int] = []
        self.run(self.start(secrets))

    async def start(self, secrets):
        self.stream = await open_stream(MemoryEventStore(), page_size=3)
        self.stream.update_secrets({str(n): one for n, one in enumerate(secrets)})

    def run(self, work):
        return self.runner.run(work)

    @rule(target=written)
    def write_a_text(self):
        if len(self.stream.partials.open) == 16:
            return multiple()
        return self.stream.partials.begin("message", "content", 0)

    @rule(partial=written, pieces=st.lists(PIECES, min_size=1, max_size=3), tell=st.booleans())
    def write(self, partial, pieces, tell):
        async def write():
            for piece in pieces:
                partial.write(piece)
            if tell:
                await self.stream.partials.next_telling()

        self.run(write())

    @rule(partial=consumes(written))
    def finish(self, partial):
        async def finish():
            done = asyncio.get_running_loop().create_future()
            event = MessageAction(content=partial.text)
            partial.finish(event, AGENT, self.stream.submit, done.set_result)
            self.log.append((await done).id)

        self.run(finish())

    @rule(partial=consumes(written))
    def drop(self, partial):
        async def drop():
            partial.drop("anew")

        self.dropped.add(partial.id)
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
            open_texts = {one.id: one.shown for one in self.stream.partials.open if one.told}
            assert view.held == open_texts
        self.run(self.stream.close())
        self.runner.close()


def test_readers_hold_a_prefix_of_each_text_or_its_event():
    run_state_machine_as_test(
        PartialsMachine, settings=settings(max_examples=150, stateful_step_count=40)
    )
