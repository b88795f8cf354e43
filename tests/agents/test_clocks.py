"""The clocks of a turn: over an event loop whose time a test moves, and as a user has set them."""

import pytest

from events.event import AgentState
from runtime_stub.turn import Reason
from server.turns.limits import Clocks
from storage.users.settings import Settings
from tests.support.live import live_server


class HandLoop:
    """An event loop's clock and timers, moved by hand."""

    def __init__(self):
        self.now = 1000.0
        self.timers = []

    def time(self):
        return self.now

    def call_at(self, due, callback):
        timer = HandTimer(due, callback)
        self.timers.append(timer)
        return timer

    def move(self, seconds):
        """Let time pass, timer by timer."""
        until = self.now + seconds
        while True:
            due = [one for one in self.timers if not one.cancelled and one.due <= until]
            if not due:
                break
            first = min(due, key=lambda one: one.due)
            self.timers.remove(first)
            self.now = max(self.now, first.due)
            first.callback()
        self.now = until


class HandTimer:
    """One timer of it."""

    def __init__(self, due, callback):
        self.due = due
        self.callback = callback
        self.cancelled = False

    def cancel(self):
        self.cancelled = True


@pytest.fixture
def told():
    return []


@pytest.fixture
def loop():
    return HandLoop()


def test_a_turn_that_is_heard_of_times_out_at_its_deadline(loop, told):
    clocks = Clocks(loop, 30, 10, told.append)
    for _ in range(5):
        loop.move(5)
        clocks.touch()
    assert told == []
    assert clocks.deadline == 1030

    loop.move(5)
    assert told == [Reason.TIMED_OUT]


def test_a_turn_that_is_not_heard_of_is_silent(loop, told):
    clocks = Clocks(loop, 30, 10, told.append)
    loop.move(9)
    clocks.touch()
    loop.move(9.5)
    assert told == []

    loop.move(1)
    assert told == [Reason.SILENT]


def test_both_clocks_stand_while_something_holds_them(loop, told):
    clocks = Clocks(loop, 30, 10, told.append)
    loop.move(5)
    with clocks.held():
        loop.move(1000)
        with clocks.held():
            loop.move(1000)
        loop.move(1000)
    assert clocks.deadline == 4030

    loop.move(9)
    assert told == []
    loop.move(2)
    assert told == [Reason.SILENT]


def test_a_clock_that_was_stopped_calls_nobody(loop, told):
    clocks = Clocks(loop, 30, 10, told.append)
    with clocks.held():
        clocks.stop()
    loop.move(100)
    assert told == []


async def test_the_users_own_limit_of_time_takes_the_place_of_the_servers():
    async with live_server(agent_class="tests.support.turn_agents:Answering") as live:
        await live.users.change_settings(None, lambda old: Settings(turn_seconds=0.2))
        async with live.joined(await live.new()) as client:
            await client.state(AgentState.AWAITING_USER_INPUT)
            await client.say("hang")
            failed = await client.state(AgentState.ERROR)

    assert failed["extras"]["reason"] == Reason.TIMED_OUT
