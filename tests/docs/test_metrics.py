"""The page of the metrics, the dashboard and what a running server answers name the same families."""

import json
import re
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from tests.support.clients import joined
from tests.support.payloads import is_answer
from tests.support.servers import server_process
from tests.support.waiting import WAIT_SECONDS

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "metrics.md").read_text(encoding="utf-8")
DASHBOARD = json.loads((DOCS / "grafana" / "parley.json").read_text(encoding="utf-8"))
ROW = re.compile(r"^\| `([a-z_]+)` \| (counter|gauge|histogram) \| \S", re.MULTILINE)
NAME = re.compile(r"\b(?:parley|process|python)_[a-z_]+")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def families(tmp_path_factory):
    """The metrics of a server after some work: a family's name as the page spells it, and its type."""
    async with (
        server_process(tmp_path_factory.mktemp("data")) as server,
        httpx.AsyncClient(base_url=server.url, timeout=WAIT_SECONDS) as http,
    ):
        created = await http.post("/api/conversations", json={})
        async with joined(server.url, created.json()["conversation_id"]) as client:
            await client.say("hello")
            await client.event(is_answer)
        answer = await http.get("/metrics")
    found = list(text_string_to_metric_families(answer.text))
    return {spelled(one): one for one in found}


def spelled(family):
    return f"{family.name}_total" if family.type == "counter" else family.name


@pytest.mark.asyncio(loop_scope="module")
async def test_every_family_is_documented_with_its_type_and_every_documented_one_is_served(
    families,
):
    assert dict(ROW.findall(PAGE)) == {name: one.type for name, one in families.items()}


@pytest.mark.asyncio(loop_scope="module")
async def test_a_name_in_the_dashboard_or_in_an_alarm_is_one_that_is_served(families):
    served = {sample_name for one in families.values() for sample_name in names_of(one)}
    expressions = [
        target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])
    ]
    alarms = PAGE.split("## What to watch")[1]

    used = set(NAME.findall(" ".join(expressions)))
    assert len(expressions) > 30
    assert used <= served
    assert set(NAME.findall(alarms)) <= served


@pytest.mark.asyncio(loop_scope="module")
async def test_the_dashboard_shows_every_family_of_the_server(families):
    text = json.dumps(DASHBOARD)

    assert [name for name in families if name.startswith("parley_") and name not in text] == []


def names_of(family):
    ends = {
        "counter": ("_total",),
        "gauge": ("",),
        "histogram": ("_bucket", "_count", "_sum"),
    }
    return {family.name + end for end in ends[family.type]}


def test_the_panels_of_the_dashboard_have_their_own_places_and_ids():
    panels = DASHBOARD["panels"]

    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}) == len(panels)
