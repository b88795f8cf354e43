"""The conformance suite of a Runtime's repository, as tests of pytest and pytest-asyncio."""

import pytest

from runtime_stub.base import FileChange, FileVersions
from runtime_stub.conformance.fixtures import LEAVING, RuntimeFixtures, run
from runtime_stub.errors import BadWorkspacePath


class RuntimeRepositorySuite(RuntimeFixtures):
    """The contract of a Runtime's repository."""

    async def test_changes_are_those_since_the_last_commit(self, runtime):
        assert await runtime.changes() is None

        await run(runtime, "git init && echo 1 > b && echo 1 > c && echo 1 > a && git add b c")
        first = [FileChange("U", "a"), FileChange("A", "b"), FileChange("A", "c")]
        assert await runtime.changes() == first

        await run(runtime, "git add a; git commit -m first")
        assert await runtime.changes() == []

        await run(runtime, "echo 2 > a; rm b; touch d")
        assert await runtime.changes() == [
            FileChange("M", "a"),
            FileChange("D", "b"),
            FileChange("U", "d"),
        ]

    async def test_a_path_is_told_as_it_was_committed_and_as_it_is(self, runtime):
        assert await runtime.versions("a") is None

        await run(
            runtime, "git init && echo 1 > a && echo 1 > b && git add a b && git commit -m first"
        )
        await run(runtime, "echo 2 > a; rm b; echo 3 > c")

        assert await runtime.versions("a") == FileVersions(b"1\n", b"2\n")
        assert await runtime.versions("b") == FileVersions(b"1\n", None)
        assert await runtime.versions("c") == FileVersions(None, b"3\n")
        assert await runtime.versions("d") == FileVersions(None, None)
        for path in LEAVING:
            with pytest.raises(BadWorkspacePath):
                await runtime.versions(path)

    async def test_the_branch_is_the_one_that_was_switched_to(self, runtime):
        assert await runtime.branch() is None

        await run(runtime, "git init && echo 1 > a && git add a && git commit -m first")
        before = await runtime.branch()
        await run(runtime, "git checkout -b topic")

        assert (before, await runtime.branch()) == ("main", "topic")
