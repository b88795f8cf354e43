"""The look of the frame: list, filters, dialogs, toasts, at two widths in two schemes."""

import httpx
import pytest
from playwright.async_api import FilePayload, expect

from tests.browser.test_views import DESK, PHONE, picture
from tests.support.browser import new_context, person
from tests.support.servers import server_process
from tests.support.waiting import WAIT_SECONDS

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.asyncio(loop_scope="session"),
]

TITLES = (
    "Fix the failing build",
    "A long title that goes on and on until it has to be cut somewhere before the row ends",
    "\u0627\u0644\u0633\u0644\u0627\u0645 \u05e9\u05dc\u05d5\u05dd",
    "Plan the release",
)
DIALOGS = {
    "settings": "setting-max_iterations",
    "secrets": "secret-name",
    "shortcuts": "shortcuts-dialog",
}


async def furnish(url):
    async with httpx.AsyncClient(base_url=url, timeout=WAIT_SECONDS) as client:
        for number in range(12):
            order = {"repository": "octo/lighthouse"} if number % 4 == 0 else {}
            created = await client.post("/api/conversations", json=order)
            path = f"/api/conversations/{created.json()['conversation_id']}"
            await client.patch(path, json={"title": TITLES[number % 4]})
            if number % 3:
                await client.post(f"{path}/stop")
        await client.post("/api/secrets", json={"name": "HARBOUR", "value": "unseen-4711"})


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
async def test_every_part_of_the_frame_fits(browser, tmp_path, scheme, size):
    name = f"{size['width']}-{scheme}"
    narrow = size is PHONE
    async with server_process(tmp_path / "data") as server:
        await furnish(server.url)
        touch = {"has_touch": True, "is_mobile": True} if narrow else {}
        context = await new_context(browser, viewport=size, color_scheme=scheme, **touch)
        reader = await person(context, server.url)
        await reader.visit()
        await reader.part("composer").fill("Good morning")
        await reader.part("send").click()  # Enter breaks the line on glass
        await reader.sees_state("Ready")
        file = FilePayload(name="a-note.txt", mimeType="text/plain", buffer=b"listen")
        await reader.part("attach-input").set_input_files([file])
        await reader.part("export").click()
        await picture(reader, f"frame-attached-{name}")
        assert await reader.fits()
        await reader.page.keyboard.press("Escape")

        async def show_list():
            if narrow:
                await reader.part("drawer-open").click()
            await expect(reader.part("conversation-item").first).to_be_in_viewport()

        await show_list()
        await reader.part("filter-toggle").click()
        await picture(reader, f"frame-filters-{name}")
        await reader.part("search").fill("nowhere")
        await expect(reader.part("list-none")).to_be_visible()
        await picture(reader, f"frame-nothing-{name}")
        await reader.part("filters-clear").click()
        await reader.part("filter-toggle").click()
        for dialog, part in DIALOGS.items():
            await reader.part(f"open-{dialog}").click()
            await expect(reader.part(part)).to_be_visible()
            assert await reader.fits()
            await picture(reader, f"frame-{dialog}-{name}")
            await reader.part(f"{dialog}-dialog-close").click()
        await reader.part("new-conversation").click()
        await picture(reader, f"frame-new-{name}")
        await reader.page.keyboard.press("Escape")
        row = reader.part("conversation-item").nth(2)
        await row.hover()
        await row.get_by_test_id("delete").click()
        await expect(reader.part("undo-toast")).to_be_visible()
        await picture(reader, f"frame-undo-{name}")

        assert await reader.fits()
        assert not await reader.found_fault()
        await context.close()
