"""The allowance of a tool server: as much as a call needs at once, and now and then more without an end."""

import pytest
from mcp.shared.message import SessionMessage
from mcp.types import JSONRPCNotification, JSONRPCRequest

from runtime_stub.mcp.allowance import (
    MOST_BYTES,
    MOST_BYTES_FIRST,
    MOST_MARKS,
    MOST_MESSAGES,
    MOST_REQUESTS,
    MOST_RESPONSES,
    TOO_MUCH,
    TOO_MUCH_FIRST,
    TOO_OFTEN,
    Allowance,
    TooMuch,
)

TOLD = SessionMessage(JSONRPCNotification(jsonrpc="2.0", method="notifications/progress"))
PING = SessionMessage(JSONRPCRequest(jsonrpc="2.0", id=1, method="ping"))


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    """Return a clock that stands still."""
    return Clock()


@pytest.fixture
def ended():
    """The reasons noted for which the connection is to end."""
    return []


@pytest.fixture
def allowance(clock, ended):
    """The allowance of a connected server of which something is asked."""
    made = Allowance(lambda: ended.append("end"), clock)
    made.renew()
    return made


SENDS = {
    "bytes": (lambda given: given.read(b"x"), MOST_BYTES, TOO_MUCH),
    "values": (lambda given: given.read(b","), MOST_MARKS, TOO_MUCH),
    "messages": (lambda given: given.hear(TOLD), MOST_MESSAGES, TOO_MUCH),
    "requests": (lambda given: given.hear(PING), MOST_REQUESTS, TOO_MUCH),
    "responses": (lambda given: given.respond(), MOST_RESPONSES, TOO_OFTEN),
}
COUNTED = {kind: sends for kind, sends in SENDS.items() if kind != "bytes"}


@pytest.mark.parametrize("kind", COUNTED)
def test_a_server_that_sends_without_a_pause_is_cut_off_at_the_bound(allowance, ended, kind):
    send, most, fault = COUNTED[kind]
    for _ in range(most):
        send(allowance)
    assert not allowance.over.is_set()
    with pytest.raises(TooMuch):
        send(allowance)

    assert (allowance.fault, ended, allowance.over.is_set()) == (fault, ["end"], True)


def test_bytes_are_counted_in_whichever_pieces_they_come(allowance):
    allowance.read(b"x" * (MOST_BYTES - 1))
    allowance.read(b"x")
    with pytest.raises(TooMuch):
        allowance.read(b"x")

    assert allowance.fault == TOO_MUCH


@pytest.mark.parametrize("kind", SENDS)
def test_a_server_that_says_something_now_and_then_is_never_cut_off(allowance, clock, kind):
    send, most, _ = SENDS[kind]
    for _ in range(3 * min(most, MOST_MESSAGES)):
        clock.now += 10.0
        send(allowance)

    assert not allowance.over.is_set()


def test_what_is_allowed_again_is_never_more_than_for_a_call(allowance, clock):
    clock.now += 1e6
    with pytest.raises(TooMuch):
        allowance.read(b"x" * (MOST_BYTES + 1))


def test_until_the_tools_are_listed_fewer_bytes_are_allowed(ended, clock):
    first = Allowance(lambda: ended.append("end"), clock)
    first.read(b"x" * MOST_BYTES_FIRST)
    with pytest.raises(TooMuch):
        first.read(b"x")

    assert (first.fault, ended) == (TOO_MUCH_FIRST, ["end"])
