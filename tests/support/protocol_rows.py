"""Every row of the protocol's REST surface: how it succeeds, and how it refuses."""

from dataclasses import dataclass, field
from typing import Any

from server.routes import GIT_HOST_LISTS, GIT_HOST_RECORDS

ONE = "/api/conversations/{conversation_id}"
LOST = (404, "conversation_not_found")
MESSAGE = {"action": "message", "args": {"content": "x"}}
FILES = [("files", ("up.txt", b"x"))]
INFO = {
    "conversation_id",
    "title",
    "created_at",
    "last_updated_at",
    "last_message_at",
    "status",
    "runtime_status",
    "selected_repository",
    "selected_branch",
    "git_provider",
    "trigger",
    "num_connections",
    "url",
    "session_api_key",
    "pr_number",
    "conversation_version",
    "sub_conversation_ids",
}
STARTED = {"status", "conversation_id", "message", "conversation_status"}


@dataclass(frozen=True)
class Refusal:
    """A request that is refused: what differs from the good one, the status and the code."""

    status: int
    code: str
    path: str | None = None
    """The address in place of the row's."""
    request: dict[str, Any] | None = None


@dataclass(frozen=True)
class Row:
    """One address. `shape` is what a good answer is: its keys, its type or its very value."""

    address: str
    shape: Any
    status: int = 200
    query: str = ""
    request: dict[str, Any] = field(default_factory=dict)
    refusals: tuple[Refusal, ...] = ()
    unknown: tuple[int, str] | None = None
    """The answer to an unknown conversation."""

    @property
    def method(self) -> str:
        """The HTTP method."""
        return self.address.split(" ")[0]

    @property
    def path(self) -> str:
        """The path, with its parameters open."""
        return self.address.split(" ")[1]


def body(**values: Any) -> dict[str, Any]:
    """A request with a JSON body."""
    return {"json": values}


HEALTH = (
    Row("GET /openapi.json", {"openapi", "info", "servers", "tags", "paths", "components"}),
    Row(
        "GET /asyncapi.json",
        {
            "asyncapi",
            "info",
            "defaultContentType",
            "servers",
            "channels",
            "operations",
            "components",
        },
    ),
    Row("GET /alive", {"status": "ok"}),
    Row("GET /health", "OK"),
    Row("GET /ready", {"status": "ok"}),
    Row("GET /metrics", bytes),
    Row("GET /server_info", {"uptime", "idle_time", "resources", "counters"}),
)

OPTIONS = (
    Row(
        "GET /api/options/config",
        {"APP_MODE", "GITHUB_CLIENT_ID", "POSTHOG_CLIENT_KEY", "FEATURE_FLAGS"},
    ),
    Row("GET /api/options/models", list),
    Row("GET /api/options/agents", ["scripted"]),
    Row("GET /api/options/examples", list),
    Row("GET /api/options/security-analyzers", []),
)

MANAGING = (
    Row(
        "GET /api/conversations",
        {"results", "next_page_id"},
        refusals=(
            Refusal(400, "bad_request", "?limit=0"),
            Refusal(400, "bad_request", "?limit=101"),
            Refusal(400, "bad_request", "?conversation_trigger=magic"),
            Refusal(400, "bad_value", "?page_id=NQ=="),
        ),
    ),
    Row(
        "GET /api/search",
        {"results", "next_cursor"},
        query="?q=hello",
        refusals=(
            Refusal(400, "bad_request", ""),
            Refusal(400, "bad_request", "?q=x&limit=101"),
            Refusal(400, "bad_request", "?q=x&kind=magic"),
            Refusal(400, "bad_value", "?q=x&cursor=NQ=="),
            Refusal(400, "bad_value", "?q=x&conversation_id=.."),
        ),
    ),
    Row(
        "POST /api/conversations",
        STARTED,
        request=body(initial_user_msg="hello"),
        refusals=(
            Refusal(400, "bad_replay", request=body(replay_json="[]")),
            Refusal(422, "invalid_body", request=body(surplus=1)),
            Refusal(422, "invalid_body", request=body(git_provider="nowhere")),
            Refusal(422, "invalid_body", request=body(conversation_id="mine")),
        ),
    ),
    Row(f"GET {ONE}", INFO, unknown=(200, "null")),
    Row(
        f"PATCH {ONE}",
        shape=True,
        request=body(title="A title"),
        unknown=LOST,
        refusals=(
            Refusal(422, "invalid_body", request=body(title=" ")),
            Refusal(422, "invalid_body", request=body(title="x" * 201)),
            Refusal(422, "invalid_body", request=body(title="x", more=1)),
        ),
    ),
    Row(f"DELETE {ONE}", shape=True, unknown=(200, "false")),
    Row(
        f"POST {ONE}/start",
        STARTED,
        request=body(providers_set=[]),
        unknown=LOST,
        refusals=(Refusal(422, "invalid_body", request=body(providers_set=["nowhere"])),),
    ),
    Row(f"POST {ONE}/stop", STARTED, unknown=LOST),
    Row(
        f"GET {ONE}/remember-prompt",
        "not_supported",
        status=501,
        query="?event_id=0",
        unknown=LOST,
        refusals=(Refusal(400, "bad_request", "?event_id=-1"),),
    ),
    Row(
        f"POST {ONE}/exp-config",
        "not_supported",
        status=501,
        request=body(config={"a": "b"}),
        unknown=LOST,
        refusals=(Refusal(422, "invalid_body", request=body(config=1)),),
    ),
    Row(
        "GET /api/microagent-management/conversations",
        {"results", "next_page_id"},
        query="?selected_repository=acme/rocket",
        refusals=(Refusal(400, "bad_value", "?page_id=NQ=="),),
    ),
)

CONVERSATION = (
    Row(f"GET {ONE}/config", {"runtime_id", "session_id"}, unknown=LOST),
    Row(f"GET {ONE}/vscode-url", {"vscode_url": None}, unknown=LOST),
    Row(f"GET {ONE}/web-hosts", {"hosts": {}}, unknown=LOST),
    Row(f"GET {ONE}/git/changes", [{"status": "M", "path": "a.txt"}], unknown=LOST),
    Row(
        f"GET {ONE}/git/diff",
        {"original": "old\n", "modified": "new\n"},
        query="?path=a.txt",
        unknown=LOST,
        refusals=(
            Refusal(400, "bad_request", ""),
            Refusal(400, "bad_path", "?path=../../x"),
            Refusal(404, "not_found", "?path=missing"),
            Refusal(415, "not_text", "?path=picture"),
        ),
    ),
    Row(
        f"GET {ONE}/events",
        {"events", "has_more"},
        unknown=LOST,
        refusals=(
            Refusal(400, "bad_request", "?limit=0"),
            Refusal(400, "bad_request", "?limit=101"),
            Refusal(400, "bad_request", "?start_id=-1"),
            Refusal(400, "bad_request", "?start_date=soon"),
        ),
    ),
    Row(
        f"POST {ONE}/events",
        {"success", "id", "duplicate"},
        request=body(**MESSAGE),
        unknown=LOST,
        refusals=(
            Refusal(400, "unknown_kind", request=body(action="sing")),
            Refusal(400, "forbidden_kind", request=body(observation="run")),
            Refusal(400, "forbidden_field", request=body(**MESSAGE, id=7)),
            Refusal(400, "missing_argument", request=body(action="message", args={})),
        ),
    ),
    Row(
        f"POST {ONE}/message",
        {"success", "id", "duplicate"},
        request=body(message="x"),
        unknown=LOST,
        refusals=(Refusal(422, "invalid_body", request=body(message="")),),
    ),
    Row(
        f"GET {ONE}/turns",
        {"turns", "has_more"},
        unknown=LOST,
        refusals=(
            Refusal(400, "bad_request", "?limit=0"),
            Refusal(400, "bad_request", "?before=-1"),
        ),
    ),
    Row(
        f"POST {ONE}/turns",
        {"success", "id", "duplicate"},
        request=body(),
        unknown=LOST,
        refusals=(Refusal(422, "invalid_body", request=body(surplus=1)),),
    ),
    Row(
        f"POST {ONE}/stop-turn",
        {"stopped": False},
        request=body(turn=0),
        unknown=LOST,
        refusals=(
            Refusal(422, "invalid_body", request=body(turn=-1)),
            Refusal(422, "invalid_body", request=body()),
        ),
    ),
    Row(f"GET {ONE}/approvals", {"approvals": [], "allowed": []}, unknown=LOST),
    Row(f"DELETE {ONE}/approvals/allowed/{{kind}}", {"revoked": False}, unknown=LOST),
    Row(
        f"POST {ONE}/approvals/{{approval}}",
        "approval_not_found",
        status=404,
        request=body(decision="approve"),
        unknown=LOST,
        refusals=(Refusal(422, "invalid_body", request=body(decision="maybe")),),
    ),
    Row(
        f"POST {ONE}/approvals/{{approval}}/renew",
        "approval_not_found",
        status=404,
        request=body(),
        unknown=LOST,
        refusals=(Refusal(422, "invalid_body", request=body(surplus=1)),),
    ),
    Row(f"GET {ONE}/microagents", {"microagents": []}, unknown=LOST),
    Row(f"GET {ONE}/trajectory", {"trajectory"}, unknown=LOST),
    Row(
        f"GET {ONE}/stream",
        bytes,
        query="?end=now",
        refusals=(
            Refusal(400, "bad_cursor", path="?cursor=x"),
            Refusal(400, "bad_request", path="?end=x"),
        ),
        unknown=LOST,
    ),
    Row(
        f"POST {ONE}/upload-files",
        {"uploaded_files": ["/workspace/up.txt"], "skipped_files": []},
        request={"files": FILES},
        unknown=LOST,
        refusals=(
            Refusal(422, "invalid_body", request={"files": [("other", ("a", b"x"))]}),
            Refusal(415, "unsupported_media_type", request=body()),
        ),
    ),
    Row(
        f"GET {ONE}/list-files",
        ["a.txt", "picture"],
        unknown=LOST,
        refusals=(
            Refusal(400, "bad_path", "?path=../.."),
            Refusal(404, "file_not_found", "?path=missing"),
        ),
    ),
    Row(
        f"GET {ONE}/select-file",
        {"code": "new\n"},
        query="?file=a.txt",
        unknown=LOST,
        refusals=(
            Refusal(400, "bad_request", ""),
            Refusal(400, "bad_path", "?file=/etc/passwd"),
            Refusal(404, "file_not_found", "?file=missing"),
            Refusal(415, "not_text", "?file=picture"),
        ),
    ),
    Row(f"GET {ONE}/zip-directory", bytes, unknown=LOST),
    Row(
        f"GET {ONE}/workspace",
        {"path", "running", "kept_at", "entries", "more"},
        unknown=LOST,
        refusals=(
            Refusal(400, "bad_path", "?path=../x"),
            Refusal(404, "file_not_found", "?path=missing"),
        ),
    ),
    Row(
        f"GET {ONE}/workspace/preview",
        {"path", "kind", "size", "text", "cut"},
        query="?file=a.txt",
        unknown=LOST,
        refusals=(
            Refusal(400, "bad_request", ""),
            Refusal(400, "bad_path", "?file=../x"),
            Refusal(404, "file_not_found", "?file=missing"),
        ),
    ),
    Row(
        f"GET {ONE}/workspace/download",
        bytes,
        query="?file=a.txt",
        unknown=LOST,
        refusals=(
            Refusal(400, "bad_request", ""),
            Refusal(404, "file_not_found", "?file=missing"),
        ),
    ),
    Row(
        f"POST {ONE}/submit-feedback",
        {"status", "message", "feedback_id"},
        request=body(polarity="negative"),
        unknown=LOST,
        refusals=(Refusal(422, "invalid_body", request=body(polarity="so so")),),
    ),
    Row(f"GET {ONE}/security/{{path:path}}", "not_supported", status=501, unknown=LOST),
    Row(f"POST {ONE}/security/{{path:path}}", "not_supported", status=501, unknown=LOST),
)

GIT_HOSTS = tuple(
    Row(f"GET /api/user/{path}", "git_token_required", status=401)
    for path in (
        *GIT_HOST_RECORDS,
        *GIT_HOST_LISTS,
        "repository/branches",
        "search/branches",
        "suggested-tasks",
    )
)

ROWS = (*HEALTH, *OPTIONS, *MANAGING, *CONVERSATION, *GIT_HOSTS)
