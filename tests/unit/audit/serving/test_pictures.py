"""The pictures are of every kind, the same each time, and what is said to be damaged is."""

from __future__ import annotations

import io
from collections import Counter

import pytest
from PIL import Image

from audit.serving.burdens import many_scans
from audit.serving.chance import Chance
from audit.serving.pictures import COLOURS, DEPTHS, HEIGHT, WIDTH, batches, join, jpeg, png_chunks, segments

KINDS = [(colour, depth, interlaced) for colour in COLOURS for depth in DEPTHS[colour] for interlaced in (False, True)]
MODES = [(mode, progressive) for mode in ("L", "RGB", "CMYK") for progressive in (False, True)]


@pytest.fixture(scope="module")
def made():
    return list(batches(0))


def decoded(body):
    picture = Image.open(io.BytesIO(body))
    picture.load()
    return picture


def test_the_same_seed_makes_the_same_pictures(made):
    assert list(batches(0)) == made
    assert list(batches(1)) != made


def test_every_kind_comes_whole_and_damaged(made):
    counts = Counter(batch.kind for batch in made for _ in batch.requests)
    assert len(counts) == sum(map(len, DEPTHS.values())) + len(MODES) + 2
    assert min(counts.values()) >= 12
    assert {one.family.endswith("cut off") for batch in made for one in batch.requests if one.invalid} == {True}


def test_announced_lengths_are_right(made):
    for batch in made:
        for one in batch.requests:
            head, _, body = one.sent.partition(b"\r\n\r\n")
            assert int(head.split(b"Content-Length: ")[1]) == len(body)


@pytest.mark.parametrize(("colour", "depth", "interlaced"), KINDS)
def test_a_whole_png_can_be_decoded(colour, depth, interlaced):
    picture = decoded(join(png_chunks(Chance(0), colour, depth, interlaced)))
    assert (picture.size, picture.format) == ((WIDTH, HEIGHT), "PNG")


@pytest.mark.parametrize(("mode", "progressive"), MODES)
def test_a_whole_jpeg_can_be_decoded_and_taken_apart(mode, progressive):
    body = jpeg(Chance(0), mode, progressive)
    assert (decoded(body).mode, decoded(body).size) == (mode, (WIDTH, HEIGHT))
    parts = segments(body)
    assert b"".join(parts) == body
    assert {part[:1] for part in parts} == {b"\xff"}
    assert (parts[0], parts[-1]) == (b"\xff\xd8", b"\xff\xd9")
    assert sum(part[1] == 0xDA for part in parts) == body.count(b"\xff\xda")


def test_many_scans_are_a_picture_within_the_limit():
    body = many_scans(20_000)
    assert 19_000 < len(body) <= 20_000
    assert body.count(b"\xff\xda") > 1000
    assert Image.open(io.BytesIO(body)).size == (1000, 1000)
