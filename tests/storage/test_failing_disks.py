"""Local files and SQLite on disks that fail at any operation, or are full for a time."""

import errno
import os

import pytest

from storage.conversations.files.store import FileConversationStores
from storage.conversations.metadata import ConversationMetadata
from storage.errors import StorageFull, Unavailable
from storage.files.local import LocalFileStore
from storage.keys import RECORDS
from tests.support.disk_watch import Act, Deed, flush, watched
from tests.support.io_faults import PLACES, run_failing, run_full
from tests.support.report import counted
from tests.support.seeds import chosen_seed

NUMBERS = 8
"""Operations that fail in each way; `scripts/soak faults` tries every one."""


@pytest.mark.parametrize("kind", PLACES)
async def test_whichever_operation_fails_what_is_told_is_true_and_the_storage_stays_sound(
    kind, tmp_path, record_property
):
    seed = chosen_seed()
    record_property("figures", f"seed {seed}")

    figures = await run_failing(tmp_path, seed, kind, NUMBERS)

    record_property("figures", counted(figures))
    assert {fault.name for fault in PLACES[kind].faults} < set(figures)


@pytest.mark.parametrize("kind", PLACES)
async def test_a_full_disk_refuses_what_is_new_shows_what_is_there_and_is_used_again(
    kind, tmp_path, record_property
):
    seed = chosen_seed()
    record_property("figures", f"seed {seed}")

    figures = await run_full(tmp_path, seed, kind)

    assert figures["acknowledged while full"] == 0
    assert figures["acknowledged events"] > 0


async def test_every_operation_of_the_file_store_is_seen_and_can_fail(tmp_path):
    seen: set[Deed] = set()

    def note(act: Act) -> None:
        seen.add(act.deed)

    def refuse(act: Act) -> None:
        if act.deed is Deed.WRITES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    files = await LocalFileStore.open(tmp_path / "files", flush=flush)
    with watched(note):
        await files.create("a/b", b"1")
        await files.write("a/b", b"2")
        await files.read("a/b")
        await files.keys()
        await files.delete_tree("a")
    with watched(refuse), pytest.raises(StorageFull, match="No space left"):
        await files.create("c", b"1")

    assert seen == set(Deed)
    assert await files.keys() == []
    await files.close()


async def test_ids_of_deleted_conversations_that_cannot_be_read_are_not_taken_for_unused(tmp_path):
    def refuse(act: Act) -> None:
        if act.deed is Deed.READS:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    files = await LocalFileStore.open(tmp_path, flush=flush)
    stores = await FileConversationStores.open(files)
    for name in ("a", "b", "c"):
        await stores.for_user(None).save_metadata(ConversationMetadata(conversation_id=name))
    for name in ("a", "b"):
        await stores.for_user(None).delete_metadata(name)
    await stores.close()
    await files.write(f"{RECORDS}damaged", b"")
    reopened = await FileConversationStores.open(files)

    with watched(refuse), pytest.raises(Unavailable):
        await reopened.deleted()

    assert await reopened.deleted() == ["a", "b"]
    await reopened.close()
    await files.close()
