"""The process is gone at a named step of the storage: what was acknowledged is there, once."""

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE

import orjson
import pytest

from events.stores.files.store import FileEventStore
from storage import failpoints
from storage.errors import ConversationNotFound
from storage.opening import open_storage
from tests.support import held_turns
from tests.support.crashing import CRASHED, DELETED, KEPT, config_of, events_of, stream_of
from tests.support.invariants import History, check_view
from tests.support.servers import REPOSITORY
from tests.support.streams import USER, message

POINTS = {
    "sqlite": ["migration.begun", "commit.begun", "commit.done"],
    "local": ["file.flushed", "file.linked", "file.settled", "file.unlinked"],
}
HITS = [1, 2, 3, 8, 21, 55]
"""At which time a point is reached the process ends; larger ones reach sealing and deletion."""


class Told:
    """The lines a process printed before it was gone."""

    def __init__(self, output: str) -> None:
        self.histories = {KEPT: History(), DELETED: History()}
        self.titled = self.set = -1
        self.deleting = self.deleted = False
        for line in output.splitlines():
            match line.split():
                case "sent", name, key:
                    self.histories[name].sent(key, f"text {key}")
                case "ok", name, key, event_id:
                    self.histories[name].acknowledged(key, int(event_id))
                case "titled", number:
                    self.titled = int(number)
                case "set", number:
                    self.set = int(number)
                case "deleting", _:
                    self.deleting = True
                case "deleted", _:
                    self.deleted = True


async def crashed(folder, kind, point, hits):
    """Run a process per hit that ends at a point; yield the folder and the lines of each that did."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.crashing", str(folder), kind, point),
        *map(str, hits),
        cwd=REPOSITORY,
        stdin=DEVNULL,
        stdout=PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    codes = output.split()
    for hit, code in zip(hits, map(int, codes), strict=False):
        if code == 0:
            assert hit == hits[len(codes) - 1]
            return
        assert code == CRASHED
        yield folder / str(hit), Told((folder / f"{hit}.told").read_text(encoding="utf-8"))
    assert len(codes) == len(hits)


async def check(data_dir, kind, told):
    """Open the storage again: all that was told holds, and work goes on."""
    async with open_storage(config_of(kind, data_dir)) as storage:
        store = await events_of(storage)
        records = storage.conversations.for_user(None)
        for name, history in told.histories.items():
            head = await store.head(name)
            if head.deleted:
                assert told.deleting
                assert name == DELETED
                continue
            assert not (told.deleted and name == DELETED)
            events = await store.read(name, 0, head.next_id)
            history.check([orjson.loads(event.body) for event in events])
            if not history.requests:
                continue
            stream = await stream_of(store, name)
            seen = [event.id for event in await stream.read(0)]
            check_view(seen, -1, head.next_id, complete=False)
            for key, request in history.requests.items():
                repeated = await stream.append(message(request.content), USER, client_id=key)
                history.acknowledged(key, repeated.id)
            end = (await store.head(name)).next_id
            events = await store.read(name, 0, end)
            history.check([orjson.loads(event.body) for event in events])
            await stream.close()
        if told.titled >= 0:
            title = (await records.get_metadata(KEPT)).title
            assert title in {f"title {told.titled}", f"title {told.titled + 1}"}
        if told.set >= 0:
            settings = await storage.settings.for_user(None).load()
            assert settings is not None
            assert settings.max_iterations in {told.set, told.set + 1}
        if told.deleted:
            with pytest.raises(ConversationNotFound):
                await records.get_metadata(DELETED)
        if isinstance(store, FileEventStore):
            await store.close()


@pytest.mark.parametrize(
    ("kind", "point"), [(kind, point) for kind, points in POINTS.items() for point in points]
)
async def test_whatever_was_told_before_a_crash_at_a_step_is_there_once(
    tmp_path, kind, point, record_property
):
    reached = acknowledged = 0
    async for data_dir, told in crashed(tmp_path, kind, point, HITS):
        await check(data_dir, kind, told)
        reached += 1
        acknowledged += sum(one.acknowledgements for one in told.histories.values())

    assert reached > 0
    record_property("figures", f"{reached} crashes, {acknowledged} acknowledged, 0 lost, 0 twice")


def test_every_failpoint_is_crashed_at():
    """That of turns in test_turn_rounds.py."""
    storages = [point for points in POINTS.values() for point in points]
    assert sorted((*storages, held_turns.FAILPOINT)) == sorted(failpoints.NAMES)


def test_a_name_that_is_no_failpoint_is_refused():
    with pytest.raises(ValueError, match="no failpoint"):
        failpoints.enable("commit.never", lambda: None)
