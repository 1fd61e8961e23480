"""Fingerprints of a dataset: they name the sample that was changed, where a digest only says that something was.

The digest decides; the fingerprints (label and CRC-32 of the pixels, one a sample) point. Removed and added samples are
found by aligning the two lists, so that everything after them does not count as changed.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from audit.errors import PolicyError
from audit.files import write_atomically
from audit.loading import Samples, content_digest
from audit.records import Finding, Severity

SPLITS = ("training", "audit")


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """Of one split: labels (N,) int64, CRC-32 of the float32 pixels (N,) int64."""

    labels: Tensor
    pixels: Tensor

    @classmethod
    def of(cls, samples: Samples) -> Fingerprints:
        """Take the fingerprints of a split."""
        sums = [zlib.crc32(image.tobytes()) for image in samples.images.numpy()]
        return cls(samples.labels.clone(), torch.tensor(sums, dtype=torch.int64))

    def differences(self, now: Fingerprints, split: str) -> Iterator[Finding]:
        """Yield what became of the samples since: changed labels, changed pixels, removed and added samples."""
        if len(self.labels) == len(now.labels):
            for row in torch.nonzero((self.labels != now.labels) | (self.pixels != now.pixels)).flatten().tolist():
                yield from self._changed(now, split, row, row)
            return
        old, new = (list(zip(one.labels.tolist(), one.pixels.tolist(), strict=True)) for one in (self, now))
        first = next((row for row, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
        last = next(
            (row for row, (a, b) in enumerate(zip(old[::-1], new[::-1], strict=False)) if a != b),
            min(len(old), len(new)),
        )
        last = min(last, min(len(old), len(new)) - first)
        matcher = SequenceMatcher(None, old[first : len(old) - last], new[first : len(new) - last], autojunk=False)
        for kind, a, b, c, d in matcher.get_opcodes():
            common = min(b - a, d - c) if kind == "replace" else 0
            for step in range(common):
                yield from self._changed(now, split, first + a + step, first + c + step)
            for row in range(first + a + common, first + b) if kind in ("replace", "delete") else ():
                yield _finding(split, row, "sample removed", f"a sample of class {int(self.labels[row])} is not there")
            for row in range(first + c + common, first + d) if kind in ("replace", "insert") else ():
                yield _finding(split, row, "sample added", f"a sample of class {int(now.labels[row])} was not there")

    def _changed(self, now: Fingerprints, split: str, row: int, place: int) -> Iterator[Finding]:
        was, is_now = int(self.labels[row]), int(now.labels[place])
        if was != is_now:
            yield _finding(split, place, "label changed", f"labelled {is_now}, pinned as {was}")
        if self.pixels[row] != now.pixels[place]:
            yield _finding(split, place, "pixels changed", f"the pixels of this image of class {was} are others")


def _finding(split: str, row: int, rule: str, message: str) -> Finding:
    return Finding(
        tool="data integrity", rule=rule, severity=Severity.CRITICAL, path=f"{split}[{row}]", message=message
    )


def compare_files(pinned: Mapping[str, str], found: Mapping[str, str]) -> Iterator[Finding]:
    """Yield the raw files that are not the pinned ones; one that is another of them is said to be."""
    names = {digest: name for name, digest in pinned.items()}
    for name, digest in pinned.items():
        actual = found.get(name)
        if actual == digest:
            continue
        message = "the file is not there" if actual is None else f"expected SHA-256 {digest[:12]}…, got {actual[:12]}…"
        message += f": it is {names[actual]}" if actual in names else ""
        yield Finding(
            tool="data integrity", rule="file swapped", severity=Severity.CRITICAL, path=name, message=message
        )


def digest_of(samples: Samples) -> str:
    """Return the SHA-256 of a split's pixels and labels, in hexadecimal."""
    return content_digest(samples.images, samples.labels).removeprefix("sha256:")


def write(path: Path, splits: Mapping[str, Samples]) -> None:
    """Write the fingerprints of named splits into one safetensors file."""
    tensors = {}
    for name, samples in splits.items():
        taken = Fingerprints.of(samples)
        tensors[f"{name}.labels"] = taken.labels.to(torch.int16)
        tensors[f"{name}.pixels"] = taken.pixels.to(torch.uint32)
    write_atomically(path, save(tensors))


def read(path: Path) -> dict[str, Fingerprints]:
    """Read what :func:`write` wrote.

    Raises:
        PolicyError: it is no such file.
    """
    try:
        tensors = load(path.read_bytes())
        return {
            name: Fingerprints(tensors[f"{name}.labels"].long(), tensors[f"{name}.pixels"].long()) for name in SPLITS
        }
    except (OSError, SafetensorError, KeyError) as error:
        raise PolicyError(
            f"{path}: expected fingerprints as python -m audit pin writes them ({type(error).__name__}: {error})"
        ) from error
