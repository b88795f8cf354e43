"""Agents that say what a model sends, in a coroutine and in a thread; a message names the model's port."""

import asyncio
import socket

from events.actions import MessageAction
from runtime_stub import Agent, BlockingAgent, BlockingTurn, Turn

MOST_BYTES = 4096


class ModelAgent(Agent):
    """Reads from the model in the event loop."""

    async def run(self, turn: Turn) -> None:
        """Say what comes, until the model ends."""
        reader, writer = await asyncio.open_connection("127.0.0.1", _port_of(turn))
        try:
            async with turn.say() as answer:
                while token := await reader.read(MOST_BYTES):
                    answer.write(token.decode())
        finally:
            writer.close()


class BlockingModelAgent(BlockingAgent):
    """Reads from the model in a thread."""

    def work(self, turn: BlockingTurn) -> None:
        """Say what comes, until the model ends."""
        with (
            socket.create_connection(("127.0.0.1", _port_of(turn))) as connection,
            turn.say() as answer,
        ):
            while token := connection.recv(MOST_BYTES):
                answer.write(token.decode())


def _port_of(turn: Turn | BlockingTurn) -> int:
    (message,) = (one for one in turn.cause if isinstance(one, MessageAction))
    return int(message.content)
