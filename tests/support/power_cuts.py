"""Power cuts of a disk with local files: whatever a cut leaves, a start makes a sound storage of it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from shutil import rmtree

from events.conformance.records import append, records
from storage.config import LocalStorage
from storage.files.folders import TEMPORARY
from storage.files.local import LocalFileStore
from storage.keys import FILES_NAME
from tests.support.backends import Opened, open_over
from tests.support.disk_images import Journal
from tests.support.disk_watch import flush, watched
from tests.support.invariants import check_derived
from tests.support.seeds import choices
from tests.support.storage_life import CONVERSATIONS, Life

STEPS = 45
"""Things that are done in a life, before its restart and again behind it."""
CUTS = 40
"""Places at which the power is cut in one life; and again while what was left is being opened."""

MORE_EVENTS = 2


@asynccontextmanager
async def opened_files(folder: Path) -> AsyncIterator[Opened]:
    """Open the stores over local files, whose flushes are only noted."""
    files = await LocalFileStore.open(folder / FILES_NAME, deadline_seconds=1_000, flush=flush)
    try:
        async with open_over(files, folder) as opened:
            yield opened
    finally:
        await files.close()


async def run_power_cuts(folder: Path, seed: int, images: int) -> Counter[str]:
    """Cut the power so often, and compare what each cut leaves with what was told before.

    Raises AssertionError.
    """
    random, figures = choices(seed), Counter[str]()
    while figures["images"] < images:
        figures["lives"] += 1
        life_folder = folder / f"life{figures['lives']}"
        life, journal = await _lived(life_folder, random)
        figures["operations"] += journal.place
        for number in range(min(CUTS, images - figures["images"])):
            place = random.randrange(journal.place + 1)
            image = life_folder / f"image{number}"
            image.mkdir()
            journal.cut(place, random, image / FILES_NAME)
            try:
                await _check(life, place, image, random, figures)
            except BaseException as error:
                error.add_note(f"life {figures['lives']}, cut {number} at {place}; seed {seed}")
                raise
            rmtree(image)
            if figures["images"] >= images:
                break
        rmtree(life_folder)
    return figures


async def _lived(folder: Path, random: Random) -> tuple[Life, Journal]:
    """Return a life with a restart in it, and the journal of its disk."""
    root = folder / FILES_NAME
    (root / TEMPORARY).mkdir(parents=True)
    journal = Journal(root)
    life = Life(random, lambda: journal.place)
    with watched(journal):
        async with opened_files(folder) as stores:
            await life.begin(stores)
            await life.live(stores, STEPS)
        async with opened_files(folder) as stores:
            await life.live(stores, STEPS)
            await life.delete(stores, CONVERSATIONS[-1])
    return life, journal


async def _check(
    life: Life, place: int, image: Path, random: Random, figures: Counter[str]
) -> None:
    """Open what a cut has left, cut again meanwhile, and compare both."""
    journal = Journal(image / FILES_NAME)
    with watched(journal):
        await _compare(life, place, image, figures)
    again = image / "again"
    again.mkdir()
    journal.cut(random.randrange(journal.place + 1), random, again / FILES_NAME)
    await _compare(life, place, again, figures)


async def _compare(life: Life, place: int, folder: Path, figures: Counter[str]) -> None:
    config = LocalStorage(data_dir=folder)
    await asyncio.to_thread(check_derived, config)
    async with opened_files(folder) as stores:
        figures["acknowledged events"] += await life.check(stores, place)
        await _go_on(stores)
    await asyncio.to_thread(check_derived, config)
    figures["images"] += 1


async def _go_on(stores: Opened) -> None:
    """Append to each log, which must be possible."""
    for name in CONVERSATIONS:
        head = await stores.events.head(name)
        if not head.deleted:
            more = records(head.next_id, MORE_EVENTS, moment="2026-05-04T13:00:00.000000Z")
            await append(stores.events, name, more)
            assert (await stores.events.head(name)).next_id == head.next_id + MORE_EVENTS
