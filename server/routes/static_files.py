"""The files of a built-in page, read at start and held in memory."""

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
from server.routes.bundles import join_scripts, join_styles, script_name

BUILT_IN = Path(__file__).parent.parent / "web"
STRICT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; font-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'self';"
    " frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Nothing from other origins, nothing inline, and no string that a browser parses as markup or code."""
PROTECTED: Mapping[str, str] = {"content-security-policy": STRICT_POLICY}
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
"""Media types by suffix: browsers must not guess, and the system's table may be wrong."""
PACKED_FROM_BYTES = 512
DEEPEST = 16
"""Maximum slashes in the path of a page: each makes every relative address in it longer."""
JOINED_SCRIPT, JOINED_STYLES = "joined.js", "joined.css"

_VERSION = re.compile(r"[0-9a-f]{16}")
_STYLES = re.compile(r'[ \t]*<link rel="stylesheet" href="/([^"]+)">\n')
_SCRIPT = re.compile(r'<script type="module" src="/([^"]+)">')
_CODING = re.compile(
    r"[ \t]*(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*"
    r"(?:;[ \t]*q=(?P<weight>0(?:\.\d{0,3})?|1(?:\.0{0,3})?)[ \t]*)?",
    re.ASCII | re.IGNORECASE,
)
_TAG = re.compile(r'(?:W/)?("[^"]*")')
_FROM_THE_ROOT = re.compile(r'((?:href|src)=")/')


class WebFile:
    """One file, as it is and compressed, with the headers that protect its reader."""

    def __init__(self, name: str, body: bytes, protection: Mapping[str, str] = PROTECTED) -> None:
        self.body = body
        self._protection = protection
        suffix = PurePosixPath(name).suffix
        self._media_type = MEDIA_TYPES.get(suffix, "text/plain; charset=utf-8")
        # Weak, since the compressed and the plain file share it.
        self._etag = f'W/"{sha256(body).hexdigest()[:16]}"'

    def answer(self, request: Request, caching: str) -> Response:
        """Return the file, compressed if the client accepts gzip; 304 if the client has it."""
        headers = {
            **self._protection,
            "cache-control": caching,
            "etag": self._etag,
            "vary": "Accept-Encoding",
        }
        if _is_cached(self._etag, ",".join(request.headers.getlist("if-none-match"))):
            return Response(status_code=304, headers=headers)
        accepted = ",".join(request.headers.getlist("accept-encoding"))
        if not _accepts_gzip(accepted) or not self.packed:
            return Response(self.body, headers=headers, media_type=self._media_type)
        headers["content-encoding"] = "gzip"
        return Response(self.packed, headers=headers, media_type=self._media_type)

    @cached_property
    def packed(self) -> bytes:
        """The compressed file, made when it is first needed; empty if that is not worth it."""
        return gzip.compress(self.body, mtime=0) if len(self.body) >= PACKED_FROM_BYTES else b""


class WebFiles:
    """A page and its files, which are served below one prefix.

    Its modules are joined into one script, and one for each that is loaded later; its style sheets
    into one. The single files are served as well. The addresses of files contain a version, which changes when any file does, so
    that browsers cache the files and revalidate only the page. All addresses are relative to that
    of the request, and `data-base` names the server's root: a proxy may have added a path prefix
    that the server does not know.
    """

    def __init__(self, page: Path, parts: Mapping[str, Path], prefix: str) -> None:
        sources = {name: path.read_bytes() for name, path in parts.items()}
        text = page.read_text("utf-8")
        below = len(prefix)

        def source_of(name: str) -> str:
            return sources[name].decode()

        joined = join_scripts(_SCRIPT.findall(text)[0][below:], source_of, JOINED_SCRIPT)
        joined[JOINED_STYLES] = join_styles(
            [one[below:] for one in _STYLES.findall(text)], source_of, f"{JOINED_STYLES}.map"
        )
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
        self._folder = f"{prefix}/{self._version}"
        self._pages: dict[tuple[int, str | None], WebFile] = {}
        """The page by the depth of the requested path, in folders, and by what it needs at once."""

    def page(self, request: Request, *, at_once: str | None = None) -> Response:
        """Return the page, which browsers revalidate each time. Raises NotFound.

        `at_once` is a module that is loaded later as a rule, and that this address needs from the
        beginning: the page names its script in the head, so that browsers request it with the first.
        """
        depth = _depth_of(request.scope)
        if depth > DEEPEST:
            raise NotFound("There is no page this deep")
        if (depth, at_once) not in self._pages:
            text = self._text
            if at_once is not None:
                address = f"{self._folder}/{script_name(JOINED_SCRIPT, at_once)}"
                text = _SCRIPT.sub(rf'<link rel="modulepreload" href="{address}">\n    \g<0>', text)
            self._pages[depth, at_once] = WebFile(self._name, _seen_from(depth, text).encode())
        return self._pages[depth, at_once].answer(request, REVALIDATE)

    def part(self, request: Request, path: str) -> Response:
        """Return a file, cached for long if its path begins with the current version. Raises NotFound.

        Another version in the path gets the current file, which is better than half a page.
        """
        version, _, rest = path.partition("/")
        part = self._parts.get(rest if _VERSION.fullmatch(version) else path)
        if part is None:
            raise NotFound("There is no such file")
        return part.answer(request, IMMUTABLE if version == self._version else REVALIDATE)


def _accepts_gzip(accept_encoding: str) -> bool:
    """Return whether an Accept-Encoding header of that value accepts gzip."""
    weights: dict[str, float] = {}
    for part in accept_encoding.split(","):
        found = _CODING.fullmatch(part)
        if found is not None:
            weights[found["name"].lower()] = float(found["weight"] or 1)
    return max(weights.get("gzip", -1), weights.get("x-gzip", -1), -1) > 0 or (
        not weights.keys() & {"gzip", "x-gzip"} and weights.get("*", 0) > 0
    )


def _is_cached(etag: str, if_none_match: str) -> bool:
    """Return whether an If-None-Match header of that value names the tag.

    Tags are compared weakly; `*` matches any.
    """
    if if_none_match.strip() == "*":
        return True
    return etag.removeprefix("W/") in _TAG.findall(if_none_match)


def _with_joined(page: str, prefix: str) -> str:
    """Return the page with its style sheets and its script replaced by the joined ones."""
    sheet = f'    <link rel="stylesheet" href="{prefix}/{JOINED_STYLES}">\n'
    first = _STYLES.search(page)
    page = _STYLES.sub(
        lambda found: sheet if first and found.start() == first.start() else "", page
    )
    return _SCRIPT.sub(lambda _: f'<script type="module" src="{prefix}/{JOINED_SCRIPT}">', page)


def _depth_of(scope: Scope) -> int:
    """Return the number of folders between the server's root and the requested path."""
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    root: str = scope.get("root_path", "")
    return path.removeprefix(root.encode()).count(b"/") - 1


def _seen_from(depth: int, page: str) -> str:
    """Return the page with relative addresses and the path to the server's root as `data-base`."""
    base = "../" * depth or "./"
    relative = _FROM_THE_ROOT.sub(rf"\1{base}", page)
    return relative.replace("<html ", f'<html data-base="{base}" ', 1)


def files_below(folder: Path, base: Path) -> dict[str, Path]:
    """Return all files below a folder by their paths relative to `base`, sorted."""
    return {
        path.relative_to(base).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
