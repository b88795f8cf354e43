"""Usage by user, model and day."""

import csv
import io

from starlette.requests import Request
from starlette.responses import Response

from events.usage import UsageLedger
from server.routes.admin.models import EmptyBody, Recounted, Usage, UsageQuery, answer
from server.routes.endpoint import Tag, described
from server.routes.request import read_body, read_query
from server.routes.services import Services
from storage.usage.base import UsageStore
from storage.usage.model import Span, UsageTotal

CATCH_UP_SECONDS = 5.0
LINES = 10_000
COLUMNS = ("day", "user_id", "model", "events", "prompt_tokens", "completion_tokens", "cost")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class UsageRoutes:
    """Endpoints of usage: count the new events of the logs, then report."""

    def __init__(self, services: Services, ledger: UsageLedger, usage: UsageStore) -> None:
        self._services = services
        self._ledger = ledger
        self._usage = usage

    @described(Tag.ADMINISTRATION, answer=Usage, text_type="text/csv", query=UsageQuery)
    async def read(self, request: Request) -> Response:
        """Report usage per day, user and model, as JSON or CSV."""
        query = read_query(request, UsageQuery)
        caught_up = await self._ledger.catch_up(CATCH_UP_SECONDS)
        lines = await self._usage.totals(Span(query.since, query.until), LINES + 1)
        if query.format == "csv":
            headers = {
                "content-disposition": 'attachment; filename="usage.csv"',
                "x-usage-complete": str(caught_up.complete).lower(),
                "x-usage-truncated": str(len(lines) > LINES).lower(),
            }
            return Response(_csv(lines[:LINES]), 200, headers, "text/csv; charset=utf-8")
        return answer(
            Usage(
                complete=caught_up.complete,
                failed=caught_up.failed,
                truncated=len(lines) > LINES,
                results=lines[:LINES],
            )
        )

    @described(Tag.ADMINISTRATION, answer=Recounted, body=EmptyBody)
    async def recount(self, request: Request) -> Response:
        """Discard the counts of all existing conversations, but not of deleted ones."""
        await read_body(request, EmptyBody)
        count, page_id = 0, None
        while True:
            page = await self._services.conversation_stores.search_all(page_id, 100)
            for record in page.results:
                await self._ledger.recount(record.conversation_id)
            count += len(page.results)
            page_id = page.next_page_id
            if page_id is None:
                return answer(Recounted(conversations=count))


def _csv(lines: list[UsageTotal]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for line in lines:
        values = line.model_dump()
        writer.writerow([_cell(values[name]) for name in COLUMNS])
    return text.getvalue()


def _cell(value: object) -> object:
    # A spreadsheet would carry out a user's or a model's name that begins like a formula.
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
