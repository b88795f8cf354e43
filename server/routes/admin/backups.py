"""Backups of the storage, made by the server while it works."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from server.errors import NotSupported
from server.routes.admin.models import Backup, EmptyBody, answer
from server.routes.endpoint import Tag, described
from server.routes.request import read_body
from storage.errors import Unavailable

if TYPE_CHECKING:
    from events.transfer.schedule import Backups

logger = logging.getLogger(__name__)


class BackupRoutes:
    """Makes backups on request."""

    def __init__(self, backups: "Callable[[], Backups] | None") -> None:
        self._backups = backups

    @described(
        Tag.ADMINISTRATION, answer=Backup, body=EmptyBody, raises=(NotSupported, Unavailable)
    )
    async def make(self, request: Request) -> Response:
        """Make a backup in the server's directory for backups, verify it, and say where it is.

        Raises NotSupported, Unavailable.
        """
        await read_body(request, EmptyBody)
        if self._backups is None:
            raise NotSupported("This server makes no backups")
        try:
            made = await self._backups().make()
        except OSError as error:
            logger.exception("cannot write a backup")
            raise Unavailable(f"the backup cannot be written: {error.strerror}") from error
        return answer(
            Backup(
                file=str(made.path),
                bytes=made.size_bytes,
                created_at=made.summary.created_at,
                conversations=made.summary.conversations,
                events=made.summary.events,
                damage=list(made.summary.damage),
            )
        )
