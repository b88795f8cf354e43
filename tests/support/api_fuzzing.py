"""Random requests after /openapi.json against a real server; every check of the library is on."""

import asyncio
import logging
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import orjson
import schemathesis
from hypothesis import strategies as st
from schemathesis.config import SchemathesisConfig
from schemathesis.core.parameters import ParameterLocation
from schemathesis.engine import events, from_schema

from server.routes.search import cursor_behind
from storage.conversations.paging import ListPosition
from storage.search.base import MAX_PLACE
from tests.support.servers import ServerProcess, server_process

KEY = "open-sesame"
ADMIN_KEY = "open-sesame-too-please"
ONE = "/api/conversations/{conversation_id}"
NO_500 = ["2xx", "3xx", "4xx"]
ACCEPTED = ["2xx", "3xx", "401", "403", "404", "409", "429"]

LITERAL = re.compile(r"-?\d+|true|false")
OF_THE_CONNECTION = {"transfer-encoding", "content-length", "connection", "upgrade", "expect", "te"}

NOT_OFFERED = (
    f"{ONE}/remember-prompt",
    f"{ONE}/exp-config",
    f"{ONE}/security/{{path}}",
)
"""Addresses that answer 501 by decision 0034, or by decision alone: no error of the server's."""
TELLS_MORE: dict[str, list[str]] = {
    "/api/admin/conversations": ["400"],
    "/api/conversations": ["400"],
    "/api/microagent-management/conversations": ["400"],
    "/api/reset-settings": ["410"],
    "/api/secrets": ["400"],
    "/api/secrets/{name}": ["400"],
    f"{ONE}/list-files": ["400"],
    f"{ONE}/select-file": ["400", "415"],
    f"{ONE}/git/diff": ["400", "415"],
}
"""Refusals of bodies and queries that fit: names that are taken, paths that lead nowhere, page ids
of another order, and what excludes each other."""


@dataclass
class Outcome:
    """The outcome of some runs."""

    cases: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    problems: dict[str, str] = field(default_factory=dict)
    """By address and check, the first of its sort with a line to repeat it."""

    @property
    def total(self) -> int:
        """Requests that were generated and sent."""
        return self.cases.total()

    def __str__(self) -> str:
        told = ", ".join(f"{count} {phase}" for phase, count in sorted(self.cases.items()))
        answers = ", ".join(f"{status}: {n}" for status, n in sorted(self.statuses.items()))
        return f"{self.total} cases ({told}); answers {answers}; {len(self.problems)} problems"


@asynccontextmanager
async def fuzzed_server(
    folder: Path, storage: str, key: str | None
) -> AsyncIterator[ServerProcess]:
    """A server process; at the end it must still be there and have logged no failure."""
    environment = {} if key is None else {"SESSION_API_KEY": key, "PARLEY_ADMIN_KEY": ADMIN_KEY}
    environment["PARLEY_SEARCH_DIR"] = str(folder / "search")
    async with server_process(
        folder / "data", "--storage", storage, environment=environment
    ) as server:
        yield server
        assert server.running, server.stderr.decode()[-2000:]
        await server.stop()
    assert b"Traceback" not in server.stderr, server.stderr.decode()[-4000:]


async def fuzz(
    url: str, key: str | None, seed: int, outcome: Outcome, *, examples: int, whole: bool
) -> None:
    """One run: `examples` for each address; `whole` adds all that follows from the schema alone."""
    await asyncio.to_thread(_fuzz, url, _configured(key, seed, examples, whole=whole), outcome)


def _configured(key: str | None, seed: int, examples: int, *, whole: bool) -> SchemathesisConfig:
    operations: list[dict[str, Any]] = [
        {
            "include-path": path,
            "checks": {
                "not_a_server_error": {"expected-statuses": [*NO_500, "501"]},
                "positive_data_acceptance": {"expected-statuses": [*ACCEPTED, "501"]},
            },
        }
        for path in NOT_OFFERED
    ]
    operations += [
        {
            "include-path": path,
            "checks": {"positive_data_acceptance": {"expected-statuses": [*ACCEPTED, *statuses]}},
        }
        for path, statuses in TELLS_MORE.items()
    ]
    # A stream ends when its client leaves.
    operations.append({"include-path": f"{ONE}/stream", "enabled": False})
    # A server that is drained takes nothing in, whatever else is asked of it.
    operations.append(
        {"include-path": "/api/admin/drain", "include-method": "POST", "enabled": False}
    )
    # What is not there is null or false at these, not 404.
    operations += [
        {"include-path": path, "checks": {"use_after_free": {"enabled": False}}}
        for path in (ONE, f"{ONE}/approvals/allowed/{{kind}}")
    ]
    settings: dict[str, Any] = {
        "seed": seed,
        "continue-on-failure": True,
        "request-timeout": 10,
        "generation": {"max-examples": examples, "database": "none", "no-shrink": True},
        "checks": {
            "not_a_server_error": {"expected-statuses": NO_500},
            "positive_data_acceptance": {"expected-statuses": ACCEPTED},
        },
        "phases": {
            "examples": {"enabled": whole},
            "coverage": {"enabled": whole},
            "stateful": {"enabled": True},
        },
        "operations": operations,
    }
    if key is not None:
        settings["auth"] = {"openapi": {"sessionKey": {"api_key": key}}}
    return SchemathesisConfig.from_dict(settings | {"output": {"sanitization": {"enabled": False}}})


def _fuzz(url: str, config: SchemathesisConfig, outcome: Outcome) -> None:
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    schemathesis.openapi.format("page-id", _page_ids())
    schemathesis.openapi.format("search-cursor", st.integers(0, MAX_PLACE).map(cursor_behind))
    schemathesis.openapi.format("recording", _recordings())
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=config)
    schema.hooks.hook("filter_headers")(_leaves_the_connection_alone)
    for event in from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            _count(event, outcome)
        elif isinstance(event, (events.NonFatalError, events.FatalError)):
            outcome.problems.setdefault(type(event).__name__, repr(event))


def _leaves_the_connection_alone(_context: Any, headers: dict[str, Any] | None) -> bool:
    """Whether the request reaches the server's routes: no header is HTTP's own."""
    return not OF_THE_CONNECTION & {str(name).lower() for name in headers or ()}


def _count(event: events.ScenarioFinished, outcome: Outcome) -> None:
    outcome.cases[str(event.phase.value)] += len(event.recorder.interactions)
    for interaction in event.recorder.interactions.values():
        if interaction.response is not None:
            outcome.statuses[interaction.response.status_code] += 1
    for case_id, checks in event.recorder.checks.items():
        for check in checks:
            if check.failure_info is not None:
                if check.name == "negative_data_rejection" and _fits_as_sent(event, case_id):
                    continue
                told = check.failure_info
                text = f"{told.failure}\n{told.code_sample}"
                outcome.problems.setdefault(f"{event.label} {check.name}", text)


def _fits_as_sent(event: events.ScenarioFinished, case_id: str) -> bool:
    """Whether only the query is negated, and the server is right to take what was sent of it.

    Undeclared parameters are ignored, and an empty list is not sent at all; the library judges the
    values that it generated.
    """
    case = event.recorder.cases[case_id].value
    assert case.meta is not None, "every case is generated"
    negated = {place for place, part in case.meta.components.items() if part.mode.is_negative}
    if negated != {ParameterLocation.QUERY}:
        return False
    declared = case.operation.query
    fits = declared.get_strict_validator().is_valid
    sent: dict[str, str | int] = {}
    uri = event.recorder.interactions[case_id].request.uri
    for name, text in parse_qsl(urlsplit(uri).query, keep_blank_values=True):
        if name in sent:
            return False
        if name in declared:
            is_text = fits({name: text}) or not LITERAL.fullmatch(text)
            sent[name] = text if is_text else orjson.loads(text)
    return bool(fits(sent))


def _page_ids() -> st.SearchStrategy[str]:
    moments = st.datetimes(datetime(1970, 1, 1), datetime(9000, 1, 1)).map(  # noqa: DTZ001 - given one by the next line
        lambda moment: moment.replace(tzinfo=UTC) + timedelta(0)
    )
    ids = st.from_regex(r"[A-Za-z0-9_]{1,40}", fullmatch=True)
    return st.builds(lambda moment, one: ListPosition(moment, one).to_page_id(), moments, ids)


def _recordings() -> st.SearchStrategy[str]:
    said = {"source": "user", "action": "message", "args": {"content": "Again"}}
    texts = st.text(st.characters(codec="utf-8"), max_size=20)
    thoughts = texts.map(
        lambda text: {"source": "agent", "action": "think", "args": {"thought": text}}
    )
    return st.lists(thoughts, max_size=3).map(
        lambda done: orjson.dumps({"trajectory": [said, *done]}).decode()
    )
