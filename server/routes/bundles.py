"""Joins the modules of a page into one script, and its style sheets into one, with source maps.

Nothing is renamed: each module becomes a function that gives what it exports, and every line stays a
line, so that a map needs no parser; comments that have their lines for themselves are left out, unless
they name who wrote what follows. Only the forms of `import` and `export` that the
pages use are understood; any other one is refused, with the module's name.
"""

import json
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

SourceOf = Callable[[str], str]
"""Returns a file's text by its path, and raises if there is none."""

# Each begins with a word, which is found quickly; what must stand before it is looked at then.
_IMPORT = re.compile(
    r'import(?<=^import)\s+(?:\{([^{}]*)\}\s*from\s*)?"(\.{1,2}/[^"]+)";', re.MULTILINE
)
_DECLARED = re.compile(
    r"export(?<=^export)\s+(?=(?:(?:async\s+)?function\*?|class|const)\s+([\w$]+))", re.MULTILINE
)
_LISTED = re.compile(r"export(?:(?<=^export)|(?<=[;}]export))\s*\{([^{}]*)\};?\s*\Z", re.MULTILINE)
_LAZY = re.compile(r'"(?<=\bimport\(")(\.{1,2}/[^"]+)"(?=\))')
_LEFT = re.compile(r"^\s*(?:import\s*[\w{*\"']|export\b).*", re.MULTILINE)
_COMMENT = re.compile(r"/(?:\*\*(.*?)\*/|/[^\n]*)", re.DOTALL)
_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


class BundleError(ValueError):
    """A module cannot be joined; the text says which, and why."""


class Bundle(NamedTuple):
    """A joined file and its source map."""

    text: str
    source_map: str


class _Module(NamedTuple):
    path: str
    source: str
    needs: list[str]


def join_scripts(entry: str, source_of: SourceOf, map_name: str) -> Bundle:
    """Join a module and all that it imports, each after those it needs. Raises BundleError.

    Those of `import("...")` stay files of their own; the script must lie where paths begin.
    """
    modules = _in_order(entry, source_of)
    names = {
        one.path: f"${number}_{re.sub(r'[^0-9A-Za-z]', '_', one.path)}"
        for number, one in enumerate(modules)
    }
    return _joined(
        (
            _Part(one.path, f"const {names[one.path]} = (() => {{", *_as_function(one, names))
            for one in modules
        ),
        f"//# sourceMappingURL={map_name}\n",
    )


def join_styles(paths: Iterable[str], source_of: SourceOf, map_name: str) -> Bundle:
    """Join style sheets in their order."""
    return _joined(
        (_Part(path, f"/* {path} */", source_of(path), "") for path in paths),
        f"/*# sourceMappingURL={map_name} */\n",
    )


def _in_order(entry: str, source_of: SourceOf) -> list[_Module]:
    """Return the modules that one needs and itself, each after those it imports."""
    found: dict[str, _Module] = {}
    on_the_way: list[str] = []

    def visit(path: str) -> None:
        if path in on_the_way:
            circle = " -> ".join([*on_the_way[on_the_way.index(path) :], path])
            raise BundleError(f"modules import each other in a circle: {circle}")
        if path in found:
            return
        on_the_way.append(path)
        source = source_of(path)
        needs = [_resolved(path, target) for _, target in _IMPORT.findall(source)]
        for needed in needs:
            visit(needed)
        on_the_way.pop()
        found[path] = _Module(path, source, needs)

    visit(entry)
    return list(found.values())


def _as_function(module: _Module, names: dict[str, str]) -> tuple[str, str]:
    """Return a module's lines as a function body, and the line that returns its exports."""
    exported: dict[str, str] = {}

    def taken(found: re.Match[str]) -> str:
        listed, target = found.groups()
        # Every line stays a line.
        lines = "\n" * found[0].count("\n")
        if listed is None:
            return lines
        fields = ", ".join(
            name if name == own else f"{name}: {own}" for name, own in _named(listed)
        )
        return f"const {{ {fields} }} = {names[_resolved(module.path, target)]};{lines}"

    def given(found: re.Match[str]) -> str:
        exported.update({name: own for own, name in _named(found[1])})
        return "\n" * found[0].rstrip().count("\n")

    def declared(found: re.Match[str]) -> str:
        exported[found[1]] = found[1]
        return ""

    def lazy(found: re.Match[str]) -> str:
        return f'"./{_resolved(module.path, found[1])}"'

    text = _IMPORT.sub(taken, _COMMENT.sub(_left_out, module.source))
    text = _DECLARED.sub(declared, text)
    text = _LAZY.sub(lazy, _LISTED.sub(given, text))
    left = _LEFT.search(text)
    if left is not None:
        raise BundleError(f"{module.path}: a form that cannot be joined: {left[0].strip()[:80]}")
    fields = ", ".join(name if name == own else f"{name}: {own}" for name, own in exported.items())
    return text, f"return {{ {fields} }};\n}})();\n"


def _left_out(comment: re.Match[str]) -> str:
    """Return what stands in the place of what looks like a comment: its line ends, or all of it."""
    source, begin = comment.string, comment.start()
    before = source[source.rfind("\n", 0, begin) + 1 : begin]
    if before.strip() or "copyright" in comment[0].lower():
        return comment[0]
    return "\n" * comment[0].count("\n")


def _named(listed: str) -> Iterator[tuple[str, str]]:
    """Yield the pairs of `{ a, b as c }`."""
    for one in listed.split(","):
        name, _, alias = (part.strip() for part in one.strip().partition(" as "))
        if name:
            yield name, alias or name


def _resolved(path: str, target: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), target))


class _Part(NamedTuple):
    path: str
    before: str
    """One line, without its end."""
    source: str
    after: str


def _joined(parts: Iterable[_Part], end: str) -> Bundle:
    text: list[str] = []
    sources: list[str] = []
    mappings: list[str] = []
    line_before = 0
    for part in parts:
        sources.append(part.path)
        source = part.source if part.source.endswith("\n") else f"{part.source}\n"
        text += [part.before, "\n", source, part.after]
        lines = source.count("\n")
        # Where a line begins: column 0 of it, the next source or the same, the line there.
        source_step = "C" if len(sources) > 1 else "A"
        mappings += ["", f"A{source_step}{_digits(-line_before)}A", *["AACA"] * (lines - 1)]
        line_before = lines - 1
        mappings += [""] * part.after.count("\n")
    text.append(end)
    source_map = {"version": 3, "sources": sources, "names": [], "mappings": ";".join(mappings)}
    return Bundle("".join(text), json.dumps(source_map))


def _digits(number: int) -> str:
    """Return a number in the base 64 of source maps, the sign in the lowest bit."""
    rest = -number << 1 | 1 if number < 0 else number << 1
    digits = ""
    while True:
        rest, digit = rest >> 5, rest & 31
        digits += _DIGITS[digit | 32 if rest else digit]
        if not rest:
            return digits
