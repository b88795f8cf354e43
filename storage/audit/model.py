"""One line of the audit log."""

from pydantic import AwareDatetime, BaseModel, ConfigDict


class AuditRecord(BaseModel):
    """One call of the administration: caller, action, origin and outcome; never a key or content.

    `acting` tells calls that change something and were let in. The same look, or the same
    refusal, again within a short time is counted in `count` and `last_at`. `id` is 0 until it is
    kept, and grows.
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
