"""A server whose agents run commands on this machine: how it starts, and how the commands end."""

import io
import secrets
import zipfile
from contextlib import asynccontextmanager
from pathlib import Path

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


async def test_a_server_says_at_its_start_what_it_means_to_run_commands():
    async with local_server() as (server, workspaces):
        await server.stop()
        said = server.stderr.decode()

    lines = [line for line in said.splitlines() if "runtime = local" in line]
    assert len(lines) == 1
    assert str(workspaces) in lines[0]
    assert "docs/local.md" in lines[0]
