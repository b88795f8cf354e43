"""The walk of docs/walk.md: from a clone to a model in the page, and to a streaming agent of one's own."""

import re

import pytest
from playwright.async_api import expect

from tests.support.browser import person
from tests.support.model_endpoint import model_endpoint, plain
from tests.support.readme import README, ROOT, block, started

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.asyncio(loop_scope="session"),
]

WALK = (ROOT / "docs" / "walk.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^ *```sh\n(.*?)^ *```$", WALK, re.MULTILINE | re.DOTALL)


def commands():
    """The commands of the walk, but for the clone."""
    clone, *others = [one.strip() for one in COMMANDS]
    assert clone.startswith("git clone ")
    return others


async def test_the_walk_leads_to_a_model_and_to_a_streaming_agent_of_ones_own(context, tmp_path):
    with_a_model, with_an_own_agent = commands()
    for command in (with_a_model, with_an_own_agent):
        assert f"```sh\n{command}\n```" in README
    async with (
        model_endpoint() as model,
        started(with_a_model, tmp_path, PARLEY_PORT="0") as line,
    ):
        reader = await person(context, line.split()[-1])
        await reader.visit()
        await reader.page.keyboard.press("Control+Comma")
        await reader.part("setting-llm_model").fill("qwen3")
        await reader.part("setting-llm_base_url").fill(model.url)
        await reader.part("model-trial").click()
        await expect(reader.part("model-trial-outcome")).to_contain_text("qwen3 answered after")
        await reader.part("settings-save").click()
        await expect(reader.part("settings-outcome")).to_have_text("Saved.")
        await reader.part("settings-dialog-close").click()

        model.hold()
        model.say(plain("Good morning to you."))
        await reader.say("Good morning!")
        model.step()
        await expect(reader.part("written")).to_contain_text("Good")
        assert not model.requests[-1].finished
        model.step(3)
        await expect(reader.messages_of("agent").last).to_contain_text("Good morning to you.")
        assert not await reader.found_fault()

    (tmp_path / "shouting.py").write_text(block("python", "(Agent)"))
    async with started(with_an_own_agent, tmp_path, PARLEY_PORT="0") as line:
        reader = await person(context, line.split()[-1])
        await reader.visit()
        await expect(reader.page.locator("[data-conversation-id]")).to_have_count(1)
        await reader.say("hello there, **stranger**, " * 200)  # takes minutes, if nobody stops it
        await expect(reader.part("written").locator("strong").first).to_have_text("STRANGER")
        await reader.page.keyboard.press("Escape")
        await reader.sees_state("Stopped")
        await expect(reader.messages_of("agent").last).to_contain_text("HELLO THERE, STRANGER")
        assert not await reader.found_fault()
