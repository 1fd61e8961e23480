"""Audit images as a camera or a drawing program would hand them in, and what a network of digits should see of them.

The reference follows the words of docs/serving.md, not the server's code: grey, light on dark, cropped, fitted into
20 x 20 and laid with the centre of mass on pixel 14 of 28. What the words leave open (the filter of the resizing, how
faint ink may be) must not matter: pictures are asked about only where every reading of them has the same answer.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from audit.serving.bench import Picture

SIDE, BOX, CENTRE = 28, 20, 14
SCALE = 10  # how much larger a picture is than the image
LOOKED_AT = 40  # images at most
SURE = 0.6  # probability that every reading must give the class
INK = (64.0, 32.0, 128.0)  # of 255, fainter ink does not widen the crop
FILTERS = (Image.Resampling.LANCZOS, Image.Resampling.BICUBIC, Image.Resampling.BOX)
BOUNDARY = "----a-drawing"
Grey = NDArray[np.float64]
Shares = Callable[[Tensor], Tensor]
Form = tuple[str, str, bool, str, tuple[int, ...], bool]
# what it is, format, kind, dark on light, colours, margins (above, left, below, right), in a form
FORMS = (
    ("PNG, dark on light, far to the left", "PNG", True, "L", (60, 5, 20, 190), False),
    ("PNG in colours, light on dark, far down", "PNG", False, "RGB", (170, 40, 5, 50), False),
    ("JPEG, dark on light, in the middle", "JPEG", True, "RGB", (40, 40, 40, 40), False),
    ("JPEG in a form, light on dark, to the right", "JPEG", False, "L", (10, 150, 90, 5), True),
    ("PNG in a form, dark on light, far up", "PNG", True, "L", (5, 60, 170, 30), True),
)


def pictures(images: Tensor, shares: Shares) -> tuple[Picture, ...]:
    """Return pictures of an image of each class for which every reading gives one answer, in every form.

    Args:
        images: (n, 1, 28, 28) in [0, 1]; of another shape there are no pictures.
        shares: the audited model's probabilities for such images.
    """
    if tuple(images.shape[1:]) != (1, SIDE, SIDE):
        return ()
    found, classes = list[Picture](), set[int]()
    for image in images[:LOOKED_AT, 0].numpy():
        if (first := _picture(image > 0.5, FORMS[0], shares)) is None or first.expected[0] in classes:
            continue
        made = [first, *(_picture(image > 0.5, form, shares, usual=True) for form in FORMS[1:])]
        whole = [one for one in made if one is not None and one.expected[0] == first.expected[0]]
        if len(whole) == len(FORMS):
            found += whole
            classes.add(first.expected[0])
    return tuple(found)


def _picture(drawn: NDArray[np.bool_], form: Form, shares: Shares, *, usual: bool = False) -> Picture | None:
    """Return a drawing in one form; None where the readings, or with ``usual`` the first of them, leave it open."""
    what, kind, dark, mode, (above, left, below, right), in_form = form
    large = np.pad(np.kron(drawn, np.ones((SCALE, SCALE))), ((above, below), (left, right))) * 255
    encoded = io.BytesIO()
    Image.fromarray((255 - large if dark else large).astype(np.uint8)).convert(mode).save(encoded, kind, quality=92)
    content = encoded.getvalue()
    seen = list(islice(readings(content), 1 if usual else None))
    rows = shares(torch.tensor(np.stack(seen), dtype=torch.float32).reshape(-1, 1, SIDE, SIDE))
    chosen = int(rows[0].argmax())
    if float(rows[:, chosen].min()) < SURE:
        return None
    media = f"image/{kind.lower()}"
    if in_form:
        content, media = _form(content, media), f"multipart/form-data; boundary={BOUNDARY}"
    return Picture(f"{chosen}: {what}", media, content, (chosen, tuple(rows[0].tolist())), tuple(seen[0].ravel()))


def _form(content: bytes, media: str) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="digit"\r\nContent-Type: {media}'
    return head.encode() + b"\r\n\r\n" + content + f"\r\n--{BOUNDARY}--\r\n".encode()


def readings(content: bytes) -> Iterator[Grey]:
    """Yield what a network should see of a picture, under every reading of the words; the most usual one first."""
    with Image.open(io.BytesIO(content)) as opened:
        grey = np.asarray(opened.convert("L"), dtype=np.float64)
    paper = float(np.median([*grey[0], *grey[-1], *grey[:, 0], *grey[:, -1]]))
    ink = np.clip(paper - grey if paper > 127.5 else grey - paper, 0, None)
    ink *= 255 / ink.max()
    yield _fitted(ink, INK[0], FILTERS[0])
    yield from (_fitted(ink, INK[0], how) for how in FILTERS[1:])
    yield from (_fitted(ink, faint, FILTERS[0]) for faint in INK[1:])


def _fitted(ink: Grey, faint: float, how: Image.Resampling) -> Grey:
    rows, columns = np.nonzero(ink > faint)
    cut = ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    height, width = (max(1, round(BOX * length / max(cut.shape))) for length in cut.shape)
    small = np.asarray(Image.fromarray(cut.astype(np.float32)).resize((width, height), how), dtype=np.float64)
    small = np.clip(small, 0, None) / small.max()
    down, across = np.indices(small.shape)
    top = _begin(float((down * small).sum() / small.sum()), height)
    left = _begin(float((across * small).sum() / small.sum()), width)
    canvas = np.zeros((SIDE, SIDE))
    canvas[top : top + height, left : left + width] = small
    return canvas


def _begin(mass: float, length: int) -> int:
    return min(max(round(CENTRE - mass), 0), SIDE - length)
