"""Tool servers in the settings dialog: added, refused, shown without their secrets, removed."""

import httpx
import pytest
from playwright.async_api import expect

from tests.browser.test_looks import SIZES
from tests.support.axe import broken_rules
from tests.support.browser import new_context, person
from tests.support.screenshots import picture
from tests.support.servers import server_process
from tests.support.waiting import WAIT_SECONDS

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.asyncio(loop_scope="session"),
]

ADDRESS = "https://mcp.example.com/mcp"
PLANTED = "planted-value-7f3a91"
HIDDEN = "**********"
ALL_TEXT = """
() => document.documentElement.outerHTML
  + [...document.querySelectorAll("input, textarea")].map((one) => one.value).join(" ")
"""
PROGRAMS = {"PARLEY_MCP_STDIO": "true"}


async def stored(url):
    async with httpx.AsyncClient(base_url=url, timeout=WAIT_SECONDS) as client:
        return (await client.get("/api/settings")).json()["mcp_config"]


async def open_tools(reader):
    await reader.visit()
    if await reader.part("drawer-open").is_visible():
        await reader.part("drawer-open").click()
    await reader.part("open-settings").click()
    await expect(reader.part("tool-kind").locator("option").first).to_be_attached()


async def add(reader, **fields):
    for name, value in fields.items():
        await reader.part(f"tool-{name}").fill(value)
    await reader.part("tool-add").click()


async def test_a_server_is_added_and_removed_and_its_key_shown_nowhere(context, tmp_path):
    async with server_process(tmp_path / "data") as server:
        reader = await person(context, server.url)
        await open_tools(reader)
        await expect(reader.part("tools-none")).to_be_visible()
        await add(reader, url=ADDRESS, key=PLANTED, timeout="90")
        await expect(reader.part("tool-outcome")).to_have_text(f"{ADDRESS} was added.")
        await expect(reader.part("tool")).to_contain_text(ADDRESS)
        await expect(reader.part("tool")).to_contain_text("HTTP · with a key · 90 s per call")
        await expect(reader.part("tool-key")).to_have_value("")
        assert PLANTED not in await reader.page.evaluate(ALL_TEXT)

        # The first one keeps its key, which the page does not know.
        await reader.part("tool-kind").select_option("sse_servers")
        await expect(reader.part("tool-timeout")).to_be_hidden()
        await add(reader, url="http://old.example.com/sse")
        await expect(reader.part("tool")).to_have_count(2)
        assert await stored(server.url) == {
            "shttp_servers": [{"url": ADDRESS, "api_key": HIDDEN, "timeout": 90}],
            "sse_servers": [{"url": "http://old.example.com/sse", "api_key": None}],
            "stdio_servers": [],
        }

        # One of the same address takes its place.
        await reader.part("tool-kind").select_option("shttp_servers")
        await add(reader, url=ADDRESS)
        await expect(reader.part("tool").first).not_to_contain_text("with a key")
        await expect(reader.part("tool")).to_have_count(2)

        await reader.part("tool-remove").first.click()
        await reader.part("tool-remove-sure").first.click()
        await expect(reader.part("tool-outcome")).to_have_text(f"{ADDRESS} was removed.")
        await expect(reader.part("tool")).to_have_count(1)
        await expect(reader.part("tool-kind")).to_be_focused()
        assert (await stored(server.url))["shttp_servers"] == []
        assert not await reader.found_fault()


async def test_an_address_that_the_server_refuses_is_said_and_stays(context, tmp_path):
    async with server_process(tmp_path / "data") as server:
        reader = await person(context, server.url)
        await open_tools(reader)
        await add(reader, url="ftp://files.example.com/", key=PLANTED)
        outcome = reader.part("tool-outcome")
        await expect(outcome).to_contain_text("ftp://files.example.com/ is not an address")
        await expect(outcome).to_have_attribute("data-bad", "true")
        await expect(reader.part("tool-url")).to_have_value("ftp://files.example.com/")
        await expect(reader.part("tool-key")).to_have_value("")
        await expect(reader.part("tool")).to_have_count(0)
        assert await stored(server.url) is None
        assert not await reader.found_fault(excused="400")


async def test_a_program_is_added_where_programs_are_permitted(context, tmp_path):
    async with server_process(tmp_path / "data", environment=PROGRAMS) as server:
        reader = await person(context, server.url)
        await open_tools(reader)
        await expect(reader.part("tools-only-web")).to_be_hidden()
        await reader.part("tool-kind").select_option("stdio_servers")
        fields = {"name": "files", "command": "npx", "args": "-y\nsome server"}
        await add(reader, **fields, env="TOKEN")
        await expect(reader.part("tool-outcome")).to_contain_text("“TOKEN” is not NAME=value.")
        await add(reader, env=f"TOKEN={PLANTED}\nOTHER=a=b")
        await expect(reader.part("tool")).to_contain_text("Program · npx -y some server")
        await expect(reader.part("tool")).to_contain_text("TOKEN, OTHER")
        assert PLANTED not in await reader.page.evaluate(ALL_TEXT)
        (program,) = (await stored(server.url))["stdio_servers"]
        assert program == {
            "name": "files",
            "command": "npx",
            "args": ["-y", "some server"],
            "env": {"TOKEN": HIDDEN, "OTHER": HIDDEN},
        }
        assert not await reader.found_fault()


async def test_where_programs_are_not_permitted_the_page_says_so_and_offers_none(context, tmp_path):
    async with server_process(tmp_path / "data") as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=WAIT_SECONDS) as client:
            config = {"stdio_servers": [{"name": "files", "command": "npx"}]}
            (await client.post("/api/settings", json={"mcp_config": config})).raise_for_status()
        reader = await person(context, server.url)
        await open_tools(reader)
        await expect(reader.part("tool-kind").locator("option")).to_have_count(2)
        await expect(reader.part("tools-only-web")).to_contain_text("mcp_stdio")
        await expect(reader.part("tool")).to_contain_text("not permitted")
        assert not await reader.found_fault()


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_form_of_tool_servers_breaks_no_rule_in_either_language(
    browser, tmp_path, scheme, size
):
    async with server_process(tmp_path / "data", environment=PROGRAMS) as server:
        for locale in ("en-GB", "de-DE"):
            context = await new_context(browser, viewport=size, color_scheme=scheme, locale=locale)
            reader = await person(context, server.url)
            await open_tools(reader)
            await add(reader, url=ADDRESS, key=PLANTED)
            await expect(reader.part("tool").first).to_be_visible()
            for kind in ("shttp_servers", "stdio_servers"):
                await reader.part("tool-kind").select_option(kind)
                await reader.part("tool-add").scroll_into_view_if_needed()
                name = f"tools-{kind.partition('_')[0]}-{locale[:2]}-{size['width']}-{scheme}"
                await picture(reader, name)
                assert not await broken_rules(reader.page)
                assert await reader.fits()
            assert not await reader.found_fault()
            await context.close()
