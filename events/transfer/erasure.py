"""Erases everything that a storage keeps of one user, so that a run that was cut short can go on."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from events.errors import DamagedHead
from events.transfer.contents import Stores
from events.transfer.progress import Progress, unshown
from storage.audit.base import AuditRecord
from storage.conversations.paging import MAX_LIMIT
from storage.errors import Damaged, Unavailable
from storage.keys import owner_part

USAGE_PAGE = 500
WHO = "parley erase"
ACTION = "erase a user"


@dataclass(slots=True)
class Erased:
    """The things that one run has erased."""

    conversations: int = 0
    events: int = 0
    records: list[str] = field(default_factory=list)
    """The kinds of records: settings, secrets."""
    usage: int = 0
    """Conversations, deleted ones too, of which the usage was counted."""
    notes: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """Return it as one line, without anything that was erased."""
        records = ", ".join(self.records) or "no settings or secrets"
        return (
            f"{self.conversations} conversations with {self.events} events, {records}, the usage of"
            f" {self.usage} conversations"
        )


Forget = Callable[[str], Awaitable[None]]
"""Removes what the runtimes of a conversation have left outside the storage. May raise."""


class Erasure:
    """One run of an erasure, on a storage that nobody else works on.

    Conversations go one by one, and everything that is found by a conversation goes before the
    conversation itself, so that a run may end anywhere and another goes on. The audit has a record
    of each run that came to its end; it names the user by a digest.
    """

    def __init__(self, stores: Stores, user_id: str | None, forget: Forget) -> None:
        self.erased = Erased()
        self._stores = stores
        self._user_id = user_id
        self._forget = forget

    async def run(self, progress: Progress = unshown) -> Erased:
        """Erase everything; return what it was. Raises StorageError, EventsError, what `forget` raises."""
        async for events in progress(self._conversations(), "conversations", None):
            self.erased.conversations += 1
            self.erased.events += events
        await self._erase_records()
        await self._erase_usage()
        await self._record()
        return self.erased

    async def _conversations(self) -> AsyncIterator[int]:
        """Delete the user's conversations; yield the number of events of each."""
        view = self._stores.storage.conversations.for_user(self._user_id)
        before: set[str] = set()
        while page := (await view.search(None, MAX_LIMIT)).results:
            for record in page:
                if record.conversation_id in before:
                    raise Unavailable(f"{record.conversation_id} is still there after its deletion")
                before.add(record.conversation_id)
                yield await self._delete(record.conversation_id)

    async def _delete(self, key: str) -> int:
        stores = self._stores
        try:
            count = (await stores.events.head(key)).next_id
        except DamagedHead:
            count = 0
        await self._forget(key)
        await stores.events.delete(key)
        await stores.workspaces.delete(key)
        await stores.storage.conversations.for_user(self._user_id).delete_metadata(key)
        return count

    async def _erase_records(self) -> None:
        users = self._stores.storage.users
        for name in await users.names_of(self._user_id):
            await users.delete_named(name)
            self.erased.records.append(name.kind)

    async def _erase_usage(self) -> None:
        usage, after = self._stores.storage.usage, ""
        while keys := await usage.counted(after, USAGE_PAGE):
            for key in keys:
                try:
                    found = await usage.load(key)
                except Damaged as damage:
                    self.erased.notes.append(f"whose usage it is cannot be read: {damage}")
                    continue
                if found is not None and found.user_id == self._user_id:
                    await usage.forget(key)
                    self.erased.usage += 1
            after = keys[-1]

    async def _record(self) -> None:
        now = datetime.now(UTC)
        await self._stores.storage.audit.add(
            AuditRecord(
                at=now,
                last_at=now,
                who=WHO,
                client=None,
                action=ACTION,
                target=owner_part(self._user_id),
                outcome=self.erased.summary(),
                acting=True,
            )
        )
