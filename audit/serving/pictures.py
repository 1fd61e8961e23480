"""Pictures made from a seed: every kind of PNG and JPEG, as it should be, odd, and damaged in many places.

A decoder is the largest piece of foreign code that a stranger's bytes reach. Each kind has ways of its own through it,
so each is sent whole, with odd chunks, and damaged: where checksums guard the damage they are made right again, since a
wrong one ends the way at the door.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from PIL import Image

from audit.serving.chance import Chance
from audit.serving.client import request
from audit.serving.crafted import SIGNATURE, Crafted, chunk

WIDTH, HEIGHT = 37, 29  # no multiples of eight, so that the last block and the last byte of a row are not full
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}  # PNG, table 11.1
COLOURS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey and alpha", 6: "RGBA"}
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
TRANSPARENT = {0: 2, 2: 6, 3: 5}  # bytes of the chunk tRNS
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
PNG_DAMAGES, JPEG_DAMAGES = 4, 8  # of each kind
ODD_CHUNKS: tuple[tuple[bytes, bytes], ...] = (
    *(
        (kind, b"")
        for kind in (b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"pHYs", b"tRNS", b"tEXt", b"zTXt", b"iTXt", b"eXIf")
    ),
    *((kind, b"\x00") for kind in (b"gAMA", b"pHYs", b"cHRM", b"PLTE", b"bKGD", b"hIST", b"sBIT", b"tIME", b"acTL")),
    (b"iCCP", b"name\x00\x00" + b"not compressed"),
    (b"iCCP", b"name\x00\x01"),
    (b"zTXt", b"name\x00\x07" + b"x" * 20),
    (b"iTXt", b"name\x00\x01\x00\x00\x00" + b"\xff" * 20),
    (b"iTXt", b"name\x00\x01\x07en\x00\xff\x00" + zlib.compress(b"\xff\xfe" * 9)),
    (b"eXIf", b"MM\x00\x2a\xff\xff\xff\xff"),
    (b"eXIf", b"II\x2a\x00\x08\x00\x00\x00\xff\xff" + b"\x12\x01\x03\x00" * 9),
    (b"acTL", struct.pack(">II", 0, 0)),
    (b"acTL", struct.pack(">II", 2**31, 0)),
    (b"fcTL", b"\x00" * 5),
    (b"fdAT", b"\x00"),
    (b"PLTE", b"\x00" * 4),
    (b"PLTE", b"\x00" * 999),
    (b"IHDR", b"\x00" * 13),
    (b"IHDR", b""),
    (b"IDAT", b""),
    (b"CgBI", b"\x00" * 4),
    (b"\xff\x00\x01\x02", b"x"),
    (b"abcd", b"\x00" * 60_000),
)
ODD_SEGMENTS: tuple[tuple[int, bytes], ...] = (
    *((marker, b"") for marker in (0xC0, 0xC2, 0xC4, 0xDA, 0xDB, 0xDD, 0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xFE)),
    *((marker, b"\x00\x08") for marker in (0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCC, 0xDB, 0xDC, 0xDE, 0xDF)),
    (0xE0, b"JFIF"),
    (0xE0, b"JFIF\x00\x01"),
    (0xE1, b"Exif\x00\x00"),
    (0xE1, b"Exif\x00\x00MM\x00\x2a\xff\xff\xff\xff"),
    (0xE1, b"Exif\x00\x00II\x2a\x00\x08\x00\x00\x00\xff\xff" + b"\x12\x01\x03\x00" * 9),
    (0xE1, b"http://ns.adobe.com/xap/1.0/\x00<x:xmpmeta"),
    (0xE2, b"ICC_PROFILE\x00"),
    (0xE2, b"ICC_PROFILE\x00\x00\x00"),
    (0xE2, b"ICC_PROFILE\x00\x02\x01x"),
    (0xE2, b"MPF\x00"),
    (0xE2, b"MPF\x00MM\x00\x2a\xff\xff\xff\xff"),
    (0xE2, b"MPF\x00II\x2a\x00\x08\x00\x00\x00\x01\x00\x01\xb0\x04\x00\xff\xff\xff\xff\xff\xff\xff\xff"),
    (0xED, b"Photoshop 3.0\x00"),
    (0xED, b"Photoshop 3.0\x008BIM\x03\xed\x00\x00\x00\x00\x00\x10xx"),
    (0xED, b"Photoshop 3.0\x008BIM\x04"),
    (0xEE, b"Adobe"),
    (0xEE, b"Adobe\x00d\x00\x00\x00\x00\x07"),
    (0xFE, b"\xff" * 60_000),
    (0xDB, b"\x1f" + b"\x01" * 64),
    (0xDB, b"\x00" + b"\x00" * 64),
    (0xC4, b"\x00" + b"\xff" * 16 + b"\x00" * 256),
    (0xC0, struct.pack(">BHHB", 8, 0, 0, 1) + b"\x01\x11\x00"),
    (0xC0, struct.pack(">BHHB", 8, HEIGHT, WIDTH, 255) + b"\x01\x11\x00"),
    (0xC0, struct.pack(">BHHB", 12, HEIGHT, WIDTH, 1) + b"\x01\x11\x00"),
    (0xC0, struct.pack(">BHHB", 8, HEIGHT, WIDTH, 1) + b"\x01\xff\x00"),
    (0xC0, struct.pack(">BHHB", 8, HEIGHT, WIDTH, 1) + b"\x01\x00\x09"),
    (0xDD, b"\x00\x01"),
)  # fmt: skip
Chunks = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests that are sent together; afterwards the server must still be there."""

    kind: str
    requests: tuple[Crafted, ...]


def batches(seed: int) -> Iterator[Batch]:
    """Yield every kind of picture, whole, odd and damaged; the same for the same seed."""
    chance = Chance(seed)
    for colour, name in COLOURS.items():
        for depth in DEPTHS[colour]:
            kind = f"PNG, {name}, {depth} bits"
            yield Batch(kind, tuple(_pngs(chance, kind, colour, depth)))
    for mode, progressive in product(("L", "RGB", "CMYK"), (False, True)):
        kind = f"JPEG, {mode}, {'progressive' if progressive else 'baseline'}"
        yield Batch(kind, tuple(_jpegs(chance, kind, mode, progressive)))
    grey = png_chunks(chance, 0, 8)
    odd = [
        _post(f"PNG, odd chunk {name!r}, {len(content)} bytes", join([*grey[:at], (name, content), *grey[at:]]))
        for name, content in ODD_CHUNKS
        for at in (1, len(grey) - 1)
    ]
    yield Batch("PNG, odd chunks", tuple(odd))
    parts = segments(jpeg(chance, "RGB", False))
    yield Batch(
        "JPEG, odd segments",
        tuple(
            _post(
                f"JPEG, odd segment {marker:02X}, {len(content)} bytes",
                b"".join([*parts[:at], segment(marker, content), *parts[at:]]),
            )
            for marker, content in ODD_SEGMENTS
            for at in (1, len(parts) - 2)
        ),
    )


def _post(family: str, body: bytes, *, invalid: bool = False) -> Crafted:
    """Return the question about a picture; every fourth is asked as a form."""
    kind = "image/png" if body.startswith(SIGNATURE[:2]) else "image/jpeg"
    if zlib.crc32(body) % 4 == 0:
        head = f'--b0\r\nContent-Disposition: form-data; name="image"; filename="x"\r\nContent-Type: {kind}\r\n\r\n'
        body, kind = head.encode() + body + b"\r\n--b0--\r\n", "multipart/form-data; boundary=b0"
    return Crafted(family, request("POST", "/predict", body, kind=kind), invalid=invalid)


# PNG: W3C Recommendation, third edition, 2025


def _pngs(chance: Chance, kind: str, colour: int, depth: int) -> Iterator[Crafted]:
    for interlaced, transparent in product((False, True), (False, True)):
        if transparent and colour not in TRANSPARENT:
            continue
        chunks = png_chunks(chance, colour, depth, interlaced, transparent)
        what = kind + ", interlaced" * interlaced + ", with tRNS" * transparent
        yield _post(what, join(chunks))
        body = join(chunks)
        begin = body.index(b"IDAT")
        yield _post(f"{what}, cut off", body[: begin + (len(body) - begin) // 2], invalid=True)
        for _ in range(PNG_DAMAGES):
            damage, damaged = _damaged_png(chance, chunks)
            yield _post(f"{what}, {damage}", damaged)


def png_chunks(chance: Chance, colour: int, depth: int, interlaced: bool = False, transparent: bool = False) -> Chunks:
    """Return the chunks of a PNG of noise."""
    bits = SAMPLES[colour] * depth
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    lines = []
    for left, top, across, down in passes:
        width, height = -(-(WIDTH - left) // across), -(-(HEIGHT - top) // down)
        lines += [bytes([chance.below(5)]) + chance.content((width * bits + 7) // 8) for _ in range(height)]
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, colour, 0, 0, interlaced)
    between: Chunks = [(b"PLTE", chance.content(3 * 2**depth))] if colour == 3 else []
    if transparent:
        given = TRANSPARENT[colour] if colour != 3 else min(TRANSPARENT[3], 2**depth)
        between.append((b"tRNS", chance.content(given)))
    return [(b"IHDR", header), *between, (b"IDAT", zlib.compress(b"".join(lines))), (b"IEND", b"")]


def join(chunks: Chunks) -> bytes:
    """Return a PNG of these chunks."""
    return SIGNATURE + b"".join(chunk(kind, content) for kind, content in chunks)


def _damaged_png(chance: Chance, chunks: Chunks) -> tuple[str, bytes]:
    """Return what was done to a PNG, and the outcome; checksums are right but where that is the damage."""
    made, place = list(chunks), chance.below(len(chunks) - 1)
    kind, content = made[place]
    what = chance.among(
        ["left out", "twice", "emptied", "shortened", "changed", "split", "pixels", "header", "bytes", "last"]
    )
    if what == "left out":
        del made[place]
    elif what == "twice":
        made.insert(chance.below(len(made)), made[place])
    elif what == "emptied":
        made[place] = (kind, b"")
    elif what == "shortened":
        made[place] = (kind, content[: chance.below(len(content))])
    elif what == "changed":
        made[place] = (kind, _changed(chance, content))
    elif what == "split":
        made[-2:-1] = [(b"IDAT", bytes([byte])) for byte in made[-2][1][:500]]
    elif what == "pixels":  # right for zlib, wrong for the filters, too few or too many
        lines = _changed(chance, zlib.decompress(made[-2][1]), 40)
        made[-2] = (b"IDAT", zlib.compress(chance.among([lines, lines[: len(lines) // 2], lines * 3, b""])))
    elif what == "header":
        header = bytearray(made[0][1])
        header[chance.below(13, 8)] = chance.among([0, 1, 2, 3, 5, 7, 16, 32, 255])
        header[chance.among([3, 7])] = chance.among([0, 1, 36, 255])
        made[0] = (b"IHDR", bytes(header))
    elif what == "bytes":
        return "bytes changed", SIGNATURE + _changed(chance, join(made)[8:], 5)
    else:
        return "bytes at the end", join(made) + chance.content(100)
    return f"{kind.decode()} {what}", join(made)


def _changed(chance: Chance, content: bytes, times: int = 3) -> bytes:
    made = bytearray(content)
    for _ in range(times if made else 0):
        made[chance.below(len(made))] = chance.below(256)
    return bytes(made)


# JPEG: ITU-T T.81


def _jpegs(chance: Chance, kind: str, mode: str, progressive: bool) -> Iterator[Crafted]:
    for options in ({}, {"restart_marker_blocks": 1}, {"optimize": True}, {"comment": b"\xff\x00"}, {"quality": 1}):
        body = jpeg(chance, mode, progressive, **options)
        what = kind + "".join(f", {name}" for name in options)
        yield _post(what, body)
        scan = body.index(b"\xff\xda")
        yield _post(f"{what}, cut off", body[: scan + 20 + (len(body) - scan) // 4], invalid=True)
        parts = segments(body)
        for _ in range(JPEG_DAMAGES):
            damage, damaged = _damaged_jpeg(chance, parts)
            yield _post(f"{what}, {damage}", damaged)


def jpeg(chance: Chance, mode: str, progressive: bool, **options: object) -> bytes:
    """Return a JPEG of noise."""
    written = io.BytesIO()
    noise = chance.content(WIDTH * HEIGHT * len(Image.new(mode, (1, 1)).getbands()))
    Image.frombytes(mode, (WIDTH, HEIGHT), noise).save(written, "JPEG", progressive=progressive, **options)
    return written.getvalue()


def segments(body: bytes) -> list[bytes]:
    """Return a JPEG in parts, each from its marker on; what follows a scan's header belongs to it."""
    parts, at = [body[:2]], 2
    while at + 4 <= len(body):
        end = at + 2 + int(struct.unpack(">H", body[at + 2 : at + 4])[0])
        if body[at + 1] == 0xDA:
            while end < len(body) - 1 and (body[end] != 0xFF or body[end + 1] in (0, *range(0xD0, 0xD8))):
                end += 1
        parts.append(body[at:end])
        at = end
    return [*parts, body[at:]]


def segment(marker: int, content: bytes) -> bytes:
    """Return a segment with its right length."""
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def _damaged_jpeg(chance: Chance, parts: list[bytes]) -> tuple[str, bytes]:
    """Return what was done to a JPEG, and the outcome."""
    made, place = list(parts), chance.below(len(parts) - 1, 1)
    part, name = made[place], f"{made[place][1]:02X}"
    what = chance.among(["left out", "twice", "shortened", "changed", "length", "swapped", "cut", "pixels"])
    if what == "left out":
        del made[place]
    elif what == "twice":
        made.insert(chance.below(len(made), 1), part)
    elif what == "shortened":
        made[place] = segment(part[1], part[4 : chance.below(len(part), 4)])
    elif what == "changed":
        made[place] = part[:4] + _changed(chance, part[4:])
    elif what == "length":
        made[place] = part[:2] + struct.pack(">H", chance.among([0, 1, 2, 3, 65_535, len(part) + 1])) + part[4:]
    elif what == "swapped":
        other = chance.below(len(made) - 1, 1)
        made[place], made[other] = made[other], made[place]
    elif what == "cut":
        return f"cut off in {name}", b"".join(made[:place]) + part[: chance.below(len(part), 2)]
    else:
        made[-2] = made[-2][:12] + _changed(chance, made[-2][12:], 20)
        name = "scan"
    return f"{name} {what}", b"".join(made)
