"""Bodies in all: beyond their bytes the one that has been arriving for longest is refused."""

import asyncio
import json

import pytest
from starlette.responses import Response

from server.http.body_limits import BodyLimits
from server.http.responses import response_of
from tests.support.waiting import WAIT_SECONDS

HELD = 1000


class Arriving:
    """A request whose body arrives as the test says, through the limits, and its answer."""

    def __init__(self, limits, path="/api/conversations"):
        self.parts: asyncio.Queue[dict[str, object]] = asyncio.Queue()
        self.sent = []
        kind = "multipart/form-data" if path.endswith("/upload-files") else "application/json"
        headers = [(b"content-type", kind.encode()), (b"transfer-encoding", b"chunked")]
        scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
        self.task = asyncio.ensure_future(limits(scope, self.parts.get, self.send))

    async def send(self, message):
        self.sent.append(message)

    def part(self, size, *, more=True):
        self.parts.put_nowait({"type": "http.request", "body": b"x" * size, "more_body": more})

    @property
    def status(self):
        return next((one["status"] for one in self.sent if "status" in one), None)

    @property
    def code(self):
        return json.loads(b"".join(one.get("body", b"") for one in self.sent))["code"]


class Endpoint:
    """An application that reads a body and answers when it may."""

    def __init__(self):
        self.may_answer = asyncio.Event()
        self.received = 0
        self.changed = asyncio.Condition()

    async def __call__(self, scope, receive, send):
        more = True
        while more:
            try:
                message = await receive()
            except Exception as error:  # noqa: BLE001 - as the handlers around every endpoint do
                await response_of(error)(scope, receive, send)
                return
            more = message["more_body"]
            async with self.changed:
                self.received += len(message["body"])
                self.changed.notify_all()
        await self.may_answer.wait()
        await Response(b"{}")(scope, receive, send)

    async def until(self, received):
        async with asyncio.timeout(WAIT_SECONDS), self.changed:
            await self.changed.wait_for(lambda: self.received >= received)


@pytest.fixture
def endpoint():
    return Endpoint()


@pytest.fixture
def limits(endpoint):
    return BodyLimits(endpoint, 10_000, 10_000, 60.0, HELD)


async def test_the_body_that_has_been_arriving_for_longest_is_refused_first(endpoint, limits):
    first, second, third = (Arriving(limits) for _ in range(3))
    for number, one in enumerate((first, second), 1):
        one.part(400)
        await endpoint.until(400 * number)

    third.part(400, more=False)
    await first.task

    assert (first.status, first.code) == (503, "overloaded")
    assert (b"connection", b"close") in first.sent[0]["headers"]
    second.part(200, more=False)
    endpoint.may_answer.set()
    await asyncio.gather(second.task, third.task)
    assert (second.status, third.status) == (200, 200)


async def test_bodies_that_are_whole_are_served_and_the_next_is_refused(endpoint, limits):
    whole = [Arriving(limits) for _ in range(2)]
    for one in whole:
        one.part(450, more=False)
    await endpoint.until(900)

    late = Arriving(limits)
    late.part(450)
    await late.task

    assert (late.status, late.code) == (503, "overloaded")
    endpoint.may_answer.set()
    await asyncio.gather(*(one.task for one in whole))
    assert [one.status for one in whole] == [200, 200]


async def test_what_is_answered_makes_room(endpoint, limits):
    endpoint.may_answer.set()
    for _ in range(5):
        one = Arriving(limits)
        one.part(900, more=False)
        await one.task
        assert one.status == 200


async def test_no_more_bodies_are_refused_than_must_be(endpoint, limits):
    arriving = [Arriving(limits) for _ in range(4)]
    for number, one in enumerate(arriving, 1):
        one.part(200)
        await endpoint.until(200 * number)
    late = [Arriving(limits) for _ in range(2)]
    for number, one in enumerate(late, 5):
        one.part(200, more=False)
        await endpoint.until(200 * number)
    endpoint.may_answer.set()
    await asyncio.gather(*(one.task for one in late))
    for one in arriving[1:]:
        one.part(1, more=False)
    await asyncio.gather(*(one.task for one in arriving))

    assert [one.status for one in (*arriving, *late)] == [503, 200, 200, 200, 200, 200]


async def test_uploads_do_not_count(endpoint, limits):
    upload = Arriving(limits, "/api/conversations/c/upload-files")
    upload.part(5000)
    await endpoint.until(5000)

    one = Arriving(limits)
    one.part(900, more=False)
    endpoint.may_answer.set()
    await one.task
    assert one.status == 200
    upload.part(1, more=False)
    await upload.task
    assert upload.status == 200
