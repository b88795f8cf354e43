"""The agent's work as the transcript shows it: commands, files, tasks, cost."""

import re
from itertools import pairwise

import pytest
from playwright.async_api import expect

from tests.browser.test_looks import SIZES
from tests.support.browser import new_context, person
from tests.support.frames import drawn, scroll
from tests.support.gallery import TEST_OUTPUT
from tests.support.screenshots import picture
from tests.support.servers import server_process
from tests.support.written_logs import at_rest, came, did, ran, said, write_log

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.asyncio(loop_scope="session"),
]


async def card(visitor, name, text):
    await visitor.visit("/conversations/gallery")
    found = visitor.part(name).filter(has_text=text)
    await expect(found).to_have_count(1)
    return found


async def test_a_long_output_shows_both_ends_and_all_of_it_on_demand(visitor):
    command = await card(visitor, "command", "pytest -q")

    await expect(command).to_contain_text("exit 1")
    await expect(command).to_contain_text("test_000.py")
    await expect(command).to_contain_text("1 failed")
    await expect(command).not_to_contain_text("test_030.py")
    button = command.get_by_role("button", name="Show all 64 lines")
    await button.click()
    await expect(command).to_contain_text("test_030.py")
    await command.get_by_role("button", name="Show less").click()
    await expect(command).not_to_contain_text("test_030.py")
    assert "\x1b" not in await command.inner_text()
    await expect(command.locator(".ansi-red").first).to_have_text("FAILED")


async def test_an_output_is_copied_whole_and_without_colours(context, visitor):
    await context.grant_permissions(["clipboard-read", "clipboard-write"])
    command = await card(visitor, "command", "pytest -q")

    await command.get_by_test_id("copy-output").click()

    await expect(command.get_by_test_id("copy-output")).to_have_attribute("data-outcome", "done")
    copied = await visitor.page.evaluate("navigator.clipboard.readText()")
    assert copied.count("PASSED") == TEST_OUTPUT.count("PASSED")
    assert "\x1b" not in copied


async def test_a_command_without_output_says_so(visitor):
    command = await card(visitor, "command", "true")

    await expect(command.get_by_test_id("command-output")).to_have_text("no output")


async def test_a_command_spells_out_what_hides_in_it(reader):
    await reader.begin()

    await reader.ask("/run echo \u202etxt.sh\u200b\nsee", "see")

    await expect(reader.part("command")).to_contain_text("echo ⟨U+202E⟩txt.sh⟨U+200B⟩")


async def test_an_edit_is_a_diff_of_its_two_texts(visitor):
    edit = await card(visitor, "file", "lock.py+5")

    rows = edit.get_by_test_id("diff").locator("tr")
    signs = await rows.evaluate_all("(rows) => rows.map((row) => row.dataset.sign)")
    assert signs.count("added") == 5
    assert signs.count("removed") == 3
    await expect(edit.locator("del")).to_have_text(
        ["    download(path)", "    release(path)", "RETRIES = 3"]
    )
    await expect(edit.get_by_label("5 lines added, 3 removed")).to_be_visible()


async def test_an_edit_with_a_diff_shows_that_diff(visitor):
    edit = await card(visitor, "file", "retry.py")

    await expect(edit.locator("ins")).to_have_text("        except DownloadFailed:")
    await expect(edit.locator("tr").first).to_contain_text("def again(call):")
    await expect(edit.locator("tr[data-sign=added] td").nth(1)).to_have_text("15")


async def test_a_file_that_is_written_is_shown_as_added_lines(reader):
    await reader.begin()

    await reader.ask("/write plan.md First, listen.\n/edit plan.md listen => ask\nsee", "see")

    written, edited = reader.part("file").nth(0), reader.part("file").nth(1)
    await expect(written.locator("ins")).to_have_text("First, listen.")
    await expect(edited.locator("del")).to_have_text("First, listen.")
    await expect(edited.locator("ins")).to_have_text("First, ask.")
    assert not await reader.found_fault()


async def test_what_was_read_stays_folded_until_somebody_asks(visitor):
    read = await card(visitor, "file", "Read")

    await expect(read).to_contain_text("10 lines")
    await expect(read.get_by_test_id("file-output")).to_have_count(0)
    await read.get_by_text("Show the text").click()
    await expect(read.get_by_test_id("file-output")).to_contain_text("RETRIES = 3")


async def test_a_task_list_tells_the_state_of_each_task(visitor):
    tasks = await card(visitor, "tasks", "1 of 3 done")

    await expect(tasks.get_by_role("listitem")).to_have_count(3)
    states = tasks.get_by_role("img")
    names = await states.evaluate_all(
        "(marks) => marks.map((mark) => mark.getAttribute('aria-label'))"
    )
    assert names == ["done", "in progress", "to do"]


async def test_what_a_turn_has_cost_is_shown_where_the_pointer_is(reader):
    await reader.begin()
    await reader.ask("/cost 0.01\nfirst", "first")
    await reader.ask("/cost 0.02\nsecond\n/run echo third\nfourth", "fourth")
    turns = reader.page.locator("[data-turn]")

    await reader.messages_of("agent").last.hover()
    await expect(turns.last.get_by_test_id("turn-cost")).to_have_text(re.compile(r"^\$0\.0200"))
    await expect(turns.last.get_by_test_id("turn-cost")).to_be_visible()
    await reader.messages_of("agent").first.hover()
    await expect(turns.first.get_by_test_id("turn-cost")).to_have_text(re.compile(r"^\$0\.0100"))
    await expect(turns.last.get_by_test_id("turn-cost")).to_be_hidden()
    assert not await reader.found_fault()


async def test_thoughts_failures_and_the_end_are_told_apart(visitor):
    await visitor.visit("/conversations/gallery")

    await expect(visitor.part("thought").first).to_contain_text("The third retry is the first one")
    await expect(visitor.part("step").filter(has_text="example.org/build")).to_contain_text(
        "failed"
    )
    await expect(visitor.page.locator("[data-kind=error]")).to_contain_text(
        "did not answer in time"
    )
    await expect(visitor.page.locator("[data-kind=finish]")).to_contain_text(
        "The build is green again."
    )


async def test_what_the_agent_thinks_is_one_line_until_somebody_asks(visitor):
    await visitor.visit("/conversations/gallery")
    thought = visitor.part("thought").first
    summary = thought.locator("summary")

    await expect(summary).to_have_text(
        "ThoughtThe third retry is the first one after the lock's time is up."
    )
    await expect(thought.locator("p")).to_have_count(0)
    await summary.click()
    await expect(thought.locator("p")).to_have_text(
        "The third retry is the first one after the lock's time is up."
    )
    await summary.click()
    await expect(thought.locator("p")).to_be_hidden()


async def test_a_card_says_how_long_it_took(visitor):
    command = await card(visitor, "command", "pytest -q")

    await expect(command.locator(".card__verdict")).to_have_text("exit 1 · 1 s")


async def test_an_action_that_is_carried_out_turns_and_counts_its_seconds(reader):
    await reader.begin()
    await reader.say("/run sleep 6; echo over")
    command = reader.part("command")

    await expect(command.locator(".spinner")).to_be_visible()
    await expect(command.get_by_test_id("elapsed")).to_have_text(re.compile(r"^ \d+ s$"))
    await expect(command.get_by_test_id("command-output")).to_have_text("over")
    await expect(command.locator(".card__verdict")).to_have_text(re.compile(r"^exit 0 · .*\d s$"))
    await expect(command.locator(".spinner")).to_have_count(0)
    assert not await reader.found_fault()


async def test_what_went_wrong_is_red_and_what_a_command_printed_is_not(visitor):
    failed = await card(visitor, "step", "example.org/build")
    ran = await card(visitor, "command", "pytest -q")

    await expect(failed.get_by_test_id("step-output")).to_have_attribute("data-bad", "true")
    assert await ran.locator("[data-bad]").count() == 0


async def test_cost_and_tokens_stand_in_the_head_and_move_with_the_conversation(reader):
    await reader.begin()
    await expect(reader.part("usage")).to_be_hidden()

    await reader.ask("/cost 0.25", "0.25 USD")
    await expect(reader.part("usage")).to_have_text("$0.25 120 tokens")
    await reader.ask("/cost 0.5", "0.75 USD")
    await expect(reader.part("usage")).to_have_text("$0.75 240 tokens")
    await reader.page.reload()
    await expect(reader.part("usage")).to_have_text("$0.75 240 tokens")

    await reader.part("usage").click()
    await expect(reader.part("usage-panel")).to_contain_text("Tokens received40")
    await reader.page.keyboard.press("Escape")
    await expect(reader.part("usage-panel")).to_be_hidden()
    assert not await reader.found_fault()


def in_parallel(between):
    """Three calls begun together, whose results come in another order, after so many messages."""
    calls = [
        said("user", "Do three things at once."),
        did("run", command="make slow"),
        did("call_tool_mcp", name="files__read_file", arguments={"path": "a.txt"}),
        did("run", command="make broken"),
    ]
    meanwhile = [said("agent", f"line {number}") for number in range(between)]
    results = [
        ran(3, "make broken", "what broken printed", 2),
        ran(1, "make slow", "what slow printed"),
        came("mcp", 2, "what the file says"),
    ]
    log = [*calls, *meanwhile, *results, said("agent", "All three are done.")]
    return [*log, *at_rest(0, len(log))]


@pytest.mark.parametrize("between", [0, 120], ids=["on one page", "on two pages"])
async def test_each_of_several_calls_at_once_gets_its_own_result(context, tmp_path, between):
    await write_log(tmp_path / "data", "many", "At once", in_parallel(between))
    async with server_process(tmp_path / "data") as server:
        reader = await person(context, server.url)
        await reader.visit("/conversations/many")
        await drawn(reader.page)
        if between:
            await scroll(reader.page, 0, 1)
            await expect(reader.part("earlier")).to_be_hidden()
            await drawn(reader.page)
        cards = reader.page.locator(".card")
        await expect(cards).to_have_count(3)
        ids = await cards.evaluate_all(
            "(all) => all.map((one) => Number(one.closest('article').dataset.eventId))"
        )
        assert ids == [1, 2, 3]
        for number, (name, result, outcome) in enumerate(
            (
                ("make slow", "what slow printed", "exit 0"),
                ("files__read_file", "what the file says", "done"),
                ("make broken", "what broken printed", "exit 2"),
            )
        ):
            await expect(cards.nth(number)).to_contain_text(name)
            await expect(cards.nth(number)).to_contain_text(result)
            await expect(cards.nth(number).locator(".card__verdict")).to_contain_text(outcome)
            assert (await cards.nth(number).inner_text()).count("what ") == 1
        assert not await reader.found_fault()


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_calls_at_once_are_seen_one_below_another(browser, tmp_path, scheme, size):
    await write_log(tmp_path / "data", "many", "At once", in_parallel(0))
    async with server_process(tmp_path / "data") as server:
        context = await new_context(browser, viewport=size, color_scheme=scheme)
        reader = await person(context, server.url)
        await reader.visit("/conversations/many")
        await drawn(reader.page)
        boxes = await reader.page.locator(".card").evaluate_all(
            "(all) => all.map((one) => one.getBoundingClientRect()).map(({ top, bottom }) => [top, bottom])"
        )
        assert len(boxes) == 3
        assert all(below[0] >= above[1] for above, below in pairwise(boxes))
        await picture(reader, f"parallel-{size['width']}-{scheme}")
        assert await reader.fits()
        await context.close()
