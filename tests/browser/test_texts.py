"""The page's own reading of texts: changes between files, terminal output, hidden characters."""

from random import Random

import pytest

from tests.support.browser import thread_ms

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.asyncio(loop_scope="session"),
]

PAIRS = 500
CHANGES = """
async (pairs) => {
  const { changesBetween } = await import("/assets/text/changes.js");
  return pairs.map(([old, fresh]) => changesBetween(old, fresh));
}
"""
COUNTED = """
async ([old, fresh]) => {
  const { changesBetween } = await import("/assets/text/changes.js");
  return changesBetween(old, fresh).length;
}
"""
UNIFIED = """async (diff) => (await import("/assets/text/changes.js")).readUnified(diff)"""
RUNS = """
async (text) => (await import("/assets/text/ansi.js")).runsOf(text).map((run) => [run.text, run.look])
"""
REVEALED = """async (text) => (await import("/assets/text/revealed.js")).revealed(text)"""
ADDRESS = """async (href) => (await import("/assets/text/links.js")).linkAddress(href)"""

TERMINAL = {
    "colours": ("\x1b[31mred\x1b[0m plain", [["red", "ansi-red"], [" plain", ""]]),
    "bold in a colour": (
        "\x1b[1;32mok\x1b[22mgo",
        [["ok", "ansi-green ansi-bold"], ["go", "ansi-green"]],
    ),
    "a colour of 256": ("\x1b[38;5;9mred\x1b[38;5;200mother", [["red", "ansi-red"], ["other", ""]]),
    "a colour of millions": ("\x1b[38;2;1;2;31mx", [["x", ""]]),
    "moves of the cursor": ("\x1b[2J\x1b[1;1Hhere\x1b[K", [["here", ""]]),
    "a window's title": ("\x1b]0;title\x07text", [["text", ""]]),
    "a link": ("\x1b]8;;https://example.org\x1b\\text\x1b]8;;\x1b\\", [["text", ""]]),
    "a line written anew": ("10%\r50%\r100%\nend\r\n", [["100%\nend\n", ""]]),
    "a bell and a null": ("a\x07b\x00c", [["abc", ""]]),
    "a sequence cut off": ("text\x1b[3", [["text", ""]]),
}
REFUSED = ["javascript:1", "JAVASCRIPT:1", " javascript:1", "java\nscript:1", "data:text/html,x",
           "vbscript:x", "blob:http://x/y", "file:///etc/passwd", "/api", "//host/x", "x", "", None, 5]  # fmt: skip


async def test_the_lines_that_are_neither_added_nor_removed_are_the_same(page):
    chosen = Random(1)  # noqa: S311 - a seed makes the trial repeatable
    pairs = [
        [[chosen.choice("abc") for _ in range(chosen.randrange(12))] for _ in range(2)]
        for _ in range(PAIRS)
    ]

    found = await page.evaluate(CHANGES, [["\n".join(text) for text in pair] for pair in pairs])

    for (old, fresh), lines in zip(pairs, found, strict=True):
        removed = {line["before"]: line["text"] for line in lines if line["sign"] == "removed"}
        added = {line["after"]: line["text"] for line in lines if line["sign"] == "added"}
        kept = [text for number, text in enumerate(old, 1) if number not in removed]
        assert kept == [text for number, text in enumerate(fresh, 1) if number not in added]
        assert all(old[number - 1] == text for number, text in removed.items())
        assert all(fresh[number - 1] == text for number, text in added.items())


async def test_unchanged_stretches_are_left_out(page):
    old = "\n".join(map(str, range(100)))

    (lines,) = await page.evaluate(CHANGES, [[old, old.replace("\n50\n", "\nfifty\n")]])

    assert [line["sign"] for line in lines] == ["same"] * 3 + ["removed", "added"] + ["same"] * 3
    assert lines[3] == {"sign": "removed", "before": 51, "after": None, "text": "50"}


async def test_texts_with_nothing_in_common_take_no_long_search(page):
    old, fresh = ("\n".join(f"{side}{number}" for number in range(20_000)) for side in "ab")

    async with thread_ms(page) as taken:
        count = await page.evaluate(COUNTED, [old, fresh])

        assert count == 40_000
        assert await taken() < 2_000


async def test_a_unified_diff_keeps_its_numbers(page):
    diff = "--- a\n+++ b\n@@ -1,2 +1,2 @@\n x\n-y\n+z\n@@ -10 +10 @@ f()\n---k\n\\ No newline at end of file\n"

    lines = await page.evaluate(UNIFIED, diff)

    assert [(line["sign"], line["before"], line["after"], line["text"]) for line in lines] == [
        ("same", 1, 1, "x"),
        ("removed", 2, None, "y"),
        ("added", None, 2, "z"),
        ("gap", None, None, "f()"),
        ("removed", 10, None, "--k"),
    ]


async def test_terminal_output_reads_as_on_a_terminal(page):
    for name, (text, runs) in TERMINAL.items():
        assert await page.evaluate(RUNS, text) == runs, name


async def test_characters_that_hide_or_reorder_are_spelled_out(page):
    assert await page.evaluate(REVEALED, "rm \u202e-rf\u200b\x1b[0m\nnext\t") == (
        "rm ⟨U+202E⟩-rf⟨U+200B⟩⟨U+001B⟩[0m\nnext\t"
    )


async def test_an_address_of_another_scheme_is_no_link(page):
    for href in REFUSED:
        assert await page.evaluate(ADDRESS, href) is None, href


async def test_an_address_of_an_allowed_scheme_is_a_link(page):
    for href in ("https://example.org/a", "http://x/", "mailto:a@example.org"):
        assert await page.evaluate(ADDRESS, href) == href
