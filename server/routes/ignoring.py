"""Which names of a workspace people do not look for: well-known ones, and those of .gitignore.

Whoever may write a file writes these rules. pathspec reads their lines; `regex` matches what comes
of them with a deadline and lets other threads run meanwhile, which the standard module cannot.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
from typing import NamedTuple

import regex
from pathspec.patterns.gitignore import GitIgnorePatternError
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

HIDDEN = frozenset(
    (".git/", ".DS_Store", "node_modules/", "__pycache__/", "lost+found/", ".vscode/")
)
MAX_RULES = 1000
"""Lines of one .gitignore that are heeded."""
MAX_LINE = 500
"""Characters of a line that is heeded."""
SECONDS = 1.0
"""How long the rules of one folder may take; the names left then are shown."""
KNOWN_FILES = 64
"""Files whose compiled rules are remembered."""

_FOLDER_MARK = "ps_d"
"""The group in which pathspec's expressions have the slash behind a folder that fits."""


class Rule:
    """One line of a .gitignore."""

    def __init__(self, expression: str, *, ignores: bool) -> None:
        self.ignores = ignores
        self._expression = expression

    @cached_property
    def _compiled(self) -> regex.Pattern[str] | None:
        try:
            return regex.compile(self._expression)
        except regex.error:
            return None  # `[z-a]`: git leaves such a line out too

    def fits(self, path: str, deadline: float) -> bool:
        """Return whether the rule names `path` itself, not only a folder above it.

        `path` is relative; a folder's ends in `/`. Raises TimeoutError past the deadline, a moment
        of `time.monotonic`.
        """
        compiled = self._compiled
        if compiled is None:
            return False
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        found = compiled.search(path, timeout=left, concurrent=True)
        if found is None:
            return False
        marked = _FOLDER_MARK in compiled.groupindex and found.end(_FOLDER_MARK)
        return not marked or marked in (-1, len(path))


class RuleFile(NamedTuple):
    """The rules of one .gitignore, the last first, and the path from its folder to the listed one."""

    below: str
    rules: Sequence[Rule]


@lru_cache(maxsize=KNOWN_FILES)
def read_rules(text: str) -> Sequence[Rule]:
    """Return the rules of a .gitignore, the last line's first: it is the one that counts."""
    return tuple(_rules_of(text.splitlines()[:MAX_RULES]))[::-1]


def shown(names: Iterable[str], files: Sequence[RuleFile]) -> tuple[list[str], bool]:
    """Return the names of one folder to show, and whether all rules were heeded; blocks.

    The file that is nearest to the folder comes first in `files`. Where the rules take longer than
    SECONDS all names left are shown.
    """
    visible = [name for name in names if name not in HIDDEN]
    deadline = time.monotonic() + SECONDS
    found: list[str] = []
    for place, name in enumerate(visible):
        try:
            if not _is_ignored(name, files, deadline):
                found.append(name)
        except TimeoutError:
            return found + visible[place:], False
    return found, True


def _is_ignored(name: str, files: Sequence[RuleFile], deadline: float) -> bool:
    for file in files:
        path = file.below + name
        for rule in file.rules:
            if rule.fits(path, deadline):
                return rule.ignores
    return False


def _rules_of(lines: Iterable[str]) -> Iterator[Rule]:
    for line in lines:
        if len(line) > MAX_LINE:
            continue
        try:
            expression, ignores = GitIgnoreSpecPattern.pattern_to_regex(line)
        except GitIgnorePatternError:
            continue  # as git does with a line that it cannot read
        if expression is not None:
            yield Rule(expression, ignores=bool(ignores))
