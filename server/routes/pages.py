"""The pages: the chat, built in or from `ui_dir`, and the admin page, which is always built in."""

import asyncio
import re
from base64 import b64encode
from functools import cache
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path, PurePosixPath

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from server.config.settings import ServerConfig
from server.errors import NotFound
from server.routes.endpoint import Tag, described
from server.routes.static_files import (
    BUILT_IN,
    IMMUTABLE,
    MEDIA_TYPES,
    REVALIDATE,
    WebFile,
    WebFiles,
    files_below,
)

INDEX = "index.html"
ADMIN_INDEX = BUILT_IN / "admin" / "index.html"
SHARED = (
    "icon.svg",
    "theme-boot.js",
    "base.js",
    "header-text.js",
    "views/dom.js",
    "styles/tokens.css",
    "styles/base.css",
)
"""Files the admin page shares with the built-in chat page, which may not be the one served."""
CONVERSATION_PARTS = "conversation-parts.js"
"""The module with what only an open conversation needs."""
DIAGRAM = "diagram/index.html"
DIAGRAM_LIBRARY = "vendor/mermaid.min.js"
"""Of no use to the page itself, and larger than all the rest of it."""
DIAGRAM_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src {scripts}; style-src 'unsafe-inline';"
    " img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
"""The policy of the frame in which diagrams are drawn: their library makes markup and inline styles.

The frame has no origin, so that it could request nothing from here; all it needs is in one document.
"""
FOREIGN_POLICY = "frame-ancestors 'self'; base-uri 'self'; form-action 'self'; object-src 'none'"
"""The policy of an unknown build, which may load and run anything."""

_FRAME_SCRIPT = re.compile(r'<script src="([^"]+)"></script>')
_FRAME_STYLE = re.compile(r'<link rel="stylesheet" href="([^"]+)">')
_CONVERSATION = re.compile(r"conversations/[^/]+/?")
_HASHED = re.compile(
    r"assets/(?:.*/)?[^/]*[.-](?=[a-z]*[A-Z0-9_])(?=[0-9_]*[A-Za-z])"
    r"(?:\w{8}|[0-9a-f]{16,64})(?:\.[a-z0-9]+)+"
)


def page_routes(config: ServerConfig) -> "BuiltInPage | CustomPage":
    """Return the chat page that the settings name."""
    return BuiltInPage() if config.ui_dir is None else CustomPage(config.ui_dir)


@cache
def built_in_page() -> WebFiles:
    """Return the built-in chat page with its files, without those of the other pages."""
    parts = {
        name: path
        for name, path in files_below(BUILT_IN, BUILT_IN).items()
        if name not in (INDEX, DIAGRAM_LIBRARY)
        and not name.startswith(("admin/", "docs/", "diagram/"))
    }
    return WebFiles(BUILT_IN / INDEX, parts, "/assets")


@cache
def diagram_frame() -> WebFile:
    """Return the frame in which the page draws diagrams; reads and compresses some megabytes."""
    text = (BUILT_IN / DIAGRAM).read_text("utf-8")
    folder = (BUILT_IN / DIAGRAM).parent
    hashes = []

    def script(found: re.Match[str]) -> str:
        name = found[1]
        path = BUILT_IN / DIAGRAM_LIBRARY if name in DIAGRAM_LIBRARY else folder / name
        source = path.read_text("utf-8")
        hashes.append(f"'sha256-{b64encode(sha256(source.encode()).digest()).decode()}'")
        return f"<script>{source}</script>"

    text = _FRAME_SCRIPT.sub(script, text)
    text = _FRAME_STYLE.sub(lambda found: f"<style>{(folder / found[1]).read_text()}</style>", text)
    protection = {
        "content-security-policy": DIAGRAM_POLICY.format(scripts=" ".join(hashes)),
        "x-frame-options": "SAMEORIGIN",
    }
    frame = WebFile(DIAGRAM, text.encode(), protection)
    _ = frame.packed
    return frame


class BuiltInPage:
    """The built-in chat page."""

    def __init__(self) -> None:
        self._files = built_in_page()

    async def serve(self, request: Request) -> Response:
        """Serve a file below `/assets`, or the page at its client-side routes. Raises NotFound."""
        path = request.path_params["path"].strip("/")
        if _is_address_of_the_page(request, path):
            addressed = _CONVERSATION.fullmatch(path)
            return self._files.page(request, at_once=CONVERSATION_PARTS if addressed else None)
        folder, _, rest = path.partition("/")
        if folder != "assets":
            raise NotFound("There is no such file")
        if rest == DIAGRAM:
            # Read by the first who asks, in a thread: it is more than all other files together.
            return (await asyncio.to_thread(diagram_frame)).answer(request, REVALIDATE)
        return self._files.part(request, rest)


class CustomPage:
    """A page from `ui_dir`: its files, and its index.html at the page's client-side routes."""

    def __init__(self, folder: Path) -> None:
        self._files = StaticFiles(directory=folder)

    async def serve(self, request: Request) -> Response:
        """Serve a file, or the index for navigations. Raises NotFound.

        Hidden files, and files outside the folder even through a link, are not found.
        """
        path = request.path_params["path"].strip("/")
        if _is_address_of_the_page(request, path):
            path = INDEX
        if any(part.startswith(".") for part in path.split("/")):
            raise NotFound("There is no such file")
        try:
            response = await self._files.get_response(path, request.scope)
        except HTTPException as error:
            raise NotFound("There is no such file") from error
        if response.status_code == HTTPStatus.OK and _has_any(request):
            response = Response(status_code=304, headers={"etag": response.headers["etag"]})
        media_type = MEDIA_TYPES.get(PurePosixPath(path).suffix.lower())
        if media_type is not None and "content-type" in response.headers:
            response.headers["content-type"] = media_type
        response.headers["cache-control"] = IMMUTABLE if _HASHED.fullmatch(path) else REVALIDATE
        response.headers["content-security-policy"] = FOREIGN_POLICY
        return response


@cache
def admin_page() -> WebFiles:
    """Return the admin page with its files."""
    own = {
        name: path
        for name, path in files_below(ADMIN_INDEX.parent, BUILT_IN).items()
        if path != ADMIN_INDEX
    }
    parts = own | {name: BUILT_IN / name for name in SHARED}
    return WebFiles(ADMIN_INDEX, parts, "/admin/assets")


class AdminPageRoutes:
    """The admin page, which needs no key itself: it asks for one, and shows nothing without."""

    def __init__(self) -> None:
        self._files = admin_page()

    @described(Tag.ADMINISTRATION, media_type="text/html")
    async def index(self, request: Request) -> Response:
        """Serve the admin page."""
        return self._files.page(request)

    @described(Tag.ADMINISTRATION, media_type="*/*", raises=(NotFound,))
    async def asset(self, request: Request) -> Response:
        """Serve a file of the admin page. Raises NotFound."""
        return self._files.part(request, request.path_params["path"])


def _has_any(request: Request) -> bool:
    """Return whether the client has any version of the file cached (`*`)."""
    return request.headers.get("if-none-match", "").strip() == "*"


def _is_address_of_the_page(request: Request, path: str) -> bool:
    if path in ("", INDEX) or _CONVERSATION.fullmatch(path):
        return True
    # A missing asset must not be answered with a page, which would be parsed as the asset.
    return (
        path.partition("/")[0] != "assets"
        and not PurePosixPath(path).suffix
        and "text/html" in request.headers.get("accept", "")
    )
