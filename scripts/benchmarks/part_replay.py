"""Replay: the backlog to one socket, warm, after a restart, and what it does to the loop."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from statistics import median
from typing import Any

from benchmarks import servers
from benchmarks.machine import cpu_seconds
from benchmarks.raw_reader import replay as read_replay
from benchmarks.rows import Context, Figures, Target, pick
from benchmarks.servers import Contender
from benchmarks.side_door import ask

SHORT, LONG, LONG_QUICK = 10_000, 100_000, 20_000
REPEATS = 5
TAIL = 10
TAIL_TRIES = 10


def replay(context: Context) -> None:
    """10,000 warm events against Node; a long log after a restart; stalls of the loop."""
    _warm(context)
    long = LONG_QUICK if context.quick else LONG
    folder = context.folder / "long"
    conversation = _filled(folder, long)
    _restarted(context, folder, conversation, long)
    _stalls(context, folder, conversation, long)


def _warm(context: Context) -> None:
    with ExitStack() as stack:
        ours = stack.enter_context(servers.ours(context.folder / "replay", "sqlite"))
        node = stack.enter_context(servers.node())
        bare = stack.enter_context(servers.yardstick("raw"))
        context.say(f"replay of {SHORT:,} events: events/s, us of CPU per event")
        found = context.interleave(
            {
                "ours": _short(ours),
                "packets": _short(node),
                "alone": _short(node, alone=True),
                "bare": _short(bare),
            }
        )
    for name, yardstick, against, target in (
        (
            f"replay of {SHORT:,} warm events",
            "alone",
            "Node, an event a packet, 100 a turn",
            Target(10, 20),
        ),
        ("  the same", "packets", "Node, 100 events a packet", None),
        ("  the same", "bare", "bare socket, ready bytes", None),
    ):
        for text, unit, figure in (
            (name, "events/s", "per_s"),
            ("  the same by processor time", "us CPU/event", "cpu_us"),
        ):
            context.add(
                text,
                unit,
                pick(found["ours"], figure),
                pick(found[yardstick], figure),
                against=against,
                target=target if figure == "per_s" else None,
                more_is_better=figure == "per_s",
            )


def _short(contender: Contender, **how: bool) -> Callable[[], Figures]:
    (conversation,) = ask(contender, "new")
    ask(contender, "fill", conversation=conversation, count=SHORT, **how)
    read_replay(contender.port, conversation, -1, SHORT - 1)

    def measure() -> Figures:
        before = cpu_seconds(contender.pid)
        wholes = [
            read_replay(contender.port, conversation, -1, SHORT - 1).whole for _ in range(REPEATS)
        ]
        cpu = cpu_seconds(contender.pid) - before
        return {"per_s": SHORT / median(wholes), "cpu_us": cpu / SHORT / REPEATS * 1e6}

    return measure


def _filled(folder: Any, count: int) -> str:
    with servers.ours(folder, "sqlite") as contender:
        conversation: str = ask(contender, "new")[0]
        ask(contender, "fill", conversation=conversation, count=count)
    return conversation


def _restarted(context: Context, folder: Any, conversation: str, count: int) -> None:
    last = count - 1
    context.say(f"log of {count:,} events: ms to the first event")

    def cold() -> Figures:
        with servers.parley(folder) as (contender, _):
            found = read_replay(contender.port, conversation, -1, last)
        return {"first_ms": found.first * 1e3, "per_s": count / found.whole}

    def tail() -> Figures:
        with servers.parley(folder) as (contender, _):
            just_started = read_replay(contender.port, conversation, last - TAIL, last).first
            later = tail_ms(contender, conversation, last)
        return {"tail_at_start_ms": just_started * 1e3, "tail_ms": later}

    with servers.node() as node:
        (name,) = ask(node, "new")
        ask(node, "fill", conversation=name, count=count)

        def with_node() -> Figures:
            first = read_replay(node.port, name, -1, last).first
            return {"first_ms": first * 1e3, "tail_ms": tail_ms(node, name, last)}

        found = context.interleave({"cold": cold, "tail": tail, "node": with_node})
    first, near = Target(15, 5, on_ratio=False), Target(5, 2, on_ratio=False)
    for text, run, figure, against, target in (
        (f"first of {count:,} events after a restart", "cold", "first_ms", "first_ms", first),
        (f"first event near the tail of {count:,}", "tail", "tail_ms", "tail_ms", near),
        ("  the same just after start", "tail", "tail_at_start_ms", "tail_ms", near),
    ):
        ours, yardstick = pick(found[run], figure), pick(found["node"], against)
        context.add(text, "ms", ours, yardstick, against="Node, from memory", target=target)


def tail_ms(contender: Contender, conversation: str, last: int) -> float:
    """Milliseconds from opening a connection to its first event, at p50."""
    tries = [
        read_replay(contender.port, conversation, last - TAIL, last).first
        for _ in range(TAIL_TRIES)
    ]
    return sorted(tries)[TAIL_TRIES // 2] * 1e3


def _stalls(context: Context, folder: Any, conversation: str, count: int) -> None:
    context.say(f"longest stall of the loop in a replay of {count:,} events: ms of wall, of CPU")
    with servers.ours(folder, "sqlite") as contender:
        ask(contender, "open", conversation=conversation)
        durations: list[float] = []

        def replaying() -> Figures:
            ask(contender, "watch")
            began = time.perf_counter()
            read_replay(contender.port, conversation, -1, count - 1)
            durations.append(time.perf_counter() - began)
            return _in_ms(ask(contender, "stall"))

        def idle() -> Figures:
            ask(contender, "watch")
            time.sleep(durations[-1] if durations else 0.5)
            return _in_ms(ask(contender, "stall"))

        found = context.interleave({"replaying": replaying, "idle": idle})
    target = Target(15, 5, on_ratio=False)
    for name, figure, goal in (
        (f"longest stall in a replay of {count:,}", "wall", target),
        ("  the same by processor time", "cpu", None),
    ):
        ours, yardstick = pick(found["replaying"], figure), pick(found["idle"], figure)
        context.add(name, "ms", ours, yardstick, against="idle loop, same time", target=goal)


def _in_ms(stall: dict[str, float]) -> Figures:
    return {name: seconds * 1e3 for name, seconds in stall.items()}
