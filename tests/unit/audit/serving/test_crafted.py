"""The malformed requests are many, of every family, and the same each time."""

from __future__ import annotations

import io
import json

import pytest
from PIL import Image

from audit.serving.crafted import FAMILIES, crafted, png

WIDTH = 784


@pytest.fixture(scope="module")
def requests():
    return crafted(650, WIDTH, seed=0)


def test_the_same_seed_makes_the_same_requests(requests):
    assert crafted(650, WIDTH, seed=0) == requests
    assert crafted(650, WIDTH, seed=1) != requests


def test_there_are_many_of_every_family(requests):
    counts = {name: sum(one.family == name for one in requests) for name in FAMILIES}
    assert min(counts.values()) >= 40


def test_no_two_are_the_same(requests):
    assert len({one.sent for one in requests}) == len(requests) == 650


def test_none_that_must_be_refused_is_a_good_question(requests):
    for one in requests:
        if one.invalid:
            body = one.sent.partition(b"\r\n\r\n")[2]
            try:
                pixels = json.loads(body)["pixels"]
                good = len(pixels) == WIDTH and all(type(p) in (int, float) and 0 <= p <= 1 for p in pixels)
            except (ValueError, KeyError, TypeError, RecursionError):
                good = False
            assert not good or b"\x00" in body[:60], body[:60]  # good again in UTF-16, which JSON over HTTP is not


def test_whole_requests_have_the_length_that_they_announce(requests):
    for one in requests:
        head, _, body = one.sent.partition(b"\r\n\r\n")
        if one.whole and b"Content-Length" in head:
            assert int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0]) == len(body)


def test_the_picture_is_a_picture():
    picture = Image.open(io.BytesIO(png(3, 2, b"\x00abc\x00def")))
    picture.load()
    assert (picture.size, picture.mode, picture.tobytes()) == ((3, 2), "L", b"abcdef")
