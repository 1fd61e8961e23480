"""What an answer must not tell: where files lie, what the server is made of, and how it failed. Pure."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from audit.serving.client import Answer

_LIBRARIES = (
    "werkzeug|flask|waitress|gunicorn|uvicorn|hypercorn|starlette|fastapi|tornado|aiohttp|cheroot|wsgiref|jinja2?|"
    "pydantic|marshmallow|torch(?:vision)?|pytorch|tensorflow|onnxruntime|numpy|scipy|pillow|safetensors|limiter"
)
PATTERNS = {
    "traceback": r"Traceback \(most recent call last\)|\bFile \"[^\"]+\", line \d+",
    "file path": r"(?<![\w.:/])/(?:home|root|usr|tmp|var|opt|srv|app|work|mnt|Users)/[\w./-]+|[A-Z]:\\\w+",
    "module": r"site-packages|\b[\w/]+\.py\b",
    "library": rf"(?i)\b(?:{_LIBRARIES})\b",
    "version": r"(?i)\b(?:c?python|basehttp|simplehttp|openssl|nginx|apache)/?\s?\d[\w.]*|python_info",
    "exception": r"\b[A-Z]\w*(?:Error|Exception|Warning)\b(?=[:('])|\bPIL\.|<class '",
    "object": r" object at 0x[0-9a-f]{6,}",
}
_COMPILED = {name: re.compile(pattern) for name, pattern in PATTERNS.items()}


def leaks(answer: Answer, sent: bytes) -> list[tuple[str, str]]:
    """Return what an answer tells of the server's inside: kind and text; what merely repeats the question is none."""
    asked = (sent + unquote_to_bytes(sent)).decode("utf-8", errors="replace").lower()
    said = answer.text
    return [
        (name, found.group())
        for name, pattern in _COMPILED.items()
        for found in pattern.finditer(said)
        if found.group().strip().lower() not in asked
    ]
