"""A user's settings, and changes to them."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, SecretStr

from storage.conversations.metadata import MAX_COUNT, WHOLE, Text
from storage.users.mcp import McpConfig

MAX_CHARACTERS = 1000
MAX_KEY_CHARACTERS = 8192
MIN_CONDENSER_SIZE = 20
LONGEST_TURN_SECONDS = 100 * 365 * 24 * 60 * 60
"""A hundred years: timers of some systems end at 292."""

KEY_FIELDS = ("llm_api_key", "search_api_key", "sandbox_api_key")
"""Fields that are secrets as a whole; `mcp_config` holds secrets inside."""

KEPT_WHEN_NULL = frozenset((*KEY_FIELDS, "llm_model", "llm_base_url", "user_consents_to_analytics"))
"""Fields that null in a change leaves unchanged: forms send it for fields they do not show."""

KEPT_WHEN_EMPTY = frozenset(("search_api_key",))
"""In a change, an empty text leaves these as they are: the form sends it with every save."""

Words = Annotated[Text, Field(max_length=MAX_CHARACTERS)]
Key = Annotated[SecretStr, Field(max_length=MAX_KEY_CHARACTERS)]
Count = Annotated[int, Field(ge=1, le=MAX_COUNT), WHOLE]


class Settings(BaseModel):
    """One user's settings; None is the server's default. Immutable."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    language: Words | None = None
    agent: Words | None = None
    max_iterations: Count | None = None
    max_budget_per_task: Annotated[FiniteFloat, Field(gt=0)] | None = None
    turn_seconds: Annotated[FiniteFloat, Field(gt=0, le=LONGEST_TURN_SECONDS)] | None = None
    confirmation_mode: bool | None = None
    security_analyzer: Words | None = None
    llm_model: Words | None = None
    llm_base_url: Words | None = None
    llm_api_key: Key | None = None
    search_api_key: Key | None = None
    sandbox_api_key: Key | None = None
    sandbox_base_container_image: Words | None = None
    sandbox_runtime_container_image: Words | None = None
    remote_runtime_resource_factor: Count | None = None
    enable_default_condenser: bool | None = None
    condenser_max_size: Annotated[int, Field(ge=MIN_CONDENSER_SIZE, le=MAX_COUNT), WHOLE] | None = (
        None
    )
    enable_sound_notifications: bool | None = None
    enable_proactive_conversation_starters: bool | None = None
    enable_solvability_analysis: bool | None = None
    user_consents_to_analytics: bool | None = None
    mcp_config: McpConfig | None = None
    email: Words | None = None
    email_verified: bool | None = None
    git_user_name: Words | None = None
    git_user_email: Words | None = None
    v1_enabled: bool | None = None

    def has(self, name: str) -> bool:
        """Return whether that key is stored, and is more than blanks."""
        key: SecretStr | None = getattr(self, name)
        return key is not None and bool(key.get_secret_value().strip())

    def shown(self) -> dict[str, Any]:
        """Return the set fields as JSON values, without keys and with secrets inside hidden."""
        chosen = self.model_dump(exclude={*KEY_FIELDS, "mcp_config"}, exclude_none=True)
        if self.mcp_config is not None:
            chosen["mcp_config"] = self.mcp_config.shown()
        return chosen

    def masks(self) -> dict[str, str]:
        """Return every secret value under a unique name."""
        keys = {
            name: getattr(self, name).get_secret_value() for name in KEY_FIELDS if self.has(name)
        }
        return keys | ({} if self.mcp_config is None else self.mcp_config.masks())

    def git_identity(self) -> dict[str, str]:
        """Return the variables from which git takes who commits, as far as the user has said it."""
        chosen = {"NAME": self.git_user_name, "EMAIL": self.git_user_email}
        return {
            f"GIT_{role}_{name}": value
            for role in ("AUTHOR", "COMMITTER")
            for name, value in chosen.items()
            # No variable can have a NUL.
            if value and "\0" not in value
        }

    def merged(self, change: "Settings") -> "Settings":
        """Return these settings with the fields given in `change`; all others stay.

        Null resets a field to the server's default, except those of KEPT_WHEN_NULL. An empty text
        clears a key, except those of KEPT_WHEN_EMPTY. Hidden secrets of `mcp_config` are kept;
        raises BadValue if there is none to keep.
        """
        values = {name: getattr(self, name) for name in type(self).model_fields}
        for name in change.model_fields_set:
            value = getattr(change, name)
            if isinstance(value, McpConfig):
                value = value.completed(self.mcp_config)
            elif isinstance(value, SecretStr) and not value.get_secret_value():
                value = values[name] if name in KEPT_WHEN_EMPTY else None
            elif value is None and name in KEPT_WHEN_NULL:
                continue
            values[name] = value
        return Settings(**values)
