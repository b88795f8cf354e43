"""Texts while they are written, over Socket.IO: exactly what is lacking, in mid-word too."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager

import orjson
import pytest

from events.event import EventSource
from tests.support.clients import ConnectRefused
from tests.support.live import live_server
from tests.support.partials import LAST, finish, texts_until, write_all
from tests.support.raw_client import EVENT, payload_of
from tests.support.seeds import choices
from tests.support.stream_view import StreamView
from tests.support.streams import message

AGENT = EventSource.AGENT
DELTA = '42["oh_delta",'
SECRET = "hunter2-hunter2"  # noqa: S105 - planted


BOTH_WAYS = True


@pytest.fixture
async def live(delivery):
    async with live_server(delta_interval_seconds=0.02) as opened:
        yield opened


@pytest.fixture
async def conversation(live):
    key = await live.new()
    async with live.application.manager.attach(key, None) as opened:
        yield opened


class DeltaView(StreamView):
    """The texts and events a Socket.IO client holds."""

    packets = 0

    @property
    def query(self):
        """The parameter with which it comes back."""
        held = ",".join(f"{one}:{len(text)}" for one, text in self.held.items())
        return {"deltas": held or "1"}

    async def take(self, client, done):
        """Read until the view is as wanted."""
        while not done(self):
            text = await client.packet(seconds=20.0)
            self.packets += 1
            if text.startswith(EVENT):
                self.take_event(payload_of(text))
            elif text.startswith(DELTA):
                self.take_delta(orjson.loads(text[len(DELTA) : -1]))


@asynccontextmanager
async def following(live, key, view, **options):
    """A client that asks for deltas behind what the view holds."""
    cursor = max(view.ids, default=-1)
    async with live.raw(key, cursor=cursor, query=view.query, **options) as client:
        await client.connect()
        yield client


async def test_what_is_open_comes_behind_the_backlog_then_pieces_then_the_event(live, conversation):
    stream, view = conversation.stream, DeltaView()
    await stream.append(message("question"), AGENT)
    text = stream.partials.begin("message", "content", 7)
    text.write("Good ")
    await stream.partials.next_telling()
    async with following(live, conversation.conversation_id, view) as client:
        await view.take(client, lambda one: one.opened)
        assert view.said == ["question"]
        await view.take(client, lambda one: one.held)
        text.write("morning")
        await view.take(client, lambda one: one.held == {text.id: "Good morning"})
        await finish(stream, text)
        await view.take(client, lambda one: one.said == ["question", "Good morning"])
    assert view.held == {}
    assert (view.events[-1]["partial"], view.events[-1]["turn"]) == (text.id, 7)


async def test_a_client_comes_back_in_mid_word(live, conversation):
    stream, view = conversation.stream, DeltaView()
    key = conversation.conversation_id
    text = stream.partials.begin("message", "content", 0)
    text.write("Good mor")
    async with following(live, key, view) as client:
        await view.take(client, lambda one: one.held)
        client.cut()
    text.write("ning")
    await stream.partials.next_telling()
    async with following(live, key, view) as client:
        await view.take(client, lambda one: one.held == {text.id: "Good morning"})
        client.cut()
    await finish(stream, text)
    async with following(live, key, view) as client:
        await view.take(client, lambda one: one.opened == 3)
    assert (view.said, view.held) == (["Good morning"], {})


async def test_what_is_dropped_is_told_to_who_is_there_and_to_who_comes_back(live, conversation):
    stream, view, away = conversation.stream, DeltaView(), DeltaView()
    key = conversation.conversation_id
    text = stream.partials.begin("message", "content", 0)
    text.write("wrong")
    async with following(live, key, view) as client:
        await view.take(client, lambda one: one.held)
        async with following(live, key, away) as other:
            await away.take(other, lambda one: one.held)
        text.drop("anew")
        await view.take(client, lambda one: one.dropped)
    assert view.dropped == [(text.id, "anew")]
    async with following(live, key, away) as other:
        await away.take(other, lambda one: one.opened == 2)
    assert away.held == {}


async def test_a_client_that_does_not_ask_is_sent_the_same_bytes_while_others_stream(
    live, conversation
):
    stream, key = conversation.stream, conversation.conversation_id
    async with live.raw(key) as client, following(live, key, DeltaView()):
        await client.connect()
        for number in range(3):
            text = stream.partials.begin("message", "content", number)
            for piece in ("Once ", "upon ", "a time"):
                text.write(piece)
                await stream.partials.next_telling()
            last = await finish(stream, text)
        packets = []
        while client.cursor < last.id:
            packets.append(await client.packet())
    stored = [event.body for event in await live.log(key) if b'"action":"message"' in event.body]
    assert [one for one in packets if '"action":"message"' in one] == [
        f'42["oh_event",{body.decode()}]' for body in stored
    ]
    assert len(stored) == 3
    assert not [one for one in packets if DELTA in one]


async def wander(live, key, number, cuts):
    """Follow until the last text is whole, cut and slow at random; the view."""
    chance, view = choices(number), DeltaView()
    while view.said[-1:] != [LAST]:
        async with following(live, key, view) as client:
            if chance.random() < 0.3:
                client.stop_reading()
                await client.connection.ping()
                client.start_reading()
            for _ in range(chance.randint(1, 6)):
                packets = view.packets
                await view.take(
                    client,
                    lambda one, packets=packets: one.packets > packets or one.said[-1:] == [LAST],
                )
        cuts[number] += 1
    return view


async def test_wanderers_and_slow_readers_hold_a_prefix_of_each_text_or_its_event(
    live, conversation
):
    stream, key = conversation.stream, conversation.conversation_id
    stream.update_secrets({"KEY": SECRET})
    texts: list[str] = []
    cuts: Counter[int] = Counter()

    writing = texts_until(lambda: cuts.total() > 40, SECRET, texts)
    author = asyncio.create_task(write_all(stream, writing, choices(1)))
    views = await asyncio.gather(*(wander(live, key, number, cuts) for number in range(8)))
    await author

    masked = [text.replace(SECRET, "<secret_hidden>") for text in texts]
    for view in views:
        assert view.said == masked
        assert view.held == {}


async def test_a_reader_that_falls_behind_comes_back_through_log_and_journal(live, conversation):
    stream, key, view = conversation.stream, conversation.conversation_id, DeltaView()
    async with following(live, key, view, receive_bytes=4096) as client:
        await view.take(client, lambda one: one.opened)
        client.stop_reading()
        filler = "x" * 100_000
        for _ in range(40):
            await stream.append(message(filler), AGENT)
        text = stream.partials.begin("message", "content", 0)
        for _ in range(20):
            text.write("y" * 20_000)
            await stream.partials.next_telling()
        client.start_reading()
        await view.take(client, lambda one: one.held.get(text.id) == "y" * 400_000)
        await finish(stream, text)
        await view.take(client, lambda one: len(one.said) == 41)
    assert view.held == {}


@pytest.mark.parametrize("deltas", ["x", "1,2", "a:b", "a:1," * 17 + "a:1"])
async def test_deltas_that_cannot_be_read_are_refused(live, conversation, deltas):
    with pytest.raises(ConnectRefused, match="deltas"):
        async with live.joined(conversation.conversation_id, query={"deltas": deltas}):
            pass


async def test_a_client_that_leaves_leaves_nothing_behind(live, conversation):
    stream, key = conversation.stream, conversation.conversation_id
    for _ in range(3):
        view = DeltaView()
        async with following(live, key, view) as client:
            await view.take(client, lambda one: one.opened)
    async with live.joined(key) as client:
        await client.until(lambda _: live.application.connections.count(key) == 1)
    assert stream.partials._taps == ()
