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
    figure = Figure(figsize=(1.0 * len(clean) + 0.8, 3.7), layout="constrained")
    rows = figure.subplots(3, len(clean), squeeze=False)
    for index in range(len(clean)):
        _image(rows[0, index], clean[index], f"{exhibit.data['before'][index]} (true {exhibit.data['labels'][index]})")
        _image(rows[1, index], moved[index], f"{exhibit.data['after'][index]}")
        _image(rows[2, index], 0.5 + (moved[index] - clean[index]) / 2, "")
    for row, label in zip(rows[:, 0], ("original", "perturbed", "difference"), strict=True):
        row.set_ylabel(label, fontsize=8)
    return _png(figure)


def triggers(exhibit: Exhibit, folder: Path) -> bytes:
    """Draw an image without a trigger, with each trigger of a catalogue, and with a placebo of each."""
    with np.load(folder / exhibit.files[0], allow_pickle=False) as stored:
        original, stamped, placebos = stored["original"], stored["stamped"], stored["placebos"]
    figure = Figure(figsize=(1.35 * (len(stamped) + 1) + 0.4, 3.5), layout="constrained")
    rows = figure.subplots(2, len(stamped) + 1, squeeze=False)
    _image(rows[0, 0], original[0], "none")
    rows[1, 0].set_axis_off()
    for index, text in enumerate(exhibit.data["triggers"]):
        _image(rows[0, index + 1], stamped[index], text.replace(", ", "\n"))
        _image(rows[1, index + 1], placebos[index], "placebo")
    return _png(figure)


def inverted(exhibit: Exhibit, folder: Path) -> bytes:
    """Draw the inverted trigger of every class, mask times pattern, with its size beneath."""
    with np.load(folder / exhibit.files[0], allow_pickle=False) as stored:
        masks, patterns = stored["masks"], stored["patterns"]
    shown, columns = exhibit.data["rows"], 5
    figure = Figure(figsize=(1.5 * columns, 1.85 * -(-len(shown) // columns)), layout="constrained")
    axes = figure.subplots(-(-len(shown) // columns), columns, squeeze=False).flatten()
    for axis in axes[len(shown) :]:
        axis.set_axis_off()
    for axis, row, mask, pattern in zip(axes, shown, masks, patterns, strict=False):
        size = "none works" if row["size"] is None else f"{row['size']:.1f} pixels"
        _image(axis, mask[None] * pattern, f"class {row['class']}: {size}")
    return _png(figure)


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


def _image(axes: Any, image: NDArray[np.float32], caption: str) -> None:
    if image.shape[0] == 3:
        axes.imshow(np.clip(np.moveaxis(image, 0, -1), 0, 1))
    else:
        axes.imshow(image[0], cmap="gray", vmin=0, vmax=1)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel(caption, fontsize=8)


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
