"""Moments and days as queries spell them."""

import re
from datetime import date
from typing import Annotated

from pydantic import BeforeValidator

from storage.conversations.metadata import UtcDatetime

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def _written_out(text: object) -> object:
    # A bare number would else be taken for seconds since 1970.
    if isinstance(text, str) and not _DATE.match(text):
        raise ValueError("a moment is written as in 2026-03-02T09:15:07Z, a day as in 2026-03-02")
    return text


Moment = Annotated[UtcDatetime, BeforeValidator(_written_out)]
"""A moment with its offset."""
Day = Annotated[date, BeforeValidator(_written_out)]
