"""The setting of administration, and where every setting in force was found."""

from typing import Annotated

from pydantic import BaseModel, Field, PrivateAttr, SecretStr


class Administrable(BaseModel):
    """Settings that say where they come from."""

    admin_key: Annotated[SecretStr, Field(min_length=16)] | None = Field(
        default=None,
        description="The key of `/api/admin`. Unset, only this machine, without a proxy, may use it.",
    )
    _places: dict[str, str] = PrivateAttr(default_factory=dict)

    def place_of(self, field: str) -> str:
        """Where a setting was found, in a person's words; "default" where nowhere."""
        return self._places.get(field, "default")
