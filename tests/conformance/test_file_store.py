"""The suite of a FileStore over every back-end."""

import asyncio

import pytest

from storage.errors import BadKey, Conflict, KeyExists, KeyNotFound, Unavailable
from tests.support.backends import FILE_STORES, open_file_store

BYTES = bytes(range(256)) * 3


@pytest.fixture(params=FILE_STORES)
async def store(request, tmp_path):
    async with open_file_store(request.param, tmp_path) as opened:
        yield opened


@pytest.mark.parametrize("content", [b"", BYTES, b"x" * 3_000_000])
async def test_a_file_comes_back_as_it_was_created_or_written(store, content):
    await store.create("a/created", content)
    await store.write("a/written", content)

    assert await store.read("a/created") == content
    assert await store.read("a/written") == content


async def test_what_was_never_written_is_not_found(store):
    await store.create("folder/file", b"")

    for key in ("a", "a/b", "folder", "folder/other", "folder/file/below"):
        assert not await store.exists(key)
        with pytest.raises(KeyNotFound):
            await store.read(key)
    assert await store.exists("folder/file")


async def test_several_files_are_read_in_the_order_asked_for(store):
    await store.create("a/1", b"1")
    await store.create("b", BYTES)

    found = await store.read_all(["b", "never/was", "a/1", "a", "b"])

    assert found == [BYTES, None, b"1", None, BYTES]
    assert await store.read_all([]) == []


async def test_a_taken_key_is_refused_and_changes_nothing(store):
    await store.create("a", b"first")

    with pytest.raises(KeyExists):
        await store.create("a", b"second")

    assert await store.read("a") == b"first"


async def test_of_many_who_create_one_key_exactly_one_succeeds(store):
    contents = [b"%d" % number * 1000 for number in range(30)]

    outcomes = await asyncio.gather(
        *(store.create("new/folder/key", content) for content in contents), return_exceptions=True
    )

    assert sorted(map(str, map(type, outcomes))) == sorted(
        map(str, [type(None), *[KeyExists] * 29])
    )
    assert await store.read("new/folder/key") == contents[outcomes.index(None)]


async def test_a_write_replaces_a_file_whole(store):
    await store.create("a", BYTES)

    await store.write("a", b"short")

    assert await store.read("a") == b"short"


async def test_readers_see_one_of_the_contents_whole_while_writers_replace_it(store):
    contents = {b"%d" % number * 50_000 for number in range(20)}
    await store.write("a", b"0" * 50_000)

    *_, found = await asyncio.gather(
        *(store.write("a", content) for content in contents),
        asyncio.gather(*(store.read("a") for _ in range(40))),
    )

    assert set(found) <= contents
    assert await store.read("a") in contents


async def test_a_key_cannot_be_a_file_and_a_folder(store):
    await store.create("file", b"1")
    await store.create("folder/file", b"2")

    for call in (store.create, store.write):
        for key in ("file/below", "file/far/below", "folder"):
            with pytest.raises(Conflict):
                await call(key, b"3")

    assert await store.keys() == ["file", "folder/file"]
    assert await store.read("file") == b"1"


async def test_keys_are_listed_in_their_order_by_prefix(store):
    keys = ["b/1", "a/x/2", "a/x-2", "a/10", "a/9", "ab", "a/x/10", "Z", "a.b/c"]
    for key in keys:
        await store.create(key, b"")

    assert await store.keys() == sorted(keys)
    assert await store.keys("a/") == ["a/10", "a/9", "a/x-2", "a/x/10", "a/x/2"]
    assert await store.keys("a") == sorted(key for key in keys if key.startswith("a"))
    assert await store.keys("a/x/1") == ["a/x/10"]
    assert await store.keys("a/x/10/") == []
    assert await store.keys("c/") == []


async def test_a_list_goes_on_after_a_key_and_ends_at_its_limit(store):
    keys = [f"a/{number:02}" for number in range(9)]
    for key in keys:
        await store.create(key, b"")

    assert await store.keys("a/", limit=4) == keys[:4]
    assert await store.keys("a/", after="a/03", limit=4) == keys[4:8]
    assert await store.keys("a/", after="a/035") == keys[4:]
    assert await store.keys("a/", after="a/08") == []
    assert await store.keys("a/", limit=0) == []


async def test_a_deleted_file_is_gone_and_its_key_is_free(store):
    await store.create("a/b", b"1")

    await store.delete("a/b")
    await store.delete("a/b")
    await store.delete("a")
    await store.delete("never/was")

    assert await store.keys() == []
    await store.create("a/b", b"2")
    assert await store.read("a/b") == b"2"


async def test_several_files_are_deleted_at_once(store):
    for key in ("a/1", "a/2", "b", "c"):
        await store.create(key, b"")

    await store.delete("a/1", "b", "never/was", "a/2")
    await store.delete()

    assert await store.keys() == ["c"]


async def test_deleting_a_key_that_is_a_folder_leaves_its_files(store):
    await store.create("a/b", b"1")

    await store.delete("a")

    assert await store.read("a/b") == b"1"


async def test_a_deleted_tree_leaves_its_neighbours(store):
    for key in ("a/x/1", "a/x/y/2", "a/x-1", "a/xx", "b"):
        await store.create(key, b"")

    await store.delete_tree("a/x")
    await store.delete_tree("a/x")
    await store.delete_tree("b")
    await store.delete_tree("never/was")

    assert await store.keys() == ["a/x-1", "a/xx", "b"]
    await store.create("a/x", b"now a file")


@pytest.mark.parametrize("key", ["", "/a", "a/", "../a", "a/../../b", "a//b", ".a", "a\x00", "é"])
async def test_an_unacceptable_key_is_refused_by_every_call(store, key):
    for call in (
        store.read(key),
        store.exists(key),
        store.create(key, b""),
        store.write(key, b""),
        store.delete(key),
        store.delete_tree(key),
        store.keys(f"{key}x/../"),
    ):
        with pytest.raises(BadKey):
            await call


async def test_what_was_given_is_not_shared_with_the_store(store):
    content = bytearray(b"before")
    await store.create("a", content)
    content[:] = b"after!"

    assert await store.read("a") == b"before"


async def test_hundreds_of_calls_at_once_are_all_done(store):
    keys = [f"{number % 7}/{number}" for number in range(300)]
    await asyncio.gather(*(store.create(key, key.encode()) for key in keys))

    found = await asyncio.gather(*(store.read(key) for key in keys))

    assert found == [key.encode() for key in keys]
    assert await store.keys() == sorted(keys)


async def test_a_closed_store_is_unavailable(store):
    await store.create("a", b"")
    await store.close()
    await store.close()

    for call in (store.read("a"), store.create("b", b""), store.keys(), store.delete_tree("a")):
        with pytest.raises(Unavailable):
            await call
