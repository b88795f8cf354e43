"""The files of a built-in page, held in memory as they were when the server started."""

import gzip
import re
from collections.abc import Mapping
from functools import cached_property
from hashlib import sha256
from pathlib import Path, PurePosixPath

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from server.errors import NotFound
from server.http.negotiation import is_known, takes_gzip
from server.routes.bundles import join_scripts, join_styles

BUILT_IN = Path(__file__).parent.parent / "web"
STRICT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'self';"
    " frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Nothing from elsewhere, nothing inline, and no text that a browser would read as markup or code."""
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
DEEPEST = 16
"""Slashes in an address of a page: each makes every address in it longer."""
JOINED_SCRIPT, JOINED_STYLES = "joined.js", "joined.css"

_VERSION = re.compile(r"[0-9a-f]{16}")
_STYLES = re.compile(r'[ \t]*<link rel="stylesheet" href="/([^"]+)">\n')
_SCRIPT = re.compile(r'<script type="module" src="/([^"]+)">')
_FROM_THE_ROOT = re.compile(r'((?:href|src)=")/')


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
        if is_known(self._etag, ",".join(request.headers.getlist("if-none-match"))):
            return Response(status_code=304, headers=headers)
        accepted = ",".join(request.headers.getlist("accept-encoding"))
        if not takes_gzip(accepted) or not self._packed:
            return Response(self.body, headers=headers, media_type=self._media_type)
        headers["content-encoding"] = "gzip"
        return Response(self._packed, headers=headers, media_type=self._media_type)

    @cached_property
    def _packed(self) -> bytes:
        return gzip.compress(self.body, mtime=0) if len(self.body) >= PACKED_FROM_BYTES else b""


class WebFiles:
    """A page and the files it is made of, which stand below one address.

    Its modules are joined into one script, its style sheets into one; single files are there as
    well. The page names them by addresses with a version in them, which changes when any of them
    does: so browsers keep them, and ask for the page alone. All its addresses are relative to the
    one it was asked for at, and it is told where the server begins: a proxy may have put a path
    before it that the server does not know.
    """

    def __init__(self, page: Path, parts: Mapping[str, Path], prefix: str) -> None:
        sources = {name: path.read_bytes() for name, path in parts.items()}
        text = page.read_text("utf-8")
        below = len(prefix)

        def source_of(name: str) -> str:
            return sources[name].decode()

        joined = {
            JOINED_SCRIPT: join_scripts(
                _SCRIPT.findall(text)[0][below:], source_of, f"{JOINED_SCRIPT}.map"
            ),
            JOINED_STYLES: join_styles(
                [one[below:] for one in _STYLES.findall(text)], source_of, f"{JOINED_STYLES}.map"
            ),
        }
        for name, bundle in joined.items():
            sources[name] = bundle.text.encode()
            sources[f"{name}.map"] = bundle.source_map.encode()
        self._parts = {name: WebFile(name, body) for name, body in sources.items()}
        whole = sha256()
        for name, body in sources.items():
            whole.update(f"{name}\0{len(body)}\0".encode() + body)
        self._version = whole.hexdigest()[:16]
        self._name = page.name
        self._text = _with_joined(text, prefix).replace(
            f'"{prefix}/', f'"{prefix}/{self._version}/'
        )
        self._pages: dict[int, WebFile] = {}
        """By how many folders the address is deep at which they are asked for."""

    def page(self, request: Request) -> Response:
        """The page, which browsers ask for anew each time. Raises NotFound."""
        depth = _depth_of(request.scope)
        if depth > DEEPEST:
            raise NotFound("There is no page this deep")
        if depth not in self._pages:
            self._pages[depth] = WebFile(self._name, _seen_from(depth, self._text).encode())
        return self._pages[depth].answer(request, REVALIDATE)

    def part(self, request: Request, path: str) -> Response:
        """A file, kept for ever where its path begins with the version. Raises NotFound.

        Below a version of another time is what there is now: better than half a page.
        """
        version, _, rest = path.partition("/")
        part = self._parts.get(rest if _VERSION.fullmatch(version) else path)
        if part is None:
            raise NotFound("There is no such file")
        return part.answer(request, IMMUTABLE if version == self._version else REVALIDATE)


def _with_joined(page: str, prefix: str) -> str:
    """The page, which names one style sheet and one script."""
    sheet = f'    <link rel="stylesheet" href="{prefix}/{JOINED_STYLES}">\n'
    first = _STYLES.search(page)
    page = _STYLES.sub(
        lambda found: sheet if first and found.start() == first.start() else "", page
    )
    return _SCRIPT.sub(lambda _: f'<script type="module" src="{prefix}/{JOINED_SCRIPT}">', page)


def _depth_of(scope: Scope) -> int:
    """The folders between the server's root and the address as the browser wrote it."""
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    root: str = scope.get("root_path", "")
    return path.removeprefix(root.encode()).count(b"/") - 1


def _seen_from(depth: int, page: str) -> str:
    """The page with relative addresses, and with where the server begins as `data-base`."""
    base = "../" * depth or "./"
    relative = _FROM_THE_ROOT.sub(rf"\1{base}", page)
    return relative.replace("<html ", f'<html data-base="{base}" ', 1)


def files_below(folder: Path, base: Path) -> dict[str, Path]:
    """All files of a folder by their paths from `base`, in the order of their names."""
    return {
        path.relative_to(base).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
