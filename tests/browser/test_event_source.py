"""Chromium's own EventSource on a conversation's stream: over cuts and restarts nothing is missed."""

import asyncio
from random import Random

import orjson
import pytest
import pytest_asyncio

from events.event import EventSource
from tests.browser.test_streaming import writing
from tests.support.browser import person
from tests.support.clients import message as asking
from tests.support.cutting_proxy import cutting
from tests.support.live import live_server
from tests.support.remote import remote
from tests.support.servers import server_process
from tests.support.sse import Frame, SseView
from tests.support.streams import message
from tests.support.waiting import WAIT_SECONDS
from tests.support.writing_agent import SETTINGS, plant_secret, request, shown_of

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.asyncio(loop_scope="session"),
]

FOLLOW = """
(path) => {
  const source = new EventSource(path);
  source.addEventListener("open", () => opened());
  for (const name of ["event", "delta", "notice"]) {
    source.addEventListener(name, (one) => told(one.lastEventId, name, one.data));
  }
}
"""


@pytest_asyncio.fixture(loop_scope="session")
async def live():
    async with live_server(delta_interval_seconds=0.02) as opened:
        yield opened


class Follower:
    """A page with an EventSource: what it was sent, and how often it was connected."""

    def __init__(self):
        self.view = SseView()
        self.openings = 0
        self._frames: asyncio.Queue[Frame] = asyncio.Queue()

    async def begin(self, page, url, key):
        """Open the front page, which permits its scripts this origin, and follow."""
        await page.goto(url)
        await page.expose_function("opened", self._note_opening)
        await page.expose_function("told", self._note_frame)
        await page.evaluate(FOLLOW, f"/api/conversations/{key}/stream")

    async def until(self, done):
        """Take what comes until the view is as wanted; it fails where a frame does not fit."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not done(self.view):
                self.view.take(await self._frames.get())

    def _note_opening(self):
        self.openings += 1

    def _note_frame(self, cursor, name, data):
        self._frames.put_nowait(Frame(cursor, name, orjson.loads(data)))


async def follow(context, url, key):
    reader, follower = await person(context, url), Follower()
    await follower.begin(reader.page, url, key)
    return follower


async def test_it_goes_on_behind_each_cut(context, live):
    async with (
        writing(live) as author,
        cutting(live.server.port, Random(1), 0) as proxy,  # noqa: S311
    ):
        follower = await follow(context, proxy.url, author.key)
        await author.stream.append(message("question"), EventSource.USER)
        await author.write("Good mor")
        await follower.until(lambda view: list(view.held.values()) == ["Good mor"])

        proxy.cut()  # in mid-word
        await author.write("ning, ", "\U0001f511")
        await follower.until(lambda view: list(view.held.values()) == ["Good morning, \U0001f511"])

        proxy.cut()  # the text ends meanwhile
        await author.write(" and on")
        await author.finish()
        await follower.until(lambda view: len(view.said) == 2)

        proxy.cut()  # behind an event
        await author.write("Another")
        await follower.until(lambda view: view.held)

        proxy.cut()  # the text is taken back meanwhile
        author.text.drop("anew")
        await follower.until(lambda view: not view.held)

    assert follower.view.said == ["question", "Good morning, \U0001f511 and on"]
    assert follower.openings == 5


@pytest.mark.parametrize("ends", ["stop", "kill"])
async def test_it_goes_on_behind_the_end_of_the_server(context, tmp_path, ends):
    environment = SETTINGS | {"PARLEY_SHUTDOWN_SECONDS": "2"}
    async with (
        server_process(tmp_path / "data", environment=environment) as server,
        remote(server.url) as api,
    ):
        await plant_secret(api)
        key = await api.create()
        follower = await follow(context, server.url, key)
        for seed in range(3):
            before = set(follower.view.held)
            await api.post(key, asking(request(seed, 5000)))
            await follower.until(lambda view, before=before: view.held.keys() - before)
            await (server.kill() if ends == "kill" else server.stop())
            await server.start()
        last = request(3, 20)
        await api.post(key, asking(last))
        await follower.until(lambda view: shown_of(last) in view.said)
        seen = list(follower.view.events)
        log = await api.log(key)

    assert seen == log[: len(seen)]
    assert follower.openings >= 4
