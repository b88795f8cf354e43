"""The server's two descriptions of itself say all that is there and nothing that is not."""

import ast
import asyncio
import inspect
import re
from pathlib import Path
from typing import NoReturn

import jsonschema_rs
import pytest

from events.actions import ACTIONS
from events.client_events import CLIENT_STATES, decode_client
from events.event import EventSource
from events.observations import OBSERVATIONS
from events.schemas import event_schemas
from events.serialization import encode
from server import errors
from server.conversations import notices
from server.errors import TABLE
from server.routes.endpoint import DESCRIPTIONS, Resource, Tag, described, description_of, resource
from server.routes.openapi import endpoints_of, openapi_document
from server.sockets import protocol
from server.sockets.asyncapi import HIDDEN_KINDS, NOTICES, REFUSALS, asyncapi_document
from tests.support.described import described_as
from tests.support.event_kinds import ACTION_TABLE, OBSERVATION_TABLE
from tests.support.rest import rest_server

SERVER = Path(__file__).parents[3] / "server"
SOCKETS = SERVER / "sockets"
ENVELOPE = {"id": 4, "timestamp": "2026-03-02T09:15:07.120334Z", "source": EventSource.AGENT}
COMPONENTS = {"components": {"schemas": event_schemas()}}


@pytest.fixture
async def rest():
    async with rest_server() as running:
        yield running


@pytest.fixture
async def openapi(rest):
    return (await rest.ask("GET", "/openapi.json")).json()


async def test_others_are_served_while_a_document_is_made(rest):
    making = [asyncio.create_task(rest.ask("GET", "/openapi.json")) for _ in range(2)]
    await asyncio.sleep(0)

    assert (await rest.ask("GET", "/alive")).status_code == 200
    assert not any(one.done() for one in making)
    first, second = await asyncio.gather(*making)
    assert first.content == second.content


def validator(schema, document):
    return jsonschema_rs.Draft202012Validator({**schema, "components": document["components"]})


def references(node):
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for one in node.values():
            yield from references(one)
    elif isinstance(node, list):
        for one in node:
            yield from references(one)


def found(document, reference):
    place = document
    for part in reference.removeprefix("#/").split("/"):
        place = place[part]
    return place


async def test_every_endpoint_of_the_table_is_described(rest):
    described_ones = {
        (route.path, method)
        for route in rest.application.asgi.routes
        if isinstance(route, Resource)
        for method, endpoint in route.endpoints.items()
        if description_of(endpoint) is None
    }

    assert described_ones == set()


async def test_every_description_is_of_an_endpoint_of_the_table(rest):
    served = {one.description.name for one in endpoints_of(rest.application.asgi.routes)}

    assert {one.name for one in DESCRIPTIONS.values()} == served


async def test_the_document_names_each_address_and_method_of_the_table(rest, openapi):
    table = {
        (re.sub(r":\w+\}", "}", route.path), method.lower())
        for route in rest.application.asgi.routes
        if isinstance(route, Resource)
        for method in route.endpoints
    }

    named = {(path, method) for path, one in openapi["paths"].items() for method in one}
    assert named == table


def test_an_endpoint_without_a_description_is_not_in_the_document():
    async def silent(request):
        raise NotImplementedError

    document = openapi_document([resource("/silent", GET=silent)], keyless=True)

    assert document["paths"] == {}


def test_what_a_route_refuses_is_described_with_the_status_and_code_of_the_table():
    async def refusing(request):
        """Never. Raises SecretExists."""

    kinds = {kind for kind, _ in TABLE}
    mark = described(Tag.HEALTH, answer=NoReturn, raises=kinds)
    try:
        table = [resource("/refusing", GET=mark(refusing))]
        document = openapi_document(table, keyless=True)
    finally:
        DESCRIPTIONS.pop(refusing)

    responses = document["paths"]["/refusing"]["get"]["responses"]
    told = {
        code
        for one in responses.values()
        for code in one["content"]["application/json"]["examples"]
    }
    assert {"secret_exists", "bad_event", "overloaded", "too_large", "damaged"} <= told
    assert "200" not in responses


async def test_every_operation_has_words_an_id_of_its_own_and_the_one_error_body(openapi):
    operations = [one for path in openapi["paths"].values() for one in path.values()]

    assert len({one["operationId"] for one in operations}) == len(operations)
    for one in operations:
        assert one["summary"]
        assert one["tags"][0] in list(Tag)
        for status, answer in one["responses"].items():
            if int(status) >= 400:
                schema = answer["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/ErrorBody"}


async def test_every_example_fits_its_schema(openapi):
    contents = [
        content
        for path in openapi["paths"].values()
        for one in path.values()
        for part in (one.get("requestBody", {}), *one["responses"].values())
        for content in part.get("content", {}).values()
    ]

    shown = 0
    for content in contents:
        examples = [one["value"] for one in content.get("examples", {}).values()]
        examples += [content["example"]] if "example" in content else []
        for example in examples:
            validator(content["schema"], openapi).validate(example)
            shown += 1
    assert shown > 200


async def test_references_lead_somewhere(openapi):
    for document in (openapi, asyncapi_document()):
        for reference in set(references(document)):
            assert isinstance(found(document, reference), dict), reference


async def test_a_server_with_keys_says_so(openapi):
    async with rest_server(session_api_key="sesame", admin_key="a long admin key") as rest:
        keyed = (await rest.ask("GET", "/openapi.json")).json()

    assert keyed["paths"]["/api/settings"]["get"]["security"] == [{"sessionKey": []}]
    assert keyed["paths"]["/api/admin/audit"]["get"]["security"] == [
        {"adminKey": []},
        {"adminBearer": []},
    ]
    assert keyed["paths"]["/alive"]["get"]["security"] == []
    assert openapi["paths"]["/api/settings"]["get"]["security"] == []
    assert openapi["paths"]["/api/admin/audit"]["get"]["security"] == []


async def test_who_is_refused_for_a_while_is_told_for_how_long(openapi):
    told = [
        operation["responses"]["429"]["headers"]["Retry-After"]["schema"]
        for operations in openapi["paths"].values()
        for operation in operations.values()
    ]
    assert len(told) > 50
    assert all(schema == {"type": "integer", "minimum": 1} for schema in told)


KINDS = [
    *((ACTIONS[kind], fields) for kind, (fields, _, _) in ACTION_TABLE.items()),
    *((OBSERVATIONS[kind], fields) for kind, (fields, _, _) in OBSERVATION_TABLE.items()),
]


@pytest.mark.parametrize(("declared", "fields"), KINDS)
def test_an_event_that_is_stored_fits_the_schema_of_its_kind(declared, fields):
    event = declared(**ENVELOPE, **fields)

    for name in (declared.__name__, "Event"):
        schema = {"$ref": f"#/components/schemas/{name}"}
        validator(schema, COMPONENTS).validate(encode(event))


def test_a_kind_nobody_knows_fits_and_a_known_one_with_wrong_fields_does_not():
    check = validator({"$ref": "#/components/schemas/Event"}, COMPONENTS)
    stored = {**ENVELOPE, "source": "agent", "message": ""}

    assert check.is_valid({**stored, "action": "of_tomorrow", "args": {"any": 1}})
    assert not check.is_valid({**stored, "action": "run", "args": {"command": 5}})
    assert not check.is_valid({**stored, "observation": "run", "content": "", "extras": {}})


@pytest.mark.parametrize("state", sorted(CLIENT_STATES))
def test_what_clients_may_send_fits_its_schema(state):
    check = validator({"$ref": "#/components/schemas/ClientEvent"}, COMPONENTS)
    asked = {"action": "change_agent_state", "args": {"agent_state": state}, "client_id": "a"}

    assert decode_client(asked)
    assert check.is_valid(asked)
    assert not check.is_valid({**asked, "id": 1})


def test_every_kind_that_is_sent_is_a_message_of_the_socket():
    channel = asyncapi_document()["channels"]["oh_event"]["messages"]

    kinds = {f"action.{kind}" for kind in ACTIONS.keys() - HIDDEN_KINDS}
    kinds |= {f"observation.{kind}" for kind in OBSERVATIONS.keys() - HIDDEN_KINDS}
    told = {name.removeprefix("oh_event.") for name in channel}
    assert told - {f"notice.{name}" for name in NOTICES} == kinds


def test_every_notice_is_made_by_a_function_of_its_own_and_described():
    makers = {name for name, _ in inspect.getmembers(notices, inspect.isfunction)}
    told = set()
    for module in SERVER.rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            # A turn hands over a text only, of which its conversation makes a notice.
            if called.endswith("notify") and called != "self._context.notify":
                told.add(ast.unparse(node.args[-1]).partition("(")[0])

    assert {name.removesuffix("_notice") for name in makers} == NOTICES.keys()
    assert told - {"payload"} == makers


def test_every_refusal_of_the_handshake_is_told():
    texts = set()
    for module in SOCKETS.rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Refused":
                texts.add(_beginning(node.args[0]))

    assert texts - {""} == REFUSALS.keys()


def _beginning(node):
    """The text a refusal begins with, written there or under a name of its own."""
    if isinstance(node, ast.Name):
        return getattr(errors, node.id, None) or getattr(protocol, node.id, "")
    if isinstance(node, ast.JoinedStr):
        node = node.values[0]
    return node.value if isinstance(node, ast.Constant) else ""


def test_examples_of_messages_fit_and_notices_are_those_that_are_sent():
    document = asyncapi_document()

    for name, message in document["components"]["messages"].items():
        for example in message["examples"]:
            validator(message["payload"], document).validate(example["payload"])
            assert example["payload"], name
    sent = {
        "error": notices.error_notice("A$B", "text"),
        "title": notices.title_notice("c", "t"),
        "status": notices.status_notice("text"),
        "expiry": notices.expiry_notice(4),
    }
    assert {name: described_as("oh_event.notice.", one) for name, one in sent.items()} == {
        name: [f"oh_event.notice.{name}"] for name in NOTICES
    }
