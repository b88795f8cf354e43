"""A tool server of the standard library alone, which starts at once and behaves as its argument says.

`plain` has a few tools; of other kinds each misbehaves in its way. `NOTES` names a file to which a
plain one adds a line for what it was asked.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HUGE = 9 * 1024 * 1024
MOST_SHOWN = 30_000
ODD_SCHEMAS: tuple[dict[str, Any], ...] = (
    {"description": "x" * 50_000},
    {"properties": {"a": {"type": "array", "items": 5}}},
    {"properties": {"a": {"anyOf": {"type": "string"}}}},
    {"properties": {"a": {"$ref": 5}}},
    {"properties": {"a": {"properties": []}}},
    {"$defs": {"A": None}},
    {"properties": {"a": {"maximum": 2**64}}},
)
ODD_RESULTS: dict[str, dict[str, Any]] = {
    "nonsense": {"weather": "fine"},
    "counts": {"content": [], "structuredContent": {"total": 2**64}},
    "many values": {"content": [], "structuredContent": {"all": [{}] * 150_000}},
}
ODD_NAMES = ("get/page", "get page", "get_page", "é", "x" * 100, "x" * 99 + "y", "")


def note(line: str) -> None:
    """Add a line to the notes."""
    if "NOTES" in os.environ:
        with Path(os.environ["NOTES"]).open("a") as notes:
            notes.write(f"{line}\n")


def send(message: dict[str, Any]) -> None:
    """Write a message."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def answer(request: dict[str, Any], result: dict[str, Any]) -> None:
    """Answer a request."""
    send({"jsonrpc": "2.0", "id": request["id"], "result": result})


def schema(**keywords: Any) -> dict[str, Any]:
    """Describe arguments."""
    return {"type": "object", **keywords}


def tool(name: str, takes: Any = None) -> dict[str, Any]:
    """Describe a tool."""
    return {"name": name, "description": name, "inputSchema": takes or schema()}


TOOLS = {
    "plain": [tool(one) for one in ("add", "environment", "wait", "leave", "abandon")],
    "names": [tool(one) for one in ODD_NAMES],
    "schemas": [tool("fits"), *(tool("odd", schema(**one)) for one in ODD_SCHEMAS)],
    "list": [tool("fits"), tool("list", {"type": "array"})],
    "big": [tool("big", schema(allOf=[{}] * 150_000))],
    "heavy": [tool(f"heavy_{one}", schema(description="x" * 30_000)) for one in range(60)],
    "wordy": [tool("wordy", schema(description="x" * 3 * 1024 * 1024))],
}
"""The tools of a kind; others have one, which is called `work`."""


def listed(kind: str, cursor: str | None) -> dict[str, Any]:
    """Return a page of the tools that it lists."""
    first = int(cursor or 0)
    match kind:
        case "many":
            page = {"tools": [tool(f"tool_{one}") for one in range(first, first + 500)]}
            return page if first + 500 >= 10_000 else page | {"nextCursor": str(first + 500)}
        case "pages":
            return {"tools": [], "nextCursor": str(first + 1)}
        case _:
            return {"tools": TOOLS.get(kind, [tool("work")])}


def say(request: dict[str, Any], text: str) -> None:
    """Answer the call of a tool by a text."""
    answer(request, {"content": [{"type": "text", "text": text}]})


def behave(request: dict[str, Any]) -> None:
    """Do what is asked."""
    given = request["params"].get("arguments") or {}
    match request["params"]["name"]:
        case "add":
            note(f"add {given['a']} {given['b']}")
            say(request, str(given["a"] + given["b"]))
        case "environment":
            say(request, "\n".join(f"{name}={value}" for name, value in os.environ.items()))
        case "wait":
            note("waits")
        case "leave":
            os._exit(7)
        case "abandon":
            waits = [sys.executable, "-c", "import signal; signal.pause()"]
            null = subprocess.DEVNULL
            note(f"abandons {subprocess.Popen(waits, stdin=null, stdout=null).pid}")
            os._exit(7)


def pour(kind: str) -> None:
    """Write without an end: notifications, requests, or a line."""
    told = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}
    poured = {
        "flood": json.dumps(told) + "\n",
        "asks": json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"}) + "\n",
    }
    while True:
        sys.stdout.write(poured.get(kind, "x" * 65536))


def work(kind: str, request: dict[str, Any]) -> None:
    """Do what is asked, or not."""
    match kind:
        case "deaf":
            return
        case "plain":
            behave(request)
        case "huge":
            say(request, "x" * HUGE)
        case "asks" | "endless" | "flood":
            pour(kind)
        case "long":
            half = "x" * (MOST_SHOWN // 2 - len(os.environ["TOOL_KEY"]) // 2)
            say(request, half + os.environ["TOOL_KEY"] + "x" * MOST_SHOWN)
        case "nonsense" | "counts" | "many values":
            answer(request, ODD_RESULTS[kind])
        case "quotes":
            error = {"code": -32000, "message": f"no such key: {os.environ.get('TOOL_KEY', '')}"}
            send({"jsonrpc": "2.0", "id": request["id"], "error": error})
        case "dies":
            os._exit(3)
        case _:
            say(request, (request["params"].get("arguments") or {}).get("text", kind))


def requests() -> Iterator[dict[str, Any]]:
    """Yield what is asked."""
    for line in sys.stdin:
        message = json.loads(line)
        if "method" not in message:
            continue  # an answer
        if "id" in message:
            yield message
        elif message["method"] == "notifications/cancelled":
            note("cancelled")


HINTS = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
NEWEST = "2026-07-28"


def serve_newest() -> None:
    """Serve as one that speaks the newest protocol alone."""
    for request in requests():
        match request["method"]:
            case "server/discover":
                result = {"supportedVersions": [NEWEST], "capabilities": {"tools": {}}}
                answer(request, HINTS | result)
            case "tools/list":
                answer(request, HINTS | {"tools": [tool("work")]})
            case "tools/call":
                said = {"type": "text", "text": "newest"}
                answer(request, {"resultType": "complete", "content": [said]})
            case _:
                told = {"supported": [NEWEST], "requested": "2025-11-25"}
                error = {"code": -32022, "message": "Unsupported protocol version", "data": told}
                send({"jsonrpc": "2.0", "id": request["id"], "error": error})


def serve(kind: str) -> None:
    """Serve until nothing more is asked."""
    for request in requests():
        match request["method"]:
            case "initialize":
                version = request["params"]["protocolVersion"]
                about = {"name": "rude", "version": "1"}
                result = {"protocolVersion": version, "serverInfo": about}
                answer(request, result | {"capabilities": {"tools": {}}})
            case "tools/list":
                answer(request, listed(kind, (request.get("params") or {}).get("cursor")))
            case "tools/call":
                work(kind, request)
            case _:
                error = {"code": -32601, "message": "no such method"}
                send({"jsonrpc": "2.0", "id": request["id"], "error": error})


def stay(notes: str) -> None:
    """Serve together with another program, and do not end when asked to."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    Path(notes).write_text(f"{os.getpid()} {child.pid}")
    serve("stays")
    signal.pause()


def main(kind: str, notes: str = "") -> None:
    """Begin in the way that is named."""
    note(f"started {os.getpid()}")
    match kind:
        case "silent":
            signal.pause()
        case "garbage":
            while True:
                sys.stdout.write("<html>not found</html>\n")
        case "endless line":
            pour(kind)
        case "newest":
            serve_newest()
        case "stays":
            stay(notes)
        case _:
            if kind == "chatty":
                sys.stdout.write("Welcome to the tools!\n")
            if kind != "closes" and (kind != "absent" or Path(notes).exists()):
                serve(kind)


if __name__ == "__main__":
    main(*sys.argv[1:])
