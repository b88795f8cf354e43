"""Any history of saves, deletions and kills agrees with a plain dict."""

import asyncio
from collections import Counter
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from events.conformance.records import append, records
from events.errors import EventsError
from storage.errors import ConversationDeleted, ConversationNotFound, StorageError
from storage.workspaces.manifest import BLOB_BYTES
from storage.workspaces.snapshot import Snapshot
from tests.support.dying_files import Death
from tests.support.histories import short_of, try_histories
from tests.support.report import counted
from tests.support.workspace_worlds import world_of

LONG = bytes(range(256)) * (BLOB_BYTES // 256)
BODIES = {
    "empty": b"",
    "tiny": b"a",
    "short": b"b" * 3000,
    "half": b"c" * (BLOB_BYTES // 2),
    "almost": b"d" * (BLOB_BYTES - 1),
    "whole": LONG,
    "more": LONG + b"e",
}


def body_of(name: str) -> bytes:
    return BODIES[name]


CONTENTS = st.sampled_from(sorted(BODIES)).map(body_of)
KEYS = st.sampled_from(["c0", "c1", "c2"])
SNAPSHOTS = st.builds(
    Snapshot,
    files=st.dictionaries(st.sampled_from([f"f{n}" for n in range(6)]), CONTENTS, max_size=5),
    folders=st.frozensets(st.sampled_from(["x", "x/y", "z"]), max_size=2),
    own=st.dictionaries(st.sampled_from(["state", "objects/0"]), CONTENTS, max_size=2),
)
KILLS = st.tuples(st.integers(0, 4), st.sampled_from(Death))


class WorkspaceMachine(RuleBasedStateMachine):
    """Workspaces of a few conversations are saved and deleted by a process that dies now and then."""

    kind: ClassVar[str]
    figures: ClassVar[Counter[str]]

    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = TemporaryDirectory()
        self.kept: dict[str, Snapshot] = {}
        self.begun: set[str] = set()
        self.deleted: set[str] = set()

    @initialize()
    def open(self):
        self.world = world_of(self.kind, Path(self.folder.name))
        self.runner.run(self.world.open())
        for key in ("c0", "c1"):
            self.begin(key)

    def teardown(self):
        self.runner.run(self.world.close())
        self.runner.close()
        self.folder.cleanup()

    @rule()
    def restart(self):
        self.runner.run(self._again())

    async def _again(self) -> None:
        await self.world.close()
        await self.world.open()
        for key in self.deleted:
            assert await self.world.leftovers(key) == 0

    @precondition(lambda self: "c2" not in self.begun)
    @rule()
    def begin_another(self):
        self.begin("c2")

    def begin(self, key):
        self.runner.run(append(self.world.events, key, records(0, 1)))
        self.begun.add(key)

    @rule(key=KEYS, snapshot=SNAPSHOTS)
    def save(self, key, snapshot):
        refusal = None
        try:
            self.runner.run(self.world.store.save(key, snapshot))
        except ConversationNotFound as error:
            refusal = type(error)

        if key in self.deleted:
            assert refusal is ConversationDeleted
        elif key not in self.begun:
            assert refusal is ConversationNotFound
        else:
            assert refusal is None
            self.kept[key] = snapshot

    @precondition(lambda self: self.begun - self.deleted)
    @rule(data=st.data(), snapshot=SNAPSHOTS, kill=KILLS)
    def save_until_killed(self, data, snapshot, kill):
        key = data.draw(st.sampled_from(sorted(self.begun - self.deleted)))
        self.runner.run(self._save_until_killed(key, snapshot, kill))

    async def _save_until_killed(self, key: str, snapshot: Snapshot, kill) -> None:
        self.world.dying.die_after(*kill)
        saved = False
        with suppress(StorageError):
            await self.world.store.save(key, snapshot)
            saved = True
        await self._again()

        loaded = await self.world.store.load(key)
        found = None if loaded is None else loaded.snapshot
        if loaded is not None:
            assert (loaded.lost, loaded.own_lost) == ((), False)
        assert found in ([snapshot] if saved else [snapshot, self.kept.get(key)])
        if found is not None:
            self.kept[key] = found
        self.figures["saves killed"] += not saved
        self.figures["of these whole"] += not saved and found == snapshot

    @rule(key=KEYS)
    def delete(self, key):
        self.runner.run(self._delete(key))
        self._forget(key)

    async def _delete(self, key: str) -> None:
        await self.world.events.delete(key)
        await self.world.store.delete(key)

    @precondition(lambda self: self.kept)
    @rule(data=st.data(), kill=KILLS)
    def delete_until_killed(self, data, kill):
        key = data.draw(st.sampled_from(sorted(self.kept)))
        self.runner.run(self._delete_until_killed(key, kill))

    async def _delete_until_killed(self, key: str, kill) -> None:
        self.world.dying.die_after(*kill)
        done = False
        with suppress(StorageError, EventsError):
            await self._delete(key)
            done = True
        await self.world.close()
        await self.world.open()
        head = await self.world.events.head(key)
        if done:
            assert head.deleted
        if head.deleted:
            self._forget(key)
            assert await self.world.leftovers(key) == 0
            self.figures["deletions killed"] += not done

    @rule(key=KEYS)
    def drop(self, key):
        self.runner.run(self.world.store.delete(key))

        self.kept.pop(key, None)

    @invariant()
    def what_is_kept_is_what_was_saved_last(self):
        for key in ("c0", "c1", "c2"):
            assert self.runner.run(self._found(key)) == self.kept.get(key)

    async def _found(self, key: str) -> Snapshot | None:
        loaded = await self.world.store.load(key)
        kept = await self.world.store.kept(key)
        if loaded is None or kept is None:
            assert (loaded, kept) == (None, None)
            return None
        files = loaded.snapshot.files
        assert kept.files == {path: len(content) for path, content in files.items()}
        return loaded.snapshot

    def _forget(self, key: str) -> None:
        self.kept.pop(key, None)
        self.begun.add(key)
        self.deleted.add(key)


@pytest.mark.parametrize("kind", ["sqlite", "files", "local"])
def test_any_history_with_kills_agrees_with_a_plain_dict(kind, record_property):
    floors = {"saves killed": 0}

    figures = try_histories(WorkspaceMachine, floors, histories=20, steps=15, kind=kind)

    record_property("figures", counted(figures))
    assert short_of(floors, figures) == {}
