"""Users' settings and secrets, and their effect on the users' open conversations."""

import asyncio
import re
from asyncio import Task
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, NamedTuple, Protocol, TypeVar

from pydantic import SecretStr

from events.redaction import Redactor, maskable
from events.secret_patterns import SecretPatterns, compiled_patterns, groups_of, patterns_of
from runtime_stub.turn import MODEL_FAMILIES, AgentSettings
from server.agent.states import LoopSettings
from server.errors import ModelKeyMissing, ServerError, SettingsNotFound
from server.turns.context import TurnUser
from storage.errors import OutcomeUnknown, StorageError
from storage.keyed_locks import KeyedLocks
from storage.users.base import SecretsChange, SecretsStores, SettingsChange, SettingsStores
from storage.users.secrets import Secrets
from storage.users.settings import Settings

KEYLESS_PROVIDERS = ("bedrock/", "lemonade/")
"""Prefixes of models that are reached without an API key."""


SERVER_KEY = "llm_api_key of the server"
"""The name under which the server's key is masked."""
PROVIDER = re.compile(r"([^:/]+)[:/]")
"""The provider in the name of a model."""


def needs_key(model: str | None) -> bool:
    """Return whether an agent that declares `model` needs an API key."""
    return model is not None and not model.startswith(KEYLESS_PROVIDERS)


def agent_settings(stored: Settings, server: AgentSettings) -> AgentSettings:
    """Return settings as agents see them: the user's, and the server's model in their place.

    The server's key goes only where the server has chosen to send it: to its own address, or to the
    provider of its own model.
    """
    model = stored.llm_model or server.llm_model
    address = stored.llm_base_url or server.llm_base_url
    key = stored.llm_api_key if stored.has("llm_api_key") else None
    is_servers = address is not None or _provider_of(model) == _provider_of(server.llm_model)
    if key is None and is_servers and not stored.llm_base_url:
        key = server.llm_api_key
    return replace(
        server,
        llm_model=model,
        llm_base_url=address,
        llm_api_key=key,
        search_api_key=stored.search_api_key,
        language=stored.language,
        max_iterations=stored.max_iterations,
        max_budget_per_task=stored.max_budget_per_task,
        turn_seconds=stored.turn_seconds,
        confirmation_mode=stored.confirmation_mode,
        mcp_config=None if stored.mcp_config is None else stored.mcp_config.revealed(),
    )


def _provider_of(model: str | None) -> str:
    """Return the provider in a model's name, or the one of its family; empty where there is none."""
    name = model or ""
    found = PROVIDER.match(name)
    if found is not None:
        return found[1]
    return next((one for begin, one in MODEL_FAMILIES.items() if name.startswith(begin)), "")


def missing(
    settings: Settings | None, *, require_settings: bool, model: str | None
) -> ServerError | None:
    """Return the error for what a user's settings lack (None: none are stored); None when they suffice."""
    if require_settings and settings is None:
        return SettingsNotFound("Settings not found")
    if needs_key(model) and not (settings is not None and settings.has("llm_api_key")):
        return ModelKeyMissing("The agent's model needs an API key")
    return None


RECENT = 4
"""Compiled searches that are held although no open conversation needs them."""
LONG_VALUES = 4 * 1024
"""Characters of all values from which on their search is compiled in a thread."""

T = TypeVar("T")


class SecretsRecipient(Protocol):
    """An open conversation of one user."""

    @property
    def user_id(self) -> str | None:
        """The owner."""

    def learn(self, masks: Mapping[str, str], environment: Mapping[str, str]) -> None:
        """Mask these values from now on, and give commands these variables."""


class _Holder:
    """Keeps the values of a user in memory; masks nothing itself."""

    def __init__(self, user_id: str | None) -> None:
        self.user_id = user_id

    def learn(self, masks: Mapping[str, str], environment: Mapping[str, str]) -> None:
        """See SecretsRecipient: there is no conversation to change."""


class _SharedValues(NamedTuple):
    """Values handed to a conversation: masks and variables of commands, from settings and from secrets."""

    keys: Mapping[str, str]
    identity: Mapping[str, str]
    values: Mapping[str, str]
    variables: Mapping[str, str]

    @property
    def masks(self) -> dict[str, str]:
        """All values that are masked."""
        return {**self.keys, **self.values}

    @property
    def environment(self) -> dict[str, str]:
        """The variables of commands; a secret of the same name wins."""
        return {**self.identity, **self.variables}


class _UserConversations:
    """A user's open conversations, what they were told, and how often that has changed."""

    def __init__(self) -> None:
        self.recipients: dict[SecretsRecipient, None] = {}
        """In the order in which they came; one user may have many thousands."""
        self.known: _SharedValues | None = None
        self.patterns: tuple[SecretPatterns, ...] = ()
        """The compiled patterns, held for conversations that enter."""
        self.changes = 0


class Users:
    """Reads and changes settings and secrets, and tells open conversations at once.

    A change is told to the user's conversations as soon as it is durable, before its caller hears
    of it; one that is being opened meanwhile reads again. So whoever was told that a secret is
    stored can rely on its being masked. After a write of unknown outcome what is there is read and
    told. Changes of one user are serial, and a caller that goes away does not stop them.

    Every call raises what the storage raises.
    """

    def __init__(
        self,
        settings: SettingsStores,
        secrets: SecretsStores,
        *,
        require_settings: bool,
        model: str | None,
        model_defaults: AgentSettings = AgentSettings(),  # noqa: B008 - immutable
    ) -> None:
        self._settings = settings
        self._model_defaults = model_defaults
        self._secrets = secrets
        self._require_settings = require_settings
        self.model = model
        self.on_change: Callable[[str | None], None] | None = None
        """Told of a user whose settings or secrets were changed here, for other servers."""
        self._conversations: dict[str | None, _UserConversations] = {}
        self._recent: deque[tuple[SecretPatterns, ...]] = deque(maxlen=RECENT)
        self._locks: KeyedLocks[str | None] = KeyedLocks()
        self._tasks: set[Task[Any]] = set()

    async def settings(self, user_id: str | None) -> Settings | None:
        """Return the user's settings; None when none are stored."""
        return await self._settings.for_user(user_id).load()

    async def secrets(self, user_id: str | None) -> Secrets:
        """Return the user's secrets."""
        return await self._secrets.for_user(user_id).load()

    async def admit(self, user_id: str | None) -> None:
        """Raise SettingsNotFound or ModelKeyMissing when no conversation of his may begin."""
        if not self._require_settings and not needs_key(self.model):
            return
        settings = await self.settings(user_id)
        error = missing(settings, require_settings=self._require_settings, model=self.model)
        if error is not None:
            raise error

    async def loop_settings(self, user_id: str | None, defaults: LoopSettings) -> LoopSettings:
        """Return `defaults` with the user's settings in their place."""
        settings = await self.settings(user_id)
        names = ("max_iterations", "max_budget_per_task", "turn_seconds", "confirmation_mode")
        chosen = {name: getattr(settings, name, None) for name in names}
        return replace(defaults, **{k: value for k, value in chosen.items() if value is not None})

    def for_agent(self, user_id: str | None) -> TurnUser:
        """Return what an agent that works for a user may read."""
        return _AgentsUser(user_id, self)

    def agent_settings(self, stored: Settings | None) -> AgentSettings:
        """Return settings as agents see them, with the server's model where the user has none."""
        return agent_settings(stored or Settings(), self._model_defaults)

    def masked_in(self, settings: Settings, text: str) -> str:
        """Return a text with the keys of those settings masked, which need not be stored."""
        return Redactor(self._keys(settings)).redact_text(text)

    def _keys(self, settings: Settings | None) -> dict[str, str]:
        """Return the keys that a user's agents may hold, each under a unique name."""
        keys = settings.masks() if settings else {}
        server_key = self._model_defaults.llm_api_key
        return keys if server_key is None else keys | {SERVER_KEY: server_key.get_secret_value()}

    async def enter(self, recipient: SecretsRecipient) -> None:
        """Tell a conversation its user's secrets, now and at every change until it leaves.

        Only for the first of a user's open conversations they are read.
        """
        user_id = recipient.user_id
        conversations = self._conversations.setdefault(user_id, _UserConversations())
        conversations.recipients[recipient] = None
        while conversations.known is None:
            seen = conversations.changes
            known = await self._read(user_id)
            patterns = await self._compile(known.masks)
            if seen == conversations.changes:
                conversations.known, conversations.patterns = known, patterns
        recipient.learn(conversations.known.masks, conversations.known.environment)

    def leave(self, recipient: SecretsRecipient) -> None:
        """Tell a conversation nothing more; one that has not entered is no error."""
        conversations = self._conversations.get(recipient.user_id)
        if conversations is not None and recipient in conversations.recipients:
            del conversations.recipients[recipient]
            if not conversations.recipients:
                del self._conversations[recipient.user_id]

    @asynccontextmanager
    async def held(self, user_id: str | None) -> AsyncIterator[None]:
        """Read a user's secrets once for all that is masked and opened inside the block."""
        holder = _Holder(user_id)
        try:
            await self.enter(holder)
            yield
        finally:
            self.leave(holder)

    async def redactor(self, user_id: str | None) -> Redactor:
        """Return what masks the user's secrets in texts that are kept or shown outside a log."""
        conversations = self._conversations.get(user_id)
        known = None if conversations is None else conversations.known
        if known is None:
            known = await self._read(user_id)
        await self._compile(known.masks)
        return Redactor(known.masks)

    async def masked(self, user_id: str | None, text: str) -> str:
        """Return a user's text for storage outside a log, with secrets masked."""
        return (await self.redactor(user_id)).redact_text(text)

    async def change_settings(self, user_id: str | None, change: SettingsChange) -> Settings:
        """Change what a user has chosen. Raises what `change` raises."""

        async def work() -> Settings:
            try:
                settings = await self._settings.for_user(user_id).update(change)
            except Exception as error:
                if _may_be_stored(error):
                    found = await self.settings(user_id)
                    await self._tell(user_id, self._of_settings(found))
                raise
            await self._tell(user_id, self._of_settings(settings))
            self._announce(user_id)
            return settings

        return await self._in_order(user_id, work)

    async def change_secrets(self, user_id: str | None, change: SecretsChange) -> Secrets:
        """Change what a user keeps secret. Raises what `change` raises."""

        async def work() -> Secrets:
            try:
                secrets = await self._secrets.for_user(user_id).update(change)
            except Exception as error:
                if _may_be_stored(error):
                    await self._tell(user_id, _of_secrets(await self.secrets(user_id)))
                raise
            await self._tell(user_id, _of_secrets(secrets))
            self._announce(user_id)
            return secrets

        return await self._in_order(user_id, work)

    @property
    def present(self) -> list[str | None]:
        """The users of whom a conversation is open."""
        return [*self._conversations]

    async def read_again(self, user_id: str | None) -> None:
        """Tell open conversations of a user what another server may have changed. Raise StorageError."""

        async def work() -> None:
            if user_id in self._conversations:
                known = await self._read(user_id)
                await self._tell(user_id, known._asdict())

        await self._in_order(user_id, work)

    def _announce(self, user_id: str | None) -> None:
        if self.on_change is not None:
            self.on_change(user_id)

    async def _read(self, user_id: str | None) -> _SharedValues:
        settings, secrets = await asyncio.gather(self.settings(user_id), self.secrets(user_id))
        return _SharedValues(**self._of_settings(settings), **_of_secrets(secrets))

    def _of_settings(self, settings: Settings | None) -> dict[str, Mapping[str, str]]:
        """Return the fields of shared values that come from settings."""
        identity = settings.git_identity() if settings else {}
        return {"keys": self._keys(settings), "identity": identity}

    async def _tell(self, user_id: str | None, changed: Mapping[str, Mapping[str, str]]) -> None:
        """Tell what was changed to all open conversations; one that opens meanwhile reads again."""
        conversations = self._conversations.get(user_id)
        if conversations is None:
            return
        before = conversations.known or _SharedValues({}, {}, {}, {})
        patterns = await self._compile(before._replace(**changed).masks)
        # What is known may have been read meanwhile; that it changes is another's only.
        known = (conversations.known or before)._replace(**changed)
        conversations.changes += 1
        if conversations.known is not None:
            conversations.known, conversations.patterns = known, patterns
        masks, environment = known.masks, known.environment
        for recipient in conversations.recipients:
            recipient.learn(masks, environment)

    async def _compile(self, masks: Mapping[str, str]) -> tuple[SecretPatterns, ...]:
        """Return the search for these values; that for many is compiled in a thread."""
        compiled = tuple([await _compiled(group) for group in groups_of(maskable(masks))])
        if compiled not in self._recent:
            self._recent.append(compiled)
        return compiled

    async def _in_order(self, user_id: str | None, work: Callable[[], Awaitable[T]]) -> T:
        lock = self._locks.of(user_id)

        async def serial() -> T:
            async with lock:
                return await work()

        return await asyncio.shield(self._spawn(serial()))

    def _spawn(self, work: Coroutine[Any, Any, T]) -> Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _may_be_stored(error: Exception) -> bool:
    """Return whether a change that failed may be stored all the same.

    So it is where a custom class fails in a way of its own; what else the storage raises, and what
    the change itself raises, says that nothing was stored.
    """
    return isinstance(error, OutcomeUnknown) or not isinstance(error, StorageError | ServerError)


async def _compiled(values: frozenset[str]) -> SecretPatterns:
    found = compiled_patterns(values)
    if found is not None or sum(map(len, values)) < LONG_VALUES:
        return found or patterns_of(values)
    return patterns_of(values, await asyncio.to_thread(SecretPatterns, values))


class _AgentsUser(TurnUser):
    """A user as the agents of his conversations see him; read anew at each turn."""

    def __init__(self, user_id: str | None, users: Users) -> None:
        super().__init__(user_id)
        self._users = users

    async def settings(self) -> AgentSettings:
        """See TurnUser."""
        return self._users.agent_settings(await self._users.settings(self.user_id))

    async def secret(self, name: str) -> SecretStr | None:
        """See TurnUser; tokens of git hosts have the names of their variables."""
        secrets = await self._users.secrets(self.user_id)
        custom = secrets.custom_secrets.get(name)
        if custom is not None:
            return custom.value
        token = secrets.environment().get(name)
        return None if token is None else SecretStr(token)


def _of_secrets(secrets: Secrets) -> dict[str, Mapping[str, str]]:
    """Return the fields of shared values that come from secrets."""
    return {"values": secrets.masks(), "variables": secrets.environment()}
