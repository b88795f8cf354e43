"""Texts on the page while they are written: from the first word to the event that completes them."""

import asyncio
from contextlib import asynccontextmanager
from random import Random
from typing import ClassVar

import pytest
import pytest_asyncio
from playwright.async_api import expect

from events.actions import AgentThinkAction
from events.event import AgentState, EventSource, Interruption
from runtime_stub.agent import Agent
from tests.browser.test_growing import ANSWER
from tests.browser.test_looks import SIZES
from tests.support.axe import broken_rules
from tests.support.blocking_proxy import blocked
from tests.support.browser import OUTAGE, new_context, person
from tests.support.cutting_proxy import cutting
from tests.support.holding_proxy import holding
from tests.support.live import live_server
from tests.support.partials import finish
from tests.support.screenshots import picture
from tests.support.servers import class_path
from tests.support.streams import message
from tests.support.turn_agents import asked

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.asyncio(loop_scope="session"),
]

AGENT = EventSource.AGENT
MOST_SHIFT = 0.02
NOTE_SHIFTS = """
window.shifted = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) window.shifted += entry.value;
}).observe({ type: "layout-shift" });
"""
INTERRUPTIONS = {
    "stopped": "Stopped",
    "message": "Interrupted by your message",
    "crashed": "Cut off by a crash",
    "timed_out": "Out of time",
    "failed": "Failed",
}


@pytest_asyncio.fixture(loop_scope="session")
async def live():
    async with live_server(delta_interval_seconds=0.02) as opened:
        yield opened


class HalfWay(Agent):
    """Says half of an answer, and the rest when it is told to."""

    told: ClassVar[asyncio.Queue[None]]

    async def run(self, turn):
        """See Agent."""
        async with turn.say() as answer:
            answer.write(f"Half of {asked(turn)}")
            await self.told.get()
            answer.write(", and the rest")


@asynccontextmanager
async def half_way():
    """A server whose agent has not been told to go on."""
    HalfWay.told = asyncio.Queue()
    async with live_server(agent_class=class_path(HalfWay)) as live:
        yield live


class Author:
    """Writes one text after the other into a conversation, as its agent does."""

    def __init__(self, conversation):
        self.key = conversation.conversation_id
        self.path = f"/conversations/{self.key}"
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
        ended = self.text
        self.begin()
        await finish(self.stream, ended, **changes)


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


async def opened(live, context, author):
    """A person at the conversation, when its agent is ready."""
    reader = await person(context, live.url)
    await author.stream.append(message("Ready to write."), AGENT)
    await reader.visit(author.path)
    await reader.sees_state("Ready")
    return reader


async def test_a_page_that_is_opened_in_mid_message_shows_all_of_it_and_goes_on(context, live):
    async with writing(live) as author:
        reader = await opened(live, context, author)
        await author.write("Good mor")
        await expect(reader.part("written")).to_contain_text("Good mor")
        await reader.page.reload()
        await expect(reader.part("written")).to_contain_text("Good mor")
        await author.write("ning, all")
        await expect(reader.part("written")).to_contain_text("Good morning, all")
        await author.finish()
        await expect(reader.messages_of("agent").last).to_contain_text("Good morning, all")
    assert not await reader.found_fault()


async def test_nothing_jumps_while_a_text_is_written(context, live):
    async with writing(live) as author:
        reader = await opened(live, context, author)
        await reader.page.evaluate(NOTE_SHIFTS)
        for part in range(20):
            await author.write(f"## Part {part}\n\nSome *words* of it.\n\n- one\n- two\n\n")
        await expect(reader.part("written")).to_contain_text("Part 19")
        await expect(reader.part("written").locator("li").last).to_be_in_viewport()
        await author.finish()
        await expect(reader.messages_of("agent").last).to_contain_text("Part 19")
        await expect(reader.part("fold")).to_have_text("Show less")
        assert await reader.page.evaluate("window.shifted") < MOST_SHIFT
    assert not await reader.found_fault()


async def test_a_reader_who_scrolled_up_stays_there(context, live):
    async with writing(live) as author:
        reader = await opened(live, context, author)
        await author.write("A line.\n\n" * 60)
        await expect(reader.part("written")).to_contain_text("A line.")
        await expect(reader.part("jump-latest")).to_be_hidden()
        await reader.page.locator("#transcript").evaluate("(box) => { box.scrollTop = 100; }")
        await expect(reader.part("jump-latest")).to_be_visible()
        await author.write("More.\n\n" * 60)
        await author.finish()
        await expect(reader.messages_of("agent").last).to_contain_text("More.")
        assert await reader.page.locator("#transcript").evaluate("(box) => box.scrollTop") == 100
    assert not await reader.found_fault()


async def test_a_text_that_is_not_whole_says_why_and_offers_to_go_on(context, live):
    async with writing(live) as author:
        reader = await opened(live, context, author)
        for why, says in INTERRUPTIONS.items():
            await author.write(f"Half of {why}")
            await author.finish(interrupted=Interruption(why))
            await expect(reader.part("cut-off").last).to_contain_text(says)
            await expect(reader.part("continue")).to_have_count(1)
        await reader.part("continue").click()
        await author.write("The rest.")
        await author.finish()
        await expect(reader.part("continue")).to_have_count(0)
    assert not await reader.found_fault()


async def test_a_turn_can_be_stopped_from_the_moment_of_sending(reader):
    await reader.begin()
    await expect(reader.part("stop")).to_be_hidden()
    await reader.say("/slow 2 600000")
    await expect(reader.part("stop")).to_be_visible()
    await expect(reader.part("send")).to_be_hidden()
    await reader.part("composer").fill("and then")
    await expect(reader.part("send")).to_be_visible()
    await reader.part("composer").fill("")
    await reader.part("composer").press("Escape")
    await reader.sees_state("Stopped")
    await expect(reader.part("stop")).to_be_hidden()
    await expect(reader.part("send")).to_be_visible()
    assert not await reader.found_fault()


async def test_a_stop_that_comes_late_does_not_meet_the_next_turn(context):
    async with half_way() as live, holding(live.server.port) as proxy:
        reader = await person(context, proxy.url)
        conversation_id = await reader.begin()
        await reader.say("the first")
        await expect(reader.part("written")).to_contain_text("Half of the first")
        async with live.joined(conversation_id) as other:
            works = await other.state(AgentState.RUNNING)
            proxy.hold()
            HalfWay.told.put_nowait(None)
            rested = await other.state(AgentState.AWAITING_USER_INPUT, after=works["id"])
            await other.say("the second")
            begun = await other.state(AgentState.RUNNING, after=rested["id"])

            await reader.part("stop").click()

            await other.event(
                lambda one: one.get("action") == "change_agent_state" and one["id"] > begun["id"]
            )
        HalfWay.told.put_nowait(None)
        proxy.let_through()
        answer = reader.messages_of("agent").last
        await expect(answer).to_contain_text("Half of the second, and the rest")
        await reader.sees_state("Ready")
        await expect(reader.part("cut-off")).to_have_count(0)
        assert not await reader.found_fault()


async def test_a_stop_names_the_turn_of_which_a_page_has_seen_only_the_text(context):
    async with half_way() as live:
        reader = await person(context, live.url)
        conversation_id = await reader.begin()
        await reader.say("one")
        await expect(reader.part("written")).to_contain_text("Half of one")
        await reader.part("stop").click()
        await expect(reader.part("cut-off")).to_contain_text("Stopped")
        await reader.part("continue").click()
        # The turn that "continue" begins has a recall that sockets are not sent.
        await expect(reader.part("written")).to_contain_text("Half of")
        async with live.joined(conversation_id) as other:
            await reader.part("stop").click()
            named = await other.event(lambda one: one.get("args", {}).get("of") is not None)
        await expect(reader.part("cut-off")).to_have_count(2)
        assert named["args"]["agent_state"] == "stopped"
        assert not await reader.found_fault()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_text_that_is_written_fits_and_breaks_no_rule(browser, live, scheme):
    context = await new_context(browser, color_scheme=scheme)
    async with writing(live) as author:
        reader = await opened(live, context, author)
        await author.write("Half a sent")
        await author.finish(interrupted=Interruption.STOPPED)
        for size in SIZES.values():
            await reader.page.set_viewport_size(size)
            await expect(reader.part("continue")).to_be_visible()
            assert await broken_rules(reader.page) == {}
        await author.write(ANSWER)
        await expect(reader.part("written")).to_contain_text("The end")
        for size in SIZES.values():
            await reader.page.set_viewport_size(size)
            await picture(reader, f"streaming-{size['width']}-{scheme}")
            assert await broken_rules(reader.page) == {}
            assert await reader.fits()
        assert not await reader.found_fault()
    await context.close()


@asynccontextmanager
async def held_up(live, context):
    """A reader whose connection is lost in the middle of a text, and the author of that."""
    async with (
        writing(live) as author,
        cutting(live.server.port, Random(1), 0) as proxy,  # noqa: S311
    ):
        reader = await person(context, proxy.url)
        await author.stream.append(message("Ready to write."), AGENT)
        await reader.visit(author.path)
        await reader.sees_state("Ready")
        await author.write("Good mor")
        await expect(reader.part("written")).to_contain_text("Good mor")
        await context.set_offline(True)
        proxy.cut()
        await expect(reader.part("working")).to_contain_text("The answer will go on here")
        yield reader, author


async def test_a_text_goes_on_exactly_where_the_connection_was_lost(context, live):
    async with held_up(live, context) as (reader, author):
        await context.set_offline(False)
        await author.write("ning, ", "all")
        await expect(reader.part("written")).to_contain_text("Good morning, all")
        await author.finish()
        await expect(reader.messages_of("agent").last).to_contain_text("Good morning, all")
        assert not await reader.found_fault(f"{OUTAGE}|ERR_INTERNET_DISCONNECTED")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_text_that_a_lost_connection_holds_up_fits_and_breaks_no_rule(
    browser, live, scheme
):
    context = await new_context(browser, color_scheme=scheme)
    async with held_up(live, context) as (reader, _):
        for size in SIZES.values():
            await reader.page.set_viewport_size(size)
            await picture(reader, f"lost-{size['width']}-{scheme}")
            assert await broken_rules(reader.page) == {}
            assert await reader.fits()
        assert not await reader.found_fault(f"{OUTAGE}|ERR_INTERNET_DISCONNECTED")
    await context.close()


async def test_a_text_is_followed_by_polling_alone(context, live):
    async with writing(live) as author, blocked(live.server.port, "refused") as proxy:
        reader = await person(context, proxy.url)
        await author.stream.append(message("Ready to write."), AGENT)
        await reader.visit(author.path)
        await expect(reader.part("connection-state")).to_have_text("Connected by polling")
        await author.write("Good ", "morning")
        await expect(reader.part("written")).to_contain_text("Good morning")
        await author.finish()
        await expect(reader.messages_of("agent").last).to_contain_text("Good morning")


async def test_an_action_grows_while_it_is_written(context, live):
    async with writing(live) as author:
        reader = await opened(live, context, author)
        command = author.stream.partials.begin("run", "command", 0)
        for piece in ("echo \u202eone", "\necho two"):
            command.write(piece)
            await author.stream.partials.next_telling()
        card = reader.part("growing-card")
        await expect(card.locator("pre")).to_have_text("echo ⟨U+202E⟩one\necho two")
        await expect(card.locator(".spinner")).to_be_visible()
        file = author.stream.partials.begin("write", "content", 0)
        file.write("line\n" * 20_000 + "the end")
        await author.stream.partials.next_telling()
        await expect(card.nth(1)).to_contain_text("the end")
        await expect(card.nth(1)).to_contain_text("Writing a file")
        assert len(await card.nth(1).locator("pre").inner_text()) < 10_000
        await picture(reader, "growing-cards-1280-light")
        assert not await broken_rules(reader.page)
        command.drop("anew")
        file.drop("anew")
        await expect(card).to_have_count(0)
    assert not await reader.found_fault()


async def test_a_thought_is_no_longer_under_way_once_a_text_follows(context, live):
    async with writing(live) as author:
        reader = await opened(live, context, author)
        thought = author.stream.partials.begin("think", "thought", 0)
        thought.write("First this.")
        await author.stream.partials.next_telling()
        label = reader.part("thought").locator(".thought__label")
        await expect(label).to_have_text("Thinking")
        text = author.stream.partials.begin("message", "content", 0)
        text.write("Well, ")
        await author.stream.partials.next_telling()
        await expect(label).to_have_text("Thought")
        for partial in (text, thought):
            partial.drop("anew")
    assert not await reader.found_fault()


async def test_a_thought_is_one_line_while_it_is_written(context, live):
    async with writing(live) as author:
        reader = await opened(live, context, author)
        thought = author.stream.partials.begin("think", "thought", 0)
        for piece in ("First this.\n", "Then ", "that."):
            thought.write(piece)
            await author.stream.partials.next_telling()
        line = reader.part("thought").locator("summary")
        await expect(line).to_have_text("ThinkingThen that.")
        await line.click()
        await expect(reader.part("thought").locator("p")).to_have_text("First this.\nThen that.")
        thought.write(" And so on.")
        await author.stream.partials.next_telling()
        await expect(reader.part("thought").locator("p")).to_contain_text("And so on.")
        done = asyncio.get_running_loop().create_future()
        event = AgentThinkAction(thought=thought.text)
        thought.finish(event, AGENT, author.stream.submit, done.set_result)
        await done
        await expect(reader.part("written")).to_have_count(0)
        await expect(line).to_have_text("ThoughtFirst this.")
        await expect(reader.part("thought").locator("p")).to_contain_text("And so on.")
    assert not await reader.found_fault()
