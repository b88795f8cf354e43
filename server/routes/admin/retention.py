"""Administration of retention: what is past its age limit, and a sweep on request."""

from starlette.requests import Request
from starlette.responses import Response

from server.conversations.retention import Retention
from server.errors import NotSupported
from server.routes.admin.models import (
    AgeLimitsInForce,
    EmptyBody,
    RetentionLine,
    RetentionReport,
    Sweep,
    answer,
)
from server.routes.endpoint import Tag, described
from server.routes.request import read_body

LOOKED_AT = 1_000
"""Conversations past their limits that one report looks at."""
SWEPT = 100
"""Conversations that a sweep on request deletes: somebody waits for it."""


class RetentionRoutes:
    """A report that changes nothing, and a sweep like those that the server makes by itself."""

    def __init__(self, retention: Retention) -> None:
        self._retention = retention

    @described(Tag.ADMINISTRATION, answer=RetentionReport, raises=(NotSupported, TimeoutError))
    async def read(self, _request: Request) -> Response:
        """Report which conversations are past their age limit, by user; nothing is deleted.

        Raises NotSupported, TimeoutError.
        """
        limits = self._retention.limits
        survey = await self._retention.survey(LOOKED_AT)
        return answer(
            RetentionReport(
                limits=AgeLimitsInForce(days=limits.days, by_user=dict(limits.by_user)),
                held_until=self._retention.held_until,
                complete=survey.complete,
                results=[
                    RetentionLine(
                        user_id=user.user_id,
                        days=user.days,
                        conversations=user.conversations,
                        waiting=user.waiting,
                        events=user.events,
                        oldest=user.oldest,
                        newest=user.newest,
                    )
                    for user in survey.users
                ],
            )
        )

    @described(
        Tag.ADMINISTRATION, answer=Sweep, body=EmptyBody, raises=(NotSupported, TimeoutError)
    )
    async def sweep(self, request: Request) -> Response:
        """Delete conversations past their age limit now, at most 100.

        Raises NotSupported, TimeoutError.
        """
        await read_body(request, EmptyBody)
        swept = await self._retention.sweep(SWEPT)
        return answer(
            Sweep(
                deleted=swept.deleted,
                waiting=swept.waiting,
                failed=swept.failed,
                more=swept.more,
                held_until=swept.held_until,
            )
        )
