"""Messages as markdown: what becomes an element, and what never does."""

import pytest
from playwright.async_api import expect

from tests.support.browser import thread_ms

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.asyncio(loop_scope="session"),
]

HOSTILE = {
    "an element with a handler": '<img src=x onerror="window.broken=1">',
    "a script": "<script>window.broken=1</script>",
    "tags left open": '<div><b style="position:fixed"><a href="javascript:window.broken=1">x',
    "a link to a script": "[click](javascript:window.broken=1)",
    "the same in disguise": "[click](JaVaScRiPt&colon;window.broken=1)",
    "the same with a break": "[click](<java\tscript:window.broken=1>)",
    "a link to data": "[click](data:text/html;base64,PHNjcmlwdD4=)",
    "a link to this page": "[click](/api/conversations)",
    "a link without a scheme": "[click](//example.org/x)",
    "a picture of data": "![seen](data:image/svg+xml,<svg/onload=window.broken=1>)",
    "a definition": "[click][1]\n\n[1]: vbscript:window.broken=1",
    "an automatic link": "<javascript:window.broken=1>",
    "a comment": "<!-- hidden --> seen",
    "a frame": '<iframe srcdoc="<script>parent.broken=1</script>"></iframe>',
    "a form": '<form action="https://example.org"><input name=a></form>',
    "mathematics and vectors": "<svg><a xlink:href='javascript:1'>x</a></svg><math></math>",
    "entities": "&lt;b&gt; &#60;script&#62;",
}
FORMULAS = {
    "within a line": ("so \\(a^2 + b_1*c_2*d\\) holds", ["\\(a^2 + b_1*c_2*d\\)"]),
    "with spacing and braces": (r"\(\{x\,y\}\)", [r"\(\{x\,y\}\)"]),
    "on lines of its own": (
        "See\n\\[\n- a \\\\\n= b_1 * c * d\n\\]\nand more",
        ["\\[\n- a \\\\\n= b_1 * c * d\n\\]"],
    ),
    "between dollars": (r"$$x \\ y$$ and $5 or $6", [r"$$x \\ y$$"]),
    "between single dollars": (r"if $\{a_1*b_2*c\}$, then $x^*$.", [r"$\{a_1*b_2*c\}$", "$x^*$"]),
    "amounts and variables": (
        r"$5 *or* 6$, \$5_a and 6_b$, $HOME_A/$HOME_B, US$5_000$, $a `b_$` c, $ a_1 $, $a_1 and $b_2",
        [],
    ),
    "in a list": ("- \\(a\\)\n- \\[b\\]", ["\\(a\\)", "\\[b\\]"]),
    "in a table": ("| a |\n| - |\n| \\(b\\) |", ["\\(b\\)"]),
    "in bold": ("**so \\(a*b*c\\)**", ["\\(a*b*c\\)"]),
    "in code": ("`\\(a\\)` and\n\n```\n\\[b\\]\n```", []),
    "never closed": ("\\(a and \\[b and $$c", []),
    "over a blank line": ("\\(a\n\nb\\)", []),
}
HEAVY = {
    "formulas never closed": "\\(a" * 6_000,
    "formulas within text": "\\[a\\] x\n" * 2_000,
    "formulas over blank lines": "\\[a\n\n" * 2_000,
    "single dollars": "$a_ " * 6_000,
    "formulas between single dollars": "$a_1$ *b* " * 1_500,
    "dollars": "$$a\n\n" * 2_000,
    "quotes within quotes": ">" * 6_000,
    "brackets": "[" * 6_000,
    "stars": "*a " * 2_000,
    "lists within lists": "\n".join(f"{'  ' * (level % 90)}- a" for level in range(140)),
    "backticks": "`a``b" * 1_200,
    "blanks": f"a*{' ' * 5_900}b",
}
FORBIDDEN = "a, b, img, script, iframe, form, input, svg:not(.icon), math, [style], [onerror]"
MOST_MS = 1_000
"""Of a processor: how many share it has no part in it."""
MOST_ELEMENTS = 10_000
RENDER = """
async (text) => {
  const { markdown } = await import("/assets/views/markdown.js");
  const box = document.createElement("div");
  box.append(markdown(text));
  const tags = [...box.querySelectorAll("*")].map((element) => element.tagName);
  const formulas = [...box.querySelectorAll(".formula")].map((element) => element.textContent);
  return { text: box.textContent, tags, formulas };
}
"""


async def test_hostile_markup_stays_the_text_it_is(visitor):
    await visitor.visit("/")

    for name, text in HOSTILE.items():
        drawn = await visitor.page.evaluate(RENDER, text)
        assert set(drawn["tags"]) <= {"P", "BR"}, name
        assert "".join(drawn["text"].split()) == "".join(text.partition("\n\n[1]:")[0].split()), (
            name
        )

    assert await visitor.page.evaluate("window.broken") is None
    assert not await visitor.found_fault()


async def test_a_message_full_of_hostile_markup_harms_nothing(reader):
    await reader.begin()

    await reader.ask("\n\n".join(HOSTILE.values()), "You said: ")

    for side in ("user", "agent"):
        assert await reader.messages_of(side).last.locator(FORBIDDEN).count() == 0
    assert await reader.page.evaluate("window.broken") is None
    assert not await reader.found_fault()


async def test_a_link_of_an_allowed_scheme_opens_elsewhere_and_tells_nothing(visitor):
    await visitor.visit("/conversations/gallery")

    link = visitor.part("transcript").get_by_role("link", name="the manual")

    await expect(link).to_have_attribute("href", "https://example.org/locks")
    await expect(link).to_have_attribute("rel", "noopener noreferrer nofollow")
    await expect(link).to_have_attribute("target", "_blank")


async def test_a_picture_of_another_host_is_a_link_and_is_not_fetched(reader):
    asked: list[str] = []
    reader.page.on("request", lambda request: asked.append(request.url))
    await reader.begin()

    await reader.ask("![a chart](https://example.org/chart.png)", "a chart")

    answer = reader.messages_of("agent").last
    await expect(answer.get_by_role("link", name="a chart")).to_be_visible()
    assert await answer.locator("img").count() == 0
    assert not [url for url in asked if not url.startswith(reader.url)]


async def test_markdown_becomes_the_elements_it_means(visitor):
    await visitor.visit("/conversations/gallery")
    answer = visitor.messages_of("agent").filter(has_text="two workers").locator(".prose")

    await expect(answer.locator("strong")).to_have_text("two workers")
    await expect(answer.locator("ol > li")).to_have_count(3)
    await expect(answer.locator("del")).to_have_text("nobody")
    await expect(answer.get_by_role("heading")).to_have_text("What I would change")
    await expect(answer.locator("tbody tr")).to_have_count(2)
    await expect(answer.locator("blockquote")).to_have_text("The watchdog is right to be strict.")
    await expect(answer.get_by_role("checkbox", name="done", exact=True)).to_be_checked()
    assert not await visitor.found_fault()


async def test_a_formula_keeps_every_character(visitor):
    await visitor.page.route("**/temml.js", lambda route: route.abort())
    await visitor.visit("/")

    for name, (text, formulas) in FORMULAS.items():
        drawn = await visitor.page.evaluate(RENDER, text)
        assert drawn["formulas"] == formulas, name


async def test_code_and_messages_are_copied_as_they_were_written(context, visitor):
    await context.grant_permissions(["clipboard-read", "clipboard-write"])
    await visitor.visit("/conversations/gallery")
    answer = visitor.messages_of("agent").filter(has_text="two workers")

    await answer.get_by_test_id("copy-code").click()
    await expect(answer.get_by_test_id("copy-code")).to_have_attribute("data-outcome", "done")
    code = await visitor.page.evaluate("navigator.clipboard.readText()")
    await answer.hover()
    await answer.get_by_test_id("copy-message").click()
    await expect(answer.get_by_test_id("copy-message")).to_have_attribute("data-outcome", "done")
    message = await visitor.page.evaluate("navigator.clipboard.readText()")

    assert code.startswith("def prepare(path: Path) -> None:\n    with lock(path):")
    assert "because **two workers** share" in message


async def test_copying_works_without_a_clipboard_object(visitor):
    await visitor.visit("/conversations/gallery")
    await visitor.page.evaluate(
        "Object.defineProperty(navigator, 'clipboard', { value: undefined })"
    )

    await visitor.part("copy-code").first.click()

    await expect(visitor.part("copy-code").first).to_have_attribute("data-outcome", "done")


async def test_a_text_made_to_be_slow_is_drawn_at_once(visitor, record_property):
    await visitor.visit("/")
    took = {}

    for name, text in HEAVY.items():
        async with thread_ms(visitor.page) as taken:
            drawn = await visitor.page.evaluate(RENDER, text)
            milliseconds = await taken()
        took[name] = f"{milliseconds:.0f} ms"
        assert milliseconds < MOST_MS, name
        assert len(drawn["tags"]) < MOST_ELEMENTS, name
        assert drawn["text"].count("a") == text.count("a"), name

    record_property("figures", str(took))
