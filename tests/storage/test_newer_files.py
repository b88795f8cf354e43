"""Files that a newer version has written are told as such, and nothing is written in their place."""

import asyncio
import struct
import zlib

import pytest
from pydantic import SecretStr

from events.conformance.records import append, records
from events.errors import NewerFormat as NewerLog
from events.stores.files.check import check_logs
from events.stores.files.format import seed_of
from events.stores.files.store import FileEventStore
from storage.backends import backend_of
from storage.backends.base import OpenedFiles
from storage.config import LocalStorage
from storage.conversations.metadata import ConversationMetadata
from storage.errors import Damaged, MigrationError, NewerFormat
from storage.files.format import FORMAT, checked_body, with_checksum
from storage.opening import open_storage
from storage.users import CustomSecret, Secrets

SECRETS = Secrets(custom_secrets={"t": CustomSecret(value=SecretStr("x"))})


@pytest.fixture
async def filled(tmp_path):
    """A folder of files with a record, a log with a page, and a user's secrets."""
    async with open_storage(LocalStorage(data_dir=tmp_path)) as storage:
        ann = storage.conversations.for_user("ann")
        await ann.save_metadata(ConversationMetadata(conversation_id="c"))
        await storage.secrets.for_user("ann").store(SECRETS)
        assert isinstance(storage, OpenedFiles)
        events = FileEventStore(storage.files, storage.folded, page_events=5)
        await append(events, "c", records(0, 6))
        await asyncio.wait(events._sealings)
        await append(events, "c", records(6, 1))
        await events.close()
    return tmp_path


def make_newer(path):
    """Rewrite a file as a version would that counts its formats one further."""
    content = path.read_bytes()
    if content.startswith(b"parley-"):
        line, _, body = content.partition(b"\n")
        kind = line.split(b" ")[0].removeprefix(b"parley-").decode()
        path.write_bytes(with_checksum(kind, body, 2))
        return
    fields = b"\x02" + content[1:16]
    checksum = struct.pack(">I", zlib.crc32(fields, seed_of("c")))
    path.write_bytes(fields + checksum + content[20:])


def only(folder, pattern):
    *_, path = sorted((folder / "files").glob(pattern))
    return path


async def test_a_folder_of_a_newer_format_does_not_open(filled):
    (filled / "files" / "format").write_bytes(with_checksum("format", b"%d\n" % (FORMAT + 1)))

    with pytest.raises(MigrationError, match=r"is from a newer version \(format 2"):
        async with open_storage(LocalStorage(data_dir=filled)):
            pass
    assert backend_of(LocalStorage(data_dir=filled)).check() == ["files is from a newer version"]


async def test_a_folder_that_says_no_format_opens_and_says_it_then(filled):
    (filled / "files" / "format").unlink()

    for _ in range(2):
        async with open_storage(LocalStorage(data_dir=filled)) as storage:
            assert await storage.conversations.for_user("ann").exists("c")
        assert (filled / "files" / "format").read_bytes() == with_checksum("format", b"1\n")


async def test_newer_lists_keep_a_storage_from_opening_and_stay_as_they_are(filled):
    path = only(filled, "lists/*")
    make_newer(path)
    before = path.read_bytes()

    with pytest.raises(NewerFormat, match="lists/00000000 is from a newer version"):
        async with open_storage(LocalStorage(data_dir=filled)):
            pass

    assert path.read_bytes() == before
    assert any("newer version" in one for one in backend_of(LocalStorage(data_dir=filled)).check())


@pytest.mark.parametrize("pattern", ["records/c", "users/*/secrets"])
async def test_a_newer_record_is_told_as_such_and_stays_as_it_is(filled, pattern):
    path = only(filled, pattern)
    make_newer(path)
    before = path.read_bytes()

    async with open_storage(LocalStorage(data_dir=filled)) as storage:
        ann = storage.conversations.for_user("ann")
        calls = {
            "records/c": (
                lambda: ann.get_metadata("c"),
                lambda: ann.save_metadata(ConversationMetadata(conversation_id="c")),
            ),
            "users/*/secrets": (lambda: storage.secrets.for_user("ann").load(),),
        }
        for call in calls[pattern]:
            with pytest.raises(NewerFormat, match="is from a newer version"):
                await call()
    assert path.read_bytes() == before
    (problem,) = backend_of(LocalStorage(data_dir=filled)).check()
    assert "is from a newer version" in problem


@pytest.mark.parametrize("pattern", ["logs/c/tail/*", "logs/c/pages/*", "logs/c/head"])
async def test_a_newer_log_is_told_as_such_and_nothing_of_it_is_touched(filled, pattern):
    path = only(filled, pattern)
    make_newer(path)
    before = {one: one.read_bytes() for one in (filled / "files" / "logs").rglob("*/*/*")}

    async with open_storage(LocalStorage(data_dir=filled)) as storage:
        assert isinstance(storage, OpenedFiles)
        events = FileEventStore(storage.files, storage.folded, page_events=5)
        with pytest.raises(NewerLog, match="the log is from a newer version"):
            await events.read("c", 0, 7)
        if "pages" not in pattern:
            for call in (events.head("c"), append(events, "c", records(7, 1)), events.delete("c")):
                with pytest.raises(NewerLog):
                    await call
        await append(events, "d", records(0, 1))
        await events.close()

    assert {one: one.read_bytes() for one in before} == before
    (problem,) = check_logs(filled / "files")
    assert problem.startswith("conversation c: the log is from a newer version")


def test_a_version_that_does_not_fit_its_checksum_is_damage():
    content = with_checksum("record", b"body", 2)
    with pytest.raises(NewerFormat):
        checked_body("record", content, "records/c")

    for broken in (content[:-1], b"parley-record 2 x\nbody", b"parley-record", b"a b c\n"):
        with pytest.raises(Damaged) as caught:
            checked_body("record", broken, "records/c")
        assert not isinstance(caught.value, NewerFormat)


@pytest.mark.parametrize("content", [b"", b"\xff", b"99", with_checksum("format", b"one\n")])
async def test_a_damaged_note_of_the_format_is_found_and_does_not_keep_it_from_opening(
    filled, content
):
    (filled / "files" / "format").write_bytes(content)

    (problem,) = backend_of(LocalStorage(data_dir=filled)).check()
    assert problem.startswith("format ")
    async with open_storage(LocalStorage(data_dir=filled)) as storage:
        assert await storage.conversations.for_user("ann").exists("c")
