"""Whatever clients are sent is described in the AsyncAPI document."""

import asyncio

from server.sockets.asyncapi import NOTICES
from tests.support.described import described_as
from tests.support.live import live_server
from tests.support.payloads import Payload, kind_of
from tests.support.remote import CONVERSATIONS, remote
from tests.support.sse import Frame, sse_frames
from tests.support.waiting import until

NARRATING = "tests.support.turn_agents:Narrating"


def notices_in(payloads):
    """The names of the notices among them, as the socket's messages are named."""
    told = [one for one in payloads if not kind_of(one)]
    return {name for one in told for name in described_as("oh_event.notice.", one)}


async def test_what_is_told_on_the_socket_and_in_the_stream_is_described():
    every = {f"oh_event.notice.{name}" for name in NOTICES}
    frames: list[Frame] = []
    deltas: list[Payload] = []
    async with (
        live_server(agent_class=NARRATING, confirmation_mode=True, approval_seconds=0.05) as live,
        remote(live.url) as api,
    ):
        one = await live.new()

        async def read(take):
            async with sse_frames(live.url, one) as stream:
                async for frame in stream:
                    take(frame)

        reading = asyncio.create_task(read(frames.append))
        async with live.joined(one, query={"deltas": "1"}) as client:
            client.io.on("oh_delta", deltas.append)
            await until(lambda: frames)
            await client.say("look")
            await client.event(lambda payload: payload.get("id") == "STATUS$APPROVAL_EXPIRED")
            await api.client.patch(f"{CONVERSATIONS}/{one}", json={"title": "A look"})
            await client.say("fail")
            await client.until(lambda me: notices_in(me.payloads) == every)
            await until(
                lambda: notices_in(each.data for each in frames if each.name == "notice") == every
            )
        reading.cancel()

    for payload in client.payloads:
        assert len(described_as("oh_event.", payload)) == 1, payload
    for delta in deltas:
        assert len(described_as("oh_delta.", delta)) == 1, delta
    for frame in frames:
        assert described_as(f"stream.{frame.name}", frame.data), frame
    assert {frame.name for frame in frames} == {"event", "delta", "notice"}
    assert "text" in {delta["type"] for delta in deltas}
