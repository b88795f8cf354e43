"""Suites over every back-end: a class of them says which kinds there are."""

from collections.abc import Sequence
from typing import Any

import pytest


class OverKinds:
    """A class of tests whose fixture `kind` is `each_of` some."""

    chosen: str


def each_of(kinds: Sequence[str]) -> Any:
    """A fixture for the body of a class: its tests run once for each kind, which is `chosen`."""

    @pytest.fixture(autouse=True, params=kinds)
    def kind(self: OverKinds, request: pytest.FixtureRequest) -> None:
        self.chosen = request.param

    return kind
