"""Refusals of a key that arrive when another one has been entered: they say nothing of that one."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import expect

from tests.support.browser import new_context, person
from tests.support.servers import server_process

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.asyncio(loop_scope="session"),
]

KEY = "open sesame, please"
WRONG = "open barley"
REMEMBER = "(key) => localStorage.setItem('parley.session-key', key)"


class Held:
    """Refusals that the server has sent and the page does not see yet."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self.released = asyncio.Event()

    async def answer(self, route):
        """Pass a request on, and keep its answer back if that is a refusal of the key."""
        response = await route.fetch()
        if response.status == 401:
            self.arrived.set()
            await self.released.wait()
        await route.fulfill(response=response)

    def connect(self, page_side):
        """Pass a websocket on, and keep the server's refusal of the key back."""
        server_side = page_side.connect_to_server()

        def pass_on(packet):
            if packet.startswith("44"):
                waiting.append(asyncio.create_task(self._send_later(page_side, packet)))
                self.arrived.set()
            else:
                page_side.send(packet)

        waiting: list[asyncio.Task[None]] = []
        server_side.on_message(pass_on)

    async def _send_later(self, page_side, packet):
        await self.released.wait()
        page_side.send(packet)


@asynccontextmanager
async def keyed(browser, folder):
    """A person at a server that wants keys."""
    keys = {"SESSION_API_KEY": KEY, "PARLEY_ADMIN_KEY": KEY}
    async with server_process(folder / "data", environment=keys) as server:
        context = await new_context(browser)
        yield await person(context, server.url)
        await context.close()


@pytest.mark.parametrize("tried", [[], [WRONG]], ids=["none before", "a wrong one before"])
async def test_a_request_refused_before_the_key_was_entered_is_made_again_with_it(
    browser, tmp_path, tried
):
    held = Held()
    async with keyed(browser, tmp_path) as reader:
        await reader.page.route("**/api/settings", held.answer)
        await reader.visit()
        for wrong in tried:
            await reader.part("key-input").fill(wrong)
            await reader.part("key-submit").click()
            await expect(reader.page.locator("#key-again")).to_be_visible()
        await held.arrived.wait()
        async with reader.page.expect_response(is_given_settings):
            await reader.part("key-input").fill(KEY)
            await reader.part("key-submit").click()
        await expect(reader.part("key-form")).to_be_hidden()

        async with reader.page.expect_response(is_given_settings):
            held.released.set()
        await expect(reader.part("key-form")).to_be_hidden()
        assert not await reader.found_fault(excused="401")


def is_given_settings(response):
    """Whether the settings were asked for with the right key."""
    return response.url.endswith("/api/settings") and response.ok


async def test_a_socket_refused_for_a_key_that_has_changed_since_joins_with_the_new_one(
    browser, tmp_path
):
    held = Held()
    async with keyed(browser, tmp_path) as other:
        await other.visit()
        await other.page.evaluate(REMEMBER, KEY)
        conversation_id = await other.begin()
        reader = await person(other.page.context, other.url)
        await reader.page.route("**/api/**", with_key)
        await reader.page.route_web_socket("**/socket.io/**", held.connect)
        await other.page.evaluate(REMEMBER, WRONG)
        await reader.visit(f"/conversations/{conversation_id}")
        await held.arrived.wait()

        await other.page.evaluate(REMEMBER, KEY)
        held.released.set()
        await reader.sees_state("Ready")
        await expect(reader.part("key-form")).to_be_hidden()
        assert not await reader.found_fault()


async def with_key(route):
    """Pass a request on with the right key, as if the key had been changed right after it."""
    await route.continue_(headers={**route.request.headers, "x-session-api-key": KEY})


async def test_the_administration_is_read_with_the_key_entered_since_it_was_refused(
    browser, tmp_path
):
    held = Held()
    async with keyed(browser, tmp_path) as reader:
        await reader.page.route("**/api/admin/overview", held.answer)
        await reader.visit("/admin#usage")
        await held.arrived.wait()
        await reader.part("key-input").fill(KEY)
        await reader.part("key-submit").click()
        await expect(reader.part("key-form")).to_be_hidden()

        held.released.set()
        await expect(reader.part("ready")).to_have_text("ready")
        await expect(reader.part("key-form")).to_be_hidden()
        assert not [one for one in reader.complaints if "401" not in one]
