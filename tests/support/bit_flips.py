"""Single bits of a storage that change while nobody works on it: nothing wrong is ever served.

After each flip either all is as it was, or `parley check` tells of damage, or the server does: by an
error where something is asked for, or by a line of its log.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from shutil import copytree, rmtree
from typing import Any

import orjson

from events.batch import digest_of
from events.errors import EventsError
from events.stores.opening import storage_problems
from events.transfer.contents import Stores, open_stores
from storage.errors import StorageError
from storage.users import Secrets
from tests.support.seeds import choices
from tests.support.whole_storages import OWNERS, config_of, fill, opened

CONVERSATIONS = 4
EVENTS = 105
WITHOUT_CONTENT = frozenset({"lock", "reserve", "opened"})
"""Files of a data directory that say nothing but by being there."""
SERVED = {"local": (), "sqlite": ("record of", "usage of")}
"""Contents that are served as they are found, records changed and counts short of lost lines: then
`parley check` tells of the damage.
"""


class Told:
    """Stands for what an error was raised for."""


Seen = dict[str, Any]


async def run_flips(folder: Path, seed: int, flips: int, kind: str) -> Counter[str]:
    """Flip so many bits, one in each copy of a storage. Raises AssertionError."""
    random, figures = choices(seed), Counter[str]()
    sound, copy = folder / "sound", folder / "copy"
    sound.mkdir()
    async with opened(kind, sound) as whole:
        ids = await fill(whole.stores, CONVERSATIONS, EVENTS)
    copytree(sound, copy)
    async with opened(kind, copy) as whole:
        truth = await _seen(whole.stores, ids)
    assert not [name for name, value in truth.items() if value is Told]
    rmtree(copy)
    for _ in range(flips):
        copytree(sound, copy)
        where = _flip(copy, random)
        try:
            outcome = await _outcome(kind, copy, ids, truth)
            figures[outcome] += 1
        except BaseException as error:
            error.add_note(f"{kind}: {where}; seed {seed}")
            raise
        rmtree(copy)
    return figures


def _flip(folder: Path, random: Random) -> str:
    """Flip one bit: of any file as likely, or of any byte as likely."""
    files = [one for one in sorted(folder.rglob("*")) if one.is_file()]
    files = [one for one in files if one.name not in WITHOUT_CONTENT and one.stat().st_size]
    sizes = [one.stat().st_size for one in files] if random.random() < 0.5 else None
    (path,) = random.choices(files, sizes)
    content = bytearray(path.read_bytes())
    place, bit = random.randrange(len(content)), random.randrange(8)
    content[place] ^= 1 << bit
    path.write_bytes(content)
    return f"bit {bit} of byte {place} of {path.relative_to(folder)}"


async def _outcome(kind: str, folder: Path, ids: list[str], truth: Seen) -> str:
    """Say who tells of a flip, if that is needed. Raises AssertionError."""
    config = config_of(kind, folder)
    problems = await asyncio.to_thread(storage_problems, config)
    with _logged() as lines:
        try:
            async with open_stores(config) as stores:
                seen = await _seen(stores, ids)
        except (EventsError, StorageError):
            return "told by the check" if problems else "told at the start"
    told = {name for name, value in seen.items() if value is Told}
    differing = {name for name in truth if name not in told and seen.get(name) != truth[name]}
    wrong = {name for name in differing if seen.get(name) is not None}
    if problems:
        wrong = {name for name in wrong if not name.startswith(SERVED[kind])}
    assert not wrong, f"served wrong: {sorted(wrong)}, told: {problems} {lines}"
    if problems:
        return "told by the check"
    if told:
        return "told where it is asked for"
    if lines:
        return "told in the log"
    assert not differing, f"lost without a word: {sorted(differing)}"
    return "without effect"


@contextmanager
def _logged() -> Iterator[list[str]]:
    lines: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    kept = Kept(logging.WARNING)
    logging.getLogger().addHandler(kept)
    try:
        yield lines
    finally:
        logging.getLogger().removeHandler(kept)


async def _seen(stores: Stores, ids: list[str]) -> Seen:
    """Return all that users are shown of a storage, by what it is."""
    seen: Seen = {}
    for key in ids:
        await _see_conversation(seen, stores, key)
    listed = await _or_told(_listed(stores))
    for key in ids:
        seen[f"record of {key}"] = Told if listed is Told else listed.get(key)
    storage = stores.storage
    for owner in OWNERS:
        seen[f"settings of {owner}"] = await _or_told(storage.settings.for_user(owner).load())
        secrets = await _or_told(storage.secrets.for_user(owner).load())
        seen[f"secrets of {owner}"] = None if secrets == Secrets() else secrets
    for key in (*ids, "gone"):
        usage = await _or_told(storage.usage.load(key))
        has = usage is not None and usage is not Told
        seen[f"usage of {key}"] = (usage.position, usage.lines) if has else usage
    acts = await _or_told(storage.audit.page(2**62, 1_000))
    for number in range(3):
        name = f"act {number}"
        named = Told if acts is Told else [one for one in acts if one.action == name]
        seen[name] = named or None
    return seen


async def _see_conversation(seen: Seen, stores: Stores, key: str) -> None:
    events = stores.events
    head = await _or_told(events.head(key))
    seen[f"end of {key}"] = head if head is Told else head.next_id
    end = 0 if head is Told else head.next_id
    whole = await _or_told(events.read(key, 0, end))
    bodies = {} if whole is Told else {one.id: one.body for one in whole}
    for one in range(max(end, EVENTS)):
        found = await _or_told(events.read(key, one, one + 1)) if whole is Told else ()
        if found is not Told:
            bodies |= {event.id: event.body for event in found}
        body = bodies.get(one)
        seen[f"event {one} of {key}"] = Told if found is Told else body
        if body is not None and "client_id" in (payload := orjson.loads(body)):
            seen[f"key of {one} of {key}"] = await _or_told(
                events.find(key, digest_of(payload["client_id"]))
            )
    asides = await _or_told(events.asides(key))
    seen[f"asides of {key}"] = Told if asides is Told else dict(asides) or None
    workspace = await _or_told(stores.workspaces.load(key))
    has = workspace is not None and workspace is not Told
    is_lost = has and (workspace.lost or workspace.own_lost)
    seen[f"workspace of {key}"] = Told if is_lost else (workspace.snapshot if has else workspace)


async def _listed(stores: Stores) -> Seen:
    return {one.conversation_id: one async for one in stores.records()}


async def _or_told(asked: Awaitable[Any]) -> Any:
    try:
        return await asked
    except (EventsError, StorageError):
        return Told
