"""Code in colours, formulas, diagrams: drawn when a message has them, and never more than they are."""

import re

import pytest
from playwright.async_api import expect

from tests.browser.test_looks import SIZES
from tests.browser.test_streaming import live, opened, writing
from tests.support.axe import broken_rules
from tests.support.browser import new_context, person
from tests.support.contrast import faint_texts
from tests.support.frames import drawn
from tests.support.screenshots import picture
from tests.support.servers import server_process
from tests.support.written_logs import at_rest, said, write_log

__all__ = ("live",)

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.asyncio(loop_scope="session"),
]

LIBRARIES = re.compile(r"highlight\.min\.js|temml|diagram/")
CODE = """\
Some code:

```python
# Wait a little longer each time.
def backoff(attempt: int) -> float:
    return min(2**attempt, 30) if attempt else 0.5  # "seconds"
```

```unheard-of
def backoff(attempt)
```

```diff
-old
+new
```
"""
MATHS = r"""
The mean is \(\bar{x} = \frac{1}{n}\sum_{i=1}^n x_i\), and $\sqrt{n}$ grows.

$$\int_0^\infty e^{-x^2}\,dx = \frac{\sqrt{\pi}}{2}$$

\[\begin{pmatrix} a & b \\ c & d \end{pmatrix} \begin{cases} 1 & x > 0 \\ 0 & \text{else}\end{cases}\]

- within $x_1^2$ a list
"""
DIAGRAM = """
```mermaid
flowchart LR
  A[Message] --> B{Agent}
  B -->|tool| C(Runtime)
  C --> B
  B --> D[Answer]
```
"""
HOSTILE_FORMULAS = (
    r"$\href{javascript:alert(1)}{x_1}$",
    r"$\url{javascript:alert(1)}_1$",
    r"$\includegraphics{http://pictures.example/seen.png}_1$",
    r"$\htmlData{evil=1}{x_1}$",
    r"$\class{dialog}{x_1} \id{composer}{x_1} \style{position:fixed}{x_1}$",
    r"$x_1 \label{composer}$",
    r"$\ref{x_1} \eqref{x_1}$",
    r"$\frac{1}{$",
    r"$\def\a{\a\a}\a_1$",
    "$" + r"\sqrt{" * 300 + "x" + "}" * 300 + "$",
)
DRAW = """
async (text) => {
  const { formula } = await import("/assets/views/formula.js");
  const { default: temml } = await import("/assets/vendor/temml.js");
  const box = document.createElement("div");
  document.body.append(box);
  const pieces = [];
  for (let tries = 0; tries < 2; tries += 1) {
    box.replaceChildren(formula("span", text));
    await new Promise((resolve) => setTimeout(resolve));
  }
  const names = [...new Set([...box.querySelectorAll("*")].map((one) => one.localName))];
  const found = { names, text: box.textContent, wide: box.scrollWidth,
    attributes: [...new Set([...box.querySelectorAll("math *")].flatMap((one) => one.getAttributeNames()))] };
  box.remove();
  return found;
}
"""
HOSTILE_DIAGRAM = """
```mermaid
flowchart LR
  A["<img src=x onerror='top.broken=1;parent.broken=1'>"] --> B["<script>top.broken=1</script>"]
  click A "javascript:top.broken=1"
  click B call alert()
```
"""
WITHIN = """
async () => {
  const tried = {};
  for (const [name, act] of Object.entries({
    parent: () => parent.document.title,
    storage: () => localStorage.length,
    cookies: () => document.cookie,
    fetched: () => fetch("/api/conversations"),
    left: () => open("https://example.org") ?? Promise.reject(),
  })) {
    try { await act(); tried[name] = true; } catch { tried[name] = false; }
  }
  return tried;
}
"""


@pytest.fixture(scope="module")
def rich_data(tmp_path_factory):
    return tmp_path_factory.mktemp("rich") / "data"


async def rich(data_dir, *texts):
    """A conversation with these answers."""
    payloads = [said("user", "Show me."), *(said("agent", text) for text in texts)]
    await write_log(data_dir, "rich", "Rich", [*payloads, *at_rest(0, len(payloads))])


async def test_libraries_are_loaded_only_for_messages_that_need_them(context, tmp_path):
    await rich(tmp_path / "data", CODE, MATHS, DIAGRAM)
    async with server_process(tmp_path / "data") as server:
        reader = await person(context, server.url)
        asked: list[str] = []
        reader.page.on("request", lambda request: asked.append(request.url))
        conversation_id = await reader.begin()
        await reader.ask("nothing but *words*", "nothing but")
        assert not [url for url in asked if LIBRARIES.search(url)], conversation_id

        await reader.visit("/conversations/rich")
        await expect(reader.page.locator("math").first).to_be_visible()
        await expect(reader.page.locator(".code-keyword").first).to_have_text("def")
        loaded = [url.rsplit("/", 1)[1] for url in asked if LIBRARIES.search(url)]
        assert sorted(loaded) == ["highlight.min.js", "temml.js"]
        await reader.part("diagram-toggle").click()
        await expect(reader.page.frame_locator("iframe").locator("svg").first).to_be_visible()
        assert len([url for url in asked if LIBRARIES.search(url)]) == 3
        assert not await reader.found_fault()


async def test_code_has_colours_and_stays_the_text_it_is(context, tmp_path):
    await context.grant_permissions(["clipboard-read", "clipboard-write"])
    await rich(tmp_path / "data", CODE)
    async with server_process(tmp_path / "data") as server:
        reader = await person(context, server.url)
        await reader.visit("/conversations/rich")
        python, unknown, diff = (reader.part("code").nth(place) for place in range(3))
        await expect(python.locator(".code-keyword").first).to_have_text("def")
        await expect(python.locator(".code-comment").first).to_contain_text("Wait a little")
        await expect(diff.locator(".code-addition")).to_have_text("+new")
        assert await unknown.locator("code span").count() == 0
        source = CODE.split("```python\n")[1].split("\n```", maxsplit=1)[0]
        assert await python.locator("code").text_content() == source
        await python.get_by_test_id("copy-code").click()
        await expect(python.get_by_test_id("copy-code")).to_have_attribute("data-outcome", "done")
        assert await reader.page.evaluate("navigator.clipboard.readText()") == source
        assert not await reader.found_fault()


async def test_code_gets_its_colours_when_it_is_whole(context, live):
    async with writing(live) as author:
        reader = await opened(live, context, author)
        await author.write("```python\ndef one():\n")
        await expect(reader.part("written").locator("code")).to_contain_text("def one")
        await author.write("    return 1\n```\n\nand ")
        await expect(reader.part("written").locator(".code-keyword").first).to_have_text("def")
        await author.write("so on.\n\n```python\ndef two():\n    retu")
        await expect(reader.part("written").locator("code").last).to_contain_text("def two")
        open_one = reader.part("written").locator("code").last
        assert await open_one.locator("span[class^=code]").count() == 0
        await author.write("rn 2")
        await author.finish()
        code = reader.messages_of("agent").last.locator("code")
        await expect(code.last.locator(".code-keyword").last).to_have_text("return")
        assert await code.all_text_contents() == [
            "def one():\n    return 1",
            "def two():\n    return 2",
        ]
    assert not await reader.found_fault()


async def test_formulas_are_drawn_while_a_message_is_written(context, live):
    async with writing(live) as author:
        reader = await opened(live, context, author)
        await author.write("Let $x_1^2$ be")
        await expect(reader.part("written").locator("math")).to_have_count(1)
        await author.write(" small, and \\(\\frac{1}{2}")
        await expect(reader.part("written")).to_contain_text("frac")
        await author.write("\\) more.")
        await expect(reader.part("written").locator("mfrac")).to_have_count(1)
        await author.finish()
        await expect(reader.messages_of("agent").last.locator("math")).to_have_count(2)
    assert not await reader.found_fault()


async def test_a_hostile_formula_is_no_more_than_text(reader):
    await reader.visit()
    for text in HOSTILE_FORMULAS:
        seen = await reader.page.evaluate(DRAW, text)
        assert not {"a", "img", "mglyph"} & set(seen["names"]), text
        assert not {"href", "id", "data-evil", "src"} & set(seen["attributes"]), text
    wide = await reader.page.evaluate(DRAW, r"$\rule{9999em}{9999em} \kern9999em x_1$")
    assert wide["wide"] < 20_000
    assert not await reader.found_fault()


async def test_a_formula_that_is_none_stays_as_it_was_written(reader):
    await reader.visit()
    seen = await reader.page.evaluate(DRAW, r"$\frac{1}{$")
    assert seen["text"] == r"$\frac{1}{$"
    drawn_one = await reader.page.evaluate(DRAW, r"\(\frac{1}{2}\)")
    assert "mfrac" in drawn_one["names"]


async def test_a_diagram_is_drawn_when_somebody_asks_for_it(context, tmp_path):
    await rich(tmp_path / "data", DIAGRAM, "```mermaid\nflowchart LR\n  A --> --> B\n```")
    async with server_process(tmp_path / "data") as server:
        reader = await person(context, server.url)
        await reader.visit("/conversations/rich")
        first, broken = reader.part("code").nth(0), reader.part("code").nth(1)
        await expect(first.locator("code")).to_contain_text("flowchart LR")
        await first.get_by_test_id("diagram-toggle").click()
        inside = first.frame_locator("iframe")
        await expect(inside.locator("svg").first).to_contain_text("Message")
        await expect(first.locator("code")).to_be_hidden()
        await first.get_by_test_id("diagram-toggle").click()
        await expect(first.locator("iframe")).to_have_count(0)
        await expect(first.locator("code")).to_be_visible()

        await broken.get_by_test_id("diagram-toggle").click()
        await expect(broken.get_by_test_id("diagram-trouble")).to_contain_text("cannot be drawn")
        await expect(broken.locator("code")).to_be_visible()
        assert not await reader.found_fault()


async def test_a_diagram_has_no_rights_and_harms_nothing(context, tmp_path):
    await rich(tmp_path / "data", HOSTILE_DIAGRAM)
    async with server_process(tmp_path / "data") as server:
        reader = await person(context, server.url)
        await reader.visit("/conversations/rich")
        await reader.part("diagram-toggle").click()
        await expect(
            reader.part("code").frame_locator("iframe").locator("svg").first
        ).to_be_visible()
        frame = next(one for one in reader.page.frames if "/diagram/" in one.url)
        await expect(reader.part("diagram")).to_have_attribute("sandbox", "allow-scripts")
        tried = await frame.evaluate(WITHIN)
        assert tried == dict.fromkeys(("parent", "storage", "cookies", "fetched", "left"), False)
        assert await reader.page.evaluate("window.broken") is None
        assert await frame.locator("svg script, svg img[onerror]").count() == 0


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_code_formulas_and_diagrams_fit_and_can_be_read(browser, rich_data, scheme, size):
    if not rich_data.exists():
        await rich(rich_data, CODE, MATHS, DIAGRAM)
    async with server_process(rich_data) as server:
        context = await new_context(browser, viewport=size, color_scheme=scheme)
        reader = await person(context, server.url)
        await reader.visit("/conversations/rich")
        await drawn(reader.page)
        await reader.part("diagram-toggle").click()
        await expect(
            reader.part("code").frame_locator("iframe").locator("svg").first
        ).to_be_visible()
        await expect(reader.page.locator(".code-keyword").first).to_be_attached()
        await expect(reader.page.locator("math").first).to_be_attached()
        for place, part in enumerate(("code", "math", "diagram-toggle")):
            target = (
                reader.page.locator("math").nth(2) if part == "math" else reader.part(part).first
            )
            await target.scroll_into_view_if_needed()
            await picture(reader, f"rich-{place}-{size['width']}-{scheme}")
        _, faint = await faint_texts(reader.page)
        assert not faint
        assert not await broken_rules(reader.page)
        assert await reader.fits()
        assert not await reader.found_fault()
        await context.close()
