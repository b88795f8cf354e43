"""The AuditLog contract: the newest calls to the administration, kept within a bound."""

from abc import ABC, abstractmethod

from pydantic import AwareDatetime, BaseModel, ConfigDict

KEPT = 10_000
"""Maximum number of records of acts, and also of looks and refusals; the oldest are dropped first.

The separate bounds keep looks from displacing acts.
"""
TRIM = 100
"""So many may be there beyond the bound until they are removed together."""


class AuditRecord(BaseModel):
    """One call of the administration: caller, action, origin and outcome; never a key or content.

    `acting` marks admitted calls that change something. The same look or refusal within a short
    time is counted in `count` and `last_at`. `id` is 0 until the record is stored, and ascends.
    """

    model_config = ConfigDict(frozen=True)

    id: int = 0
    at: AwareDatetime
    last_at: AwareDatetime
    count: int = 1
    who: str
    client: str | None
    action: str
    target: str | None = None
    outcome: str
    acting: bool


class AuditLog(ABC):
    """Every call may raise Unavailable, writes OutcomeUnknown as well."""

    @abstractmethod
    async def add(self, record: AuditRecord) -> AuditRecord:
        """Keep a record; durable when done. Return it with its id, above all before."""

    @abstractmethod
    async def change(self, record: AuditRecord) -> None:
        """Replace the record of that id; a record that was removed in the meantime is ignored."""

    @abstractmethod
    async def page(self, before: int, limit: int, *, only_acts: bool = False) -> list[AuditRecord]:
        """Return at most `limit` records with ids below `before`, the newest first."""
