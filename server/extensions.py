"""The settings that name classes of the embedder's own."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

_CLASS_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*[:.][^\W\d]\w*")


def _check_class_name(value: str) -> str:
    if _CLASS_NAME.fullmatch(value) is None:
        raise ValueError("a class is written package.module:Class")
    return value


ClassName = Annotated[str, AfterValidator(_check_class_name)]
"""`package.module:Class`; a dot before the class is taken as well."""


class Extensions(BaseModel):
    """One setting per contract that a custom class may fill; None leaves the built-in one."""

    agent_class: ClassName | None = Field(
        default=None,
        description="An own agent class as `package.module:Class`, used in place of the built-in.",
    )
    runtime_class: ClassName | None = Field(
        default=None,
        description="An own class that builds runtimes, a `RuntimeBuilder`, as `package.module:Class`.",
    )
    conversation_store_class: ClassName | None = Field(
        default=None,
        description="An own class of conversation records, a `ConversationStore`, as `package.module:Class`; "
        "events stay where `storage` keeps them.",
    )
    settings_store_class: ClassName | None = Field(
        default=None,
        description="An own class of users' settings, a `SettingsStore`, as `package.module:Class`.",
    )
    secrets_store_class: ClassName | None = Field(
        default=None,
        description="An own class of users' secrets, a `SecretsStore`, as `package.module:Class`; it seals "
        "them itself.",
    )
    conversation_manager_class: ClassName | None = Field(
        default=None,
        description="An own `ConversationManager` as `package.module:Class`; it is made with the parts that "
        "the built-in one is made with.",
    )
    monitoring_listener_class: ClassName | None = Field(
        default=None,
        description="An own `MonitoringListener` as `package.module:Class`, told of sessions, events and loops.",
    )
    user_auth_class: ClassName | None = Field(
        default=None,
        description="An own `UserAuth` as `package.module:Class`, which tells users apart by what they send.",
    )
