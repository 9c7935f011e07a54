"""Where a webhook may go: never into our own network (server-side request forgery, reliability H11).

A name is resolved once, all its addresses are checked, and the connection goes to a checked one.
"""

import ipaddress
import socket
from dataclasses import dataclass
from typing import final
from urllib.parse import urlsplit

import anyio

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_PORTS = {"http": 80, "https": 443}


@final
class RefusedAddressError(Exception):
    """The webhook's address is one that we do not connect to."""


@final
@dataclass(frozen=True)
class Target:
    """A checked destination: connect to `address`, speak to `host`."""

    scheme: str
    host: str
    address: Address
    port: int
    path: str

    @property
    def url(self) -> str:
        """The URL with the address in place of the name."""
        literal = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{self.scheme}://{literal}:{self.port}{self.path}"

    @property
    def host_header(self) -> str:
        """The name, with its port where it is not the scheme's own."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == _PORTS[self.scheme] else f"{name}:{self.port}"


def check_url(url: str, *, allow_private: bool) -> tuple[str, str, int, str]:
    """(scheme, host, port, path with query). Raises `RefusedAddressError` for what shows without a lookup."""
    try:
        parts = urlsplit(url)
        port = parts.port
        host = (parts.hostname or "").encode("idna").decode() if parts.hostname else ""
    except ValueError as error:
        raise RefusedAddressError("the URL is malformed") from error
    if parts.scheme != "https" and not (allow_private and parts.scheme == "http"):
        raise RefusedAddressError("webhooks go to https addresses only")
    if not host or parts.username is not None or not url.isascii() or not url.isprintable():
        raise RefusedAddressError("the URL is malformed, or holds credentials")
    literal = _literal(host)
    if literal is not None and not allow_private and not is_public(literal):
        raise RefusedAddressError("the address is not a public one")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return parts.scheme, host, port or _PORTS[parts.scheme], path


async def resolve(url: str, *, allow_private: bool) -> Target:
    """Look the name up and check every address it has.

    Raises `RefusedAddressError`, or `OSError` when the name cannot be resolved now.
    """
    scheme, host, port, path = check_url(url, allow_private=allow_private)
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    if not addresses:
        raise OSError("the name has no address")
    if not allow_private and not all(is_public(address) for address in addresses):
        raise RefusedAddressError("the name leads to an address that is not public")
    return Target(scheme, host, addresses[0], port, path)


def is_public(address: Address) -> bool:
    """True when the address, and any IPv4 address that it wraps, is on the public internet."""
    if isinstance(address, ipaddress.IPv6Address) and not all(map(is_public, _wrapped(address))):
        return False
    return address.is_global and not address.is_multicast


def _wrapped(address: ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    """IPv4 addresses inside mapped, 6to4, Teredo, NAT64 and IPv4-compatible addresses."""
    wrapped = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    number = int(address)
    if address in _NAT64 or number >> 32 == 0:
        wrapped.append(ipaddress.IPv4Address(number & 0xFFFFFFFF))
    return [found for found in wrapped if found is not None]


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
