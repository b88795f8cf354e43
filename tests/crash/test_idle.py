"""Open conversations that nobody uses cost no thread and next to no time."""

from tests.support.idleness import idle_server

CONVERSATIONS = 200
SECONDS = 8.0
CPU_PERCENT = 3.0
"""Three times what 1,000 may use; a loop per conversation that polls ten times a second uses
more than that."""
WAKE_UPS = 30.0
"""A second, of the whole process: one conversation in ten that polls twice a second is too much.
Ten are uvicorn's, two and a half the watch's on the loop."""
THREADS = 20


async def test_idle_loops_cost_no_thread_and_next_to_no_time(tmp_path, record_property):
    async with idle_server(tmp_path, CONVERSATIONS) as server:
        rest = await server.rest(SECONDS)

    record_property("figures", f"{CONVERSATIONS} idle loops: {rest}")
    assert rest.threads < THREADS
    assert rest.cpu_percent < CPU_PERCENT
    assert rest.woken < WAKE_UPS * SECONDS
