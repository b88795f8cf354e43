"""The conformance suite of a ConversationStore, as tests of pytest and pytest-asyncio."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from storage.conformance.opened import StoresSuite
from storage.conversations.base import ConversationStores
from storage.conversations.metadata import (
    ConversationMetadata,
    ConversationTrigger,
    MetadataChange,
    ProviderType,
)
from storage.errors import (
    BadKey,
    BadValue,
    ConversationDeleted,
    ConversationNotFound,
    OwnerConflict,
)

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)

FULL = ConversationMetadata(
    conversation_id="full",
    user_id="ann",
    selected_repository="owner/repo",
    selected_branch="main",
    git_provider=ProviderType.GITHUB,
    title="Räksmörgås\x00 \N{SANDWICH}",
    last_updated_at=NOON + timedelta(microseconds=1),
    trigger=ConversationTrigger.SLACK,
    pr_number=[3, 1],
    created_at=NOON,
    llm_model="none",
    accumulated_cost=0.1 + 0.2,
    prompt_tokens=2**63 - 1,
    completion_tokens=7,
    total_tokens=9,
    sandbox_id="box",
    conversation_version="V0",
    custom={"nested": [{"a": None, "b": 1.5, "c": 2**70}], "": True},
)


def record(conversation_id: str, **fields) -> ConversationMetadata:
    return ConversationMetadata(conversation_id=conversation_id, **fields)


class ConversationStoreSuite(StoresSuite[ConversationStores]):
    """The contract of a ConversationStore; a subclass says how a medium is opened."""

    async def test_every_field_comes_back_as_it_was_saved(self, store):
        await store.save_metadata(FULL)

        assert await store.get_metadata("full") == FULL

    async def test_a_minimal_record_comes_back_with_its_defaults(self, store):
        await store.save_metadata(record("plain", user_id="ann", created_at=NOON))

        assert await store.get_metadata("plain") == record("plain", user_id="ann", created_at=NOON)

    async def test_saving_again_replaces_the_whole_record(self, store):
        await store.save_metadata(FULL)
        await store.save_metadata(record("full", title="other", created_at=NOON))

        found = await store.get_metadata("full")

        assert found == record("full", user_id="ann", title="other", created_at=NOON)

    async def test_a_record_is_not_shared_with_those_who_saved_or_got_it(self, store):
        mine = record("c", custom={"list": [1]})
        await store.save_metadata(mine)
        mine.custom["list"] = "changed after saving"
        (await store.get_metadata("c")).custom["list"] = "changed after reading"

        assert (await store.get_metadata("c")).custom == {"list": [1]}

    async def test_an_unknown_conversation_is_not_found(self, store):
        assert not await store.exists("nobody")
        with pytest.raises(ConversationNotFound):
            await store.get_metadata("nobody")
        with pytest.raises(ConversationNotFound):
            await store.update_metadata("nobody", MetadataChange(title="t"))

    async def test_an_update_sets_the_given_fields_and_leaves_the_others(self, store):
        await store.save_metadata(FULL)

        changed = await store.update_metadata("full", MetadataChange(title=None, custom={"k": 1}))

        assert changed == FULL.checked_copy(title=None, custom={"k": 1})
        assert await store.get_metadata("full") == changed

    async def test_the_fold_of_a_log_is_written_by_an_update(self, store):
        await store.save_metadata(record("c", created_at=NOON))
        change = MetadataChange(last_updated_at=NOON, accumulated_cost=1.5, total_tokens=12)

        await store.update_metadata("c", change)

        listed = (await store.search()).results[0]
        assert listed == await store.get_metadata("c")
        assert (listed.last_updated_at, listed.accumulated_cost, listed.total_tokens) == (
            NOON,
            1.5,
            12,
        )

    async def test_updates_at_the_same_time_keep_each_others_fields(self, store):
        await store.save_metadata(record("c"))
        changes = [MetadataChange(title="t"), MetadataChange(selected_branch="b"), MetadataChange()]

        await asyncio.gather(*(store.update_metadata("c", change) for change in changes * 5))

        found = await store.get_metadata("c")
        assert (found.title, found.selected_branch) == ("t", "b")

    async def test_a_title_is_given_once_and_only_to_a_record_without_one(self, store):
        await store.save_metadata(record("c"))
        await store.save_metadata(record("blank", title=""))

        assert await store.give_title("c", "first")
        assert not await store.give_title("c", "second")
        assert not await store.give_title("blank", "never")

        assert (await store.get_metadata("c")).title == "first"
        assert (await store.get_metadata("blank")).title == ""
        with pytest.raises(ConversationNotFound):
            await store.give_title("nobody", "t")

    async def test_a_given_title_never_undoes_one_that_is_set_at_the_same_time(self, store):
        for number in range(10):
            key = f"c{number}"
            await store.save_metadata(record(key))
            await asyncio.gather(
                store.give_title(key, "given"),
                store.update_metadata(key, MetadataChange(title="set", selected_branch="b")),
                store.give_title(key, "given too"),
            )

            found = await store.get_metadata(key)
            assert (found.title, found.selected_branch) == ("set", "b")

    async def test_a_record_is_valid_only_for_the_owner_it_names(self, stores):
        await stores.for_user("ann").save_metadata(record("owned"))
        await stores.for_user(None).save_metadata(record("ownerless"))

        assert await stores.for_user("ann").validate_metadata("owned", "ann")
        assert not await stores.for_user("ann").validate_metadata("owned", "bob")
        assert not await stores.for_user("ann").validate_metadata("owned", None)
        assert not await stores.for_user("bob").validate_metadata("owned", "ann")
        assert not await stores.for_user(None).validate_metadata("ownerless", None)
        assert not await stores.for_user("ann").validate_metadata("unknown", "ann")

    @pytest.mark.parametrize("stranger", ["bob", None, ""])
    async def test_a_foreign_record_looks_like_an_unknown_one(self, stores, stranger):
        await stores.for_user("ann").save_metadata(record("c", title="private"))
        foreign = stores.for_user(stranger)

        await foreign.delete_metadata("c")

        assert not await foreign.exists("c")
        assert (await foreign.search()).results == []
        for call in (
            foreign.get_metadata("c"),
            foreign.update_metadata("c", MetadataChange(title="mine")),
            foreign.give_title("c", "mine"),
            foreign.get_all_metadata(["c"]),
        ):
            with pytest.raises(ConversationNotFound, match=r"^Conversation not found: c$"):
                await call
        assert (await stores.for_user("ann").get_metadata("c")).title == "private"

    async def test_a_foreign_id_cannot_be_saved_and_its_owner_is_not_named(self, stores):
        await stores.for_user("ann").save_metadata(record("c", title="private"))

        for stranger in ("bob", None):
            with pytest.raises(OwnerConflict, match=r"^Conversation not found: c$"):
                await stores.for_user(stranger).save_metadata(record("c"))

        assert (await stores.for_user("ann").get_metadata("c")).title == "private"

    async def test_a_record_of_another_owner_cannot_be_saved(self, stores):
        for bound, named in (("bob", "ann"), (None, "ann")):
            with pytest.raises(OwnerConflict):
                await stores.for_user(bound).save_metadata(record("c", user_id=named))

        assert not await stores.for_user("ann").exists("c")

    async def test_a_deleted_record_is_gone_and_its_id_is_spent_for_everybody(self, stores):
        ann = stores.for_user("ann")
        await ann.save_metadata(record("c"))

        await ann.delete_metadata("c")
        await ann.delete_metadata("c")

        assert not await ann.exists("c")
        assert (await ann.search()).results == []
        for user_id in ("ann", "bob", None):
            with pytest.raises(ConversationDeleted):
                await stores.for_user(user_id).save_metadata(record("c"))

    async def test_deleting_an_unknown_id_does_not_spend_it(self, store):
        await store.delete_metadata("c")

        await store.save_metadata(record("c"))

        assert await store.exists("c")

    async def test_records_are_given_in_the_order_asked_for(self, store):
        for key in ("a", "b", "c"):
            await store.save_metadata(record(key))

        found = await store.get_all_metadata(["c", "a", "c"])

        assert [metadata.conversation_id for metadata in found] == ["c", "a", "c"]
        assert await store.get_all_metadata([]) == []

    async def test_the_first_missing_record_is_named(self, store):
        await store.save_metadata(record("a"))

        with pytest.raises(ConversationNotFound, match=r"nobody$"):
            await store.get_all_metadata(["a", "nobody", "other"])

    @pytest.mark.parametrize("key", ["", "../evil", "a\x00", "x" * 101, "task-1", "a b"])
    async def test_an_unacceptable_id_is_refused_by_every_call(self, store, key):
        for call in (
            store.save_metadata(record(key)),
            store.get_metadata(key),
            store.update_metadata(key, MetadataChange()),
            store.give_title(key, "t"),
            store.validate_metadata(key, "ann"),
            store.delete_metadata(key),
            store.exists(key),
            store.get_all_metadata([key]),
        ):
            with pytest.raises(BadKey):
                await call

    async def test_a_value_that_no_medium_can_hold_changes_nothing(self, store):
        await store.save_metadata(record("c"))
        broken = record("c", title="new")
        broken.custom["set"] = {1, 2}  # type: ignore[assignment]

        with pytest.raises(BadValue, match="custom"):
            await store.save_metadata(broken)

        assert (await store.get_metadata("c")).title is None
