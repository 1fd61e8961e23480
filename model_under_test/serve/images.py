"""A picture of a digit becomes what MNIST would have made of it. Nothing is decoded before it is known to be small.

MNIST's digits are light on dark, fitted into 20 x 20 pixels with their proportions kept, and lie with their centre of
mass in the middle of 28 x 28 (LeCun, Cortes and Burges, The MNIST database, 1998; LeCun et al. 1998, Gradient-based
learning applied to document recognition, section III-A).
"""

from __future__ import annotations

import io

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from model_under_test.serve.problems import Problem, malformed
from model_under_test.serve.settings import Settings

SIDE, BOX = 28, 20
MOST_SCANS = 64  # of a progressive JPEG: each is decoded over the whole picture, and may be a few bytes long
LEAST_CONTRAST = 32.0  # between paper and ink, of 255
INK = 64.0  # of 255, when the darkest ink is 255; what is fainter does not widen the crop
_SIGNATURES = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG"}
_START_OF_SCAN = b"\xff\xda"

Grey = NDArray[np.float64]


def from_picture(body: bytes, settings: Settings) -> Tensor:
    """Return (784,) float32 in [0, 1], centred as MNIST was, from the bytes of a PNG or a JPEG.

    Raises:
        Problem: 415 for another format (the content decides, not the name), 413 for too many pixels, 422 for a damaged
            picture or one without a drawing.
    """
    picture = _open(body)
    width, height = picture.size
    if width * height > settings.image_pixels:
        raise Problem(413, "too_many_pixels", f"The picture has more than {settings.image_pixels} pixels.")
    if picture.format == "JPEG" and body.count(_START_OF_SCAN) > MOST_SCANS:
        raise malformed(f"The JPEG has more than {MOST_SCANS} scans.")
    return torch.from_numpy(_centred(_light_on_dark(_grey(picture)))).reshape(-1)


def _open(body: bytes) -> Image.Image:
    """Read the header of a picture, by the one decoder that its first bytes ask for."""
    kind = next((kind for signature, kind in _SIGNATURES.items() if body.startswith(signature)), None)
    if kind is None:
        raise Problem(415, "unsupported_format", "Expected a PNG or a JPEG; the content decides, not the name.")
    try:
        return Image.open(io.BytesIO(body), formats=[kind])
    except Image.DecompressionBombError as error:
        raise Problem(413, "too_many_pixels", "The picture has too many pixels.") from error
    except Exception as error:  # decoders raise whatever damaged bytes lead them to
        raise malformed(f"The {kind} is damaged.") from error


def _grey(picture: Image.Image) -> Grey:
    """Decode a picture to (height, width) in 0..255; what is transparent becomes paper."""
    try:
        picture.load()
        if picture.mode.startswith("I"):  # 16 bits, which Pillow would cut off rather than scale
            return np.asarray(picture, dtype=np.float64).clip(0, 65535) / 257
        if "A" in picture.getbands() or "transparency" in picture.info:
            return _on_paper(picture.convert("LA"))
        return np.asarray(picture.convert("L"), dtype=np.float64)
    except Exception as error:  # decoders raise whatever damaged bytes lead them to
        raise malformed("The picture is damaged or cut off.") from error


def _on_paper(picture: Image.Image) -> Grey:
    """Lay a transparent picture on paper that its ink can be seen on: white, or black for light ink."""
    grey, opacity = np.moveaxis(np.asarray(picture, dtype=np.float64), 2, 0)
    light = opacity.sum() > 0 and np.average(grey, weights=opacity) > 127.5
    paper = 0.0 if light and opacity.min() == 0 else 255.0
    return np.asarray(paper + (grey - paper) * opacity / 255)


def _light_on_dark(grey: Grey) -> Grey:
    """Invert dark ink on light paper, take the paper's own shade away and stretch the ink to 255.

    Raises:
        Problem: there is no ink.
    """
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    if np.median(border) > 127.5:
        grey, border = 255 - grey, 255 - border
    ink = (grey - np.median(border)).clip(0)
    if ink.max() < LEAST_CONTRAST:
        raise Problem(422, "empty", "There is no drawing in the picture.")
    return np.asarray(ink * (255 / ink.max()))


def _centred(ink: Grey) -> NDArray[np.float32]:
    """Fit the ink into 20 x 20 and lay its centre of mass in the middle of 28 x 28; returns [0, 1]."""
    rows, columns = np.flatnonzero((ink > INK).any(axis=1)), np.flatnonzero((ink > INK).any(axis=0))
    crop = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = BOX / max(crop.shape)
    size = (max(1, round(crop.shape[1] * scale)), max(1, round(crop.shape[0] * scale)))
    fitted = np.asarray(Image.fromarray(crop.astype(np.float32)).resize(size, Image.Resampling.LANCZOS))
    fitted = fitted.clip(0) / fitted.max()
    canvas = np.zeros((SIDE, SIDE), dtype=np.float32)
    top, left = (_corner(fitted.sum(axis=1 - axis), fitted.shape[axis]) for axis in (0, 1))
    canvas[top : top + fitted.shape[0], left : left + fitted.shape[1]] = fitted
    return canvas.clip(0, 1)


def _corner(mass: NDArray[np.float32], length: int) -> int:
    """Return where the box begins along one axis: centre of mass on pixel 14, as measured on MNIST, nothing cut off."""
    centre = float((mass * np.arange(length)).sum() / mass.sum())
    return min(max(round(SIDE / 2 - centre), 0), SIDE - length)
