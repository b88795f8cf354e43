"""The doorbell of a process in a cluster: says how far logs have come, and hears it of others.

What it says are hints. Nothing waits for it, nothing is lost with it but time: whoever does not hear
looks at the logs every few seconds.
"""

import asyncio
import logging
import random
from abc import ABC, abstractmethod
from asyncio import Task
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, ClassVar, NamedTuple, Protocol, Self

from server.cluster.wire import (
    ANSWERS,
    HEAD_BYTES,
    KINDS,
    LOOK,
    PAIR_BYTES,
    BadMessage,
    Kind,
    Message,
    decode,
    encode,
    encode_notice,
)

logger = logging.getLogger(__name__)

TICK_SECONDS = 0.002
"""The least time between two messages, and a longer one after a message of many rings: what comes
meanwhile goes together."""
BUSY_TICK_SECONDS = 0.01
BUSY_RINGS = 200
QUIET_SECONDS = 0.5
"""After so long without anything to say an empty message is sent."""
DEAF_SECONDS = 1.5
"""A process that has not heard itself for so long does not hear others either."""
SEND_SECONDS = 1.0
PAUSE_SECONDS = (0.1, 5.0)
"""The longest pause before connecting anew: after the first failure, and in the end."""
MOST_PENDING = 65_536
"""Numbers of a kind that wait to be sent; beyond that all others are told that they missed some."""
MOST_NOTICES = 1_000
"""Notices that wait to be sent; the oldest are dropped."""
MOST_SENDERS = 1_024
"""Other processes whose messages are counted; those unheard for longest are forgotten."""


class Connection(Protocol):
    """A connection to a channel. Either call may raise whatever its driver does when it is lost."""

    async def send(self, message: bytes) -> None:
        """Send a message to everybody who listens, this connection too."""

    async def receive(self) -> bytes:
        """Return the next message."""


class Channel(ABC):
    """Carrier of messages to every process that listens: those that arrive are in each sender's order."""

    most_bytes: ClassVar[int]
    """The longest message it takes."""

    @abstractmethod
    def connect(self) -> AbstractAsyncContextManager[Connection]:
        """Listen within the block. Raises what its driver does, within a deadline of its own."""


class Hearer(Protocol):
    """Receives what a doorbell hears of other processes; no call may wait or raise."""

    def rung(self, numbers: Sequence[int], positions: Sequence[int]) -> None:
        """Logs have come so far; the position LOOK says that the head has to be read."""

    def told(self, kind: Kind, numbers: Sequence[int], values: Sequence[int]) -> None:
        """Owners or loops have changed."""

    def noticed(self, conversation_id: str, payload: Mapping[str, Any]) -> None:
        """A payload is meant for the connections of a conversation."""

    def heard(self, *, hears: bool) -> None:
        """The doorbell hears from now on, or not."""

    def missed(self) -> None:
        """Messages of somebody did not arrive."""


class Doorbell:
    """Rings at other processes, at most one message a tick; use as an async context manager.

    Messages of a process are numbered, so that a hearer knows when some are missing, and come back
    to the process itself, so that it knows whether it hears at all. `answers` says whether the
    storage of this process answers, which others are told.
    """

    def __init__(
        self,
        channel: Channel,
        hearer: Hearer,
        *,
        incarnation: int,
        answers: Callable[[], bool] = lambda: True,
    ) -> None:
        self._channel = channel
        self._hearer = hearer
        self._incarnation = incarnation
        self._answers = answers
        self._pending = _Pending((channel.most_bytes - HEAD_BYTES) // PAIR_BYTES)
        self._sequence = 0
        self._senders: dict[int, int] = {}
        """The newest message of other processes, those heard last at the end."""
        self._others_answered = float("-inf")
        self._hears = False
        self._task: Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Begin to connect."""
        self._task = asyncio.get_running_loop().create_task(self._run())
        return self

    async def __aexit__(self, *error: object) -> None:
        """Disconnect; what has not been sent is dropped."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._set_hears(hears=False)

    @property
    def hears(self) -> bool:
        """Whether this process has heard itself lately."""
        return self._hears

    @property
    def others_answer(self) -> bool:
        """Whether another process has said lately that its storage answers."""
        return asyncio.get_running_loop().time() - self._others_answered < DEAF_SECONDS

    def ring(self, number: int, position: int) -> None:
        """Say how far a log has come; the farthest position that is not sent yet counts."""
        self._pending.put(Kind.RINGS, number, position)

    def look_at(self, number: int) -> None:
        """Say that the head of a log has to be read."""
        self._pending.put(Kind.RINGS, number, LOOK)

    def tell(self, kind: Kind, number: int, value: int = 0) -> None:
        """Say that an owner or a loop has changed."""
        self._pending.put(kind, number, value)

    def notice(self, conversation_id: str, payload: Mapping[str, Any]) -> None:
        """Have other processes send a payload to the connections of a conversation, if all goes well."""
        self._pending.put_notice(conversation_id, payload)

    async def _run(self) -> None:
        least, most = PAUSE_SECONDS
        longest = least
        while True:
            try:
                async with self._channel.connect() as connection:
                    await self._attend(connection)
            except Exception as error:  # noqa: BLE001 - drivers raise anything, and the next try tells
                if self._hears:
                    longest = least
                # Each outage is worth one line.
                level = logging.WARNING if longest == least else logging.DEBUG
                logger.log(level, "no doorbell, so logs are looked at: %r", error)
            self._set_hears(hears=False)
            await asyncio.sleep(random.uniform(0.0, longest))  # noqa: S311 - spreads nodes in time
            longest = min(most, longest * 2)

    async def _attend(self, connection: Connection) -> None:
        """Send and receive until one of them fails, or nothing of our own comes back. Raises."""
        sending = asyncio.get_running_loop().create_task(self._send(connection))
        receiving = asyncio.get_running_loop().create_task(self._receive(connection))
        try:
            done, _ = await asyncio.wait([sending, receiving], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            sending.cancel()
            receiving.cancel()
            await asyncio.wait([sending, receiving])

    async def _send(self, connection: Connection) -> None:
        quiet = 0.0  # the first message is sent at once, and tells whether we hear
        while True:
            count = 0
            taken = await self._pending.wait(quiet)
            quiet = QUIET_SECONDS
            for message, rings in self._messages(taken):
                async with asyncio.timeout(SEND_SECONDS):
                    await connection.send(message)
                count += rings
            await asyncio.sleep(BUSY_TICK_SECONDS if count > BUSY_RINGS else TICK_SECONDS)

    def _messages(self, taken: "Taken") -> Iterator[tuple[bytes, int]]:
        """Yield what goes out in one tick, and how many numbers are in each message."""
        flags = ANSWERS if self._answers() else 0
        if taken.missing:
            self._next()  # others see that a message is missing, and look
        for kind, pairs in taken.pairs:
            yield encode(kind, flags, self._incarnation, self._next(), pairs), len(pairs)
        for conversation_id, payload in taken.notices:
            sequence = self._next()
            try:
                message = encode_notice(
                    flags, self._incarnation, sequence, conversation_id, payload
                )
            except TypeError as error:
                logger.warning("a notice cannot be sent to other processes: %s", error)
                continue
            if len(message) <= self._channel.most_bytes:
                yield message, 0
            else:
                logger.info("a notice of %d bytes is too long for the doorbell", len(message))

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence

    async def _receive(self, connection: Connection) -> None:
        clock = asyncio.get_running_loop().time
        async with asyncio.timeout(DEAF_SECONDS) as deadline:
            while True:
                if self._take(await connection.receive()):
                    deadline.reschedule(clock() + DEAF_SECONDS)

    def _take(self, data: bytes) -> bool:
        """Pass on what a message says; return whether it was one of our own."""
        try:
            message = decode(data)
        except BadMessage as error:
            logger.warning("the doorbell's channel carried what is no message: %s", error)
            return False
        if message.incarnation == self._incarnation:
            self._set_hears(hears=True)
            return True
        if message.flags & ANSWERS:
            self._others_answered = asyncio.get_running_loop().time()
        self._count(message)
        self._pass_on(message)
        return False

    def _count(self, message: Message) -> None:
        """Tell the hearer when messages of the sender are missing before this one."""
        newest = self._senders.pop(message.incarnation, None)
        self._senders[message.incarnation] = max(message.sequence, newest or 0)
        if len(self._senders) > MOST_SENDERS:
            del self._senders[next(iter(self._senders))]
        if newest is not None and message.sequence > newest + 1:
            self._hearer.missed()

    def _pass_on(self, message: Message) -> None:
        if message.notice is not None:
            notice = message.notice
            self._hearer.noticed(notice["conversation_id"], notice["payload"])
        elif message.kind == Kind.RINGS:
            if message.numbers:
                self._hearer.rung(message.numbers, message.values)
        elif message.kind in KINDS:
            self._hearer.told(Kind(message.kind), message.numbers, message.values)

    def _set_hears(self, *, hears: bool) -> None:
        if hears != self._hears:
            self._hears = hears
            self._hearer.heard(hears=hears)


class Taken(NamedTuple):
    """The content of the messages of one tick."""

    pairs: Sequence[tuple[Kind, Mapping[int, int]]]
    """Numbers with their values, as they fit into messages; an empty one if there is nothing."""
    notices: Sequence[tuple[str, Mapping[str, Any]]]
    missing: bool
    """Numbers were dropped before."""


class _Pending:
    """The queue of what is to be sent: of each number the greatest value only."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._pairs: dict[Kind, dict[int, int]] = {}
        self._notices: deque[tuple[str, Mapping[str, Any]]] = deque(maxlen=MOST_NOTICES)
        self._missing = False
        self._some = asyncio.Event()

    def put(self, kind: Kind, number: int, value: int) -> None:
        pairs = self._pairs.setdefault(kind, {})
        known = pairs.get(number)
        if known is None and len(pairs) >= MOST_PENDING:
            self._missing = True
        elif known is None or value > known:
            pairs[number] = value
        self._some.set()

    def put_notice(self, conversation_id: str, payload: Mapping[str, Any]) -> None:
        self._notices.append((conversation_id, payload))
        self._some.set()

    async def wait(self, seconds: float) -> Taken:
        """Return what waits as soon as something does, or after so long an empty message."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._some.wait()
        self._some.clear()
        pairs, self._pairs = self._pairs, {}
        notices = [*self._notices]
        self._notices.clear()
        missing, self._missing = self._missing, False
        parts = [(kind, part) for kind, whole in pairs.items() for part in self._parts(whole)]
        if not parts and not notices:
            parts = [(Kind.RINGS, {})]
        return Taken(parts, notices, missing)

    def _parts(self, pairs: dict[int, int]) -> Iterator[Mapping[int, int]]:
        if len(pairs) <= self._at_once:
            yield pairs
            return
        every = [*pairs.items()]
        for begin in range(0, len(every), self._at_once):
            yield dict(every[begin : begin + self._at_once])
