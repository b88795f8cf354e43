"""Begins conversations: the request, the id a retry finds again, the record, the first message."""

import asyncio
import hashlib
import re
import uuid
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple
from urllib.parse import unquote
from weakref import finalize

import orjson
from pydantic import AfterValidator, Field, JsonValue
from starlette.requests import Request

from events.actions import Action
from events.batch import ByteBudget
from events.client_events import decode_client
from events.errors import StreamOverloaded
from events.recording import RecordedActions, read_recording
from server.access.auth import Owner
from server.conversations.manager import AgentLoopInfo
from server.http.body_limits import ENVELOPE_BYTES, too_large
from server.routes.request import RequestBody, idempotency_key, owner_of, read_body, read_json
from server.routes.services import Services
from storage.conversations.base import ConversationStore
from storage.conversations.metadata import (
    WHOLE,
    ConversationMetadata,
    ConversationTrigger,
    ProviderType,
)
from storage.errors import ConversationNotFound, KeyExists
from storage.keyed_locks import KeyedLocks, KeyedSlots
from storage.keys import check_conversation_id
from storage.unicode_text import is_blank

CREATION_KEY = "creation_key"
"""Key in the `custom` of a record with a chosen id: the digest of the Idempotency-Key used."""
MAX_NAME = 1000
MAX_IMAGES = 100
LONG_RECORDING = 256 * 1024
"""Characters from which a recording is parsed in a thread, so that the event loop is not blocked."""
LONG_BODY = 256 * 1024
"""Bytes from which a body is long: what is made of it holds it several times over."""
LONG_AT_ONCE = 4
"""Conversations with a long body that are created at one time; others wait, held as bytes."""
LONG_OF_A_USER = 2
"""Those of one user, who so cannot keep all others waiting."""
LONG_SECONDS = 60.0
"""Seconds that a long body waits for its turn."""
RECORDINGS_BYTES = 64 * 1024 * 1024
"""Bytes that all unfinished recordings together may hold."""
_CREDENTIALS = re.compile(
    r"""
    https?:[/\\]+[^/\s?#]*@  # a user name there is a token
    | (?:[a-z][a-z0-9+.-]*:|^)[/\\]{2,}[^/\s?#:@]*:[^/\s?#]*@
    | ^[^/\s:@]+(?::[^/\s@]*)?@[^/\s:]+/
    | ^[^/\s:@]+:[^/\s@]+@
    | [?&#][^=&\s]*(?:token|key|secret|password|auth)[^=&\s]*=[^&\s]
    """,
    re.IGNORECASE | re.VERBOSE,
)
"""Matches an address with a token or a password: before its host, in its query or fragment."""


def _without_credentials(text: str) -> str:
    if _CREDENTIALS.search(text) or _CREDENTIALS.search(unquote(text)):
        raise ValueError(
            "must not contain a token or password, because it is stored and shown; store them as"
            " a secret or as the token of the git host"
        )
    return text


ShownText = Annotated[str, Field(max_length=MAX_NAME), AfterValidator(_without_credentials)]
"""A repository, a branch or what else is shown of where work is done."""

RECORDING = Field(
    json_schema_extra={"format": "recording"},
    description="A trajectory as text; the actions of its agent are performed again.",
    examples=['[{"source": "user", "action": "message", "args": {"content": "Hello"}}]'],
)


class SuggestedTask(RequestBody):
    """A piece of work a git host offers."""

    git_provider: ProviderType
    task_type: ShownText
    repo: ShownText
    issue_number: Annotated[int, WHOLE]
    title: ShownText


class NewMicroagent(RequestBody):
    """A microagent to write for a repository."""

    repo: ShownText
    git_provider: ProviderType | None = None
    title: ShownText | None = None


class NewConversation(RequestBody):
    """The request for a new conversation. Instructions and tool servers are for agents that use them."""

    repository: ShownText | None = None
    git_provider: ProviderType | None = None
    selected_branch: ShownText | None = None
    initial_user_msg: str | None = None
    image_urls: list[str] | None = Field(default=None, max_length=MAX_IMAGES)
    replay_json: Annotated[str, RECORDING] | None = None
    suggested_task: SuggestedTask | None = None
    create_microagent: NewMicroagent | None = None
    conversation_instructions: str | None = None
    mcp_config: dict[str, JsonValue] | None = None

    def opening(self) -> "FirstMessage":
        """Return the first message: that of the user, else of the recording or of the task.

        Raises BadRecording.
        """
        recording = None if self.replay_json is None else read_recording(self.replay_json)
        replay = () if recording is None else recording.actions
        words = None if is_blank(self.initial_user_msg or "") else self.initial_user_msg
        if words is None and recording is not None and not self.image_urls:
            said = recording.first_message
            return FirstMessage(said.content, said.image_urls, said.file_urls, replay)
        return FirstMessage(words or self._task(), self.image_urls, None, replay)

    def _task(self) -> str | None:
        if self.suggested_task is None:
            return None
        task = self.suggested_task
        kind = task.task_type.replace("_", " ").lower()
        return f"Please work on {kind} #{task.issue_number} of {task.repo}: {task.title}"

    def record(
        self, conversation_id: str, owner: Owner, trigger: ConversationTrigger
    ) -> ConversationMetadata:
        """Return the record to keep."""
        source = self.suggested_task or self.create_microagent
        return ConversationMetadata(
            conversation_id=conversation_id,
            user_id=owner,
            selected_repository=self.repository or (source.repo if source else None),
            selected_branch=self.selected_branch,
            git_provider=self.git_provider or (source.git_provider if source else None),
            trigger=trigger,
        )


class NamedConversation(NewConversation):
    """A conversation whose creator chooses its id."""

    conversation_id: str | None = None


class FirstMessage(NamedTuple):
    """A conversation's first message, if any, and the actions to replay."""

    message: str | None
    image_urls: list[str] | None
    file_urls: list[str] | None
    replay: Sequence[Action]


class Identity(NamedTuple):
    """A new conversation's id, and the key under which its first message is stored once."""

    conversation_id: str
    client_id: str | None
    chosen: bool = False
    """The creator chose the id, which so may be taken."""


class ConversationCreator:
    """Creates conversations; everything is validated before the first write.

    A retry with the same Idempotency-Key gives the same conversation and no second message.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._locks: KeyedLocks[str] = KeyedLocks()
        self._reading = asyncio.Lock()
        self._long: KeyedSlots[Owner] = KeyedSlots(LONG_AT_ONCE, LONG_OF_A_USER)
        self._recordings = ByteBudget(RECORDINGS_BYTES)

    async def create(self, request: Request) -> AgentLoopInfo:
        """Create the requested conversation and start its loop if possible.

        Raises what reading raises, SettingsNotFound, ModelKeyMissing, BadEvent (the message),
        BadRecording, BadKey, KeyExists (the id), StreamOverloaded (too much is to be done again) and
        TimeoutError (a long body's turn does not come).
        """
        if len(await read_json(request)) <= LONG_BODY:
            return await self._create(request)
        # The bytes of bodies that wait are bounded where they are received.
        async with self._long.of(owner_of(request), LONG_SECONDS):
            return await self._create(request)

    async def _create(self, request: Request) -> AgentLoopInfo:
        owner = owner_of(request)
        chooses = self._services.config.allow_set_conversation_id
        order = await read_body(request, NamedConversation if chooses else NewConversation)
        self._services.check_intake()
        await self._services.users.admit(owner)
        identity = self._identify(request, order, owner)
        await self._check_size(request, order)
        opening = await self._opening_of(order)
        self._hold(opening.replay)
        if opening.message is not None or opening.image_urls or opening.file_urls:
            decode_client(_message_event(opening))
        async with self._services.users.held(owner):
            record = await self._masked(
                order.record(identity.conversation_id, owner, _trigger_of(request, order))
            )
            if identity.chosen and identity.client_id is not None:
                record.custom = {CREATION_KEY: identity.client_id}
            # Two requests with one key must not write the record twice: the second would undo a title.
            async with self._locks.of(identity.conversation_id):
                await self._save(record, chosen=identity.chosen)
            return await self._services.manager.maybe_start_agent_loop(
                identity.conversation_id,
                None,
                owner,
                opening.message,
                image_urls=opening.image_urls,
                file_urls=opening.file_urls,
                client_id=identity.client_id,
                replay=opening.replay,
                record_checked=True,
            )

    async def _check_size(self, request: Request, order: NewConversation) -> None:
        """Raise TooLarge: all but a recording keeps to the limit of messages."""
        limit = self._services.config.max_message_bytes + ENVELOPE_BYTES
        if len(await request.body()) <= limit:
            return
        rest = (
            order if order.replay_json is None else order.model_copy(update={"replay_json": None})
        )
        if len(rest.model_dump_json()) > limit:
            raise too_large(limit, "max_message_bytes")

    async def _masked(self, record: ConversationMetadata) -> ConversationMetadata:
        redactor = await self._services.users.redactor(record.user_id)
        shown = ("selected_repository", "selected_branch")
        texts = {name: getattr(record, name) for name in shown}
        return record.copy_with(
            {name: redactor.redact_text(text) for name, text in texts.items() if text is not None}
        )

    async def _opening_of(self, order: NewConversation) -> FirstMessage:
        if len(order.replay_json or "") < LONG_RECORDING:
            return order.opening()
        # One at a time, so that many long ones neither fill the memory nor take all threads.
        async with self._reading:
            return await asyncio.to_thread(order.opening)

    def _hold(self, replay: Sequence[Action]) -> None:
        """Count a recording as long as anybody holds it. Raises StreamOverloaded."""
        if not isinstance(replay, RecordedActions):
            return
        if not self._recordings.take(replay.size_bytes):
            mib = RECORDINGS_BYTES // 2**20
            raise StreamOverloaded(f"{mib} MiB of recordings are being replayed; try again later")
        finalize(replay, self._recordings.give_back, replay.size_bytes).atexit = False

    def _identify(self, request: Request, order: NewConversation, owner: Owner) -> Identity:
        key = idempotency_key(request)
        digest = None if key is None else _digest_of(owner, key)
        client_id = None if digest is None else f"create:{digest}"
        if not isinstance(order, NamedConversation) or order.conversation_id is None:
            return Identity(digest or uuid.uuid4().hex, client_id)
        return Identity(check_conversation_id(order.conversation_id), client_id, chosen=True)

    async def _save(self, record: ConversationMetadata, *, chosen: bool) -> None:
        store = self._services.conversation_stores.for_user(record.user_id)
        if await store.exists(record.conversation_id):
            if chosen and not await self._is_retry(store, record):
                raise KeyExists("A conversation with this id exists; choose another id or none")
            return
        try:
            await store.save_metadata(record)
        except ConversationNotFound as error:
            raise KeyExists("This conversation id was used before") from error

    async def _is_retry(self, store: ConversationStore, record: ConversationMetadata) -> bool:
        key = record.custom.get(CREATION_KEY)
        known = (await store.get_metadata(record.conversation_id)).custom.get(CREATION_KEY)
        return key is not None and key == known


def _trigger_of(request: Request, order: NewConversation) -> ConversationTrigger:
    if request.headers.get("authorization", "").lower().startswith("bearer "):
        return ConversationTrigger.OPENHANDS_API
    if order.suggested_task is not None:
        return ConversationTrigger.SUGGESTED_TASK
    if order.create_microagent is not None:
        return ConversationTrigger.MICROAGENT_MANAGEMENT
    return ConversationTrigger.GUI


def _message_event(opening: FirstMessage) -> dict[str, Any]:
    arguments = {
        "content": opening.message or "",
        "image_urls": opening.image_urls or [],
        "file_urls": opening.file_urls,
    }
    return {"action": "message", "args": arguments}


def _digest_of(owner: Owner, key: str) -> str:
    return hashlib.sha256(orjson.dumps([owner, key])).hexdigest()[:32]
