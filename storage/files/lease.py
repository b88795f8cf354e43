"""The object that says which process works on a bucket, renewed for as long as it does."""

import asyncio
import logging
import os
import socket
import time
from asyncio import Task
from collections.abc import Callable
from contextlib import suppress
from typing import Self
from uuid import uuid4

from pydantic import BaseModel, ValidationError

from storage.errors import (
    BucketInUse,
    Conflict,
    KeyNotFound,
    NotPermitted,
    OutcomeUnknown,
    StorageError,
    Unavailable,
)
from storage.files.objects import Found, Objects

logger = logging.getLogger(__name__)

KEY = "holder"
BEATS = 3
"""Times a lease is renewed while it is valid."""
LOOKS = 12
"""Times a lease is looked at before it counts as expired."""
LEASE_SECONDS = 6.0
TRIES = 6
TRY_SECONDS = 0.3
"""Times a lease is asked for while the service does not answer, and seconds between two of them."""


class LeaseRecord(BaseModel):
    """A lease as it is stored. No two are alike: each has its holder's id and a number."""

    holder: str
    beat: int
    seconds: float
    host: str
    pid: int
    released: bool = False


class Lease:
    """One process's right to write to a bucket.

    The holder writes only within `seconds` after it began to renew the lease. Another process takes
    it over once it has not changed for as long by that one's own clock. Where this process was
    stopped in between, its next renewal meets the other's tag.
    """

    def __init__(self, objects: Objects, *, seconds: float = LEASE_SECONDS) -> None:
        self._objects = objects
        self._on_loss: Callable[[str], None] | None = None
        self._record = LeaseRecord(
            holder=uuid4().hex, beat=0, seconds=seconds, host=socket.gethostname(), pid=os.getpid()
        )
        self._e_tag: str | None = None
        self._valid_until = float("-inf")
        self._is_lost = False
        self._renewed = asyncio.Event()
        self._beating: Task[None] | None = None

    async def take(self, on_loss: Callable[[str], None]) -> Self:
        """Take the lease, waiting until another's has expired, and renew it from then on.

        `on_loss` is called with the reason when it turns out to be another's. Raises BucketInUse when another process renews its own, Unavailable.
        """
        for _ in range(TRIES):
            try:
                found = await self._found()
                if found is not None and not self._is_mine(found):
                    await self._expiry(found)
                began = time.monotonic()
                await self._put(None if found is None else found.e_tag)
            except NotPermitted:
                raise
            except (Conflict, OutcomeUnknown, Unavailable) as error:
                logger.info("the lease of the bucket was not taken: %s", error)
                await asyncio.sleep(TRY_SECONDS)
                continue
            self._extend(began)
            self._on_loss = on_loss
            self._beating = asyncio.get_running_loop().create_task(self._beat())
            return self
        raise Unavailable(
            "the lease of the bucket cannot be taken: the object store does not answer"
        )

    @property
    def is_valid(self) -> bool:
        """Return whether writes may begin now."""
        return time.monotonic() < self._valid_until

    async def held(self) -> None:
        """Wait until the lease is valid, which it usually is, or lost."""
        while not self._is_lost and not self.is_valid:
            self._renewed.clear()
            await self._renewed.wait()

    async def release(self) -> None:
        """Let the next process take the lease at once."""
        if self._beating is not None:
            self._beating.cancel()
            with suppress(asyncio.CancelledError):
                await self._beating
        if self._e_tag is None or self._is_lost:
            return
        self._valid_until = float("-inf")
        self._record.released = True
        try:
            await self._put(self._e_tag)
        except StorageError as error:
            logger.warning("the lease of the bucket is left to expire: %s", error)

    async def _beat(self) -> None:
        rest = self._record.seconds / BEATS
        pause = rest
        while True:
            await asyncio.sleep(pause)
            began = time.monotonic()
            try:
                await self._put(self._e_tag)
            except (Conflict, Unavailable, OutcomeUnknown) as error:
                logger.warning("the lease of the bucket was not renewed: %s", error)
            else:
                self._extend(began)
                pause = rest
                continue
            pause = rest / LOOKS
            try:
                found = await self._found()
            except Unavailable:
                continue  # it runs out, and nothing is written until it is renewed
            if found is None or not self._is_mine(found):
                self._lose(found)
                return
            self._e_tag = found.e_tag

    async def _put(self, expected: str | None) -> None:
        self._record.beat += 1
        self._e_tag = await self._objects.put(
            KEY, self._record.model_dump_json().encode(), expected
        )

    async def _found(self) -> Found | None:
        try:
            return await self._objects.get(KEY)
        except KeyNotFound:
            return None

    async def _expiry(self, found: Found) -> None:
        """Wait until a lease that another holds has expired. Raises BucketInUse if it is renewed."""
        record = _record_in(found)
        if record is not None and record.released:
            return
        seconds = self._record.seconds if record is None else record.seconds
        logger.info("waiting %g s for the lease of the bucket to expire", seconds)
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            await asyncio.sleep(seconds / LOOKS)
            now = await self._found()
            if now is None:
                return
            if now.e_tag != found.e_tag:
                renewed = _record_in(now)
                if renewed is not None and renewed.released:
                    return
                raise BucketInUse(
                    *(("another host", 0) if renewed is None else (renewed.host, renewed.pid))
                )

    def _extend(self, began: float) -> None:
        self._valid_until = began + self._record.seconds
        self._renewed.set()

    def _lose(self, found: Found | None) -> None:
        record = None if found is None else _record_in(found)
        taker = "" if record is None else f" by process {record.pid} on {record.host}"
        self._valid_until = float("-inf")
        self._is_lost = True
        reason = (
            f"the lease of the bucket was taken{taker}"
            if found
            else "the lease of the bucket was removed"
        )
        logger.error("%s; no more writes are accepted. Stop the server", reason)
        if self._on_loss is not None:
            self._on_loss(reason)
        self._renewed.set()

    def _is_mine(self, found: Found) -> bool:
        record = _record_in(found)
        return record is not None and record.holder == self._record.holder


def _record_in(found: Found) -> LeaseRecord | None:
    try:
        return LeaseRecord.model_validate_json(found.body)
    except ValidationError:
        return None
