"""Texts that are being written, as the page holds them and draws them as they grow."""

from random import Random

import pytest

from tests.browser.test_markdown import FORMULAS, HEAVY, HOSTILE

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.asyncio(loop_scope="session"),
]

HOLD = """
async (steps) => {
  const { afterDelta, afterEvent, cursorOf, NOTHING_HELD } = await import("/assets/partials.js");
  let held = NOTHING_HELD;
  const fitted = steps.map((step) => {
    if (step.type === undefined) {
      held = afterEvent(held, step);
      return true;
    }
    const after = afterDelta(held, step);
    held = after.held;
    return after.fits;
  });
  return { texts: Object.fromEntries([...held.values()].map((one) => [one.id, one.text])), cursor: cursorOf(held), fitted };
}
"""
GROW = """
async ([text, cuts, whole]) => {
  const { GrowingProse } = await import("/assets/views/growing.js");
  const { markdown } = await import("/assets/views/markdown.js");
  const prose = new GrowingProse();
  for (const cut of cuts) prose.show(text.slice(0, cut));
  const first = prose.element.firstElementChild;
  prose.finish(whole ?? text, markdown);
  const anew = document.createElement("div");
  anew.append(markdown(whole ?? text));
  return { grown: prose.element.innerHTML, anew: anew.innerHTML, kept: first !== null && first === prose.element.firstElementChild };
}
"""
PROGRESS = """
async (text) => {
  const { GrowingProse } = await import("/assets/views/growing.js");
  const prose = new GrowingProse();
  const seen = [];
  for (let to = 1; to <= text.length; to += 1) {
    prose.show(text.slice(0, to));
    const tags = [...prose.element.children].map((one) => one.tagName);
    if (String(tags) !== String(seen.at(-1))) seen.push(tags);
  }
  return seen;
}
"""
REDRAWN = """
async ([text, step]) => {
  const { GrowingProse } = await import("/assets/views/growing.js");
  const prose = new GrowingProse();
  let made = 0;
  new MutationObserver((changes) => {
    for (const { addedNodes } of changes)
      for (const node of addedNodes) made += 1 + (node.querySelectorAll?.("*").length ?? 0);
  }).observe(prose.element, { childList: true, subtree: true });
  for (let to = step; to <= text.length; to += step) prose.show(text.slice(0, to));
  await new Promise(requestAnimationFrame);
  return { made, last: prose.element.querySelectorAll("*").length };
}
"""
WORK = """
async ([text, step]) => {
  const { Lexer } = await import("/assets/vendor/marked.esm.js");
  const { GrowingProse } = await import("/assets/views/growing.js");
  let read = { blocks: 0, inlines: 0 };
  let within = 0;
  const { blockTokens, inlineTokens } = Lexer.prototype;
  Lexer.prototype.blockTokens = function (source, ...others) {
    // The parser calls it again for what stands in blocks.
    if (within === 0) read.blocks += source.length;
    within += 1;
    try {
      return blockTokens.call(this, source, ...others);
    } finally {
      within -= 1;
    }
  };
  Lexer.prototype.inlineTokens = function (source, ...others) {
    read.inlines += source.length;
    return inlineTokens.call(this, source, ...others);
  };
  const prose = new GrowingProse();
  const characters = (node) => (node instanceof Text || node instanceof Element ? node.textContent.length : 0);
  const watcher = new MutationObserver(() => {});
  watcher.observe(prose.element, { childList: true, characterData: true, subtree: true });
  const work = [];
  for (let to = step; to <= text.length; to += step) {
    read = { blocks: 0, inlines: 0 };
    prose.show(text.slice(0, to));
    const drawn = watcher.takeRecords().flatMap((one) => [...one.addedNodes]).reduce((sum, node) => sum + characters(node), 0);
    work.push({ drawn, ...read });
  }
  Object.assign(Lexer.prototype, { blockTokens, inlineTokens });
  return work;
}
"""
KEPT = """
async ([texts, whole]) => {
  const { GrowingProse } = await import("/assets/views/growing.js");
  const { markdown } = await import("/assets/views/markdown.js");
  const prose = new GrowingProse();
  const blocks = () => [...(prose.element.querySelector("blockquote")?.children ?? [])];
  const seen = texts.map((text) => {
    prose.show(text);
    return blocks().slice(0, -1);
  });
  prose.finish(whole, markdown);
  return seen.map((before) => before.map((block) => (blocks().includes(block) ? block.tagName : "")));
}
"""
ANSWER = """\
# Title

Some *text* with `code`, a [link](https://example.org), and more
on a second line.

## Below

- one
- two
  - nested

  with a paragraph
- three

1. first
2. second

| a | b |
|---|--:|
| 1 | 2 |
| 3 | 4 |

```python
def f():
    return "```"
```

~~~
tilde
```
~~~

> quoted
> > twice

Setext
------

***

    indented code

- [ ] open
- [x] done

The end.\
"""


LONG_PARAGRAPHS = {
    "words": "some words of it, ",
    "marks": "some `code` and **bold words** of [it](https://example.org), ",
    "lines": "a line of *it*\n",
    "names": "snake_case_name = other_name * 2 < 3 [0] ",
    "a mark that stays open": "and *so on and ",
    "one word": "word",
}
LONG_QUOTES = {
    "paragraphs": "> A paragraph of *some* words.\n>\n",
    "one line": LONG_PARAGRAPHS["marks"],
    "lines": "> a line of *it*\n",
    "lines without a mark": "a line of *it*\n",
    "lists": "> - an item of `some` words\n",
    "code": "> print('code')\n",
    "quotes within": "> > a line of *it*\n",
}
QUOTE_HEADS = {"code": "> ```py\n"}
ROW = "| a | b |\n|---|---|\n| first | "
LONG_BLOCKS = {
    "an item": "- ",
    "an item that is a task": "- [ ] ",
    "an item behind others": "1. one\n2. two\n3. ",
    "an item within an item": "- one\n  - two\n    - ",
    "an item in a loose list": "- one\n\n- two\n\n  and more\n\n  ",
    "a quote in an item": "- > ",
    "an item in a quote": "> - ",
    "a quote within many": "> > > > > > ",
    "a cell": ROW,
    "a cell behind rows": ROW + "x |\n| second | ",
    "a heading": "## ",
}
"""What a line of text stands behind, and is part of."""
MOST_PARSED = 8_000
"""Characters: some are read several times, as blocks and within their block; all of it is 18,000."""
MOST_DRAWN = 6_000
"""Characters: an end that is long, parted, and read once as it was before that."""
PARTS = [
    "word", "a longer word", "*em*", "**strong words**", "`code`", "``two ` ticks``", "~~gone~~", "[a link](https://example.org)",
    "https://example.org/a_b", "snake_case", "_under_", "2 * 3", "a < b", "$5", "$a_1$", "\\(x_1\\)", "[0]", "[open", "*open", "`open",
    "<b>", "a@example.org", "\\*", "![x](y)", "**a *b* c**", "&amp;", "wide \N{SNOWMAN}", "1.", "-", "#",
]  # fmt: skip
QUOTED = [
    *PARTS,
    "# Heading",
    "## Below",
    "- item",
    "1. one",
    "```",
    "> deeper",
    "| a | b |",
    "|---|---|",
    "---",
    "===",
    "    code",
    "[open]: /x",
]
MARKS = ["> ", "> ", "> ", "> ", "> ", ">", " > ", "   >  ", "> > ", ">\t", ""]
INDENTS = ["", "", "", "  ", "  ", "   ", "    ", "      "]
ITEM_MARKS = ["- ", "- ", "- ", "1. ", "2. ", "- [ ] ", "- [x] ", "* ", "> ", "", "", "\n  "]
SEPARATORS = [" ", " ", " ", "  ", "\n", " \n", "  \n", ", "]


def text(name, at, piece, **first):
    return {"type": "text", "id": name, "at": at, "to": at + len(piece), "text": piece, **first}


def opened(**at):
    named = [
        {"id": name, "kind": "message", "field": "content", "turn": 1, "at": to}
        for name, to in at.items()
    ]
    return {"type": "open", "partials": named}


FIRST = {"kind": "message", "field": "content", "turn": 1}
STEPS = {
    "nothing": ([], {}, "1", []),
    "pieces": ([text("a", 0, "Good ", **FIRST), text("a", 5, "day")], {"a": "Good day"}, "a:8", [True] * 2),
    "code points": ([text("a", 0, "🙂", **FIRST), text("a", 1, "é")], {"a": "🙂é"}, "a:2", [True] * 2),
    "two at a time": (
        [text("a", 0, "x", **FIRST), text("b", 0, "y", **FIRST), text("a", 1, "z")],
        {"a": "xz", "b": "y"},
        "a:2,b:1",
        [True] * 3,
    ),
    "its event": ([text("a", 0, "x", **FIRST), {"id": 4, "partial": "a"}], {}, "1", [True] * 2),
    "another event": ([text("a", 0, "x", **FIRST), {"id": 4}], {"a": "x"}, "a:1", [True] * 2),
    "dropped": (
        [text("a", 0, "x", **FIRST), {"type": "dropped", "id": "a", "why": "anew"}],
        {},
        "1",
        [True] * 2,
    ),
    "opened without it": ([text("a", 0, "x", **FIRST), opened(b=0)], {}, "1", [True] * 2),
    "opened as it is held": ([text("a", 0, "xy", **FIRST), opened(a=2)], {"a": "xy"}, "a:2", [True] * 2),
    "opened from the beginning": ([text("a", 0, "xy", **FIRST), opened(a=0)], {}, "1", [True] * 2),
    "opened beyond what is held": ([opened(a=2)], {}, "1", [False]),
    "a gap": ([text("a", 0, "x", **FIRST), text("a", 2, "z")], {"a": "x"}, "a:1", [True, False]),
    "twice the same": ([text("a", 0, "x", **FIRST), text("a", 0, "x", **FIRST)], {"a": "x"}, "a:1", [True, False]),
    "of another kind": ([{"type": "later", "id": "a"}], {}, "1", [True]),
}  # fmt: skip


@pytest.mark.parametrize(("steps", "texts", "cursor", "fitted"), STEPS.values(), ids=STEPS)
async def test_what_is_held_follows_events_and_deltas(page, steps, texts, cursor, fitted):
    held = await page.evaluate(HOLD, steps)

    assert held == {"texts": texts, "cursor": cursor, "fitted": fitted}


@pytest.mark.parametrize("seed", range(3))
async def test_a_text_that_grew_is_drawn_as_one_that_came_whole(page, seed):
    random = Random(seed)  # noqa: S311
    texts = [ANSWER, *HOSTILE.values(), *(source for source, _ in FORMULAS.values())]
    parts = ANSWER.split("\n\n")
    texts += ["\n\n".join(random.choices(parts, k=6)) for _ in range(10)]
    texts += [
        f"{ANSWER}\n\n[link]: https://example.org\n\n[link] again",
        ANSWER.replace("\n", "\r\n"),
    ]
    for whole in texts:
        cuts = sorted(random.choices(range(len(whole) + 1), k=12))
        drawn = await page.evaluate(GROW, [whole, cuts, None])
        assert drawn["grown"] == drawn["anew"], whole


async def test_a_text_that_grows_by_single_characters_is_drawn_as_one_that_came_whole(page):
    drawn = await page.evaluate(GROW, [ANSWER, list(range(1, len(ANSWER))), None])

    assert drawn["grown"] == drawn["anew"]
    assert drawn["kept"]


async def test_an_event_with_another_text_replaces_what_was_shown(page):
    drawn = await page.evaluate(GROW, ["the key is abc", [5, 14], "the key is <secret_hidden>"])

    assert drawn["grown"] == drawn["anew"]


@pytest.mark.parametrize(
    "name", ["quotes within quotes", "brackets", "lists within lists", "blanks"]
)
async def test_a_heavy_text_that_grew_is_drawn_as_one_that_came_whole(page, name):
    whole = HEAVY[name]
    cuts = [len(whole) // 3, len(whole) // 2, len(whole) - 1]

    drawn = await page.evaluate(GROW, [whole, cuts, None])

    assert drawn["grown"] == drawn["anew"]


async def test_a_block_is_not_taken_for_another_while_its_first_line_is_written(page):
    seen = await page.evaluate(
        PROGRESS, "Items:\n- one\n- two\n\n```sh\nls\n```\n\n1. x\n\n---\n\nend"
    )

    assert seen == [
        ["P"],
        ["P", "UL"],
        ["P", "UL", "DIV"],
        ["P", "UL", "DIV", "OL"],
        ["P", "UL", "DIV", "OL", "HR"],
        ["P", "UL", "DIV", "OL", "HR", "P"],
    ]


@pytest.mark.parametrize(
    "piece",
    ["A paragraph of *some* words.\n\n", "- an item of `some` words\n", "| a | row of *words* |\n", "print('code')\n"],
    ids=["paragraphs", "list", "table", "code"],
)  # fmt: skip
async def test_the_work_for_a_piece_does_not_grow_with_the_text(page, piece):
    head = {"|": "| a | b |\n|---|---|\n", "p": "```py\n"}.get(piece[0], "")
    made = {
        count: (await page.evaluate(REDRAWN, [head + piece * count, 7]))["made"]
        for count in (30, 300)
    }

    assert made[300] < 12 * made[30]


@pytest.mark.parametrize("words", LONG_PARAGRAPHS.values(), ids=LONG_PARAGRAPHS)
async def test_what_is_drawn_for_a_piece_of_a_long_paragraph_is_bounded(page, words):
    work = await page.evaluate(WORK, [words * (9_000 // len(words)), 5])

    assert len(work) > 1_500
    assert max(one["drawn"] for one in work) < MOST_DRAWN


@pytest.mark.parametrize("name", LONG_QUOTES)
async def test_what_is_read_and_drawn_for_a_piece_of_a_long_quote_is_bounded(page, name):
    part = LONG_QUOTES[name]
    text = QUOTE_HEADS.get(name, "> ") + part * (9_000 // len(part))

    work = await page.evaluate(WORK, [text, 5])

    assert len(work) > 1_500
    assert max(one["drawn"] for one in work) < MOST_DRAWN
    assert max(one["blocks"] + one["inlines"] for one in work) < MOST_PARSED


@pytest.mark.parametrize("head", LONG_BLOCKS.values(), ids=LONG_BLOCKS)
async def test_of_a_long_block_only_the_end_is_read_and_drawn_for_a_piece(page, head):
    words = LONG_PARAGRAPHS["marks"]

    work = await page.evaluate(WORK, [head + words * (9_000 // len(words)), 17])

    assert len(work) > 500
    assert max(one["drawn"] for one in work) < MOST_DRAWN
    assert max(one["inlines"] for one in work) < MOST_PARSED


async def test_of_an_item_with_many_blocks_those_that_are_whole_stay(page):
    text = "1. First\n\n" + "   A paragraph of *some* words.\n\n" * 250

    work = await page.evaluate(WORK, [text, 17])

    assert max(one["drawn"] for one in work[30:]) < MOST_DRAWN


@pytest.mark.parametrize("seed", range(3))
async def test_a_quote_that_grew_is_drawn_as_one_that_came_whole(page, seed):
    random = Random(seed)  # noqa: S311
    for _ in range(25):
        lines = [
            random.choice(MARKS) + " ".join(random.choices(QUOTED, k=random.choice([0, 1, 3, 30])))
            for _ in range(random.choice([3, 10, 40]))
        ]
        whole = "\n".join(lines) + random.choice(["", "\n\n# After\n\n> again", "\n\n\n> # again"])
        cuts = sorted(random.choices(range(len(whole) + 1), k=40))
        drawn = await page.evaluate(GROW, [whole, cuts, None])
        assert drawn["grown"] == drawn["anew"], whole


@pytest.mark.parametrize("seed", range(3))
async def test_a_list_that_grew_is_drawn_as_one_that_came_whole(page, seed):
    random = Random(seed)  # noqa: S311
    for _ in range(25):
        lines = [
            random.choice(INDENTS)
            + random.choice(ITEM_MARKS)
            + " ".join(random.choices(QUOTED, k=random.choice([0, 1, 3, 30, 200])))
            for _ in range(random.choice([2, 6, 15]))
        ]
        whole = "- " + "\n".join(lines) + random.choice(["", "\n\nAfter it", "\n\n\n1) again"])
        cuts = sorted(random.choices(range(len(whole) + 1), k=60))
        drawn = await page.evaluate(GROW, [whole, cuts, None])
        assert drawn["grown"] == drawn["anew"], whole


@pytest.mark.parametrize("seed", range(3))
async def test_a_table_that_grew_is_drawn_as_one_that_came_whole(page, seed):
    random = Random(seed)  # noqa: S311
    for _ in range(15):
        head = random.choice(["| a | b |\n|---|--:|\n", "a | b | c\n:-: | - | -\n"])
        rows = [
            random.choice(["| ", "", " | "])
            + " | ".join(
                " ".join(random.choices([*PARTS, "\\|", "x\\| y"], k=random.choice([0, 1, 3, 150])))
                for _ in range(random.choice([1, 2, 2, 3, 4]))
            )
            + random.choice([" |", "", " | |"])
            for _ in range(random.choice([1, 3, 12]))
        ]
        whole = head + "\n".join(rows) + random.choice(["", "\n\nAfter *it*", "\n> a quote"])
        cuts = sorted(random.choices(range(len(whole) + 1), k=60))
        drawn = await page.evaluate(GROW, [whole, cuts, None])
        assert drawn["grown"] == drawn["anew"], whole


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("> a paragraph\nand more", True),
        ("> # a heading\nand more", False),
        ("> ```\n> code\nand more", False),
        ("> a paragraph\n>\nand more", False),
    ],
)
async def test_a_line_without_a_mark_is_drawn_in_the_quote_whose_paragraph_it_continues(
    page, text, quoted
):
    shown = (await page.evaluate(PROGRESS, text))[-1]

    assert shown == (["BLOCKQUOTE"] if quoted else ["BLOCKQUOTE", "P"])


async def test_a_quote_keeps_the_blocks_that_it_shows_while_more_of_it_is_written(page):
    lines = [
        "> # First",
        "> Some *words*",
        "and more",
        "> - an item",
        "> ",
        "> The `end`",
        "",
        "Then.",
    ]
    texts = ["\n".join(lines[: count + 1]) for count in range(len(lines) - 1)]

    kept = await page.evaluate(KEPT, [texts, "\n".join(lines)])

    all_of_it = ["H2", "P", "UL"]
    assert kept == [all_of_it[:count] for count in (0, 1, 1, 2, 2, 3, 3)]


@pytest.mark.parametrize("seed", range(3))
async def test_a_long_paragraph_that_grew_is_drawn_as_one_that_came_whole(page, seed):
    random = Random(seed)  # noqa: S311
    for _ in range(8):
        parts = random.choices(PARTS, k=300)
        whole = "".join(part + random.choice(SEPARATORS) for part in parts)
        whole += random.choice(
            ["", "\n===", "\n- an item", "\n\nAnother *one*.", "\n| a |\n|---|\n"]
        )
        cuts = sorted(random.choices(range(len(whole) + 1), k=60))
        drawn = await page.evaluate(GROW, [whole, cuts, None])
        assert drawn["grown"] == drawn["anew"], whole


async def test_a_long_text_does_not_lose_its_form_as_it_grows(page):
    whole = "\n\n".join(f"Part **{part}** of it." for part in range(2_000))
    assert len(whole) > 40_000
    code = "```py\n" + "print('a line of code')\n" * 1_500 + "```\n\nAnd **then**."

    paragraphs = await page.evaluate(GROW, [whole, range_to(whole, 300), None])
    listing = await page.evaluate(GROW, [code, range_to(code, 300), None])
    at_once = await page.evaluate(GROW, [whole, [len(whole)], None])

    assert paragraphs["grown"].count("<strong>") == 2_000
    assert at_once["grown"] == paragraphs["grown"]
    assert listing["grown"].count("<pre") == 1
    assert "<strong>then</strong>" in listing["grown"]
    assert "```" not in listing["grown"]


def range_to(whole, step):
    return list(range(step, len(whole), step))
