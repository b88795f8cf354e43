"""A server whose agents run commands on this machine: how it starts, and how the commands end."""

import io
import secrets
import zipfile
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.clients import joined
from tests.support.local_worlds import UIDS, marked_processes, passable_folder
from tests.support.remote import remote
from tests.support.servers import server_process
from tests.support.waiting import until

KEYS = {
    "PARLEY_ADMIN_KEY": "the-admin-key-of-this-server",
    "PARLEY_METRICS_KEY": "the-metrics-key-of-this-server",
    "PARLEY_SECRET_KEY": "the-secret-key-of-this-server",
}


@asynccontextmanager
async def local_server(**more):
    with passable_folder() as folder:
        settings = {
            "PARLEY_LOCAL_DIR": str(folder / "workspaces"),
            "PARLEY_LOCAL_UIDS": f"{UIDS.start}-{UIDS.stop - 1}",
        }
        environment = {**settings, **KEYS, **more}
        data = folder / "data"
        async with server_process(data, "--runtime", "local", environment=environment) as server:
            yield server, folder / "workspaces"


async def left_running(server):
    """Have an agent leave processes behind; the conversation's id and their mark."""
    mark = secrets.token_hex(8)
    leave = f"env TEST_MARK={mark} setsid sleep 1000 & env TEST_MARK={mark} sleep 1000 & echo done"
    async with remote(server.url) as api:
        conversation_id = await api.create(f"/run {leave}")
        async with joined(server.url, conversation_id) as client:
            answer = await client.event(lambda event: event.get("observation") == "run")
    assert answer["content"] == "done"
    await until(lambda: len(marked_processes(mark)) == 2)
    return conversation_id, mark


def environments_below(pid):
    """The environments of all processes that have a process among their parents."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_bytes().rpartition(b") ")[2].split()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(fields[1])
    found = {}
    for child in parents:
        above = child
        while above in parents and above != pid:
            above = parents[above]
        if above == pid and child != pid:
            found[child] = Path(f"/proc/{child}/environ").read_bytes()
    return found


async def test_a_killed_server_takes_the_processes_of_its_workspaces_with_it():
    async with local_server() as (server, _):
        _, mark = await left_running(server)

        await server.kill()

        await until(lambda: not marked_processes(mark))


async def test_a_server_that_stops_has_ended_the_processes_of_its_workspaces():
    async with local_server() as (server, _):
        _, mark = await left_running(server)

        code = await server.stop()

        assert code == 0
        assert marked_processes(mark) == []


async def test_a_deleted_conversation_has_no_processes_and_no_directory():
    async with local_server() as (server, workspaces):
        conversation_id, mark = await left_running(server)
        place = workspaces / conversation_id
        assert place.is_dir()

        async with remote(server.url) as api:
            await api.delete(conversation_id)

        assert marked_processes(mark) == []
        assert not place.exists()


async def test_a_command_that_takes_too_long_is_ended_with_all_that_it_began():
    mark = secrets.token_hex(8)
    slow = f"env TEST_MARK={mark} setsid sleep 1000 & env TEST_MARK={mark} sleep 1000"
    async with local_server(PARLEY_ACTION_TIMEOUT_SECONDS="5") as (server, _):
        async with remote(server.url) as api:
            conversation_id = await api.create(f"/run {slow}\n/run echo and on")
            async with joined(server.url, conversation_id) as client:
                answer = await client.event(lambda event: event.get("content") == "and on")

        # The next command begins when the one before it has ended.
        assert answer["observation"] == "run"
        assert marked_processes(mark) == []


async def test_a_stopped_loop_has_no_processes():
    async with local_server() as (server, workspaces):
        conversation_id, mark = await left_running(server)
        async with remote(server.url) as api:
            answer = await api.client.post(f"/api/conversations/{conversation_id}/stop")

        assert answer.status_code == 200
        assert marked_processes(mark) == []
        assert (workspaces / conversation_id / "workspace").is_dir()


async def test_the_servers_keys_are_in_no_childs_environment():
    async with local_server() as (server, _):
        await left_running(server)

        found = environments_below(server.pid)

    assert len(found) >= 3
    for environment in found.values():
        for key in KEYS.values():
            assert key.encode() not in environment


async def test_pages_list_show_and_pack_the_files_of_a_directory():
    fill = "echo text > file; mkdir folder; echo more > folder/other; ln -s / link; mkfifo fifo"
    async with local_server() as (server, workspaces), remote(server.url) as api:
        conversation_id = await api.create(f"/run {fill}")
        async with joined(server.url, conversation_id) as client:
            await client.event(lambda event: event.get("observation") == "run")
        base = f"/api/conversations/{conversation_id}"
        root = workspaces.resolve() / conversation_id / "workspace"

        names = await api.client.get(f"{base}/list-files")
        inner = await api.client.get(f"{base}/list-files", params={"path": f"{root}/folder"})
        archive = await api.client.get(f"{base}/zip-directory")
        folder = await api.client.get(f"{base}/workspace", params={"path": f"{root}/folder"})
        link = await api.client.get(f"{base}/select-file", params={"file": "link/etc/passwd"})

    assert names.json() == ["fifo", "file", "folder/", "link"]
    assert inner.json() == ["other"]
    assert zipfile.ZipFile(io.BytesIO(archive.content)).namelist() == ["file", "folder/other"]
    assert [entry["path"] for entry in folder.json()["entries"]] == ["folder/other"]
    assert link.status_code == 400


async def test_pages_show_a_directory_whose_names_are_no_text():
    fill = r"""
        /run git init -q; mkdir $'\xfe' $'folder\n'; echo in | tee $'\xfe/file' $'folder\n/file' &&
        touch $'\xff' $'a\nb' $'\e[2J' name && cd $'\xfe' && printf '\0\xff\e[2J'
    """
    async with local_server() as (server, _), remote(server.url) as api:
        conversation_id = await api.create(" ".join(fill.split()))
        base = f"/api/conversations/{conversation_id}"
        async with joined(server.url, conversation_id) as client:
            answer = await client.event(lambda event: event.get("observation") == "run")

        async def shown():
            return [
                await api.client.get(f"{base}/workspace", params=params)
                for params in ({}, {"path": "\ufffd"}, {"path": "folder\n"})
            ]

        names = await api.client.get(f"{base}/list-files")
        archive = await api.client.get(f"{base}/zip-directory")
        changes = await api.client.get(f"{base}/git/changes")
        live = await shown()
        await api.client.post(f"{base}/stop")
        kept = await shown()

    assert answer["content"].endswith("\0\ufffd\x1b[2J")
    assert "name" in names.json()
    assert "name" in zipfile.ZipFile(io.BytesIO(archive.content)).namelist()
    assert "name" in [change["path"] for change in changes.json()]
    for whole, unknown, refused in (live, kept):
        assert "name" in [entry["name"] for entry in whole.json()["entries"]]
        assert (unknown.status_code, refused.status_code) == (404, 400)
    assert not kept[0].json()["running"]


@pytest.mark.parametrize(
    ("storage", "moved", "begun_with"),
    [
        ("sqlite", False, "kept\nhalf\nc"),
        ("sqlite", True, "kept\nc"),
        ("local", True, "kept\nc"),
    ],
    ids=["its directory", "sqlite", "files"],
)
async def test_a_server_killed_amid_a_command_begins_with_the_files_of_the_last_rest(
    storage, moved, begun_with
):
    """Of the command that was cut off its directory has what it had written, and what is kept has nothing."""
    mark = secrets.token_hex(8)
    half = f"echo half > half; env TEST_MARK={mark} setsid sleep 1000 & sleep 1000"
    async with local_server(PARLEY_STORAGE=storage) as (server, workspaces):
        async with remote(server.url) as api:
            conversation_id = await api.create()
            await said(api, conversation_id, "/run mkdir -p b/c && echo kept > a.txt")
            # The end of the loop saves, and is answered after that.
            await api.client.post(f"/api/conversations/{conversation_id}/stop")
            url = f"/api/conversations/{conversation_id}/message"
            await api.client.post(url, json={"message": f"/run {half}"})
        await until((workspaces / conversation_id / "workspace" / "half").exists)
        await until(lambda: marked_processes(mark))

        await server.kill()

        await until(lambda: not marked_processes(mark))
        if moved:  # as to another machine
            (workspaces / conversation_id).rename(workspaces.with_name("elsewhere"))
        await server.start()
        async with remote(server.url) as api:
            found = await said(api, conversation_id, "/run cat a.txt half 2>/dev/null; ls b")

    assert found == begun_with


async def test_a_directory_that_has_missed_what_was_done_elsewhere_is_set_aside_and_people_are_told():
    async with local_server() as (server, workspaces):
        async with remote(server.url) as api:
            conversation_id = await api.create()
            await said(api, conversation_id, "/run echo here > a.txt")
            await api.client.post(f"/api/conversations/{conversation_id}/stop")
            place, missed = workspaces / conversation_id, workspaces.with_name("of-this-machine")
            place.rename(missed)
            elsewhere = await said(api, conversation_id, "/run cat a.txt; echo elsewhere > a.txt")
            await api.client.post(f"/api/conversations/{conversation_id}/stop")
            place.rename(workspaces.with_name("of-another-machine"))
            missed.rename(place)

            found = await said(api, conversation_id, "/run cat a.txt")
            (aside,) = place.resolve().glob("aside-*")
            earlier = await said(api, conversation_id, f"/run cat {aside}/a.txt")
            told = [
                event["content"]
                for event in await api.log(conversation_id)
                if event.get("extras", {}).get("error_id") == "STATUS$WORKSPACE_REPLACED"
            ]
        await server.stop()
        logged = server.stderr.decode()

    assert (elsewhere, found, earlier) == ("here", "elsewhere", "here")
    assert [str(aside) in text for text in told] == [True]
    assert str(aside) in logged


async def said(api, conversation_id, text):
    """Say something, wait for the end of the turn, and return the output of its last command."""
    url = f"/api/conversations/{conversation_id}/message?wait=turn"
    answer = await api.client.post(url, json={"message": text})
    assert answer.json()["outcome"] == "done", answer.text
    outputs = [
        event for event in await api.log(conversation_id) if event.get("observation") == "run"
    ]
    return outputs[-1]["content"]


async def test_a_server_says_at_its_start_what_it_means_to_run_commands():
    async with local_server() as (server, workspaces):
        await server.stop()
        said = server.stderr.decode()

    lines = [line for line in said.splitlines() if "runtime = local" in line]
    assert len(lines) == 1
    assert str(workspaces) in lines[0]
    assert "docs/local.md" in lines[0]
