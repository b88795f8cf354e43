"""SIGKILL at random moments while workspaces are saved, and what is left of one after a restart."""

import pytest

from tests.support.crash_run import unlimited_server
from tests.support.remote import remote
from tests.support.seeds import chosen_seed
from tests.support.workspace_kills import run_workspace_kills

KILLS = 5


@pytest.mark.parametrize("storage", ["sqlite", "local"])
async def test_a_kill_leaves_the_workspace_of_the_last_save_whole(
    storage, tmp_path, record_property
):
    seed = chosen_seed()
    record_property("figures", f"seed {seed}")

    figures = await run_workspace_kills(tmp_path, seed, KILLS, storage)

    record_property("figures", str(figures))
    assert figures.kills == KILLS
    assert figures.loaded > 0


@pytest.mark.parametrize("storage", ["sqlite", "local"])
@pytest.mark.parametrize("end", ["kill", "stop"])
async def test_the_files_of_a_workspace_are_there_after_a_restart(storage, end, tmp_path):
    async with unlimited_server(tmp_path, storage) as server:
        async with remote(server.url) as api:
            key = await api.create()
            await said(api, key, "/run mkdir -p b/c && echo kept > a.txt")
            # The end of the loop saves, and is answered after that.
            await api.client.post(f"/api/conversations/{key}/stop")
        await (server.kill() if end == "kill" else server.stop())
        await server.start()

        async with remote(server.url) as api:
            kept = (await api.client.get(f"/api/conversations/{key}/workspace")).json()
            assert [(one["name"], one["size"]) for one in kept["entries"]] == [
                ("b", None),
                ("a.txt", 5),
            ]
            assert not kept["running"]
            await said(api, key, "/run cat a.txt; ls b")
            shown = [event["content"] for event in await api.log(key) if is_output(event)]
            assert shown[-1] == "kept\nc"


@pytest.mark.parametrize("storage", ["sqlite", "local"])
async def test_an_orderly_stop_saves_the_workspaces_of_the_loops_that_are_up(storage, tmp_path):
    async with unlimited_server(tmp_path, storage) as server:
        async with remote(server.url) as api:
            keys = await api.create_many(5)
            for key in keys:
                await said(api, key, f"/run echo {key} > a.txt")
        assert await server.stop() == 0
        await server.start()

        async with remote(server.url) as api:
            for key in keys:
                file = f"/api/conversations/{key}/workspace/download?file=a.txt"
                assert (await api.client.get(file)).text == f"{key}\n"


def is_output(event):
    return event.get("observation") == "run"


async def said(api, key, text):
    answer = await api.client.post(
        f"/api/conversations/{key}/message?wait=turn", json={"message": text}
    )
    assert answer.json()["outcome"] == "done", answer.text
