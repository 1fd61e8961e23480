"""Pictures of exhibits as PNG bytes. Colour never carries meaning alone: every cell and line is labelled."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from audit.records import Exhibit

DPI = 110
LINES = (("#1b4965", "o", "-"), ("#9b2226", "s", "--"), ("#386641", "^", "-."), ("#6a4c93", "D", ":"))


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
    ticks = range(len(matrix))
    axes.set_xticks(ticks, [str(tick) for tick in ticks], fontsize=7)
    axes.set_yticks(ticks, [str(tick) for tick in ticks], fontsize=7)
    axes.set_xlabel("predicted class", fontsize=8)
    axes.set_ylabel("true class", fontsize=8)
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
