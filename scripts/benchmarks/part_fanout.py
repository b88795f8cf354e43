"""Fan-out: processor time of the server for each message that reached a client."""

from collections.abc import Callable
from contextlib import ExitStack

from benchmarks import servers
from benchmarks.rows import Context, Figures, Target, pick
from benchmarks.servers import Contender

DURABLE = {1: Target(0.9, 1.5), 8: Target(3, 6)}
MEMORY = {1: Target(1.2, 1.75), 8: Target(6, 10)}
DURABLE_BUN = {1: Target(0.6, 0.8), 8: Target(0.55, 0.8)}
MEMORY_BUN = {1: Target(0.8, 1), 8: Target(0.8, 1)}
CROWD = Target(5, 8)
SECONDS = 2.0
CROWD_SIZE = 1000


def fanout(context: Context) -> None:
    """200 clients at windows 1, 8 and 64; 1,000 clients at window 8."""
    with ExitStack() as stack:
        found = {
            "durable": stack.enter_context(servers.ours(context.folder / "fanout", "sqlite")),
            "memory": stack.enter_context(servers.ours(context.folder / "memory")),
            "node": stack.enter_context(servers.node()),
            "bun": stack.enter_context(servers.bun()),
            "raw": stack.enter_context(servers.yardstick("raw")),
            "stock": stack.enter_context(servers.yardstick("stock")),
        }
        contenders = {name: one for name, one in found.items() if one is not None}
        for window in (1, 8, 64):
            _at_window(context, contenders, window)
        crowd = _measure(context, contenders, CROWD_SIZE, 8, ("memory", "node"))
        name = f"fan-out, memory, {CROWD_SIZE:,} clients, window 8"
        context.add(name, UNIT, crowd["memory"], crowd["node"], against="Node", target=CROWD)


UNIT = "us CPU/message"
NO_BUN = "no Bun that runs here"
FIGURE = "cpu_per_message_us"


def _at_window(context: Context, contenders: dict[str, Contender], window: int) -> None:
    context.say(f"fan-out to 200 clients, window {window}: us of CPU per message, messages/s")
    found = _measure(context, contenders, 200, window, tuple(contenders))
    name = f"200 clients, window {window}"
    node, bun = found["node"], found.get("bun")
    for kind, without, of_node, of_bun in (
        ("durable", " (no persistence)", DURABLE, DURABLE_BUN),
        ("memory", "", MEMORY, MEMORY_BUN),
    ):
        for yardstick, against, targets in (
            (node, f"Node{without}", of_node),
            (bun, f"Bun{without}" if bun else NO_BUN, of_bun),
        ):
            context.add(
                f"fan-out, {kind}, {name}",
                UNIT,
                found[kind],
                yardstick,
                against=against,
                target=targets.get(window),
            )
    context.add(f"  the same, raw picows, {name}", UNIT, found["raw"], node, against="Node")
    context.add(f"  the same, python-socketio, {name}", UNIT, found["stock"], node, against="Node")


def _measure(
    context: Context,
    contenders: dict[str, Contender],
    clients: int,
    window: int,
    names: tuple[str, ...],
) -> dict[str, list[float]]:
    def once(name: str) -> Callable[[], Figures]:
        def measure() -> Figures:
            seconds = context.seconds(SECONDS)
            result = contenders[name].load(
                "fanout", clients=clients, window=window, seconds=seconds
            )
            context.checked(f"fan-out of {name}, {clients} clients, window {window}", result)
            return {FIGURE: result[FIGURE], "messages_per_s": result["messages_per_s"]}

        return measure

    samples = context.interleave({name: once(name) for name in names})
    return {name: pick(values, FIGURE) for name, values in samples.items()}


def sweep(context: Context) -> None:
    """For the plots: fan-out against clients."""
    with ExitStack() as stack:
        contenders = {
            "ours, durable": stack.enter_context(servers.ours(context.folder / "sweep", "sqlite")),
            "ours, memory": stack.enter_context(servers.ours(context.folder / "sweep-memory")),
            "Node socket.io": stack.enter_context(servers.node()),
            "python-socketio": stack.enter_context(servers.yardstick("stock")),
        }
        for clients in (10, 50, 200, 500, 1000):
            context.say(
                f"fan-out to {clients} clients, window 8: us of CPU per message, messages/s"
            )
            found = _measure(context, contenders, clients, 8, tuple(contenders))
            for name, values in found.items():
                context.series.setdefault(f"fanout/{name}", []).append(
                    (clients, sorted(values)[len(values) // 2])
                )
