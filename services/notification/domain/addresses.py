"""Where webhooks may go: nobody is to reach the operator's own network through Laurel (RULES 8.4)."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# An IPv6 address that leads to the IPv4 address in its last 32 bits, by a translator on the way (RFC 6052, RFC 8215).
_TRANSLATED: Final = (ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/48"))
_COMPATIBLE: Final = ip_network("::/96")


def may_reach(address: str, allowed: Iterable[Network]) -> bool:
    """Whether a connection to this address may be made: a public one, or one in a network that is allowed."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    networks = tuple(allowed)
    if any(found in network for network in networks):
        return True
    return all(_is_public(meant) or any(meant in network for network in networks) for meant in _meant(found))


def url_problem(url: str, *, allow_http: bool) -> str:
    """What is wrong with an endpoint's URL; empty: nothing."""
    if not url.isascii() or not url.isprintable() or " " in url:
        return "must be printable ASCII; write a host in its xn-- form and other characters with %"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return f"is not a URL: {error}"
    if parts.scheme not in ("https", "http"):
        return "must begin with https://"
    if parts.scheme == "http" and not allow_http:
        return "must begin with https://; LAUREL_WEBHOOK_ALLOW_HTTP allows http"
    if not parts.hostname or port == 0:
        return "must name a host, and a port other than 0"
    if "@" in parts.netloc or parts.fragment or "\\" in url:
        return "must have no user, password, fragment or backslash"
    return ""


def _meant(address: Address) -> Iterable[Address]:
    """The address, and those that it stands for."""
    yield address
    if isinstance(address, IPv4Address):
        return
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    if address in _COMPATIBLE or any(address in network for network in _TRANSLATED):
        yield IPv4Address(int(address) & 0xFFFF_FFFF)


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return True  # judged by what it stands for
    return address.is_global and not address.is_multicast
