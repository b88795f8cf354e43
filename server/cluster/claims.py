"""Claims to agent loops as rows of the database, which all servers of a cluster share."""

import logging
from collections.abc import Collection

from events.fence import Fence
from server.cluster.membership import Membership
from server.conversations.claims import Claimed, Gone, Held, HeldBy, LoopRow, Waits
from storage.database.base import Row
from storage.database.postgres import PostgresPool, Role
from storage.errors import StorageError
from storage.keyed_locks import KeyedLocks

logger = logging.getLogger(__name__)


class ClusterClaims:
    """The claims of one server; see SharedClaims.

    `slots` is the number of loops that a user may have, in all servers together. What could not be
    given back is given back after the next beat that reaches the storage.
    """

    def __init__(self, pool: PostgresPool, membership: Membership, *, slots: int) -> None:
        self.lease = membership
        self._pool = pool
        self._membership = membership
        self._slots = slots
        self._owed: dict[str, int] = {}
        """Conversations to give back, and the incarnation that held them."""
        self._giving: KeyedLocks[str] = KeyedLocks()
        membership.on_beat = self._give_back

    async def claim(
        self, conversation_id: str, owner: str | None, *, has_work: bool, in_line: bool = False
    ) -> Claimed:
        """See Claims."""
        node = self._membership.incarnation
        about = (conversation_id, owner, node, self._slots, has_work, in_line)
        # A release on its way must not overtake the claim, and remove what it has claimed.
        async with self._giving.of(conversation_id):
            self._owed.pop(conversation_id, None)
            ((outcome, fence, name),) = await self._pool.fetch(Role.RECORD, "claim_loop", *about)
        match outcome:
            case "held":
                return Held(Fence(fence, node))
            case "other":
                return HeldBy(name)
            case "waits":
                return Waits()
            case _:
                # Declared dead, this server claims again once it has begun anew.
                living = await self._pool.fetch(Role.READ, "living_nodes")
                return Gone() if any(one[0] == node for one in living) else Waits()

    async def release(self, conversation_id: str) -> None:
        """See Claims."""
        node = self._membership.incarnation
        try:
            await self._pool.fetch(Role.RECORD, "release_loop", conversation_id, node)
        except StorageError as error:
            self._owed[conversation_id] = node
            logger.warning("a loop is given back later: %s", error)

    async def loop_of(self, conversation_id: str) -> LoopRow | None:
        """See SharedClaims."""
        rows = await self._pool.fetch(Role.READ, "find_loop", conversation_id)
        return self._rows(rows)[0] if rows else None

    async def loops_of(self, user_id: str | None, only: Collection[str] | None) -> list[LoopRow]:
        """See SharedClaims."""
        if only is not None and not only:
            return []
        about = (False, user_id, None if only is None else [*only])
        return self._rows(await self._pool.fetch(Role.READ, "list_loops", *about))

    async def every_loop(self) -> list[LoopRow]:
        """See SharedClaims."""
        return self._rows(await self._pool.fetch(Role.READ, "list_loops", True, None, None))  # noqa: FBT003

    async def ask_to_stop(self, conversation_id: str) -> None:
        """See SharedClaims."""
        await self._pool.fetch(Role.RECORD, "ask_to_stop", conversation_id)

    async def asked_to_stop(self) -> list[str]:
        """See SharedClaims."""
        node = self._membership.incarnation
        return [
            found for (found,) in await self._pool.fetch(Role.READ, "loops_of_node_to_stop", node)
        ]

    async def take_over(self, most: int) -> list[LoopRow]:
        """See SharedClaims."""
        about = (self._membership.incarnation, most)
        rows = await self._pool.fetch(Role.RECORD, "take_over_loops", *about)
        name = self._membership.name
        return [
            LoopRow(found, user, name, here=True, waits=False, working=at_work)
            for found, user, at_work in rows
        ]

    async def waiting_users(self) -> set[str | None]:
        """See SharedClaims."""
        return {user for (user,) in await self._pool.fetch(Role.READ, "users_in_line")}

    def _rows(self, rows: list[Row]) -> list[LoopRow]:
        node = self._membership.incarnation
        return [
            LoopRow(
                found, user, None if waits else name, holder == node and not waits, waits, working
            )
            for found, user, name, holder, waits, working in rows
        ]

    async def _give_back(self) -> None:
        for conversation_id in [*self._owed]:
            async with self._giving.of(conversation_id):
                node = self._owed.get(conversation_id)
                if node is not None:  # else claimed anew meanwhile
                    await self._pool.fetch(Role.RECORD, "release_loop", conversation_id, node)
                    if self._owed.get(conversation_id) == node:
                        del self._owed[conversation_id]
