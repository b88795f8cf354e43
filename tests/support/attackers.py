"""Clients that mean harm, in a process of their own that ends by itself.

`python -m tests.support.attackers KIND URL CONVERSATION`. Each line on standard input is a number
of seconds to attack for; a line with what was done is the answer. The end of the input, or
LIFE_SECONDS, ends the process. It runs at the rates below, on processor time that nobody else
wants: on a machine of its own it would take none of the server's.
"""

import asyncio
import os
import resource
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import count

from server.sockets.protocol import MAX_MESSAGE_BYTES
from tests.support.intruder import CONT, TEXT, Intruder, frame, intruder

LIFE_SECONDS = 600.0
FRAMES_PER_SECOND = 10
EVENT_CONNECTIONS = 10
EVENTS_PER_SECOND = 10_000
HALF_OPEN_PER_SECOND = 250
HALF_OPEN_ADDRESSES = 50
DEEP_PER_SECOND = 20
BODIES = 5
BODY_BYTES_PER_SECOND = 2 * 2**20
TICKS = 20
"""Parts of a second in which a rate is kept."""

Done = Counter[str]


class Target:
    """Whom to attack."""

    def __init__(self, url: str, conversation_id: str) -> None:
        self.url = url
        self.conversation_id = conversation_id
        self.done: Done = Counter()

    async def joined(self, one: Intruder) -> None:
        """Join as an honest client does. Raises AssertionError when that is refused."""
        answer = await one.upgrade(f"conversation_id={self.conversation_id}")
        assert answer.status == 101, answer.status
        await one.message()
        await one.text("40")
        assert (await one.message()).startswith("40"), "refused"


async def frames(target: Target, seconds: float) -> None:
    """Frames of more than 4 MiB, announced as they are or in fragments, sent as far as taken."""
    part = b"4" * 2**16

    async def one() -> None:
        async with intruder(target.url, "127.0.0.11") as attacker:
            await target.joined(attacker)
            target.done["frames"] += 1
            size = MAX_MESSAGE_BYTES + 2**16
            await attacker.send(frame(TEXT, part, announced=size))
            for _ in range(size // len(part)):
                target.done["bytes"] += len(part)
                await attacker.send(part)
            await attacker.send(frame(CONT, part))
            await attacker.cut()

    await at_rate(target, FRAMES_PER_SECOND, seconds, one)


async def events(target: Target, seconds: float) -> None:
    """10,000 events a second on ten connections that have joined, as far as they are taken."""
    packed = frame(TEXT, b'427["oh_user_action",{"action":"message","args":{"content":"/quiet"}}]')
    share = EVENTS_PER_SECOND // EVENT_CONNECTIONS // TICKS

    async def one() -> None:
        async with intruder(target.url, "127.0.0.12") as attacker:
            await target.joined(attacker)
            reading = asyncio.create_task(attacker.cut(LIFE_SECONDS))
            try:
                for _ in range(int(seconds * TICKS)):
                    await attacker.send(packed * share)
                    target.done["events"] += share
                    await asyncio.sleep(1 / TICKS)
            finally:
                reading.cancel()

    await asyncio.gather(*(counted(target, one) for _ in range(EVENT_CONNECTIONS)))


async def half_open(target: Target, seconds: float) -> None:
    """Handshakes that stay where they are, of three kinds, from 50 addresses."""
    ends = asyncio.get_running_loop().time() + seconds
    numbers = count()
    head = b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: lo"

    async def one() -> None:
        number = next(numbers)
        address = f"127.0.1.{1 + number % HALF_OPEN_ADDRESSES}"
        async with intruder(target.url, address) as attacker:
            target.done["half_open"] += 1
            if number % 3 == 1:
                await attacker.send(head)
            elif number % 3 == 2:
                await attacker.upgrade(f"conversation_id={target.conversation_id}")
            await attacker.cut(max(0.5, ends - asyncio.get_running_loop().time()))

    await at_rate(target, HALF_OPEN_PER_SECOND, seconds, one)


async def deep(target: Target, seconds: float) -> None:
    """JSON that is nested a hundred thousand times."""
    text = frame(TEXT, b'427["oh_user_action",' + b"[" * 100_000 + b"]" * 100_000 + b"]")

    async def one() -> None:
        async with intruder(target.url, "127.0.0.13") as attacker:
            await target.joined(attacker)
            target.done["deep"] += 1
            await attacker.send(text)
            await attacker.cut()

    await at_rate(target, DEEP_PER_SECOND, seconds, one)


async def bodies(target: Target, seconds: float) -> None:
    """Bodies of polls without an end."""
    ends = asyncio.get_running_loop().time() + seconds
    part = b"10000\r\n" + b"4" * 2**16 + b"\r\n"

    async def one() -> None:
        while asyncio.get_running_loop().time() < ends:
            await counted(target, endless)
            await asyncio.sleep(1 / TICKS)

    async def endless() -> None:
        async with intruder(target.url, "127.0.0.14") as attacker:
            asked = "/socket.io/?EIO=4&transport=polling"
            answer = await attacker.ask("GET", asked)
            assert answer.status == 200, answer.status
            head = f"POST {asked}&sid={await attacker.opened()} HTTP/1.1\r\nHost: localhost\r\n"
            await attacker.send(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
            target.done["bodies"] += 1
            while asyncio.get_running_loop().time() < ends:
                await attacker.send(part)
                target.done["bytes"] += len(part)
                await asyncio.sleep(len(part) / BODY_BYTES_PER_SECOND)

    await asyncio.gather(*(one() for _ in range(BODIES)))


async def at_rate(
    target: Target, rate: float, seconds: float, act: Callable[[], Awaitable[None]]
) -> None:
    """Act so many times a second, and wait for what was begun."""
    tasks = []
    for _ in range(int(rate * seconds)):
        tasks.append(asyncio.create_task(counted(target, act)))
        await asyncio.sleep(1 / rate)
    await asyncio.gather(*tasks)


async def counted(target: Target, act: Callable[[], Awaitable[None]]) -> None:
    """Act, and count how it ended."""
    try:
        await act()
    except (AssertionError, EOFError, OSError, TimeoutError) as error:
        target.done[f"ended by {type(error).__name__}"] += 1


KINDS = {one.__name__: one for one in (frames, events, half_open, deep, bodies)}


async def serve_orders(kind: str, target: Target) -> None:
    """Attack as often as standard input says."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(LIFE_SECONDS):
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            target.done.clear()
            await KINDS[kind](target, float(line))
            print(dict(target.done), flush=True)  # noqa: T201 - its answer


def main() -> None:
    """Run one kind."""
    # As if it were another machine: it gets what the server and the good ones leave.
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    kind, url, conversation_id = sys.argv[1:]
    asyncio.run(serve_orders(kind, Target(url, conversation_id)))


if __name__ == "__main__":
    main()
