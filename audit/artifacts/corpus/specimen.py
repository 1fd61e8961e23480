"""One bad model file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Specimen:
    """A file that no loader may accept.

    ``refusal`` is a regular expression that the loader's message must match: refused for the right reason. ``pickled``
    is the part that a careless loader would unpickle, None for a file that is malformed rather than malicious.
    """

    file: str
    what: str
    content: bytes
    refusal: str
    pickled: bytes | None = None
