"""Ending a connection that may have ended already."""

import asyncio
import socket

import pytest
import uvloop

from server.sockets.transport.stall_watch import abort


@pytest.mark.parametrize("new_loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_a_connection_that_is_closed_already_may_be_aborted_once_more(new_loop):
    async def close_and_abort():
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        lost = loop.create_future()

        class Peer(asyncio.Protocol):
            def connection_lost(self, exc):
                lost.set_result(exc)

        with theirs:
            transport, _ = await loop.create_connection(Peer, sock=ours)
            transport.close()
            await lost
            abort(transport)
            return transport.is_closing()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(close_and_abort())
