"""Weaknesses that the check ``malformed-input`` must find."""

from __future__ import annotations

from benchmarks.catches.mutant import Mutant, Patch

CHECK = "malformed-input"
GONE, SILENT = ("crashed",), ("no answer", "does not answer")
DECODING = (
    "    except Exception as error:  # decoders raise whatever damaged bytes lead them to\n        raise malformed(f"
)

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "a grey picture of 16 bits ends the process",
        CHECK,
        GONE,
        (
            Patch("images.py", "import io\n", "import io\nimport os\n"),
            Patch(
                "images.py",
                "            return np.asarray(picture, dtype=np.float64).clip(0, 65535) / 257",
                "            os.abort()",
            ),
        ),
    ),
    Mutant(
        "a mistake of the decoder's ends the process, for a supervisor to start it again",
        CHECK,
        GONE,
        (
            Patch("images.py", DECODING, DECODING.replace("Exception", "OSError")),
            Patch("app.py", "import hashlib\n", "import hashlib\nimport os\n"),
            Patch(
                "app.py",
                'logging.getLogger(__name__).error("request %s failed", exchange.request_id, exc_info=error)',
                "os._exit(70)",
            ),
        ),
    ),
    Mutant(
        "a JPEG with a damaged header is answered with the traceback",
        CHECK,
        ("internals",),
        (
            Patch("images.py", "import io\n", "import io\nimport traceback\n"),
            Patch(
                "images.py",
                'raise malformed(f"The {kind} is damaged.")',
                'raise malformed(traceback.format_exc() if kind == "JPEG" else "The PNG is damaged.")',
            ),
        ),
    ),
    Mutant(
        "a damaged picture is answered with what the decoder said",
        CHECK,
        ("internals",),
        (
            Patch(
                "images.py",
                'raise malformed("The picture is damaged or cut off.")',
                'raise malformed(f"The picture cannot be read: {error!r}")',
            ),
        ),
    ),
    Mutant(
        "of decoders only errors of input are expected",
        CHECK,
        ("server error",),
        (Patch("images.py", DECODING, DECODING.replace("Exception", "OSError")),),
    ),
    Mutant(
        "a photo is turned as its EXIF data say, where nobody expects an error",
        CHECK,
        ("server error",),
        (
            Patch("images.py", "from PIL import Image\n", "from PIL import Image, ImageOps\n"),
            Patch(
                "images.py",
                "_light_on_dark(_grey(picture))",
                "_light_on_dark(_grey(ImageOps.exif_transpose(picture) if picture.getexif() else picture))",
            ),
        ),
    ),
    Mutant(
        "bytes that are not UTF-8 are not expected",
        CHECK,
        ("server error",),
        (Patch("pixels.py", "except UnicodeDecodeError as error:", "except UnicodeEncodeError as error:"),),
    ),
    Mutant(
        "the end of a JPEG that is cut off is waited for",
        CHECK,
        SILENT,
        (
            Patch("images.py", "import io\n", "import io\nimport time\n"),
            Patch(
                "images.py",
                '    if picture.format == "JPEG" and',
                '    while picture.format == "JPEG" and b"\\xff\\xd9" not in body:\n        time.sleep(0.01)\n'
                '    if picture.format == "JPEG" and',
            ),
        ),
    ),
    Mutant(
        "what is not acceptable HTTP is closed without an answer",
        CHECK,
        ("no answer",),
        (Patch("connection.py", "self.refuse(self._problem or problems.bad_request())", "self.transport.abort()"),),
    ),
    Mutant(
        "a body that is refused keeps its place",
        CHECK,
        ("does not answer",),
        (
            Patch(
                "limits.py",
                "        try:\n            yield\n        finally:\n            self._taken[client] -= 1\n"
                "            if not self._taken[client]:\n                del self._taken[client]",
                "        yield\n        self._taken[client] -= 1",
            ),
        ),
    ),
    Mutant(
        "a picture that cannot be decoded keeps the lock of the decoder",
        CHECK,
        ("does not answer",),
        (
            Patch("images.py", "import io\n", "import io\nimport threading\n"),
            Patch("images.py", "Grey = NDArray[np.float64]\n", "Grey = NDArray[np.float64]\n_ONE = threading.Lock()\n"),
            Patch(
                "images.py",
                "        picture.load()\n",
                "        _ONE.acquire()\n        picture.load()\n        _ONE.release()\n",
            ),
        ),
    ),
    Mutant(
        "a picture that is cut off is answered as far as it goes",
        CHECK,
        ("accepted",),
        (
            Patch("images.py", "from PIL import Image\n", "from PIL import Image, ImageFile\n"),
            Patch(
                "images.py",
                "Grey = NDArray[np.float64]\n",
                "Grey = NDArray[np.float64]\nImageFile.LOAD_TRUNCATED_IMAGES = True\n",
            ),
        ),
    ),
    Mutant(
        "numbers outside of [0, 1] are taken",
        CHECK,
        ("accepted",),
        (
            Patch(
                "pixels.py",
                "if not isinstance(pixel, float) or not 0.0 <= pixel <= 1.0:",
                "if not isinstance(pixel, float):",
            ),
        ),
    ),
    Mutant(
        "NaN and infinity are taken for 0",
        CHECK,
        ("accepted",),
        (
            Patch("pixels.py", '    raise malformed("NaN and infinity are not numbers in [0, 1].")', "    return 0.0"),
            Patch("pixels.py", "def _constant(text: str) -> NoReturn:", "def _constant(text: str) -> float:"),
        ),
    ),
)
