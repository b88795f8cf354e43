"""The page in each language: whole, without texts of its modules' own, and readable."""

import re

import httpx
import pytest
from playwright.async_api import expect

from server.routes.static_files import BUILT_IN
from tests.browser.test_looks import SIZES
from tests.support.axe import broken_rules
from tests.support.browser import new_context, person
from tests.support.contrast import faint_texts
from tests.support.frames import scroll
from tests.support.gallery import TITLE, gallery
from tests.support.literal_texts import literal_texts
from tests.support.screenshots import picture

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.asyncio(loop_scope="session"),
]

OTHER_PAGES = ("admin/", "docs/", "diagram/", "vendor/", "languages/")
NAMES = frozenset(
    (
        "Parley",
        "English",
        "Deutsch",
        "Bitbucket",
        "Azure DevOps",
        "Enterprise SSO",
        "owner/name",
        "main",
    )
)
KEYS = frozenset(("Ctrl", "Alt", "Shift", "Enter", "Home", "End", "Delete", "Esc"))
TECHNICAL = NAMES | KEYS | {"py", "Files", "noopener noreferrer nofollow"}
"""Literals that are the same in every language, or that nobody reads."""
USES = re.compile(r"(?<![#.\w])texts\b(?:\)?\.(\w+))(?:\)?\.(\w+))?")
CATALOGUES = """
async () => {
  const { LANGUAGES } = await import("/assets/language.js");
  const flat = (table) => Object.fromEntries(Object.entries(table).flatMap(([group, all]) =>
    Object.entries(all).map(([name, text]) => [`${group}.${name}`,
      typeof text === "function" ? text.toString().split("=>")[0].replace(/[()\\s]/g, "").split(",") : String(text)])));
  return Object.fromEntries(await Promise.all([...LANGUAGES].map(async ([code, { load }]) => [code, flat(await load())])));
}
"""
SHOWN = """
() => {
  const found = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode())
    if (!node.parentElement.closest("noscript, script")) found.add(node.data.trim());
  for (const element of document.querySelectorAll("*"))
    for (const name of ["aria-label", "title", "placeholder", "alt"])
      if (element.hasAttribute(name)) found.add(element.getAttribute(name).trim());
  return [...found].filter((text) => /\\p{L}{2}/u.test(text));
}
"""
PLACED = re.compile(r"<(\w+)([^<>]*)>([^<]*)")
PLACES = {
    "data-text-label": "aria-label",
    "data-text-title": "title",
    "data-text-placeholder": "placeholder",
}


def modules():
    """The modules of the chat page, by their path."""
    paths = {path.relative_to(BUILT_IN).as_posix(): path for path in sorted(BUILT_IN.rglob("*.js"))}
    return {
        name: path.read_text() for name, path in paths.items() if not name.startswith(OTHER_PAGES)
    }


async def test_no_module_of_the_page_says_anything_itself():
    found = {
        f"{name}:{line}": text
        for name, source in modules().items()
        for line, text in literal_texts(source, TECHNICAL)
    }
    assert not found


async def test_every_text_is_there_and_every_text_is_used(page):
    english = set((await page.evaluate(CATALOGUES))["en"])
    groups = {path.partition(".")[0] for path in english}
    used: set[str] = set()
    for name, source in modules().items():
        # One of its own would hide the page's.
        if name != "language.js":
            assert not re.search(r"(?:const|let) texts\b", source), name
        for group, text in USES.findall(source):
            assert group in groups, f"{name}: texts.{group}"
            whole = {path for path in english if path.startswith(f"{group}.")}
            if text and f"{group}.{text}" not in english:
                raise AssertionError(f"{name}: texts.{group}.{text}")
            used |= {f"{group}.{text}"} if text else whole
    used |= set(re.findall(r'data-text(?:-\w+)?="([\w.]+)"', (BUILT_IN / "index.html").read_text()))
    assert used == english


async def test_each_language_has_the_same_texts_with_the_same_parameters(page):
    catalogues = await page.evaluate(CATALOGUES)
    english = catalogues["en"]
    html = (BUILT_IN / "index.html").read_text()
    (named,) = re.findall(r'data-languages="([^"]*)"', html)
    assert named.split() == list(catalogues)
    for code, texts in catalogues.items():
        assert list(texts) == list(english), code
        for name, text in texts.items():
            assert isinstance(text, type(english[name])), f"{code}: {name}"
            assert text if isinstance(text, str) else text == english[name], f"{code}: {name}"


async def test_index_html_says_what_the_english_catalogue_says(page):
    english = (await page.evaluate(CATALOGUES))["en"]
    html = (BUILT_IN / "index.html").read_text()
    placed = 0
    for _, attributes, text in PLACED.findall(html):
        said = dict(re.findall(r'([\w-]+)="([^"]*)"', attributes))
        if "data-text" in said:
            assert text.strip() == english[said["data-text"]], said["data-text"]
            placed += 1
        elif re.search(r"[^\W\d_]{2}", text) and "noscript" not in _:
            assert text.strip() in UNTRANSLATED, text
        for place, attribute in PLACES.items():
            if place in said:
                assert said[attribute] == english[said[place]], said[place]
                placed += 1
            elif attribute in said and re.search(r"[^\W\d_]{2}", said[attribute]):
                assert said[attribute] in UNTRANSLATED, said[attribute]
    assert placed > 60


UNTRANSLATED = (
    "Parley",
    "Slack",
    "Jira",
    "Jira Data Center",
    "Linear",
    "Bitbucket",
    "JSON",
    "zip",
    "owner/name",
)


async def views(reader):
    """Show one view after the other, each with its name."""
    await reader.visit("/")
    await expect(reader.part("beginning")).to_have_count(4)
    yield "front"
    await reader.visit("/conversations/gallery")
    await expect(reader.part("agent-state")).to_have_attribute("data-state", "awaiting_user_input")
    await reader.entries()
    for part in range(2):
        await scroll(reader.page, part, 1)
        yield f"gallery-{part}"
    await reader.part("usage").click()
    yield "usage"
    await reader.page.keyboard.press("Escape")
    if await reader.part("drawer-open").is_visible():
        await reader.part("drawer-open").click()
    await reader.part("filter-toggle").click()
    yield "list"
    for dialog in ("settings", "shortcuts"):
        await reader.part(f"open-{dialog}").click()
        await expect(reader.part(f"{dialog}-dialog").locator("[aria-busy=true]")).to_have_count(0)
        yield dialog
        await reader.part(f"{dialog}-dialog-close").click()


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_page_in_german_is_german_and_can_be_read(browser, library, scheme, size):
    context = await new_context(browser, viewport=size, color_scheme=scheme, locale="de-DE")
    reader = await person(context, library.url)
    await reader.visit()
    catalogues = await reader.page.evaluate(CATALOGUES)
    german = {text for text in catalogues["de"].values() if isinstance(text, str)}
    english = {text for text in catalogues["en"].values() if isinstance(text, str)} - german
    data = f"{TITLE} {gallery()}"
    async for view in views(reader):
        shown = await reader.page.evaluate(SHOWN)
        assert not [text for text in shown if text in english and text not in data], view
        await picture(reader, f"german-{view}-{size['width']}-{scheme}")
        _, faint = await faint_texts(reader.page)
        assert not faint, view
        assert not await broken_rules(reader.page), view
        assert await reader.fits(), view
    assert await reader.page.evaluate("document.documentElement.lang") == "de"
    assert not await reader.found_fault()
    await context.close()


async def test_what_is_shown_in_both_languages_differs(browser, library):
    seen: dict[str, dict[str, set[str]]] = {}
    for locale in ("en-GB", "de-DE"):
        context = await new_context(browser, locale=locale)
        reader = await person(context, library.url)
        seen[locale] = {
            view: set(await reader.page.evaluate(SHOWN)) async for view in views(reader)
        }
        catalogues = await reader.page.evaluate(CATALOGUES)
        await context.close()
    same = {text for text in catalogues["de"].values() if isinstance(text, str)}
    same &= {text for text in catalogues["en"].values() if isinstance(text, str)}
    async with httpx.AsyncClient(base_url=library.url) as client:
        examples = (await client.get("/api/options/examples")).json()
    said = f"{TITLE} A thousand events Ten thousand events {gallery()} {examples}"
    for view in ("front", "gallery-0", "gallery-1", "list"):
        both = {repr(one)[1:-1] for one in seen["en-GB"][view] & seen["de-DE"][view] - same}
        assert not [one for one in both if one not in said and one not in ALIKE | OWN], view


ALIKE = frozenset((*UNTRANSLATED, "Agent, 09:15", "Code, python", "Alt", "scripted"))
OWN = frozenset((repr('{\n  "id": 4711,\n  "text": "fixed"\n}')[1:-1],))
"""Arguments of the gallery in the form in which the page shows them."""


async def test_a_language_is_chosen_in_the_settings_and_stays(context, library):
    reader = await person(context, library.url)
    await reader.visit()
    await reader.part("composer").fill("kept")
    await expect(reader.part("new-conversation")).to_have_text("New conversation")
    await reader.part("open-settings").click()
    await reader.part("page-language").select_option("de")
    await expect(reader.part("new-conversation")).to_have_text("Neue Unterhaltung")
    await expect(reader.part("composer")).to_have_value("kept")
    await reader.page.reload()
    await expect(reader.part("new-conversation")).to_have_text("Neue Unterhaltung")
    await reader.visit("/admin")
    assert await reader.page.evaluate("document.documentElement.lang") == "en"
    await reader.visit("/")
    await reader.part("open-settings").click()
    await reader.part("page-language").select_option("")
    await expect(reader.part("new-conversation")).to_have_text("New conversation")
    assert not await reader.found_fault()


async def test_a_language_that_the_page_has_not_is_english(browser, library):
    context = await new_context(browser, locale="fr-FR")
    reader = await person(context, library.url)
    await reader.visit()
    await expect(reader.part("new-conversation")).to_have_text("New conversation")
    assert await reader.page.evaluate("document.documentElement.lang") == "en"
    await context.close()
