"""socket.io-client 4.8 against a real server process."""

import pytest

from tests.support.checker import Counts, DeliveryChecker
from tests.support.clients import command, message
from tests.support.cut_run import run_cuts
from tests.support.cutting_proxy import cutting
from tests.support.payloads import is_state
from tests.support.remote import as_stored, remote
from tests.support.seeds import choices, chosen_seed
from tests.support.servers import server_process
from tests.support.sse import SseView, sse_frames
from tests.support.writing_agent import SETTINGS, plant_secret, request, shown_of

pytestmark = [pytest.mark.node, pytest.mark.asyncio(loop_scope="module")]

CUTS = 200


def has_state(client, wanted, after=-1):
    return lambda: any(
        is_state(one) and one["extras"]["agent_state"] == wanted and one["id"] > after
        for one in client.payloads
        if type(one.get("id")) is int
    )


def answered(client, message_id):
    """Whether the agent has answered a message and waits for the next."""

    def holds():
        log = [one for one in client.payloads if type(one.get("id")) is int]
        answers = [
            one["id"]
            for one in log
            if one["id"] > message_id and (one.get("action"), one["source"]) == ("message", "agent")
        ]
        waits = has_state(client, "awaiting_user_input", after=min(answers, default=message_id))
        return bool(answers) and waits()

    return holds


async def test_it_joins_and_gets_the_history_once_in_order(api, server, client):
    conversation_id = await api.create("hello")

    await client.join(server.url, conversation_id)
    await client.until(answered(client, -1))

    log = await api.log(conversation_id)
    DeliveryChecker(as_stored(log)).check(client.connections)
    assert client.joinings[0].latest_event_id == "-1"


async def test_a_message_is_acknowledged_with_its_id_and_a_retry_with_the_same_one(
    api, server, client
):
    conversation_id = await api.create()
    await client.join(server.url, conversation_id)

    first = await client.send(message("hello") | {"client_id": "once"})
    again = await client.send(message("hello") | {"client_id": "once"})

    log = await api.log(conversation_id)
    assert first == {"status": "ok", "id": first["id"], "duplicate": False}
    assert again == {"status": "ok", "id": first["id"], "duplicate": True}
    assert [one["id"] for one in log if one.get("client_id") == "once"] == [first["id"]]


async def test_a_refused_event_is_acknowledged_with_a_code_and_a_text(api, server, client):
    conversation_id = await api.create()
    await client.join(server.url, conversation_id)

    answer = await client.send(command("flying"))

    assert answer["status"] == "error"
    assert isinstance(answer["code"], str)
    assert "flying" in answer["message"]
    assert set(answer) == {"status", "code", "message"}


async def test_an_unknown_conversation_is_refused_with_a_message_and_data(server, client):
    await client.join(server.url, "0" * 32)
    await client.until(lambda: client.refusals)

    assert client.refusals[0]["message"] == "Conversation not found"
    assert client.refusals[0]["data"] == {"msg_id": "CONVERSATION$NOT_FOUND"}
    assert client.refusals[0]["active"] is False


async def test_it_resumes_with_its_cursor_after_a_cut(api, server, client):
    conversation_id = await api.create("hello")
    async with cutting(server.port, choices(0), cuts=0) as proxy:
        await client.join(proxy.url, conversation_id, reconnectionDelay=10)
        await client.until(has_state(client, "awaiting_user_input"))
        last_id = client.connections[0].events[-1]["id"]

        proxy.cut()
        await client.until(lambda: len(client.connections) == 2)
        said = await client.send(message("again"))
        await client.until(answered(client, said["id"]))

    assert client.joinings[1].latest_event_id == str(last_id)
    assert client.disconnects == ["transport close"]
    log = await api.log(conversation_id)
    DeliveryChecker(as_stored(log)).check(client.connections)


async def test_a_state_error_does_not_move_the_cursor_and_is_told_again(api, server, client):
    conversation_id = await api.create("/error planned")
    async with cutting(server.port, choices(0), cuts=0) as proxy:
        await client.join(proxy.url, conversation_id, reconnectionDelay=10)
        await client.until(has_state(client, "error"))

        proxy.cut()
        await client.until(lambda: len(client.connections) == 2 and client.connections[1].events)

    log = await api.log(conversation_id)
    error_id = max(one["id"] for one in log if is_state(one))
    visible = [one["id"] for one in client.connections[0].events if one["id"] != error_id]
    assert client.joinings[1].latest_event_id == str(visible[-1])
    assert [one["id"] for one in client.connections[1].events] == [error_id]
    counts = Counts()
    DeliveryChecker(as_stored(log), counts).check(client.connections)
    assert counts.repeated == 1


async def test_it_is_sent_whole_messages_alone_while_others_follow_texts(tmp_path, client):
    asked = request(1, 100)
    async with (
        server_process(tmp_path, environment=SETTINGS) as server,
        remote(server.url) as api,
    ):
        await plant_secret(api)
        conversation_id = await api.create()
        await client.join(server.url, conversation_id)
        await client.until(has_state(client, "awaiting_user_input"))
        view, pieces = SseView(), 0
        async with sse_frames(server.url, conversation_id) as frames:
            said = await client.send(message(asked))
            while shown_of(asked) not in view.said:
                view.take(await anext(frames))
                pieces += bool(view.held)
        await client.until(answered(client, said["id"]))
        log = await api.log(conversation_id)

    assert pieces > 3
    assert client.others == []
    DeliveryChecker(as_stored(log)).check(client.connections)


async def test_a_server_that_stops_is_a_transport_close_after_which_it_comes_back(tmp_path, client):
    async with server_process(tmp_path) as server, remote(server.url) as api:
        conversation_id = await api.create("hello")
        backoff = {"reconnectionDelay": 100, "reconnectionDelayMax": 300}
        await client.join(server.url, conversation_id, **backoff)
        await client.until(has_state(client, "awaiting_user_input"))

        code = await server.stop()
        await client.until(lambda: client.disconnects)
        await server.start()
        await client.until(lambda: len(client.connections) == 2)
        said = await client.send(message("again"))
        await client.until(answered(client, said["id"]))
        log = await api.log(conversation_id)

    assert code == 0
    assert set(client.disconnects) == {"transport close"}
    DeliveryChecker(as_stored(log)).check(client.connections)


@pytest.mark.parametrize("storage", ["sqlite", "local"])
async def test_every_event_comes_once_over_200_random_cuts(storage, tmp_path, record_property):
    seed = chosen_seed()
    record_property("figures", f"seed {seed}")

    figures = await run_cuts(tmp_path, seed, CUTS, storage)

    record_property("figures", str(figures))
    assert figures.cuts >= CUTS
    assert figures.counts.appended > 1500
    assert figures.counts.delivered > 1000
    assert figures.counts.reconnected > CUTS // 4
    assert figures.in_handshake > 0
    assert figures.counts.collapsed > 0
    assert figures.counts.repeated > 0
    assert figures.acknowledged > 100
    assert figures.resent > 0
