"""A doorbell in memory: rings between the nodes of a test, as unreliable as it is told to be."""

from random import Random

from events.follower import Follower
from events.stream import EventStream


class Doorbell:
    """Holds the rings of every node for all others until they are delivered, or dropped."""

    def __init__(self) -> None:
        self._followers: list[Follower] = []
        self.rings: list[tuple[Follower, tuple[str, int]]] = []

    def join(self, follower: Follower) -> None:
        """Let a node hear what others ring."""
        self._followers.append(follower)

    def rings_for(self, follower: Follower, stream: EventStream) -> None:
        """Ring at all other nodes whenever this node's stream publishes."""

        def ring(events: object, _summary: object) -> None:
            told = (stream.conversation_id, stream.next_id)
            self.rings += [(one, told) for one in self._followers if one is not follower]

        stream.tap(ring)

    def deliver(self, choice: Random) -> None:
        """Deliver what was rung: out of order, some of it twice, some not at all."""
        rings, self.rings = self.rings, []
        rings = [one for one in rings for _ in range(choice.choice([0, 1, 1, 2]))]
        choice.shuffle(rings)
        for follower, told in rings:
            follower.rung([told])
