"""The operator's patterns: which may stand, and what they allow."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cloud_mirror.pattern import MAX_ALTERNATIVES, compile_pattern, readings, remove_dot_segments
from cloud_mirror.policy import SourcePolicy
from cloud_mirror.reason import Reason
from cloud_mirror.source import PatternError, SourceError, SourceRules, SourceUrl, parse_source


def rules(*patterns: str, require_tls: bool = False) -> SourceRules:
    return SourceRules(SourcePolicy(allowed_patterns=patterns, require_tls=require_tls))


def parse(text: str) -> SourceUrl:
    return parse_source(text, 2048)


@pytest.mark.parametrize(
    ("pattern", "allowed", "refused"),
    [
        ("^http://localhost:9000/", ["http://localhost:9000/a"], ["http://localhost/a", "https://localhost:9000/a"]),
        (r"^https://example\.com/", ["https://example.com/", "https://example.com:443/"], ["https://xexample.com/"]),
        (r"^https:\/\/example\.com\/a\/", ["https://example.com/a/b"], ["https://example.com/b"]),
        (r"^https://example[.]com/", ["https://example.com/"], ["https://examplexcom/"]),
        (r"^https?://example\.com/", ["http://example.com/", "https://example.com/"], ["http://example.com:443/"]),
        (
            r"^https://[^/]+\.example\.com/",
            ["https://a.b.example.com/"],
            ["https://example.com/", "https://x.com/.example.com/"],
        ),
        (r"^https://[^]/]+\.example\.com/", ["https://a.example.com/"], ["https://example.com/"]),
        (r"^https://[a-z]*\.example\.com/", ["https://a.example.com/"], ["https://1.example.com/"]),
        (
            r"^https://(a|b)\.example\.com/",
            ["https://a.example.com/", "https://b.example.com/"],
            ["https://c.example.com/"],
        ),
        (
            r"^https://(?:www\.)?example\.com/",
            ["https://example.com/", "https://www.example.com/"],
            ["https://w.example.com/"],
        ),
        (r"^https://(?:[a-z]+\.)+s3\.example\.com/", ["https://a.b.s3.example.com/"], ["https://s3.example.com/"]),
        (
            r"^https://([a-z]+\.){0,2}x\.example\.com/",
            ["https://x.example.com/", "https://a.b.x.example.com/"],
            ["https://a.b.c.x.example.com/"],
        ),
        (r"^https://cdn\d{1,2}\.example\.com/", ["https://cdn12.example.com/"], ["https://cdn.example.com/"]),
        (r"^https://cdn-?\w\.example\.com/", ["https://cdn-a.example.com/"], ["https://cdn.example.com/"]),
        (r"^https://my\-host\.example/", ["https://my-host.example/"], ["https://my.host.example/"]),
        (r"^https://a\.example:443/", ["https://a.example/"], ["https://a.example:444/"]),
        (r"^https://a\.example(:8443)?/", ["https://a.example/", "https://a.example:8443/"], ["https://a.example:1/"]),
        (r"^https://a\.example:[0-9]+/", ["https://a.example/", "https://a.example:8443/"], ["https://b.example:1/"]),
        (r"^https://a\.example/[^/]+\.(whl|tar\.gz)$", ["https://a.example/a.whl"], ["https://a.example/a.whl?x"]),
        (r"^https://a\.example/x\?v=[0-9]+", ["https://a.example/x?v=1"], ["https://a.example/x?w=1"]),
        (r"^https://a\.example/[\]|]x", ["https://a.example/]x"], ["https://a.example/x"]),
        (r"^https://a\.example/x", ["https://a.example/xy"], ["https://a.example/y/x", "https://a.example/"]),
        (r"^https://(\.|b)example\.com/", ["https://bexample.com/"], ["https://example.com/"]),
        (r"^https://a+\.example\.com/", ["https://aa.example.com/"], ["https://b.example.com/"]),
        (r"^https://[^/]+(\.example\.com)+/", ["https://a.example.com/"], ["https://a.example/"]),
        (r"^https://[^/]+(\.example\.com)+?/", ["https://a.example.com/"], ["https://a.example/"]),
        (r"^https://[^/]+(\.example\.com){1,2}/", ["https://a.example.com/"], ["https://a.example/"]),
        (r"^https://1a\.example/", ["https://1a.example/"], []),
        (r"^https://a_b\.1x_y/", ["https://a_b.1x_y/"], []),
        (r"^https://[^/]+a1_\.ex_1ample\.com/", ["https://xa1_.ex_1ample.com/"], []),
        (r"^https://a\.example/^x", [], ["https://a.example/x", "https://a.example/^x"]),
        (r"^https://a\.example/[)|]?(x\||y)", ["https://a.example/y", "https://a.example/)y"], ["https://a.example/x"]),
        (
            r"^https://([a-z]+\.)*example\.com/",
            ["https://example.com/", "https://a.b.example.com/"],
            ["https://aexample.com/"],
        ),
    ],
)
def test_patterns(pattern: str, allowed: list[str], refused: list[str]) -> None:
    checked = rules(pattern)
    for text in refused:
        assert checked.check(parse(text)) in (Reason.URL_NOT_ALLOWED, Reason.URL_PORT), text
    for text in allowed:
        assert checked.check(parse(text)) is None, text


@pytest.mark.parametrize(
    ("pattern", "remedy"),
    [
        (r"https://example\.com/", "must start with ^"),
        ("", "must start with ^"),
        (r"^https://(a|b", "not a valid regular expression"),
        (r"^https://example\.com/(", "not a valid regular expression"),
        (r"^https://(a)\.example\.com/\1", "not a valid regular expression"),
        ("^https://a{99999999999999999999}/", "not a valid regular expression"),
        ("^", "must name its scheme"),
        ("^.*", "must name its scheme"),
        ("^ftp://a/", "must name its scheme"),
        ("^(?:https)://a/", "must name its scheme"),
        (r"^https://example\.com", "end the host with /"),
        (r"^https://example\.com$", "has '$' in its host"),
        (r"^https://example\.com\b/", "in its host"),
        ("^https?://.*", r"write \. for a dot"),
        ("^https://.+/", r"write \. for a dot"),
        ("^https://example.com/", r"write \. for a dot"),
        (r"^https://.*\.example\.com/", r"write \. for a dot"),
        ("^https://Example/", "lower-case"),
        (r"^https://user@example\.com/", "has '@' in its host"),
        (r"^https://(?!a)b\.example\.com/", "in its host"),
        (r"^https://(?P<x>a)\.example\.com/", "in its host"),
        (r"^https://(a/|b)\.example\.com/", "has a / in a group"),
        (r"^https://a|b\.example\.com/", "outside of any group"),
        (r"^https://a\.example/|^https://b\.example/", "outside of any group"),
        (r"^https://a\.example/(x|y)|z", "outside of any group"),
        ("^https://?a/", "must name its scheme"),
        (r"^x^https://a\.example/", "must name its scheme"),
        ("^https://*a/", "must name its scheme"),
        ("^https://+a/", "must name its scheme"),
        (r"^https://a\./", "matches no host"),
        (r"^https://[^/]+\.example\.com\./", "stranger"),
        (r"^https://a\.example/?", "has '/' in its host"),
        (r"^https:///", "matches no host"),
        (r"^https://\.example\.com/", "matches no host"),
        ("^https://[^/]+/", "stranger"),
        (r"^https://[^/]+\.com/", "stranger"),
        (r"^https://[^/]+example\.com/", "stranger"),
        (r"^https://[^/]*example\.com/", "stranger"),
        (r"^https://example\.com[^/]*/", "stranger"),
        (r"^https://example\.co[a-z]/", "stranger"),
        (r"^https://(a\.example|[^/]+)\.com/", "stranger"),
        (r"^https://([a-z]+\.)*example[^/]?\.com/", "stranger"),
        (r"^https://a+\.com/", "stranger"),
        (r"^https://a+?\.com/", "stranger"),
        (r"^https://[^/]+(\.example\.com)?/", "stranger"),
        (r"^https://[^/]+(\.example\.com)*/", "stranger"),
        (r"^https://[^/]+(\.example\.com){0,2}/", "stranger"),
        (r"^https://[^/]+(\.example\.com){,2}/", "stranger"),
        ("^https://[^/]+:9000/", "stranger"),
        ("^https://" + "(a|b|c|d|e|f)" * 4 + "/", f"more than {MAX_ALTERNATIVES} hosts"),
    ],
)
def test_patterns_that_may_not_stand(pattern: str, remedy: str) -> None:
    with pytest.raises(PatternError) as caught:
        rules(r"^https://fine\.example/", pattern)
    assert re.match(f"the pattern {re.escape(repr(pattern))} (must|is|has|matches|could) ", str(caught.value))
    assert remedy in str(caught.value)
    assert caught.value.pattern == pattern


def test_as_many_hosts_as_may_be() -> None:
    ten = "(a|b|c|d|e|f|g|h|i|j)"
    assert rules(rf"^https://{ten * 3}\.example/").check(parse("https://jjj.example/")) is None
    with pytest.raises(PatternError, match="more than 1000 hosts"):
        rules(rf"^https://({ten * 3}|k)\.example/")


PIECES = [
    "a",
    "b",
    ".",
    r"\.",
    r"\.a\.b",
    "[^/]",
    "[^/.]+",
    r"\w",
    "(",
    "(?:",
    "(a|",
    ")",
    "|",
    "?",
    "*",
    "+",
    "{2}",
    "{,3}",
    "/",
]


@given(st.lists(st.sampled_from(PIECES), max_size=9).map("".join))
@example(r"(.|a)\.a\.b")
def test_no_pattern_that_stands_is_satisfied_by_a_strangers_host(host: str) -> None:
    try:
        compiled = compile_pattern(f"^https://{host}/")
    except PatternError:
        return
    for stranger in (
        "evil.test",
        "aevil.test",
        "a.evil.test",
        "evil-test",
        "evila.b",
        "axb",
        "a.b.evil.test",
        "evil.b",
    ):
        assert not compiled.origin.fullmatch(f"https://{stranger}")


def test_nothing_is_allowed_without_patterns() -> None:
    assert rules().check(parse("http://localhost/")) is Reason.URL_NOT_ALLOWED


def test_reasons_of_a_refusal() -> None:
    checked = rules(r"^https?://a\.example/", require_tls=True)
    assert checked.check(parse("http://a.example/")) is Reason.URL_SCHEME
    assert checked.check(parse("https://a.example:8443/")) is Reason.URL_PORT
    assert checked.check(parse("https://b.example:8443/")) is Reason.URL_NOT_ALLOWED
    assert checked.check(parse("https://a.example/")) is None


def test_admit() -> None:
    checked = rules("^http://localhost:9000/")
    assert checked.admit("HTTP://LOCALHOST:9000").text == "http://localhost:9000/"
    for text, reason in [
        ("http://127.0.0.1:9000/", Reason.URL_HOST),
        ("http://localhost:9001/", Reason.URL_NOT_ALLOWED),
        ("http://localhost:9000/" + "a" * 3072, Reason.URL_TOO_LONG),
    ]:
        with pytest.raises(SourceError) as caught:
            checked.admit(text)
        assert caught.value.reason is reason


@pytest.mark.parametrize(
    "path",
    [
        "/public/../private",
        "/public/%2e%2e/private",
        "/public/.%2E/private",
        "/public/..%2Fprivate",
        "/public/..%5cprivate",
        "/public/%2e%2e%2fprivate",
        "/public//../private",
        "/public/..;/private",
        "/public/..;x=y/private",
        "/public/a/..;/../../private",
        "/public/a%2Fb/../../private",
        "/public/..",
        "/public/../",
    ],
)
def test_no_reading_of_dot_segments_leads_out_of_a_pattern(path: str) -> None:
    checked = rules(r"^https://a\.example/public/")
    assert checked.check(parse(f"https://a.example{path}")) is Reason.URL_NOT_ALLOWED
    assert rules(r"^https://a\.example/").check(parse(f"https://a.example{path}")) is None


@pytest.mark.parametrize(
    "path",
    [
        "/public/a/../b",
        "/public/./a",
        "/public//a",
        "/public/a%2Fb",
        "/public/...",
        "/public/a..b/.c",
        "/public/.",
        "/public/x?y=/../z",
        "/public/;a/..b",
    ],
)
def test_dots_that_lead_nowhere_else_are_allowed(path: str) -> None:
    assert rules(r"^https://a\.example/public/").check(parse(f"https://a.example{path}")) is None


def test_segments_are_taken_as_they_are_unless_a_reader_is_known_to_do_otherwise() -> None:
    assert remove_dot_segments(["a", "", "b"]) == "/a//b"
    assert remove_dot_segments(["a", "", "b"], fold=True) == "/a/b"
    assert remove_dot_segments(["a", "..;x"]) == "/a/..;x"
    assert remove_dot_segments(["a", "..;x"], cut_parameters=True) == "/"
    assert remove_dot_segments([]) == "/"


def test_readings() -> None:
    assert readings("/a//b%2Fc?/../") == {"/a//b%2Fc?/../"}
    assert readings("/a//.b") == {"/a//.b"}
    assert readings("/a//../b") == {"/a//../b", "/a/b", "/b"}
    assert readings("/a/..;x/../b") == {"/a/..;x/../b", "/a/b", "/b"}
    assert readings("/a/../b?q") == {"/a/../b?q", "/b?q"}
    assert readings("/a/%2e/") == {"/a/%2e/", "/a/"}
    assert "/b" in readings("/a//../b")


def test_what_may_be_left_out_is_also_left_out_of_the_hosts_that_are_judged() -> None:
    with pytest.raises(PatternError):
        compile_pattern(r"^https://[^/]+(\.example)?/")
    assert compile_pattern(r"^https://[^/]+(\.a)?\.b\.example/").allows(["https://any.b.example"], "/")
