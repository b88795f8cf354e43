"""A process that saves workspaces until it is killed; what it was told is printed.

`python -m tests.support.saving DATA_DIR STORAGE SEED ROUND`
"""

import asyncio
import sys
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path

from events.conformance.records import append, records
from events.stores.opening import open_event_store, open_workspaces
from storage.opening import open_storage
from storage.workspaces.manifest import BLOB_BYTES
from storage.workspaces.snapshot import Snapshot, WorkspaceLimits
from tests.support.crashing import config_of
from tests.support.seeds import choices

CONVERSATIONS = 3
FILES = 24
LONGEST = 3 * BLOB_BYTES


def snapshot_at(seed: int, key: str, number: int) -> Snapshot:
    """Return the workspace of a conversation at its rest of that number: much is as it was before."""
    files: dict[str, bytes] = {}
    for file in range(FILES):
        changes = [at for at in range(number + 1) if choices_of(seed, key, file, at) < 0.25]
        if not changes:
            continue
        drawn = choices(hash_of(seed, key, file, changes[-1]))
        if drawn.random() < 0.2:
            continue  # removed
        longest = LONGEST if file == 0 else 40_000
        files[f"folder{file % 3}/file{file}"] = drawn.randbytes(drawn.randrange(longest))
    files["number"] = str(number).encode()
    return Snapshot(files=files, own={"state": f"{key} {number}".encode()})


def hash_of(*values: object) -> int:
    """Return a number that follows from the values, in every process the same."""
    found = 0
    for letter in " ".join(map(str, values)):
        found = (found * 1_000_003 + ord(letter)) % 2**61
    return found


def choices_of(seed: int, key: str, file: int, at: int) -> float:
    """Return the number from 0 to 1 by which a file changes at a rest or does not."""
    return choices(hash_of(seed, key, file, at)).random()


def keys_of(number: int) -> list[str]:
    """Return the conversations that begin in a round."""
    return [f"r{number}c{one}" for one in range(CONVERSATIONS)]


async def save(data_dir: Path, storage: str, seed: int, number: int) -> None:
    """Save the workspaces of a round's conversations again and again, and delete some others."""
    config = config_of(storage, data_dir)
    async with open_storage(config) as opened, AsyncExitStack() as stack:
        events = await open_event_store(opened, stack)
        store = open_workspaces(opened, events, WorkspaceLimits())

        async def save_one(key: str) -> None:
            await append(events, key, records(0, 1))
            for at in count():
                snapshot = snapshot_at(seed, key, at)
                _tell("saving", key, at)
                await store.save(key, snapshot)
                _tell("saved", key, at)

        async def delete_some() -> None:
            for at in count():
                key = f"r{number}d{at}"
                await append(events, key, records(0, 1))
                await store.save(key, snapshot_at(seed, key, 3))
                _tell("deleting", key, at)
                await events.delete(key)
                await store.delete(key)
                _tell("deleted", key, at)

        async with asyncio.TaskGroup() as tasks:
            for key in keys_of(number):
                tasks.create_task(save_one(key))
            tasks.create_task(delete_some())


def _tell(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    folder, kind, run_seed, run_round = sys.argv[1:]
    asyncio.run(save(Path(folder), kind, int(run_seed), int(run_round)))
