"""The address guard: which addresses the mirror may connect to on a stranger's behalf.

The lists follow IANA's registries of special-purpose addresses (RFC 6890 and its heirs) and stand here rather than in
`ipaddress`, whose answers change with Python's patch releases and count several dangerous ranges as global.
"""

from __future__ import annotations

import ipaddress
from typing import Final, TypeAlias

__all__ = ["is_allowed_address"]

_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


def _networks(*texts: str) -> tuple[_Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


_METADATA: Final = _networks(
    "169.254.0.0/16",  # AWS, GCP, Azure and others; all of link-local, since nothing else of it serves objects
    "fe80::/10",
    "100.100.100.200/32",  # Alibaba
    "168.63.129.16/32",  # Azure's host agent, a public address by its looks
    "192.0.0.192/32",  # Oracle
    "fd00:ec2::/32",  # AWS
    "fd20:ce::254/128",  # GCP
    "fd00:c1::a9fe:a9fe/128",  # Oracle
    "fd00:42::42/128",  # Scaleway
)
"""Where a cloud hands out credentials: refused whatever the settings say."""

_PRIVATE: Final = _networks(
    "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7"
)
"""The operator's own networks: for tests, and for those who say so."""

_SPECIAL: Final = _networks(
    "0.0.0.0/8",  # "this network": connects to the machine itself
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/3",  # multicast, reserved, broadcast
    "2001::/23",  # protocol assignments, Teredo among them
    "2001:db8::/32",
    "2002::/16",  # 6to4 carries any IPv4 address
    "3fff::/20",
)
_GLOBAL_V6: Final = ipaddress.IPv6Network("2000::/3")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


def is_allowed_address(address: str, allow_private: bool) -> bool:
    """Whether the mirror may connect to this address, given as text; what is no address is not allowed.

    Global unicast only. An IPv4 address inside an IPv6 one (mapped, NAT64) is judged as what it is; the other wrappings
    (6to4, Teredo, compatible) are refused, as is a scope id. `allow_private` adds private and loopback addresses, and
    never a metadata service's.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.scope_id is not None:
            return False
        if parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        elif parsed in _NAT64:
            parsed = ipaddress.IPv4Address(parsed.packed[-4:])
    if _within(parsed, _METADATA):
        return False
    if _within(parsed, _PRIVATE):
        return allow_private
    return not _within(parsed, _SPECIAL) and (parsed.version == 4 or parsed in _GLOBAL_V6)


def _within(address: ipaddress.IPv4Address | ipaddress.IPv6Address, networks: tuple[_Network, ...]) -> bool:
    return any(address in network for network in networks)
