"""Agents and runtimes that misbehave harm their own conversation only, and the server ends in time."""

import asyncio
import contextlib
import itertools
import signal

import pytest

from server.conversations.standalone import StandaloneConversationManager
from tests.support.misbehaving import CALLBACKS, ENDLESS, FAULTS, GOOD, Plan
from tests.support.misbehaving_run import CLASSES, begin, carry_out, ends_in_time, hold_up
from tests.support.remote import remote
from tests.support.servers import server_process

AT_ONCE = 24
SHUTDOWN_SECONDS = 1.0
MACHINE_SECONDS = 7.0
"""Seconds that a loaded machine may take besides; with them the seconds are still fewer than the default's."""
QUICK = CLASSES | {"PARLEY_SHUTDOWN_SECONDS": str(SHUTDOWN_SECONDS)}


async def test_each_fault_in_each_callback_ends_in_a_state_that_says_so(tmp_path, record_property):
    plans = [Plan(*pair) for pair in itertools.product(CALLBACKS, FAULTS)]
    gate = asyncio.Semaphore(AT_ONCE)
    clock = asyncio.get_running_loop().time
    async with server_process(tmp_path, environment=CLASSES) as server, remote(server.url) as api:

        async def one(planned, number):
            async with gate:
                return await carry_out(api, server.url, planned, number)

        began = clock()
        found = await asyncio.gather(*map(one, plans, itertools.count()))
        took = clock() - began
        problems = [problem for problem in found if problem is not None]
        assert not problems, "\n".join(problems)
        assert await carry_out(api, server.url, Plan(GOOD, "nothing"), 0) is None
        began = clock()
        code = await server.stop()
        ended = clock() - began

    record_property("figures", f"{len(plans)} plans in {took:.1f} s, ended in {ended:.1f} s")
    assert code == 0


async def test_neither_exits_nor_what_ignores_its_cancellation_end_a_server_or_keep_its_stop(
    tmp_path,
):
    patient = CLASSES | {"PARLEY_SHUTDOWN_SECONDS": "30"}
    async with server_process(tmp_path, environment=patient) as server, remote(server.url) as api:
        for callback in ("step", "close", "release", "perform"):
            await begin(api, server.url, Plan(callback, "swallow"), 0)
        for fault in ("exit", "exit_in_task", "interrupt", "stop_loop"):
            await begin(api, server.url, Plan("step", fault), 0)
        assert await carry_out(api, server.url, Plan(GOOD, "nothing"), 0) is None
        code, _ = await ends_in_time(server)

    assert code == 0  # and not 1, as where it took longer than it may
    assert b"ignored its cancellation" in server.stderr
    assert b"stop the event loop by raising SystemExit" in server.stderr


@pytest.mark.parametrize("fault", ENDLESS)
async def test_a_server_that_an_agent_holds_up_ends_all_the_same(tmp_path, fault):
    async with server_process(tmp_path, environment=QUICK) as server, remote(server.url) as api:
        await hold_up(api, server, Plan("step", fault))
        code, took = await ends_in_time(server)

    assert code == 1
    assert SHUTDOWN_SECONDS < took < SHUTDOWN_SECONDS + MACHINE_SECONDS
    assert b"misbehaving.py" in server.stderr  # where it was
    # A timer ends what lets no other thread run; the watchdog is before it wherever one does.
    assert (b"the shutdown took too long" in server.stderr) == (fault != "match")


class EndlessManager(StandaloneConversationManager):
    """Never comes to its end, whoever wants it to."""

    async def shutdown(self):
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()


async def test_a_server_whose_manager_never_ends_is_ended(tmp_path):
    named = QUICK | {"PARLEY_CONVERSATION_MANAGER_CLASS": f"{__name__}:EndlessManager"}
    async with server_process(tmp_path, environment=named) as server:
        code, took = await ends_in_time(server)

    assert code == 1
    assert took < SHUTDOWN_SECONDS + MACHINE_SECONDS
    assert b"the shutdown took too long" in server.stderr


@pytest.mark.parametrize("fault", ["match", "query"])
async def test_a_second_signal_ends_a_server_at_once(tmp_path, fault):
    slow = CLASSES | {"PARLEY_SHUTDOWN_SECONDS": "600"}
    async with server_process(tmp_path, environment=slow) as server, remote(server.url) as api:
        await hold_up(api, server, Plan("step", fault))
        server.send(signal.SIGTERM)
        code = await server.stop(signal.SIGINT)

    assert code in (128 + signal.SIGTERM, 128 + signal.SIGINT, 1)
