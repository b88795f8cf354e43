"""Inputs bent out of shape: thousands of variants of one input in the time of drawing another."""

from collections.abc import Iterator
from random import Random
from typing import Any

POOL: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    2**63,
    2**64,
    10**400,
    1.5,
    -0.0,
    float("nan"),
    float("inf"),
    "",
    "message",
    "run",
    "change_agent_state",
    "stopped",
    "\x00",
    "\ud800",
    "\u202e",
    "a" * 300,
    [],
    {},
    [[]],
    {"content": "x"},
    {"": None},
)
NAMES = ("action", "args", "content", "client_id", "id", "extras", "observation", "x", "\ud800", "")
PIECES = (
    "&", "=", "%", ",", "-", "9" * 20, "\x00", "\n", '"', "{", "[", "]", "}", "\\u", "é", "²", "\ud800",
    "null", ";", "\u2028", "1e999", "T", "Z", "+", ".", "..", "/", "=\n[",
)  # fmt: skip


def variants(value: Any, random: Random, count: int) -> Iterator[Any]:
    """The input itself, then that many of its kind, each one step away from one before."""
    yield value
    current = value
    for _ in range(count):
        changed = _changed(current, random)
        yield changed
        # Some walk on, most stay near what was drawn: far away almost all is refused at once.
        current = changed if random.random() < 0.3 else value


def _changed(value: Any, random: Random) -> Any:
    if isinstance(value, bytes):
        return _cut(value, random, random.randbytes(random.randrange(4)))
    if isinstance(value, str):
        return _cut(value, random, random.choice(PIECES))
    if isinstance(value, tuple):
        place = random.randrange(len(value))
        return (*value[:place], _changed(value[place], random), *value[place + 1 :])
    if isinstance(value, dict):
        return _changed_object(value, random)
    if isinstance(value, list) and value and random.random() < 0.8:
        place = random.randrange(len(value))
        return [*value[:place], _changed(value[place], random), *value[place + 1 :]]
    return random.choice(POOL)


def _changed_object(value: dict[Any, Any], random: Random) -> Any:
    chance = random.random()
    if not value or chance < 0.1:
        return value | {random.choice(NAMES): random.choice(POOL)}
    name = random.choice(list(value))
    if chance < 0.2:
        return {key: one for key, one in value.items() if key != name}
    inner = value[name]
    if chance < 0.75 and isinstance(inner, (dict, list, str)):
        return value | {name: _changed(inner, random)}
    return value | {name: random.choice(POOL)}


def _cut(value: Any, random: Random, middle: Any) -> Any:
    start = random.randrange(len(value) + 1)
    return value[:start] + middle + value[start + random.randrange(4) :]
