"""Group commit of the SQLite writer: what shares a commit, what fails alone, what fails together."""

import asyncio
import sqlite3
from threading import Event

import pytest

from storage.database.base import Statement, rerunnable
from storage.database.sqlite import GROUP_LIMIT, WAITING_LIMIT, SqliteDatabase
from storage.errors import Unavailable
from tests.support.faulty_sqlite import Faults


@pytest.fixture
def faults():
    return Faults()


@pytest.fixture
async def database(tmp_path, faults):
    opened = await SqliteDatabase.open(tmp_path / "parley.db", faults.connect)
    yield opened
    await opened.close()


class Refused(Exception):
    """The error that a script raises by itself."""


@rerunnable
def create(name, *, fails=False):
    """Make a conversation's head; fail afterwards if wanted."""
    yield Statement("create_head", (name,))
    if fails:
        raise Refused(name)
    return name


@rerunnable
def hold(reached, gate):
    """Keep the writer busy until the gate opens, so that what follows has to wait."""
    yield Statement("create_head", ("held",))
    reached.set()
    assert gate.wait(60)


@rerunnable
def names():
    rows = (yield Statement("unpurged_conversations")).rows
    return len(rows)


async def held(database):
    reached, gate = Event(), Event()
    holding = database.write(hold(reached, gate))
    assert await asyncio.to_thread(reached.wait, 60)
    return holding, gate


def stored(tmp_path):
    connection = sqlite3.connect(tmp_path / "parley.db")
    try:
        rows = connection.execute("SELECT conversation_id FROM conversations ORDER BY number")
        return [name for (name,) in rows]
    finally:
        connection.close()


async def test_scripts_that_wait_together_share_one_commit(database, faults):
    holding, gate = await held(database)
    writes = [database.write(create(f"c{number}")) for number in range(100)]
    begun = faults.count("COMMIT")
    gate.set()

    assert await asyncio.gather(holding, *writes) == [None, *(f"c{n}" for n in range(100))]

    assert faults.count("COMMIT") - begun == 2  # the one that was held, and all the others


async def test_a_commit_takes_no_more_than_its_limit(database, faults):
    holding, gate = await held(database)
    writes = [database.write(create(f"c{number}")) for number in range(GROUP_LIMIT + 1)]
    begun = faults.count("COMMIT")
    gate.set()
    await asyncio.gather(holding, *writes)

    assert faults.count("COMMIT") - begun == 3


async def test_a_lone_script_is_committed_at_once(database, faults, tmp_path):
    assert await database.write(create("c")) == "c"

    assert stored(tmp_path) == ["c"]
    assert faults.count("COMMIT") >= 1


async def test_scripts_run_in_the_order_of_the_calls(database, tmp_path):
    wanted = [f"c{number}" for number in range(50)]

    await asyncio.gather(*(database.write(create(name)) for name in wanted))

    assert stored(tmp_path) == wanted


async def test_what_a_script_raises_undoes_it_alone_and_is_its_callers(database, faults, tmp_path):
    holding, gate = await held(database)
    begun = faults.count("COMMIT")
    writes = [database.write(create(f"c{n}", fails=n in (1, 3))) for n in range(5)]
    gate.set()

    outcomes = await asyncio.gather(holding, *writes, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes[1:]] == [str, Refused, str, Refused, str]
    assert faults.count("COMMIT") - begun == 2
    assert stored(tmp_path) == ["held", "c0", "c2", "c4"]


async def test_a_cancelled_write_is_carried_out_all_the_same(database, tmp_path):
    holding, gate = await held(database)
    cancelled = database.write(create("cancelled"))
    cancelled.cancel()
    other = database.write(create("other"))
    gate.set()
    await asyncio.gather(holding, other)

    assert stored(tmp_path) == ["held", "cancelled", "other"]


async def test_one_write_more_than_the_limit_is_refused_and_the_others_are_not(database):
    holding, gate = await held(database)
    writes = [database.write(names()) for _ in range(WAITING_LIMIT - 1)]

    refused = database.write(names())
    with pytest.raises(Unavailable, match="too many writes are waiting"):
        await refused
    gate.set()

    await asyncio.gather(holding, *writes)
    assert await database.write(names()) == 0


async def test_closing_finishes_the_writes_taken_and_refuses_later_ones(tmp_path):
    database = await SqliteDatabase.open(tmp_path / "parley.db")
    holding, gate = await held(database)
    writes = [database.write(create(f"c{number}")) for number in range(3 * GROUP_LIMIT)]
    closing = asyncio.ensure_future(database.close())
    await asyncio.sleep(0)

    late = database.write(create("late"))
    gate.set()
    await closing

    assert all(write.done() and write.exception() is None for write in (holding, *writes))
    with pytest.raises(Unavailable, match="closed"):
        await late
    with pytest.raises(Unavailable, match="closed"):
        await database.read(names())
    assert len(stored(tmp_path)) == 3 * GROUP_LIMIT + 1


async def test_closing_twice_is_no_error(database):
    await database.write(create("c"))
    await database.close()
    await database.close()

    assert database.closed
    with pytest.raises(Unavailable, match="closed"):
        await database.write(create("late"))


async def test_closing_leaves_one_file_without_a_log_beside_it(database, tmp_path):
    await database.write(create("c"))
    await database.close()

    assert [path.name for path in tmp_path.iterdir()] == ["parley.db"]


async def test_a_reader_cannot_write(database, tmp_path):
    with pytest.raises(Unavailable, match="readonly"):
        await database.read(create("c"))

    assert stored(tmp_path) == []


async def test_what_is_written_is_seen_by_every_reader_at_once(database):
    for number in range(10):
        await database.write(create(f"c{number}"))
        for _ in range(3):
            row = await database.read(_head(f"c{number}"))
            assert row is not None


@rerunnable
def _head(name):
    rows = (yield Statement("read_head", (name,))).rows
    return rows[0] if rows else None


async def test_a_query_that_is_wrong_fails_its_script_alone(database, tmp_path):
    @rerunnable
    def wrong():
        yield Statement("create_head", ("half",))
        yield Statement("create_head", ("too", "many"))

    outcomes = await asyncio.gather(
        database.write(wrong()), database.write(create("c")), return_exceptions=True
    )

    assert isinstance(outcomes[0], Unavailable)
    assert stored(tmp_path) == ["c"]


async def test_a_script_can_be_run_again_each_time_from_its_beginning(database, tmp_path):
    both = create("c")

    assert [await one for one in (database.write(both), database.write(both))] == ["c", "c"]
    assert await database.write(both) == "c"

    look = _head("c")
    assert await database.read(look) == await database.read(look) is not None
    assert stored(tmp_path) == ["c"]


async def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "parley.db").write_bytes(b"not a database at all" * 100)

    with pytest.raises(Unavailable, match=r"cannot open parley\.db"):
        await SqliteDatabase.open(tmp_path / "parley.db")


UNBINDABLE = {"a number": 2**63, "a text": "\ud800", "an object": object()}
"""Values that the driver does not take."""


@rerunnable
def look_up(value):
    return (yield Statement("read_head", (value,))).rows


@pytest.mark.parametrize("value", UNBINDABLE.values(), ids=UNBINDABLE)
async def test_a_value_that_cannot_be_bound_fails_its_own_write_and_no_other(
    database, tmp_path, value
):
    row = (1, "c1", value, 1, -1, "", -1, -1, -1, -1, "", 1, 0, 0, bytearray(b"x"), "")
    holding, gate = await held(database)
    writes = [
        database.write(create("c1")),
        database.write(look_up(value)),
        database.submit_rows((("append_events", [row]),), look_up(value)).future(),
        database.write(create("c2")),
    ]
    gate.set()
    outcomes = await asyncio.gather(*writes, return_exceptions=True)

    assert (outcomes[0], outcomes[3]) == ("c1", "c2")
    assert [type(one) for one in outcomes[1:3]] == [Unavailable, Unavailable]
    await holding
    alone = database.submit_rows((("append_events", [row]),), look_up(value)).future()
    with pytest.raises(Unavailable):
        await alone
    with pytest.raises(Unavailable):
        await database.read(look_up(value))
    assert await database.write(create("c3")) == "c3"
    assert stored(tmp_path) == ["held", "c1", "c2", "c3"]


@rerunnable
def leave():
    yield Statement("create_head", ("left",))
    raise SystemExit(1)


async def test_a_script_that_wants_to_end_its_thread_fails_alone(database, tmp_path):
    writes = [database.write(create("c1")), database.write(leave()), database.write(create("c2"))]
    outcomes = await asyncio.gather(*writes, return_exceptions=True)

    assert (outcomes[0], outcomes[2]) == ("c1", "c2")
    assert isinstance(outcomes[1], RuntimeError)
    assert isinstance(outcomes[1].__cause__, SystemExit)
    assert await database.write(create("c3")) == "c3"
    assert stored(tmp_path) == ["c1", "c2", "c3"]
