"""Two nodes over one log, in random histories: everybody is handed everything once, in order.

Where processes can share the medium each node has a store of its own over it.
"""

import asyncio
from random import Random

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from events.batch import Appended
from events.errors import AppendFailed, Fenced
from events.fence import Fence
from events.follower import Follower
from events.stream import HeldStream
from tests.support.doorbell import Doorbell
from tests.support.faulty_store import FAULTS
from tests.support.stream_machine import BOUND_SECONDS, StreamMachine
from tests.support.streams import USER, StallingReader, log_of, message, open_stream, texts

NODES = st.integers(0, 1)
CHOICES = st.integers(0, 2**16).map(Random)
"""Seeded, since the number of choices depends on the moments at which the store answers."""


class Node:
    """One process: its stream of the log, and what follows."""

    def __init__(self, store, bell, holder):
        self.holder = holder
        self.follower = Follower(store, look_seconds=2.0)
        self.store = store
        self.bell = bell
        bell.join(self.follower)

    held: HeldStream

    def claim(self, number):
        """Append under a claim of that number, whoever else may have drawn it."""
        self.held = self.stream.held_by(Fence(number, self.holder))

    async def open(self, capacity, number):
        self.stream = await open_stream(
            self.store, page_size=4, subscription_queue=capacity, append_seconds=BOUND_SECONDS
        )
        self.claim(number)
        self.published: list[int] = []
        self.stream.tap(lambda events, _summary: self.published.extend(one.id for one in events))
        self.first_id = self.stream.next_id
        self.follower.add(self.stream)
        self.bell.rings_for(self.follower, self.stream)

    async def close(self):
        self.follower.discard(self.stream)
        await self.follower.close()
        await self.stream.close(drain_seconds=BOUND_SECONDS)


class Client(StallingReader):
    """A subscriber that moves between nodes."""

    node: Node


class TwoNodesMachine(StreamMachine):
    """One log, two nodes that append and follow, and clients that move between them."""

    @initialize(capacity=st.sampled_from([1, 3, 1024]))
    def begin(self, capacity):
        self.capacity = capacity
        self.count = 0
        self.claims = 1
        self.clients: list[Client] = []
        self.run(self.open())

    async def open(self) -> None:
        await self.open_store()
        stores = (self.store, await self.open_other_store())
        self.bell = Doorbell()
        self.nodes = [Node(store, self.bell, holder) for holder, store in enumerate(stores, 1)]
        for node in self.nodes:
            await node.open(self.capacity, self.claims)

    def teardown(self):
        if hasattr(self, "nodes"):
            self.run(self.settle())
            self.figures["delivered"] += sum(len(one.ids) for one in self.clients)
            self.figures["lagged"] += sum(one.subscription.lagged for one in self.clients)
            for node in self.nodes:
                self.run(node.close())
        super().teardown()

    @rule(node=NODES, grows=st.booleans())
    def claim(self, node, grows):
        """A node claims the loop; two may have drawn the same number."""
        self.claims += grows
        self.nodes[node].claim(self.claims)
        self.figures["claims"] += 1

    @rule(
        nodes=st.lists(st.tuples(NODES, st.booleans()), min_size=1, max_size=6),
        script=st.lists(st.sampled_from([*FAULTS]), max_size=2),
        choice=CHOICES,
        rings=st.booleans(),
    )
    def append(self, nodes, script, choice, rings):
        """Both append at the same time, some of it under a claim, and rings come in meanwhile."""
        self.store.script.extend(FAULTS[fault] for fault in script)
        self.run(self.append_all(nodes, choice if rings else None))
        self.store.script.clear()
        self.figures["appends"] += len(nodes)

    async def append_all(self, nodes, choice):
        before = (await self.store.inner.head("c")).fence
        taken = []
        for number, under_claim in nodes:
            node, text = self.nodes[number], f"text {self.count}"
            self.count += 1
            held = node.held if under_claim else None
            taken.append((text, held, (held or node.stream).enqueue(message(text), USER)))
        if choice is not None:
            self.bell.deliver(choice)
        outcomes = await asyncio.gather(*(one for *_, one in taken), return_exceptions=True)
        after = (await self.store.inner.head("c")).fence
        said = texts(await log_of(self.store.inner))
        for (text, held, _), outcome in zip(taken, outcomes, strict=True):
            assert isinstance(outcome, Appended | AppendFailed | Fenced), outcome
            assert said.count(text) == isinstance(outcome, Appended)
            if isinstance(outcome, Appended):
                assert said[outcome.id] == text
                if held is not None:
                    assert not held.fence.is_stale(before)
            if isinstance(outcome, Fenced):
                assert held is not None
                assert held.fence.is_stale(after)
                self.figures["fenced"] += 1

    @rule(choice=CHOICES)
    def ring(self, choice):
        self.figures["rings"] += len(self.bell.rings)
        self.run(self.deliver(choice))

    async def deliver(self, choice):
        self.bell.deliver(choice)

    @rule(node=NODES, wrong=st.integers(-1, 500))
    def ring_wrongly(self, node, wrong):
        async def ring():
            self.nodes[node].follower.rung([("c", wrong), ("unknown", wrong)])

        self.run(ring())

    @rule(node=NODES)
    def look(self, node):
        self.run(self.nodes[node].follower.look())

    @rule(node=NODES, back=st.integers(0, 12))
    def join(self, node, back):
        stream = self.nodes[node].stream
        client = Client(max(-1, stream.next_id - 1 - back))
        self.run(self.attach(client, self.nodes[node], client.after))
        self.clients.append(client)

    async def attach(self, client, node, after):
        if after >= node.stream.next_id:
            await node.stream.look()  # a cursor from the other node, which was ahead
            self.figures["ahead"] += 1
        client.node = node
        client.subscription = node.stream.subscribe("client", client, after=after)

    @precondition(lambda self: self.clients)
    @rule(choice=CHOICES)
    def move(self, choice):
        """A client comes to a node with the cursor that it had at the other."""
        client = choice.choice(self.clients)
        self.run(self.do_move(client, self.nodes[client.node is self.nodes[0]]))
        self.figures["moves"] += 1

    async def do_move(self, client, node):
        if client.gate.is_set():
            await client.subscription.level()
        client.gate.set()
        self.figures["lagged"] += client.subscription.lagged
        await client.node.stream.unsubscribe(client.subscription)
        after = client.ids[-1] if client.ids else client.after
        await self.attach(client, node, after)

    @precondition(lambda self: self.clients)
    @rule(choice=CHOICES)
    def stall(self, choice):
        choice.choice(self.clients).gate.clear()

    @rule()
    def everybody_is_level_in_the_end(self):
        self.run(self.settle())

    async def settle(self):
        for node in self.nodes:
            await node.stream.look()
        log = await log_of(self.store.inner)
        for node in self.nodes:
            assert node.stream.next_id == len(log)
            assert node.published == list(range(node.first_id, len(log)))
            assert [one async for one in node.stream.search_events()] == log
        for client in self.clients:
            client.gate.set()
            await client.subscription.level()
            assert client.ids == list(range(client.after + 1, len(log)))
            assert client.texts == texts(log)[client.after + 1 :]

    @rule(node=NODES)
    def restart(self, node):
        """A node is started anew; its clients come to the other one."""
        self.run(self.do_restart(self.nodes[node], self.nodes[1 - node]))
        self.figures["restarts"] += 1

    async def do_restart(self, node, other):
        for client in self.clients:
            if client.node is node:
                await self.do_move(client, other)
        await node.close()
        await node.open(self.capacity, self.claims)

    @invariant()
    def nothing_is_published_or_handed_out_twice_or_out_of_order(self):
        for node in self.nodes:
            assert node.published == list(range(node.first_id, node.stream.next_id))
        for client in self.clients:
            first = client.after + 1
            assert client.ids == list(range(first, first + len(client.ids)))
