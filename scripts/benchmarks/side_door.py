"""The side door of a server, asked from outside a loop."""

import json
import socket
from typing import Any

from benchmarks.clients import BenchError
from benchmarks.servers import Contender

ANSWER_SECONDS = 120


def ask(contender: Contender, do: str, **arguments: Any) -> Any:
    """One command over a connection of its own. Raises BenchError."""
    with socket.create_connection(("127.0.0.1", contender.control), ANSWER_SECONDS) as connection:
        connection.sendall(json.dumps({"do": do, **arguments}).encode() + b"\n")
        with connection.makefile("rb") as lines:
            answer = json.loads(lines.readline())
    if "error" in answer:
        raise BenchError(answer["error"])
    return answer["ok"]
