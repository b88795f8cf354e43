"""The texts that a module in JavaScript says itself, rather than by a catalogue."""

import re
from collections.abc import Iterator
from typing import NamedTuple

_TOKEN = re.compile(
    r"""
    (?P<space>\s+|//[^\n]*|/\*.*?\*/)
    | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    | (?P<template>`)
    | (?P<word>[#\w$]+)
    | (?P<regex>/(?![*/])(?:[^/\\\n\[]|\\.|\[(?:[^\]\\\n]|\\.)*\])+/[a-z]*)
    | (?P<sign>===|!==|=>|\?\?=|\?\?|\?\.|\.\.\.|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_VALUE = re.compile(r"[\w$)\]]$")
"""The end of a token after which a slash divides."""
_BEFORE_A_REGEX = frozenset(("return", "typeof", "of", "in", "case"))
_SENTENCE = re.compile(r"[^\W\d_]{2,}[,.;:!?]? +[^\W\d_(]|^[A-Z][a-z]+(?:[ .,:!?]|$)")
_LETTER = re.compile(r"[^\W\d_]{2,}")
_LABELS = frozenset(("aria-label", "title", "placeholder", "alt", "label", "hint"))
_TECHNICAL_FIELDS = frozenset(("class", "pattern", "sandbox", "aria-describedby"))
_TECHNICAL_CALLS = frozenset(
    (
        *("matches", "closest", "querySelector", "querySelectorAll", "matchMedia"),
        *("Error", "RangeError", "TypeError"),
        *("evaluate", "split"),
    )
)


class Literal(NamedTuple):
    """A literal with its line."""

    line: int
    text: str


class _Bracket:
    """An open bracket: what stands before it, the argument or field that is read in it."""

    def __init__(self, sign: str, before: str) -> None:
        self.sign = sign
        self.before = before
        self.argument = 0
        self.field = ""


def literal_texts(source: str, technical: frozenset[str]) -> list[Literal]:
    """Return the literals that a person would read: sentences, labels, and children of elements."""
    found = []
    stack = [_Bracket("", "")]
    before = ""
    for kind, text, line in _tokens(source):
        inner = stack[-1]
        if kind in ("string", "template"):
            if text not in technical and _is_told(text, stack, before):
                found.append(Literal(line, text))
        elif text in ("(", "[", "{"):
            stack.append(_Bracket(text, before))
        elif text in (")", "]", "}") and len(stack) > 1:
            stack.pop()
        elif text == ",":
            inner.argument += 1
            inner.field = ""
        if text == ":" and inner.sign == "{":
            inner.field = before
        before = text
    return found


def _is_told(text: str, stack: list[_Bracket], before: str) -> bool:
    inner, outer = stack[-1], stack[-2] if len(stack) > 1 else stack[-1]
    if before in ("from", "import", "===", "!=="):
        return False
    if inner.sign == "(" and inner.before in _TECHNICAL_CALLS:
        return False
    in_element = outer.sign == "(" and outer.before == "h"
    if inner.sign == "{" and inner.field in _TECHNICAL_FIELDS:
        return False
    if inner.sign == "{" and inner.field in _LABELS and in_element:
        return bool(_LETTER.search(text))
    if inner.sign == "(" and inner.before == "h" and inner.argument >= 2:
        return bool(_LETTER.search(text))
    return bool(_SENTENCE.search(text))


def _tokens(source: str) -> Iterator[tuple[str, str, int]]:
    """Yield kind, text (of a literal without its quotes) and line; of templates, each fixed part."""
    at, before, line = 0, "", 1
    depths: list[int] = []
    while at < len(source):
        token = _TOKEN.match(source, at)
        assert token is not None
        kind, text = str(token.lastgroup), token[0]
        if kind == "regex" and _VALUE.search(before) and before not in _BEFORE_A_REGEX:
            kind, text = "sign", "/"
        if kind == "template" or (text == "}" and depths and depths[-1] == 0):
            if text == "}":
                depths.pop()
            part = re.compile(r"(?:[^`\\$]|\\.|\$(?!\{))*", re.DOTALL).match(source, at + 1)
            assert part is not None
            yield "template", part[0], line
            at = part.end()
            line += part[0].count("\n")
            if source.startswith("${", at):
                depths.append(0)
                at += 2
                before = "{"
            else:
                at += 1
                before = "x"
            continue
        at += len(text)
        if kind == "space":
            line += text.count("\n")
            continue
        if depths:
            depths[-1] += (text == "{") - (text == "}")
        yield kind, text[1:-1] if kind == "string" else text, line
        before = text
