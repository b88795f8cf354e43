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


def all_joined(modules):
    return join_scripts("app.js", modules.__getitem__, "joined.js")


def joined(modules):
    return all_joined(modules)["joined.js"]


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


async def said_by(script):
    """The output of Node.js for a file."""
    node = shutil.which("node")
    assert node is not None, "Node.js is not installed; scripts/setup-tools does that"
    process = await asyncio.create_subprocess_exec(node, str(script), stdout=PIPE, stderr=PIPE)
    async with asyncio.timeout(WAIT_SECONDS):
        out, err = await process.communicate()
    assert not err.decode()
    return json.loads(out)


def written(folder, files):
    folder.mkdir(exist_ok=True)
    (folder / "package.json").write_text('{"type": "module"}')
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


async def test_joined_modules_do_what_they_do_apart(tmp_path):
    written(tmp_path, {"joined.js": joined(MODULES).text})

    found = await said_by(tmp_path / "joined.js")
    assert found == ["import { nothing } of you 21", 42, 1, "undefined"]


TEXTS = """import { LIMIT } from "./counter.js";

const quote = /[/`'"]/g;
const ratio = LIMIT / 3 / 7;
const text = `
// A comment, as a text.
import { nothing } from "./nowhere.js";
/** Another one. */
${[1, 2].map((one) => `
// Within: ${{ one }.one} // of ${"`}"}
`).join("")}
export const not = "\\`";
`;
// A comment with ` in it.
console.log(JSON.stringify([text, ratio, "a`b".replace(quote, "")]));
"""
SAID = """
// A comment, as a text.
import { nothing } from "./nowhere.js";
/** Another one. */

// Within: 1 // of `}

// Within: 2 // of `}

export const not = "`";
"""


async def test_lines_of_a_text_are_text_whatever_they_look_like(tmp_path):
    """Both as they stand apart and joined."""
    modules = {"counter.js": MODULES["counter.js"], "app.js": TEXTS}
    written(tmp_path, modules)
    written(tmp_path, {"joined.js": joined(modules).text})

    assert await said_by(tmp_path / "app.js") == [SAID, 1, "ab"]
    assert await said_by(tmp_path / "joined.js") == [SAID, 1, "ab"]
    assert "A comment with" not in joined(modules).text


LAZY = {
    "app.js": """import { count } from "./count.js";
import { own } from "./language.js";
count.first += 1;
void Promise.all([import("./views/one.js"), import("./two.js")]).then(([{ one }, { two: other }]) => {
  console.log(JSON.stringify([own, one(), other(), count]));
});
""",
    "count.js": "export const count = { first: 0, one: 0, both: 0 };\n",
    "language.js": """import { count } from "./count.js";
export const own = count.first === 0 ? (await import("./languages/de.js")).DE : "";
""",
    "languages/de.js": 'export const DE = "Deutsch";\n',
    "views/one.js": """import { count } from "../count.js";
import { both } from "../both.js";
export function one() {
  count.one += both;
  return "one";
}
""",
    "both.js": """import { count } from "./count.js";
count.both += 1;
export const both = 7;
""",
    "two.js": """import { both } from "./both.js";
import { alone } from "./alone.js";
const two = () => both + alone;
export { two };
""",
    "alone.js": "export const alone = 3;\n",
}


async def test_what_is_imported_when_it_is_needed_shares_the_modules_of_the_first(tmp_path):
    bundles = all_joined(LAZY)
    written(tmp_path, {name: bundle.text for name, bundle in bundles.items()})
    # A module that imports nothing stays a file of its own.
    written(tmp_path, {"languages/de.js": LAZY["languages/de.js"]})
    written(tmp_path / "apart", LAZY)

    expected = ["Deutsch", "one", 10, {"first": 1, "one": 7, "both": 1}]
    assert sorted(bundles) == ["joined-two.js", "joined-views-one.js", "joined.js"]
    assert await said_by(tmp_path / "apart" / "app.js") == expected
    assert await said_by(tmp_path / "joined.js") == expected
    parts = {name: bundle.text for name, bundle in bundles.items() if name != "joined.js"}
    assert "alone = 3" in parts["joined-two.js"]
    assert "alone = 3" not in bundles["joined.js"].text


@pytest.mark.parametrize("name", ["joined-two.js", "joined-views-one.js", "joined.js"])
def test_every_line_of_a_later_script_leads_to_the_line_it_was(name):
    bundle = all_joined(LAZY)[name]
    source_map = json.loads(bundle.source_map)
    lines = bundle.text.split("\n")
    found = {place: line for line, place in zip(lines, places(source_map), strict=False) if place}

    for path in source_map["sources"]:
        for number, line in enumerate(LAZY[path].splitlines()):
            if not line.startswith(("import", "export")) and "import(" not in line:
                assert found[path, number] == line
    assert bundle.text.endswith(f"//# sourceMappingURL={name}.map\n")


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
        "vendor/x.js": "export default 1;\n",
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
        (
            "const a = `\n",
            "app.js: a form that cannot be joined: a template literal without an end",
        ),
        ('import("./c.js");', "c.js: a form that cannot be joined: a default of a lazy module"),
        ('const a = `\n${import("./b.js")}`;', "app.js: .*: an import in a template literal"),
    ],
)
def test_a_form_that_would_not_mean_the_same_is_refused_by_name(source, why):
    modules = {
        "app.js": source,
        "b.js": 'import { c } from "./app.js";\n',
        "c.js": 'import { d } from "./d.js";\nexport { d as default };\n',
        "d.js": "export const d = 1;\n",
    }

    with pytest.raises(BundleError, match=why):
        joined(modules)
