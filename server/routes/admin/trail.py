"""Records every call in the audit, whether admitted or refused."""

import logging
from collections import OrderedDict
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from functools import wraps

from starlette.requests import Request
from starlette.responses import Response

from server.errors import Forbidden, RateLimited, Unauthorized, answer_for
from server.routes.admin.access import NOBODY, AdminAccess
from server.routes.endpoint import Endpoint
from storage.audit.base import AuditLog, AuditRecord
from storage.errors import StorageError

logger = logging.getLogger(__name__)

TOGETHER = timedelta(seconds=60)
"""Seconds within which the same look or refusal is counted in the first one's record."""
OPEN_LIMIT = 256
"""Records that may still be counted up; beyond it the oldest is closed."""
TARGET_CHARACTERS = 100

Alike = tuple[str, str | None, str, str | None, str]


class AuditTrail:
    """Wraps the endpoints of administration.

    An act is recorded before it is done, and not done where that fails; its outcome is added
    afterwards. A look or a refusal is recorded when it is over: a page that looks every few
    seconds, or somebody who tries keys, is one record a minute, whose count reaches the disk at
    the end of that minute. Where that fails the log says so and the answer is given.
    """

    def __init__(self, audit: AuditLog, access: AdminAccess) -> None:
        self._audit = audit
        self._access = access
        self._open: OrderedDict[Alike, AuditRecord] = OrderedDict()

    def look(self, action: str, endpoint: Endpoint) -> Endpoint:
        """Wrap an endpoint that changes nothing."""

        @wraps(endpoint)
        async def guarded(request: Request) -> Response:
            who = await self._checked(action, request)
            return await self._looked(who, action, request, endpoint)

        return guarded

    def act(self, action: str, endpoint: Endpoint) -> Endpoint:
        """Wrap an endpoint that changes something."""

        @wraps(endpoint)
        async def guarded(request: Request) -> Response:
            who = await self._checked(action, request)
            begun = _record(request, who, action, "begun", acting=True)
            kept = await self._audit.add(begun)
            try:
                response = await endpoint(request)
            except Exception as error:
                await self._quietly(self._audit.change(_ended(kept, _outcome_of(error))))
                raise
            await self._quietly(self._audit.change(_ended(kept, "done")))
            return response

        return guarded

    async def flush(self) -> None:
        """Store every count that is not stored yet, except of records that are being added."""
        for alike in [one for one, record in self._open.items() if record.id]:
            await self._close(alike)

    async def _checked(self, action: str, request: Request) -> str:
        try:
            return self._access.check(request)
        except (Forbidden, RateLimited, Unauthorized) as error:
            # Whoever is refused decides about nothing that is kept but his address.
            refused = _record(request, NOBODY, action, _outcome_of(error), acting=False)
            await self._note(refused.model_copy(update={"target": None}))
            raise

    async def _looked(
        self, who: str, action: str, request: Request, endpoint: Endpoint
    ) -> Response:
        outcome = "done"
        try:
            return await endpoint(request)
        except Exception as error:
            outcome = _outcome_of(error)
            raise
        finally:
            await self._note(_record(request, who, action, outcome, acting=False))

    async def _note(self, record: AuditRecord) -> None:
        while (oldest := self._oldest()) and record.at - self._open[oldest].at > TOGETHER:
            await self._close(oldest)
        alike: Alike = (record.who, record.client, record.action, record.target, record.outcome)
        known = self._open.get(alike)
        if known is not None:
            counted = {"count": known.count + 1, "last_at": record.at}
            self._open[alike] = known.model_copy(update=counted)
            return
        # Entered before it is kept: those that come meanwhile are counted in it.
        self._open[alike] = record
        try:
            kept = await self._audit.add(record)
        except BaseException as error:
            del self._open[alike]
            if not isinstance(error, StorageError):
                raise
            logger.exception("cannot record an admin request in the audit")
            return
        self._open[alike] = self._open[alike].model_copy(update={"id": kept.id})
        if len(self._open) > OPEN_LIMIT and (oldest := self._oldest()):
            await self._close(oldest)

    def _oldest(self) -> Alike | None:
        """Return the oldest record that has its id: only such a one can be closed."""
        return next((alike for alike, record in self._open.items() if record.id), None)

    async def _close(self, alike: Alike) -> None:
        record = self._open.pop(alike, None)
        if record is not None and record.count > 1:
            await self._quietly(self._audit.change(record))

    async def _quietly(self, change: Awaitable[None]) -> None:
        try:
            await change
        except StorageError:
            logger.exception("cannot update the audit record of an admin request")


def _record(request: Request, who: str, action: str, outcome: str, *, acting: bool) -> AuditRecord:
    now = datetime.now(UTC)
    target = next(iter(request.path_params.values()), None)
    return AuditRecord(
        at=now,
        last_at=now,
        who=who,
        client=None if request.client is None else request.client.host,
        action=action,
        target=None if target is None else _printable(str(target)),
        outcome=outcome,
        acting=acting,
    )


def _ended(record: AuditRecord, outcome: str) -> AuditRecord:
    return record.model_copy(update={"outcome": outcome, "last_at": datetime.now(UTC)})


def _outcome_of(error: Exception) -> str:
    return answer_for(error).code


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else "?" for one in text[:TARGET_CHARACTERS])
