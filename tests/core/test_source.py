"""Source URLs: their canonical form, what is refused, and where redirects lead."""

import ipaddress
import re
import socket
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cloud_mirror.reason import Reason
from cloud_mirror.source import SourceError, SourceUrl, join_location, parse_source

LIMIT = 2048


def refusal(text: str) -> Reason:
    with pytest.raises(SourceError) as caught:
        parse_source(text, LIMIT)
    return caught.value.reason


def parse(text: str) -> SourceUrl:
    return parse_source(text, LIMIT)


# --- the canonical form ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("HTTPS://Example.COM", "https://example.com/"),
        ("https://example.com:443/a", "https://example.com/a"),
        ("http://example.com:080/a", "http://example.com/a"),
        ("http://example.com:443/a", "http://example.com:443/a"),
        ("http://localhost:9000/", "http://localhost:9000/"),
        ("https://example.com?q", "https://example.com/?q"),
        ("https://example.com#top", "https://example.com/"),
        ("https://example.com/a?b#c?d", "https://example.com/a?b"),
        ("https://example.com/a?", "https://example.com/a?"),
        ("https://xn--bcher-kva.example/_", "https://xn--bcher-kva.example/_"),
        ("https://my_bucket.example.com/", "https://my_bucket.example.com/"),
    ],
)
def test_canonical_form(text: str, canonical: str) -> None:
    assert parse(text).text == canonical


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        ("/é", "/%C3%A9"),
        ("/?é=é", "/?%C3%A9=%C3%A9"),
        ("/a%20b", "/a%20b"),
        ("/a%2Fb%2fc", "/a%2Fb%2fc"),
        ("/%c3%a9", "/%c3%a9"),
        ("/a+b?c+d", "/a+b?c+d"),
        ("/()!'*?()!'*", "/()!'*?()!'*"),
        ("//a///b?//", "//a///b?//"),
        ("/a/../b/./c/..?../x", "/a/../b/./c/..?../x"),
        ("/%2e%2e/", "/%2e%2e/"),
        ("/100%?50%zz", "/100%?50%zz"),
        ("/a;b=c:d@e&f,g$~-._", "/a;b=c:d@e&f,g$~-._"),
        ("/?a[]=1&b=[x]", "/?a[]=1&b=[x]"),
        ('/"<>^`{|}', "/%22%3C%3E%5E%60%7B%7C%7D"),
        ("/?a=b?c=d", "/?a=b?c=d"),
        ("/\udce9", "/%E9"),
    ],
)
def test_path_and_query_reach_the_origin_as_they_were_meant(target: str, sent: str) -> None:
    assert parse("https://example.com" + target).target == sent


def test_parts() -> None:
    url = parse("http://Localhost:9000/a/b?secret#fragment")
    assert url == SourceUrl("http://localhost:9000/a/b?secret", "http", "localhost", 9000, "/a/b?secret")
    assert url.authority == url.host_header == "localhost:9000"
    assert parse("https://example.com:443/").host_header == "example.com"


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ch", ["\0", "\t", "\n", "\r", " ", "\x1f", "\x7f", "\x85", "\x9f", "\xa0", "\u2028", "\u3000", "\\"]
)
@pytest.mark.parametrize(
    "form",
    [
        "{}https://example.com/",
        "ht{}tps://example.com/",
        "https://exam{}ple.com/",
        "https://example.com{}/",
        "https://example.com/{}",
        "https://example.com/?{}",
        "https://example.com/#{}",
    ],
)
def test_characters_that_parsers_differ_on_are_refused_anywhere(ch: str, form: str) -> None:
    assert refusal(form.format(ch)) is Reason.URL_MALFORMED


NUMERIC_HOSTS = [
    "127.0.0.1",
    "0177.0.0.1",
    "0x7f.1",
    "0X7F.1",
    "2130706433",
    "127.1",
    "0",
    "0x",
    "0x7f000001",
    "1.2.3.4",
]


@pytest.mark.parametrize(
    "host",
    [
        *NUMERIC_HOSTS,
        "[::1]",
        "[::ffff:127.0.0.1]",
        "::1",
        "a[::1]b",
        "[",
        "foo.1",
        "",
        ".",
        "..",
        ".example.com",
        "example.com.",
        "example..com",
        "localhost.",
        "exam%70le.com",
        "ex%61mple.com",
        "bücher.example",
        "example\u3002com",
        "\uff11\uff12\uff17.1",
        "\u212aelvin.example",
        "a" * 64 + ".example",
        "-a.example",
        "a-.example",
        "a*b.example",
        "a,b.example",
        "a!.example",
        ".".join(["a" * 60] * 5),
        "example.com|",
    ],
)
def test_a_host_is_an_ascii_domain_name(host: str) -> None:
    assert refusal(f"https://{host}/") is Reason.URL_HOST


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", Reason.URL_MALFORMED),
        ("example.com/a", Reason.URL_MALFORMED),
        ("//example.com/a", Reason.URL_MALFORMED),
        ("/a", Reason.URL_MALFORMED),
        ("https:", Reason.URL_MALFORMED),
        ("https:example.com", Reason.URL_MALFORMED),
        ("https:/example.com/", Reason.URL_MALFORMED),
        ("https:///example.com/", Reason.URL_HOST),
        ("https://?x", Reason.URL_HOST),
        ("ftp://example.com/", Reason.URL_SCHEME),
        ("file:///etc/passwd", Reason.URL_SCHEME),
        ("javascript:alert(1)", Reason.URL_SCHEME),
        ("s3://bucket/key", Reason.URL_SCHEME),
        ("https://user@example.com/", Reason.URL_USERINFO),
        ("https://user:password@example.com/", Reason.URL_USERINFO),
        ("https://@example.com/", Reason.URL_USERINFO),
        ("https://example.com:80@127.0.0.1/", Reason.URL_USERINFO),
        ("https://example.com/\ud800", Reason.URL_MALFORMED),
        ("https://example.com/" + "a" * 3072, Reason.URL_TOO_LONG),
        ("https://example.com/" + "é" * 500, Reason.URL_TOO_LONG),
    ],
)
def test_refusals(text: str, reason: Reason) -> None:
    assert refusal(text) is reason


@pytest.mark.parametrize(
    "port",
    [
        "",
        "0",
        "00",
        "65536",
        "99999",
        "000443",
        "1_0",
        "+10",
        "-1",
        "\u0661\u0660",
        "\uff11\uff10",
        " 10",
        "80:80",
        "0x50",
    ],
)
def test_a_port_is_digits(port: str) -> None:
    reason = Reason.URL_MALFORMED if " " in port else Reason.URL_PORT
    assert refusal(f"https://example.com:{port}/") is reason


def test_the_limit_counts_bytes_of_the_canonical_form() -> None:
    text = "https://example.com/" + "a" * 20
    assert parse_source(f"HTTPS://example.com:443/{'a' * 20}#{'f' * 99}", 40).text == text
    with pytest.raises(SourceError, match="longer than 39 bytes"):
        parse_source(text, 39)


@pytest.mark.parametrize("secret", ["https://user:hunter2@example.com/", "https://example.com/hunter2?hunter2\n"])
def test_an_error_quotes_nothing_of_the_url(secret: str) -> None:
    with pytest.raises(SourceError) as caught:
        parse(secret)
    assert "hunter2" not in str(caught.value)
    assert str(caught.value) == f"{caught.value.reason.code}: {caught.value.detail}"


HOSTISH = st.text("0123456789abcdefxX.-_%[]:@", max_size=24) | st.sampled_from(NUMERIC_HOSTS)
URLISH = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["http://", "https://", "HTTP://", "//", "https:/"]),
    HOSTISH | st.just("example.com") | st.text(max_size=10),
    st.sampled_from(["", "/", ":1/", ":65535", "?", "/%2e%2E/..;/"]),
    st.text(max_size=30) | st.text("%/?#.;aé[]", max_size=30),
)


@given(URLISH)
@example("https://a")
def test_what_is_accepted_is_canonical_ascii_and_no_address(text: str) -> None:
    try:
        url = parse(text)
    except SourceError:
        return
    assert parse(url.text) == url
    assert url.text.isascii()
    assert url.text.isprintable()
    assert re.search(r'[\s\\"<>^`{|}#]', url.text) is None
    assert url.text == f"{url.scheme}://{url.host_header}{url.target}"
    with pytest.raises(ValueError, match=re.escape(url.host)):
        ipaddress.ip_address(url.host)
    with pytest.raises(OSError, match=r".*"):  # what getaddrinfo takes for an address without asking anybody
        socket.inet_aton(url.host)


TYPED = st.characters(exclude_categories=("C", "Z"), exclude_characters="\\#?%")


@given(st.text(TYPED, min_size=1, max_size=20))
def test_a_path_decodes_to_what_was_typed(name: str) -> None:
    assert parse(f"https://example.com/{name}") == parse("https://example.com/" + quote(name, safe="/:@!$&'()*+,;=[]"))


# --- redirects ------------------------------------------------------------------------------------------------------

# RFC 3986, 5.4: the base is http://a/b/c/d;p?q
RESOLVED = {
    "//g": "http://g/",
    "/g": "http://a/g",
    "g": "http://a/b/c/g",
    "./g": "http://a/b/c/g",
    "g/": "http://a/b/c/g/",
    "g?y": "http://a/b/c/g?y",
    "?y": "http://a/b/c/d;p?y",
    "g#s": "http://a/b/c/g",
    "g?y#s": "http://a/b/c/g?y",
    ";x": "http://a/b/c/;x",
    "g;x": "http://a/b/c/g;x",
    ".": "http://a/b/c/",
    "./": "http://a/b/c/",
    "..": "http://a/b/",
    "../": "http://a/b/",
    "../g": "http://a/b/g",
    "../..": "http://a/",
    "../../": "http://a/",
    "../../g": "http://a/g",
    "../../../g": "http://a/g",
    "/./g": "http://a/g",
    "/../g": "http://a/g",
    "g.": "http://a/b/c/g.",
    "..g": "http://a/b/c/..g",
    "./g/.": "http://a/b/c/g/",
    "g/../h": "http://a/b/c/h",
    "g?y/../x": "http://a/b/c/g?y/../x",
    "https://h:8443": "https://h:8443/",
    "HTTP://H/%2e%2e/é": "http://h/%2e%2e/%C3%A9",
    "//h//x//": "http://h//x//",
    "/\udcc3\udca9": "http://a/%C3%A9",
    "/a:b": "http://a/a:b",
    "./a:b": "http://a/b/c/a:b",
}


@pytest.mark.parametrize(("location", "target"), RESOLVED.items())
def test_a_location_is_resolved(location: str, target: str) -> None:
    assert join_location(parse("http://a/b/c/d;p?q"), location, LIMIT).text == target


def test_a_location_keeps_the_bases_port() -> None:
    base = parse("http://localhost:9000/x/../y?z")
    assert join_location(base, "/g", LIMIT).text == "http://localhost:9000/g"
    assert join_location(base, "?g", LIMIT).text == "http://localhost:9000/x/../y?g"


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("", Reason.ORIGIN_REDIRECTS),
        ("#there", Reason.ORIGIN_REDIRECTS),
        ("/a b", Reason.ORIGIN_REDIRECTS),
        ("\\\\evil.example\\", Reason.ORIGIN_REDIRECTS),
        ("/\r\nSet-Cookie: x", Reason.ORIGIN_REDIRECTS),
        ("https:g", Reason.ORIGIN_REDIRECTS),
        ("/" + "a" * 3072, Reason.ORIGIN_REDIRECTS),
        ("?" + "a" * 3072, Reason.ORIGIN_REDIRECTS),
        ("http://169.254.169.254/latest", Reason.HOP_NOT_ALLOWED),
        ("//0x7f.1/", Reason.HOP_NOT_ALLOWED),
        ("http://user@a/", Reason.HOP_NOT_ALLOWED),
        ("http://a:0/", Reason.HOP_NOT_ALLOWED),
        ("file:///etc/passwd", Reason.HOP_NOT_ALLOWED),
        ("a:b", Reason.HOP_NOT_ALLOWED),
    ],
)
def test_locations_that_are_refused(location: str, reason: Reason) -> None:
    with pytest.raises(SourceError) as caught:
        join_location(parse("http://a/b"), location, LIMIT)
    assert caught.value.reason is reason


@given(st.text("abc/.%;:?#é@[", max_size=30))
def test_a_resolved_location_is_canonical(location: str) -> None:
    try:
        url = join_location(parse("http://a/b/c/d;p?q"), location, LIMIT)
    except SourceError:
        return
    assert parse(url.text) == url


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("1https://a.example/", Reason.URL_MALFORMED),
        ("https:x//a.example/", Reason.URL_MALFORMED),
        ("svn+https://a.example/", Reason.URL_SCHEME),
    ],
)
def test_what_only_holds_a_url_is_none(url: str, reason: Reason) -> None:
    with pytest.raises(SourceError) as caught:
        parse(url)
    assert (caught.value.reason, caught.value.suggestion) == (reason, "")


@pytest.mark.parametrize("host", ["host1", "1a.example", "a.1b"])
def test_a_number_in_a_host_is_no_address(host: str) -> None:
    assert parse(f"https://{host}/").host == host


def test_the_last_port_is_one() -> None:
    assert parse("https://a.example:65535/").port == 65_535


def test_a_query_ends_nowhere_before_the_end() -> None:
    base = parse("https://a.example/folder/file?a/b?c")
    assert join_location(base, "?d", LIMIT).target == "/folder/file?d"
    assert join_location(base, "other", LIMIT).target == "/folder/other"
