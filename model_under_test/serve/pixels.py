"""Images as JSON numbers become the tensor that the network sees, exactly as they came. Refuses everything else."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

import torch
from torch import Tensor

from model_under_test.network import INPUT_SHAPE
from model_under_test.serve import problems
from model_under_test.serve.problems import Problem, malformed
from model_under_test.serve.settings import Settings

PIXELS = math.prod(INPUT_SHAPE)
BYTES_A_NUMBER = 32  # that a JSON body may have at most on average, separators included; Python writes up to 26
SPARE_BYTES, SPARE_NUMBERS = 2**14, 64  # for what is said beside the pixels
# a string whole (what it holds opens nothing), or one bracket; possessive, so the time is linear
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)


def from_json(body: bytes, settings: Settings) -> Tensor:
    """Return (n, 784) float32 in [0, 1] from ``{"pixels": [784 numbers]}`` or ``{"images": [[784 numbers], ...]}``.

    Raises:
        Problem: 400 for what is not JSON at all, 422 for JSON that is too deep, too long or something else.
    """
    found = parse(body, settings)
    if isinstance(found, dict) and set(found) == {"pixels"}:
        return checked([found["pixels"]], settings)
    if isinstance(found, dict) and set(found) == {"images"} and isinstance(found["images"], list):
        return checked(found["images"], settings)
    raise malformed('Expected an object with the one key "pixels", or "images" with a list of such lists.')


def parse(body: bytes, settings: Settings) -> Any:
    """Return what JSON says, every number as a float; it may be as large as the most images that a request may have.

    Raises:
        Problem: as :func:`from_json`.
    """
    if len(body) > settings.images * PIXELS * BYTES_A_NUMBER + SPARE_BYTES:
        raise problems.too_large()
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise Problem(400, "not_json", "The body is not UTF-8.") from error
    _measure(body, settings)
    count = _Count(settings.images * PIXELS + SPARE_NUMBERS)
    try:
        return json.loads(
            text,
            parse_int=count.number,
            parse_float=count.number,
            parse_constant=_constant,
            object_pairs_hook=_each_once,
        )
    except (json.JSONDecodeError, RecursionError) as error:
        raise Problem(400, "not_json", "The body is not JSON.") from error


def _measure(body: bytes, settings: Settings) -> None:
    """Count brackets before anything is parsed, so that a nest costs nothing."""
    depth, opened, most = 0, 0, settings.images * (INPUT_SHAPE[1] + 2) + SPARE_NUMBERS  # an image may have rows
    for token in _TOKEN.finditer(body):
        if token[0] in (b"[", b"{"):
            depth, opened = depth + 1, opened + 1
            if depth > settings.json_depth:
                raise malformed(f"The JSON is nested deeper than {settings.json_depth}.")
            if opened > most:
                raise malformed(f"The JSON has more than {most} lists and objects.")
        elif token[0] in (b"]", b"}"):
            depth -= 1


class _Count:
    """Turns numbers into floats, and stops when there are too many."""

    def __init__(self, most: int) -> None:
        self._left = most

    def number(self, text: str) -> float:
        self._left -= 1
        if self._left < 0:
            raise malformed("The JSON has too many numbers.")
        return float(text)


def _constant(text: str) -> NoReturn:
    raise malformed("NaN and infinity are not numbers in [0, 1].")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise malformed("A key is given twice.")
    return found


def checked(images: list[Any], settings: Settings) -> Tensor:
    """Return images as (n, 784) float32, each number as it came.

    Raises:
        Problem: none or too many images, another number of pixels, or a number outside [0, 1].
    """
    if not 1 <= len(images) <= settings.images:
        raise malformed(f"Expected 1 to {settings.images} images, got {len(images)}.")
    for pixels in images:
        if not isinstance(pixels, list) or len(pixels) != PIXELS:
            raise malformed(f"Expected {PIXELS} numbers for an image.")
        for place, pixel in enumerate(pixels):  # every number is a float by now; true and false are not
            if not isinstance(pixel, float) or not 0.0 <= pixel <= 1.0:
                raise malformed(f"Expected a number in [0, 1] at place {place} of the pixels.")
    return torch.tensor(images, dtype=torch.float32)
