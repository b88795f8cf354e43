"""From the settings dialog to the first words of a model: entered, tried, saved, talked to."""

import pytest
from playwright.async_api import expect

from tests.support.asking import MODELS
from tests.support.browser import new_context, person
from tests.support.model_endpoint import model_endpoint, plain, refused
from tests.support.screenshots import picture
from tests.support.servers import server_process

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.asyncio(loop_scope="session"),
]

KEY = "sk-planted-in-the-page-7f3a91"


@pytest.mark.parametrize("provider", MODELS)
async def test_a_model_is_entered_tried_saved_and_talked_to(context, tmp_path, provider):
    chosen = MODELS[provider]
    name = chosen.rpartition(":")[2]
    async with (
        model_endpoint() as model,
        server_process(tmp_path / "data", "--agent", "llm") as server,
    ):
        reader = await person(context, server.url)
        await reader.visit()
        await reader.part("open-settings").click()
        await reader.part("setting-llm_model").fill(chosen)
        await reader.part("setting-llm_base_url").fill(model.url_of(provider))
        await reader.part("setting-llm_api_key").fill(KEY)
        outcome = reader.part("model-trial-outcome")

        model.say(refused(401))
        await reader.part("model-trial").click()
        words = f"The provider of {name} did not accept the API key."
        await expect(outcome).to_have_text(f"The key was not accepted. {words}")
        await expect(outcome).to_have_attribute("data-bad", "true")
        model.say(plain("OK"))
        await reader.part("model-trial").click()
        await expect(outcome).to_contain_text(f"{name} answered after")
        assert await reader.part("setting-llm_model").input_value() == chosen
        before = await reader.page.request.get(f"{server.url}/api/settings")
        assert (await before.json())["llm_model"] == ""

        await reader.part("settings-save").click()
        await expect(reader.part("settings-outcome")).to_have_text("Saved.")
        await reader.part("settings-dialog-close").click()
        model.say(plain("Good morning to you."))
        await reader.begin()
        await reader.ask("Hello", "Good morning to you.")
        assert not await reader.found_fault()

    assert len(model.requests) == 3
    assert all(KEY in str(one.headers) and KEY not in one.path for one in model.requests)


TRIALS = {
    "key": (refused(401), "Der Schlüssel wurde nicht angenommen.", "did not accept the API key."),
    "busy": (refused(429), "Das Modell ist überlastet.", "is too busy."),
    "failed": (refused(404), "Das Modell hat nicht brauchbar geantwortet.", "its address is wrong"),
    "works": (plain("OK"), "Das Modell hat geantwortet.", "gpt-x answered after"),
}


async def test_the_outcome_of_a_trial_is_in_the_language_of_the_page(browser, tmp_path):
    """The server's own words follow, marked as English."""
    async with (
        model_endpoint() as model,
        server_process(tmp_path / "data", "--agent", "llm") as server,
    ):
        context = await new_context(browser, locale="de-DE")
        reader = await person(context, server.url)
        await reader.visit()
        await reader.part("open-settings").click()
        outcome = reader.part("model-trial-outcome")
        await reader.part("model-trial").click()
        await expect(outcome).to_contain_text("Es funktioniert nicht.")
        await reader.part("setting-llm_model").fill("gpt-x")
        await reader.part("setting-llm_base_url").fill(model.url_of("openai"))
        await reader.part("setting-llm_api_key").fill(KEY)
        for name, (answer, said, words) in TRIALS.items():
            model.say(answer)
            await reader.part("model-trial").click()
            await expect(outcome).to_contain_text(said)
            await expect(outcome.locator("[lang=en]")).to_contain_text(words)
            await expect(outcome).to_have_attribute("data-bad", str(name != "works").lower())
        await picture(reader, "trial-german-1280-light")
        assert not await reader.found_fault()
        await context.close()
