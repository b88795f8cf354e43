"""The requests of a page about a workspace, and uploads into it."""

import asyncio

import pytest

from server.routes.uploads import MAX_FILE_BYTES, MAX_FILES, base_name
from tests.support.rest import EVERY, assert_refused, rest_server


def one(path=""):
    return f"{EVERY}/c1{path}"


async def upload(rest, *files):
    parts = [("files", (name, content)) for name, content in files]
    return await rest.ask("POST", one("/upload-files"), files=parts)


async def run(rest, command):
    await rest.ask("POST", one("/message"), json={"message": f"/run {command}"})
    return await rest.wait_for(
        "c1",
        lambda event: event.get("observation") == "run" and event["extras"]["command"] == command,
    )


async def test_what_a_page_asks_without_a_click_is_answered_at_rest(rest):
    await rest.keep("c1", None)

    answers = {
        path: (await rest.ask("GET", one(path))).json()
        for path in ("/config", "/vscode-url", "/web-hosts")
    }

    assert answers == {
        "/config": {"runtime_id": None, "session_id": "c1"},
        "/vscode-url": {"vscode_url": None},
        "/web-hosts": {"hosts": {}},
    }
    assert await rest.application.manager.get_agent_loop_info() == []


@pytest.mark.parametrize("path", ["/config", "/vscode-url", "/web-hosts", "/git/changes"])
async def test_of_an_unknown_conversation_nothing_is_answered(rest, path):
    assert_refused(await rest.ask("GET", one(path)), 404, "conversation_not_found")


async def test_without_a_running_loop_there_is_no_repository(rest):
    await rest.keep("c1", None)

    answer = await rest.ask("GET", one("/git/changes"))

    assert_refused(answer, 404, "not_found", "Not a git repository")


async def test_changes_are_those_of_the_running_workspace(rest):
    await rest.keep("c1", None)
    await run(rest, "pwd")
    before = await rest.ask("GET", one("/git/changes"))

    await run(rest, "git init")
    await run(rest, "touch new.txt")
    after = await rest.ask("GET", one("/git/changes"))

    assert_refused(before, 404, "not_found", "Not a git repository")
    assert (after.status_code, after.json()) == (200, [{"status": "U", "path": "new.txt"}])


async def test_an_upload_starts_the_loop_and_keeps_every_byte(rest):
    await rest.keep("c1", None)
    content = bytes(range(256)) * 5000

    answer = await upload(rest, ("picture.png", content), ("text.txt", b"hello"))

    assert (answer.status_code, answer.json()) == (
        200,
        {
            "uploaded_files": ["/workspace/picture.png", "/workspace/text.txt"],
            "skipped_files": [],
        },
    )
    async with rest.application.manager.attach("c1", None) as conversation:
        assert await conversation.loop.runtime.read_file("picture.png") == content
    assert (await run(rest, "cat text.txt"))["content"] == "hello"


async def test_a_file_that_cannot_be_taken_is_told_and_the_others_are_taken(rest):
    await rest.keep("c1", None)

    answer = await upload(
        rest,
        ("large.bin", b"x" * (MAX_FILE_BYTES + 1)),
        ("fits.bin", b"x" * MAX_FILE_BYTES),
        ("..", b"x"),
        ("a/same.txt", b"1"),
        ("b/same.txt", b"2"),
        ("n" * 300, b"x"),
    )

    body = answer.json()
    assert body["uploaded_files"] == [
        "/workspace/fits.bin",
        "/workspace/same.txt",
        "/workspace/same-2.txt",
    ]
    skipped = {file["name"]: file["reason"] for file in body["skipped_files"]}
    assert list(skipped) == ["large.bin", "..", "n" * 300]
    assert "3 MB" in skipped["large.bin"]
    assert all(skipped.values())


async def test_an_upload_replaces_no_file_and_answers_the_name_it_got(rest):
    await rest.keep("c1", None)
    uploads = [upload(rest, ("image.png", bytes([number]))) for number in range(4)]

    answers = await asyncio.gather(*uploads)
    other = await upload(rest, ("IMAGE.PNG", b"x"), (".env", b"y"), (".env", b"z"))

    paths = [answer.json()["uploaded_files"][0] for answer in answers]
    assert sorted(paths) == [
        "/workspace/image-2.png",
        "/workspace/image-3.png",
        "/workspace/image-4.png",
        "/workspace/image.png",
    ]
    assert other.json()["uploaded_files"] == [
        "/workspace/IMAGE-5.PNG",
        "/workspace/.env",
        "/workspace/.env-2",
    ]
    async with rest.application.manager.attach("c1", None) as conversation:
        runtime = conversation.loop.runtime
        for number, path in enumerate(paths):
            assert await runtime.read_file(path) == bytes([number])


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("plain.txt", "plain.txt"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\report.pdf", "report.pdf"),
        ("a\x00b\nc\u202e.txt", "abc.txt"),
        ("  spaced name.txt ", "spaced name.txt"),
        ("naïve 文.txt", "naïve 文.txt"),
        ("folder/", ""),
        ("", ""),
    ],
)
def test_only_the_last_part_of_a_name_is_kept_and_no_control_characters(given, kept):
    assert base_name(given) == kept


TURNS = 16
"""Turns of the event loop from an upload to the start of its workspace, and some more."""


@pytest.mark.parametrize("turns", range(TURNS))
async def test_an_upload_is_stored_or_can_be_tried_again_whenever_its_loop_is_stopped(turns):
    async with rest_server(action_timeout_seconds=0.1) as rest:
        await rest.keep("c1", None)
        uploading = asyncio.create_task(upload(rest, ("a.txt", b"x")))
        for _ in range(turns):
            await asyncio.sleep(0)
        await rest.application.manager.close_session("c1")

        answer = await uploading

    code = answer.json().get("code", "stored")
    expected = {"stored": 200, "not_available": 503, "runtime_unavailable": 503}
    assert answer.status_code == expected[code]


async def test_an_upload_without_files_is_refused(rest):
    await rest.keep("c1", None)

    other_field = await rest.ask("POST", one("/upload-files"), files=[("other", ("a", b"1"))])
    no_boundary = await rest.ask(
        "POST",
        one("/upload-files"),
        content=b"x",
        headers={"content-type": "multipart/form-data"},
    )

    assert_refused(other_field, 422, "invalid_body", "files")
    assert_refused(no_boundary, 400, "bad_request")


async def test_an_upload_must_be_a_form(rest):
    await rest.keep("c1", None)

    assert_refused(
        await rest.ask("POST", one("/upload-files"), json={}), 415, "unsupported_media_type"
    )
    assert_refused(await rest.ask("POST", one("/upload-files")), 415, "unsupported_media_type")


async def test_an_upload_of_very_many_files_is_refused(rest):
    await rest.keep("c1", None)

    answer = await upload(rest, *((f"f{number}", b"x") for number in range(MAX_FILES + 1)))

    assert_refused(answer, 400, "bad_request", "Too many files")


async def test_an_upload_to_an_unknown_conversation_is_refused(rest):
    assert_refused(await upload(rest, ("a", b"1")), 404, "conversation_not_found")


async def test_an_upload_that_finds_no_workspace_in_time_is_refused():
    async with rest_server(max_concurrent_conversations=1, action_timeout_seconds=0.05) as rest:
        busy = await rest.create(initial_user_msg="/slow 2 60000")
        await rest.wait_for(busy, lambda event: event.get("action") == "recall")
        await rest.keep("c1", None)

        assert_refused(await upload(rest, ("a", b"1")), 503, "not_available", "try again")


async def test_an_upload_needs_the_settings_a_loop_needs():
    async with rest_server(require_settings=True) as rest:
        await rest.keep("c1", None)

        assert_refused(await upload(rest, ("a", b"1")), 400, "settings_not_found")
