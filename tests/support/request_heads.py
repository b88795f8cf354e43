"""Random requests as bytes: well formed, nearly so, or not at all, cut into segments at random places."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random

from tests.support.intruder import BINARY, CLOSE, CONT, PING, TEXT, frame

KEY = "right"
METHODS = (
    b"GET",
    b"GET",
    b"GET",
    b"GET",
    b"POST",
    b"PUT",
    b"PATCH",
    b"DELETE",
    b"HEAD",
    b"OPTIONS",
)
ODD_METHODS = (
    b"get",
    b"CONNECT",
    b"TRACE",
    b"PRI",
    b"",
    b"GE T",
    b"M" * 300,
    b"\x00GET",
    b"G\xc3\x89T",
)
PATHS = (
    b"/",
    b"/alive",
    b"/health",
    b"/ready",
    b"/metrics",
    b"/openapi.json",
    b"/docs",
    b"/admin",
    b"/nowhere",
    b"/api",
    b"/api/conversations/unknown",
    b"/api/conversations/{id}/events?limit=2",
    b"/api/conversations/unknown/upload-files",
    b"/api/conversations/unknown/events",
    b"/api/options/config",
    b"/api/settings",
    b"/api/admin/overview",
    b"/%2e%2e/%2e%2e/etc/passwd",
    b"/a%00b",
    b"/%ff%fe",
    b"/\xc3\xa4",
    b"//",
    b"*",
    b"http://localhost/alive",
    b"localhost:80",
    b"",
    b"/alive#part",
    b"/alive?a=%zz&&&=",
)
SOCKETS = (
    b"/socket.io/?EIO=4&transport=websocket&session_api_key=right&conversation_id={id}",
    b"/socket.io/?EIO=4&transport=websocket&session_api_key=right&conversation_id={id}",
    b"/socket.io?EIO=4&transport=websocket&conversation_id=unknown",
    b"/socket.io/?EIO=4&transport=websocket&sid=unknown",
    b"/socket.io/?EIO=3&transport=websocket",
    b"/socket.io/?EIO=4&transport=carrier",
    b"/socket.io/?EIO=4&transport=polling&conversation_id={id}",
    b"/socket.io/?EIO=4&transport=polling&sid=unknown",
    b"/socket.io/?EIO=4&transport=polling&j=x",
    b"/socket.io/?EIO=4",
    b"/socket.io/other?EIO=4&transport=websocket",
    b"http://localhost/socket.io/?EIO=4&transport=websocket&session_api_key=right&conversation_id={id}",
    b"/alive",
)
VERSIONS = (
    b"HTTP/1.0",
    b"HTTP/0.9",
    b"HTTP/2.0",
    b"HTTP/1.2",
    b"HTTP/1.1 ",
    b"http/1.1",
    b"",
    b"HTTQ/1.1",
)
UPGRADE = (
    (b"Upgrade", b"websocket"),
    (b"Connection", b"Upgrade"),
    (b"Sec-WebSocket-Version", b"13"),
    (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
)
FIELDS: tuple[tuple[bytes, Sequence[bytes]], ...] = (
    (
        b"Connection",
        (b"keep-alive", b"close", b"Upgrade", b"Upgrade, HTTP2-Settings", b"x, ,close", b""),
    ),
    (b"Upgrade", (b"websocket", b"WebSocket", b"h2c", b"websocket, h2c", b"")),
    (b"Sec-WebSocket-Version", (b"13", b"12", b"", b"13, 12", b"\xff")),
    (b"Sec-WebSocket-Key", (b"dGhlIHNhbXBsZSBub25jZQ==", b"short", b"=" * 24, b"")),
    (b"Sec-WebSocket-Protocol", (b"chat", b"a, b", b",")),
    (b"Sec-WebSocket-Extensions", (b"permessage-deflate", b";;", b'x; y="')),
    (
        b"Content-Length",
        (b"0", b"5", b"+5", b"-1", b"0x5", b"5, 5", b"9" * 30, b"70000000", b" 5 ", b""),
    ),
    (
        b"Transfer-Encoding",
        (b"chunked", b"identity", b"gzip, chunked", b"chunked, chunked", b"xchunked"),
    ),
    (
        b"Content-Type",
        (b"application/json", b"text/plain", b"multipart/form-data; boundary=x", b"\xe4"),
    ),
    (b"Content-Encoding", (b"gzip", b"br", b"")),
    (b"Expect", (b"100-continue", b"200-ok", b"")),
    (b"Accept-Encoding", (b"gzip", b"gzip;q=0", b"*", b"\x80")),
    (b"Origin", (b"http://localhost", b"https://evil.example", b"null", b"", b"http://[::1")),
    (b"Authorization", (b"Bearer right", b"Bearer", b"Basic cmlnaHQ=", b"\xff" * 20)),
    (b"X-Session-API-Key", (KEY.encode(), b"wrong", b"")),
    (b"X-Forwarded-For", (b"10.0.0.1", b"," * 50, b"x" * 500)),
    (b"X-Forwarded-Proto", (b"https", b"wss", b"x")),
    (b"X-Request-ID", (b"abc", b"\x7f", b"x" * 300)),
    (b"Cookie", (b"a=b", b"a=" + b"x" * 9_000, b"\xf0\x9f\x98\x80")),
    (b"Host", (b"localhost", b"evil.example", b"", b"localhost:x", b"[::1]")),
    (b"Range", (b"bytes=0-", b"bytes=9-1", b"x")),
    (b"If-None-Match", (b"*", b'"x"', b"W/")),
)
ODD_LINES = (
    b"NoColon",
    b": no name",
    b"Space : before",
    b"Na\xc3\xa4me: x",
    b"X: a\x00b",
    b"X: a\rb",
    b" folded at the beginning",
    b"X: one\r\n two",
    b"X: one\r\n\t\ttwo\r\n three",
    b"X:" + b" " * 2_000 + b"y",
    b"\xef\xbb\xbfX: y",
    b"Content-Length: 5\r\nContent-Length: 6",
    b"Transfer-Encoding: chunked\r\nContent-Length: 5",
    b"Transfer-Encoding:\r\n chunked",
)
BODIES = (
    b"{}x",
    b"[" * 500,
    b'{"title": 5}',
    b"\xff\xfe\x00",
    b"4" * 3_000,
    b"40\x1e6",
    b"--x\r\n\r\n--x--",
)
CHUNKED = (
    b"5\r\nhello\r\n0\r\n\r\n",
    b"5;a=b\r\nhello\r\n0\r\nTrailer: x\r\n\r\n",
    b"5\r\nhel",
    b"G\r\nhello\r\n",
    b"fffffffffffffffff\r\n",
    b"5\nhello\n0\n\n",
    b"05\r\nhelloX\r\n0\r\n\r\n",
    b"-1\r\n\r\n",
    b"0\r\n\r",
)
MESSAGES = (
    b"40",
    b"40{}",
    b"2probe",
    b"3",
    b"5",
    b"1",
    b"6",
    b"42[]",
    b'420["x"]',
    b"451-[]",
    b"",
    b"\xff",
    b"41",
)


@dataclass(frozen=True, slots=True)
class Plan:
    """The bytes of a connection: segments, in groups between which an answer is waited for."""

    turns: tuple[tuple[bytes, ...], ...]
    frames: tuple[bytes, ...]
    """The bytes sent once a websocket is accepted."""
    stays: bool
    """Whether the client leaves it to the server to end the connection."""
    requests: int

    @property
    def size(self) -> int:
        """Bytes of it all."""
        return sum(len(part) for turn in self.turns for part in turn)


def plan(random: Random, conversation_id: str, *, stays: float = 0.2) -> Plan:
    """A connection with one to six requests; a quarter of them stop in the middle of the last."""
    requests = [request(random, conversation_id) for _ in range(random.choice((1, 2, 3, 4, 6)))]
    if random.random() < 0.25:
        requests[-1] = requests[-1][: random.randrange(1, len(requests[-1]) + 1)]
    turns: list[bytes] = []
    for number, one in enumerate(requests):
        if number and random.random() < 0.5:
            turns[-1] += one  # not waiting for the answer before
        else:
            turns.append(one)
    return Plan(
        tuple(tuple(segments(random, turn)) for turn in turns),
        tuple(_frame(random) for _ in range(random.randrange(3))),
        random.random() < stays,
        len(requests),
    )


def request(random: Random, conversation_id: str) -> bytes:
    """A request's head, with what may be its body."""
    socket = random.random() < 0.4
    method = b"GET" if socket and random.random() < 0.9 else random.choice(METHODS)
    if random.random() < 0.03:
        method = random.choice(ODD_METHODS)
    target = random.choice(SOCKETS if socket else PATHS).replace(b"{id}", conversation_id.encode())
    if random.random() < 0.02:
        target += (b"&" if b"?" in target else b"?") + b"q" * random.choice(
            (100, 9_000, 17_000, 70_000)
        )
    version = b"HTTP/1.1" if random.random() < 0.95 else random.choice(VERSIONS)
    end = b"\r\n" if random.random() < 0.97 else random.choice((b"\n", b"\r", b"\n\r"))
    lines = [b" ".join((method, target, version)), *_fields(random, socket=socket)]
    whole = end.join([*lines, b"", b""])
    if b"Content-Length" in whole or b"chunked" in whole or random.random() < 0.05:
        whole += random.choice(CHUNKED if b"chunked" in whole else BODIES)
    return _spoiled(random, whole) if random.random() < 0.05 else whole


def segments(random: Random, data: bytes) -> list[bytes]:
    """The same bytes, cut at random places."""
    cuts = sorted(random.randrange(len(data) + 1) for _ in range(random.choice((0, 0, 1, 2, 5))))
    bounds = [0, *cuts, len(data)]
    return [data[start:end] for start, end in pairwise(bounds) if start < end]


def _fields(random: Random, *, socket: bool) -> list[bytes]:
    fields = [(b"Host", b"localhost")] if random.random() < 0.95 else []
    if socket and random.random() < 0.8:
        fields += [one for one in UPGRADE if random.random() < 0.97]
    elif random.random() < 0.5:
        fields.append((b"X-Session-API-Key", KEY.encode()))
    for _ in range(random.choice((0, 0, 1, 2, 4))):
        name, values = random.choice(FIELDS)
        fields.append((name if random.random() < 0.8 else name.lower(), random.choice(values)))
    if random.random() < 0.1:
        body = random.choice(BODIES)
        fields.append((b"Content-Length", str(len(body) + random.choice((0, 0, 1, 70))).encode()))
    if random.random() < 0.02:
        fields += [(b"X-%d" % number, b"y") for number in range(random.choice((50, 200, 5_000)))]
    if random.random() < 0.02:
        fields.append((b"X", b"z" * random.choice((1_000, 9_000, 60_000, 70_000, 200_000))))
    random.shuffle(fields)
    colon = b": " if random.random() < 0.97 else random.choice((b":", b":\t", b" : ", b":  "))
    lines = [name + colon + value for name, value in fields]
    if random.random() < 0.06:
        lines.insert(random.randrange(len(lines) + 1), random.choice(ODD_LINES))
    return lines


def _spoiled(random: Random, data: bytes) -> bytes:
    at = random.randrange(len(data))
    match random.randrange(4):
        case 0:
            return data[:at] + random.randbytes(random.choice((1, 4, 40))) + data[at:]
        case 1:
            return data[:at] + data[at + random.choice((1, 10)) :]
        case 2:
            return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]
        case _:
            return b"\r\n" * random.choice((1, 3, 200)) + data


def _frame(random: Random) -> bytes:
    opcode = random.choice((TEXT, TEXT, TEXT, BINARY, CONT, PING, CLOSE, 3, 11))
    whole = frame(opcode, random.choice(MESSAGES), fin=random.random() < 0.9)
    return whole if random.random() < 0.9 else whole[: random.randrange(len(whole))]
