"""Deletion by age: what is past its limit and in no use goes, whole, and nothing else does."""

import asyncio
from datetime import timedelta

import pytest
from hypothesis import given, strategies as st

from events.conformance.records import append, records
from events.usage import UsageLedger
from server.conversations.clock_guard import HELD, HOLD, WHO
from server.conversations.manager import InUse
from server.conversations.retention import DELETE, FAILURES, SWEEP, AgeLimits
from storage.conversations.base import ConversationStores
from storage.errors import ConversationDeleted, ConversationNotFound, Unavailable
from tests.support.aged import NOW, Clocks, acts_of, aged, ago, ask, ids, plant, text_of
from tests.support.faulty_audit import FaultyAudit
from tests.support.waiting import WAIT_SECONDS, until
from tests.support.whole_storages import EVERY_KIND, everything, opened

MONTH = AgeLimits(30)


@pytest.mark.parametrize("kind", EVERY_KIND)
async def test_what_is_past_its_limit_goes_whole_and_everything_else_stays(kind, tmp_path):
    async with opened(kind, tmp_path) as (stores, _):
        await plant(stores, "old", "ann", ago(31))
        await plant(stores, "old-nobodys", None, ago(400))
        await plant(stores, "old-empty", "ann", ago(31), events=0)
        await plant(stores, "young", "ann", ago(29))
        await plant(stores, "used", "ann", ago(1), created=ago(300))
        await plant(stores, "young-empty", None, ago(2), events=0)
        await plant(stores, "week", "bob", ago(8))
        await plant(stores, "week-young", "bob", ago(6))
        await plant(stores, "kept", "carol", ago(2000))
        await UsageLedger(stores.events, stores.storage.usage).catch_up(WAIT_SECONDS)
        before = await everything(stores)
        usage = await stores.storage.usage.load("old")
        limits = AgeLimits(30, {"bob": 7, "carol": None})

        async with aged(stores, limits, Clocks()) as made:
            swept = await made.retention.sweep()

        gone = {"old", "old-nobodys", "old-empty", "week"}
        assert (swept.deleted, swept.waiting, swept.failed, swept.more) == (4, 0, 0, False)
        after = await everything(stores)
        assert before.keys() - after.keys() == gone
        kept = {key: before[key] for key in before.keys() - gone - {"audit"}}
        assert {key: after[key] for key in after if key != "audit"} == kept | {
            "deleted": sorted(gone)
        }
        for key in gone - {"old-empty"}:
            assert (await stores.events.head(key)).deleted
            assert await stores.events.read(key, 0, 10) == []
            assert await stores.events.asides(key) == {}
            assert await stores.workspaces.load(key) is None
        assert usage is not None
        left = await stores.storage.usage.load("old")
        assert left is not None
        assert (left.user_id, left.lines) == (usage.user_id, usage.lines)
        deleted = await acts_of(stores.storage.audit, DELETE)
        assert {act.target for act in deleted} == gone
        assert {act.outcome.partition(":")[0] for act in deleted} == {"deleted"}
        assert not any(act.acting for act in deleted)
        (act,) = await acts_of(stores.storage.audit, SWEEP)
        assert (act.who, act.acting) == (WHO, True)
        assert act.outcome == "4 deleted, 0 in use, 0 failed"
        assert made.counters.retention_deleted == 4


@pytest.mark.parametrize("kind", EVERY_KIND)
async def test_a_deleted_conversation_is_gone_for_its_owner_and_its_id_is_spent(kind, tmp_path):
    async with opened(kind, tmp_path) as (stores, _):
        await plant(stores, "old", "ann", ago(31))
        await plant(stores, "new", "ann", NOW)
        async with aged(stores, MONTH, Clocks()) as made:
            await made.retention.sweep()
            with pytest.raises(ConversationNotFound):
                async with made.manager.attach("old", "ann"):
                    pass
        with pytest.raises(ConversationDeleted):
            await plant(stores, "old", "ann", NOW)


async def test_without_limits_nothing_is_deleted(tmp_path):
    async with opened("sqlite", tmp_path) as (stores, _):
        await plant(stores, "old", "ann", ago(5000))
        await plant(stores, "new", "ann", NOW)
        async with aged(stores, AgeLimits(None, {"ann": None}), Clocks()) as made:
            assert (await made.retention.sweep()).deleted == 0
        assert await ids(stores) == {"old", "new"}


@pytest.mark.parametrize("kind", EVERY_KIND)
async def test_a_conversation_that_is_open_waits_and_goes_when_it_is_closed(kind, tmp_path):
    async with opened(kind, tmp_path) as (stores, _):
        await plant(stores, "old", "ann", ago(31))
        await plant(stores, "new", "ann", NOW)
        async with aged(stores, MONTH, Clocks()) as made:
            async with made.manager.attach("old", "ann"):
                assert await made.manager.use_of("old", "ann") is InUse.OPEN
                swept = await made.retention.sweep()
                assert (swept.deleted, swept.waiting) == (0, 1)
                assert made.counters.retention_waiting == 1
                survey = await made.retention.survey(10)
                assert [(one.conversations, one.waiting) for one in survey.users] == [(1, 1)]
            assert (await stores.events.head("old")).next_id == 5

            async def is_closed():
                return await made.manager.use_of("old", "ann") is None

            await until(is_closed)
            assert (await made.retention.sweep()).deleted == 1
        assert await ids(stores) == {"new"}


@pytest.mark.parametrize("kind", EVERY_KIND)
async def test_a_conversation_waits_whose_agent_waits_for_an_approval(kind, tmp_path):
    async with opened(kind, tmp_path) as (stores, _):
        await plant(stores, "asks", "ann", ago(40))
        await ask(stores, "asks", ago(40), first_id=5)
        await plant(stores, "new", "ann", NOW)
        async with aged(stores, MONTH, Clocks()) as made:
            swept = await made.retention.sweep()
            assert (swept.deleted, swept.waiting) == (0, 1)
            assert await made.manager.use_of("asks", "ann") is InUse.APPROVAL
            assert await acts_of(stores.storage.audit, DELETE) == []
            await stores.events.delete("asks")
            assert (await made.retention.sweep()).waiting == 0


async def test_what_is_used_between_the_list_and_its_deletion_stays(tmp_path):
    async with opened("sqlite", tmp_path) as (stores, _):
        for key in ("one", "other"):
            await plant(stores, key, "ann", ago(31))
        await plant(stores, "new", "ann", NOW)

        async def use_the_other(key, _):
            other = {"one": "other", "other": "one"}[key]
            await append(stores.events, other, records(5, 1, "again", text_of(NOW)))

        async with aged(stores, MONTH, Clocks(), before_deletion=use_the_other) as made:
            swept = await made.retention.sweep()

        assert (swept.deleted, swept.waiting) == (1, 1)
        assert len(await ids(stores)) == 2


async def begun(made, key, answer):
    """Begin a deletion; return its task, and the event upon which it is confirmed as `answer` says."""
    asked, decided = asyncio.Event(), asyncio.Event()

    async def confirm():
        asked.set()
        await decided.wait()
        return answer()

    deleting = asyncio.create_task(made.manager.delete_unused(key, "ann", confirm))
    await asked.wait()
    return deleting, decided


async def left(made, key, answer):
    """Begin a deletion and cancel its caller; return the event upon which it is confirmed."""
    deleting, decided = await begun(made, key, answer)
    deleting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await deleting
    return decided


@pytest.mark.parametrize("kind", ["memory", "sqlite", "local"])
async def test_whoever_comes_during_a_deletion_waits_and_finds_all_or_nothing(kind, tmp_path):
    async with opened(kind, tmp_path) as (stores, _):
        for key in ("goes", "stays"):
            await plant(stores, key, "ann", ago(31))
        async with aged(stores, MONTH, Clocks()) as made:

            async def open_it(key):
                async with made.manager.attach(key, "ann") as conversation:
                    return conversation.stream.next_id

            deleting, decided = await begun(made, "goes", lambda: True)
            coming = asyncio.create_task(open_it("goes"))
            other = await open_it("stays")
            assert other == 5
            assert not coming.done()
            decided.set()
            assert await deleting
            with pytest.raises(ConversationNotFound):
                await coming

            deleting, decided = await begun(made, "stays", lambda: False)
            coming = asyncio.create_task(open_it("stays"))
            decided.set()
            assert not await deleting
            assert await coming == 5


async def test_a_deletion_goes_on_though_its_caller_is_cancelled(tmp_path):
    async with opened("sqlite", tmp_path) as (stores, _):
        await plant(stores, "old", "ann", ago(31))
        async with aged(stores, MONTH, Clocks()) as made:
            decided = await left(made, "old", lambda: True)
            decided.set()
            with pytest.raises(ConversationNotFound):
                async with made.manager.attach("old", "ann"):
                    pass
        assert await ids(stores) == set()


async def test_what_fails_after_its_caller_was_cancelled_is_logged(tmp_path, caplog):
    def fail():
        raise Unavailable("the disk is away")

    async with opened("sqlite", tmp_path) as (stores, _):
        await plant(stores, "old", "ann", ago(31))
        async with aged(stores, MONTH, Clocks()) as made:
            decided = await left(made, "old", fail)
            decided.set()
            async with made.manager.attach("old", "ann"):
                pass
    assert "the disk is away" in caplog.text


async def test_a_sweep_deletes_so_many_and_says_that_there_is_more(tmp_path):
    async with opened("sqlite", tmp_path) as (stores, _):
        for number in range(5):
            await plant(stores, f"old{number}", "ann", ago(31 + number), events=1)
        await plant(stores, "new", "ann", NOW)
        async with aged(stores, MONTH, Clocks()) as made:
            first = await made.retention.sweep(3)
            assert (first.deleted, first.more) == (3, True)
            assert len(await ids(stores)) == 3
            second = await made.retention.sweep(3)
            assert (second.deleted, second.more) == (2, False)
        assert await ids(stores) == {"new"}


async def test_what_the_audit_cannot_record_is_not_deleted(tmp_path):
    audit = FaultyAudit()
    async with opened("sqlite", tmp_path) as (stores, _):
        for number in range(FAILURES + 5):
            await plant(stores, f"old{number}", "ann", ago(31), events=1)
        await plant(stores, "new", "ann", NOW)
        async with aged(stores, MONTH, Clocks(), audit=audit) as made:
            audit.fails = True
            swept = await made.retention.sweep()
            assert (swept.deleted, swept.failed, swept.more) == (0, FAILURES, False)
            assert len(await ids(stores)) == FAILURES + 6
            audit.fails = False
            assert (await made.retention.sweep()).deleted == FAILURES + 5
        assert made.counters.retention_failed == FAILURES


@pytest.mark.parametrize("error", [Unavailable("the disk is away"), RuntimeError("planned")])
async def test_one_that_cannot_be_deleted_does_not_keep_the_others(error, tmp_path):
    async with opened("sqlite", tmp_path) as (stores, _):
        for key in ("a", "bad", "c"):
            await plant(stores, key, "ann", ago(31))
        await plant(stores, "new", "ann", NOW)

        async def refuse(key, _):
            if key == "bad":
                raise error

        async with aged(stores, MONTH, Clocks(), before_deletion=refuse) as made:
            swept = await made.retention.sweep()
        assert (swept.deleted, swept.failed) == (2, 1)
        assert await ids(stores) == {"bad", "new"}
        failed = [act for act in await acts_of(stores.storage.audit, DELETE) if act.target == "bad"]
        assert [act.outcome for act in failed] == ["failed"]


async def test_a_retention_with_limits_sweeps_by_itself(tmp_path):
    gone = asyncio.Event()

    async def note(_key, _owner):
        gone.set()

    async with opened("sqlite", tmp_path) as (stores, _):
        await plant(stores, "old", "ann", ago(31))
        await plant(stores, "new", "ann", NOW)
        made = aged(stores, MONTH, Clocks(), before_deletion=note, first_seconds=0.0)
        async with made, asyncio.timeout(WAIT_SECONDS):
            await gone.wait()


class CountedStores(ConversationStores):
    """Counts the records that lists of all owners give."""

    def __init__(self, stores: ConversationStores) -> None:
        self.listed = 0
        self._stores = stores

    def for_user(self, user_id):
        """See ConversationStores."""
        return self._stores.for_user(user_id)

    async def search_all(self, page_id=None, limit=20, *, filters=None):
        """See ConversationStores."""
        page = await self._stores.search_all(page_id, limit, filters=filters)
        self.listed += len(page.results)
        return page


@pytest.mark.parametrize("kind", EVERY_KIND)
async def test_a_sweep_lists_nothing_that_was_created_within_the_limit(kind, tmp_path):
    async with opened(kind, tmp_path) as (stores, _):
        for number in range(40):
            await plant(stores, f"young{number:02}", "ann", ago(number / 2), events=0)
        for number in range(3):
            await plant(stores, f"old{number}", "ann", ago(31 + number), events=0)
        counted = CountedStores(stores.storage.conversations)
        async with aged(stores, MONTH, Clocks(), conversations=counted) as made:
            swept = await made.retention.sweep(clock_is_right=True)
            assert (swept.deleted, counted.listed) == (3, 3)
            counted.listed = 0
            assert (await made.retention.sweep(clock_is_right=True)).deleted == 0
            assert counted.listed == 0


async def test_a_survey_says_by_user_what_would_go_and_changes_nothing(tmp_path):
    async with opened("sqlite", tmp_path) as (stores, _):
        await plant(stores, "a1", "ann", ago(40), events=3)
        await plant(stores, "a2", "ann", ago(60), events=4)
        await plant(stores, "b1", "bob", ago(9), events=2)
        await plant(stores, "new", "ann", NOW)
        before = await everything(stores)
        async with aged(stores, AgeLimits(30, {"bob": 7}), Clocks()) as made:
            survey = await made.retention.survey(10)
            found = {
                one.user_id: (one.days, one.conversations, one.waiting, one.events)
                for one in survey.users
            }
            assert found == {"bob": (7, 1, 0, 2), "ann": (30, 2, 0, 7)}
            assert survey.complete
            (ann,) = [one for one in survey.users if one.user_id == "ann"]
            assert (ann.oldest, ann.newest) == (ago(60), ago(40))
            assert not (await made.retention.survey(2)).complete
            sizes = {
                one.due.record.conversation_id: one.size_bytes
                async for one in made.retention.looked(measure=True)
            }
        for key in ("a1", "a2", "b1"):
            events = await stores.events.read(key, 0, 10)
            assert sizes[key] == sum(len(event.body) for event in events)
        assert await everything(stores) == before


YEAR = timedelta(days=365)


@pytest.mark.parametrize("kind", ["memory", "sqlite", "local"])
async def test_a_clock_that_goes_a_year_ahead_deletes_nothing_and_says_so(kind, tmp_path, caplog):
    clocks = Clocks()
    async with opened(kind, tmp_path) as (stores, _):
        await plant(stores, "young", "ann", ago(1))
        async with aged(stores, MONTH, clocks) as made:
            assert (await made.retention.sweep()).held_until is None
            clocks.go(timedelta(hours=1))
            clocks.now += YEAR
            # Also when something is stored under the wrong clock, before anybody looks.
            await plant(stores, "under-the-wrong-clock", "ann", clocks.now)
            swept = await made.retention.sweep()
            assert (swept.deleted, swept.held_until) == (0, clocks.now + HOLD)
            assert made.counters.retention_held == 1
            assert "the clock went ahead by 365.0 days" in caplog.text
            (held,) = await acts_of(stores.storage.audit, HELD)
            assert (held.acting, held.at) == (True, clocks.now)
            clocks.go(timedelta(hours=1))
            assert (await made.retention.sweep()).deleted == 0

        # Another process, in which the clock was never seen to go ahead.
        async with aged(stores, MONTH, clocks) as made:
            swept = await made.retention.sweep()
            assert (swept.deleted, swept.held_until) == (0, held.at + HOLD)
        assert await ids(stores) == {"young", "under-the-wrong-clock"}


async def test_a_clock_that_stays_ahead_is_believed_after_a_day(tmp_path):
    clocks = Clocks()
    async with opened("sqlite", tmp_path) as (stores, _):
        await plant(stores, "old", "ann", ago(1))
        async with aged(stores, MONTH, clocks) as made:
            await made.retention.sweep()
            clocks.now += YEAR
            assert (await made.retention.sweep()).held_until == clocks.now + HOLD
            clocks.go(HOLD - timedelta(seconds=1))
            assert (await made.retention.sweep()).deleted == 0
            clocks.go(timedelta(seconds=1))
            assert (await made.retention.sweep()).deleted == 1
            assert made.counters.retention_held == 0


async def test_a_clock_that_is_set_right_again_is_believed_at_once(tmp_path):
    clocks = Clocks()
    async with opened("sqlite", tmp_path) as (stores, _):
        await plant(stores, "old", "ann", ago(31))
        await plant(stores, "young", "ann", ago(1))
        async with aged(stores, MONTH, clocks) as made:
            clocks.now += YEAR
            assert (await made.retention.sweep()).held_until is not None
            clocks.now -= YEAR
            clocks.go(timedelta(minutes=1))
            swept = await made.retention.sweep()
        assert (swept.deleted, swept.held_until) == (1, None)
        assert await ids(stores) == {"young"}


@pytest.mark.parametrize("kind", ["memory", "sqlite", "local"])
async def test_a_process_whose_clock_is_far_ahead_of_all_that_is_stored_deletes_nothing(
    kind, tmp_path
):
    async with opened(kind, tmp_path) as (stores, _):
        await plant(stores, "old", "ann", ago(40))
        await plant(stores, "older", "ann", ago(41), created=ago(90))
        async with aged(stores, MONTH, Clocks()) as made:
            assert (await made.retention.sweep()).held_until == NOW + HOLD
            assert (await made.retention.sweep(clock_is_right=True)).deleted == 2


async def test_a_clock_is_believed_where_an_old_conversation_was_used_today(tmp_path):
    async with opened("sqlite", tmp_path) as (stores, _):
        await plant(stores, "used", "ann", ago(0.5), created=ago(300))
        await plant(stores, "old", "ann", ago(40))
        async with aged(stores, MONTH, Clocks()) as made:
            assert (await made.retention.sweep()).deleted == 1
        assert await ids(stores) == {"used"}


async def test_a_sweep_ends_when_the_manager_is_closed(tmp_path):
    async with opened("sqlite", tmp_path) as (stores, _):
        await plant(stores, "old", "ann", ago(31))
        await plant(stores, "new", "ann", NOW)
        asked, go_on = asyncio.Event(), asyncio.Event()

        async def hold(_key, _owner):
            asked.set()
            await go_on.wait()

        async with aged(stores, MONTH, Clocks(), before_deletion=hold, first_seconds=0.0) as made:
            async with asyncio.timeout(WAIT_SECONDS):
                await asked.wait()
            closing = asyncio.create_task(made.manager.shutdown())
            # Takes longer than to close a manager that waits for nobody.
            assert await ids(stores) == {"old", "new"}
            assert not closing.done()
            go_on.set()
            await closing
        assert await ids(stores) == {"new"}


CASES = st.lists(
    st.tuples(
        st.sampled_from([None, "ann", "bob", "carol"]),
        st.integers(0, 70),  # days since the last use
        st.integers(0, 70),  # days from the creation to that
        st.booleans(),  # whether it is open
    ),
    max_size=12,
)
LIMITS = st.one_of(st.none(), st.integers(1, 60))


@given(
    cases=CASES,
    days=LIMITS,
    own=st.dictionaries(st.sampled_from(["ann", "bob"]), LIMITS),
    at_most=st.integers(1, 5),
)
def test_what_sweeps_delete_is_what_a_plain_model_says(cases, days, own, at_most, tmp_path_factory):
    async def run():
        async with opened("memory", tmp_path_factory.getbasetemp()) as (stores, _):
            expected, in_use = set(), []
            for number, (owner, used, more, is_open) in enumerate(cases):
                key = f"c{number}"
                await plant(stores, key, owner, ago(used), created=ago(used + more), events=1)
                limit = own.get(owner, days)
                if is_open:
                    in_use.append((key, owner))
                if is_open or limit is None or used <= limit:
                    expected.add(key)
            async with aged(stores, AgeLimits(days, own), Clocks()) as made:
                holds = [made.manager.attach(*one) for one in in_use]
                for hold in holds:
                    await hold.__aenter__()
                sweeps = 0
                more = True
                while more:
                    swept = await made.retention.sweep(at_most, clock_is_right=True)
                    assert swept.deleted <= at_most
                    more = swept.more
                    sweeps += 1
                for hold in holds:
                    await hold.__aexit__(None, None, None)
            assert await ids(stores) == expected
            return len(cases) - len(expected), sweeps

    deleted, sweeps = asyncio.run(run())
    # The last one may find at its bound only what is in use.
    assert sweeps <= deleted // at_most + 1
