"""Texts written into a stream as agents write them: shown in pieces, then one event."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import Any

from events.actions import MessageAction
from events.batch import Appended
from events.partials import Partial
from events.stream import EventStream
from tests.support.streams import AGENT

LONGEST_PIECE = 20
DOZEN = 12
LAST = "That was all."


async def finish(stream: EventStream, partial: Partial, **changes: Any) -> Appended:
    """End a text with its event, which has these fields besides."""
    done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    event = MessageAction(content=partial.text, **changes)
    partial.finish(event, AGENT, stream.submit, done.set_result)
    outcome = await done
    assert isinstance(outcome, Appended), outcome
    return outcome


def texts_until(enough: Callable[[], bool], secret: str, given: list[str]) -> Iterator[str]:
    """Give a dozen texts with a secret in them, more until there are enough, and LAST."""
    while len(given) < DOZEN or not enough():
        given.append(f"{len(given)}: the key is {secret}, keep it. " * 4)
        yield given[-1]
    given.append(LAST)
    yield LAST


async def write_all(stream: EventStream, texts: Iterable[str], chance: Random) -> None:
    """Write texts one after the other, in random pieces and at a random pace."""
    for number, text in enumerate(texts):
        partial = stream.partials.begin("message", "content", number)
        at = 0
        while at < len(text):
            to = at + chance.randint(1, LONGEST_PIECE)
            partial.write(text[at:to])
            at = to
            if chance.random() < 0.4:
                await stream.partials.next_telling()
        await finish(stream, partial)
