"""Look-ups of names: bounded for each user and in all, and nobody waits for dead names."""

import asyncio
import sys
import threading
from contextlib import contextmanager

import pytest

from runtime_stub.look_ups import (
    AT_ONCE,
    BUSY,
    MOST_OF_A_USER,
    NONE_FOUND,
    OF_A_USER,
    LookUps,
    NoAddress,
    look_ups_for,
)
from tests.support.servers import REPOSITORY
from tests.support.waiting import WAIT_SECONDS, until

ADDRESS = "192.0.2.1"


class Names:
    """Names: those that begin with `dead` are looked up until the test ends, others are found."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.gate = threading.Event()

    def find(self, name):
        """Find the address of a name."""
        self.asked.append(name)
        if name.startswith("dead"):
            self.gate.wait()
        return [] if name == "unknown" else [ADDRESS]


@contextmanager
def dead_names():
    """Names of which the dead are found when the block ends."""
    names = Names()
    try:
        yield names
    finally:
        names.gate.set()


def ask(look_ups, user, *names):
    """Look names up for a user, and wait as long as it takes."""
    return [asyncio.create_task(look_ups.addresses(user, name, WAIT_SECONDS)) for name in names]


def dead(count, owner=""):
    return [f"dead{owner}{number}" for number in range(count)]


async def test_dead_names_of_a_user_keep_no_other_user_waiting():
    with dead_names() as names:
        look_ups = LookUps(names.find)
        waiting = ask(look_ups, "one", *dead(20), "live")
        await until(lambda: len(names.asked) == OF_A_USER)
        found = await look_ups.addresses("two", "live")

        assert found == [ADDRESS]
        assert len(names.asked) == OF_A_USER + 1

    assert await asyncio.gather(*waiting) == [[ADDRESS]] * 21


async def test_where_all_threads_are_at_work_a_look_up_is_refused_in_words_and_never_begun():
    with dead_names() as names:
        look_ups = LookUps(names.find)
        waiting = [
            one
            for user in range(AT_ONCE // OF_A_USER)
            for one in ask(look_ups, user, *dead(OF_A_USER, user))
        ]
        await until(lambda: len(names.asked) == AT_ONCE)
        with pytest.raises(NoAddress, match=BUSY):
            await look_ups.addresses("another", "live", 0.01)

    await asyncio.gather(*waiting)
    assert "live" not in names.asked
    assert await look_ups.addresses("another", "live") == [ADDRESS]


async def test_a_user_has_a_bounded_number_of_names_that_wait():
    with dead_names() as names:
        look_ups = LookUps(names.find)
        waiting = ask(look_ups, "one", *dead(MOST_OF_A_USER))
        await until(lambda: len(names.asked) == OF_A_USER)
        with pytest.raises(NoAddress, match=BUSY):
            await look_ups.addresses("one", "live", WAIT_SECONDS)

        assert await look_ups.addresses("two", "live") == [ADDRESS]

    await asyncio.gather(*waiting)


async def test_a_look_up_has_a_deadline_and_a_name_that_is_dead_holds_one_thread_however_often_asked():
    with dead_names() as names:
        look_ups = LookUps(names.find)
        for _ in range(3):
            with pytest.raises(NoAddress, match=r"not resolved within 0\.01 seconds"):
                await look_ups.addresses("one", "dead", 0.01)

        assert names.asked == ["dead"]


async def test_a_name_without_an_address_is_told_as_such():
    with pytest.raises(NoAddress, match=NONE_FOUND):
        await LookUps(Names().find).addresses(None, "unknown")


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("::1", "::1"),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.1"),
    ],
)
async def test_an_address_is_not_looked_up(written, address):
    names = Names()

    assert await LookUps(names.find).addresses(None, written) == [address]
    assert names.asked == []


async def test_a_name_of_the_system_is_found_and_each_purpose_has_threads_of_its_own():
    look_ups = look_ups_for("tests")

    assert set(await look_ups.addresses(None, "localhost")) <= {"127.0.0.1", "::1"}
    assert look_ups_for("tests") is look_ups
    assert look_ups_for("others") is not look_ups


HANGING = """
import asyncio, threading
from runtime_stub.look_ups import LookUps, NoAddress

def find(name):
    threading.Event().wait()

async def main():
    try:
        await LookUps(find).addresses(None, "dead", 0.01)
    except NoAddress as error:
        print(error)

asyncio.run(main())
"""


async def test_a_look_up_that_hangs_does_not_hold_up_the_exit():
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", HANGING), stdout=asyncio.subprocess.PIPE, cwd=REPOSITORY
    )
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    assert (process.returncode, said) == (0, b"its name was not resolved within 0.01 seconds\n")
