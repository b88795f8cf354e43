"""Look-ups of names that users set: in threads of their own, of each user few at one time."""

import asyncio
import socket
import threading
from asyncio import AbstractEventLoop, Future
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeAlias
from weakref import WeakKeyDictionary

from runtime_stub.errors import RuntimeFloorError

LOOK_UP_SECONDS = 8.0
"""Seconds after which nobody waits for a look-up any more."""
AT_ONCE = 64
"""Threads that look up names of one purpose."""
OF_A_USER = 8
"""Those of them that may be at work for one user."""
MOST_KNOWN = 1024
"""Look-ups that are under way or wait."""
MOST_OF_A_USER = 64
"""Those of one user."""
NONE_FOUND = "its name has no address"
LATE = "its name was not resolved within {seconds:g} seconds"
BUSY = "too many names are being looked up at this time"

Find: TypeAlias = Callable[[str], Sequence[str]]
"""Returns the addresses of a name; blocks. Raises OSError and ValueError."""


class NoAddress(RuntimeFloorError):
    """No address of a name is known; the text is the predicate of a sentence about its host."""


def found_by_system(name: str) -> Sequence[str]:
    """Return the addresses of a name as the system finds them, the best first; see Find."""
    return _hosts(socket.getaddrinfo(name, None, type=socket.SOCK_STREAM))


class _LookUp:
    """A name that is looked up, or waits for that."""

    def __init__(self, user_id: str | None, name: str, found: "Future[Sequence[str]]") -> None:
        self.user_id = user_id
        self.name = name
        self.found = found
        self.has_begun = False
        self.readers = 0


class LookUps:
    """The look-ups of one purpose on one event loop.

    A look-up cannot be cut short: where the servers of a name are silent, its thread is at work for
    up to a minute. So each runs in a daemon thread, which holds up no exit; the threads of one user
    are bounded, so that dead names keep nobody else waiting; and one name of a user is looked up
    once for all who ask.
    """

    def __init__(self, find: Find = found_by_system) -> None:
        self._find = find
        self._known: dict[tuple[str | None, str], _LookUp] = {}
        self._at_work: Counter[str | None] = Counter()

    async def addresses(
        self, user_id: str | None, name: str, seconds: float = LOOK_UP_SECONDS
    ) -> Sequence[str]:
        """Return the addresses of a name, at least one. Raises NoAddress, after `seconds` at most."""
        written = _written(name)
        if written:
            return written
        one = self._joined(user_id, name)
        one.readers += 1
        try:
            await asyncio.wait((one.found,), timeout=seconds)
        finally:
            one.readers -= 1
            if not one.readers and not one.has_begun:
                self._known.pop((user_id, name), None)
        if not one.found.done():
            raise NoAddress(LATE.format(seconds=seconds) if one.has_begun else BUSY)
        if not one.found.result():
            raise NoAddress(NONE_FOUND)
        return one.found.result()

    def _joined(self, user_id: str | None, name: str) -> _LookUp:
        """Return the look-up of a name that is under way, or a new one. Raises NoAddress for too many."""
        known = self._known.get((user_id, name))
        if known is not None:
            return known
        of_user = sum(one.user_id == user_id for one in self._known.values())
        if len(self._known) >= MOST_KNOWN or of_user >= MOST_OF_A_USER:
            raise NoAddress(BUSY)
        one = _LookUp(user_id, name, asyncio.get_running_loop().create_future())
        self._known[user_id, name] = one
        self._begin()
        return one

    def _begin(self) -> None:
        """Begin what may begin now, in the order in which it was asked for."""
        loop = asyncio.get_running_loop()
        for one in self._known.values():
            if self._at_work.total() >= AT_ONCE:
                return
            if not one.has_begun and self._at_work[one.user_id] < OF_A_USER:
                one.has_begun = True
                self._at_work[one.user_id] += 1
                ended = partial(self._ended, one)
                work = (self._find, one.name, loop, ended)
                thread = threading.Thread(target=_look_up, args=work, name="look-up", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # the system has none left
                    loop.call_soon(ended, ())

    def _ended(self, one: _LookUp, addresses: Sequence[str]) -> None:
        self._at_work[one.user_id] -= 1
        self._at_work += Counter()  # without those that have none
        del self._known[one.user_id, one.name]
        one.found.set_result(addresses)
        self._begin()


_of_loops: WeakKeyDictionary[AbstractEventLoop, dict[str, LookUps]] = WeakKeyDictionary()


def look_ups_for(purpose: str) -> LookUps:
    """Return the look-ups of a purpose on the running loop: those of others do not keep them waiting."""
    return _of_loops.setdefault(asyncio.get_running_loop(), {}).setdefault(purpose, LookUps())


def _look_up(
    find: Find, name: str, loop: AbstractEventLoop, ended: Callable[[Sequence[str]], None]
) -> None:
    found: Sequence[str] = ()
    try:
        with suppress(OSError, ValueError):
            found = find(name)
    finally:
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(ended, found)


def _written(name: str) -> Sequence[str]:
    """Return the address that a name is by itself, in whichever form; nothing for others."""
    with suppress(OSError, ValueError):
        kind, flags = socket.SOCK_STREAM, socket.AI_NUMERICHOST
        return _hosts(socket.getaddrinfo(name, None, type=kind, flags=flags))
    return ()


def _hosts(found: Sequence[tuple[object, object, object, object, tuple[object, ...]]]) -> list[str]:
    return list(dict.fromkeys(str(one[4][0]) for one in found))
