"""Texts that are shown while they are written: what each piece costs, and how soon it is there."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from benchmarks import servers
from benchmarks.part_models import models
from benchmarks.rows import Context, Figures, Target, pick
from benchmarks.servers import Contender
from benchmarks.writers import PAUSE_TOKENS, TOKENS, TOKENS_PER_SECOND

CYCLE = (TOKENS + PAUSE_TOKENS) / TOKENS_PER_SECOND
CYCLES = 2
"""Of a measurement: whole messages, so that every round has as many ends of them."""
MANY = {"conversations": 50, "watchers": 20, "cycles": CYCLES}
SHORT = {"conversations": 50, "watchers": 100, "cycles": 2 * CYCLES, "tokens": 10}
"""Watchers of whole events: with ten in the place of one, their cost stands clear of the tokens'."""
ROOM = {"conversations": 1, "watchers": 1000, "cycles": CYCLES}
PIECES_PER_SECOND = 20
LEAST_SHARE = 0.85
"""Of the pieces due. With fewer they hold more text each, and whole costs cannot be compared."""
EACH = "us CPU/piece"
EVENT = "us CPU/event"
CORE = "% of a core"

DURABLE = Target(1 / 0.8, 1 / 0.55)
NODE = Target(1 / 0.8, 1 / 0.55)
NODE_ROOM = Target(1 / 0.6, 1 / 0.45)
COALESCED = Target(1 / 0.55, 1 / 0.45)
WITHOUT = Target(1 / 1.05, 1 / 1.02)
SECRETS = {10: Target(1 / 1.1, 1 / 1.05), 100: Target(1 / 1.4, 1 / 1.2)}
SSE = Target(1 / 4, 1 / 2)
FIRST = Target(20, 10, on_ratio=False)
STALL = Target(15, 8, on_ratio=False)
FRAMES = Target(21, 20, on_ratio=False)


def deltas(context: Context) -> None:
    """50 conversations with 20 or 100 watchers, one with 1,000; an agent writes 50 tokens a second."""
    with ExitStack() as stack:
        ours = stack.enter_context(servers.ours(context.folder / "deltas", "sqlite"))
        node = stack.enter_context(servers.node())
        alone = MANY | {"watchers": 0, "by": "deltas"}
        jobs: dict[str, tuple[Contender, dict[str, Any]]] = {
            "tokens alone": (ours, alone | {"how": "nothing"}),
            "deltas": (ours, MANY | {"how": "deltas", "by": "deltas"}),
            "durable": (ours, MANY | {"how": "durable", "by": "events"}),
            "node": (node, MANY | {"how": "deltas", "by": "deltas"}),
            "node tokens alone": (node, alone | {"how": "nothing"}),
            "10 secrets": (ours, MANY | {"how": "deltas", "by": "deltas", "secrets": 10}),
            "100 secrets": (ours, MANY | {"how": "deltas", "by": "deltas", "secrets": 100}),
            "each token": (ours, MANY | {"how": "deltas", "by": "deltas", "each_token": True}),
            "sse": (ours, MANY | {"how": "deltas", "by": "sse"}),
            "streams": (ours, SHORT | {"how": "deltas", "by": "events"}),
            "streams alone": (ours, SHORT | {"how": "deltas", "by": "events", "watchers": 0}),
            "whole": (ours, SHORT | {"how": "whole", "by": "events"}),
            "whole alone": (ours, SHORT | {"how": "whole", "by": "events", "watchers": 0}),
            "room": (ours, ROOM | {"how": "deltas", "by": "deltas"}),
            "node room": (node, ROOM | {"how": "deltas", "by": "deltas"}),
            "stall": (ours, MANY | {"how": "deltas", "by": "deltas", "stalls": True}),
            "stall alone": (ours, alone | {"how": "deltas", "stalls": True}),
        }
        context.say("texts while they are written: % of a core, pieces/s")
        contenders = {name: _once(context, name, *job) for name, job in jobs.items()}
        found = context.interleave(contenders)
    _enter(context, found)
    models(context)


def _once(
    context: Context, name: str, contender: Contender, job: dict[str, Any]
) -> Callable[[], Figures]:
    def measure() -> Figures:
        context.say(name)
        result = contender.load("deltas", seconds=context.seconds(job["cycles"] * CYCLE), **job)
        context.checked(f"deltas, {name}", result)
        due = _due(job)
        if due and result["pieces_per_s"] < LEAST_SHARE * due:
            share = result["pieces_per_s"] / due
            context.warnings.append(
                f"deltas, {name}: {share:.0%} of the pieces due; too busy a machine for whole costs"
            )
        kept = ("core", "pieces_per_s", "events_per_s", "first_p50", "stall")
        return {key: result[key] for key in kept} | {"core": 100 * result["core"]}

    return measure


def _due(job: dict[str, Any]) -> float:
    """Pieces a second that all watchers are due, where the server keeps the pace; 0: none."""
    if job["how"] != "deltas" or job["by"] == "events":
        return 0.0
    rate = TOKENS_PER_SECOND if job.get("each_token") else PIECES_PER_SECOND
    return float(job["conversations"] * job["watchers"] * rate * TOKENS / (TOKENS + PAUSE_TOKENS))


def _enter(context: Context, found: dict[str, list[Figures]]) -> None:
    many = "50 x 20 watchers"
    each = _each(found["deltas"], found["tokens alone"])
    node = _each(found["node"], found["node tokens alone"])
    durable = _each(found["durable"], found["tokens alone"], "events_per_s")
    context.add(
        f"piece of a text, {many}", EACH, each, durable, against="as events", target=DURABLE
    )
    context.add(f"piece of a text, {many}", EACH, each, node, against="Node", target=NODE)
    # The room's tokens alone are 1/50 of the others'.
    room, node_room = _each(found["room"]), _each(found["node room"])
    name = "piece of a text, one room of 1,000"
    context.add(name, EACH, room, node_room, against="Node", target=NODE_ROOM)
    name = f"texts at 20 pieces/s, whole cost, {many}"
    coalesced, singly = pick(found["deltas"], "core"), pick(found["each token"], "core")
    context.add(name, CORE, coalesced, singly, against="a piece a token", target=COALESCED)
    # What texts cost that nobody is shown is their agents' cost, not these watchers'.
    streams = _each(found["streams"], found["streams alone"], "events_per_s")
    whole = _each(found["whole"], found["whole alone"], "events_per_s")
    name = "event to a watcher without deltas, 50 x 100 watchers"
    context.add(name, EVENT, streams, whole, against="whole messages", target=WITHOUT)
    unseen, alone = pick(found["streams alone"], "core"), pick(found["whole alone"], "core")
    name = "  texts that nobody is shown, 50 conversations"
    context.add(name, CORE, unseen, alone, against="whole messages")
    for count, target in SECRETS.items():
        masked = _each(found[f"{count} secrets"], found["tokens alone"])
        name = f"piece of a text, {count} secrets"
        context.add(name, EACH, masked, each, against="no secrets", target=target)
    sse = _each(found["sse"], found["tokens alone"])
    context.add(f"piece by SSE, {many}", EACH, sse, each, against="a socket", target=SSE)
    for name, unit, ours, yardstick, against, target in (
        (
            "first character behind the first token, p50",
            "first_p50",
            "deltas",
            "node",
            "Node",
            FIRST,
        ),
        (
            "longest stall by processor time",
            "stall",
            "stall",
            "stall alone",
            "nobody watches",
            STALL,
        ),
    ):
        milliseconds = [1000 * one for one in pick(found[ours], unit)]
        theirs_ms = [1000 * one for one in pick(found[yardstick], unit)]
        context.add(
            f"{name}, {many}", "ms", milliseconds, theirs_ms, against=against, target=target
        )
    frames, of_node = _frames(found["deltas"]), _frames(found["node"])
    name = "frames per watcher while a text is written"
    context.add(name, "/s", frames, of_node, against="Node", target=FRAMES)


def _each(
    samples: Sequence[Figures],
    alone: Sequence[Figures] | None = None,
    counted: str = "pieces_per_s",
) -> list[float]:
    """Microseconds for each piece delivered, without what the tokens alone cost."""
    cores = pick(samples, "core")
    if alone is not None:
        cores = [core - net for core, net in zip(cores, pick(alone, "core"), strict=True)]
    counts = pick(samples, counted)
    return [core * 10_000 / count for core, count in zip(cores, counts, strict=True)]


def _frames(samples: Sequence[Figures]) -> list[float]:
    """Pieces of one watcher in a second in which its agent writes."""
    watchers = MANY["conversations"] * MANY["watchers"]
    writing = TOKENS / (TOKENS + PAUSE_TOKENS)
    return [pieces / watchers / writing for pieces in pick(samples, "pieces_per_s")]
