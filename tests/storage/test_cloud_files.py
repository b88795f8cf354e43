"""Files in a bucket whose requests and answers get lost: each write has one outcome, and it is found."""

import asyncio
import logging
import traceback
from contextlib import asynccontextmanager

import pytest

from storage.errors import (
    Conflict,
    Damaged,
    KeyExists,
    KeyNotFound,
    NotPermitted,
    OutcomeUnknown,
    Unavailable,
)
from storage.files.cloud import MARK, CloudFileStore
from storage.files.objects import Objects, open_bucket
from tests.support.s3 import (
    ACCESS_KEY,
    SECRET_KEY,
    objects_of,
    options_of,
    s3_server,
    url_of,
)
from tests.support.s3_proxy import Fault, s3_proxy
from tests.support.waiting import until

FAILURES = (Fault.LOST, Fault.UNANSWERED, Fault.FAILURE, Fault.BUSY)
SHORT_SECONDS = 0.3
"""A deadline for calls that must not end in time: how long they would take decides nothing."""


@pytest.fixture
async def proxy():
    async with s3_proxy(s3_server().port) as opened:
        yield opened


@asynccontextmanager
async def opened(folder, port=None, **settings):
    """The files of a folder; a machine may be as slow as it likes."""
    settings = {"deadline_seconds": 1_000, "late_seconds": 0, **settings}
    store = CloudFileStore(objects_of(folder, port=port, attempt_seconds=1_000), **settings)
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def files(proxy, tmp_path):
    async with opened(tmp_path, proxy.port) as store:
        yield store


@pytest.fixture
async def direct(tmp_path):
    """The same files, past the proxy."""
    async with opened(tmp_path) as store:
        yield store


def writes_of(proxy):
    return [fault for request, fault in proxy.seen if request.writes]


async def test_lists_are_longer_than_what_the_service_tells_at_once(direct):
    keys = [f"many/{number:04}" for number in range(2_300)]
    await asyncio.gather(*(direct.create(key, b"") for key in keys))

    assert await direct.keys("many/") == keys
    assert await direct.keys("many/", after=keys[1_500], limit=700) == keys[1_501:2_201]

    await direct.delete_tree("many")
    assert await direct.keys("many/") == []


@pytest.mark.parametrize("fault", FAILURES)
async def test_a_file_is_created_once_whatever_the_first_request_met(fault, files, direct, proxy):
    proxy.script(fault)

    await files.create("a", b"content")

    assert await direct.read("a") == b"content"
    assert writes_of(proxy)[:1] == [fault]
    with pytest.raises(KeyExists):
        await files.create("a", b"content")


@pytest.mark.parametrize("fault", FAILURES)
async def test_a_file_is_replaced_once_whatever_the_first_request_met(fault, files, direct, proxy):
    await files.write("a", b"older")
    proxy.script(fault)

    await files.write("a", b"newer")
    await files.write("a", b"newest")

    assert await direct.read("a") == b"newest"


@pytest.mark.parametrize("fault", [*FAILURES, Fault.CONFLICT])
async def test_a_file_is_deleted_whatever_the_first_request_met(fault, files, direct, proxy):
    await files.create("a", b"")
    proxy.script(fault)

    await files.delete("a")

    assert not await direct.exists("a")


@pytest.mark.parametrize("call", ["create", "write"])
async def test_a_refusal_because_two_requests_met_is_no_refusal(call, files, direct, proxy):
    proxy.script(Fault.CONFLICT)

    await getattr(files, call)("a", b"content")

    assert await direct.read("a") == b"content"


async def test_a_replacement_that_met_another_request_is_sent_again(files, direct, proxy):
    await files.create("a", b"older")
    proxy.script(Fault.CONFLICT)

    await files.write("a", b"newer")

    assert await direct.read("a") == b"newer"


async def test_of_two_whose_answers_were_lost_one_has_created_the_file(
    files, direct, proxy, tmp_path
):
    proxy.script(Fault.UNANSWERED, Fault.UNANSWERED, Fault.UNANSWERED)
    async with opened(tmp_path, proxy.port) as other:
        outcomes = await asyncio.gather(
            files.create("a", b"same"), other.create("a", b"same"), return_exceptions=True
        )

    assert sorted(str(type(one)) for one in outcomes) == sorted([str(type(None)), str(KeyExists)])


async def test_a_request_that_arrives_late_creates_nothing_anew(files, direct, proxy):
    proxy.script(Fault.LATE)
    await files.create("a", b"content")
    await files.write("a", b"newer")

    assert await proxy.deliver() == [412]
    assert await direct.read("a") == b"newer"


async def test_a_request_that_arrives_late_undoes_no_newer_write(files, direct, proxy):
    await files.write("a", b"1")
    proxy.script(Fault.LATE)
    await files.write("a", b"2")
    await files.write("a", b"1")

    assert await proxy.deliver() == [412]
    assert await direct.read("a") == b"1"


@pytest.mark.parametrize("call", ["create", "write"])
async def test_what_is_told_after_an_unknown_outcome_is_told_for_good(
    call, tmp_path, direct, proxy
):
    proxy.script(*[Fault.LOST] * 3)
    async with opened(tmp_path, proxy.port) as patient:
        hasty = CloudFileStore(
            objects_of(tmp_path, port=proxy.port, attempt_seconds=1_000),
            deadline_seconds=SHORT_SECONDS,
            late_seconds=0,
        )
        proxy.choose = lambda one: Fault.LOST if one.writes else Fault.NONE
        with pytest.raises(OutcomeUnknown):
            await getattr(hasty, call)("a", b"content")
        assert not await patient.exists("a")

        with pytest.raises(Unavailable, match="still in progress"):
            await hasty.read("a")
        proxy.choose = lambda _: Fault.NONE
        await until(lambda: hasty.oldest_write_seconds() == 0.0)

        assert await hasty.read("a") == b"content"
        assert await hasty.keys() == ["a"]
        await hasty.close()


async def test_a_write_whose_caller_is_cancelled_goes_on_and_is_waited_for(files, direct, proxy):
    proxy.script(Fault.SLOW)
    writing = asyncio.create_task(files.create("a", b"content"))
    await until(lambda: writes_of(proxy))
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing

    reading = asyncio.create_task(files.keys())
    proxy.free.set()

    assert await reading == ["a"]


async def test_a_call_that_sent_nothing_says_so(tmp_path, proxy):
    proxy.choose = lambda _: Fault.BUSY
    async with opened(tmp_path, proxy.port, deadline_seconds=SHORT_SECONDS) as store:
        with pytest.raises(Unavailable):
            await store.write("a", b"")

    assert writes_of(proxy) == []


async def test_keys_of_a_deletion_without_an_answer_rest_until_it_cannot_arrive(
    tmp_path, direct, proxy
):
    async with opened(
        tmp_path, proxy.port, late_seconds=1_000, deadline_seconds=SHORT_SECONDS
    ) as store:
        await direct.create("a", b"older")
        proxy.script(Fault.UNANSWERED)
        with pytest.raises(OutcomeUnknown):
            await store.delete("a")

        with pytest.raises(Unavailable, match="still in progress"):
            await store.create("a", b"newer")
        await store.create("b", b"")

        assert await direct.keys() == ["b"]


async def test_a_file_that_another_process_wrote_is_not_overwritten(files, direct):
    await files.write("a", b"mine")
    await direct.write("a", b"another's")

    with pytest.raises(Conflict):
        await files.write("a", b"mine again")
    assert await direct.read("a") == b"another's"

    await files.write("a", b"knowing it")
    assert await direct.read("a") == b"knowing it"


async def test_a_file_that_another_process_deleted_is_not_brought_back(files, direct):
    await files.write("a", b"mine")
    await direct.delete("a")

    with pytest.raises(Conflict):
        await files.write("a", b"mine again")
    assert await direct.keys() == []


async def test_reads_are_tried_again(files, direct, proxy):
    await direct.create("a/b", b"content")
    for fault in FAILURES:
        proxy.script(fault, only=lambda one: not one.writes)
        assert await files.read("a/b") == b"content"
        proxy.script(fault, only=lambda one: not one.writes)
        assert await files.keys("a/") == ["a/b"]


async def test_a_service_that_does_not_answer_is_told_within_the_deadline(tmp_path, proxy):
    proxy.choose = lambda _: Fault.SLOW
    objects = objects_of(tmp_path, port=proxy.port, attempt_seconds=SHORT_SECONDS)
    store = CloudFileStore(objects, deadline_seconds=SHORT_SECONDS)
    for call in (store.read("a"), store.exists("a"), store.keys()):
        with pytest.raises(Unavailable, match="did not answer"):
            await call
    await store.close()


async def test_a_batch_of_a_log_is_one_request(files, direct, proxy):
    await files.create("logs/c/tail/0000000000", b"")
    await files.keys("logs/c/tail/")
    proxy.seen.clear()

    for number in range(1, 6):
        await files.create(f"logs/c/tail/{number:010}", b"a batch")

    assert [request.method for request, _ in proxy.seen] == ["PUT"] * 5


async def test_an_object_that_was_cut_short_is_damaged(direct, tmp_path):
    await objects_of(tmp_path).put(f"a{MARK}", b"short", None)

    with pytest.raises(Damaged):
        await direct.read("a")


async def test_objects_of_others_in_the_folder_are_left_alone(direct, tmp_path):
    await objects_of(tmp_path).put("notes.txt", b"of an operator", None)
    await direct.create("a", b"")

    assert await direct.keys() == ["a"]
    with pytest.raises(KeyNotFound):
        await direct.read("notes.txt")


async def test_wrong_credentials_are_refused_at_once_and_stand_in_no_error(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    options = options_of(s3_server()) | {"access_key_id": "an-unknown-key"}
    bucket = open_bucket(url_of(tmp_path), options, "files")
    store = CloudFileStore(Objects(bucket), deadline_seconds=1_000)
    told = []
    for call in (store.read("a"), store.create("a", b""), store.keys(), store.delete("a")):
        with pytest.raises(NotPermitted) as refused:
            await call
        told.append("".join(traceback.format_exception(refused.value)))
    await store.close()

    shown = "".join([*told, caplog.text, repr(store), repr(bucket)])
    assert "403" in shown
    for secret in (SECRET_KEY, ACCESS_KEY, "an-unknown-key", "Signature", "127.0.0.1"):
        assert secret not in shown


def test_options_that_the_driver_does_not_know_are_refused_without_their_values():
    with pytest.raises(NotPermitted, match="no_such_option") as refused:
        open_bucket("s3://bucket/folder", {"no_such_option": "a-secret"}, "files")

    assert "a-secret" not in "".join(map(str, refused.value.args))


async def test_a_bucket_that_is_not_there_is_told(tmp_path):
    bucket = open_bucket("s3://no-such-bucket/folder", options_of(s3_server()), "files")
    store = CloudFileStore(Objects(bucket), deadline_seconds=1_000)

    with pytest.raises(NotPermitted, match="bucket does not exist"):
        await store.keys()


async def test_an_end_leaves_open_what_cannot_be_found_in_time(tmp_path, proxy):
    proxy.choose = lambda one: Fault.LOST if one.writes else Fault.NONE
    store = CloudFileStore(objects_of(tmp_path, port=proxy.port), deadline_seconds=SHORT_SECONDS)
    writing = asyncio.create_task(store.create("a", b""))
    await until(lambda: writes_of(proxy))

    await store.close()

    with pytest.raises(OutcomeUnknown):
        await writing
