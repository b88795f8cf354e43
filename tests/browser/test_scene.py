"""One conversation with everything in it, as people have it: at both widths, in both schemes and languages.

A model streams, thinks, calls tools and writes code, formulas and a diagram; a person sends a picture
and looks at the files.
"""

import base64
import json
import struct
import zlib
from contextlib import asynccontextmanager
from typing import NamedTuple

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.browser.test_looks import FRAMES, SIZES
from tests.support.asking import asking_server
from tests.support.axe import broken_rules
from tests.support.browser import new_context, person
from tests.support.clients import joined
from tests.support.model_endpoint import calls, model_endpoint, tokens_of
from tests.support.screenshots import picture
from tests.support.waiting import WAIT_SECONDS

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.asyncio(loop_scope="session"),
]


class Words(NamedTuple):
    """What a language says where the scene is looked at."""

    thinking: str
    writing: str
    ready: str


LANGUAGES = {
    "en-GB": Words("Thinking", "writing", "Ready"),
    "de-DE": Words("Überlegt", "wird geschrieben", "Bereit"),
}
QUESTION = (
    "Which retries are worth it? The chart is attached. Write what you find into *report.md*."
)
THOUGHT = "The chart has a knee.\nI should look at the code before I say where it comes from."
REPORT = "# Retries\n\nThree are worth it, the fourth never was.\n"
TOOLS = (
    ("run", json.dumps({"command": "echo 'def again(call): ...' > retry.py && ls"})),
    ("run", json.dumps({"command": "cat missing.log"})),
    ("write", json.dumps({"path": "report.md", "content": REPORT})),
)
FINDINGS = r"""## What I found

After the first retry a call succeeds with probability \(p_1 = 1 - q^2\), after \(n\) of them with

$$p_n = 1 - q^{n+1} = \sum_{k=0}^{n} (1-q)\,q^k$$

| retries | success | *mean* wait |
| :-- | --: | --: |
| 1 | 91.0 % | 0.5 s |
| 3 | 99.2 % | 3.5 s |

```python
def again(call, tries: int = 3):
    # Wait twice as long each time, and a little by chance, so that not everybody comes back at once.
    for attempt in range(tries):
        try:
            return call()
        except ConnectionError:
            time.sleep(2**attempt * random.uniform(0.5, 1.0))
```

```mermaid
flowchart LR
  A[Call] --> B{Answer?}
  B -->|yes| C(Done)
  B -->|no| D[Wait] --> A
```

1. Keep **three** retries.
2. Say in the log why each was needed:
   - the address, without its key
   - how long was waited
"""
SECOND_THOUGHT = "The slowest tests are those with retries."
GROWING = (
    "The tests wait for retries that **cannot** help, `tests/test_again.py` alone for 12 seconds"
)
COMMAND = "pytest -q --durations=20 tests/test_again.py"


def chart():
    """Return a picture, as PNG: bars on a light ground."""
    bars, width, height = (40, 70, 84, 90, 92), 240, 100
    rows = bytearray()
    for y in range(height):
        rows.append(0)
        for x in range(width):
            bar, inside = divmod(x, width // len(bars))
            rows += b"\x3b\x6e\xa8" if inside > 8 and height - y < bars[bar] else b"\xf2\xf0\xea"
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(rows))),
        (b"IEND", b""),
    ]
    packed = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


CHART = chart()


class Scene:
    """The conversation, and the model that goes on with it step by step."""

    def __init__(self, live, model, conversation_id):
        self.url = live.url
        self.path = f"/conversations/{conversation_id}"
        self._model = model

    async def _answer(self, reply):
        await reply.head()
        await reply.thought(SECOND_THOUGHT)
        await reply.text(GROWING)
        arguments = json.dumps({"command": COMMAND})
        function = {"name": "run", "arguments": arguments[:-8]}
        call = {"index": 0, "id": "call-9", "type": "function", "function": function}
        await reply.delta({"tool_calls": [call]})
        await self._model.next_step()
        rest = {"index": 0, "function": {"arguments": arguments[-8:]}}
        await reply.delta({"tool_calls": [rest]})
        await reply.end("tool_calls")

    async def ask(self, client):
        """Have the next question answered, token by token as it is told."""
        self._model.hold()
        self._model.say(self._answer)
        await client.say("And the tests?")

    def think(self):
        """Let the model think, and end its thought with the first word of the text."""
        self._model.step(len(tokens_of(SECOND_THOUGHT)))

    def write(self):
        """Let all of the text go but its last word."""
        self._model.step(len(tokens_of(GROWING)) - 1)

    def call(self):
        """Let the last word go, and most of the call of a tool."""
        self._model.step()

    def end(self):
        """Let the call go, and everything behind it."""
        self._model.step(1_000)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def model():
    async with model_endpoint() as endpoint:
        yield endpoint


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def live(model):
    async with asking_server("llm", model, delta_interval_seconds=0.02) as opened:
        yield opened


@asynccontextmanager
async def scene(live, model):
    """A conversation after its first answer, and another under way."""
    key = await live.new()

    async def findings(reply):
        await reply.head()
        await reply.thought(THOUGHT)
        await reply.text(FINDINGS)
        await reply.end()

    model.say(calls(*TOOLS, text="I look at the code, and write the report."), findings)
    async with (
        joined(live.url, key) as client,
        httpx.AsyncClient(base_url=live.url, timeout=WAIT_SECONDS) as rest,
    ):
        rests = await client.state("awaiting_user_input")
        files = [("files", ("chart.png", CHART, "image/png"))]
        await rest.post(f"/api/conversations/{key}/upload-files", files=files)
        args = {
            "content": QUESTION,
            "image_urls": ["data:image/png;base64," + base64.b64encode(CHART).decode()],
            "file_urls": [],
        }
        said = await client.send({"action": "message", "args": args})
        await client.state("awaiting_user_input", after=max(said["id"], rests["id"]))
        made = Scene(live, model, key)
        await made.ask(client)
        try:
            yield made
        finally:
            made.end()


async def sees_what_was_found(reader):
    """Wait for all of the first answer, with its colours, formulas and diagram."""
    await expect(reader.part("command").nth(1)).to_contain_text("exit 1", ignore_case=True)
    await expect(reader.page.locator("math").first).to_be_attached()
    await expect(reader.page.locator(".code-keyword").first).to_be_attached()
    await expect(reader.part("picture")).to_have_js_property("naturalWidth", 240)
    # The price of this model is not known.
    await expect(reader.part("usage")).to_contain_text("36 ")
    await expect(reader.part("usage")).not_to_contain_text("$")
    await reader.part("diagram-toggle").click()
    diagram = reader.page.frame_locator("iframe").locator("svg").first
    await expect(diagram).to_contain_text("Wait")


@pytest.mark.parametrize("locale", LANGUAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_conversation_with_everything_fits_and_breaks_no_rule(
    browser, live, model, scheme, locale
):
    words = LANGUAGES[locale]
    context = await new_context(browser, color_scheme=scheme, locale=locale)
    async with scene(live, model) as played:
        reader = await person(context, played.url)
        broken = {}

        async def seen(name, size):
            # A frame that comes into sight is drawn one later.
            await reader.page.evaluate(FRAMES)
            await picture(reader, f"scene-{name}-{size['width']}-{scheme}-{locale[:2]}")

        async def looked_at(name, size):
            await seen(name, size)
            broken[name, size["width"]] = await broken_rules(reader.page)
            assert await reader.fits(), name

        await reader.visit(played.path)
        written = reader.part("written")
        played.think()
        await expect(written).to_contain_text(words.thinking)
        await expect(reader.part("agent-state")).to_have_attribute("data-state", "running")
        await sees_what_was_found(reader)
        played.write()
        await expect(written.last).to_contain_text("alone for 12")
        await expect(written.locator("strong")).to_have_text("cannot")
        for size in SIZES.values():
            await reader.page.set_viewport_size(size)
            for name, part in {"top": "picture", "found": "code", "diagram": "diagram"}.items():
                await reader.part(part).first.scroll_into_view_if_needed()
                await seen(name, size)
            await written.last.scroll_into_view_if_needed()
            await looked_at("growing", size)
        played.call()
        await expect(reader.part("growing-card").locator("pre")).to_contain_text("pytest -q")
        await expect(reader.part("growing-card")).to_contain_text(words.writing)
        for size in SIZES.values():
            await reader.page.set_viewport_size(size)
            await looked_at("card", size)
        await reader.part("open-files").click()
        await expect(reader.part("files-entry")).to_have_count(3)
        await reader.part("files-entry").filter(has_text="chart.png").click()
        await expect(reader.part("files-image")).to_have_js_property("naturalWidth", 240)
        for size in SIZES.values():
            await reader.page.set_viewport_size(size)
            await looked_at("files", size)
        await reader.part("files-dialog-close").click()
        played.end()
        await expect(reader.part("growing-card")).to_have_count(0)
        await expect(reader.part("agent-state")).to_have_text(words.ready)
        assert not any(broken.values()), broken
        assert not await reader.found_fault()
    await context.close()
