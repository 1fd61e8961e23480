"""Who is asked, from which page, and who counts as one client."""

from __future__ import annotations

import pytest

from model_under_test.serve.hosts import address_group, host_allowed, same_origin


@pytest.mark.parametrize("header", [b"localhost", b"LOCALHOST:8080", b"127.0.0.1:1", b"[::1]:80", b"digits.example"])
def test_own_hosts_are_answered_for(header):
    assert host_allowed(header, ["Digits.Example"])


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"evil.example",
        b"localhost.evil.example",
        b"localhost@evil.example",
        b"//evil",
        b"localhost:x",
        b"local host",
        b"\xff",
    ],
)
def test_others_are_not(header):
    assert not host_allowed(header, ["digits.example"])


@pytest.mark.parametrize(
    ("origin", "same"),
    [
        ("http://a.example", True),
        ("https://A.example", True),
        ("http://a.example:80", False),
        ("http://b.example", False),
        ("file://a.example", False),
        ("a.example", False),
        ("null", False),
        ("", False),
    ],
)
def test_an_origin_is_the_own_one_where_it_names_the_host_that_was_asked(origin, same):
    assert same_origin(origin, "a.example") is same


@pytest.mark.parametrize(
    ("address", "group"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("unknown", "unknown"),
    ],
)
def test_a_block_of_addresses_is_one_client(address, group):
    assert address_group(address) == group
