"""Requests that are too much: oversize bodies, bombs of every kind, and what takes long to look at."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

from audit.serving import client
from audit.serving.bench import BODY_BYTES
from audit.serving.client import ADDRESS
from audit.serving.crafted import chunk, png
from audit.serving.pictures import segments

ACCEPTABLE = (400, 408, 411, 413, 414, 415, 422, 431, 501, 503)
TOO_LARGE = (400, 413)
CHUNKED = (
    f"POST /predict HTTP/1.1\r\nHost: {ADDRESS}\r\nContent-Type: {client.JSON}\r\nTransfer-Encoding: chunked\r\n\r\n"
)


@dataclass(frozen=True, slots=True)
class Burden:
    """A request that is too much, whole or only its beginning."""

    what: str
    sent: bytes
    allowed: tuple[int, ...] = ACCEPTABLE


def burdens(width: int) -> Iterator[Burden]:
    """Yield oversize requests and bombs."""

    def post(body: bytes, kind: str = client.JSON, *headers: client.Header) -> bytes:
        return client.request("POST", "/predict", body, headers, kind)

    announced = f"POST /predict HTTP/1.1\r\nHost: {ADDRESS}\r\nContent-Type: {client.JSON}\r\nContent-Length: "
    pixels = b'{"pixels": [' + b"0," * (width - 1) + b"0]}"
    yield Burden("a body of ten gigabytes, announced", announced.encode() + b"10000000000\r\n\r\n" + pixels, TOO_LARGE)
    yield Burden("a body one byte too large", post(pixels + b" " * (BODY_BYTES + 1 - len(pixels))), TOO_LARGE)
    yield Burden("a body of four megabytes", post(pixels + b" " * 2**22), TOO_LARGE)
    yield Burden("an image of four megabytes", post(b"\x89PNG\r\n\x1a\n" + b"\x00" * 2**22, "image/png"), TOO_LARGE)
    yield Burden(
        "a form of four megabytes", post(b"--b\r\n" + b"x" * 2**22, "multipart/form-data; boundary=b"), TOO_LARGE
    )
    bomb = gzip.compress(pixels + b" " * 2**25, 9)
    yield Burden("a gzip bomb of 32 megabytes", post(bomb, client.JSON, ("Content-Encoding", "gzip")))
    yield Burden("a deflate bomb", post(zlib.compress(b"0" * 2**25, 9), client.JSON, ("Content-Encoding", "deflate")))
    side = 6000
    yield Burden("a PNG of 36 megapixels", post(png(side, side, b"\x00" * (side * (side + 1))), "image/png"))
    text = chunk(b"zTXt", b"Comment\x00\x00" + zlib.compress(b"x" * 2**25, 9))
    yield Burden("a PNG with 32 megabytes of text", post(png(28, 28, b"\x00" * 10, text), "image/png"))
    frame = b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 11, 8, 65_500, 65_500, 1) + b"\x01\x11\x00"
    yield Burden(
        "a JPEG that claims four gigapixels", post(frame + b"\xff\xda\x00\x08\x01\x01\x00\x00?\x00", "image/jpeg")
    )
    yield Burden("JSON nested ten thousand deep", post(b'{"pixels":' + b"[" * 10_000 + b"]" * 10_000 + b"}"))
    yield Burden("a number of fifty thousand digits", post(b'{"pixels": [' + b"9" * 50_000 + b"]}"))
    yield Burden("thirty thousand numbers", post(b'{"pixels": [' + b"0," * 30_000 + b"0]}"))
    yield Burden("a header of a megabyte", client.request("GET", "/healthz", headers=[("X-Long", "x" * 2**20)]))
    yield Burden("a path of a megabyte", client.request("GET", "/" + "x" * 2**20))
    quotes = b'{"pixels": ["' + b'\\"' * 30_000 + b"]}"
    yield Burden("sixty kilobytes of escaped quotes in a string that never ends", post(quotes))
    yield Burden("sixty kilobytes of backslashes", post(b'"' + b"\\" * 60_001))
    yield Burden("a JPEG of thousands of scans", post(many_scans(BODY_BYTES), "image/jpeg"))
    # each chunk costs as much as a large one, so docs/serving.md allows for few: 64 bytes a chunk, on average
    one_by_one = b"".join(b"1\r\n%c\r\n" % byte for byte in pixels.ljust(BODY_BYTES - 1))
    yield Burden("a body in chunks of one byte", CHUNKED.encode() + one_by_one + b"0\r\n\r\n", TOO_LARGE)


def many_scans(most: int) -> bytes:
    """Return a progressive JPEG of a megapixel whose last scan comes again and again, up to so many bytes.

    A decoder goes over the whole picture for each, and a scan of a few bytes is enough for that.
    """
    written = io.BytesIO()
    Image.new("L", (1000, 1000), 255).save(written, "JPEG", progressive=True)
    parts = segments(written.getvalue())
    scan = next(part for part in reversed(parts) if part[:2] == b"\xff\xda")
    return b"".join(parts[:-1]) + scan * ((most - len(written.getvalue())) // len(scan)) + parts[-1]
