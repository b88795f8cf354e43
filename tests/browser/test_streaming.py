"""Texts on the page while they are written: from the first word to the event that completes them."""

import asyncio
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio
from playwright.async_api import expect

from events.actions import MessageAction
from events.event import EventSource
from tests.support.browser import person
from tests.support.live import live_server
from tests.support.streams import message

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(60),
]

AGENT = EventSource.AGENT


@pytest_asyncio.fixture(loop_scope="session")
async def live():
    async with live_server(delta_interval_seconds=0.02) as opened:
        yield opened


class Author:
    """Writes one text after the other into a conversation, as its agent does."""

    def __init__(self, conversation):
        self.path = f"/conversations/{conversation.conversation_id}"
        self.stream = conversation.stream
        self.begin()

    def begin(self):
        """Begin the next text."""
        self.text = self.stream.partials.begin("message", "content", 0)

    async def write(self, *pieces):
        """Add to the text; done when all is sent."""
        for piece in pieces:
            self.text.write(piece)
            await self.stream.partials.next_telling()

    async def finish(self, **changes):
        """End the text with its event, and begin the next one."""
        done = asyncio.get_running_loop().create_future()
        event = MessageAction(content=self.text.text).model_copy(update=changes)
        self.text.finish(event, AGENT, self.stream.submit, done.set_result)
        self.begin()
        return await done


@asynccontextmanager
async def writing(live):
    key = await live.new()
    async with live.application.manager.attach(key, None) as opened:
        yield Author(opened)


async def test_a_text_is_seen_while_it_is_written_and_stays_in_its_place(context, live):
    reader = await person(context, live.url)
    async with writing(live) as author:
        await author.stream.append(message("Ready to write."), AGENT)
        await reader.visit(author.path)
        await reader.sees_state("Ready")
        await author.write("Good **mor", "ning**, this is\n\n- one\n- t")
        await expect(reader.part("written")).to_contain_text("Good morning, this is")
        await expect(reader.part("written").locator("li")).to_have_text(["one", "t"])
        await author.write("wo")
        await author.finish()
        await expect(reader.messages_of("agent").last.locator("li")).to_have_text(["one", "two"])
        await expect(reader.part("written")).to_have_count(0)
    assert not await reader.found_fault()
