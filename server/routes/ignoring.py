"""Which names of a workspace people do not look for: well-known ones, and those of .gitignore."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

HIDDEN = frozenset(
    (".git/", ".DS_Store", "node_modules/", "__pycache__/", "lost+found/", ".vscode/")
)
MAX_RULES = 1000
"""Lines of one .gitignore that are heeded."""
MAX_DEEP = 2
"""`**` in one line: each multiplies the ways to fit a path."""

DEEP = "**"


class Rule(NamedTuple):
    """One line of a .gitignore: the parts of a path it fits, and whether it takes one back."""

    parts: tuple[str, ...]
    folders_only: bool
    keeps: bool

    def fits(self, path: str) -> bool:
        """Whether it speaks of `path`, which is relative; a folder's ends in `/`."""
        if self.folders_only and not path.endswith("/"):
            return False
        return _fits(self.parts, path.removesuffix("/").split("/"))


def read_rules(text: str) -> list[Rule]:
    """The rules of a .gitignore, in their order."""
    rules = (_rule_of(line) for line in text.splitlines()[:MAX_RULES])
    return [rule for rule in rules if rule is not None]


def is_ignored(path: str, rules: Sequence[Rule]) -> bool:
    """Whether the last rule that fits ignores it."""
    fitting = (rule for rule in reversed(rules) if rule.fits(path))
    last = next(fitting, None)
    return last is not None and not last.keeps


def shown(names: Iterable[str], rules: Sequence[tuple[str, Sequence[Rule]]]) -> list[str]:
    """The names of one folder to show; with each set of rules goes the folder's path below it."""
    return [
        name
        for name in names
        if name not in HIDDEN
        and not any(is_ignored(f"{below}{name}", some) for below, some in rules)
    ]


def _rule_of(line: str) -> Rule | None:
    text = line.rstrip()
    if not text or text.startswith("#"):
        return None
    keeps = text.startswith("!")
    text = text.removeprefix("!")
    folders_only = text.endswith("/")
    text = text.removesuffix("/")
    parts = tuple(text.removeprefix("/").split("/"))
    if "/" not in text:
        parts = (DEEP, *parts)
    return None if parts.count(DEEP) > MAX_DEEP else Rule(parts, folders_only, keeps)


def _fits(parts: Sequence[str], names: Sequence[str]) -> bool:
    if not parts:
        return not names
    if parts[0] == DEEP:
        return any(_fits(parts[1:], names[start:]) for start in range(len(names) + 1))
    return bool(names) and fnmatchcase(names[0], parts[0]) and _fits(parts[1:], names[1:])
