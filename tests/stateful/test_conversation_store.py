"""Any history of calls by several owners agrees with a plain dict."""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from storage.conversations.base import ConversationStore, ConversationStores
from storage.conversations.metadata import ConversationMetadata, ConversationTrigger, MetadataChange
from storage.conversations.paging import ConversationFilter, ListOrder, ListPosition
from storage.errors import ConversationDeleted, ConversationNotFound, OwnerConflict
from tests.support.backends import CONVERSATION_STORES, DURABLE, HISTORIES, open_conversation_stores

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)

KEYS = st.sampled_from([f"c{number}" for number in range(8)])
OWNERS = st.sampled_from(["ann", "bob", None])
MOMENTS = st.integers(0, 4).map(lambda seconds: NOON + timedelta(seconds=seconds))
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "title": st.none() | st.text(max_size=4),
        "selected_repository": st.sampled_from([None, "o/r"]),
        "trigger": st.sampled_from([None, ConversationTrigger.GUI]),
        "last_updated_at": st.none() | MOMENTS,
        "last_message_at": st.none() | MOMENTS,
        "accumulated_cost": st.floats(allow_nan=False, allow_infinity=False),
        "pr_number": st.lists(st.integers(0, 2**63 - 1), max_size=2),
        "custom": st.dictionaries(st.text(max_size=2), st.text(max_size=3), max_size=2),
    },
)
FILTERS = st.builds(
    ConversationFilter,
    selected_repository=st.sampled_from([None, "o/r"]),
    trigger=st.sampled_from([None, ConversationTrigger.GUI]),
    title_contains=st.none() | st.text(max_size=1),
    updated_since=st.none() | MOMENTS,
    order=st.sampled_from(ListOrder),
)


class ConversationStoreMachine(RuleBasedStateMachine):
    """Owners save, change, delete and list conversations of a few shared ids."""

    kind: ClassVar[str]

    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = TemporaryDirectory()
        self.records: dict[str, ConversationMetadata] = {}
        self.deleted: set[str] = set()

    @initialize()
    def open(self):
        self.runner.run(self._open())

    async def _open(self) -> None:
        self.stack = AsyncExitStack()
        opening = open_conversation_stores(self.kind, Path(self.folder.name))
        self.stores: ConversationStores = await self.stack.enter_async_context(opening)

    def teardown(self):
        self.runner.run(self.stack.aclose())
        self.runner.close()
        self.folder.cleanup()

    @precondition(lambda self: self.kind in DURABLE)
    @rule()
    def restart(self):
        self.runner.run(self.stack.aclose())
        self.runner.run(self._open())

    @rule(key=KEYS, owner=OWNERS, created_at=MOMENTS, fields=FIELDS)
    def save(self, key, owner, created_at, fields):
        metadata = ConversationMetadata(
            conversation_id=key, user_id=owner, created_at=created_at, **fields
        )
        taken = self.records.get(key)

        outcome = self.attempt(self.store(owner).save_metadata(metadata))

        if key in self.deleted:
            assert outcome is ConversationDeleted
        elif taken is not None and taken.user_id != owner:
            assert outcome is OwnerConflict
        else:
            assert outcome is None
            self.records[key] = metadata

    @rule(key=KEYS, owner=OWNERS, fields=FIELDS)
    def update(self, key, owner, fields):
        visible = self.visible(key, owner)

        outcome = self.attempt(self.store(owner).update_metadata(key, MetadataChange(**fields)))

        if visible is None:
            assert outcome is ConversationNotFound
        else:
            self.records[key] = visible.model_copy(update=fields)
            assert outcome == self.records[key]

    @rule(key=KEYS, owner=OWNERS)
    def delete(self, key, owner):
        self.runner.run(self.store(owner).delete_metadata(key))

        if self.visible(key, owner) is not None:
            del self.records[key]
            self.deleted.add(key)

    @rule(owner=OWNERS, limit=st.integers(1, 4), filters=FILTERS)
    def list_all_pages(self, owner, limit, filters):
        expected = sorted(
            (record for record in self.owned_by(owner) if filters.accepts(record)),
            key=lambda record: ListPosition.of(record, filters.order),
            reverse=True,
        )

        assert self.runner.run(self.pages(owner, limit, filters)) == expected

    @invariant()
    def every_owner_sees_his_own_records_only(self):
        for owner in ("ann", "bob", None):
            mine = self.owned_by(owner)
            keys = [record.conversation_id for record in mine]
            assert self.runner.run(self.store(owner).get_all_metadata(keys)) == mine

    @rule(key=KEYS, owner=OWNERS)
    def look(self, key, owner):
        visible = self.visible(key, owner)

        assert self.runner.run(self.store(owner).exists(key)) == (visible is not None)
        found = self.attempt(self.store(owner).get_metadata(key))
        assert found == (visible or ConversationNotFound)

    def store(self, owner) -> ConversationStore:
        return self.stores.for_user(owner)

    def visible(self, key: str, owner: str | None) -> ConversationMetadata | None:
        record = self.records.get(key)
        return record if record is not None and record.user_id == owner else None

    def owned_by(self, owner) -> list[ConversationMetadata]:
        return [record for record in self.records.values() if record.user_id == owner]

    def attempt(self, call: Coroutine[Any, Any, Any]) -> Any:
        try:
            return self.runner.run(call)
        except ConversationNotFound as error:
            return type(error)

    async def pages(self, owner, limit, filters) -> list[ConversationMetadata]:
        page = await self.store(owner).search(None, limit, filters=filters)
        found = page.results
        while page.next_page_id is not None:
            page = await self.store(owner).search(page.next_page_id, limit, filters=filters)
            found += page.results
        return found


@pytest.mark.parametrize("kind", CONVERSATION_STORES)
def test_any_history_of_calls_agrees_with_a_plain_dict(kind):
    machine = type("Machine", (ConversationStoreMachine,), {"kind": kind})
    histories = HISTORIES.get(kind, 100) * 2 // 5

    run_state_machine_as_test(
        machine, settings=settings(max_examples=histories, stateful_step_count=30)
    )
