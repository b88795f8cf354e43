"""Owner ids are made of principals in one place, compared exactly, and never taken apart."""

import ast
import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote, unquote

import pytest
from httpx import AsyncClient
from hypothesis import given, settings as examples, strategies as st

from server.access.auth import Authenticator, Principal, UserAuth, owner_id
from server.app import create_app
from server.config.settings import ServerConfig
from server.errors import NotAvailable, Unauthorized
from storage.conversations.metadata import ConversationMetadata
from storage.opening import open_storage
from storage.users.settings import Settings
from tests.support.backends import FACTORIES
from tests.support.clients import ConnectRefused, joined
from tests.support.remote import remote
from tests.support.servers import class_path, serving
from tests.support.user_backends import open_settings_stores
from tests.test_architecture import sources

ADMIN_KEY = "planted-admin-key"
EVERY = "/api/conversations"
STORAGES = ("memory", "sqlite", "local")
ODD = (
    "ann",
    "Ann",
    "ann ",
    " ",
    "nobody",
    "null",
    "None",
    "../ann",
    "ann/../bob",
    "a%20b",
    "a b",
    "%",
    "_",
    "*",
    "a'b\"c`;--",
    "a\\b",
    "{}[]()<>&|$",
    "u-" + "0" * 64,
    "\u00e9",
    "e\u0301",
    "\u0130",
    "\u00df",
    "ss",
    "\u202eann",
    "a\u200bnn",
    "a\u00adnn",
    "\ufeffann",
    "\u2028",
    "\uffff",
    "\U0010ffff",
    "\U0001f469\u200d\U0001f680",
    "x" * 255,
    "\U0001f600" * 255,
)
"""Owner ids that a file name, a SQL pattern, a URL, a separator or a normal form could confuse."""
TENANTS = (
    ("acme", "ann"),
    ("beta", "ann"),
    ("acme", "bob"),
    ("", "acme"),
    ("a/b", "c"),
    ("a", "b/c"),
    ("a:b", "c"),
    ("a", ":b"),
)

fitting = st.text(
    st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=255
) | st.sampled_from(ODD)


class QuotedAuth(UserAuth):
    """Takes the id from a header, percent-encoded since headers are Latin-1."""

    async def user_id(self, headers: Mapping[str, str]) -> str | None:
        given_id = headers.get("x-user")
        return None if given_id is None else unquote(given_id)


@dataclass(frozen=True, slots=True)
class Tenanted(Principal):
    """A user of a tenant."""

    tenant: str = ""

    def owner(self) -> str | None:
        """The one function that a tenant changes."""
        return f"{len(self.tenant)}:{self.tenant}{self.user_id}"


class TenantAuth(UserAuth):
    """Takes user and tenant from two headers."""

    async def user_id(self, headers: Mapping[str, str]) -> Principal:
        return Tenanted(unquote(headers["x-user"]), unquote(headers["x-tenant"]))


class Spoken(str):
    """A text that calls itself equal to all others."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 1

    def __str__(self) -> str:
        return "somebody else"


class SpokenAuth(UserAuth):
    """Returns a text of a class of its own."""

    async def user_id(self, headers: Mapping[str, str]) -> str:
        return Spoken("ann")


class BrokenPrincipal(Principal):
    """Cannot say whose records it may see."""

    def owner(self) -> str | None:
        raise SystemExit(3)


class BrokenAuth(UserAuth):
    """Returns principals that fail later."""

    async def user_id(self, headers: Mapping[str, str]) -> Principal:
        return BrokenPrincipal("ann")


def named(user: str) -> dict[str, str]:
    return {"x-user": quote(user)}


def of(tenant: str, user: str) -> dict[str, str]:
    return named(user) | {"x-tenant": quote(tenant)}


@given(st.lists(fitting, min_size=2, max_size=8, unique=True))
def test_two_principals_never_share_an_owner_id(users):
    made = {owner_id(Principal(user)) for user in users}

    assert len(made) == len(users)
    assert made == set(users), "existing records are found under the ids of their users"
    assert None not in made


def test_only_the_anonymous_user_has_no_owner_id():
    assert owner_id(Principal()) is None


@given(
    st.text(st.characters(categories=("Cc", "Cs")), min_size=1)
    | st.just("")
    | st.text("x", min_size=256, max_size=300)
    | st.binary()
    | st.integers()
)
def test_what_cannot_be_an_owner_id_is_refused(text):
    with pytest.raises(Unauthorized, match="not acceptable"):
        owner_id(Principal(text))


@pytest.mark.parametrize("kind", FACTORIES)
@examples(max_examples=15)
@given(owners=st.lists(fitting, min_size=2, max_size=5, unique=True))
def test_every_back_end_keeps_owners_apart_that_differ_in_any_character(kind, owners):
    async def keep(folder: Path) -> None:
        everybody = [None, *owners]
        async with FACTORIES[kind](folder) as opened, open_settings_stores(kind, folder) as kept:
            for number, owner in enumerate(everybody):
                record = ConversationMetadata(conversation_id=f"c{number}", title="one title")
                await opened.conversations.for_user(owner).save_metadata(record)
                await kept.for_user(owner).store(Settings(email=f"{number}@example.org"))
            for number, owner in enumerate(everybody):
                store = opened.conversations.for_user(owner)
                found = (await store.search()).results
                assert [one.conversation_id for one in found] == [f"c{number}"]
                assert found[0].user_id == owner
                loaded = await kept.for_user(owner).load()
                assert loaded is not None
                assert loaded.email == f"{number}@example.org"

    with TemporaryDirectory() as folder:
        asyncio.run(keep(Path(folder)))


def config_of(kind: str, folder: Path, users: type[UserAuth]) -> ServerConfig:
    settings: dict[str, Any] = {"storage_kind": kind, "admin_key": ADMIN_KEY}
    settings["user_auth_class"] = class_path(users)
    if kind != "memory":
        settings["data_dir"] = folder
    return ServerConfig(**settings)


@asynccontextmanager
async def served(config: ServerConfig) -> AsyncIterator[AsyncClient]:
    async with (
        create_app(config) as application,
        serving(config, application) as server,
        remote(server.url) as asked,
    ):
        yield asked.client


async def make_everything(client: AsyncClient, everybody: Sequence[Mapping[str, str]]) -> list[str]:
    """Give each a conversation, settings and a secret; the conversations' ids."""
    made = []
    for number, headers in enumerate(everybody):
        key = {"idempotency-key": "the same for all"}
        message = {"initial_user_msg": f"from {number}"}
        answer = await client.post(EVERY, json=message, headers={**headers, **key})
        assert answer.status_code == 200, answer.text
        made.append(answer.json()["conversation_id"])
        stored = {"llm_model": f"acme/{number}", "llm_api_key": f"planted-key-{number}"}
        answer = await client.post("/api/settings", json=stored, headers=headers)
        assert answer.status_code == 200, answer.text
        secret = {"name": f"TOKEN_{number}", "value": f"planted-secret-{number}"}
        answer = await client.post("/api/secrets", json=secret, headers=headers)
        assert answer.status_code == 201, answer.text
    assert len(set(made)) == len(made)
    return made


async def see_only_their_own(
    client: AsyncClient, everybody: Sequence[Mapping[str, str]], made: Sequence[str]
) -> None:
    for number, headers in enumerate(everybody):
        listed = (await client.get(EVERY, headers=headers)).json()["results"]
        assert [one["conversation_id"] for one in listed] == [made[number]]
        settings = (await client.get("/api/settings", headers=headers)).json()
        assert settings["llm_model"] == f"acme/{number}"
        secrets = (await client.get("/api/secrets", headers=headers)).json()["custom_secrets"]
        assert [one["name"] for one in secrets] == [f"TOKEN_{number}"]
        foreign = made[(number + 1) % len(made)]
        answer = await client.get(f"{EVERY}/{foreign}/events", headers=headers)
        assert answer.status_code == 404
        url = str(client.base_url)
        async with joined(url, made[number], headers=dict(headers)) as own:
            said = await own.event(lambda payload: payload.get("source") == "user")
            assert said["message"] == f"from {number}"
        with pytest.raises(ConnectRefused):
            async with joined(url, foreign, headers=dict(headers)):
                raise AssertionError


async def administration_finds(client: AsyncClient, owner: str, conversation_id: str) -> None:
    key = {"x-admin-api-key": ADMIN_KEY}
    query = {"owner": owner}
    answer = await client.get("/api/admin/conversations", params=query, headers=key)
    assert answer.status_code == 200, answer.text
    lines = [one["record"] for one in answer.json()["results"]]
    assert [(one["conversation_id"], one["user_id"]) for one in lines] == [(conversation_id, owner)]


ODD_USERS: dict[str | None, Mapping[str, str]] = {None: {}} | {one: named(one) for one in ODD}
TENANTED_USERS: dict[str | None, Mapping[str, str]] = {
    Tenanted(user, tenant).owner(): of(tenant, user) for tenant, user in TENANTS
}


@pytest.mark.parametrize("kind", STORAGES)
@pytest.mark.parametrize(
    ("users", "everybody"),
    [(QuotedAuth, ODD_USERS), (TenantAuth, TENANTED_USERS)],
    ids=["odd characters", "tenants"],
)
async def test_two_owners_share_nothing_on_any_storage_nor_after_a_restart(
    kind, users, everybody, tmp_path
):
    config = config_of(kind, tmp_path, users)
    headers = list(everybody.values())
    async with served(config) as client:
        made = await make_everything(client, headers)
        await see_only_their_own(client, headers, made)
        for owner, conversation_id in zip(everybody, made, strict=True):
            if owner is not None:
                await administration_finds(client, owner, conversation_id)
    if kind != "memory":
        async with served(config) as client:
            await see_only_their_own(client, headers, made)


async def test_a_record_kept_under_a_user_id_is_found_by_that_user(tmp_path):
    """Data directories know owners by the ids of their users."""
    config = config_of("sqlite", tmp_path, QuotedAuth)
    async with open_storage(config.storage) as storage:
        record = ConversationMetadata(conversation_id="c", user_id="ann", title="of old")
        await storage.conversations.for_user("ann").save_metadata(record)

    async with served(config) as client:
        listed = (await client.get(EVERY, headers=named("ann"))).json()["results"]

    assert [one["title"] for one in listed] == ["of old"]


async def test_a_text_with_an_equality_of_its_own_is_taken_for_its_characters():
    owner = await Authenticator(ServerConfig(), SpokenAuth()).owner({})

    assert type(owner).__name__ == "str"
    assert [one for one in ("ann", "bob", "somebody else") if one == owner] == ["ann"]


async def test_a_principal_that_cannot_name_its_owner_is_refused_and_harms_nobody():
    authenticator = Authenticator(ServerConfig(), BrokenAuth())

    with pytest.raises(NotAvailable, match="cannot be identified"):
        await authenticator.owner({})


def test_owner_ids_are_made_in_one_module():
    """Nothing outside the door makes one, or looks into a principal."""
    makers = set()
    for path, source in sources():
        names = {
            getattr(node, "attr", None) or getattr(node, "id", None) or getattr(node, "name", None)
            for node in ast.walk(ast.parse(source))
        }
        if not names.isdisjoint({"OwnerId", "Principal", "owner_id"}):
            makers.add(path)

    assert makers == {"server/access/auth.py"}
