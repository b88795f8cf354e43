"""Actions that wait for a person: on their cards, in the bar and in the list, from several tabs."""

import asyncio
import re
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio
from playwright.async_api import expect

from events.actions import CmdRunAction
from runtime_stub.agent import Agent
from tests.browser.test_looks import SIZES
from tests.browser.test_streaming import MOST_SHIFT, NOTE_SHIFTS
from tests.support.axe import broken_rules
from tests.support.browser import new_context, person
from tests.support.live import live_server
from tests.support.remote import CONVERSATIONS, remote
from tests.support.screenshots import picture
from tests.support.servers import class_path
from tests.support.turn_agents import asked

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.asyncio(loop_scope="session"),
]

AT_ONCE = 120
"""More than a page has events."""


class Asking(Agent):
    """Has every word of a message echoed by a command, all at once, and says what came of it."""

    async def run(self, turn):
        """See Agent."""
        wanted = [turn.act(CmdRunAction(command=f"echo {word}")) for word in asked(turn).split()]
        found = await asyncio.gather(*wanted)
        async with turn.say() as answer:
            answer.write(" ".join(one.content.strip() for one in found))


class Talking(Agent):
    """Talks on while a command waits for a person."""

    async def run(self, turn):
        """See Agent."""
        await asyncio.gather(turn.act(CmdRunAction(command="echo at last")), self._talk(turn))

    async def _talk(self, turn):
        for number in range(AT_ONCE):
            async with turn.say() as answer:
                answer.write(f"Line {number}")


@pytest_asyncio.fixture(loop_scope="session")
async def scripted():
    async with live_server(confirmation_mode=True) as live:
        yield live


@pytest_asyncio.fixture(loop_scope="session")
async def asking():
    async with live_server(agent_class=class_path(Asking), confirmation_mode=True) as live:
        yield live


def card(reader, text):
    """The card of an action."""
    return reader.part("command").filter(has_text=text)


async def scrolled_up(reader):
    """Go to the top of the transcript."""
    await reader.page.locator("#transcript").evaluate("(box) => { box.scrollTop = 0; }")


async def scrolled_down(reader):
    """Go to the end of the transcript, and follow it."""
    await reader.page.locator("#transcript").evaluate(
        "(box) => { box.scrollTop = box.scrollHeight; }"
    )


async def at_a_question(reader):
    """Begin a conversation that fills the window, in which a command waits at the end."""
    conversation_id = await reader.begin()
    await reader.ask("/slow 20 1", "Message 20 of 20")
    await reader.say("/confirm rm -r build\nlast word")
    await expect(reader.part("approve")).to_be_in_viewport()
    return conversation_id


async def test_a_question_stands_where_the_action_stands_and_says_what_will_run(context, scripted):
    reader = await person(context, scripted.url)
    await reader.begin()
    await reader.say("/confirm rm -r build\nlast word")
    question = card(reader, "rm -r build").get_by_test_id("question")
    await expect(question).to_contain_text("May the agent run this command? High risk")
    await expect(reader.part("confirmation")).to_be_hidden()
    await question.get_by_test_id("approve").click()
    await expect(question).to_have_count(0)
    await expect(reader.part("decision")).to_have_text(re.compile("^You approved it at "))
    await expect(reader.messages_of("agent").last).to_contain_text("last word")
    assert not await reader.found_fault()


async def test_the_agent_reads_the_reason_with_which_an_action_is_rejected(context, asking):
    reader = await person(context, asking.url)
    await reader.begin()
    await reader.say("hello")
    await reader.part("reason").fill("not on a Friday")
    await reader.part("reason").press("Enter")
    await expect(card(reader, "echo hello")).to_contain_text("rejected")
    await expect(reader.part("decision")).to_have_text(re.compile("^You rejected it at "))
    await expect(reader.messages_of("agent").last).to_contain_text("not on a Friday")
    assert not await reader.found_fault()


async def test_a_bar_asks_only_while_the_card_is_out_of_sight(context, scripted):
    reader = await person(context, scripted.url)
    await at_a_question(reader)
    bar = reader.part("confirmation")
    await expect(bar).to_be_hidden()
    await scrolled_up(reader)
    await expect(bar).to_contain_text("May the agent run this command? High risk")
    await expect(bar).to_contain_text("rm -r build")
    await reader.part("bar-show").click()
    await expect(bar).to_be_hidden()
    await expect(reader.part("reject")).to_be_focused()
    await reader.page.keyboard.press("Escape")
    await expect(reader.part("composer")).to_be_focused()
    await scrolled_up(reader)
    await reader.part("bar-approve").click()
    await expect(bar).to_be_hidden()
    await expect(reader.part("question")).to_have_count(0)
    assert not await reader.found_fault()


async def test_nothing_jumps_when_a_question_comes_or_is_answered_or_the_bar_asks(
    context, scripted
):
    reader = await person(context, scripted.url)
    await reader.begin()
    await reader.ask("/slow 20 1", "Message 20 of 20")
    await reader.page.evaluate(NOTE_SHIFTS)
    await reader.say("/confirm rm -r build\nlast word")
    await expect(reader.part("approve")).to_be_in_viewport()
    await reader.part("approve").click()
    await expect(reader.messages_of("agent").last).to_contain_text("last word")
    assert await reader.page.evaluate("window.shifted") < MOST_SHIFT
    await reader.say("/confirm rm -r build\nlast word")
    await expect(reader.part("approve")).to_be_in_viewport()
    await reader.page.evaluate("window.shifted = 0")
    await scrolled_up(reader)
    await expect(reader.part("confirmation")).to_be_visible()
    assert await reader.page.evaluate("window.shifted") < MOST_SHIFT
    assert not await reader.found_fault()


async def test_a_question_is_heard_and_answered_without_a_mouse(context, scripted):
    reader = await person(context, scripted.url)
    await at_a_question(reader)
    announcer = reader.page.locator("#announcer")
    await expect(announcer).to_have_text(
        "May the agent run this command? rm -r build. High risk. Alt A leads to the answer."
    )
    await expect(reader.part("composer")).to_be_focused()
    await reader.page.keyboard.press("Alt+a")
    await expect(reader.part("reject")).to_be_focused()
    await expect(reader.part("reject")).to_have_accessible_description(
        re.compile("run this command.*High risk.*rm -r build")
    )
    await reader.page.keyboard.press("Escape")
    await expect(reader.part("composer")).to_be_focused()
    await scrolled_up(reader)
    await expect(reader.part("confirmation")).to_be_visible()
    await reader.page.keyboard.press("Alt+a")
    await expect(reader.part("bar-reject")).to_be_focused()
    await expect(reader.part("bar-reject")).to_have_accessible_description(
        re.compile("run this command.*High risk.*rm -r build")
    )
    await reader.page.keyboard.press("Enter")
    await expect(reader.part("confirmation")).to_be_hidden()
    await expect(reader.part("composer")).to_be_focused()
    await expect(card(reader, "rm -r build")).to_contain_text("rejected")
    assert not await reader.found_fault()


async def test_a_question_that_was_answered_elsewhere_says_so(context, scripted):
    reader = await person(context, scripted.url)
    conversation_id = await reader.begin()
    # The tab behind is slow to click in.
    other = await person(context, scripted.url)
    await other.visit(f"/conversations/{conversation_id}")
    await other.sees_state("Ready")
    await reader.say("/run echo one\nlast word")
    await other.part("reason").fill("I was about to say no")
    await reader.part("approve").click()
    await expect(other.part("question")).to_have_count(0)
    await expect(other.part("composer")).to_be_focused()
    said = re.compile(r"^Approved elsewhere at \d.*")
    await expect(other.part("decided")).to_have_text(said)
    await expect(other.part("decision")).to_have_text(said)
    await expect(reader.part("decision")).to_have_text(re.compile("^You approved it at "))
    await expect(reader.part("decided")).to_have_text("")
    await other.ask("thanks", "You said: thanks")
    await expect(other.part("decided")).to_have_text("")
    assert not [*await reader.found_fault(), *await other.found_fault()]


async def test_each_of_several_questions_is_answered_for_itself(context, asking):
    reader = await person(context, asking.url)
    await reader.begin()
    await reader.say("one two three")
    await expect(reader.part("question")).to_have_count(3)
    await card(reader, "echo two").get_by_test_id("reject").click()
    await expect(reader.part("question")).to_have_count(2)
    await reader.page.reload()
    await expect(reader.part("question")).to_have_count(2)
    await card(reader, "echo three").get_by_test_id("approve").click()
    await card(reader, "echo one").get_by_test_id("approve").click()
    await expect(reader.messages_of("agent").last).to_have_text(re.compile("one.*rejected.*three"))
    await expect(reader.part("command")).to_have_count(3)
    assert not await reader.found_fault()


async def test_an_action_that_was_changed_stands_in_the_place_of_the_one_that_asked(
    context, asking
):
    reader = await person(context, asking.url)
    conversation_id = await reader.begin()
    await reader.say("hello")
    question = await reader.part("question").get_attribute("data-question")
    async with remote(asking.url) as api:
        answer = await api.client.post(
            f"{CONVERSATIONS}/{conversation_id}/approvals/{question}",
            json={"decision": "edit", "args": {"command": "echo changed"}},
        )
    assert answer.is_success, answer.text
    await expect(reader.part("command-output")).to_have_text("changed")
    await expect(reader.part("command")).to_have_count(1)
    await expect(reader.part("decision")).to_contain_text("Approved elsewhere, with changes, at")
    assert not await reader.found_fault()


async def test_a_file_that_is_to_be_read_is_asked_about_on_its_card(context, scripted):
    reader = await person(context, scripted.url)
    await reader.begin()
    await reader.say("/read notes.txt")
    question = reader.part("file").get_by_test_id("question")
    await expect(question).to_contain_text("May the agent read this file?")
    await question.get_by_test_id("reject").click()
    await expect(reader.part("file")).to_contain_text("rejected")
    await reader.sees_state("Ready")
    await reader.page.reload()
    await expect(reader.part("file")).to_contain_text("rejected")
    await expect(reader.part("question")).to_have_count(0)
    assert not await reader.found_fault()


@asynccontextmanager
async def at_an_older_question(context):
    """A reader of a page that has not loaded the question that waits."""
    async with live_server(agent_class=class_path(Talking), confirmation_mode=True) as live:
        reader = await person(context, live.url)
        await reader.begin()
        await reader.say("talk")
        await expect(reader.messages_of("agent").last).to_contain_text(f"Line {AT_ONCE - 1}")
        await reader.page.reload()
        await expect(reader.messages_of("agent").last).to_contain_text(f"Line {AT_ONCE - 1}")
        yield reader


async def test_a_question_that_is_not_loaded_is_asked_in_the_bar(context):
    async with at_an_older_question(context) as reader:
        await expect(reader.part("confirmation")).to_contain_text("echo at last")
        await expect(reader.part("bar-show")).to_be_hidden()
        await reader.part("bar-approve").click()
        await expect(reader.part("command-output")).to_have_text("at last")
        await expect(reader.part("confirmation")).to_be_hidden()
        await scrolled_up(reader)
        await expect(reader.messages_of("user")).to_have_count(1)
        await expect(reader.part("command")).to_have_count(1)
        assert not await reader.found_fault()


async def test_a_question_that_has_expired_can_be_asked_again(context):
    async with live_server(confirmation_mode=True, approval_seconds=8.0) as live:
        reader = await person(context, live.url)
        await at_a_question(reader)
        await expect(reader.part("question")).to_contain_text("The time to answer is over.")
        await expect(reader.part("approve")).to_have_count(0)
        await scrolled_up(reader)
        await expect(reader.part("confirmation")).to_contain_text("The time to answer is over.")
        await expect(reader.part("bar-approve")).to_be_hidden()
        await reader.part("bar-renew").click()
        await expect(reader.part("bar-approve")).to_be_visible()
        await expect(reader.part("bar-renew")).to_be_hidden()
        await expect(reader.part("approve")).to_have_count(1)
        assert not await reader.found_fault()


async def test_the_list_says_which_conversation_needs_the_user(context, scripted):
    reader = await person(context, scripted.url)
    conversation_id = await at_a_question(reader)
    row = reader.item(conversation_id)
    await expect(row).to_contain_text("Needs you")
    elsewhere = await person(context, scripted.url)
    await elsewhere.visit()
    await expect(elsewhere.item(conversation_id)).to_contain_text("Needs you")
    await reader.part("approve").click()
    await reader.sees_state("Ready")
    await expect(row).not_to_contain_text("Needs you")
    await elsewhere.look_again()
    await expect(elsewhere.item(conversation_id)).not_to_contain_text("Needs you")
    assert not [*await reader.found_fault(), *await elsewhere.found_fault()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_question_fits_and_breaks_no_rule(browser, scripted, scheme):
    context = await new_context(browser, color_scheme=scheme)
    reader = await person(context, scripted.url)
    await at_a_question(reader)
    for size in SIZES.values():
        await reader.page.set_viewport_size(size)
        await expect(reader.part("approve")).to_be_in_viewport()
        await picture(reader, f"approval-{size['width']}-{scheme}")
        assert await broken_rules(reader.page) == {}
        assert await reader.fits()
        await scrolled_up(reader)
        await expect(reader.part("confirmation")).to_be_visible()
        await picture(reader, f"approval-bar-{size['width']}-{scheme}")
        assert await broken_rules(reader.page) == {}
        assert await reader.fits()
        await scrolled_down(reader)
        await expect(reader.part("confirmation")).to_be_hidden()
    assert not await reader.found_fault()
    await context.close()
