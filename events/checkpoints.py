"""Checkpoints: what was shown of unfinished texts, kept beside the logs so that a crash loses none.

A text is shown while it is written and is an event only at its end. Once in `seconds` the texts
that grew are written to the asides of their logs, those of all conversations together. When a
conversation is opened, texts of which no event came to be are appended to its log, `crashed`.
"""

import asyncio
import logging
from asyncio import Task, TimerHandle
from collections.abc import Iterator
from typing import Any, NamedTuple, Self

import orjson

from events.actions import AgentThinkAction, MessageAction
from events.errors import BadEvent, EventsError, EventTooLarge
from events.event import Event, EventSource, Interruption
from events.live import partial_of
from events.partials import Partial
from events.stores.base import MAX_ASIDE_BYTES, PARTIALS, Aside, EventStore
from events.stream import EventStream

logger = logging.getLogger(__name__)

VERSION = 1
"""The version of a checkpoint's body; one of another version is left alone."""
BATCH_BYTES = 1024 * 1024
"""Bytes of checkpoints from which on a call of the store is not made longer."""
CLOSE_SECONDS = 2.0
"""Seconds that the last checkpoints of a process may take."""
TEXTS: dict[tuple[str, str], type[MessageAction | AgentThinkAction]] = {
    ("message", "content"): MessageAction,
    ("think", "thought"): AgentThinkAction,
}
"""Kinds and fields of texts that are worth an event though they are not whole.

An action that was still being written was not carried out, and must not look as if it had been.
"""


class CheckpointedText(NamedTuple):
    """A partial as its checkpoint holds it: `text` is the masked text shown so far."""

    id: str
    kind: str
    field: str
    turn: int
    text: str

    def event(self) -> Event | None:
        """Return the event that holds the text; None where it becomes none."""
        kind = TEXTS.get((self.kind, self.field))
        if kind is None or not self.text.strip():
            return None
        return kind.model_validate(
            {
                self.field: self.text,
                "turn": self.turn,
                "partial": self.id,
                "interrupted": Interruption.CRASHED,
            }
        )


class Checkpoint(NamedTuple):
    """The texts that were open in a conversation at a moment.

    Their events, where there are any, have the id `next_id` or a higher one.
    """

    next_id: int
    texts: tuple[CheckpointedText, ...]

    @classmethod
    def of(cls, stream: EventStream) -> Self | None:
        """Return a stream's checkpoint as of now; None where nothing unfinished is shown."""
        shown = tuple(_text_of(one) for one in stream.partials.open if one.told)
        return cls(stream.next_id, shown) if shown else None

    def encode(self) -> bytes:
        """Return the body; texts that would make it too long for an aside are left out."""
        texts: list[orjson.Fragment] = []
        left = MAX_ASIDE_BYTES - len(orjson.dumps(_body(self.next_id, [])))
        for one in self.texts:
            encoded = orjson.dumps(one._asdict())
            left -= len(encoded) + 1
            if left < 0:
                logger.error("a text of %d characters is in no checkpoint", len(one.text))
                break
            texts.append(orjson.Fragment(encoded))
        return orjson.dumps(_body(self.next_id, texts))

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Read a body. Raises ValueError for one that this version has not written."""
        try:
            held = orjson.loads(body)
            if held["version"] != VERSION:
                raise ValueError(f"it has version {held['version']}")
            return cls(held["next_id"], tuple(CheckpointedText(**one) for one in held["texts"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"it is not a checkpoint: {error!r}") from error


class Checkpoints:
    """Writes the checkpoints of all streams of a process, and recovers texts from them.

    `note` is called whenever what is shown of a stream's texts has changed. Nothing runs while
    nothing is written. A checkpoint whose texts are all over is removed with the next ones. Where
    the store fails, that is logged once, and tried again until it succeeds. With 0 `seconds`
    nothing is written. Leaving the block writes what is left to write.
    """

    def __init__(
        self, store: EventStore, seconds: float = 1.0, *, deadline_seconds: float = 10.0
    ) -> None:
        self._store = store
        self._seconds = seconds
        self._deadline_seconds = deadline_seconds
        self._changed: dict[str, EventStream] = {}
        self._changed_at = 0.0
        """The time at which the first of those changed, on the loop's clock."""
        self._stored: set[str] = set()
        """Conversations that may have a checkpoint in the store."""
        self._unrecovered: set[str] = set()
        """Open conversations whose checkpoint of an earlier process could not be read or appended."""
        self._timer: TimerHandle | None = None
        self._writing: Task[None] | None = None
        self._failing = False
        self._closed = False

    async def __aenter__(self) -> Self:
        """Begin."""
        return self

    async def __aexit__(self, *error: object) -> None:
        """Write what is left, for a bounded time."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._writing is not None:
            await asyncio.wait([self._writing], timeout=CLOSE_SECONDS)
        if self._writing is None and self._changed:
            self._begin()
        if self._writing is not None:
            await asyncio.wait([self._writing], timeout=CLOSE_SECONDS)
        if self._writing is not None:
            self._writing.cancel()

    def note(self, stream: EventStream) -> None:
        """Have the stream's texts written within `seconds`. Never waits."""
        if not self._seconds:
            return
        if not self._changed:
            self._changed_at = asyncio.get_running_loop().time()
        self._changed[stream.conversation_id] = stream
        self._schedule()

    async def recover(self, stream: EventStream) -> None:
        """Append the texts that a crash cut short, before anybody reads the stream.

        Each is appended once, wherever a process ends meanwhile: a text of which an event of the
        log names the partial is passed over. Raises nothing: what fails is logged, and tried again
        before the conversation's next checkpoint.
        """
        if not stream.next_id or not stream.may_have_asides:
            return
        try:
            async with asyncio.timeout(self._deadline_seconds):
                await self._recover(stream)
        except (EventsError, TimeoutError) as error:
            self._unrecovered.add(stream.conversation_id)
            logger.error(  # noqa: TRY400 - the store's state says it all
                "the texts that a crash cut short in %s are not recovered yet: %r",
                stream.conversation_id,
                error,
                extra=_ids(stream),
            )

    def forget(self, conversation_id: str) -> None:
        """Note that a conversation is closed: the next one who opens it recovers its texts."""
        self._unrecovered.discard(conversation_id)

    async def _recover(self, stream: EventStream) -> None:
        conversation_id = stream.conversation_id
        body = (await self._store.asides(conversation_id)).get(PARTIALS)
        if body is not None:
            try:
                checkpoint = Checkpoint.decode(body)
            except ValueError as error:
                # It may be of a newer version; the conversation's next checkpoint replaces it.
                logger.warning(
                    "a checkpoint of %s is left out: %s", conversation_id, error, extra=_ids(stream)
                )
            else:
                await self._append_texts(stream, checkpoint)
                await self._store.put_asides([Aside(conversation_id, PARTIALS, None)])
        self._unrecovered.discard(conversation_id)

    async def _append_texts(self, stream: EventStream, checkpoint: Checkpoint) -> None:
        named = {partial_of(one) async for one in stream.search_events(checkpoint.next_id)}
        for text in checkpoint.texts:
            event = text.event()
            if event is None or text.id in named:
                continue
            try:
                await stream.append(event, EventSource.AGENT)
            except (BadEvent, EventTooLarge) as error:
                logger.error(  # noqa: TRY400 - it will never fit
                    "a text of %d characters is lost: %s",
                    len(text.text),
                    error,
                    extra=_ids(stream),
                )
            else:
                logger.warning(
                    "a crash cut a text of %s short after %d characters",
                    stream.conversation_id,
                    len(text.text),
                    extra=_ids(stream),
                )

    def _schedule(self) -> None:
        if self._timer is None and self._writing is None and not self._closed:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(self._changed_at + self._seconds, self._begin)

    def _begin(self) -> None:
        self._timer = None
        self._writing = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        changed, self._changed = self._changed, {}
        try:
            while changed:
                batch = dict(self._next_batch(changed))
                try:
                    async with asyncio.timeout(self._deadline_seconds):
                        await self._put(batch)
                except BaseException:
                    changed |= {one: stream for one, (stream, _) in batch.items()}
                    raise
            if self._failing:
                self._failing = False
                logger.warning("checkpoints of unfinished texts are written again")
        except Exception:
            if not self._failing:
                logger.exception("cannot write checkpoints of unfinished texts")
            self._failing = True
        finally:
            self._writing = None
            if changed:
                # What is noted meanwhile is newer, of a conversation opened again for instance.
                self._changed_at = asyncio.get_running_loop().time()
                self._changed = changed | self._changed
            if self._changed:
                self._schedule()

    def _next_batch(
        self, changed: dict[str, EventStream]
    ) -> Iterator[tuple[str, tuple[EventStream, bytes | None]]]:
        """Take conversations out of `changed`, with their checkpoints, up to BATCH_BYTES."""
        size = 0
        while changed and size < BATCH_BYTES:
            conversation_id = next(iter(changed))
            stream = changed.pop(conversation_id)
            checkpoint = Checkpoint.of(stream)
            if checkpoint is not None or conversation_id in self._stored:
                body = None if checkpoint is None else checkpoint.encode()
                size += len(body or b"")
                yield conversation_id, (stream, body)

    async def _put(self, batch: dict[str, tuple[EventStream, bytes | None]]) -> None:
        for conversation_id, (stream, _) in batch.items():
            if conversation_id in self._unrecovered:
                await self._recover(stream)
        asides = [Aside(one, PARTIALS, body) for one, (_, body) in batch.items()]
        if asides:
            self._stored.update(batch)
            await self._store.put_asides(asides)
            self._stored.difference_update(one.conversation_id for one in asides if not one.body)


def _text_of(partial: Partial) -> CheckpointedText:
    return CheckpointedText(partial.id, partial.kind, partial.field, partial.turn, partial.shown)


def _body(next_id: int, texts: list[Any]) -> dict[str, Any]:
    return {"version": VERSION, "next_id": next_id, "texts": texts}


def _ids(stream: EventStream) -> dict[str, str]:
    return {"conversation_id": stream.conversation_id}
