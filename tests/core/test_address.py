"""The address guard. Nothing here connects anywhere."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_mirror.address import is_allowed_address

GLOBAL = [
    "1.1.1.1",
    "93.184.216.34",
    "172.32.0.1",
    "100.128.0.1",
    "2606:4700::1111",
    "::ffff:1.1.1.1",
    "64:ff9b::1.1.1.1",
]
PRIVATE = ["127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "::1", "fd12::1"]
PRIVATE += ["::ffff:127.0.0.1", "::ffff:10.0.0.1", "::FFFF:C0A8:0101", "64:ff9b::10.0.0.1", "64:ff9b::7f00:1"]
NEVER = {
    "metadata": [
        "169.254.169.254",
        "169.254.170.2",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd20:ce::254",
        "fd00:c1::a9fe:a9fe",
        "fd00:42::42",
    ],
    "metadata, wrapped": ["::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "::ffff:168.63.129.16", "::ffff:6464:64c8"],
    "link-local": ["169.254.0.1", "fe80::1", "febf::1"],
    "nobody": ["0.0.0.1", "0.1.2.3", "::", "::ffff:0.0.0.0", ".".join("0000")],
    "multicast and beyond": ["224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "ff02::1", "ff0e::1"],
    "documentation": ["192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1", "2001:db8::1", "3fff::1"],
    "old wrappings": [
        "2002:a9fe:a9fe::1",
        "2002:101:101::1",
        "2001:0:101:101::1",
        "::1.1.1.1",
        "::127.0.0.1",
        "192.88.99.1",
    ],
    "unassigned": ["4000::1", "64:ff9b:1::1", "100::1", "5f00::1", "::2", "fec0::1"],
    "scopes": ["fe80::1%eth0", "2606:4700::1111%1", "::1%lo", "::ffff:1.1.1.1%1"],
    "no address": [
        "",
        " ",
        "localhost",
        "1.1.1",
        "0177.0.0.1",
        "1.1.1.1 ",
        "1.1.1.1:80",
        "[::1]",
        "2130706433",
        "0x7f.1",
    ],
}


@pytest.mark.parametrize("address", GLOBAL)
@pytest.mark.parametrize("allow_private", [False, True])
def test_global_unicast_is_allowed(address: str, allow_private: bool) -> None:
    assert is_allowed_address(address, allow_private)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_for_those_who_say_so(address: str) -> None:
    assert not is_allowed_address(address, False)
    assert is_allowed_address(address, True)


@pytest.mark.parametrize("address", [address for group in NEVER.values() for address in group])
@pytest.mark.parametrize("allow_private", [False, True])
def test_never_allowed(address: str, allow_private: bool) -> None:
    assert not is_allowed_address(address, allow_private)


@given(st.ip_addresses())
def test_whatever_is_allowed_is_global_to_python_too(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if is_allowed_address(str(address), False):
        assert address.is_global or address in ipaddress.ip_network("64:ff9b::/96")
        assert not address.is_multicast


@given(st.ip_addresses(v=4), st.booleans())
def test_a_wrapping_changes_nothing(address: ipaddress.IPv4Address, allow_private: bool) -> None:
    plain = is_allowed_address(str(address), allow_private)
    assert is_allowed_address(f"::ffff:{address}", allow_private) == plain
    assert is_allowed_address(f"64:ff9b::{address}", allow_private) == plain
    assert not is_allowed_address(f"::{address}", False)


@given(st.text(), st.booleans())
def test_text_never_fails(text: str, allow_private: bool) -> None:
    assert is_allowed_address(text, allow_private) in (True, False)
