"""Weaknesses that the check ``resources`` must find."""

from __future__ import annotations

from benchmarks.catches.mutant import Mutant, Patch

CHECK = "resources"
MEMORY, WORK, UNREAD, SLOW = ("too much memory",), ("too much work",), ("unread answers stay",), ("slow clients stay",)
NO_DEADLINE = Patch("connection.py", "(limits.request_seconds if self._in_body else limits.header_seconds)", "3600")
ANY_LENGTH = Patch("connection.py", "if lengths and int(lengths[0]) > self._limits.body_bytes:", "if False:")
BODY = """        if self._body_bytes > self._limits.body_bytes:
            self._fail(problems.too_large())
"""

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "answers that nobody reads are kept",
        CHECK,
        UNREAD,
        (
            Patch("connection.py", "if now - self._unread_since > limits.write_seconds:", "if False:"),
            Patch("connection.py", "            return self._unread_since\n", "            return None\n"),
        ),
    ),
    Mutant(
        "reading a little gives an answer its time again",
        CHECK,
        UNREAD,
        (
            Patch(
                "connection.py",
                "        if not self.transport.get_write_buffer_size():\n",
                "        size, self._size = self.transport.get_write_buffer_size(), getattr(self, '_size', 0)\n"
                "        changed, self._size = size != self._size, size\n"
                "        if not size or changed:\n",
            ),
        ),
        missed="reading shows only when much of the kernel's buffer is free, and who reads that fast is soon through",
    ),
    Mutant(
        "where there are too many connections nobody new is let in",
        CHECK,
        ("others wait",),
        (Patch("connection.py", "            if waiting:\n", "            if False:\n"),),
    ),
    Mutant("a request may take as long as it likes to arrive", CHECK, SLOW, (NO_DEADLINE,)),
    Mutant(
        "every byte gives a request its time again",
        CHECK,
        SLOW,
        (
            Patch(
                "connection.py",
                "        super().data_received(data)\n",
                "        self._begun = time.monotonic()\n        super().data_received(data)\n",
            ),
        ),
    ),
    Mutant(
        "a body in chunks has no limit",
        CHECK,
        ("not refused", *MEMORY),
        (Patch("connection.py", BODY, ""),),
    ),
    Mutant(
        "a body that was announced as too large is read all the same",
        CHECK,
        ("not refused",),
        (ANY_LENGTH,),
    ),
    Mutant(
        "small chunks are not counted",
        CHECK,
        ("not refused", *WORK),
        (
            Patch(
                "connection.py",
                "if self._chunks > SPARE_CHUNKS + self._limits.body_bytes // BYTES_A_CHUNK:",
                "if False:",
            ),
        ),
    ),
    Mutant(
        "the end of a body that was announced as too large is waited for",
        CHECK,
        ("not cut off",),
        (ANY_LENGTH, NO_DEADLINE),
    ),
    Mutant(
        "what is too much of a body is dropped, and its end waited for",
        CHECK,
        ("not cut off",),
        (Patch("connection.py", BODY, BODY.replace("self._fail(problems.too_large())", "return")), NO_DEADLINE),
    ),
    Mutant(
        "a picture is decoded before its size is checked",
        CHECK,
        MEMORY,
        (
            Patch(
                "images.py",
                "    width, height = picture.size\n",
                "    _grey(picture)\n    width, height = picture.size\n",
            ),
        ),
    ),
    Mutant(
        "the bodies of requests that were refused stay in memory",
        CHECK,
        MEMORY,
        (
            Patch(
                "app.py",
                "        exchange.input_sha256 = hashlib.sha256(body).hexdigest()\n",
                "        exchange.input_sha256 = hashlib.sha256(body).hexdigest()\n"
                "        self._seen = getattr(self, '_seen', {})\n        self._seen[exchange.request_id] = body\n",
            ),
        ),
    ),
    Mutant(
        "a JPEG may have any number of scans",
        CHECK,
        (*WORK, "not cut off"),
        (Patch("images.py", "MOST_SCANS = 64", "MOST_SCANS = 10**9"),),
    ),
    Mutant(
        "strings of JSON are looked at again from each of their quotes",
        CHECK,
        (*WORK, "others wait"),
        (Patch("pixels.py", r'(?:[^"\\]|\\.)*+"?|', r'(?:[^"\\]|\\.)*"|'),),
    ),
    Mutant(
        "every refusal has a line of its own in the log",
        CHECK,
        ("log grows",),
        (Patch("folding.py", "if window.count < self._each:", "if True:"),),
    ),
    Mutant(
        "refusals that were counted are written at every look",
        CHECK,
        ("log grows",),
        (Patch("folding.py", "every: float = 10.0", "every: float = 0.0"),),
    ),
    Mutant(
        "a picture that claims gigapixels ends the process",
        CHECK,
        ("crashed",),
        (
            Patch("images.py", "import io\n", "import io\nimport os\n"),
            Patch(
                "images.py",
                'raise Problem(413, "too_many_pixels", "The picture has too many pixels.") from error',
                "os._exit(1)",
            ),
        ),
    ),
    Mutant(
        "JSON that is too deep ends the process",
        CHECK,
        ("crashed",),
        (
            Patch("pixels.py", "import math\n", "import math\nimport os\n"),
            Patch(
                "pixels.py",
                'raise malformed(f"The JSON is nested deeper than {settings.json_depth}.")',
                "os.abort()",
            ),
        ),
    ),
)
