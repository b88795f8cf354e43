"""The files of a running workspace, and what changed in it."""

import asyncio
import io
import os
import zipfile

import pytest
from anyio.to_thread import current_default_thread_limiter

from server.routes.files import ARCHIVE_BYTES, RuleFile, read_rules, shown, zipped
from tests.support.extensions import ReadersRuntime
from tests.support.rest import EVERY, assert_refused, rest_server
from tests.support.waiting import WAIT_SECONDS

ONE = f"{EVERY}/c1"
HERE = "tests.support.extensions"
ALIKE = tuple(os.fsdecode(name) for name in (b"a\xe8", b"a\xe9"))
"""Names in Latin-1, as Python gives them."""
PATHS = ["/list-files", "/select-file?file=a", "/zip-directory", "/git/diff?path=a"]


@pytest.fixture
async def workspace(rest):
    """The runtime of a conversation that runs."""
    await rest.keep("c1", None)
    await rest.ask("POST", f"{ONE}/start", json={})
    await rest.wait_until_idle("c1")
    async with rest.application.manager.attach("c1", None) as conversation:
        yield conversation.loop.runtime


async def run(rest, command):
    await rest.ask("POST", f"{ONE}/message", json={"message": f"/run {command}"})
    return await rest.wait_for(
        "c1",
        lambda event: event.get("observation") == "run" and event["extras"]["command"] == command,
    )


@pytest.mark.parametrize("path", PATHS)
async def test_of_an_unknown_conversation_nothing_is_answered(rest, path):
    assert_refused(await rest.ask("GET", ONE + path), 404, "conversation_not_found")


@pytest.mark.parametrize("path", PATHS)
async def test_without_a_running_loop_there_is_nothing_and_none_is_started(rest, path):
    await rest.keep("c1", None)

    assert_refused(await rest.ask("GET", ONE + path), 404, "not_found")
    assert await rest.application.manager.get_agent_loop_info() == []


async def test_a_folder_is_listed_without_what_nobody_looks_for(rest, workspace):
    for path in ("b.py", "a/c.txt", ".git/config", ".DS_Store", "node_modules/x", "__pycache__/y"):
        await workspace.write_file(path, b"")

    root = await rest.ask("GET", f"{ONE}/list-files")
    inside = await rest.ask("GET", f"{ONE}/list-files?path=/workspace/a")

    assert (root.status_code, root.json()) == (200, ["a/", "b.py"])
    assert inside.json() == ["c.txt"]


async def test_what_gitignore_names_is_not_listed_here_and_below(rest, workspace):
    await workspace.write_file(".gitignore", b"*.log\n!keep.log\nbuild/\na/secret.txt\n")
    await workspace.write_file("a/.gitignore", b"local")
    for path in ("x.log", "keep.log", "build/o", "a/y.log", "a/secret.txt", "a/local", "a/z"):
        await workspace.write_file(path, b"")

    root = await rest.ask("GET", f"{ONE}/list-files")
    inside = await rest.ask("GET", f"{ONE}/list-files?path=a")

    assert root.json() == [".gitignore", "a/", "keep.log"]
    assert inside.json() == [".gitignore", "z"]


async def test_rules_made_to_take_for_ever_hold_nobody_up(rest, workspace):
    deep = "/".join(["a"] * 120)
    lines = [f"**/a/**/{'*a' * 20}b{number}" for number in range(900)]
    await workspace.write_file(".gitignore", "\n".join(lines).encode())
    await workspace.write_file(f"{deep}/{'a' * 200}", b"")

    ticks = Ticks()

    answer = await rest.ask("GET", f"{ONE}/list-files?path={deep}")

    assert answer.json() == ["a" * 200]
    assert ticks.count > 10  # the loop served others meanwhile


class Ticks:
    """Count how often the event loop gets round to something else."""

    def __init__(self):
        self.count = 0
        self._loop = asyncio.get_running_loop()
        self._tick()

    def _tick(self):
        self.count += 1
        self._loop.call_later(0.01, self._tick)


def names_shown(text, *names, below=""):
    return shown(names, [RuleFile(below, read_rules(text))])[0]


@pytest.mark.parametrize(
    ("text", "hidden", "visible"),
    [
        ("*.log\n!keep.log", ["x.log"], ["keep.log", "x.logs"]),
        ("build/", ["build/"], ["build", "rebuild/"]),
        ("build", ["build/", "build"], []),
        ("/top", ["top"], ["stop"]),
        ("a/**/b", [], ["b"]),
        ("\\#x\n# comment\n\\!y", ["#x", "!y"], ["# comment"]),
        ("te[sx]t\nname[a-c]?", ["test", "text", "nameb1"], ["tet", "named1"]),
        ("trailing   \nkeep\\ ", ["trailing", "keep "], ["keep"]),
        ("[z-a]\n[", [], ["z", "["]),
        ("*", ["anything", "folder/"], []),
        ("\u00e9\u00e8*", ["\u00e9\u00e8\u00ea"], ["e"]),
    ],
)
def test_rules_are_read_as_git_reads_them(text, hidden, visible):
    assert names_shown(text, *hidden, *visible) == visible


def test_a_folder_that_is_ignored_shows_what_it_has_to_whoever_asks_for_it():
    assert names_shown("build/", "o.txt", "build/", below="build/") == ["o.txt"]


def test_the_nearest_rules_count():
    near, far = read_rules("!x.log"), read_rules("*.log")

    assert shown(["x.log", "y.log"], [RuleFile("", near), RuleFile("a/", far)]) == (["x.log"], True)


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("/list-files?path=missing", 404, "file_not_found"),
        ("/list-files?path=../..", 400, "bad_path"),
        ("/select-file", 400, "bad_request"),
        ("/select-file?file=missing", 404, "file_not_found"),
        ("/select-file?file=/etc/passwd", 400, "bad_path"),
        ("/select-file?file=folder", 400, "bad_path"),
        ("/select-file?file=latin", 415, "not_text"),
        ("/select-file?file=zero", 415, "not_text"),
        ("/git/diff", 400, "bad_request"),
    ],
)
async def test_what_cannot_be_shown_is_refused_with_a_reason(rest, workspace, query, status, code):
    await workspace.write_file("folder/a", b"")
    await workspace.write_file("latin", b"\xe9")
    await workspace.write_file("zero", b"a\0b")

    assert_refused(await rest.ask("GET", ONE + query), status, code)


async def test_a_files_text_is_given_as_it_is(rest, workspace):
    await workspace.write_file("a.txt", "Räksmörgås\r\n".encode())

    answer = await rest.ask("GET", f"{ONE}/select-file?file=a.txt")

    assert answer.json() == {"code": "Räksmörgås\r\n"}


async def test_the_archive_holds_every_file_byte_for_byte(rest, workspace):
    content = bytes(range(256))
    await workspace.write_file("a/b/c.bin", content)
    await workspace.write_file("top", b"1")

    answer = await rest.ask("GET", f"{ONE}/zip-directory")

    assert answer.headers["content-type"] == "application/zip"
    assert 'filename="workspace.zip"' in answer.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.namelist() == ["a/b/c.bin", "top"]
        assert archive.read("a/b/c.bin") == content


async def test_a_workspace_that_is_too_large_for_an_archive_is_refused(rest, workspace):
    await workspace.write_file("a", b"x" * ARCHIVE_BYTES)
    assert (await rest.ask("GET", f"{ONE}/zip-directory")).status_code == 200

    await workspace.write_file("b", b"x")

    assert_refused(await rest.ask("GET", f"{ONE}/zip-directory"), 413, "too_large")


async def test_a_diff_is_the_text_before_and_after(rest, workspace):
    await run(rest, "git init && echo one > a && echo gone > b && git add a b && git commit -m x")
    await run(rest, "echo two > a; rm b; echo new > c; touch d")

    answers = {
        path: (await rest.ask("GET", f"{ONE}/git/diff?path={path}")).json() for path in "abc"
    }

    assert answers == {
        "a": {"original": "one\n", "modified": "two\n"},
        "b": {"original": "gone\n", "modified": ""},
        "c": {"original": "", "modified": "new\n"},
    }


async def test_a_diff_of_nothing_or_of_what_is_no_text_is_refused(rest, workspace):
    assert_refused(
        await rest.ask("GET", f"{ONE}/git/diff?path=a"), 404, "not_found", "Not a git repository"
    )
    await run(rest, "git init")
    await workspace.write_file("picture", b"\xff")

    assert_refused(await rest.ask("GET", f"{ONE}/git/diff?path=a"), 404, "not_found", "no such")
    assert_refused(await rest.ask("GET", f"{ONE}/git/diff?path=picture"), 415, "not_text")
    assert_refused(await rest.ask("GET", f"{ONE}/git/diff?path=../../etc"), 400, "bad_path")


async def test_an_archive_takes_none_of_the_threads_that_all_requests_share(rest, workspace):
    threads = current_default_thread_limiter()
    before, threads.total_tokens = threads.total_tokens, 1
    try:
        async with threads, asyncio.timeout(WAIT_SECONDS):
            asking = asyncio.create_task(rest.ask("GET", f"{ONE}/zip-directory"))
            assert (await asking).status_code == 200
    finally:
        threads.total_tokens = before


async def test_a_workspace_is_collected_for_one_archive_at_a_time():
    async with rest_server(runtime_class=f"{HERE}:ReadersRuntimeBuilder") as rest:
        await rest.keep("c1", None)
        await rest.ask("POST", f"{ONE}/start", json={})
        await rest.wait_until_idle("c1")
        archives = await asyncio.gather(
            *(rest.ask("GET", f"{ONE}/zip-directory") for _ in range(3))
        )

    assert [one.status_code for one in archives] == [200] * 3
    assert ReadersRuntime.most == 1


def locks_of(rest, path):
    """The locks of the endpoint at a path below the conversation's."""
    address = f"{EVERY}/{{conversation_id}}{path}"
    (route,) = [one for one in rest.application.asgi.routes if getattr(one, "path", "") == address]
    (endpoint,) = route.endpoints.values()
    return endpoint.__self__._locks


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/select-file", {"params": {"file": "a.txt"}}),
        ("/zip-directory", {}),
        ("/workspace/preview", {"params": {"file": "a.txt"}}),
        ("/workspace/download", {"params": {"file": "a.txt"}}),
        ("/upload-files", {"files": {"files": ("a.txt", b"a")}}),
    ],
)
async def test_a_request_that_waits_for_another_of_its_conversation_has_a_deadline(path, asked):
    async with rest_server(action_timeout_seconds=0.1) as rest:
        await rest.keep("c1", None)
        await rest.ask("POST", f"{ONE}/start", json={})
        await rest.wait_until_idle("c1")
        method = "POST" if "files" in asked else "GET"
        async with locks_of(rest, path).of("c1"), asyncio.timeout(WAIT_SECONDS):
            answer = await rest.ask(method, ONE + path, **asked)

    assert_refused(answer, 503, "timeout")


@pytest.fixture
async def odd_names():
    """A server whose workspace has a name that is no Unicode."""
    async with rest_server(runtime_class=f"{HERE}:OddNamesRuntimeBuilder") as rest:
        await rest.keep("c1", None)
        await rest.ask("POST", f"{ONE}/start", json={})
        await rest.wait_until_idle("c1")
        yield rest


async def test_a_name_that_is_no_unicode_is_archived_as_it_is_listed(odd_names):
    listed = await odd_names.ask("GET", f"{ONE}/list-files")
    archive = await odd_names.ask("GET", f"{ONE}/zip-directory")

    assert archive.status_code == 200, archive.text
    with zipfile.ZipFile(io.BytesIO(archive.content)) as found:
        assert found.namelist() == listed.json() == ["caf\ufffd.txt"]
        assert found.read("caf\ufffd.txt") == b"bitter"


def test_names_that_look_alike_once_written_are_archived_apart():
    with zipfile.ZipFile(io.BytesIO(zipped({ALIKE[0]: b"1", ALIKE[1]: b"2"}))) as found:
        assert [found.read(name) for name in found.namelist()] == [b"1", b"2"]
        assert len(set(found.namelist())) == 2


async def test_an_error_that_quotes_such_a_name_keeps_its_status(odd_names):
    answer = await odd_names.ask("GET", f"{ONE}/select-file?file=a.txt")

    assert_refused(answer, 404, "file_not_found", "a.txt: not found beside caf\ufffd.txt")
