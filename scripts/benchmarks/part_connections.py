"""Connect, echo, memory and slow readers: what a connection costs and suffers."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from http.client import HTTPConnection
from statistics import median
from typing import Any

from benchmarks import servers
from benchmarks.part_replay import tail_ms
from benchmarks.rows import Context, Figures, Row, Target, bounds, pick
from benchmarks.servers import Contender
from benchmarks.side_door import ask

ARRIVALS, AT_ONCE = 500, 32
IDLE = 1_000
OPENED = 20_000
OPENED_BEFORE = 5_000
OPENED_AT_ONCE = 500
SLOW_ROUNDS, SLOW_ROUNDS_QUICK = 9, 3
SLOW_RATE = 50


def connect(context: Context) -> None:
    """Connection rate against Node's."""
    with ExitStack() as stack:
        contenders = {
            "ours": stack.enter_context(servers.ours(context.folder / "connect", "sqlite")),
            "node": stack.enter_context(servers.node()),
            "stock": stack.enter_context(servers.yardstick("stock")),
        }
        context.say(f"{ARRIVALS} connections, {AT_ONCE} at a time: us of CPU each, connections/s")

        def once(name: str) -> Callable[[], Figures]:
            def measure() -> Figures:
                contender = contenders[name]
                result = contender.load("arrivals", clients=ARRIVALS, at_once=AT_ONCE)
                context.checked(f"connections to {name}", result)
                return {
                    "cpu_us": result["cpu_per_connection_us"],
                    "per_s": result["connections_per_s"],
                }

            return measure

        found = context.interleave({name: once(name) for name in contenders})
    for yardstick, against, target in (
        ("node", "Node", Target(1.0, 1.5)),
        ("stock", "python-socketio", None),
    ):
        context.add(
            "connection rate",
            "connections/s",
            pick(found["ours"], "per_s"),
            pick(found[yardstick], "per_s"),
            against=against,
            target=target,
            more_is_better=True,
        )
        context.add(
            "  the same by processor time",
            "us CPU/connection",
            pick(found["ours"], "cpu_us"),
            pick(found[yardstick], "cpu_us"),
            against=against,
        )


def echo(context: Context) -> None:
    """A user's message until it is an event at another client; `parley serve` as it is used."""
    count = 50 if context.quick else 200
    context.say("echo, idle server: ms at p50, p99")
    with servers.parley(context.folder / "echo") as (ours, _), servers.node() as node:

        def once(contender: Contender, make: Callable[[], dict[str, Any]]) -> Callable[[], Figures]:
            def measure() -> Figures:
                delays = sorted(contender.load("echo", count=count, **make())["delays"])
                return {"p50": median(delays) * 1e3, "p99": delays[len(delays) * 99 // 100] * 1e3}

            return measure

        found = context.interleave(
            {
                "ours": once(ours, lambda: {"conversation": _created(ours), "quiet": True}),
                "node": once(node, dict),
            }
        )
    for figure, target in (("p50", Target(2.5, 1, on_ratio=False)), ("p99", None)):
        context.add(
            f"echo to another client, durable, {figure}",
            "ms",
            pick(found["ours"], figure),
            pick(found["node"], figure),
            against="Node (no persistence)",
            target=target,
        )


def _created(contender: Contender) -> str:
    connection = HTTPConnection("127.0.0.1", contender.port, timeout=10)
    connection.request("POST", "/api/conversations", b"{}", {"Content-Type": "application/json"})
    answer = json.load(connection.getresponse())
    connection.close()
    return str(answer["conversation_id"])


def memory(context: Context) -> None:
    """Resident memory of idle connections and of open conversations; fresh servers every round."""
    idle = IDLE // 2 if context.quick else IDLE
    context.say("memory: bytes per idle connection (tasks, threads); per open conversation")
    numbers = iter(range(10**6))

    def ours(*, own: bool) -> Callable[[], Figures]:
        def measure() -> Figures:
            folder = context.folder / f"idle-{next(numbers)}"
            with servers.ours(folder, "sqlite") as contender:
                found: Figures = contender.load("idle", clients=idle, own_conversation=own)
                return found

        return measure

    def nodes() -> Figures:
        with servers.node() as contender:
            found: Figures = contender.load("idle", clients=idle, own_conversation=False)
            return found

    def opened() -> Figures:
        with servers.ours(context.folder / f"open-{next(numbers)}", "sqlite") as contender:
            count = OPENED_BEFORE + OPENED
            stored = [
                ask(contender, "store", count=OPENED_AT_ONCE)
                for _ in range(0, count, OPENED_AT_ONCE)
            ]
            # The first ones use up what the server had freed before, and fill the caches.
            first = OPENED_BEFORE // OPENED_AT_ONCE
            _hold(contender, stored[:first])
            before = ask(contender, "figures")
            _hold(contender, stored[first:])
            after = ask(contender, "figures")
        return {name: (after[name] - before[name]) / OPENED for name in ("rss", "threads")}

    found = context.interleave(
        {
            "one conversation": ours(own=False),
            "own conversation": ours(own=True),
            "node": nodes,
            "open": opened,
        },
        min(context.rounds, 3),
    )
    node = _kb(pick(found["node"], "bytes_per_connection"))
    for name, target in (
        ("one conversation", Target(42, 25, on_ratio=False)),
        ("own conversation", None),
    ):
        values = _kb(pick(found[name], "bytes_per_connection"))
        text = f"memory per idle connection, {name}"
        context.add(text, "KB", values, node, against="Node", target=target)
    context.add(
        "memory per open conversation, no loop",
        "KB",
        _kb(pick(found["open"], "rss")),
        target=Target(4, 1, on_ratio=False),
    )
    threads = pick(found["open"], "threads")
    context.add(
        "threads per open conversation", "threads", threads, target=Target(0, 0, on_ratio=False)
    )


def _hold(contender: Contender, groups: list[list[str]]) -> None:
    for conversations in groups:
        ask(contender, "hold", conversations=conversations)


def _kb(values: list[float]) -> list[float]:
    return [value / 1024 for value in values]


def slow(context: Context) -> None:
    """Good clients' p99 with 50 that never read among them, against the good ones alone."""
    context.say(
        f"delay of {SLOW_RATE} events/s to 50 good clients, 50 others never read: ms at p50, p99"
    )
    seconds = 1.0 if context.quick else 3.0
    with servers.ours(context.folder / "slow") as contender:

        def once(stalled: int) -> Callable[[], Figures]:
            def measure() -> Figures:
                job = {"clients": 50, "stalled": stalled, "burst": 1000, "rate": SLOW_RATE}
                result = contender.load("slow", seconds=seconds, **job)
                return {"p50": result["p50"] * 1e3, "p99": result["p99"] * 1e3}

            return measure

        rounds = SLOW_ROUNDS_QUICK if context.quick else max(SLOW_ROUNDS, context.rounds)
        found = context.interleave({"among": once(50), "alone": once(0)}, rounds)
    among, alone = pick(found["among"], "p99"), pick(found["alone"], "p99")
    ratios = [a / b for a, b in zip(among, alone, strict=True)]
    context.rows.append(
        Row(
            "good clients' p99, 50 others never read",
            median(ratios),
            f"x ({median(among):.2g} ms)",
            median(alone),
            "ms, alone",
            None,
            bounds(ratios),
            Target(1.25, 1.1, on_ratio=False),
        )
    )


def sweep(context: Context) -> None:
    """For the plots: connecting near the tail against the length of the log."""
    with ExitStack() as stack:
        contenders = {
            "ours": stack.enter_context(servers.ours(context.folder / "tails", "sqlite")),
            "Node, from memory": stack.enter_context(servers.node()),
        }
        for length in (100, 1_000, 10_000, 20_000 if context.quick else 100_000):
            context.say(f"connect near the tail of {length:,} events")
            for name, contender in contenders.items():
                (conversation,) = ask(contender, "new")
                ask(contender, "fill", conversation=conversation, count=length)
                delay = tail_ms(contender, conversation, length - 1)
                context.series.setdefault(f"connect/{name}", []).append((length, delay))
