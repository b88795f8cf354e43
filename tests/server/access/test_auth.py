"""Keys, hosts and origins."""

import pytest
from starlette.datastructures import Headers

from server.access.auth import Authenticator
from server.config.settings import ServerConfig
from server.errors import Forbidden, Unauthorized


def authenticator(**settings):
    return Authenticator(ServerConfig(**settings))


def headers(*pairs):
    return Headers(raw=[(name.encode(), value.encode("latin-1")) for name, value in pairs])


def scope_of(fields):
    return {"headers": fields.raw, "client": ("127.0.0.1", 1)}


def from_origin(origin, host="localhost:3000"):
    return headers(("host", host), ("origin", origin))


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:80", "localhost:3000", "127.0.0.1:65535", "[::1]", "[::1]:3000"],
)
def test_without_a_key_names_of_this_machine_are_accepted(host):
    assert authenticator().host_allowed(headers(("host", host)))


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "localhost.evil.example",
        "localhost@evil.example",
        "evil.example:3000",
        "127.0.0.1.evil.example",
        "192.168.1.5:3000",
        "localhost:port",
        "localhost:3000:3000",
        "[::2]:3000",
        "::1",
        "localhost\xe9",
    ],
)
def test_without_a_key_other_hosts_are_refused(host):
    assert not authenticator().host_allowed(headers(("host", host)))


def test_without_a_key_a_request_must_have_exactly_one_host():
    assert not authenticator().host_allowed(headers())
    assert not authenticator().host_allowed(headers(("host", "localhost"), ("host", "localhost")))


def test_the_configured_host_and_permitted_origins_are_names_of_the_server():
    own = authenticator(host="127.0.0.2", permitted_cors_origins=["https://box.example:8443"])

    assert own.host_allowed(headers(("host", "127.0.0.2:3000")))
    assert own.host_allowed(headers(("host", "box.example")))


def test_a_server_for_other_machines_is_reached_by_address_but_not_by_any_name():
    open_to_all = authenticator(host="::", insecure=True)

    assert open_to_all.host_allowed(headers(("host", "192.168.1.5:3000")))
    assert not open_to_all.host_allowed(headers(("host", "evil.example")))


def test_with_a_key_every_host_is_accepted_but_not_every_origin():
    keyed = authenticator(session_api_key="open sesame")

    assert keyed.host_allowed(headers(("host", "parley.example")))
    assert keyed.origin_allowed(from_origin("http://parley.example", "parley.example"))
    assert not keyed.origin_allowed(from_origin("https://evil.example", "parley.example"))


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://localhost:3000", "localhost:3000"),
        ("http://LOCALHOST:3000", "localhost:3000"),
        ("http://localhost", "localhost"),
        ("http://localhost:80", "localhost"),
        ("http://[::1]:3000", "[::1]:3000"),
    ],
)
def test_the_own_origin_is_accepted(origin, host):
    assert authenticator().origin_allowed(from_origin(origin, host))


@pytest.mark.parametrize(
    "origin", ["http://localhost:5173", "https://localhost:3000", "http://127.0.0.1:3000"]
)
def test_another_port_scheme_or_name_of_this_machine_is_another_origin(origin):
    assert not authenticator().origin_allowed(from_origin(origin))


def test_the_own_scheme_is_https_by_setting_or_by_a_trusted_proxy_s_word():
    by_setting = authenticator(session_api_key="k", https=True)
    behind = authenticator(session_api_key="k", trusted_proxies=["10.0.0.0/8"])
    told = headers(
        ("host", "a.example"), ("origin", "https://a.example"), ("x-forwarded-proto", "https")
    )

    assert by_setting.origin_allowed(from_origin("https://a.example", "a.example"))
    assert not by_setting.origin_allowed(from_origin("http://a.example", "a.example"))
    assert behind.origin_allowed(told, "10.1.2.3")
    assert not behind.origin_allowed(told, "192.168.0.1")


@pytest.mark.parametrize(
    ("told", "scheme"),
    [
        (["https"], "https"),
        (["wss"], "https"),
        (["HTTPS"], "https"),
        ([" Wss "], "https"),
        (['"https"'], "https"),
        (["https, http"], "https"),
        (["https,http", "http"], "https"),
        (["https", "https"], "https"),
        (["http"], "http"),
        (["ws"], "http"),
        (["http, https"], "http"),
        ([""], "http"),
        ([" , "], "http"),
        ([], "http"),
    ],
)
def test_the_scheme_is_understood_however_a_trusted_proxy_writes_it(told, scheme):
    behind = authenticator(session_api_key="k", trusted_proxies=["10.0.0.0/8"])
    said = [("x-forwarded-proto", one) for one in told]

    for asked in ("http", "https"):
        given = headers(("host", "a.example"), ("origin", f"{asked}://a.example"), *said)
        assert behind.origin_allowed(given, "10.1.2.3") is (asked == scheme)


def test_a_scheme_of_a_trusted_proxy_that_is_none_is_refused_by_name():
    behind = authenticator(session_api_key="k", trusted_proxies=["10.0.0.0/8"])
    told = headers(
        ("host", "a.example"), ("origin", "https://a.example"), ("x-forwarded-proto", "on")
    )

    with pytest.raises(Forbidden, match="X-Forwarded-Proto is 'on'"):
        behind.origin_allowed(told, "10.1.2.3")
    assert not behind.origin_allowed(told, "192.168.0.1")


@pytest.mark.parametrize(
    ("permitted", "origin"),
    [
        ("https://a.example:443", "https://a.example"),
        ("http://a.example:80/", "http://a.example"),
        ("HTTPS://A.Example", "https://a.example:443"),
        ("https://a.example.", "https://a.example"),
        ("https://a.example:0444", "https://a.example:444"),
        ("https://b\u00fccher.example:443", "https://xn--bcher-kva.example"),
        ("http://[0:0:0:0:0:0:0:1]:80", "http://[::1]"),
        ("wss://a.example", "https://a.example"),
        ("WS://a.example:80", "http://a.example"),
        ("http://127.0.0.1.:80", "http://127.0.0.1"),
        ("app://ui.local", "app://ui.local"),
        ("vscode-webview://0f3c", "vscode-webview://0F3C"),
    ],
)
def test_a_permitted_origin_matches_however_it_is_written(permitted, origin):
    chosen = authenticator(permitted_cors_origins=[permitted])

    assert chosen.origin_allowed(from_origin(origin))
    assert not chosen.origin_allowed(from_origin("https://a.example:8443"))


@pytest.mark.parametrize(
    ("permitted", "host"),
    [
        ("a.example:443", "a.example"),
        ("A.example.", "a.example:3000"),
        ("b\u00fccher.example", "xn--bcher-kva.example"),
        ("[2001:DB8:0::1]:443", "[2001:db8::1]"),
        ("2001:db8::1", "[2001:db8:0:0::1]:3000"),
        ("a.example", "a.example."),
    ],
)
def test_a_permitted_host_matches_however_it_is_written(permitted, host):
    named = authenticator(session_api_key="k", permitted_hosts=[permitted])

    assert named.host_allowed(headers(("host", host)))
    assert not named.host_allowed(headers(("host", "evil.example")))


def test_named_hosts_are_accepted_and_with_them_a_key_does_not_open_others():
    named = authenticator(session_api_key="k", permitted_hosts=["chat.example"])

    assert named.host_allowed(headers(("host", "CHAT.example:444")))
    assert named.host_allowed(headers(("host", "localhost:3000")))
    assert not named.host_allowed(headers(("host", "evil.example")))
    assert authenticator(permitted_hosts=["a.example"]).host_allowed(headers(("host", "a.example")))


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "https://evil.example",
        "http://localhost.evil.example",
        "http://localhost:3000.evil.example",
        "http://evil.example#localhost",
        "http://user@localhost",
        "file://localhost",
        "localhost:3000",
        "http://localhost:3000/path",
    ],
)
def test_other_origins_are_refused(origin):
    assert not authenticator().origin_allowed(from_origin(origin))


def test_a_request_without_an_origin_is_no_page_of_another_site():
    assert authenticator().origin_allowed(headers(("host", "localhost")))


def test_two_origins_are_refused():
    twice = ("origin", "http://localhost:3000")

    assert not authenticator().origin_allowed(headers(("host", "localhost:3000"), twice, twice))


def test_permitted_origins_come_beside_the_own():
    chosen = authenticator(permitted_cors_origins=["https://ui.example"])

    assert chosen.origin_allowed(from_origin("https://ui.example"))
    assert chosen.origin_allowed(from_origin("http://localhost:3000"))
    assert not chosen.origin_allowed(from_origin("http://localhost:5173"))
    assert not chosen.origin_allowed(from_origin("https://ui.example:444"))


def test_the_refusal_of_a_source_says_what_to_do():
    with pytest.raises(Forbidden, match="use localhost"):
        authenticator().check_source(scope_of(headers(("host", "evil.example"))))
    with pytest.raises(Forbidden, match="permitted_cors_origins"):
        authenticator().check_source(scope_of(from_origin("https://evil.example")))


@pytest.mark.parametrize("text", [None, "", "null", "undefined", "Open sesame", "open sesame "])
def test_what_is_not_the_key_is_refused(text):
    keyed = authenticator(session_api_key="open sesame")

    assert not keyed.key_matches(text)


def test_the_key_is_taken_from_its_header():
    keyed = authenticator(session_api_key="open sesame")

    keyed.check_key(headers(("x-session-api-key", "open sesame")))
    with pytest.raises(Unauthorized):
        keyed.check_key(headers())


def test_a_key_that_a_browser_writes_for_nothing_never_matches():
    assert not authenticator(session_api_key="null").key_matches("null")


def test_without_a_key_nobody_is_asked_for_one():
    assert authenticator().key_matches(None)


async def test_without_a_class_that_tells_users_apart_everybody_is_nobody_in_particular():
    assert await authenticator().owner({}) is None
