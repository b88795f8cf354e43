"""A directory of the V0 server in that server's own layout, with everything that is known to be damaged."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

ZONE = "Europe/Berlin"
BEGIN = datetime(2025, 10, 1, 9, 15)  # noqa: DTZ001 - that server writes local times without a zone
TURN_BACK = datetime(2025, 10, 26, 2, 59, 50)  # noqa: DTZ001 - ten seconds later it is two again
PAGE = 25
SECRET = "sekrit-0123456789"  # noqa: S105 - nobody's
TOKEN = "ghp_abcdefghij0123456789"  # noqa: S105 - nobody's


@dataclass
class Written:
    """A conversation as it was written: what can be read of its events, by id, and its damage."""

    conversation_id: str
    damage: str
    user_id: str | None = None
    readable: dict[int, dict[str, Any]] = field(default_factory=dict)
    torn: set[int] = field(default_factory=set)
    has_metadata: bool = True


class Writer:
    """Writes one conversation as that server does: a file for each event, and pages of 25 copies."""

    def __init__(self, root: Path, written: Written) -> None:
        self.root = root
        self.written = written
        self.session = root / "sessions" / written.conversation_id
        tree = root / "users" / str(written.user_id) / "conversations" / written.conversation_id
        self.folder = self.session if written.user_id is None else tree
        self.events: list[dict[str, Any]] = []
        self.moment = BEGIN

    def add(self, source: str, **payload: Any) -> int:
        """Append an event; its id."""
        self.moment += timedelta(seconds=1, microseconds=1)
        envelope = {"id": len(self.events), "timestamp": self.moment.isoformat(), "source": source}
        self.events.append({**envelope, "message": payload.pop("message", ""), **payload})
        return len(self.events) - 1

    def state(self, name: str) -> int:
        """Append a state of the agent."""
        extras = {"agent_state": name, "reason": ""}
        return self.add("environment", observation="agent_state_changed", content="", extras=extras)

    def say(self, text: str) -> int:
        """Append a message of the user."""
        args: dict[str, Any] = {
            "content": text,
            "file_urls": None,
            "image_urls": [],
            "wait_for_response": False,
        }
        return self.add("user", message=text, action="message", args={**args, "security_risk": -1})

    def recall(self, text: str) -> None:
        """Append a recall as that server does: without a cause."""
        args = {"recall_type": "knowledge", "query": text, "thought": ""}
        number = self.add("user", message="Retrieving", action="recall", args=args)
        extras = {"recall_type": "knowledge", "microagent_knowledge": []}
        self.add("environment", cause=number, observation="recall", content="", extras=extras)

    def run(self, command: str, output: str | None, **args: Any) -> None:
        """Append a command, and its output unless there is none."""
        arguments = {"command": command, "is_input": False, "thought": "", "blocking": False}
        more = {"is_static": False, "cwd": None, "hidden": False, "security_risk": 0}
        confirmed = {"confirmation_state": "confirmed", **args}
        number = self.add("agent", action="run", args={**arguments, **more, **confirmed})
        if output is not None:
            extras = {"command": command, "metadata": {"exit_code": 0, "pid": -1}, "hidden": False}
            self.add(
                "agent",
                cause=number,
                observation="run",
                content=output,
                extras=extras,
                success=True,
            )

    def turn(self, text: str, answer: str = "Done.") -> None:
        """Append a whole turn."""
        self.say(text)
        self.recall(text)
        self.state("running")
        self.run(f"echo {text}", text)
        metrics = {
            "accumulated_cost": len(self.events) / 64,
            "accumulated_token_usage": {
                "model": "demo",
                "prompt_tokens": 8,
                "completion_tokens": 2,
            },
        }
        args = {"content": answer, "wait_for_response": True}
        self.add("agent", message=answer, action="message", args=args, llm_metrics=metrics)
        self.state("awaiting_user_input")

    def write(self) -> None:
        """Write files and record."""
        for event in self.events:
            self.put(event["id"], event)
        if self.written.has_metadata:
            self.record()

    def put(self, event_id: int, event: dict[str, Any], folder: Path | None = None) -> None:
        """Write the file of an event, which can be read."""
        write(self.path(event_id, folder), event)
        self.written.readable[event_id] = event

    def path(self, event_id: int, folder: Path | None = None) -> Path:
        """The file of an event."""
        return (folder or self.folder) / "events" / f"{event_id}.json"

    def page(self, first: int, events: list[dict[str, Any]]) -> None:
        """Write a page of copies, named by its place."""
        write(self.folder / "event_cache" / f"{first}-{first + PAGE}.json", events)

    def tear(self, event_id: int, content: str = "") -> None:
        """Leave of an event's file what a crash leaves."""
        self.path(event_id).write_text(content)
        self.written.readable.pop(event_id)
        self.written.torn.add(event_id)

    def record(self, **fields: Any) -> None:
        """Write the record, which lies in the folder of the session, whosever it is."""
        key = self.written.conversation_id
        metadata = {
            "conversation_id": key,
            "selected_repository": "o/r",
            "user_id": self.written.user_id,
            "selected_branch": None,
            "git_provider": "github",
            "title": f"Conversation {key[:5]}",
            "last_updated_at": "2025-10-01T12:00:00Z",
            "trigger": "gui",
            "pr_number": [],
            "created_at": "2025-10-01T07:15:00.000001Z",
            "llm_model": None,
            "accumulated_cost": 0.0,
            "prompt_tokens": 0,
            "completion_tokens": 0,
            "total_tokens": 0,
            "sandbox_id": None,
            "conversation_version": None,
            "github_user_id": "42",
            **fields,
        }
        write(
            self.session / "metadata.json",
            {name: value for name, value in metadata.items() if value is not ...},
        )


def write(path: Path, value: object) -> None:
    """Write JSON as that server does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))


def _sound(writer: Writer) -> None:
    writer.write()


def _old_messages(writer: Writer) -> None:
    for number in range(89):
        writer.say(f"old {number}")
        writer.recall(f"old {number}")
        writer.add("agent", message="Yes.", action="message", args={"content": "Yes."})
    writer.state("awaiting_user_input")
    writer.write()


def _pages(writer: Writer) -> None:
    for number in range(4):
        writer.turn(f"more {number}")
    writer.write()
    writer.page(0, writer.events[:PAGE])


def _misaligned_pages(writer: Writer) -> None:
    for number in range(7):
        writer.turn(f"more {number}")
    writer.write()
    writer.page(0, writer.events[:PAGE])
    writer.page(30, writer.events[30:55])
    # Three are in the page only that no reader of that server looks at.
    for event_id in (40, 41, 50):
        writer.path(event_id).unlink()


def _shifted_page(writer: Writer) -> None:
    for number in range(4):
        writer.turn(f"more {number}")
    writer.write()
    # An id that was taken by an event which could not be written: the page holds what follows.
    gone = 3
    writer.path(gone).unlink()
    del writer.written.readable[gone]
    writer.page(0, [one for one in writer.events[: PAGE + 1] if one["id"] != gone])


def _torn_file(writer: Writer) -> None:
    writer.turn("more")
    writer.write()
    writer.tear(4)
    writer.tear(6, json.dumps(writer.events[6])[:40])


def _torn_end(writer: Writer) -> None:
    writer.turn("more")
    writer.write()
    writer.tear(len(writer.events) - 1, '{"id": ')


def _torn_file_with_a_copy(writer: Writer) -> None:
    for number in range(4):
        writer.turn(f"more {number}")
    writer.write()
    writer.page(0, writer.events[:PAGE])
    for event_id in (5, 9):
        writer.path(event_id).write_text("")


def _both_trees(writer: Writer) -> None:
    writer.turn("more")
    writer.write()
    for event_id in range(4):
        writer.path(event_id).unlink()
        write(writer.path(event_id, writer.session), writer.events[event_id])


def _written_twice(writer: Writer) -> None:
    writer.turn("more")
    writer.write()
    other = {**writer.events[5], "content": "of another writer"}
    write(writer.path(5, writer.session), other)


def _open_run(writer: Writer) -> None:
    writer.say("never answered")
    writer.recall("never answered")
    writer.state("running")
    writer.run("sleep 100", None)
    writer.say("nor this one")
    writer.write()


def _waiting_for_a_person(writer: Writer) -> None:
    writer.say("ask me")
    writer.recall("ask me")
    writer.state("running")
    writer.run("rm -r /", None, confirmation_state="awaiting_confirmation")
    writer.state("awaiting_user_confirmation")
    writer.write()


def _strange_events(writer: Writer) -> None:
    writer.add("agent", action="levitate", args={"height": 3}, novel={"a": [1]})
    writer.add("agent", action="run", args={"command": "ls", "is_confirmed": "confirmed"})
    writer.add("user", action="message", args={"content": "look", "images_urls": ["data:x"]})
    writer.recall("look")
    writer.add("environment", observation="vanished", content="", extras={"x": None})
    writer.add("agent", action="think", args=None)
    writer.add("agent", observation="run", content="out", extras={"exit_code": 2, "command_id": 7})
    writer.state("stopped")
    writer.write()


def _what_is_no_event(writer: Writer) -> None:
    lost = [writer.add("agent", nothing=True), writer.add("agent", action=None, observation=None)]
    lost.append(writer.add("agent", action="run", args=["no object"]))
    writer.state("finished")
    writer.write()
    for event_id in lost:
        writer.written.readable.pop(event_id)
        writer.written.torn.add(event_id)


def _bad_metadata(writer: Writer) -> None:
    writer.write()
    (writer.session / "metadata.json").write_text('{"conversation_id": ')


def _metadata_without_a_date(writer: Writer) -> None:
    writer.write()
    writer.record(created_at=...)


def _metadata_of_another_version(writer: Writer) -> None:
    writer.write()
    writer.record(trigger="telepathy", pr_number="none", created_at="2025-10-01T09:15:00")


def _metadata_only(writer: Writer) -> None:
    writer.events.clear()
    writer.record(title="Never begun")


def _other_files(writer: Writer) -> None:
    writer.write()
    write(writer.folder / "events" / "newest.json", {"id": 99})
    write(writer.folder / "events" / "notes.txt", "nothing")
    for name in ("agent_state.pkl", "conversation_stats.pkl"):
        # Base64 of a pickle that would end the process which loads it.
        write(writer.folder / name, "Y29zCl9leGl0CihJMwp0Ui4=")
    for name in ("init.json", "llm_registry.json", "exp_config.json"):
        write(writer.folder / name, {})
    write(writer.folder / "TASKS.md", "# Tasks")


def _an_hour_that_came_twice(writer: Writer) -> None:
    writer.moment = TURN_BACK - timedelta(seconds=4)
    writer.say("before")
    writer.recall("before")
    writer.moment = TURN_BACK - timedelta(minutes=55)
    writer.say("in the second one")
    writer.recall("in the second one")
    writer.state("awaiting_user_input")
    writer.write()


def _times_that_go_back(writer: Writer) -> None:
    writer.say("one")
    writer.moment -= timedelta(seconds=3)
    writer.recall("one")
    writer.state("awaiting_user_input")
    writer.events[-1].pop("timestamp")
    writer.write()


def _secrets_in_the_clear(writer: Writer) -> None:
    args: dict[str, Any] = {"content": f"use {SECRET}", "image_urls": [f"x {TOKEN}"]}
    writer.add("user", message=f"use {SECRET}", action="message", args=args)
    writer.recall(f"use {SECRET}")
    writer.state("finished")
    writer.write()


DAMAGES: dict[str, Callable[[Writer], None]] = {
    name.strip("_").replace("_", " "): made
    for name, made in list(globals().items())
    if name.startswith("_") and not name.startswith("__") and callable(made)
}
BY_USER = frozenset(("both trees", "written twice", "pages", "torn file"))
"""Damages of conversations that lie in the tree of a user."""


def make_v0_directory(root: Path, conversations: int = 200) -> dict[str, Written]:
    """Make a directory; what was written of each conversation, by id."""
    made: dict[str, Written] = {}
    names = [*DAMAGES]
    for number in range(conversations):
        damage = names[number % len(names)]
        user = f"user-{number % 3}" if damage in BY_USER else None
        written = Written(f"{number:032x}", damage, user)
        writer = Writer(root, written)
        writer.state("loading")
        writer.turn(f"hello {number}")
        DAMAGES[damage](writer)
        made[written.conversation_id] = written
    write(root / "sessions" / "not an id!" / "metadata.json", {"conversation_id": "x"})
    write(root / "sessions" / "0123" / "metadata.json", "{")
    write(root / "sessions" / ".cache" / "metadata.json", "{}")
    settings = {
        "language": "de",
        "agent": "CodeActAgent",
        "max_iterations": 77,
        "llm_model": "demo/model",
        "llm_api_key": SECRET,
        "condenser_max_size": 3,
        "secrets_store": {"provider_tokens": {}},
        "llm_base_url": "",
    }
    write(root / "settings.json", settings)
    secrets = {
        "provider_tokens": {
            "github": {"token": TOKEN, "host": None, "user_id": None},
            "nowhere": {"token": "another-token-1234", "host": None},
        },
        "custom_secrets": {
            "API": {"secret": SECRET + "-2", "description": "An API"},
            "bad name!": {"secret": "unnamed-secret-1", "description": ""},
        },
    }
    write(root / "secrets.json", secrets)
    write(root / ".jwt_secret", "jwt")
    return made
