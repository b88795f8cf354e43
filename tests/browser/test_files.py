"""The files of the workspace in the page: listed, shown, downloaded, at both widths and in both schemes."""

import base64
import re

import httpx
import pytest
from playwright.async_api import FilePayload, expect

from tests.browser.test_looks import SIZES
from tests.support.axe import broken_rules
from tests.support.browser import new_context, person
from tests.support.screenshots import picture

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.asyncio(loop_scope="session"),
]

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
FILES = [
    FilePayload(name="pixel.png", mimeType="image/png", buffer=PIXEL),
    FilePayload(name="bytes.bin", mimeType="application/octet-stream", buffer=b"\x00\xff"),
    FilePayload(name="page.html", mimeType="text/html", buffer=b"<b onclick='x'>bold</b>\n" * 80),
]
COMMAND = "mkdir -p src/deep && touch src/deep/er.txt && echo 'print(1)' > src/main.py"


async def with_files(reader):
    """Open a conversation with files in its workspace; its address."""
    async with httpx.AsyncClient(base_url=reader.url, timeout=20) as client:
        created = await client.post("/api/conversations", json={})
        conversation_id = created.json()["conversation_id"]
        address = f"/api/conversations/{conversation_id}"
        files = [("files", (one["name"], one["buffer"], one["mimeType"])) for one in FILES]
        answer = await client.post(f"{address}/upload-files", files=files)
        assert answer.json()["skipped_files"] == []
        said = {"message": f"/run {COMMAND}"}
        answer = await client.post(f"{address}/message?wait=turn", json=said)
        assert answer.json()["outcome"] == "done"
    await reader.visit(f"/conversations/{conversation_id}")
    await reader.sees_state("Ready")
    return address


async def names(reader):
    return await reader.part("files-entry").locator(".workspace__name").all_inner_texts()


def entry(reader, name):
    return reader.part("files-entry").filter(has_text=re.compile(f"^{re.escape(name)}"))


async def test_files_are_listed_shown_and_saved(reader):
    await with_files(reader)
    await reader.part("open-files").click()
    await expect(reader.part("files-entry")).to_have_count(4)
    assert await names(reader) == ["src", "bytes.bin", "page.html", "pixel.png"]

    await entry(reader, "page.html").click()
    await expect(reader.part("files-text")).to_contain_text("<b onclick='x'>bold</b>")
    await entry(reader, "pixel.png").click()
    await expect(reader.part("files-image")).to_have_js_property("naturalWidth", 1)
    await entry(reader, "bytes.bin").click()
    await expect(reader.part("files-other")).to_be_visible()
    async with reader.page.expect_download() as saved:
        await reader.part("files-preview").get_by_test_id("files-download").click()
    download = await saved.value
    assert download.suggested_filename == "bytes.bin"
    assert (await download.path()).read_bytes() == b"\x00\xff"
    assert not await reader.found_fault()


async def test_folders_are_walked_with_the_keyboard(reader):
    await with_files(reader)
    await reader.part("open-files").focus()
    await reader.page.keyboard.press("Enter")
    await expect(reader.part("files-entry")).to_have_count(4)

    await entry(reader, "src").press("Enter")
    await expect(reader.part("files-entry")).to_have_count(2)
    assert await names(reader) == ["deep", "main.py"]
    await expect(reader.part("files-entry").first).to_be_focused()
    await entry(reader, "main.py").press("Enter")
    await expect(reader.part("files-text")).to_have_text("print(1)\n")
    await expect(reader.page.locator(".workspace__title")).to_be_focused()
    await reader.part("files-back").press("Enter")
    await expect(entry(reader, "main.py")).to_be_focused()
    await reader.page.get_by_role("button", name="Workspace").press("Enter")
    await expect(reader.part("files-entry")).to_have_count(4)
    await reader.page.keyboard.press("Escape")
    await expect(reader.part("files-dialog")).to_be_hidden()
    await expect(reader.part("open-files")).to_be_focused()
    assert not await reader.found_fault()


async def test_files_that_are_kept_are_shown_with_their_sizes_and_when_they_were_kept(reader):
    address = await with_files(reader)
    async with httpx.AsyncClient(base_url=reader.url) as client:
        await client.post(f"{address}/stop")
    await reader.part("open-files").click()

    await expect(entry(reader, "bytes.bin")).to_contain_text("2 bytes")
    await expect(reader.part("files-note")).to_contain_text("As kept ")
    await entry(reader, "page.html").click()
    await expect(reader.part("files-text")).to_contain_text("bold")
    assert not await reader.found_fault()


async def test_a_workspace_without_files_says_so_and_a_failure_is_told(reader):
    conversation_id = await reader.begin()
    await reader.part("open-files").click()
    await expect(reader.part("files-note")).to_have_text("There are no files yet.")
    await reader.part("files-dialog-close").click()
    async with httpx.AsyncClient(base_url=reader.url) as client:
        await client.delete(f"/api/conversations/{conversation_id}")

    await expect(reader.part("open-files")).to_be_hidden()


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_files_fit_and_break_no_rule(browser, server, scheme, size):
    context = await new_context(browser, viewport=size, color_scheme=scheme)
    reader = await person(context, server.url)
    address = await with_files(reader)
    async with httpx.AsyncClient(base_url=reader.url) as client:
        await client.post(f"{address}/stop")
    await reader.part("open-files").click()
    await expect(reader.part("files-note")).to_contain_text("As kept ")
    await picture(reader, f"files-{size['width']}-{scheme}")
    broken = {"list": await broken_rules(reader.page)}
    for name in ("page.html", "pixel.png", "bytes.bin"):
        await entry(reader, name).click()
        await expect(reader.page.locator(".workspace__title")).to_have_text(name)
        await picture(reader, f"files-{name}-{size['width']}-{scheme}")
        broken[name] = await broken_rules(reader.page)
        await reader.part("files-back").click()
    assert await reader.fits()
    assert not any(broken.values()), broken
    assert not await reader.found_fault()
    await context.close()
