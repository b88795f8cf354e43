"""The addresses of the administration."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.routing import BaseRoute

from events.usage import UsageLedger
from server.access.rate_limits import RateLimits
from server.config.settings import ServerConfig
from server.conversations.drain import Drain
from server.conversations.retention import Retention
from server.observability.logs import FaultCounts
from server.routes.admin.access import AdminAccess
from server.routes.admin.backups import BackupRoutes
from server.routes.admin.live import LiveRoutes
from server.routes.admin.records import RecordRoutes
from server.routes.admin.retention import RetentionRoutes
from server.routes.admin.trail import AuditTrail
from server.routes.admin.usage import UsageRoutes
from server.routes.endpoint import resource
from server.routes.services import Services
from storage.audit.base import AuditLog
from storage.inventory import Inventory
from storage.usage.base import UsageStore

if TYPE_CHECKING:
    from events.transfer.schedule import Backups


@dataclass(frozen=True, slots=True)
class AdminStores:
    """The stores administration reads."""

    usage: UsageStore
    audit: AuditLog
    inventory: Inventory
    backups: "Callable[[], Backups] | None" = None
    """Returns what makes backups of the storage, loaded when it is needed first."""


@dataclass(frozen=True, slots=True)
class Administration:
    """Dependencies of administration besides the services."""

    kept: AdminStores
    ledger: UsageLedger
    drain: Drain
    retention: Retention
    faults: FaultCounts
    trail: AuditTrail


@asynccontextmanager
async def administration(
    config: ServerConfig,
    kept: AdminStores,
    ledger: UsageLedger,
    drain: Drain,
    retention: Retention,
    rates: RateLimits,
) -> AsyncIterator[Administration]:
    """Yield the dependencies of administration, open until the block is left."""
    trail = AuditTrail(kept.audit, AdminAccess(config, rates))
    with FaultCounts() as faults:
        try:
            yield Administration(kept, ledger, drain, retention, faults, trail)
        finally:
            await drain.close()
            await trail.flush()


def admin_routes(services: Services, parts: Administration) -> list[BaseRoute]:
    """Return the routes below /api/admin, each recorded by the audit."""
    look, act = parts.trail.look, parts.trail.act
    live = LiveRoutes(services, parts.drain, parts.faults)
    records = RecordRoutes(services, parts.kept.inventory, parts.kept.audit, parts.trail)
    usage = UsageRoutes(services, parts.ledger, parts.kept.usage)
    retention = RetentionRoutes(parts.retention)
    top = "/api/admin"
    one_loop = f"{top}/loops/{{conversation_id}}/close"
    one_connection = f"{top}/connections/{{connection_id}}/disconnect"
    return [
        resource(f"{top}/overview", GET=look("overview", live.overview)),
        resource(f"{top}/conversations", GET=look("list conversations", records.conversations)),
        resource(f"{top}/loops", GET=look("list loops", live.loops)),
        resource(one_loop, POST=act("close loop", live.close_loop)),
        resource(f"{top}/connections", GET=look("list connections", live.connections)),
        resource(one_connection, POST=act("disconnect", live.disconnect)),
        resource(
            f"{top}/drain",
            GET=look("read drain", live.drain_state),
            POST=act("drain", live.drain),
            DELETE=act("undo drain", live.undo_drain),
        ),
        resource(f"{top}/storage", GET=look("storage report", records.storage)),
        resource(f"{top}/backups", POST=act("back up", BackupRoutes(parts.kept.backups).make)),
        resource(
            f"{top}/retention",
            GET=look("read retention", retention.read),
            POST=act("sweep by age", retention.sweep),
        ),
        resource(f"{top}/usage", GET=look("read usage", usage.read)),
        resource(f"{top}/usage/recount", POST=act("recount usage", usage.recount)),
        resource(f"{top}/settings", GET=look("read settings", records.settings)),
        resource(f"{top}/audit", GET=look("read audit", records.audit)),
    ]
