"""Malformed requests, made from a seed: bodies, content types, headers, methods, paths, and HTTP that is none."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from audit.serving.chance import Chance
from audit.serving.client import ADDRESS, Header, request

KINDS = ("image/png", "image/jpeg", "text/html", "text/plain", "application/x-www-form-urlencoded", "application/xml")
ODD_KINDS = ("", ";", "json", "application/json; charset=utf-7", "application/json;charset=\xff", "*/*", "a" * 3000)
METHODS = ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "PROPFIND", "get", "FOO", "X" * 200)
TRIES = 20  # for a request of a family that was not made before
SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class Crafted:
    """A request.

    ``whole`` says that it is complete HTTP, so that silence is no answer; ``invalid`` that no server may accept it.
    """

    family: str
    sent: bytes
    whole: bool = True
    invalid: bool = False


def crafted(count: int, width: int, seed: int) -> list[Crafted]:
    """Return so many different malformed requests, the families in turn; the same for the same seed.

    Args:
        count: how many.
        width: pixels of an image that the server expects.
        seed: of the random numbers.
    """
    chance, made = Chance(seed), dict[bytes, Crafted]()
    families = cycle(FAMILIES.items())
    while len(made) < count:
        name, make = next(families)
        for _ in range(TRIES):
            one = make(chance, name, width)
            if one.sent not in made:
                made[one.sent] = one
                break
    return list(made.values())


def png(width: int, height: int, pixels: bytes, extra: bytes = b"") -> bytes:
    """Return a grey 8-bit PNG; ``pixels`` are compressed as they are, filter bytes included (PNG, W3C 2003)."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return SIGNATURE + chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(pixels, 9)) + chunk(b"IEND", b"")


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return one chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _post(family: str, body: bytes, kind: str = "application/json", *, invalid: bool = False) -> Crafted:
    return Crafted(family, request("POST", "/predict", body, kind=kind), invalid=invalid)


def _json_values(chance: Chance, family: str, width: int) -> Crafted:
    bad: Any = chance.among(
        [None, True, "0.5", [], [0.5], {}, "NaN", 10**30, -1, 1.0001, -1e-3, 1e308, "\ud800", "\x00"]
    )
    pixels: list[Any] = [round(chance.share(), 3) for _ in range(width)]
    pixels[chance.below(width)] = bad
    return _post(family, json.dumps({"pixels": pixels}).encode(), invalid=True)


def _json_numbers(chance: Chance, family: str, width: int) -> Crafted:
    literal = chance.among(
        ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 400, "0x1", "1_0", "01", "1.", "+1"]
    )
    numbers = ["0"] * width
    numbers[chance.below(width)] = literal
    return _post(family, ('{"pixels": [' + ",".join(numbers) + "]}").encode(), invalid=True)


def _json_shapes(chance: Chance, family: str, width: int) -> Crafted:
    count, value = chance.among([0, 1, width - 1, width + 1, 2 * width, 20 * width]), round(chance.share(), 3)
    values: list[object] = [
        None,
        value,
        "pixels",
        [value] * count,
        {"pixels": [value] * count},
        {"pixel": [value] * width},
        {},
    ]
    values += [
        [[value] * width],
        {"pixels": [[value] * width]},
        {"pixels": {"0": value}},
        {"pixels": "0" * width},
        [],
        True,
    ]
    return _post(family, json.dumps(chance.among(values)).encode(), invalid=True)


def _json_text(chance: Chance, family: str, width: int) -> Crafted:
    good = json.dumps({"pixels": [0] * width})
    depth = chance.among([100, 1000, 10_000])
    texts = [
        b"",
        b" ",
        b"\x00",
        b"{",
        b"[" * depth,
        b'{"pixels":' * depth,
        good[: chance.below(len(good))].encode(),
    ]
    texts += [good.encode("utf-16"), b"\xff\xfe\xfd", good.encode() + b"}", b"'pixels'", b'{"pixels": ' + b"9" * 5000]
    texts += [b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth, chance.content(200)]
    return _post(family, chance.among(texts), invalid=True)


def _json_mutated(chance: Chance, family: str, width: int) -> Crafted:
    body = bytearray(json.dumps({"pixels": [round(chance.share(), 2) for _ in range(width)]}).encode())
    for _ in range(chance.among([1, 3, 20])):
        body[chance.below(len(body))] = chance.below(256)
    return _post(family, bytes(body))


def _content_types(chance: Chance, family: str, width: int) -> Crafted:
    body = chance.among([json.dumps({"pixels": [0] * width}).encode(), chance.content(300), b"pixels=0", b"<a/>"])
    return _post(family, body, chance.among(KINDS + ODD_KINDS))


def _images(chance: Chance, family: str, width: int) -> Crafted:
    good = bytearray(png(28, 28, b"".join(b"\x00" + chance.content(28) for _ in range(28))))
    choice = chance.below(5)
    if choice == 0:
        for _ in range(chance.among([1, 5, 50])):
            good[chance.below(len(good), 8)] = chance.below(256)
    elif choice == 1:
        del good[chance.below(len(good)) :]
    elif choice == 2:
        good[16:24] = struct.pack(">II", chance.among([0, 1, 2**31 - 1, 65_536]), chance.among([0, 2**31 - 1]))
    elif choice == 3:
        good[:] = chance.among([b"GIF89a", b"BM", b"\xff\xd8\xff\xe0", b"<svg/>", b"%PDF-1.7", b"PK\x03\x04"])
        good += chance.content(100)
    else:
        good[:] = png(28, 28, chance.content(chance.among([0, 10, 28 * 29, 10_000])), chunk(b"iCCP", b"x\x00\x00y"))
    return _post(family, bytes(good), chance.among(["image/png", "image/jpeg", "image/gif", "application/json"]))


def _multipart(chance: Chance, family: str, width: int) -> Crafted:
    name = chance.among(["image", "", "../../etc/passwd", "a" * 2000, 'x"; filename="y', "image\x00"])
    head = f'--b\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\nContent-Type: image/png\r\n\r\n'
    part = head.encode() + chance.content(chance.among([0, 50])) + b"\r\n"
    body = chance.among([part + b"--b--\r\n", part, b"--b--", b"", part * 300, chance.content(100), b"--b\r\n\r\n"])
    boundary = chance.among(["; boundary=b", "", "; boundary=", "; boundary=" + "b" * 500, '; boundary="', "; x=y"])
    return _post(family, body, f"multipart/form-data{boundary}")


def _methods(chance: Chance, family: str, width: int) -> Crafted:
    path = chance.among(["/predict", "/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/static/", "/none", "*"])
    method = chance.among(METHODS)
    if method == "CONNECT":
        path = f"{ADDRESS}:1"
    body = chance.among([None, b"", chance.content(50)])
    return Crafted(family, request(method, path, body), whole=path != "*")


def _paths(chance: Chance, family: str, width: int) -> Crafted:
    odd = ["%00", "%ff%fe", "..", "%2e%2e", "%2f", "//", ";a=b", "?" * 5, "%", "%zz", "%u0041", "a" * 3000, "\\", "<b>"]
    path = "/" + "/".join(chance.among(odd) for _ in range(chance.below(5, 1)))
    query = chance.among(["", "?q=%00", "?" + "a=b&" * 500, "?__debugger__=yes", "?q=<script>", "?%ff"])
    return Crafted(family, request(chance.among(["GET", "POST", "HEAD"]), path + query, None))


def _headers(chance: Chance, family: str, width: int) -> Crafted:
    odd: list[list[Header]] = [[(f"X-{index}", "y") for index in range(300)], [("X-Long", "z" * 9000)], [("", "empty")]]
    odd += [[("Accept", "\xff" * 50)], [("Cookie", "a=b;" * 500)], [("Range", "bytes=0-1,-5")], [("Expect", "luck")]]
    odd += [[("Authorization", chance.among(["Bearer", "Basic !!!", "Bearer \xff", "Digest", "x" * 3000]))]]
    odd += [[("Content-Encoding", chance.among(["gzip", "br", "zstd", "identity", "x"]))], [("Host", "other")]]
    odd += [[("X-Request-Id", chance.among(["<script>", "a" * 2000, "'"]))], [("If-Modified-Since", "never")]]
    odd += [[("Transfer-Encoding", "gzip")], [("Upgrade", "websocket"), ("Connection", "Upgrade")], [("a b", "c")]]
    body = chance.among([None, b"{}", json.dumps({"pixels": [0] * width}).encode()])
    sent = request("GET" if body is None else "POST", "/" if body is None else "/predict", body, chance.among(odd))
    return Crafted(family, sent, whole=False)


def _framing(chance: Chance, family: str, width: int) -> Crafted:
    length = chance.among(
        ["-1", "+5", "5, 5", "0x5", "1e3", "", "abc", "99999999999999999999", "5\r\nContent-Length: 6"]
    )
    chunked = "Transfer-Encoding: chunked\r\n"
    heads = [f"Content-Length: {length}\r\n", chunked, f"{chunked}Content-Length: 5\r\n", "Content-Length: 500\r\n"]
    heads += ["Transfer-Encoding: x\r\n", f"{chunked}{chunked}", "Transfer-Encoding : chunked\r\n", " folded: x\r\n"]
    tails = [
        b"5\r\nhello\r\n0\r\n\r\n",
        b"zz\r\n",
        b"-1\r\n",
        b"fffffffffffffffff\r\nx",
        b"hello",
        b"",
        b"5;a=b\r\nhel",
    ]
    head = f"POST /predict HTTP/1.1\r\nHost: {ADDRESS}\r\nContent-Type: application/json\r\n{chance.among(heads)}\r\n"
    return Crafted(family, head.encode() + chance.among(tails), whole=False)


def _no_http(chance: Chance, family: str, width: int) -> Crafted:
    lines = [
        b"GET /\r\n\r\n",
        b"\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET  /  HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\n\n",
    ]
    lines += [
        b"\x16\x03\x01\x02\x00\x01\x00" + chance.content(100),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x00" * 50,
    ]
    lines += [
        chance.content(chance.among([1, 100, 5000])),
        b"GET / HTTP/1.1\r\nHost",
        b"A" * 20_000,
        b"GET http://x/ ",
    ]
    lines += [b"GET / HTTP/1.1\r\nX: \x00\r\n\r\n", b"GET / HTTP/1.1\r\n: x\r\n\r\n", b"\xffGET / HTTP/1.1\r\n\r\n"]
    return Crafted(family, chance.among(lines), whole=False)


FAMILIES: dict[str, Callable[[Chance, str, int], Crafted]] = {
    "JSON with wrong values": _json_values,
    "JSON with impossible numbers": _json_numbers,
    "JSON of a wrong shape": _json_shapes,
    "no JSON, or very deep": _json_text,
    "JSON with changed bytes": _json_mutated,
    "content types": _content_types,
    "damaged images": _images,
    "multipart forms": _multipart,
    "methods": _methods,
    "paths": _paths,
    "headers": _headers,
    "lengths and chunks": _framing,
    "no HTTP": _no_http,
}
