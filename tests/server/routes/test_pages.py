"""The built-in page and foreign builds: what is served, how, and what never is."""

import re
from base64 import b64encode
from hashlib import sha256
from pathlib import PurePosixPath
from urllib.parse import urljoin

import pytest

from server.routes.static_files import IMMUTABLE, STRICT_POLICY
from tests.support.rest import assert_refused, rest_server

NAVIGATION = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
VERSION = re.compile(r"/[0-9a-f]{16}/")


@pytest.fixture
def build(tmp_path):
    folder = tmp_path / "build"
    files = {
        "index.html": "<!doctype html><title>Build</title>",
        "assets/index-DiwrgTda.js": "1",
        "assets/deep/style.3f9d2c1ab4e0f5a7.css": "2",
        "assets/my-component.js": "3",
        "favicon.ico": "4",
        "locales/en/translation.json": "{}",
        "page-DiwrgTda.js": "5",
        ".env": "SECRET",
        ".git/config": "SECRET",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (tmp_path / "outside.txt").write_text("SECRET")
    (folder / "link.txt").symlink_to(tmp_path / "outside.txt")
    (folder / "linked").symlink_to(tmp_path)
    return folder


@pytest.fixture
async def foreign(build):
    async with rest_server(ui_dir=build) as opened:
        yield opened


@pytest.mark.parametrize("path", ["/", "/index.html", "/conversations/abc", "/conversations/a.b/"])
async def test_the_page_is_at_its_own_addresses_whoever_asks(rest, path):
    answer = await rest.ask("GET", path)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "<title>Parley</title>" in answer.text


async def test_the_built_in_page_is_protected_strictly_and_always_asked_for_again(rest):
    answer = await rest.ask("GET", "/")

    assert answer.headers["content-security-policy"] == STRICT_POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-cache"


NAMED = re.compile(r'<(?:script|link|a)\b[^>]* (?:src|href)="([^"#]+)"')


@pytest.mark.parametrize("address", ["/", "/admin", "/docs"])
async def test_all_a_page_is_made_of_has_its_version_is_there_and_is_kept_for_ever(rest, address):
    page = (await rest.ask("GET", address)).text
    named = [urljoin(address, one) for one in NAMED.findall(page) if VERSION.search(one)]

    kinds = sorted(PurePosixPath(path).suffix for path in named)
    assert kinds == [".css", ".js", ".js", ".svg"]
    assert len({VERSION.findall(path)[0] for path in named}) == 1
    for path in named:
        answer = await rest.ask("GET", path)
        assert answer.status_code == 200, path
        assert answer.headers["cache-control"] == IMMUTABLE


@pytest.mark.parametrize(
    ("address", "named"), [("/", 0), ("/conversations/abc", 1), ("/conversations/abc/", 1)]
)
async def test_the_page_of_a_conversation_names_the_script_that_only_conversations_need(
    rest, address, named
):
    page = (await rest.ask("GET", address)).text
    ahead = re.findall(r'<link rel="modulepreload" href="([^"]+)">', page)

    assert len(ahead) == named
    for one in ahead:
        script = await rest.ask("GET", urljoin(address, one))
        assert script.headers["cache-control"] == IMMUTABLE
        # The address that the first script imports it by: otherwise it is requested twice.
        first = re.findall(r'<script type="module" src="([^"]+)">', page)[0]
        assert (
            f'import("./{one.rpartition("/")[2]}")'
            in (await rest.ask("GET", urljoin(address, first))).text
        )


async def test_the_frame_of_diagrams_is_one_document_that_can_reach_nothing(rest):
    answer = await rest.ask("GET", "/assets/diagram/index.html")

    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"].split("; ")
    assert {"sandbox allow-scripts", "default-src 'none'", "frame-ancestors 'self'"} <= set(policy)
    (scripts,) = (one.split()[1:] for one in policy if one.startswith("script-src"))
    sources = re.findall(r"<script>(.*?)</script>", answer.text, re.DOTALL)
    assert scripts == [
        f"'sha256-{b64encode(sha256(one.encode()).digest()).decode()}'" for one in sources
    ]
    assert not re.search(r'<[^>]*\b(?:src|href)="', answer.text.partition("<script>")[0])
    assert answer.headers["x-frame-options"] == "SAMEORIGIN"
    assert answer.headers["cache-control"] == "no-cache"


async def test_nothing_else_may_be_framed_and_the_page_itself_holds_no_library_of_diagrams(rest):
    for path in ("/", "/assets/app.js", "/admin", "/docs"):
        answer = await rest.ask("GET", path)
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-frame-options"] == "DENY"
    for path in ("/assets/vendor/mermaid.min.js", "/assets/diagram/frame.js", "/assets/diagram/"):
        assert_refused(await rest.ask("GET", path), 404, "not_found")


@pytest.mark.parametrize("prefix", ["", "/parley", "/a/b"])
@pytest.mark.parametrize(
    ("address", "base"),
    [
        ("/", "./"),
        ("/index.html", "./"),
        ("/admin", "./"),
        ("/docs", "./"),
        ("/conversations/abc", "../"),
        ("/conversations/a%2Fb", "../"),
        ("/conversations/abc/", "../../"),
        ("/somewhere/else/entirely", "../../"),
    ],
)
async def test_a_page_names_nothing_but_what_is_below_the_server_wherever_a_proxy_puts_it(
    rest, prefix, address, base
):
    answer = await rest.ask("GET", address, headers=NAVIGATION)

    assert f'<html data-base="{base}"' in answer.text
    seen_at = f"https://example.org{prefix}{address}"
    assert urljoin(seen_at, base) == f"https://example.org{prefix}/"
    named = NAMED.findall(answer.text)
    assert len(named) > 4
    for one in named:
        below = urljoin(seen_at, one).removeprefix(f"https://example.org{prefix}")
        assert (await rest.ask("GET", below)).status_code == 200, one


async def test_an_address_without_end_is_no_page(rest):
    assert_refused(await rest.ask("GET", "/a" * 40, headers=NAVIGATION), 404, "not_found")


async def test_the_described_addresses_begin_where_the_description_is(rest):
    document = (await rest.ask("GET", "/openapi.json")).json()

    (server,) = document["servers"]
    assert urljoin("https://example.org/parley/openapi.json", server["url"]) == (
        "https://example.org/parley/"
    )


@pytest.mark.parametrize("version", ["", "0123456789abcdef/"])
async def test_without_the_version_or_with_another_one_there_is_the_file_for_now(rest, version):
    answer = await rest.ask("GET", f"/assets/{version}app.js")

    assert answer.text == (await rest.ask("GET", "/assets/app.js")).text
    assert answer.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["/assets/app.js", "/"])
async def test_a_file_is_packed_for_those_who_take_it_so(rest, path):
    plain = await rest.ask("GET", path, headers={"accept-encoding": "identity"})
    packed = await rest.ask("GET", path, headers={"accept-encoding": "br, gzip"})

    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == plain.content
    assert 2 * int(packed.headers["content-length"]) < len(plain.content)
    assert "content-encoding" not in plain.headers
    assert all("Accept-Encoding" in one.headers["vary"] for one in (packed, plain))
    assert packed.headers["etag"] == plain.headers["etag"]


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/assets/app.js", "text/javascript; charset=utf-8"),
        ("/assets/styles/base.css", "text/css; charset=utf-8"),
        ("/assets/icon.svg", "image/svg+xml"),
    ],
)
async def test_files_have_the_type_a_browser_insists_on(rest, path, media_type):
    assert (await rest.ask("GET", path)).headers["content-type"] == media_type


async def test_a_file_that_has_not_changed_is_not_sent_again(rest):
    first = await rest.ask("GET", "/assets/app.js")
    again = await rest.ask(
        "GET", "/assets/app.js", headers={"if-none-match": first.headers["etag"]}
    )

    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        ("gzip", True),
        ("GZIP", True),
        ("x-gzip", True),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", True),
        ("*", True),
        ("gzip;q=0.001", True),
        ("gzip ; q=1", True),
        ("gzip;q=0", False),
        ("gzip;q=0.0", False),
        ("gzip; q=0.000, *", False),
        ("*;q=0", False),
        ("identity, *;q=0", False),
        ("notgzip", False),
        ("gzip;q=2", False),
        ("", False),
        ("br", False),
    ],
)
async def test_a_file_is_packed_only_where_the_header_means_that(rest, accepted, packed):
    answer = await rest.ask("GET", "/assets/app.js", headers={"accept-encoding": accepted})

    assert ("content-encoding" in answer.headers) is packed


async def test_a_file_is_compared_with_every_tag_that_is_sent(rest):
    etag = (await rest.ask("GET", "/assets/app.js")).headers["etag"]
    strong = etag.removeprefix("W/")
    bare = strong.strip('"')

    for known in ("*", " * ", etag, strong, f'"other", {etag}', f'W/"a,b",{strong}'):
        answer = await rest.ask("GET", "/assets/app.js", headers={"if-none-match": known})
        assert (answer.status_code, answer.content) == (304, b""), known
    for unknown in ('"*"', bare, f'"x{bare}x"', f'"{bare}', '"other"', ""):
        answer = await rest.ask("GET", "/assets/app.js", headers={"if-none-match": unknown})
        assert answer.status_code == 200, unknown


async def test_a_head_request_has_no_body(rest):
    answer = await rest.ask("HEAD", "/")

    assert (answer.status_code, answer.content) == (200, b"")


async def test_a_navigation_to_any_other_address_is_the_page_s_to_answer(rest):
    navigation = await rest.ask("GET", "/somewhere/else", headers=NAVIGATION)
    fetch = await rest.ask("GET", "/somewhere/else", headers={"accept": "application/json"})

    assert "<title>Parley</title>" in navigation.text
    assert_refused(fetch, 404, "not_found")


@pytest.mark.parametrize(
    "path",
    ["/assets/missing.js", "/assets/missing", "/assets/", "/favicon.ico", "/app.js", "/assets/.x"],
)
async def test_a_missing_file_is_missing_also_for_a_navigation(rest, path):
    assert_refused(await rest.ask("GET", path, headers=NAVIGATION), 404, "not_found")


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/unknown", "/api/unknown/"])
async def test_what_is_under_api_is_never_a_page(rest, path):
    for method in ("GET", "POST"):
        assert_refused(await rest.ask(method, path, headers=NAVIGATION), 404, "not_found")


async def test_a_page_takes_no_other_method(rest):
    assert_refused(await rest.ask("POST", "/"), 405, "method_not_allowed")
    assert_refused(await rest.ask("DELETE", "/api/settings"), 405, "method_not_allowed")


ESCAPES = [
    "/assets/%2e%2e/%2e%2e/config.py",
    "/assets/..%2f..%2fconfig.py",
    "/assets/..%5c..%5cconfig.py",
    "/assets//etc/passwd",
    "/assets/%2fetc%2fpasswd",
    "/%2e%2e/%2e%2e/etc/passwd",
    "//etc/passwd",
    "/assets/%00",
    "/assets/app.js%00.png",
    "/assets/" + "x" * 5000,
    "/assets/" + "x/" * 3000,
]


@pytest.mark.parametrize("path", ESCAPES)
async def test_nothing_outside_the_folder_is_served(rest, foreign, path):
    for server in (rest, foreign):
        assert_refused(await raw(server, path), 404, "not_found")


async def raw(rest, path):
    """Ask without the client's own tidying of the path."""
    request = rest.client.build_request("GET", "/")
    request.url = request.url.copy_with(raw_path=path.encode())
    return await rest.client.send(request)


@pytest.mark.parametrize(
    "path", ["/link.txt", "/linked/outside.txt", "/.env", "/.git/config", "/linked"]
)
async def test_links_out_of_the_folder_and_hidden_files_are_not_there(foreign, path):
    answer = await foreign.ask("GET", path)

    assert_refused(answer, 404, "not_found")


async def test_a_foreign_build_is_served_in_place_of_the_page(foreign):
    for path in ("/", "/conversations/abc"):
        answer = await foreign.ask("GET", path)

        assert "<title>Build</title>" in answer.text
        assert answer.headers["cache-control"] == "no-cache"
        assert "frame-ancestors 'self'" in answer.headers["content-security-policy"]
    assert (await foreign.ask("GET", "/locales/en/translation.json")).text == "{}"
    assert_refused(await foreign.ask("GET", "/assets/app.js"), 404, "not_found")


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("/assets/index-DiwrgTda.js", True),
        ("/assets/deep/style.3f9d2c1ab4e0f5a7.css", True),
        ("/assets/my-component.js", False),
        ("/page-DiwrgTda.js", False),
        ("/favicon.ico", False),
    ],
)
async def test_only_assets_whose_names_carry_a_hash_are_kept_for_ever(foreign, path, kept):
    answer = await foreign.ask("GET", path)

    assert answer.status_code == 200
    assert (answer.headers["cache-control"] == IMMUTABLE) is kept


async def test_a_missing_asset_of_a_foreign_build_is_not_kept(foreign):
    answer = await foreign.ask("GET", "/assets/index-AAAA1111.js", headers=NAVIGATION)

    assert_refused(answer, 404, "not_found")
    assert answer.headers["cache-control"] == "no-store"


async def test_without_a_frontend_there_are_no_pages():
    async with rest_server(serve_frontend=False) as rest:
        for path in ("/", "/conversations/abc", "/assets/app.js"):
            assert_refused(await rest.ask("GET", path, headers=NAVIGATION), 404, "not_found")
        assert (await rest.ask("GET", "/alive")).status_code == 200
