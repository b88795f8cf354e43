"""The files of a built-in page, held in memory as they were when the server started."""

import gzip
import re
from collections.abc import Mapping
from functools import cached_property
from hashlib import sha256
from pathlib import Path, PurePosixPath

from starlette.requests import Request
from starlette.responses import Response

from server.errors import NotFound
from server.routes.preloads import modules_of

BUILT_IN = Path(__file__).parent.parent / "web"
STRICT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'self';"
    " frame-ancestors 'none'"
)
REVALIDATE = "no-cache"
IMMUTABLE = "public, max-age=2592000, immutable"
MEDIA_TYPES: Mapping[str, str] = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
"""Browsers are told not to guess, and the system's own table may be wrong."""
PACKED_FROM_BYTES = 512

_VERSION = re.compile(r"[0-9a-f]{16}")


class WebFile:
    """One file: its bytes as they are and packed."""

    def __init__(self, name: str, body: bytes) -> None:
        self.body = body
        suffix = PurePosixPath(name).suffix
        self._media_type = MEDIA_TYPES.get(suffix, "text/plain; charset=utf-8")
        # Weak, since packed and not packed are one file.
        self._etag = f'W/"{sha256(body).hexdigest()[:16]}"'

    def answer(self, request: Request, caching: str) -> Response:
        """The file, packed for those who take that; 304 without a body for who has it."""
        headers = {
            "cache-control": caching,
            "content-security-policy": STRICT_POLICY,
            "etag": self._etag,
            "vary": "Accept-Encoding",
        }
        if self._etag.removeprefix("W/") in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if "gzip" not in request.headers.get("accept-encoding", "") or not self._packed:
            return Response(self.body, headers=headers, media_type=self._media_type)
        headers["content-encoding"] = "gzip"
        return Response(self._packed, headers=headers, media_type=self._media_type)

    @cached_property
    def _packed(self) -> bytes:
        return gzip.compress(self.body, mtime=0) if len(self.body) >= PACKED_FROM_BYTES else b""


class WebFiles:
    """A page and the files it is made of, which stand below one address.

    The page names them by addresses with a version in them, which changes when any of them does:
    so browsers keep them, and ask for the page alone.
    """

    def __init__(self, page: Path, parts: Mapping[str, Path], prefix: str) -> None:
        self._prefix = prefix
        self._parts = {name: WebFile(name, path.read_bytes()) for name, path in parts.items()}
        whole = sha256()
        for name, part in self._parts.items():
            whole.update(f"{name}\0{len(part.body)}\0".encode() + part.body)
        self._version = whole.hexdigest()[:16]
        self._page = WebFile(page.name, self._with_versions(page.read_text("utf-8")).encode())

    def page(self, request: Request) -> Response:
        """The page, which browsers ask for anew each time."""
        return self._page.answer(request, REVALIDATE)

    def part(self, request: Request, path: str) -> Response:
        """A file, kept for ever where its path begins with the version. Raises NotFound.

        Below a version of another time is what there is now: better than half a page.
        """
        version, _, rest = path.partition("/")
        part = self._parts.get(rest if _VERSION.fullmatch(version) else path)
        if part is None:
            raise NotFound("There is no such file")
        return part.answer(request, IMMUTABLE if version == self._version else REVALIDATE)

    def _with_versions(self, page: str) -> str:
        """The page, with all its modules at its end, so that none waits until another names it."""
        script = f'<script type="module" src="{self._prefix}/'
        start = page.index(script) + len(script)
        entry = page[start : page.index('"', start)]
        # What is drawn first, its text and the styles, comes before them.
        links = "".join(
            f'<link rel="modulepreload" fetchpriority="low" href="{self._prefix}/{module}">\n'
            for module in modules_of(entry, lambda name: self._parts[name].body.decode())
        )
        whole = page.replace("</body>", f"{links}</body>", 1)
        return whole.replace(f'"{self._prefix}/', f'"{self._prefix}/{self._version}/')


def files_below(folder: Path, base: Path) -> dict[str, Path]:
    """All files of a folder by their paths from `base`, in the order of their names."""
    return {
        path.relative_to(base).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
