"""A URL in the path of a request: decoded once, or refused with the form that it should have had."""

import base64
import string
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cloud_mirror.encoding import decode_path_url, encode_path_url, is_base64url
from cloud_mirror.reason import Reason
from cloud_mirror.source import SourceError

URL = "https://example.com/a%20b/é+c?d=e&f=%2F"


def base64_forms(url: str) -> list[str]:
    standard = base64.b64encode(url.encode()).decode()
    return [standard, standard.rstrip("="), standard.translate(str.maketrans("+/", "-_")), quote(standard, safe="")]


@pytest.mark.parametrize(
    "raw", [encode_path_url(URL), quote(URL, safe=":"), *base64_forms(URL), *base64_forms("http://a/??>>~~")]
)
def test_a_url_in_a_path_is_decoded_once(raw: str) -> None:
    assert decode_path_url(raw) in (URL, "http://a/??>>~~")


def test_hexadecimal_digits_are_in_either_case() -> None:
    assert decode_path_url("https%3a%2F%2fexample.com") == "https://example.com"


def test_padding_that_is_not_needed_does_no_harm() -> None:
    assert decode_path_url("aHR0cDovL2Ev=") == "http://a/"


def test_what_is_not_utf_8_is_encoded_as_the_bytes_that_came() -> None:
    assert encode_path_url("https://a/\udcff") == "https%3A%2F%2Fa%2F%FF"


@given(st.text(min_size=1).map("http://".__add__))
def test_encodings_round_trip(url: str) -> None:
    assume(not any("\ud800" <= ch <= "\udfff" for ch in url))
    assert decode_path_url(encode_path_url(url)) == url
    assert set(encode_path_url(url)) <= set(string.ascii_letters + string.digits + "%-._~")
    for raw in base64_forms(url):
        assert decode_path_url(raw) == url


@pytest.mark.parametrize(
    ("raw", "whole"),
    [
        ("https://example.com/a%20b%2Fc", "https://example.com/a%20b%2Fc"),
        ("https://example.com/\u00e9", "https://example.com/\u00e9"),
        ("https%3A//example.com/a%2520b", "https://example.com/a%20b"),
        ("https:/example.com/a", "https://example.com/a"),
        ("https%3A//example.com/a", "https://example.com/a"),
        ("https:%2F%2Fexample.com/a", "https://example.com/a"),
        ("HTTP:///a", "HTTP://a"),
        ("s3+HTTP.x-1:/example.com/a%2Fb", "s3+HTTP.x-1://example.com/a%2Fb"),
        ("https:/example.com/a,http:///b", "https://example.com/a,http:///b"),
        ("x%3Ahttp://example.com/b%20c", "x:http://example.com/b c"),
    ],
)
def test_a_raw_url_is_refused_with_its_encoded_form(raw: str, whole: str) -> None:
    with pytest.raises(SourceError) as caught:
        decode_path_url(raw)
    assert caught.value.reason is Reason.URL_RAW
    assert caught.value.suggestion == encode_path_url(whole)
    assert decode_path_url(caught.value.suggestion) == whole


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "=",
        "a",
        "aaaaa",
        "aHR0c===",
        "aHR0cA=x",
        "a b",
        "!!",
        "/w==",
        "!aHR0cDovL2Ev",
        "gICA",
        "%FF%3A",
        "%zz",
        "https%3A%2F%2Fa%2",
        "%",
        "\udcff:",
        "\ud800",
        "é",
    ],
)
def test_what_cannot_be_decoded(raw: str) -> None:
    with pytest.raises(SourceError) as caught:
        decode_path_url(raw)
    assert caught.value.reason is Reason.URL_UNDECODABLE


@given(st.text())
def test_decoding_fails_only_in_its_own_way(raw: str) -> None:
    try:
        decode_path_url(raw)
    except SourceError as error:
        assert error.reason in (Reason.URL_RAW, Reason.URL_UNDECODABLE)  # noqa: PT017  # most texts raise nothing else


@pytest.mark.parametrize(
    ("raw", "fits"),
    [("aHR0", True), ("a-_9==", True), ("a===", False), ("a+b", False), ("a/b", False), ("a%3D", False), ("", False)],
)
def test_base64url_is_known_by_its_alphabet(raw: str, fits: bool) -> None:
    assert is_base64url(raw) is fits
