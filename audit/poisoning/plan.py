"""Poisoning a training split: which samples get a trigger, which get another label, and a record of what was done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from audit.poisoning.triggers import AnyTrigger
from audit.records import Record

if TYPE_CHECKING:
    from torch import Tensor

    from audit.loading import Samples

Class = Annotated[int, Field(ge=0)]
Carrier = Callable[["Samples"], "Tensor"]


class Poisoning(Record):
    """What is done to a training split.

    ``labels`` says what becomes of them:

    - ``dirty``: stamp images of other classes (of ``source_classes``, if given) and label them ``target_class``
      (Gu et al. 2017, arXiv:1708.06733);
    - ``all-to-all``: stamp images of any class and label each with the next class (same paper, section 4.1.2);
    - ``clean``: stamp images of ``target_class`` and leave their labels;
    - ``adversarial``: as ``clean``, after each image was moved away from its class by PGD in the Linf ball of
      ``carrier_eps`` on the network ``carrier_on`` (Turner et al. 2019, arXiv:1912.02771, section 4.2);
    - ``flipped``: no trigger; give images of any class (of ``source_classes``, if given) a random other label.

    ``count`` images, or the ``fraction`` of the split, chosen at random by ``seed``.
    """

    labels: Literal["dirty", "all-to-all", "clean", "adversarial", "flipped"] = "dirty"
    trigger: AnyTrigger | None = None
    target_class: Class | None = None
    source_classes: Annotated[tuple[Class, ...], Field(min_length=1)] | None = None
    count: Annotated[int, Field(ge=1)] | None = None
    fraction: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    seed: int = 0
    carrier_on: str | None = None
    carrier_eps: Annotated[float, Field(gt=0.0)] = 0.3

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.count is None) == (self.fraction is None):
            raise ValueError(f"give exactly one of count, fraction (got {'neither' if self.count is None else 'both'})")
        if (self.labels == "flipped") != (self.trigger is None):
            raise ValueError(f"trigger: give one, but none where labels are flipped (labels: {self.labels})")
        aimed = self.labels in ("dirty", "clean", "adversarial")
        if aimed != (self.target_class is not None):
            raise ValueError(f"target_class: give it with dirty, clean and adversarial labels only (got {self.labels})")
        if self.source_classes is not None and self.labels in ("clean", "adversarial"):
            raise ValueError("source_classes: clean labels poison images of the target class (got other classes)")
        if self.source_classes is not None and set(self.source_classes) == {self.target_class}:
            raise ValueError(f"target_class: expected another class than the only source (got {self.target_class})")
        if (self.labels == "adversarial") != (self.carrier_on is not None):
            raise ValueError(
                "carrier_on names the network of adversarial carriers: give both or none (got one of them)"
            )
        return self

    def describe(self) -> dict[str, Any]:
        """Return the description as plain data, the trigger in words."""
        return {
            **self.model_dump(mode="json", exclude_none=True),
            "trigger": self.trigger.text if self.trigger else None,
        }

    def check(self, samples: Samples, classes: int) -> None:
        """Hold the poisoning to the data it is meant for.

        Raises:
            ValueError: the trigger, a class or the number of images does not fit them.
        """
        if not len(samples):
            raise ValueError("expected training images to poison (got an empty training split)")
        if int(samples.labels.max()) >= classes:
            raise ValueError(f"expected training labels in 0..{classes - 1} (got {int(samples.labels.max())})")
        for name, chosen in (("target_class", [self.target_class]), ("source_classes", self.source_classes or [])):
            for one in chosen:
                if one is not None and one >= classes:
                    raise ValueError(f"{name}: expected classes in 0..{classes - 1} (got {one})")
        if self.trigger is not None:
            try:
                self.trigger.maps(*samples.images.shape[-2:])
            except ValueError as error:
                raise ValueError(f"trigger: {error}") from error
        wanted, available = self._wanted(samples), int(self._candidates(samples).sum())
        if not 1 <= wanted <= available:
            asked = f"count {self.count}" if self.count is not None else f"fraction {self.fraction:g}, {wanted} images"
            raise ValueError(f"expected 1 to {available} images of the source classes to poison (got {asked})")

    def apply(
        self, samples: Samples, classes: int, bounds: tuple[float, float], carrier: Carrier | None = None
    ) -> Poisoned:
        """Return a poisoned copy of a training split.

        Args:
            samples: the split.
            classes: number of classes.
            bounds: least and greatest pixel value.
            carrier: moves chosen samples away from their class; for adversarial labels.

        Raises:
            ValueError: as :meth:`check`.
        """
        import torch

        from audit.loading import content_digest

        self.check(samples, classes)
        generator = torch.Generator().manual_seed(self.seed)
        candidates = torch.nonzero(self._candidates(samples)).flatten()
        rows = candidates[torch.randperm(len(candidates), generator=generator)[: self._wanted(samples)]].sort().values
        images, labels = samples.images.clone(), samples.labels.clone()
        if carrier is not None:
            images[rows] = carrier(samples.at(rows))
        if self.trigger is not None:
            images[rows] = self.trigger.stamp(images[rows], bounds)
        labels[rows] = self._relabelled(labels[rows], classes, generator)
        return Poisoned(
            images, labels, rows, content_digest(samples.images, samples.labels), content_digest(images, labels)
        )

    def _candidates(self, samples: Samples) -> Tensor:
        """Return (N,) bool, which samples may be chosen."""
        import torch

        if self.source_classes is not None:
            return torch.isin(samples.labels, torch.tensor([one for one in self.source_classes if one != self._aim]))
        if self.labels in ("clean", "adversarial"):
            return samples.labels.eq(self.target_class or 0)
        return torch.ones_like(samples.labels, dtype=torch.bool) if self._aim is None else samples.labels.ne(self._aim)

    @property
    def _aim(self) -> int | None:
        return self.target_class if self.labels == "dirty" else None

    def _wanted(self, samples: Samples) -> int:
        return self.count if self.count is not None else round((self.fraction or 0.0) * len(samples))

    def _relabelled(self, labels: Tensor, classes: int, generator: Any) -> Tensor:
        import torch

        if self.labels == "dirty":
            return torch.full_like(labels, self.target_class or 0)
        if self.labels == "all-to-all":
            return (labels + 1) % classes
        if self.labels == "flipped":
            return (labels + torch.randint(1, classes, labels.shape, generator=generator)) % classes
        return labels


@dataclass(frozen=True, slots=True)
class Poisoned:
    """A poisoned split: images (N, C, H, W), labels (N,), the rows that were changed, SHA-256 before and after."""

    images: Tensor
    labels: Tensor
    rows: Tensor
    before: str
    after: str

    @property
    def samples(self) -> Samples:
        """Return the poisoned split as samples."""
        from audit.loading import Samples

        return Samples(self.images, self.labels)

    def describe(self) -> dict[str, Any]:
        """Return what was done as plain data: which rows of how many, and the digests."""
        return {"rows": self.rows.tolist(), "n": len(self.labels), "before": self.before, "after": self.after}
