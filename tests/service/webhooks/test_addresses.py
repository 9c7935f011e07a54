"""No webhook goes into a private network, by whatever spelling."""

import ipaddress
import socket
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.webhooks.addresses import RefusedAddressError, check_url, is_public, resolve

PRIVATE_NETWORKS = [
    "10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10",
    "0.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4",
]  # fmt: skip


def private_addresses() -> st.SearchStrategy[ipaddress.IPv4Address]:
    return st.one_of([st.ip_addresses(v=4, network=network) for network in PRIVATE_NETWORKS])


@given(private_addresses())
def test_private_addresses_are_refused_in_every_wrapping(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    assert not is_public(address)
    for wrapped in (
        (0xFFFF << 32) | number,  # mapped
        (0x2002 << 112) | (number << 80),  # 6to4
        (0x64FF9B << 96) | number,  # NAT64
        number,  # compatible
        (0x20010000 << 96) | (0x08080808 << 64) | (number ^ 0xFFFFFFFF),  # Teredo client
    ):
        assert not is_public(ipaddress.IPv6Address(wrapped))


@pytest.mark.parametrize("text", ["8.8.8.8", "93.184.215.14", "2606:4700:4700::1111", "64:ff9b::808:808"])
def test_public_addresses(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", ["::1", "fe80::1", "fc00::1", "ff02::1", "::", "::ffff:127.0.0.1"])
def test_private_v6_addresses(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/", "ftp://example.com/", "https://", "https:///x", "https://127.0.0.1/",
        "https://[::ffff:169.254.169.254]/", "https://user@example.com/", "https://example.com:99999/",
        "https://exa mple.com/\n", "https://[::1", "https://ex\u00e4mple.com/",
    ],
)  # fmt: skip
def test_urls_that_are_refused_without_a_lookup(url: str) -> None:
    with pytest.raises(RefusedAddressError):
        check_url(url, allow_private=False)


def test_the_parts_of_a_url() -> None:
    assert check_url("https://example.com/a?b=c", allow_private=False) == (
        "https", "example.com", 443, "/a?b=c",
    )  # fmt: skip
    assert check_url("http://127.0.0.1:8080", allow_private=True) == ("http", "127.0.0.1", 8080, "/")


def lookup(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    async def found(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in addresses]

    monkeypatch.setattr(anyio, "getaddrinfo", found)


def resolved(url: str, allow_private: bool = False) -> Any:
    async def run() -> Any:
        return await resolve(url, allow_private=allow_private)

    return anyio.run(run)


def test_one_private_address_among_public_ones_refuses_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    lookup(monkeypatch, "93.184.215.14", "169.254.169.254")
    with pytest.raises(RefusedAddressError):
        resolved("https://rebind.example/")


def test_the_connection_goes_to_the_checked_address(monkeypatch: pytest.MonkeyPatch) -> None:
    lookup(monkeypatch, "93.184.215.14")
    target = resolved("https://example.com:8443/hook?x=1")
    assert target.url == "https://93.184.215.14:8443/hook?x=1"
    assert (target.host, target.host_header) == ("example.com", "example.com:8443")
    lookup(monkeypatch, "2606:4700:4700::1111")
    assert resolved("https://example.com/").url == "https://[2606:4700:4700::1111]:443/"


def test_a_name_without_addresses_is_a_failure_to_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    lookup(monkeypatch)
    with pytest.raises(OSError, match="no address"):
        resolved("https://example.com/")
