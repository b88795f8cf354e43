"""A conversation that holds one of everything the page draws."""

from tests.support.payloads import Payload
from tests.support.written_logs import at_rest, came, did, ran, said

TITLE = (
    "Why does the nightly build of the payments service fail on the third retry and never before?"
)

ANSWER = """\
The build fails because **two workers** share one lock file. In short:

1. `prepare` takes the lock and forgets it when the *download* fails,
2. the retry waits for it,
3. and ~~nobody~~ the watchdog kills both after 90 s.

### What I would change

| where | now | better |
| :-- | :-- | --: |
| `lock.py` | kept on failure | released in `finally` |
| `retry.py` | 3 tries | 5 tries |

```python
def prepare(path: Path) -> None:
    with lock(path):            # released even when the download fails
        download(path, retries=5, backoff=lambda attempt: min(2**attempt, 30), on_error=report)
```

> The watchdog is right to be strict.

- [x] reproduce it
- [ ] fix `lock.py`

More in [the manual](https://example.org/locks) and at https://example.org/retry.
"""

METRICS = {
    "accumulated_cost": 0.0423,
    "max_budget_per_task": 2.0,
    "accumulated_token_usage": {
        "model": "acme/large",
        "prompt_tokens": 48_210,
        "completion_tokens": 2_904,
        "cache_read_tokens": 31_000,
        "cache_write_tokens": 0,
        "context_window": 128_000,
        "per_turn_token": 9_120,
        "response_id": "",
    },
    "costs": [],
    "response_latencies": [],
    "token_usages": [],
}

TESTS = "".join(
    f"tests/test_{number:03d}.py::test_it \x1b[32mPASSED\x1b[0m\n" for number in range(60)
)
TEST_OUTPUT = (
    f"\x1b[1mcollected 61 items\x1b[0m\n{TESTS}"
    "tests/test_lock.py::test_retry \x1b[31mFAILED\x1b[0m\n"
    "\x1b[31m\x1b[1m1 failed\x1b[0m, \x1b[32m60 passed\x1b[0m in 4.21s\n"
)

OLD = "import os\n\n\ndef prepare(path):\n    take(path)\n    download(path)\n    release(path)\n\n\nRETRIES = 3\n"
NEW = (
    "import os\n\n\ndef prepare(path):\n    take(path)\n    try:\n        download(path)\n"
    "    finally:\n        release(path)\n\n\nRETRIES = 5\n"
)
DIFF = """\
--- a/retry.py
+++ b/retry.py
@@ -12,5 +12,5 @@ def again(call):
     for attempt in range(RETRIES):
         try:
             return call()
-        except Exception:
+        except DownloadFailed:
             wait(attempt)
"""

TASKS = [
    {"id": "1", "title": "Reproduce the failure", "status": "done", "notes": "third retry, always"},
    {"id": "2", "title": "Release the lock on every path", "status": "in_progress", "notes": ""},
    {"id": "3", "title": "Tell the operators", "status": "todo", "notes": ""},
]


def gallery() -> list[Payload]:
    """The payloads, in order; causes are positions in the list."""
    return [
        said("user", "The nightly build fails on its third retry. Can you find out why?"),
        did("think", thought="The third retry is the first one after the lock's time is up."),
        did("read", path="/workspace/lock.py", thought="I start with the lock."),
        came("read", 2, OLD, path="/workspace/lock.py", impl_source="default"),
        did("run", command="pytest -q", thought="", confirmation_state="confirmed"),
        ran(4, "pytest -q", TEST_OUTPUT, exit_code=1),
        did("task_tracking", command="plan", task_list=TASKS),
        came("task_tracking", 6, "", command="plan", task_list=TASKS),
        said("agent", ANSWER) | {"llm_metrics": METRICS},
        said("user", "Yes, please do that."),
        did("edit", path="/workspace/lock.py", command="str_replace", old_str="", new_str=""),
        came(
            "edit",
            10,
            "",
            path="/workspace/lock.py",
            prev_exist=True,
            old_content=OLD,
            new_content=NEW,
        ),
        did("edit", path="/workspace/retry.py", command="str_replace", old_str="", new_str=""),
        came("edit", 12, "", path="/workspace/retry.py", prev_exist=True, diff=DIFF),
        did("write", path="/workspace/NOTES.md", content="# Notes\n\nThe lock is released.\n"),
        came("write", 14, "", path="/workspace/NOTES.md"),
        did("run", command="true"),
        ran(16, "true", ""),
        did("call_tool_mcp", name="tickets.comment", arguments={"id": 4711, "text": "fixed"}),
        came("mcp", 18, '{"ok": true}', name="tickets.comment", arguments={"id": 4711}),
        did("browse", url="https://example.org/build/4711"),
        came("error", 20, "The address could not be reached.", error_id=""),
        came("error", None, "The model did not answer in time.", error_id=""),
        did("finish", final_thought="The build is green again. **Nothing else** was changed."),
        *at_rest(message_id=9, recall_id=24),
    ]
