"""A log of many events of all the sizes and scripts a transcript has to bear."""

from itertools import cycle

from tests.support.payloads import Payload
from tests.support.written_logs import at_rest, came, did, ran, said

RIGHT_TO_LEFT = "שלום, זה טקסט מימין לשמאל عربي \u202egnp.exe"
EMOJI = "👩‍👩‍👧 🏴‍☠️ e\u0301 🇺🇳 " * 20
MARKDOWN = (
    "**Done.** I changed `lock.py` and these:\n\n- one\n- two, see [the manual](https://example.org)"
    "\n\n```python\nfor number in range(10):\n    print(number)\n```\n"
)
LONG_LINE = "w" * 100_000
OUTPUT = "\n".join(f"\x1b[32mok\x1b[0m line {number}" for number in range(200))
ROUND = 10


def long_log(count: int) -> list[Payload]:
    """`count` events, the last of them at rest; one in 1,000 holds a line of 100 KB."""
    texts = cycle((MARKDOWN, "A short answer.", RIGHT_TO_LEFT, EMOJI))
    payloads: list[Payload] = []
    while len(payloads) < count - 3:
        first = len(payloads)
        line = LONG_LINE if first % 1_000 == 0 else f"line {first}"
        payloads += [
            said("user", f"Please go on from {first}."),
            did("think", thought=f"Step {first} comes next."),
            did("run", command=f"make step-{first}"),
            ran(first + 2, f"make step-{first}", OUTPUT),
            did("edit", path="a.py", command="str_replace", old_str="", new_str=""),
            came(
                "edit",
                first + 4,
                path="a.py",
                old_content="a\nb\nc\n",
                new_content=f"a\n{first}\nc\n",
            ),
            did("read", path="a.py"),
            came("read", first + 6, f"a\n{first}\nc\n", path="a.py"),
            said("agent", line),
            said("agent", next(texts)),
        ]
    payloads = payloads[: count - 3]
    asked = max(at for at, payload in enumerate(payloads) if payload["source"] == "user")
    return [*payloads, *at_rest(asked, len(payloads))]
