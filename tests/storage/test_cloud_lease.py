"""The lease on a bucket: one process at a time, and the next one once it has expired."""

import asyncio
import time

import pytest

from storage.errors import BucketInUse, MediumLost, Unavailable
from storage.files.cloud import CloudFileStore
from storage.files.lease import KEY, Lease, LeaseRecord
from tests.support.s3 import objects_of, s3_server
from tests.support.s3_proxy import Fault, s3_proxy
from tests.support.waiting import until

LONG_SECONDS = 1_000.0


class Holder:
    """A process's lease and its files; `losses` are the reasons why it has lost the lease."""

    def __init__(self, folder, seconds, *, port=None):
        self.losses = []
        self.objects = objects_of(folder, "lease", port=port, attempt_seconds=1_000)
        self.lease = Lease(self.objects, seconds=seconds)
        self.files = CloudFileStore(objects_of(folder), self.lease, deadline_seconds=0.3)

    async def take(self):
        def lost(reason):
            self.losses.append(reason)
            self.files.lose(reason)

        return await self.lease.take(lost)


async def written(objects):
    return LeaseRecord.model_validate_json((await objects.get(KEY)).body)


@pytest.fixture
async def holders(tmp_path):
    """Makes holders, whose leases end with the test."""
    made = []

    def holder(seconds=LONG_SECONDS, **options):
        made.append(Holder(tmp_path, seconds, **options))
        return made[-1]

    yield holder
    for one in made:
        await one.lease.release()


@pytest.fixture
async def proxy():
    async with s3_proxy(s3_server().port) as opened:
        yield opened


def cut_off(proxy):
    """Let nothing through, so that a holder behind it is as good as stopped."""
    proxy.choose = lambda _: Fault.LOST


async def test_a_lease_that_is_renewed_is_refused_to_others_who_are_told_its_holder(holders):
    first, second = holders(3.0), holders()
    await first.take()

    with pytest.raises(BucketInUse, match=r"in use by process \d+ on "):
        await second.take()

    assert first.losses == []


async def test_a_lease_is_released_to_the_next_one_at_once(holders):
    first, second = holders(), holders()
    await first.take()
    await first.lease.release()

    await second.take()

    assert not (await written(second.objects)).released


async def test_a_lease_is_taken_over_once_it_has_expired_and_not_before(holders, proxy):
    first, second = holders(1.5, port=proxy.port), holders(0.1)
    await first.take()
    cut_off(proxy)
    began = time.monotonic()

    await second.take()

    assert time.monotonic() - began >= 1.5
    assert not first.lease.is_valid


async def test_of_those_who_wait_for_an_expired_lease_one_gets_it(holders, proxy):
    dead = holders(0.5, port=proxy.port)
    await dead.take()
    cut_off(proxy)
    waiting = [holders(4.0) for _ in range(3)]

    outcomes = await asyncio.gather(*(one.take() for one in waiting), return_exceptions=True)

    assert sum(isinstance(one, BucketInUse) for one in outcomes) == len(waiting) - 1


async def test_a_holder_that_finds_its_lease_taken_writes_nothing_more_and_says_so(holders, proxy):
    first, second = holders(1.0, port=proxy.port), holders(1.0)
    await first.take()
    cut_off(proxy)
    await second.take()

    proxy.choose = lambda _: Fault.NONE
    await until(lambda: first.losses)

    assert "was taken by process" in first.losses[0]
    assert first.files.taken
    for call in (
        first.files.create("a", b""),
        first.files.write("a", b""),
        first.files.delete("a"),
    ):
        with pytest.raises(MediumLost):
            await call
    assert await second.files.keys() == []
    assert second.losses == []


async def test_a_holder_whose_lease_has_run_out_writes_nothing_until_it_is_renewed(holders, proxy):
    holder = holders(0.5, port=proxy.port)
    await holder.take()
    cut_off(proxy)
    await until(lambda: not holder.lease.is_valid)

    with pytest.raises(Unavailable, match="nothing was written"):
        await holder.files.create("a", b"")
    assert await holder.files.keys() == []

    proxy.choose = lambda _: Fault.NONE
    await until(lambda: holder.lease.is_valid)
    assert holder.losses == []


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.UNANSWERED, Fault.BUSY, Fault.CONFLICT])
async def test_a_renewal_that_fails_loses_no_lease(fault, holders, proxy):
    holder = holders(1.0, port=proxy.port)
    await holder.take()
    beat = (await written(holder.objects)).beat
    proxy.script(fault)

    async def renewed():
        return (await written(holder.objects)).beat >= beat + 3

    await until(renewed)

    assert fault in [one for _, one in proxy.seen]
    assert holder.losses == []


async def test_a_lease_whose_object_is_removed_is_lost(holders):
    holder = holders(0.5)
    await holder.take()

    await holder.objects.delete([KEY])
    await until(lambda: holder.losses)

    assert holder.losses == ["the lease of the bucket was removed"]


async def test_what_is_no_lease_is_taken_over_once_it_has_rested(holders):
    holder = holders(0.5)
    await holder.objects.put(KEY, b"written by a version to come", None)

    await holder.take()

    assert (await written(holder.objects)).host


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.UNANSWERED, Fault.BUSY, Fault.CONFLICT])
async def test_a_lease_is_taken_whatever_the_first_request_met(fault, holders, proxy):
    holder = holders(port=proxy.port)
    proxy.script(fault)

    await holder.take()

    assert [one for request, one in proxy.seen if request.writes] == [fault, Fault.NONE]
