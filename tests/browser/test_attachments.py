"""Attachments: by button, drop and paste; previews, limits, what reaches the log."""

import base64
import re

import httpx
import pytest
from playwright.async_api import expect

from tests.support.waiting import WAIT_SECONDS

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.asyncio(loop_scope="session"),
]

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
CARRY = """
(element, [kind, name, type, body]) => {
  const bytes = Uint8Array.from(atob(body), (letter) => letter.charCodeAt(0));
  const carried = new DataTransfer();
  carried.items.add(new File([bytes], name, { type }));
  const options = { bubbles: true, cancelable: true };
  const event = kind === "paste"
    ? new ClipboardEvent(kind, { ...options, clipboardData: carried })
    : new DragEvent(kind, { ...options, dataTransfer: carried });
  element.dispatchEvent(event);
}
"""


def encoded(text):
    return base64.b64encode(text.encode()).decode()


async def stored_message(reader):
    """The arguments of the user's message as the log has them."""
    conversation_id = reader.page.url.rsplit("/", 1)[1]
    path = f"/api/conversations/{conversation_id}/events"
    async with httpx.AsyncClient(base_url=reader.url, timeout=WAIT_SECONDS) as client:
        answer = await client.get(path, params={"source": "user", "include_kinds": "message"})
    return answer.json()["events"][-1]["args"]


async def test_a_pasted_picture_is_previewed_and_sent_inside_the_message(reader):
    await reader.begin()
    composer = reader.part("composer")

    await composer.evaluate(CARRY, ["paste", "pixel.png", "image/png", PIXEL])
    await expect(reader.part("attachment").locator("img")).to_be_visible()
    await reader.ask("A picture", "You said: A picture")

    assert (await stored_message(reader))["image_urls"] == [f"data:image/png;base64,{PIXEL}"]
    shown = reader.messages_of("user").get_by_test_id("picture")
    await expect(shown).to_have_js_property("naturalWidth", 1)
    await expect(reader.part("attachment")).to_have_count(0)
    assert not await reader.found_fault()


async def test_files_are_named_below_a_message_and_pictures_from_elsewhere_are_not_asked_for(
    reader,
):
    conversation_id = await reader.begin()
    elsewhere = "http://pictures.example/seen.png"
    args = {
        "content": "Look",
        "image_urls": [elsewhere, f"data:image/png;base64,{PIXEL}"],
        "file_urls": ["/workspace/<b>build\u202e.log", "javascript:alert(1)"],
    }
    asked = []
    reader.page.on("request", lambda request: asked.append(request.url))

    async with httpx.AsyncClient(base_url=reader.url, timeout=WAIT_SECONDS) as client:
        path = f"/api/conversations/{conversation_id}/events"
        answer = await client.post(path, json={"action": "message", "args": args})
    assert answer.is_success, answer.text
    message = reader.messages_of("user")

    names = ["<b>build⟨U+202E⟩.log", "javascript:alert(1)"]
    await expect(message.get_by_test_id("file-name")).to_have_text(names)
    await expect(message.get_by_test_id("picture")).to_have_count(1)
    await expect(message.locator("a")).to_have_count(0)
    assert elsewhere not in asked
    assert not await reader.found_fault()


async def test_a_dropped_file_reaches_the_workspace_and_the_agent_is_told_where(reader):
    await reader.begin()
    page = reader.page.locator("#transcript")

    await page.evaluate(CARRY, ["dragenter", "note.txt", "text/plain", encoded("listen")])
    await expect(reader.part("drop-veil")).to_be_visible()
    await page.evaluate(CARRY, ["drop", "note.txt", "text/plain", encoded("listen")])
    await expect(reader.part("drop-veil")).to_be_hidden()
    await expect(reader.part("attachment")).to_contain_text("note.txt")
    await reader.ask("Read this", "You said: Read this")

    told = await stored_message(reader)
    assert len(told["file_urls"]) == 1
    assert told["file_urls"][0] in told["content"]
    await reader.say(f"/run cat {told['file_urls'][0]}")
    await expect(reader.part("command-output").last).to_have_text("listen")
    assert not await reader.found_fault()


async def test_what_is_too_large_is_refused_in_words_and_the_rest_is_taken(reader):
    await reader.begin()
    small = {"name": "small.bin", "mimeType": "application/octet-stream", "buffer": b"s" * 100}
    large = {**small, "name": "large.bin", "buffer": b"l" * 3_000_001}
    half = {**small, "name": "half.bin", "buffer": b"h" * 1_600_000}

    await reader.part("attach-input").set_input_files([small, large])
    await expect(reader.part("attachment")).to_have_count(1)
    await expect(reader.part("attachment-trouble")).to_contain_text("large.bin has 3.0 MB")
    await reader.part("attach-input").set_input_files([half, {**half, "name": "other.bin"}])
    await expect(reader.part("attachment")).to_have_count(2)
    await expect(reader.part("attachment-trouble")).to_contain_text("other.bin does not fit")

    await reader.part("attachment-remove").first.click()
    await expect(reader.part("attachment")).to_have_count(1)
    await expect(reader.part("attachment")).to_contain_text("half.bin")
    assert not await reader.found_fault()


async def test_pictures_of_three_megabytes_fit_into_one_message(reader):
    await reader.begin()
    picture = {"name": "big.png", "mimeType": "image/png", "buffer": b"\x89PNG" + b"p" * 2_999_996}

    await reader.part("attach-input").set_input_files([picture])
    await expect(reader.part("send")).to_be_enabled()
    await reader.ask("large", "You said: large")

    (url,) = (await stored_message(reader))["image_urls"]
    assert len(base64.b64decode(url.partition(",")[2])) == 3_000_000


async def test_an_upload_that_fails_is_told_and_nothing_is_sent(context, reader):
    await reader.begin()
    file = {"name": "note.txt", "mimeType": "text/plain", "buffer": b"listen"}
    await reader.part("attach-input").set_input_files([file])
    await context.set_offline(True)

    await reader.say("not without the file")

    await expect(reader.part("attachment")).to_contain_text(
        "Not sent: The server cannot be reached"
    )
    await expect(reader.part("composer")).to_have_value("not without the file")
    await expect(reader.part("pending-message")).to_have_count(0)
    await context.set_offline(False)
    await expect(reader.part("offline-banner")).to_be_hidden()
    await reader.part("composer").press("Enter")
    await expect(reader.messages_of("agent").last).to_contain_text("not without the file")
    await expect(reader.part("attachment")).to_have_count(0)


async def test_files_on_the_front_page_reach_the_conversation_that_its_message_begins(reader):
    await reader.visit()
    note = {"name": "note.txt", "mimeType": "text/plain", "buffer": b"listen"}
    pixel = {"name": "pixel.png", "mimeType": "image/png", "buffer": base64.b64decode(PIXEL)}
    await reader.part("attach-input").set_input_files([note, pixel])
    await expect(reader.part("attachment")).to_have_count(2)

    await reader.say("Read these")
    await reader.page.wait_for_url(re.compile("/conversations/"))
    await expect(reader.messages_of("agent").last).to_contain_text("You said: Read these")

    told = await stored_message(reader)
    assert told["image_urls"] == [f"data:image/png;base64,{PIXEL}"]
    assert len(told["file_urls"]) == 1
    assert told["file_urls"][0] in told["content"]
    await expect(reader.part("attachment")).to_have_count(0)
    await expect(reader.messages_of("user")).to_have_count(1)
    await reader.say(f"/run cat {told['file_urls'][0]}")
    await expect(reader.part("command-output").last).to_have_text("listen")
    await expect(reader.part("conversation-item")).not_to_have_count(0)
    assert not await reader.found_fault()


async def test_a_front_page_upload_that_failed_is_tried_again_in_the_same_conversation(reader):
    await reader.visit()
    note = {"name": "note.txt", "mimeType": "text/plain", "buffer": b"listen"}
    await reader.part("attach-input").set_input_files([note])
    created: list[str] = []
    reader.page.on(
        "request",
        lambda one: created.append(one.url) if one.url.endswith("/api/conversations") else None,
    )
    await reader.page.route("**/upload-files", lambda route: route.abort())

    await reader.say("Read this")
    await expect(reader.part("attachment")).to_contain_text("Not sent")
    await expect(reader.part("composer")).to_have_value("Read this")
    await reader.page.unroute("**/upload-files")
    await expect(reader.part("offline-banner")).to_be_hidden()
    await reader.part("composer").press("Enter")
    await reader.page.wait_for_url(re.compile("/conversations/"))

    await expect(reader.messages_of("agent").last).to_contain_text("You said: Read this")
    assert len(created) == 1
