"""Modules and style sheets joined into one file: what it does, and where its lines come from."""

import asyncio
import json
import shutil
from asyncio.subprocess import PIPE

import pytest

from server.routes.bundles import BundleError, join_scripts, join_styles
from tests.support.waiting import WAIT_SECONDS

DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
MODULES = {
    "app.js": """/** The entry. */
import { greeting, twice as doubled } from "./deep/words.js";
import {
  Counter,
  LIMIT,
} from "./counter.js";
import "./effect.js";

/** @param {import("./types.js").Type} given */
const counter = new Counter();
counter.count();
console.log(JSON.stringify([greeting("you"), doubled(LIMIT), counter.counted, globalThis.effect]));
""",
    "deep/words.js": """import { LIMIT } from "../counter.js";

export function greeting(name) {
  return `import { nothing } of ${name} ${LIMIT}`;
}
const both = (one) => one * 2;
export { both as twice, greeting as default };
""",
    "counter.js": """export class Counter {
  counted = 0;
  count() {
    this.counted += 1;
  }
}
export const LIMIT = 21;
export async function later() {}
""",
    "effect.js": "globalThis.effect = typeof counted;",
}


def joined(modules):
    return join_scripts("app.js", modules.__getitem__, "joined.js.map")


def places(source_map):
    """For each line of a joined file, the source and line it comes from, or None."""
    source = line = 0
    for mapping in source_map["mappings"].split(";"):
        if mapping:
            _, source_step, line_step, _ = decoded(mapping)
            source, line = source + source_step, line + line_step
            yield source_map["sources"][source], line
        else:
            yield None


def decoded(mapping):
    number, shift = 0, 0
    for digit in map(DIGITS.index, mapping):
        number |= (digit & 31) << shift
        shift += 5
        if not digit & 32:
            yield -(number >> 1) if number & 1 else number >> 1
            number = shift = 0


async def test_joined_modules_do_what_they_do_apart():
    node = shutil.which("node")
    assert node is not None, "Node.js is not installed; scripts/setup-tools does that"
    process = await asyncio.create_subprocess_exec(
        node, "--input-type=module", "-", stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    async with asyncio.timeout(WAIT_SECONDS):
        out, err = await process.communicate(joined(MODULES).text.encode())

    assert not err.decode()
    assert json.loads(out) == ["import { nothing } of you 21", 42, 1, "undefined"]


@pytest.mark.parametrize("kind", ["script", "styles"])
def test_every_line_of_a_joined_file_leads_to_the_line_it_was(kind):
    sources = (
        MODULES if kind == "script" else {"b.css": "b {\n  top: 0;\n}\n", "a.css": "a { top: 1px }"}
    )
    bundle = (
        joined(MODULES)
        if kind == "script"
        else join_styles(sources, sources.__getitem__, "joined.css.map")
    )
    source_map = json.loads(bundle.source_map)
    lines = bundle.text.split("\n")
    found = {place: line for line, place in zip(lines, places(source_map), strict=False) if place}

    assert sorted(source_map["sources"]) == sorted(sources)
    for name, text in sources.items():
        for number, line in enumerate(text.splitlines()):
            if not line.startswith(("import", "export", "  Counter", "  LIMIT", "}", "/**")):
                assert found[name, number] == line
    assert bundle.text.rstrip("*/ \n").endswith(
        f"# sourceMappingURL=joined.{'js' if kind == 'script' else 'css'}.map"
    )


def test_comments_are_left_out_where_they_have_lines_for_themselves():
    source = """/**
 * What it is.
 *
 * @returns {string}
 */
const one = "/** not this */", two = "https://x.example"; // nor this
  // But this.
const three = /** @type {any} */ (one);
/** Copyright Somebody. */
/** And this. */ two();
"""
    text = joined({"app.js": source}).text

    kept = [line for line in text.splitlines()[1:] if line]
    assert kept[:4] == [
        'const one = "/** not this */", two = "https://x.example"; // nor this',
        "  ",
        "const three = /** @type {any} */ (one);",
        "/** Copyright Somebody. */",
    ]
    assert kept[4] == " two();"
    assert len(text.splitlines()) == len(source.splitlines()) + 4


def test_what_is_imported_when_it_is_needed_stays_a_file_of_its_own():
    modules = {
        "app.js": 'import "./views/code.js";\n',
        "views/code.js": 'import("../vendor/x.js");\n',
    }

    assert 'import("./vendor/x.js")' in joined(modules).text


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (
            'import * as all from "./b.js";',
            "app.js: a form that cannot be joined: import [*] as all",
        ),
        ('import whole from "./b.js";', "app.js: a form that cannot be joined: import whole"),
        ("export let changing = 1;", "app.js: a form that cannot be joined: export let"),
        ('export * from "./b.js";', "app.js: a form that cannot be joined: export [*]"),
        ('import { a } from "./b.js";', "in a circle: app.js -> b.js -> app.js"),
    ],
)
def test_a_form_that_would_not_mean_the_same_is_refused_by_name(source, why):
    modules = {"app.js": source, "b.js": 'import { c } from "./app.js";\n'}

    with pytest.raises(BundleError, match=why):
        joined(modules)
