"""Actions that a person changes before agreeing, and kinds of action that need no agreement any more."""

import re

import pytest
import pytest_asyncio
from playwright.async_api import expect

from events.event import AgentState
from tests.browser.test_looks import SIZES
from tests.browser.test_questions import Asking, at_an_older_question, card
from tests.support.approvals import decision_command
from tests.support.axe import broken_rules
from tests.support.browser import OUTAGE, new_context, person
from tests.support.clients import command
from tests.support.cutting_proxy import cutting
from tests.support.live import live_server
from tests.support.screenshots import picture
from tests.support.seeds import choices
from tests.support.servers import class_path
from tests.support.turn_agents import CarefulByItself

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.asyncio(loop_scope="session"),
]

EXPIRY_SECONDS = 8.0
"""Long enough for a person, or a slow machine, to open the form."""
MANY = [f"w{number}w" for number in range(12)]
"""Their cards fill more than the window."""
CLOSE_AND_OPEN = """
() => {
  document.querySelector("[data-testid=edit-dialog]").close();
  document.querySelector("[data-testid=edit]").click();
}
"""
FOLD = """
async (events) => {
  const { Allowed } = await import("/assets/allowed.js");
  const allowed = new Allowed();
  for (const event of events) allowed.saw(event);
  return allowed.kinds;
}
"""


def state(event_id, *kinds):
    allowed = {"allowed": list(kinds)} if kinds else {}
    return {"id": event_id, "observation": "agent_state_changed", "extras": allowed}


def always(event_id, kind, agent_state):
    args = {"agent_state": agent_state, "always": kind}
    return {"id": event_id, "action": "change_agent_state", "args": args}


LOGS = {
    "nothing": ([], []),
    "a state names them": ([state(1, "run", "edit")], ["edit", "run"]),
    "a decision allows": ([state(1), always(2, "run", AgentState.USER_CONFIRMED)], ["run"]),
    "and the next state says so": (
        [always(2, "run", AgentState.USER_CONFIRMED), state(3, "run")],
        ["run"],
    ),
    "one that is revoked": (
        [state(1, "run"), always(2, "run", AgentState.AWAITING_USER_CONFIRMATION)],
        [],
    ),
    "a later state without it": (
        [state(1, "run"), always(2, "run", AgentState.AWAITING_USER_CONFIRMATION), state(3)],
        [],
    ),
    "allowed again": (
        [
            state(1, "run"),
            always(2, "run", AgentState.AWAITING_USER_CONFIRMATION),
            always(5, "run", AgentState.USER_CONFIRMED),
        ],
        ["run"],
    ),
}


@pytest.mark.parametrize("shuffled", range(3))
@pytest.mark.parametrize(("events", "kinds"), LOGS.values(), ids=LOGS)
async def test_what_is_allowed_follows_from_the_log_in_whatever_order_it_is_read(
    page, events, kinds, shuffled
):
    read = choices(shuffled).sample(events, len(events))

    assert await page.evaluate(FOLD, read) == kinds


@pytest_asyncio.fixture(loop_scope="session")
async def asking():
    async with live_server(agent_class=class_path(Asking), confirmation_mode=True) as live:
        yield live


async def asked_about(context, url, words="hello"):
    """Begin a conversation in which a person is asked; the reader and its id."""
    reader = await person(context, url)
    conversation_id = await reader.begin()
    await reader.say(words)
    await expect(reader.part("approve").first).to_be_in_viewport()
    return reader, conversation_id


def field(reader, label):
    """The text area of an argument."""
    return reader.part("edit-dialog").get_by_label(label, exact=True)


async def edited(reader, text):
    """Open the form of the only question, and write another command into it."""
    await reader.part("edit").click()
    await field(reader, "Command").fill(text)


async def test_an_action_is_carried_out_as_it_was_changed_on_its_card(context, asking):
    reader, _ = await asked_about(context, asking.url)
    await reader.part("edit").click()
    await expect(field(reader, "Command")).to_have_value("echo hello")
    await field(reader, "Command").fill("echo one\necho two")
    await reader.part("edit-approve").click()
    await expect(reader.part("edit-dialog")).to_be_hidden()
    await expect(reader.part("command-output")).to_have_text("one\ntwo")
    await expect(reader.part("command")).to_have_count(1)
    await expect(reader.part("decision")).to_have_text(
        re.compile("^You approved it, with changes, at ")
    )
    await expect(reader.part("composer")).to_be_focused()
    assert not await reader.found_fault()


async def test_an_action_is_changed_without_a_mouse(context, asking):
    reader, _ = await asked_about(context, asking.url)
    keyboard = reader.page.keyboard
    await keyboard.press("Alt+a")
    await expect(reader.part("reject")).to_be_focused()
    await keyboard.press("Tab")
    await expect(reader.part("edit")).to_be_focused()
    await expect(reader.part("edit")).to_have_accessible_description(re.compile("echo hello"))
    await keyboard.press("Enter")
    dialog = reader.part("edit-dialog")
    await expect(dialog).to_have_accessible_name("Edit before approving")
    await expect(dialog).to_have_accessible_description("May the agent run this command?")
    await expect(field(reader, "Command")).to_be_focused()
    await keyboard.press("ControlOrMeta+a")
    await keyboard.type("echo changed")
    await keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    await expect(reader.part("edit")).to_be_focused()
    await keyboard.press("Enter")
    await expect(field(reader, "Command")).to_have_value("echo changed")
    await field(reader, "Command").press("Enter")
    await expect(dialog).to_be_visible()
    await reader.part("edit-approve").press("Enter")
    await expect(reader.part("command-output")).to_have_text("changed")
    await expect(reader.part("composer")).to_be_focused()
    assert not await reader.found_fault()


async def test_a_form_that_is_opened_right_after_it_was_closed_has_its_text(context, asking):
    reader, _ = await asked_about(context, asking.url)
    await edited(reader, "echo changed")
    await reader.page.evaluate(CLOSE_AND_OPEN)
    await expect(field(reader, "Command")).to_have_value("echo changed")
    await reader.part("edit-approve").click()
    await expect(reader.part("command-output")).to_have_text("changed")
    assert not await reader.found_fault()


async def test_an_edit_that_is_refused_keeps_its_text_and_says_why(context, asking):
    reader, _ = await asked_about(context, asking.url)
    outcome = reader.part("edit-outcome")
    await reader.part("edit").click()
    await reader.part("edit-approve").click()
    await expect(outcome).to_contain_text("Nothing is changed yet.")
    await field(reader, "Command").fill("echo <secret_hidden>")
    await reader.part("edit-approve").click()
    await expect(outcome).to_contain_text("`command` has a mask in the place of a secret")
    await expect(field(reader, "Command")).to_have_value("echo <secret_hidden>")
    await field(reader, "Command").fill("echo changed")
    await reader.page.get_by_text("Other arguments").first.click()
    other = field(reader, "Other arguments")
    await other.fill('{"blocking": maybe}')
    await reader.part("edit-approve").click()
    await expect(outcome).to_contain_text("“Other arguments” cannot be read as JSON")
    await expect(other).to_be_focused()
    await expect(other).to_have_attribute("aria-invalid", "true")
    await other.fill('{"blocking": "maybe"}')
    await reader.part("edit-approve").click()
    await expect(outcome).to_contain_text("Not accepted: ")
    await expect(outcome).to_contain_text("`blocking`")
    await expect(other).to_have_value('{"blocking": "maybe"}')
    await expect(reader.part("question")).to_have_count(1)
    await other.fill('{"blocking": true}')
    await reader.part("edit-approve").click()
    await expect(reader.part("command-output")).to_have_text("changed")
    assert not await reader.found_fault()


async def test_whoever_edits_learns_that_it_was_decided_elsewhere_and_keeps_the_text(
    context, asking
):
    reader, conversation_id = await asked_about(context, asking.url)
    await edited(reader, "echo changed")
    async with asking.joined(conversation_id) as other:
        of = await reader.part("question").get_attribute("data-question")
        assert (await other.send(decision_command(int(of))))["status"] == "ok"
    said = re.compile(r"Approved elsewhere at \d")
    await expect(reader.part("edit-outcome")).to_have_text(said)
    await expect(reader.part("edit-outcome")).to_contain_text("Your changes were not carried out.")
    await expect(field(reader, "Command")).to_have_value("echo changed")
    await expect(field(reader, "Command")).not_to_be_editable()
    await expect(reader.part("edit-approve")).to_be_hidden()
    await reader.page.keyboard.press("Escape")
    await expect(reader.part("decision")).to_have_text(said)
    await expect(reader.part("command-output")).to_have_text("hello")
    await expect(reader.part("composer")).to_be_focused()
    assert not await reader.found_fault()


async def test_whoever_edits_learns_that_the_agent_does_not_wait_any_more(context, asking):
    reader, conversation_id = await asked_about(context, asking.url)
    await edited(reader, "echo changed")
    async with asking.joined(conversation_id) as other:
        assert (await other.send(command("stopped")))["status"] == "ok"
    await expect(reader.part("edit-outcome")).to_contain_text("does not wait for this any more")
    await expect(field(reader, "Command")).to_have_value("echo changed")
    assert not await reader.found_fault()


async def test_a_question_that_expires_while_it_is_edited_is_asked_again_there(context):
    async with live_server(
        agent_class=class_path(Asking), confirmation_mode=True, approval_seconds=EXPIRY_SECONDS
    ) as live:
        reader, _ = await asked_about(context, live.url)
        await edited(reader, "echo changed")
        await expect(reader.part("edit-dialog")).to_contain_text("The time to answer is over.")
        await expect(reader.part("edit-approve")).to_be_hidden()
        await expect(field(reader, "Command")).to_have_value("echo changed")
        await reader.part("edit-renew").click()
        await expect(reader.part("edit-renew")).to_be_hidden()
        await reader.part("edit-approve").click()
        await expect(reader.part("command-output")).to_have_text("changed")
        assert not await reader.found_fault()


async def test_a_lost_connection_takes_no_text_from_who_edits(context, asking):
    async with cutting(asking.server.port, choices(1), 0) as proxy:
        reader, _ = await asked_about(context, proxy.url)
        await edited(reader, "echo changed")
        await context.set_offline(True)
        proxy.cut()
        await expect(reader.part("edit-outcome")).to_contain_text("The connection is lost.")
        await expect(reader.part("edit-approve")).to_be_disabled()
        await context.set_offline(False)
        await expect(reader.part("edit-outcome")).to_have_text("")
        await reader.part("edit-approve").click()
        await expect(reader.part("command-output")).to_have_text("changed")
        assert not await reader.found_fault(f"{OUTAGE}|ERR_INTERNET_DISCONNECTED")


async def test_an_action_that_is_not_loaded_is_changed_from_the_bar(context):
    async with at_an_older_question(context) as reader:
        await reader.part("bar-edit").click()
        await expect(field(reader, "Command")).to_have_value("echo at last")
        await field(reader, "Command").fill("echo changed")
        await reader.part("edit-approve").click()
        await expect(reader.part("command-output")).to_have_text("changed")
        await expect(reader.part("confirmation")).to_be_hidden()
        await expect(reader.part("composer")).to_be_focused()
        assert not await reader.found_fault()


async def test_what_the_agent_carries_out_itself_is_not_offered_to_be_edited(context):
    async with live_server(agent_class=class_path(CarefulByItself), confirmation_mode=True) as live:
        reader, _ = await asked_about(context, live.url)
        await expect(reader.part("edit")).to_have_count(0)
        await reader.part("approve").click()
        await expect(reader.messages_of("agent").last).to_contain_text("Did echo hello")
        assert not await reader.found_fault()


async def test_hidden_characters_of_an_argument_are_spelled_out_beside_it(context, asking):
    reader, _ = await asked_about(context, asking.url, "rm\u202e")
    await reader.part("edit").click()
    await expect(reader.part("edit-hidden")).to_contain_text("echo rm⟨U+202E⟩")
    await field(reader, "Command").fill("echo rm")
    await expect(reader.part("edit-hidden")).to_be_hidden()
    assert not await reader.found_fault()


async def test_a_kind_of_action_that_is_allowed_is_asked_about_again_once_that_is_revoked(
    context, asking
):
    reader, _ = await asked_about(context, asking.url)
    await expect(reader.part("allowed")).to_be_hidden()
    await expect(reader.part("always")).to_have_accessible_name(
        "Always run commands here, whatever the risk"
    )
    await reader.part("always").check()
    await reader.part("approve").click()
    await expect(reader.part("command-output")).to_have_text("hello")
    await expect(reader.part("decision")).to_have_text(
        re.compile("^You approved it at .*, and let the agent run commands from then on$")
    )
    said = "The agent may run commands without asking"
    await expect(reader.part("allowed")).to_contain_text(said)
    await reader.ask("again", "again")
    await expect(reader.part("question")).to_have_count(0)
    await reader.page.reload()
    await expect(reader.part("allowed")).to_contain_text(said)
    await reader.part("revoke").focus()
    await expect(reader.part("revoke")).to_have_accessible_description(said)
    await reader.page.keyboard.press("Enter")
    await expect(reader.part("allowed")).to_be_hidden()
    await expect(reader.part("composer")).to_be_focused()
    await expect(reader.page.locator("#announcer")).to_have_text(
        "The agent asks again before it may run commands."
    )
    await reader.say("once more")
    await expect(reader.part("question")).to_have_count(2)
    assert not await reader.found_fault()


async def test_the_box_that_allows_a_kind_is_the_same_in_the_bar_and_in_the_form(context, asking):
    reader = await person(context, asking.url)
    await reader.begin()
    await reader.say(" ".join(MANY))
    await expect(reader.part("question")).to_have_count(len(MANY))
    await expect(reader.part("confirmation")).to_be_visible()
    await reader.part("bar-always").check()
    first, second = card(reader, MANY[0]), card(reader, MANY[1])
    await reader.part("bar-show").click()
    await expect(first.get_by_test_id("always")).to_be_checked()
    await first.get_by_test_id("edit").click()
    await expect(reader.part("edit-always")).to_be_checked()
    await reader.part("edit-always").press("Enter")
    await expect(reader.part("edit-always")).not_to_be_checked()
    await reader.page.keyboard.press("Escape")
    await expect(first.get_by_test_id("always")).not_to_be_checked()
    await first.get_by_test_id("always").press("Enter")
    await expect(first.get_by_test_id("always")).to_be_checked()
    await expect(reader.part("question")).to_have_count(len(MANY))
    await expect(second.get_by_test_id("always")).not_to_be_checked()
    assert not await reader.found_fault()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_an_edit_fits_and_breaks_no_rule(browser, asking, scheme):
    context = await new_context(browser, color_scheme=scheme)
    reader, conversation_id = await asked_about(context, asking.url, "y" * 300)
    question = reader.part("question")
    of = await question.get_attribute("data-question")
    await question.get_by_test_id("always").check()
    await question.get_by_test_id("edit").click()
    await reader.page.get_by_text("Other arguments").first.click()
    await field(reader, "Other arguments").fill("[]")
    await reader.part("edit-approve").click()
    await expect(reader.part("edit-outcome")).to_contain_text("braces")
    await inspected(reader, f"edit-{scheme}")
    async with asking.joined(conversation_id) as other:
        await other.send(decision_command(int(of), always="run"))
    await expect(reader.part("edit-outcome")).to_contain_text("Approved elsewhere")
    await inspected(reader, f"edit-decided-{scheme}")
    await reader.page.keyboard.press("Escape")
    await expect(reader.part("allowed")).to_be_visible()
    await inspected(reader, f"allowed-{scheme}")
    assert not await reader.found_fault()
    await context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_question_that_expires_and_is_asked_again_fits_and_breaks_no_rule(browser, scheme):
    context = await new_context(browser, color_scheme=scheme)
    async with live_server(
        agent_class=class_path(Asking), confirmation_mode=True, approval_seconds=0.5
    ) as live:
        reader = await person(context, live.url)
        await reader.begin()
        await reader.say(" ".join(MANY))
        await expect(reader.part("renew")).to_have_count(len(MANY))
        await expect(reader.part("question").last).to_contain_text("It was not refused.")
        await expect(card(reader, MANY[-1])).to_contain_text("expired")
        await expect(reader.part("bar-renew")).to_be_visible()
        await inspected(reader, f"expired-{scheme}")
        assert not await reader.found_fault()
    await context.close()


async def inspected(reader, name):
    """Judge what is shown, at both sizes."""
    for size in SIZES.values():
        await reader.page.set_viewport_size(size)
        await picture(reader, f"{name}-{size['width']}")
        assert await broken_rules(reader.page) == {}
        assert await reader.fits()
