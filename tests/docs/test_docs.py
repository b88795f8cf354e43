"""The documentation is complete, its generated pages are fresh, its links lead somewhere."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from starlette.routing import Mount, Route

from events.actions import ACTIONS
from events.client_events import CLIENT_ACTIONS, CLIENT_STATES
from events.event import AgentState
from events.layout import layout_of
from events.observations import OBSERVATIONS
from server.cli import app
from server.config.settings import ServerConfig
from server.config.sources import PLAIN_VARIABLES, public_name, variable_names
from server.conversations import notices
from server.errors import TABLE, Answer
from server.http.middleware import CODES
from server.sockets import protocol as socket_protocol
from server.turns import actions
from tests.support.rest import rest_server

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
CONFIGURATION = (DOCS / "configuration.md").read_text(encoding="utf-8")
EVENTS = (DOCS / "events.md").read_text(encoding="utf-8")
PROTOCOL = (DOCS / "protocol.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *ROOT.glob("server/**/*.md")])
ADDRESS = re.compile(r"`((?:GET|POST|PATCH|PUT|DELETE) /\S*)`")


def calls(folder, name):
    """Every call of a function, by its bare name, in the modules of a folder."""
    for module in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rsplit(".", 1)[-1] == name:
                yield node


def constant_text(node, names):
    """Return the part of a text that the source tells: constants, and variables found in `names`."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(one.value) for one in node.values if isinstance(one, ast.Constant))
    return getattr(names, node.id, "") if isinstance(node, ast.Name) else ""


@pytest.mark.parametrize("field", ServerConfig.model_fields)
def test_a_setting_is_documented(field):
    description = ServerConfig.model_fields[field].description

    assert description
    assert f"## `{public_name(field)}`\n\n{description}\n" in CONFIGURATION


@pytest.mark.parametrize("variable", [*variable_names(ServerConfig), *PLAIN_VARIABLES])
def test_a_variable_is_documented(variable):
    assert f"`{variable}`" in CONFIGURATION


@pytest.mark.parametrize("command", [name for name in app if not name.startswith("-")])
def test_a_command_is_documented(command):
    assert f"`parley {command}`" in README


async def test_every_address_is_documented_and_every_documented_address_is_served():
    async with rest_server() as rest:
        table = rest.application.asgi.routes

    served = {
        f"{method} {route.path}"
        for route in table
        if isinstance(route, Route) and not route.path.startswith("/{path")
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert served == set(ADDRESS.findall(PROTOCOL))
    assert [f"`{one.path}`" for one in table if isinstance(one, Mount)] == ["`/socket.io`"]


@pytest.mark.parametrize(("kind", "declared"), [*ACTIONS.items(), *OBSERVATIONS.items()], ids=str)
def test_a_kind_of_event_is_documented_with_its_fields(kind, declared):
    section = EVENTS.split("## Observations")[0 if declared in ACTIONS.values() else 1]
    (row,) = re.findall(rf"^\| `{kind}` \|.*$", section, re.MULTILINE)

    for name in layout_of(declared).wire_names:
        assert f"`{name}`" in row


def test_what_clients_may_send_is_documented():
    section = PROTOCOL.split("### What clients may send")[1].split("## Socket.IO")[0]

    codes = {
        keyword.value.value
        for call in calls("events", "BadEvent")
        for keyword in call.keywords
        if keyword.arg == "code"
    }
    assert len(codes) > 8
    for word in (*codes, *CLIENT_ACTIONS, *CLIENT_STATES):
        assert f"`{word}`" in section


def test_every_refusal_of_the_handshake_is_documented():
    section = PROTOCOL.split("### Handshake")[1].split("### From the server")[0]

    texts = {
        constant_text(call.args[0], socket_protocol) for call in calls("server/sockets", "Refused")
    } - {""}
    assert len(texts) > 4
    for text in texts:
        assert f"`{text}" in section


def test_every_notice_is_documented():
    section = PROTOCOL.split("### From the server: notices")[1].split("###")[0]

    ids = {constant_text(call.args[0], notices) for call in calls("server", "error_notice")}
    assert len(ids) > 2
    for notice_id in ids:
        assert f"`{notice_id}`" in section


def test_every_error_is_documented():
    section = PROTOCOL.split("### Errors")[1].split("## Agent states")[0]
    answers = [told if isinstance(told, Answer) else Answer(*told[:2], "") for _, told in TABLE]
    answers += [Answer(status, code, "") for status, code in CODES.items()]

    for answer in answers:
        rows = [row for row in section.splitlines() if f"`{answer.code}`" in row]
        assert any(row.startswith(f"| {answer.status} |") for row in rows), answer.code
        assert answer.msg_id is None or any(f"`{answer.msg_id}`" in row for row in rows)


@pytest.mark.parametrize("state", AgentState)
def test_a_state_of_the_agent_is_documented(state):
    assert f"`{state}`" in PROTOCOL.split("## Agent states")[1]


def test_the_errors_that_close_an_action_are_documented():
    for error_id in (actions.STOPPED_ID, actions.FAILED_ID):
        assert f"`{error_id}`" in PROTOCOL


def test_the_generated_pages_are_fresh():
    command = [sys.executable, str(ROOT / "scripts" / "generate-docs"), "--check"]

    outcome = subprocess.run(command, capture_output=True, text=True, check=False)

    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_named_files_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)

    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if "://" not in target:
            path, _, anchor = target.partition("#")
            found = page.parent / path if path else page
            assert found.exists(), target
            assert not anchor or anchor in anchors_of(found), target
    for named in re.findall(r"`((?:server|events|storage|runtime_stub|tests)/[\w/.]+)`", prose):
        assert (ROOT / named).exists(), named


def anchors_of(page):
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}
