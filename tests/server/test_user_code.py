"""Code of others comes back as an Exception, by a deadline, and can cancel its own tasks only."""

import asyncio
import contextlib
import sys
import threading
from asyncio import CancelledError
from collections.abc import Mapping

import pytest

from server.access.auth import UserAuth
from server.config.settings import ServerConfig
from server.conversations.manager import Joined
from server.conversations.monitoring import MonitoringListener
from server.conversations.standalone import StandaloneConversationManager
from server.custom_stores import CustomSettingsStores
from server.process.event_loop import OTHERS_THREADS, run_to_end
from server.user_code import (
    ContainedTask,
    UserCode,
    UserCodeFailed,
    UserCodeLate,
    contained_task,
)
from storage.errors import OutcomeUnknown
from storage.users.settings import Settings
from tests.support.clients import ConnectRefused
from tests.support.live import live_server
from tests.support.own_user_stores import BookOfSettings
from tests.support.rest import EVERY, assert_refused, rest_server
from tests.support.waiting import WAIT_SECONDS

HEADER = "x-forwarded-user"
MEMORY = ServerConfig(storage_kind="memory")


class Panic(BaseException):
    """As extension modules raise it."""


async def contained(work):
    """Run a coroutine in a loop that makes its tasks as a server's does."""
    loop = asyncio.get_running_loop()
    loop.set_task_factory(contained_task)
    try:
        return await loop.create_task(work, name="the test")
    finally:
        loop.set_task_factory(None)


def cancel_all():
    for task in asyncio.all_tasks():
        # The runner of the tests has made its task in its own way.
        if isinstance(task, ContainedTask) and task is not asyncio.current_task():
            task.cancel()


async def test_code_of_others_can_cancel_its_own_tasks_only(caplog):
    mine, theirs = UserCode("mine"), UserCode("theirs")
    gate = asyncio.Event()

    async def waits():
        await gate.wait()
        return "whole"

    async def cancels():
        own = asyncio.create_task(asyncio.Event().wait())
        await asyncio.sleep(0)
        cancel_all()
        with contextlib.suppress(CancelledError):
            await own
        gate.set()
        return own.cancelled()

    async def server():
        task = asyncio.create_task(waits(), name="a task of the server")
        other = asyncio.create_task(theirs.wait(waits, None, "a wait"))
        await asyncio.sleep(0)
        return await mine.wait(cancels, None, "a fault"), await task, await other

    assert await contained(server()) == (True, "whole", "whole")
    assert "refused an attempt of mine to cancel a task of the server" in caplog.text
    assert "refused an attempt of mine to cancel a wait of theirs" in caplog.text


async def test_a_function_of_others_can_cancel_nobody_but_its_own():
    code = UserCode("mine")

    def cancel_caller():
        caller = asyncio.current_task()
        assert caller is not None
        caller.cancel()

    async def server():
        task = asyncio.create_task(asyncio.sleep(0, "whole"))
        code.call(cancel_all)
        code.call(cancel_caller)
        return await task

    assert await contained(server()) == "whole"


async def test_what_ended_code_left_may_be_cancelled_by_anybody():
    mine, theirs = UserCode("mine"), UserCode("theirs")

    async def server():
        left = mine.call(lambda: asyncio.get_running_loop().create_task(asyncio.Event().wait()))
        theirs.call(left.cancel)
        await asyncio.sleep(0)
        assert not left.done()
        mine.ended = True
        theirs.call(left.cancel)
        with pytest.raises(CancelledError):
            await left

    await contained(server())


async def test_a_caller_that_is_cancelled_takes_what_it_waits_for_along():
    code, ended = UserCode("mine"), asyncio.Event()

    begun = asyncio.Event()

    async def waits():
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    caller = asyncio.create_task(code.wait(waits, None, "a wait"))
    await begun.wait()
    caller.cancel()
    with pytest.raises(CancelledError):
        await caller
    assert ended.is_set()


async def test_a_caller_that_is_cancelled_is_not_held_by_what_ignores_that():
    code = UserCode("mine")
    begun, let_go = asyncio.Event(), asyncio.Event()

    async def stubborn():
        begun.set()
        while not let_go.is_set():
            with contextlib.suppress(CancelledError):
                await let_go.wait()
        return "too late"

    calling = asyncio.create_task(code.wait(stubborn, None, "a call"))
    await begun.wait()
    calling.cancel()
    await asyncio.wait([calling], timeout=WAIT_SECONDS)
    ended, stuck = calling.cancelled(), code.is_stuck("a call")
    let_go.set()

    assert (ended, stuck) == (True, True)


@pytest.mark.parametrize("raised", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), Panic()])
async def test_what_is_no_exception_reaches_the_caller_as_one(raised):
    async def raises():
        raise raised

    with pytest.raises(UserCodeFailed) as failed:
        await UserCode("mine").wait(raises, None, "a fault")
    assert failed.value.__cause__ is raised


async def test_what_does_not_come_back_is_given_up():
    with pytest.raises(UserCodeLate, match=r"a wait did not end within 0\.01 seconds"):
        await UserCode("mine").wait(asyncio.Event().wait, 0.01, "a wait")


@pytest.mark.parametrize("fault", [lambda: sys.exit(3), lambda: asyncio.get_running_loop().stop()])
def test_no_exit_of_a_task_ends_the_event_loop(fault):
    begun = []

    async def exits():
        fault()

    async def main():
        task = asyncio.create_task(exits())
        await asyncio.wait([task])
        with contextlib.suppress(SystemExit):
            task.result()
        await asyncio.sleep(0)
        return "over"

    assert run_to_end(main, lambda: begun.append(1)) == "over"
    assert len(begun) == 2


def test_what_the_work_of_an_event_loop_raises_is_raised():
    async def main():
        raise ValueError("planned")

    with pytest.raises(ValueError, match="planned"):
        run_to_end(main, lambda: None)


class FaultyAuth(UserAuth):
    """Does what a header says."""

    async def user_id(self, headers: Mapping[str, str]):
        match headers.get(HEADER):
            case "exit":
                sys.exit(3)
            case "panic":
                raise Panic
            case "number":
                return 42
            case "wait":
                await asyncio.Event().wait()
        return "ann"


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("exit", 503, "not_available"),
        ("panic", 503, "not_available"),
        ("wait", 503, "not_available"),
        ("number", 401, "unauthorized"),
    ],
)
async def test_a_class_that_fails_to_tell_users_apart_fails_one_request(fault, status, code):
    auth = f"{__name__}:FaultyAuth"
    async with rest_server(user_auth_class=auth, handshake_seconds=0.2) as rest:
        answer = await rest.ask("GET", EVERY, headers={HEADER: fault})
        assert_refused(answer, status, code)
        assert (await rest.ask("GET", EVERY)).status_code == 200


class ExitingListener(MonitoringListener):
    """Exits whatever it is told."""

    def on_session_start(self, conversation_id, user_id):
        sys.exit(3)

    def on_session_event(self, conversation_id, event):
        raise Panic

    def on_loop_start(self, conversation_id, *, succeeded, seconds):
        raise GeneratorExit

    def on_loop_stop(self, conversation_id):
        raise KeyboardInterrupt


async def test_a_listener_that_exits_changes_nothing(caplog):
    async with rest_server(monitoring_listener_class=f"{__name__}:ExitingListener") as rest:
        conversation_id = await rest.create(initial_user_msg="hello")
        await rest.wait_until_idle(conversation_id)
        assert (await rest.ask("POST", f"{EVERY}/{conversation_id}/stop")).status_code == 200

    assert caplog.text.count("the monitoring listener failed") > 3


class ExitingManager(StandaloneConversationManager):
    """Exits at one conversation."""

    async def join_conversation(self, sid, *arguments, **named) -> Joined:
        if sid == "joined":
            sys.exit(3)
        return await super().join_conversation(sid, *arguments, **named)

    def take(self, conversation, data, settled, must_wait):
        if conversation.conversation_id == "told":
            raise Panic
        return super().take(conversation, data, settled, must_wait)

    async def close_session(self, sid):
        raise GeneratorExit


async def test_a_manager_that_exits_fails_the_one_call():
    name = f"{__name__}:ExitingManager"
    async with live_server(conversation_manager_class=name) as live:
        for conversation_id in ("joined", "told", "good"):
            await live.new(conversation_id=conversation_id)
        with pytest.raises(ConnectRefused):
            async with live.joined("joined"):
                raise AssertionError
        async with live.joined("told") as told:
            assert (await told.say("hello"))["status"] == "error"
        async with live.joined("good") as good:
            assert (await good.say("hello"))["status"] == "ok"


async def test_a_request_at_which_a_manager_exits_is_answered():
    async with rest_server(conversation_manager_class=f"{__name__}:ExitingManager") as rest:
        conversation_id = await rest.create()
        answer = await rest.ask("POST", f"{EVERY}/{conversation_id}/stop")
        assert_refused(answer, 500, "internal_error")


class FaultySettings(BookOfSettings):
    """Exits when read, and keeps a writer waiting in spite of its cancellation."""

    gate: asyncio.Event
    over: asyncio.Event

    async def load(self):
        sys.exit(3)

    async def store(self, settings):
        while not self.gate.is_set():
            with contextlib.suppress(CancelledError):
                await self.gate.wait()
        self.over.set()


async def test_a_store_that_exits_or_does_not_let_go_fails_the_one_call():
    FaultySettings.gate, FaultySettings.over = asyncio.Event(), asyncio.Event()
    store = CustomSettingsStores(FaultySettings, MEMORY, seconds=0.05).for_user("ann")

    with pytest.raises(UserCodeFailed):
        await store.load()
    with pytest.raises(OutcomeUnknown, match="did not answer"):
        await store.store(Settings())
    FaultySettings.gate.set()
    await FaultySettings.over.wait()


class FailingLater(BookOfSettings):
    """Can be read once."""

    loads = 0

    async def load(self):
        type(self).loads += 1
        if type(self).loads > 1:
            raise Panic("gone")


async def test_settings_that_cannot_be_read_are_the_state_of_the_conversation_that_starts():
    FailingLater.loads = 0
    name = f"{__name__}:FailingLater"
    async with live_server(settings_store_class=name) as live:
        conversation_id = await live.new()
        async with live.joined(conversation_id) as client:
            failed = await client.state("error")

    assert failed["extras"]["reason"] == "AGENT_ERROR$FAILED: Panic"


def test_threads_of_others_that_hang_keep_none_from_the_server():
    gate = threading.Event()

    async def main():
        loop = asyncio.get_running_loop()

        def fill():
            return [loop.run_in_executor(None, gate.wait) for _ in range(OTHERS_THREADS + 1)]

        waiting = UserCode("mine").call(fill)
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                return await asyncio.to_thread(lambda: "done")
        finally:
            gate.set()
            await asyncio.wait(waiting)

    assert run_to_end(main, lambda: None) == "done"
