"""What the data were when they were handed out, and whether they still are: a guest could write into our memory."""

from __future__ import annotations

from audit.loading import Samples, content_digest


class Witness:
    """Keeps splits with the digests of their images and labels."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._known: list[tuple[str, Samples, str]] = []

    def watch(self, name: str, samples: Samples) -> Samples:
        """Take the digest of a split now; returns the split."""
        self._known.append((name, samples, content_digest(samples.images, samples.labels)))
        return samples

    def doubt(self) -> str | None:
        """Return why nothing that was measured can be believed; None where the data are what they were."""
        altered = ", ".join(self.altered())
        if not altered:
            return None
        return (
            f"images or labels in memory were altered during the run ({altered}): code that the policy names "
            "writes where it must not, so nothing that was measured is believed"
        )

    def altered(self) -> list[str]:
        """Return the names of the splits that are no longer what they were."""
        return [name for name, now, then in self._known if content_digest(now.images, now.labels) != then]
