"""Log lines: one JSON object each, with the context's ids and without secrets."""

import json
import logging

import pytest
import structlog

from server.observability.logs import configure, context_of


@pytest.fixture
def start(capsys):
    """Give a function that configures logging and returns a reader of the lines since."""

    def configured(level="info", log_format="json"):
        configure(level, log_format)
        parse = json.loads if log_format == "json" else str
        return lambda: [parse(line) for line in capsys.readouterr().err.splitlines()]

    return configured


def test_a_line_carries_level_logger_time_and_the_ids_of_its_context(start):
    lines = start()

    with structlog.contextvars.bound_contextvars(conversation_id="c1", connection_id="k1"):
        structlog.get_logger("server.part").info("started", attempt=2)

    (line,) = lines()
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "started",
        "level": "info",
        "logger": "server.part",
        "attempt": 2,
        "conversation_id": "c1",
        "connection_id": "k1",
    }


def test_the_standard_library_is_logged_the_same_way(start):
    lines = start()

    with structlog.contextvars.bound_contextvars(request_id="r1"):
        logging.getLogger("uvicorn.access").info('%s - "%s"', "192.0.2.1", "GET /")

    (line,) = lines()
    assert (line["event"], line["request_id"]) == ('192.0.2.1 - "GET /"', "r1")


def test_ids_may_come_with_a_line_and_nothing_else_may(start):
    lines = start()

    logging.getLogger("events.part").warning("odd", extra={"conversation_id": "c1", "content": "x"})

    (line,) = lines()
    assert line["conversation_id"] == "c1"
    assert "content" not in line


def test_work_in_a_context_of_its_own_ids_carries_no_others(start):
    lines = start()

    with structlog.contextvars.bound_contextvars(request_id="r1", connection_id="k1"):
        context_of(conversation_id="c1").run(structlog.get_logger("server.part").info, "worked")

    (line,) = lines()
    assert line["conversation_id"] == "c1"
    assert not {"request_id", "connection_id"} & line.keys()


def test_libraries_that_write_out_packets_are_kept_to_warnings(start):
    lines = start(level="debug")

    for name in ("engineio.server", "socketio.server"):
        logging.getLogger(name).info("packet")
        logging.getLogger(name).warning("trouble")

    assert [line["event"] for line in lines()] == ["trouble", "trouble"]


def test_lines_below_the_level_are_left_out(start):
    lines = start()

    structlog.get_logger("server.part").debug("detail")

    assert lines() == []


@pytest.mark.parametrize(
    "name", ["token", "access_token", "provider_tokens", "key", "session_api_key", "Cookie"]
)
def test_a_value_whose_name_looks_like_a_secret_is_masked_at_any_depth(start, name):
    lines = start()

    structlog.get_logger().info("asked", **{name: "sesame"}, headers=[{name: ["sesame"]}])

    (line,) = lines()
    assert line[name] == "******"
    assert line["headers"] == [{name: "******"}]


@pytest.mark.parametrize(
    "text",
    [
        "GET /socket.io/?a=1&session_api_key=sesame&b=2",
        "Authorization: Bearer sesame",
        "{'authorization': 'Bearer sesame'}",
        "X-Session-API-Key: sesame",
        "Cookie: one=sesame; two=sesame",
    ],
)
def test_a_secret_inside_a_text_is_masked(start, text):
    lines = start()

    structlog.get_logger().info(text, query=text.encode(), nested={"path": text})
    logging.getLogger("uvicorn.error").warning("%s", text)

    assert "sesame" not in json.dumps(lines())


def test_a_secret_inside_a_traceback_is_masked(start):
    lines = start()

    try:
        int("/?session_api_key=sesame")
    except ValueError:
        structlog.get_logger().exception("failed")

    (line,) = lines()
    assert "ValueError: (text left out)" in line["exception"]
    assert "sesame" not in line["exception"]


def test_a_count_of_tokens_is_not_a_secret(start):
    lines = start()

    structlog.get_logger().info("answered", prompt_tokens=12, has_token=True)

    (line,) = lines()
    assert (line["prompt_tokens"], line["has_token"]) == (12, True)


def test_anything_can_be_logged(start):
    lines = start()

    structlog.get_logger().info("odd", value={1: 2**70, "s": {"\ud800"}, "o": object})

    (line,) = lines()
    assert line["value"]["1"] == 2**70


def test_the_console_format_is_text_for_people(start):
    lines = start(log_format="console")

    structlog.get_logger("server.part").info("started", session_api_key="sesame")

    (line,) = lines()
    assert "started" in line
    assert "session_api_key=******" in line
