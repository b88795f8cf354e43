"""Settings, secrets, tokens, and taking a conversation home."""

import json
import zipfile
from pathlib import Path

import httpx
import pytest
from playwright.async_api import expect

from tests.support.browser import new_context, person
from tests.support.servers import server_process
from tests.support.waiting import WAIT_SECONDS

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.asyncio(loop_scope="session"),
]

GONE_BY = {
    *("confirmation_mode", "max_iterations", "max_budget_per_task", "turn_seconds"),
    *("llm_model", "llm_base_url", "llm_api_key"),
    *("language", "git_user_name", "git_user_email", "enable_sound_notifications"),
}
PLANTED = "planted-value-7f3a91"
ALL_TEXT = """
() => document.documentElement.outerHTML
  + [...document.querySelectorAll("input, textarea")].map((one) => one.value).join(" ")
"""


async def test_only_what_was_changed_is_sent_and_a_reload_shows_it(reader):
    await reader.visit()
    await reader.part("open-settings").click()
    await reader.part("setting-max_iterations").fill("77")
    await reader.part("setting-git_user_name").fill("Ada")

    async with reader.page.expect_request(
        lambda request: request.method == "POST" and request.url.endswith("/api/settings")
    ) as sent:
        await reader.part("settings-save").click()
    await expect(reader.part("settings-outcome")).to_have_text("Saved.")

    assert (await sent.value).post_data_json == {"max_iterations": 77, "git_user_name": "Ada"}
    await reader.page.reload()
    await reader.part("open-settings").click()
    await expect(reader.part("setting-max_iterations")).to_have_value("77")
    await reader.part("setting-git_user_name").fill("")
    await reader.part("settings-save").click()
    await expect(reader.part("settings-outcome")).to_have_text("Saved.")
    await expect(reader.part("setting-git_user_name")).to_have_value("")
    assert not await reader.found_fault()


async def test_the_dialog_has_the_settings_that_the_server_or_an_agent_goes_by(reader):
    await reader.visit()
    await reader.part("open-settings").click()
    await expect(reader.part("setting-language")).to_be_visible()
    fields = reader.part("settings-dialog").locator("[data-testid^=setting-]")
    shown = await fields.evaluate_all("(all) => all.map((one) => one.id.slice(8))")

    assert set(shown) == GONE_BY


async def test_a_key_is_stored_and_never_shown(reader):
    await reader.visit()
    await reader.part("open-settings").click()
    await reader.part("setting-llm_api_key").fill(PLANTED)
    await reader.part("settings-save").click()

    await expect(reader.part("settings-outcome")).to_have_text("Saved.")
    await expect(reader.part("settings-dialog")).to_contain_text("A key is stored.")
    assert PLANTED not in await reader.page.evaluate(ALL_TEXT)
    assert not await reader.found_fault()


async def test_a_secret_is_added_changed_and_deleted_and_its_value_shown_nowhere(context, tmp_path):
    async with server_process(tmp_path / "data") as server:
        reader = await person(context, server.url)
        await reader.visit()
        await reader.part("open-secrets").click()
        await reader.part("secret-name").fill("HARBOUR")
        await reader.part("secret-value").fill(PLANTED)
        await reader.part("secret-add").click()
        await expect(reader.part("secret")).to_contain_text("HARBOUR")
        assert PLANTED not in await reader.page.evaluate(ALL_TEXT)

        await reader.part("secret-change").click()
        await reader.part("secret-new-name").fill("PORT")
        await reader.part("secret-new-description").fill("<b>where</b> ships go")
        await reader.part("secret-keep").click()
        await expect(reader.part("secret")).to_contain_text("<b>where</b> ships go")
        await expect(reader.part("secret").locator("code")).to_have_text("PORT")
        await reader.part("secrets-dialog-close").click()

        await reader.begin()
        await reader.say("/run echo $PORT")
        await expect(reader.part("command-output")).to_have_text("<secret_hidden>")
        assert PLANTED not in await reader.page.evaluate(ALL_TEXT)
        await reader.part("open-secrets").click()
        await reader.part("secret-delete").click()
        await reader.part("secret-delete-sure").click()
        await expect(reader.part("secret")).to_have_count(0)
        assert not await reader.found_fault()


async def test_tokens_of_git_hosts_are_stored_refused_and_removed(context, tmp_path):
    async with server_process(tmp_path / "data") as server:
        reader = await person(context, server.url)
        await reader.visit()
        await reader.part("open-secrets").click()
        await reader.part("token-value").fill("not one word")
        await reader.part("token-add").click()
        await expect(reader.part("secrets-outcome")).to_contain_text("Invalid token")
        await expect(reader.part("key-form")).to_be_hidden()

        await reader.part("token-value").fill(PLANTED)
        await reader.part("token-host").fill("git.example")
        await reader.part("token-add").click()
        await expect(reader.part("tokens")).to_have_text("Stored for GitHub (git.example).")
        assert PLANTED not in await reader.page.evaluate(ALL_TEXT)
        await reader.part("tokens-unset").click()

        await expect(reader.part("tokens")).to_have_text("No token is stored.")
        assert not await reader.found_fault(excused="401")


async def test_a_conversation_and_its_workspace_are_taken_home(browser, tmp_path):
    keyed = {"SESSION_API_KEY": "open sesame"}
    async with server_process(tmp_path / "data", environment=keyed) as server:
        context = await new_context(browser)
        reader = await person(context, server.url)
        await reader.visit()
        await reader.part("key-input").fill("open sesame")
        await reader.part("key-submit").click()
        await reader.begin()
        await reader.ask("/write note.txt listen\nand talk", "and talk")

        files = []
        for name in ("export-trajectory", "export-workspace"):
            await reader.part("export").click()
            async with reader.page.expect_download() as begun:
                await reader.part(name).click()
            files.append(await begun.value)

        assert files[0].suggested_filename.endswith(".trajectory.json")
        conversation_id = reader.page.url.rsplit("/", 1)[1]
        headers = {"X-Session-API-Key": "open sesame"}
        async with httpx.AsyncClient(
            base_url=server.url, headers=headers, timeout=WAIT_SECONDS
        ) as client:
            path = f"/api/conversations/{conversation_id}/trajectory"
            served = (await client.get(path)).json()
        assert json.loads(Path(await files[0].path()).read_text()) == served
        with zipfile.ZipFile(await files[1].path()) as archive:
            assert archive.read("note.txt").strip() == b"listen"
        assert not await reader.found_fault(excused="401")
        await context.close()
