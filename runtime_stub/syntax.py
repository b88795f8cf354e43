"""Grammar of the shell: a line becomes simple commands, their words and their redirects."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

MAX_LINE_CHARACTERS = 1024 * 1024
MAX_PIECES = 100_000
MAX_COMMANDS = 1000
_VARIABLE = r"\$(?:[A-Za-z_][A-Za-z0-9_]*|\{[A-Za-z_][A-Za-z0-9_]*\}|\?)"
_TOKEN = re.compile(
    rf"""
    (?P<space>[ \t]+|\\\n)
    |(?P<comment>(?<![^\s;&|])\#[^\n]*)
    |(?P<refused>\$\(|`|[()<]|(?<![^\s;&|])\d>|\|(?!\|)|&(?!&))
    |(?P<operator>&&|\|\||>>|[;\n>])
    |(?P<single>'[^']*')
    |(?P<double>"[^"\\]*(?:\\.[^"\\]*)*")
    |(?P<escape>\\.)
    |(?P<variable>{_VARIABLE})
    |(?P<plain>[^ \t\n'"\\$;&|<>()`]+|\$)
    """,
    re.VERBOSE | re.DOTALL,
)
_QUOTED = re.compile(rf"(?P<escape>\\[\"\\$`\n])|(?P<variable>{_VARIABLE})|[^\\$]+|.", re.DOTALL)


class SyntaxRefused(Exception):
    """The line is not one that the shell can run; the text is for people."""


@dataclass(slots=True)
class Word:
    """Pieces of text and of variable names (True), in order."""

    pieces: list[tuple[str, bool]] = field(default_factory=list)
    quoted: bool = False

    def expand(self, variables: Mapping[str, str]) -> str | None:
        """Return the text; None for an unquoted word of unset variables, which disappears."""
        text = "".join(
            variables.get(piece, "") if is_name else piece for piece, is_name in self.pieces
        )
        return text if text or self.quoted else None


@dataclass(slots=True)
class SimpleCommand:
    """One command; it runs if `condition` (`;`, `&&`, `||`) allows it after what ran before.

    A redirect is its target and whether it appends.
    """

    condition: str = ";"
    words: list[Word] = field(default_factory=list)
    redirects: list[tuple[Word, bool]] = field(default_factory=list)


def parse(line: str) -> list[SimpleCommand]:
    """Split a line into its commands, in time linear in it. Raises SyntaxRefused."""
    commands = [SimpleCommand()]
    redirect: str | None = None
    for item in _words_and_operators(line):
        current = commands[-1]
        if isinstance(item, Word):
            if redirect is None:
                current.words.append(item)
            else:
                current.redirects.append((item, redirect == ">>"))
                redirect = None
        elif redirect is not None:
            raise _unexpected(item)
        elif item in (">", ">>"):
            redirect = item
        elif current.words or current.redirects:
            commands.append(SimpleCommand(condition=";" if item == "\n" else item))
        elif item != "\n":
            raise _unexpected(item)
    last = commands[-1]
    if redirect is not None or (last.condition != ";" and not (last.words or last.redirects)):
        raise _unexpected("newline")
    if len(commands) > MAX_COMMANDS:
        raise SyntaxRefused(f"more than {MAX_COMMANDS} commands in one line")
    return [command for command in commands if command.words or command.redirects]


def _words_and_operators(line: str) -> Iterator[Word | str]:
    if len(line) > MAX_LINE_CHARACTERS:
        raise SyntaxRefused("the line is too long")
    word: Word | None = None
    position = pieces = 0
    while position < len(line):
        pieces += 1
        _check_pieces(pieces)
        token = _TOKEN.match(line, position)
        if token is None:
            raise SyntaxRefused("unexpected end of line while looking for a matching quote")
        position = token.end()
        kind, text = token.lastgroup, token[0]
        if kind == "refused":
            raise SyntaxRefused(f"`{text}' is not supported in this workspace")
        if kind in ("space", "comment", "operator"):
            if word is not None:
                yield word
                word = None
            if kind == "operator":
                yield text
            continue
        word = word or Word()
        _extend(word, kind, text)
    if word is not None:
        yield word


def _extend(word: Word, kind: str | None, text: str) -> None:
    match kind:
        case "variable":
            word.pieces.append((text.strip("${}"), True))
        case "single":
            word.pieces.append((text[1:-1], False))
            word.quoted = True
        case "double":
            word.quoted = True
            for piece in _QUOTED.finditer(text[1:-1]):
                _extend_quoted(word, piece)
        case "escape":
            word.pieces.append((text[1:], False))
            word.quoted = True
        case _:
            word.pieces.append((text, False))


def _extend_quoted(word: Word, piece: re.Match[str]) -> None:
    _check_pieces(len(word.pieces))
    text = piece[0]
    if piece.lastgroup == "variable":
        word.pieces.append((text.strip("${}"), True))
    elif piece.lastgroup == "escape":
        word.pieces.append((text[1:].replace("\n", ""), False))
    else:
        word.pieces.append((text, False))


def _check_pieces(count: int) -> None:
    # Parsing many small pieces takes seconds, during which the event loop is blocked.
    if count > MAX_PIECES:
        raise SyntaxRefused("the line has too many words")


def _unexpected(item: str) -> SyntaxRefused:
    name = "newline" if item == "\n" else item
    return SyntaxRefused(f"syntax error near unexpected token `{name}'")
