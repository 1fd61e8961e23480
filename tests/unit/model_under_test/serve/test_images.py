"""Pictures: small, whole and of two formats, or refused before they are decoded; then as MNIST would have them."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from model_under_test.serve import images
from model_under_test.serve.model import ServedModel
from model_under_test.serve.problems import Problem
from model_under_test.serve.settings import Settings
from tests.unit.model_under_test.serve.conftest import RELEASE, drawing, encode

LIMITS = Settings(image_pixels=300 * 300)


@pytest.fixture(scope="module")
def model():
    return ServedModel(RELEASE)


def seen(body, limits=LIMITS):
    return images.from_picture(body, limits).reshape(28, 28).numpy()


def refusal(body, limits=LIMITS):
    with pytest.raises(Problem) as found:
        images.from_picture(body, limits)
    return found.value


@pytest.mark.parametrize("digit", [4, 7])
@pytest.mark.parametrize(
    "how",
    [
        pytest.param({}, id="black on white"),
        pytest.param({"ink": 255, "paper": 0}, id="white on black"),
        pytest.param({"ink": 60, "paper": 210}, id="grey on grey"),
        pytest.param({"form": "JPEG"}, id="JPEG"),
        pytest.param({"shift": (-40, -30)}, id="in a corner"),
        pytest.param({"size": (300, 290)}, id="not square"),
        pytest.param({"mode": "RGB", "ink": (120, 0, 0), "paper": (255, 255, 200)}, id="in colour"),
        pytest.param({"mode": "LA", "ink": (0, 255), "paper": (0, 0)}, id="dark ink on nothing"),
        pytest.param({"mode": "RGBA", "ink": (255, 255, 255, 255), "paper": (0, 0, 0, 0)}, id="light ink on nothing"),
        pytest.param({"mode": "I;16", "ink": 0, "paper": 60_000}, id="16 bits"),
        pytest.param({"mode": "P", "ink": 0, "paper": 200}, id="a palette"),
        pytest.param({"mode": "1", "ink": 0, "paper": 1}, id="one bit"),
        pytest.param({"pen": 12}, id="a thin pen"),
    ],
)
def test_a_drawn_digit_is_recognised_however_it_was_drawn(model, digit, how):
    if how.get("mode") == "P":
        body = encode(Image.open(io.BytesIO(drawing(digit))).convert("P"))
    else:
        body = drawing(digit, **how)
    assert model.predict(images.from_picture(body, LIMITS)).digit == digit


def test_the_digit_fills_twenty_pixels_and_its_mass_lies_on_pixel_fourteen():
    found = seen(drawing(7, shift=(-30, 20)))
    rows, columns = np.flatnonzero(found.max(axis=1) > 0.2), np.flatnonzero(found.max(axis=0) > 0.2)
    assert max(np.ptp(rows), np.ptp(columns)) + 1 in (19, 20)
    for axis in (0, 1):
        assert abs((found.sum(axis=1 - axis) * np.arange(28)).sum() / found.sum() - 14) <= 0.5
    assert (found.min(), found.max()) == (0.0, 1.0)


def test_where_and_how_large_it_was_drawn_does_not_matter():
    picture = Image.open(io.BytesIO(drawing(4)))
    large = encode(picture.resize((200, 200), Image.Resampling.LANCZOS))
    assert np.abs(seen(drawing(4)) - seen(drawing(4, shift=(15, -20)))).max() == 0
    assert np.abs(seen(drawing(4)) - seen(large)).mean() < 0.02


def test_proportions_are_kept():
    bar = np.full((200, 200), 255, dtype=np.uint8)
    bar[20:180, 90:110] = 0
    found = seen(encode(Image.fromarray(bar)))
    assert ((found.max(axis=1) > 0.5).sum(), (found.max(axis=0) > 0.5).sum()) == (20, 2)


@pytest.mark.parametrize("shade", [0, 100, 255])
def test_an_empty_drawing_is_said_to_be_empty(shade):
    assert refusal(encode(Image.new("L", (280, 280), shade))).code == "empty"
    assert refusal(encode(Image.new("L", (1, 1), shade))).code == "empty"


@pytest.mark.parametrize("form", ["GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_other_formats_are_refused_by_their_content(form):
    assert refusal(drawing(7, form=form)).status == 415


@pytest.mark.parametrize("body", [b"", b"GIF89a", b"%PDF-1.7", b"<svg/>", b"\x00" * 100, b"\x89PN"])
def test_what_is_no_picture_is_refused(body):
    assert refusal(body).status == 415


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.9])
def test_a_picture_that_was_cut_off_is_refused(form, kept):
    body = drawing(7, form=form)
    assert refusal(body[: max(9, int(len(body) * kept))]).status == 422


def bomb(side):
    """Return a PNG of a few bytes that says it has side x side pixels."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 10**6))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [301, 5_000, 60_000, 2**31 - 1])
def test_a_decompression_bomb_is_refused_by_its_header(side, monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("it was decoded"))
    found = refusal(bomb(side))
    assert found.status in (413, 422) if side > 60_000 else found.status == 413


def test_the_limit_itself_is_allowed():
    assert refusal(encode(Image.new("L", (300, 300)))).code == "empty"
    assert refusal(encode(Image.new("L", (300, 301)))).code == "too_many_pixels"


def test_a_jpeg_of_very_many_scans_is_refused():
    body = drawing(7, form="JPEG")
    start = body.index(b"\xff\xda")
    assert refusal(body[:start] + body[start:-2] * 65 + body[-2:]).detail == "The JPEG has more than 64 scans."


def test_a_chunk_of_compressed_text_does_not_grow():
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    body = drawing(7)
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(b"x" * 50_000_000))
    assert refusal(body[:33] + text * 3 + body[33:]).status == 422


@given(st.data())
def test_damage_anywhere_leads_to_a_picture_or_a_refusal_and_nothing_else(data):
    body = bytearray(drawing(7, form=data.draw(st.sampled_from(["PNG", "JPEG"])), size=(250, 250)))
    for _ in range(data.draw(st.integers(1, 8))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = seen(bytes(body))
    except Problem as problem:
        found, refused = np.zeros((28, 28)), problem.status
    else:
        refused = None
    assert refused in (None, 413, 415, 422)
    assert found.shape == (28, 28)
    assert np.isfinite(found).all()
    assert 0 <= found.min() <= found.max() <= 1
