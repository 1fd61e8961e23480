"""The report as static HTML: what pytest-html shows above its test log. The template engine escapes every value."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from audit.records import Bound, Exhibit, Metric, Report, Status, Suppression, Verdict
from audit.report import diagram, figures
from audit.sequential import BELIEVED_FROM

TEMPLATES = Path(__file__).parent / "templates"
COUNTED = (Metric.FINDINGS, Metric.INVERTED_TRIGGER)  # not shares
SYMBOLS = {Status.MET: "✓", Status.NOT_MET: "✗", Status.INCONCLUSIVE: "?", Status.NOT_RUN: "–"}


@dataclass(frozen=True, slots=True)
class Picture:
    """An exhibit and its PNG as a data URI."""

    title: str
    uri: str
    n: int | None


def render(report: Report, folder: Path) -> str:
    """Return the audit as an HTML fragment, pictures included; the PNGs are also kept in the evidence folder."""
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    environment.filters.update(percent=percent, figure=figure_text, seconds=seconds, groupby_reason=group)
    environment.filters.update(groupby_skipped=group_skipped, corners=corners)
    environment.globals.update(symbols=SYMBOLS, Status=Status, COUNTED=COUNTED, BELIEVED_FROM=BELIEVED_FROM)
    pictures = {kind: _pictures(report, kind, folder) for kind in (*figures.DRAWN, *figures.DRAWN_FROM_FILES)}
    pictures["poisoning"] = _poison_plot(report, folder)
    requirements = {one["id"]: one for one in report.policy["requirements"]}
    return environment.get_template("audit.html.jinja").render(
        report=report,
        rows=[(requirements[verdict.requirement_id], verdict) for verdict in report.verdicts],
        bounds={name: Bound.model_validate(one["bound"]) for name, one in requirements.items()},
        scenarios=_exhibits(report, "scenario"),
        worst=_exhibits(report, "worst_case"),
        defences=_exhibits(report, "defence"),
        backdoors=_with_table(report, "triggers"),
        inversions=_exhibits(report, "inverted"),
        detectors=_with_table(report, "detectors"),
        cures=_with_table(report, "cure"),
        poisonings=_exhibits(report, "poisoning"),
        runtime=_exhibits(report, "strip"),
        comparisons=_exhibits(report, "comparison"),
        pictures=pictures,
        suppressions=[one for verdict in report.verdicts for one in verdict.evidence.suppressions],
        dependencies=_with_table(report, "audited"),
        locks=_with_table(report, "lock"),
        sboms=_exhibits(report, "sbom"),
        ml_boms=_exhibits(report, "mlbom"),
        listed={verdict.requirement_id for verdict in report.verdicts},
        **_register(report.stride_matrix),
    )


def corners(points: Sequence[tuple[float, float]]) -> str:
    """Write the corners of a line as SVG does."""
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _register(matrix: dict[str, Any] | None) -> dict[str, Any]:
    """Return what the register's section needs beside the matrix: drawing, flows in words, threats by element."""
    if matrix is None:
        return {"diagram": None, "flows": [], "threats_of": []}
    shown = matrix["diagram"]
    titles = {one["id"]: one["title"] for one in shown["nodes"]}
    around = {one["id"]: one["title"] for one in shown["boundaries"]}
    home = {one["id"]: one["boundary"] for one in shown["nodes"]}
    flows = [
        {
            "source": titles[one["source"]],
            "target": titles[one["target"]],
            "data": one["data"],
            "crosses": _crossing(around, home[one["source"]], home[one["target"]]),
        }
        for one in shown["flows"]
    ]
    threats = [[threat for cell in row["cells"].values() for threat in cell["threats"]] for row in matrix["rows"]]
    return {"diagram": diagram.draw(shown), "flows": flows, "threats_of": threats}


def _crossing(titles: Mapping[str, str], source: str, target: str) -> str:
    return "" if source == target else f"{titles[source]} to {titles[target]}"


def _exhibits(report: Report, kind: str) -> list[Exhibit]:
    return [one for one in report.exhibits if one.kind == kind]


def _with_table(report: Report, name: str) -> list[Verdict]:
    return [verdict for verdict in report.verdicts if name in verdict.evidence.tables]


def percent(value: float | None) -> str:
    """Write a share as per cent with two decimals."""
    return "–" if value is None else f"{100 * value:.2f}"


def figure_text(verdict: Verdict, part: str) -> str:
    """Write one number of a verdict's measurement: shares in per cent, ratios and counts as they are."""
    measured = verdict.measurement
    if measured is None:
        return "–"
    if measured.metric is Metric.FINDINGS:
        return {"value": f"{measured.value:g}", "low": "exact", "high": "", "margin": f"{verdict.margin:g}"}[part]
    if measured.metric is Metric.INVERTED_TRIGGER:
        return f"{verdict.margin:+.2f}" if part == "margin" else f"{getattr(measured, part):.2f}"
    if part == "margin":
        return "–" if verdict.margin is None else f"{100 * verdict.margin:+.2f}"
    return percent(getattr(measured, part))


def seconds(value: float) -> str:
    """Write a duration with three significant digits."""
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def group(suppressions: Sequence[Suppression]) -> list[tuple[tuple[str, str, str], list[str]]]:
    """Gather suppressions that share tool, kind and reason, one place a file; audit.json has every line."""
    gathered: dict[tuple[str, str, str], dict[str, list[int | None]]] = {}
    for one in suppressions:
        places = gathered.setdefault((one.tool, one.what, one.reason), {})
        places.setdefault(one.path, []).append(one.line)
    return [(key, [_place(path, lines) for path, lines in places.items()]) for key, places in gathered.items()]


def group_skipped(skipped: Sequence[dict[str, Any]]) -> list[tuple[tuple[str, str | None], list[dict[str, Any]]]]:
    """Gather skipped packages that share reason and exception."""
    gathered: dict[tuple[str, str | None], list[dict[str, Any]]] = {}
    for one in skipped:
        gathered.setdefault((one["reason"], one["exception"]), []).append(one)
    return list(gathered.items())


def _place(path: str, lines: Sequence[int | None]) -> str:
    if len(lines) > 1:
        return f"{path} ({len(lines)} lines)"
    return path if lines[0] is None else f"{path}:{lines[0]}"


def _pictures(report: Report, kind: str, folder: Path) -> list[Picture]:
    return [_picture(one, index, folder) for index, one in enumerate(report.exhibits) if one.kind == kind]


def _poison_plot(report: Report, folder: Path) -> list[Picture]:
    """Return one plot of all poisonings with a trigger, where there are several."""
    shown = [one for one in _exhibits(report, "poisoning") if one.data["attack"]]
    if len(shown) < 2:
        return []
    png = figures.poisonings(shown)
    return [_kept(png, "poisoning-plot", folder, "Attack success rate and clean accuracy, by share of poisoned images")]


def _picture(exhibit: Exhibit, index: int, folder: Path) -> Picture:
    if exhibit.kind in figures.DRAWN_FROM_FILES:
        png = figures.DRAWN_FROM_FILES[exhibit.kind](exhibit, folder)
    else:
        png = figures.DRAWN[exhibit.kind](exhibit)
    return _kept(png, f"{exhibit.kind}-{index}", folder, exhibit.title, exhibit.data.get("n"))


def _kept(png: bytes, name: str, folder: Path, title: str, n: int | None = None) -> Picture:
    (folder / "evidence" / f"{name}.png").write_bytes(png)
    return Picture(title, f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}", n)
