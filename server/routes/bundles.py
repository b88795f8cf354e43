"""Joins the modules of a page into one script, and its style sheets into one, with source maps.

Nothing is renamed: each module becomes a function that gives what it exports, and every line stays a
line, so that a map needs no parser; comments that have their lines for themselves are left out, unless
they name who wrote what follows. A module that is imported when it is needed becomes a script of its
own with all that only such scripts need; what two of them need is in the first. Only the forms of
`import` and `export` that the pages use are understood; any other one is refused, with the module's name.
"""

import json
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
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
_AWAITS = re.compile(r"^(?:(?:export\s+)?const\s[^\n]*\b)?await\s", re.MULTILINE)
_COMMENT = re.compile(r"/(?:\*\*(.*?)\*/|/[^\n]*)", re.DOTALL)
_SKIPPED = r"""//[^\n]*|/\*.*?\*/|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'"""
_OUTSIDE = re.compile(rf"{_SKIPPED}|[`/]", re.DOTALL)
_IN_CODE = re.compile(rf"{_SKIPPED}|[`/{{}}]", re.DOTALL)
_IN_TEXT = re.compile(r"\\.|`|\$\{", re.DOTALL)
_EXPRESSION = re.compile(r"/(?:[^/\\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+/")
_LAST_WORD = re.compile(r"(?<![\w$.])[a-z]+\Z")
_BEFORE_EXPRESSIONS = frozenset(
    (
        "return",
        "typeof",
        "case",
        "in",
        "of",
        "do",
        "else",
        "void",
        "delete",
        "throw",
        "await",
        "yield",
    )
)
_PROTECTED = re.compile("\0(\\d+)\0")
_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


class BundleError(ValueError):
    """A module cannot be joined; the text says which, and why."""


class Bundle(NamedTuple):
    """A joined file and its source map."""

    text: str
    source_map: str


class _Module(NamedTuple):
    path: str
    text: str
    """Without comments, and with marks in the place of literals."""
    literals: list[str]
    needs: list[str]


def join_scripts(entry: str, source_of: SourceOf, name: str) -> dict[str, Bundle]:
    """Join a module and all that it imports, each after those it needs. Raises BundleError.

    Return the scripts by their names: `name`, and one for each `import("...")` of a module that
    imports others, which must not be awaited while `name` is evaluated. Other modules of such imports
    stay files of their own. The scripts must lie where paths begin.
    """
    first = _in_order(entry, source_of)
    later = _imported_later(first, source_of)
    shared = _needed_twice(later.values(), first)
    first |= {path: one for part in later.values() for path, one in part.items() if path in shared}
    graph = first | {path: one for part in later.values() for path, one in part.items()}
    names = {
        path: f"${number}_{re.sub(r'[^0-9A-Za-z]', '_', path)}" for number, path in enumerate(graph)
    }
    scripts = {path: script_name(name, path) for path in later}
    joined: dict[str, Bundle] = {}
    lent: set[str] = set()
    for path, part in later.items():
        own = {one: module for one, module in part.items() if one not in first}
        needed = {path, *(need for module in own.values() for need in module.needs)}
        borrowed = sorted(needed - own.keys())
        lent |= {names[one] for one in borrowed}
        taken = ", ".join(names[one] for one in borrowed)
        joined[scripts[path]] = _joined(
            [_Part(*_as_function(module, names, scripts)) for module in own.values()],
            f"export const {{ {', '.join(_exports_of(graph[path]))} }} = {names[path]};\n"
            f"//# sourceMappingURL={scripts[path]}.map\n",
            f'import {{ {taken} }} from "./{name}";\n' if taken else "",
        )
    given = f"export {{ {', '.join(sorted(lent))} }};\n" if lent else ""
    joined[name] = _joined(
        [_Part(*_as_function(module, names, scripts)) for module in first.values()],
        f"{given}//# sourceMappingURL={name}.map\n",
    )
    return joined


def join_styles(paths: Iterable[str], source_of: SourceOf, map_name: str) -> Bundle:
    """Join style sheets in their order."""
    return _joined(
        (_Part(path, f"/* {path} */", source_of(path), "") for path in paths),
        f"/*# sourceMappingURL={map_name} */\n",
    )


def _in_order(entry: str, source_of: SourceOf, known: Container[str] = ()) -> dict[str, _Module]:
    """Return a module and those that it needs by their paths, each after those it imports.

    What is known is left out.
    """
    found: dict[str, _Module] = {}
    on_the_way: list[str] = []

    def visit(path: str) -> None:
        if path in on_the_way:
            circle = " -> ".join([*on_the_way[on_the_way.index(path) :], path])
            raise BundleError(f"modules import each other in a circle: {circle}")
        if path in found or path in known:
            return
        on_the_way.append(path)
        module = _read(path, source_of)
        for needed in module.needs:
            visit(needed)
        on_the_way.pop()
        found[path] = module

    visit(entry)
    return found


def _read(path: str, source_of: SourceOf) -> _Module:
    source = source_of(path)
    protected, literals = _without_literals(path, source)
    text = _COMMENT.sub(_left_out, protected)
    needs = [_resolved(path, target) for _, target in _IMPORT.findall(text)]
    return _Module(path, text, literals, needs)


def _imported_later(
    first: dict[str, _Module], source_of: SourceOf
) -> dict[str, dict[str, _Module]]:
    """Return what each module that is imported when it is needed needs besides the first ones."""
    later: dict[str, dict[str, _Module]] = {}
    waiting = [*first.values()]
    while waiting:
        module = waiting.pop()
        for target in _LAZY.findall(module.text):
            path = _resolved(module.path, target)
            stays_apart = path not in first and not _IMPORT.search(source_of(path))
            if path in later or stays_apart:
                continue
            later[path] = _in_order(path, source_of, first)
            waiting += later[path].values()
    return later


def _needed_twice(parts: Iterable[Mapping[str, _Module]], first: Container[str]) -> set[str]:
    """Return the modules that several parts have, with all that these need."""
    times = Counter(path for part in parts for path in part)
    return {path for path, count in times.items() if count > 1 and path not in first}


def script_name(name: str, path: str) -> str:
    """Return the name of the script of a module that is loaded later than the script `name`."""
    stem, _, suffix = name.rpartition(".")
    return f"{stem}-{path.removesuffix('.js').replace('/', '-')}.{suffix}"


def _exports_of(module: _Module) -> list[str]:
    """Return the names that a module exports. Raises BundleError for a default."""
    listed = [alias for found in _LISTED.findall(module.text) for _, alias in _named(found)]
    names = [*_DECLARED.findall(module.text), *listed]
    if "default" in names:
        raise BundleError(
            f"{module.path}: a form that cannot be joined: a default of a lazy module"
        )
    return names


def _as_function(
    module: _Module, names: Mapping[str, str], scripts: Mapping[str, str]
) -> tuple[str, str, str, str]:
    """Return a module's path, and its lines as a function: the first, the body, the last one."""
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
        path = _resolved(module.path, found[1])
        return f'"./{scripts.get(path, path)}"'

    awaits = _AWAITS.search(module.text) is not None
    text = _DECLARED.sub(declared, _IMPORT.sub(taken, module.text))
    text = _LAZY.sub(lazy, _LISTED.sub(given, text))
    left = _LEFT.search(text)
    if left is not None:
        raise BundleError(f"{module.path}: a form that cannot be joined: {left[0].strip()[:80]}")
    text = _PROTECTED.sub(lambda found: module.literals[int(found[1])], text)
    fields = ", ".join(name if name == own else f"{name}: {own}" for name, own in exported.items())
    before = f"const {names[module.path]} = {'await (async ' if awaits else '('}() => {{"
    return module.path, before, text, f"return {{ {fields} }};\n}})();\n"


def _without_literals(path: str, source: str) -> tuple[str, list[str]]:
    """Return a source in which a mark stands for each template literal of several lines, and these.

    What looks like a comment or an import in one is text.
    """
    # One that has several lines begins and ends on lines with an odd number of these.
    if not any(line.count("`") % 2 for line in source.split("\n")):
        return source, []
    kept: list[str] = []
    literals: list[str] = []
    done = 0
    for begin, end in _template_literals(path, source):
        if "\n" not in (literal := source[begin:end]):
            continue
        if _LAZY.search(literal):
            raise BundleError(
                f"{path}: a form that cannot be joined: an import in a template literal"
            )
        kept.append(f"{source[done:begin]}\0{len(literals)}\0")
        literals.append(literal)
        done = end
    return "".join([*kept, source[done:]]), literals


def _template_literals(path: str, source: str) -> Iterator[tuple[int, int]]:
    """Yield where the template literals of a module begin and end; those within others are part of them."""
    depths: list[int] = []
    """For each literal under way, the braces that are open in the code within it; -1 in its text."""
    begin = at = 0
    while found := (_OUTSIDE if not depths else _IN_TEXT if depths[-1] == -1 else _IN_CODE).search(
        source, at
    ):
        at = found.end()
        mark = found[0]
        if mark == "`":
            if depths and depths[-1] == -1:
                depths.pop()
                if not depths:
                    yield begin, at
            else:
                begin = begin if depths else found.start()
                depths.append(-1)
        elif mark == "${":
            depths[-1] = 0
        elif mark == "/" and _begins_expression(source, found.start()):
            expression = _EXPRESSION.match(source, found.start())
            at = expression.end() if expression else at
        elif mark == "{":
            depths[-1] += 1
        elif mark == "}":
            depths[-1] -= 1
    if depths:
        raise BundleError(
            f"{path}: a form that cannot be joined: a template literal without an end"
        )


def _begins_expression(source: str, at: int) -> bool:
    """Return whether a slash begins a regular expression, and does not divide."""
    before = source[max(0, at - 80) : at].rstrip()
    ends_value = before[-1:].isalnum() or before[-1:] in tuple(")]_$\"'`")
    word = _LAST_WORD.search(before)
    return not ends_value or (word is not None and word[0] in _BEFORE_EXPRESSIONS)


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


def _joined(parts: Iterable[_Part], end: str, begin: str = "") -> Bundle:
    text = [begin]
    sources: list[str] = []
    mappings = [""] * begin.count("\n")
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
