"""Imports of V0 directories: every readable event, the same each time, and nothing begun again."""

import json
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import orjson
import pytest

from events.actions import RecallAction
from events.conformance.records import append
from events.serialization import decode
from events.stores.opening import storage_problems
from events.transfer.contents import open_stores
from events.transfer.report import Result
from events.transfer.v0.conversion import ZoneNeeded
from events.transfer.v0.importing import Import
from server.cli import main
from tests.support.raw_client import EVENT, payload_of, raw_client
from tests.support.servers import server_process
from tests.support.v0_conversations import READY, said
from tests.support.v0_directory import DAMAGES, SECRET, TOKEN, ZONE, make_v0_directory
from tests.support.whole_storages import config_of

BERLIN = ZoneInfo(ZONE)


@pytest.fixture(scope="module")
def v0(tmp_path_factory):
    """A directory with 200 conversations, and what was written of each."""
    root = tmp_path_factory.mktemp("v0")
    return root, make_v0_directory(root)


async def imported(root, target, zone=BERLIN):
    work = Import(root, target, zone)
    return {one.conversation_id: one async for one in work.outcomes()}, work.report


async def log_of(stores, key):
    end = (await stores.events.head(key)).next_id
    return [one async for part in stores.parts(key, end) for one in part.events]


async def all_of(stores):
    found = {}
    async for record in stores.records():
        events = await log_of(stores, record.conversation_id)
        bodies = [(one.id, one.flag, one.body) for one in events]
        found[record.conversation_id] = record, bodies
    return found


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """A directory with one conversation of each damage."""
    root = tmp_path_factory.mktemp("few")
    return root, make_v0_directory(root, len(DAMAGES))


@pytest.mark.parametrize("kind", ["sqlite", "local"])
async def test_every_readable_event_of_200_conversations_is_imported_twice_the_same(
    kind, v0, tmp_path
):
    root, written = v0
    async with open_stores(config_of(kind, tmp_path / "one")) as stores:
        outcomes, report = await imported(root, stores)
        first = await all_of(stores)
        again, second_report = await imported(root, stores)
        assert await all_of(stores) == first
    async with open_stores(config_of(kind, tmp_path / "two")) as stores:
        await imported(root, stores)
        assert await all_of(stores) == first

    assert len(written) == 200
    assert set(first) == set(written)
    for key, one in written.items():
        _, events = first[key]
        payloads = {event_id: orjson.loads(body) for event_id, _, body in events}
        assert [event_id for event_id, _, _ in events] == [*range(len(events))]
        for event_id, event in one.readable.items():
            assert_same(payloads[event_id], event)
        for event_id in one.torn:
            assert payloads[event_id]["extras"]["error_id"] == "STORAGE$EVENT_DAMAGED", one.damage
    left_out = {key for key, one in outcomes.items() if one.result is Result.LEFT_OUT}
    assert left_out == {"not an id!", "0123"}
    assert {again[key].result for key in written} == {Result.UNCHANGED}
    assert report.results[Result.COPIED] == second_report.results[Result.UNCHANGED] == 200
    assert storage_problems(config_of(kind, tmp_path / "one")) == []


MASKED = (SECRET, TOKEN)


def assert_same(payload, event):
    """A stored event is the one that was written, but for its time, its cause and masked secrets."""
    for name, value in event.items():
        if name in ("id", "timestamp", "message") or any(
            one in json.dumps(value) for one in MASKED
        ):
            continue
        assert payload[name] == value, (name, event)


async def test_moments_are_in_utc_and_never_go_back(few, tmp_path):
    root, written = few
    async with open_stores(config_of("sqlite", tmp_path)) as stores:
        await imported(root, stores)
        logs = {key: await log_of(stores, key) for key in written}

    for key, events in logs.items():
        moments = [orjson.loads(one.body)["timestamp"] for one in events]
        assert moments == sorted(moments), written[key].damage
        assert all(one.endswith("Z") for one in moments)
    (twice,) = [key for key, one in written.items() if one.damage == "an hour that came twice"][:1]
    payloads = [orjson.loads(one.body) for one in logs[twice]]
    by_text = {one["message"]: one["timestamp"] for one in payloads if one["message"]}
    assert by_text["before"] == "2025-10-26T00:59:47.000001Z"
    assert by_text["in the second one"] == "2025-10-26T01:04:51.000001Z"
    sound = next(key for key, one in written.items() if one.damage == "sound")
    assert orjson.loads(logs[sound][0].body)["timestamp"] == "2025-10-01T07:15:01.000001Z"


async def test_recalls_name_the_messages_they_were_for(few, tmp_path):
    root, written = few
    key = next(key for key, one in written.items() if one.damage == "old messages")
    async with open_stores(config_of("sqlite", tmp_path)) as stores:
        await imported(root, stores)
        events = [decode(orjson.loads(one.body)) for one in await log_of(stores, key)]

    recalls = [one for one in events if isinstance(one, RecallAction)]
    assert len(recalls) == 90
    for one in recalls:
        assert one.cause is not None
        assert events[one.cause].message == one.query


async def test_secrets_are_masked_in_events_and_sealed_beside_them(few, tmp_path):
    root, _ = few
    async with open_stores(config_of("local", tmp_path)) as stores:
        _, report = await imported(root, stores)
        settings = await stores.storage.settings.for_user(None).load()
        secrets = await stores.storage.secrets.for_user(None).load()

    assert settings is not None
    assert settings.llm_api_key is not None
    assert settings.llm_api_key.get_secret_value() == SECRET
    assert (settings.language, settings.max_iterations) == ("de", 77)
    assert [*secrets.custom_secrets] == ["API"]
    assert [*secrets.provider_tokens] == ["github"]
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    for value in (SECRET, TOKEN):
        assert [path for path in kept if value.encode() in path.read_bytes()] == []
    assert SECRET not in repr(report)
    assert "the setting condenser_max_size was left out: it does not fit" in report.notes
    assert "the secret bad name! was left out: it does not fit" in report.notes


async def test_owners_titles_and_dates_are_those_of_the_metadata(few, tmp_path):
    root, written = few
    async with open_stores(config_of("sqlite", tmp_path)) as stores:
        outcomes, _ = await imported(root, stores)
        records = {one.conversation_id: one async for one in stores.records()}

    by_damage = {one.damage: records[key] for key, one in reversed(written.items())}
    assert records.keys() == written.keys()
    for key, one in written.items():
        assert records[key].user_id == one.user_id
    assert by_damage["sound"].created_at == datetime(2025, 10, 1, 7, 15, 0, 1, UTC)
    assert by_damage["sound"].title is None
    assert by_damage["sound"].selected_repository == "o/r"
    assert by_damage["metadata only"].title == "Never begun"
    assert by_damage["bad metadata"].created_at == datetime(2025, 10, 1, 7, 15, 1, 1, UTC)
    assert by_damage["metadata of another version"].trigger is None
    assert by_damage["metadata of another version"].created_at == datetime(
        2025, 10, 1, 7, 15, tzinfo=UTC
    )
    notes = {written[key].damage: outcomes[key].notes for key in written}
    assert "the trigger of its metadata does not fit" in notes["metadata of another version"]
    assert "its metadata cannot be read, and was made anew" in notes["bad metadata"]
    assert "2 events cannot be read" in notes["torn file"]
    assert "1 events are missing" in notes["shifted page"]
    assert notes["sound"] == ()
    assert notes["torn file with a copy"] == ()
    assert notes["misaligned pages"] == ()


async def test_moments_without_a_zone_are_refused_in_words_before_anything_is_written(
    few, tmp_path, capsys
):
    root, _ = few
    async with open_stores(config_of("sqlite", tmp_path)) as stores:
        with pytest.raises(ZoneNeeded):
            await imported(root, stores, zone=None)
        assert await all_of(stores) == {}
        assert await stores.storage.settings.for_user(None).load() is None


async def test_an_import_cut_short_goes_on_and_is_the_same(few, tmp_path):
    root, _ = few
    async with open_stores(config_of("sqlite", tmp_path / "one")) as stores:
        await imported(root, stores)
        whole = await all_of(stores)
    async with open_stores(config_of("sqlite", tmp_path / "two")) as stores:
        for stop in (3, 20):
            outcomes = Import(root, stores, BERLIN).outcomes()
            for _ in range(stop):
                await anext(outcomes)
            await outcomes.aclose()
        await imported(root, stores)
        assert await all_of(stores) == whole


async def test_what_a_server_went_on_with_is_left_by_another_import(few, tmp_path):
    root, written = few
    key = next(key for key, one in written.items() if one.damage == "sound")
    async with open_stores(config_of("sqlite", tmp_path)) as stores:
        await imported(root, stores)
        view = stores.storage.conversations.for_user(None)
        await view.give_title(key, "A title of its own")
        events = await log_of(stores, key)
        last = orjson.loads(events[-1].body) | {"id": len(events)}
        more = type(events[-1])(len(events), events[-1].flag, orjson.dumps(last))
        await append(stores.events, key, [more])
        outcomes, report = await imported(root, stores)

        assert outcomes[key].result is Result.UNCHANGED
        assert (await view.get_metadata(key)).title == "A title of its own"
        assert len(await log_of(stores, key)) == len(events) + 1
    assert report.is_complete is False  # for what could not be read of others


async def test_the_agent_answers_none_of_the_old_messages(few, tmp_path):
    root, written = few
    chosen: dict[str, str] = {}
    for key, one in written.items():
        if one.user_id is None:
            chosen.setdefault(one.damage, key)
    async with open_stores(config_of("sqlite", tmp_path / "data")) as stores:
        await imported(root, stores)
        ends = {key: (await stores.events.head(key)).next_id for key in chosen.values()}
    async with server_process(tmp_path / "data") as server:
        for key in chosen.values():
            await answered(server.url, key)
        await server.stop()
    async with open_stores(config_of("sqlite", tmp_path / "data")) as stores:
        for damage, key in chosen.items():
            events = (await log_of(stores, key))[ends[key] :]
            payloads = [orjson.loads(one.body) for one in events]
            recalls = [one for one in payloads if one.get("action") == "recall"]
            asked = [one["id"] for one in payloads if one.get("message") == "and now?"]
            assert [one.get("cause") for one in recalls] == asked, damage
            assert len(asked) == 1, damage
            assert not [one for one in payloads if one.get("action") == "run"], damage


async def answered(url, key):
    """Join, say something, and wait until the agent has answered that."""
    async with raw_client(url, key) as client:
        await client.connect()
        await client.emit(said("and now?"))
        is_asked = False
        while True:
            packet = await client.packet()
            assert packet.startswith(EVENT), packet
            payload = payload_of(packet)
            is_asked = is_asked or payload.get("message") == "and now?"
            is_ready = payload.get("extras", {}).get("agent_state") == READY
            if is_asked and is_ready:
                return


def test_every_damage_occurs(few):
    _, written = few

    assert {one.damage for one in written.values()} == set(DAMAGES)


def test_the_command_imports_with_a_dry_run_first_and_reports_each_conversation(tmp_path, capsys):
    make_v0_directory(tmp_path / "v0", 30)
    before = sorted(str(path) for path in (tmp_path / "v0").rglob("*"))
    report = tmp_path / "report.jsonl"
    arguments = ["import", "--from", str(tmp_path / "v0"), "--data-dir", str(tmp_path / "data")]

    assert main(arguments) == 2
    assert "--zone" in capsys.readouterr().err
    assert main([*arguments, "--zone", "Nowhere/Town"]) == 2
    assert "no time zone is named Nowhere/Town" in capsys.readouterr().err
    arguments += ["--zone", ZONE, "--report", str(report)]
    assert main([*arguments, "--dry-run"]) == 1
    dry = capsys.readouterr().out
    dry_report = report.read_text()
    assert main(arguments) == 1  # two folders hold nothing that can be read
    assert capsys.readouterr().out == dry
    assert sorted(report.read_text().splitlines()) == sorted(dry_report.splitlines())
    assert sorted(str(path) for path in (tmp_path / "v0").rglob("*")) == before
    assert SECRET not in dry + dry_report
    assert main(["check", "--data-dir", str(tmp_path / "data")]) == 0


@pytest.mark.parametrize("command", ["serve", "check"])
def test_serve_and_check_name_the_import_for_a_v0_directory(command, tmp_path, capsys):
    make_v0_directory(tmp_path, 2)

    main([command, "--port", "0", "--data-dir", str(tmp_path)])

    told = capsys.readouterr()
    assert f"parley import --from {tmp_path}" in told.out + told.err
