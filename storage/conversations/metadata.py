"""Metadata of a conversation, and changes of single fields of it."""

import json
from collections.abc import Mapping
from copy import deepcopy
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    JsonValue,
    ValidationError,
)

from storage.errors import BadValue
from storage.result_set import ResultSet

MAX_COUNT = 2**63 - 1
"""The largest count that every medium can hold."""

COUNTED_FIELDS = ("accumulated_cost", "prompt_tokens", "completion_tokens", "total_tokens")
FOLDED_FIELDS = frozenset(("last_updated_at", "last_message_at", *COUNTED_FIELDS))
"""The fields that are a fold of the conversation's log once it has events."""


class ProviderType(StrEnum):
    """A git host."""

    GITHUB = "github"
    GITLAB = "gitlab"
    BITBUCKET = "bitbucket"
    AZURE_DEVOPS = "azure_devops"
    ENTERPRISE_SSO = "enterprise_sso"


class ConversationTrigger(StrEnum):
    """The origin of a conversation."""

    RESOLVER = "resolver"
    GUI = "gui"
    SUGGESTED_TASK = "suggested_task"
    OPENHANDS_API = "openhands_api"
    SLACK = "slack"
    MICROAGENT_MANAGEMENT = "microagent_management"
    JIRA = "jira"
    JIRA_DC = "jira_dc"
    LINEAR = "linear"
    BITBUCKET = "bitbucket"


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("the moment is out of range in UTC") from error


def _now() -> datetime:
    return datetime.now(UTC)


def _encodable(text: str) -> str:
    text.encode()
    return text


def _plain_json(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    return value


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
"""Marks an integer whose JSON may have a fraction of zero; must follow its bounds."""

Text = Annotated[str, AfterValidator(_encodable)]
"""Text that has a UTF-8 form: lone surrogates are refused."""

UtcDatetime = Annotated[AwareDatetime, AfterValidator(_in_utc)]
"""An aware time, converted to UTC; naive ones are refused."""

Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]


class ChangeableMetadata(BaseModel):
    """The fields of a record that may change during its life."""

    model_config = ConfigDict(validate_assignment=True)

    selected_repository: Text | None = None
    selected_branch: Text | None = None
    git_provider: ProviderType | None = None
    title: Text | None = None
    last_updated_at: UtcDatetime | None = None
    trigger: ConversationTrigger | None = None
    pr_number: list[Count] = Field(default_factory=list)
    llm_model: Text | None = None
    accumulated_cost: FiniteFloat = 0.0
    prompt_tokens: Count = 0
    completion_tokens: Count = 0
    total_tokens: Count = 0
    last_message_at: UtcDatetime | None = None
    sandbox_id: Text | None = None
    conversation_version: Text | None = None
    custom: Annotated[dict[str, JsonValue], AfterValidator(_plain_json)] = Field(
        default_factory=dict
    )
    """JSON values of the embedding program, without NaN and infinities; stored and returned
    unchanged."""


CONTAINERS = frozenset(("pr_number", "custom"))
"""Fields whose values can be changed from within, past validation."""


class ConversationMetadata(ChangeableMetadata):
    """One conversation's record.

    Times are aware UTC; cost is in US dollars. Unknown keys are dropped when a record is read
    (older ones carry `github_user_id`).
    """

    conversation_id: Text
    user_id: Text | None = None
    created_at: UtcDatetime = Field(default_factory=_now)

    def copy_with(self, replaced: Mapping[str, Any]) -> Self:
        """Return an independent copy with some fields replaced by values that are valid already."""
        apart = {"pr_number": list(self.pr_number), "custom": deepcopy(self.custom)}
        return self.model_copy(update=apart | dict(replaced))

    def checked_copy(self, **replaced: Any) -> Self:
        """Return an independent, fully validated copy with some fields replaced.

        Needed because values inside `custom` and `pr_number` can be set without validation. Raises
        BadValue when a value does not fit its field.
        """
        try:
            return type(self).model_validate(self.__dict__ | replaced)
        except ValidationError as error:
            raise BadValue(_first_problem(error)) from error


class MetadataChange(ChangeableMetadata):
    """New values for some fields of a record: a field that was not given stays as it is.

    A field that was given as None is set to None; `pr_number` and `custom` are replaced whole.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    def values(self) -> dict[str, Any]:
        """Return the given fields by name."""
        return {name: getattr(self, name) for name in sorted(self.model_fields_set)}

    def apply_to(self, metadata: ConversationMetadata) -> ConversationMetadata:
        """Return an independent copy of `metadata` with the given fields replaced."""
        values = self.values()
        if not CONTAINERS.isdisjoint(values):
            return metadata.checked_copy(**values)
        return metadata.copy_with(values)


class ConversationMetadataResultSet(ResultSet[ConversationMetadata]):
    """One page of records, newest first."""


def default_title(conversation_id: str) -> str:
    """Return the title of a conversation that was given none."""
    return f"Conversation {conversation_id[:5]}"


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
