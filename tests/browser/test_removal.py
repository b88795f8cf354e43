"""Deleting in the page: undone in time, carried out after it, or when the tab goes away."""

import re
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from playwright.async_api import expect

from tests.support.browser import person
from tests.support.waiting import WAIT_SECONDS

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.asyncio(loop_scope="session"),
]


async def exists(url, conversation_id):
    async with httpx.AsyncClient(base_url=url, timeout=WAIT_SECONDS) as client:
        return (await client.get(f"/api/conversations/{conversation_id}")).json() is not None


async def delete(reader, conversation_id):
    row = reader.item(conversation_id)
    await row.hover()
    await row.get_by_test_id("delete").click()
    await expect(row).to_have_count(0)


async def test_a_deletion_is_undone_and_the_open_conversation_comes_back(reader):
    conversation_id = await reader.begin()
    await reader.ask("keep me", "You said: keep me")

    await delete(reader, conversation_id)
    await reader.page.wait_for_url(reader.url + "/")
    await reader.part("undo").click()

    await expect(reader.part("undo-toast")).to_have_count(0)
    await reader.page.wait_for_url(re.compile(conversation_id))
    await expect(reader.messages_of("agent").last).to_contain_text("keep me")
    await expect(reader.item(conversation_id)).to_be_visible()
    assert await exists(reader.url, conversation_id)
    assert not await reader.found_fault()


async def test_a_deletion_is_held_back_and_then_carried_out_by_itself(context, server):
    async with httpx.AsyncClient(base_url=server.url, timeout=WAIT_SECONDS) as client:
        created = await client.post("/api/conversations", json={})
        conversation_id = created.json()["conversation_id"]
    reader = await person(context, server.url)
    now = datetime.now(UTC)
    await reader.page.clock.install(time=now)
    await reader.visit()
    await reader.page.clock.pause_at(now + timedelta(minutes=10))
    await delete(reader, conversation_id)
    await reader.page.mouse.move(700, 100)

    await reader.page.clock.run_for(7_000)
    assert await exists(server.url, conversation_id)
    async with reader.page.expect_response(
        lambda answer: answer.request.method == "DELETE"
    ) as deleted:
        await reader.page.clock.run_for(1_500)

    assert (await deleted.value).ok
    assert not await exists(server.url, conversation_id)
    await expect(reader.part("undo-toast")).to_have_count(0)
    assert not await reader.found_fault()


@pytest.mark.parametrize("way", ["closed", "left"])
async def test_a_deletion_is_carried_out_when_the_tab_goes_away(context, server, way):
    reader = await person(context, server.url)
    conversation_id = await reader.begin()
    witness = await person(context, server.url)
    await witness.visit(f"/conversations/{conversation_id}")
    await witness.sees_state("Ready")
    await delete(reader, conversation_id)
    assert await exists(server.url, conversation_id)

    await (reader.page.close() if way == "closed" else reader.page.goto("about:blank"))

    await expect(witness.part("missing")).to_be_visible()
    assert not await exists(server.url, conversation_id)


async def test_a_deletion_the_server_does_not_take_brings_the_row_back(context, server):
    reader = await person(context, server.url)
    conversation_id = await reader.begin()
    await delete(reader, conversation_id)
    await context.set_offline(True)

    await reader.part("delete-now").click()

    await expect(reader.item(conversation_id)).to_be_visible()
    await expect(reader.part("error-banner")).to_contain_text("cannot be reached")
    await context.set_offline(False)
    assert await exists(server.url, conversation_id)
