"""Pictures of exhibits as PNG bytes. Colour never carries meaning alone: every cell and line is labelled."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from audit.records import Exhibit

DPI = 110
GAP, LINE, MARGIN = 1.15, 0.17, 0.3  # of a sheet of images, in sides of an image: a column, a line of caption, the left
Cell = tuple[NDArray[np.float32] | None, str]
LINES = (
    ("#1b4965", "o", "-"), ("#9b2226", "s", "--"), ("#386641", "^", "-."), ("#6a4c93", "D", ":"),
    ("#bc6c25", "v", "-"), ("#2a9d8f", "P", "--"), ("#555555", "X", "-."), ("#c9184a", "*", ":"),
)  # fmt: skip


def confusion(exhibit: Exhibit) -> bytes:
    """Draw a confusion matrix as a labelled heat map: rows are true classes, columns predictions."""
    matrix = np.array(exhibit.data["matrix"])
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(3.7, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(matrix.shape):
        if matrix[row, column]:
            ink = "white" if shares[row, column] > 0.5 else "#222222"
            axes.text(column, row, str(matrix[row, column]), ha="center", va="center", fontsize=6.2, color=ink)
    _by_class(axes, len(matrix), "predicted class")
    return _png(figure)


def curve(exhibit: Exhibit) -> bytes:
    """Draw accuracy against eps, one line a target, each point with its interval."""
    figure = Figure(figsize=(7.4, 3.9), layout="constrained")
    axes = figure.subplots()
    for (name, points), (colour, marker, style) in zip(exhibit.data["lines"].items(), LINES * 4, strict=False):
        eps = [point["eps"] for point in points]
        accuracy = np.array([point["accuracy"] for point in points])
        low = accuracy - [point["low"] for point in points]
        high = np.array([point["high"] for point in points]) - accuracy
        axes.errorbar(
            eps, 100 * accuracy, 100 * np.array([low, high]),
            color=colour, marker=marker, linestyle=style, markersize=4, linewidth=1.4, capsize=2, label=name,
        )  # fmt: skip
    axes.set_xlabel(f"eps ({exhibit.data['norm']}, pixel fraction)", fontsize=9)
    axes.set_ylabel("accuracy, %", fontsize=9)
    axes.set_ylim(-3, 103)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
    return _png(figure)


def gallery(exhibit: Exhibit, folder: Path) -> bytes:
    """Draw images before and after a perturbation, and their difference, with classes beneath.

    Args:
        exhibit: its first file is the .npz that holds the images.
        folder: the report folder that the file lies in.
    """
    with np.load(folder / exhibit.files[0], allow_pickle=False) as stored:
        clean, moved = stored["gallery_clean"], stored["gallery_moved"]
    before, after, true = (exhibit.data[name] for name in ("before", "after", "labels"))
    return _sheet(
        [
            [(image, f"{before[place]} (true {true[place]})") for place, image in enumerate(clean)],
            [(image, f"{after[place]}") for place, image in enumerate(moved)],
            [(0.5 + (one - other) / 2, "") for one, other in zip(moved, clean, strict=True)],
        ],
        ("original", "perturbed", "difference"),
    )


def triggers(exhibit: Exhibit, folder: Path) -> bytes:
    """Draw an image without a trigger, with each trigger of a catalogue, and with a placebo of each."""
    with np.load(folder / exhibit.files[0], allow_pickle=False) as stored:
        original, stamped, placebos = stored["original"], stored["stamped"], stored["placebos"]
    captions = [text.replace(", ", "\n") for text in exhibit.data["triggers"]]
    return _sheet(
        [
            [(original[0], "none"), *zip(stamped, captions, strict=True)],
            [(None, ""), *((one, "placebo") for one in placebos)],
        ]
    )


def inverted(exhibit: Exhibit, folder: Path) -> bytes:
    """Draw the inverted trigger of every class, mask times pattern, with its size beneath."""
    with np.load(folder / exhibit.files[0], allow_pickle=False) as stored:
        masks, patterns = stored["masks"], stored["patterns"]
    cells: list[Cell] = []
    for row, mask, pattern in zip(exhibit.data["rows"], masks, patterns, strict=False):
        size = "none works" if row["size"] is None else f"{row['size']:.1f} pixels"
        cells.append((mask[None] * pattern, f"class {row['class']}:\n{size}"))
    return _sheet([cells[start : start + 5] for start in range(0, len(cells), 5)])


def turned(exhibit: Exhibit) -> bytes:
    """Draw which share of a class (row) a trigger turned into another (column), in per cent."""
    matrix = 100 * np.array(exhibit.data["matrix"])
    figure = Figure(figsize=(3.7, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.imshow(matrix, cmap="Blues", vmin=0, vmax=100)
    for row, column in np.ndindex(matrix.shape):
        if matrix[row, column] >= 0.05:
            ink = "white" if matrix[row, column] > 50 else "#222222"
            axes.text(column, row, f"{matrix[row, column]:.1f}", ha="center", va="center", fontsize=5.6, color=ink)
    _by_class(axes, len(matrix), "turned into")
    return _png(figure)


def poisonings(exhibits: Sequence[Exhibit]) -> bytes:
    """Draw attack success rate and clean accuracy against the share of poisoned images, one marker a kind."""
    figure = Figure(figsize=(7.4, 4.2), layout="constrained")
    axes = figure.subplots()
    kinds = dict.fromkeys(f"{one.data['labels']} labels, {one.data['trigger']}" for one in exhibits)
    for kind, (colour, marker, style) in zip(kinds, LINES * (1 + len(kinds) // len(LINES)), strict=False):
        own = [one.data for one in exhibits if f"{one.data['labels']} labels, {one.data['trigger']}" == kind]
        own.sort(key=lambda data: data["share"])
        shares = [100 * data["share"] for data in own]
        for part, fill in (("attack", colour), ("clean", "white")):
            value = np.array([data[part]["value"] for data in own])
            low = value - [data[part]["low"] for data in own]
            high = np.array([data[part]["high"] for data in own]) - value
            axes.errorbar(
                shares, 100 * value, 100 * np.array([low, high]), color=colour, marker=marker, linestyle=style,
                markerfacecolor=fill, markersize=5, linewidth=1.2, capsize=2, label=kind if part == "attack" else None,
            )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xticks(sorted({100 * one.data["share"] for one in exhibits}))
    axes.xaxis.set_major_formatter("{x:.2g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("share of training images poisoned, %", fontsize=9)
    axes.set_ylabel("filled: attack success rate, hollow: clean accuracy, %", fontsize=9)
    axes.set_ylim(-3, 103)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=7, frameon=False, loc="center right")
    return _png(figure)


def _by_class(axes: Any, classes: int, columns: str) -> None:
    ticks = range(classes)
    axes.set_xticks(ticks, [str(tick) for tick in ticks], fontsize=7)
    axes.set_yticks(ticks, [str(tick) for tick in ticks], fontsize=7)
    axes.set_xlabel(columns, fontsize=8)
    axes.set_ylabel("true class", fontsize=8)


def _sheet(rows: Sequence[Sequence[Cell]], labels: Sequence[str] = ()) -> bytes:
    """Draw rows of images (C, H, W) with captions beneath, and a label before each row; all in one pair of axes."""
    lines = [1 + max(caption.count("\n") for _, caption in row) for row in rows]
    heights = [1.1 + LINE * count for count in lines]
    width, height = GAP * max(map(len, rows)) + MARGIN, sum(heights)
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    bottom = height
    for row, label, tall in zip(rows, (*labels, *[""] * len(rows)), heights, strict=False):
        bottom -= tall
        middle = bottom + tall - 0.5
        axes.text(MARGIN / 2, middle, label, rotation=90, ha="center", va="center", fontsize=8)
        for column, (image, caption) in enumerate(row):
            centre = MARGIN + GAP * (column + 0.5)
            if image is not None:
                _image(axes, image, centre, middle)
                axes.text(centre, middle - 0.52, caption, ha="center", va="top", fontsize=8, linespacing=1.1)
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    return _png(figure)


def _image(axes: Any, image: NDArray[np.float32], centre: float, middle: float) -> None:
    """Draw an image around a point, its longer side one unit long."""
    high, wide = (side / max(image.shape[1:]) / 2 for side in image.shape[1:])
    shown = np.clip(np.moveaxis(image, 0, -1), 0, 1) if image.shape[0] == 3 else image[0]
    extent = (centre - wide, centre + wide, middle - high, middle + high)
    axes.imshow(shown, cmap="gray", vmin=0, vmax=1, extent=extent, aspect="auto")


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


DRAWN: dict[str, Callable[[Exhibit], bytes]] = {"confusion": confusion, "curve": curve, "turned": turned}
DRAWN_FROM_FILES: dict[str, Callable[[Exhibit, Path], bytes]] = {
    "gallery": gallery,
    "triggers": triggers,
    "inverted": inverted,
}
