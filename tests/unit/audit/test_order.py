"""The order of the images: derived where the data are pinned, else drawn once for just these data."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from audit.loading import SUBSET_SEED, Samples, content_digest
from audit.order import Order, Origin, order_of
from audit.poisoning import unknown
from audit.requirements import IntegrityRequirement
from tests.unit.audit.conftest import requirement

MACHINE = b"this machine's"


@pytest.fixture
def pins(samples):
    """Give a requirement that pins the toy images."""
    stated = requirement(
        "POI-005",
        "poisoning",
        {"metric": "findings", "at_most": 0},
        check="integrity",
        training="0" * 64,
        audit=content_digest(samples.images, samples.labels).removeprefix("sha256:"),
        fingerprints="pins.safetensors",
        control={"tamper": "copies"},
    )
    return IntegrityRequirement.model_validate(stated)


def reversed_file(samples):
    return Samples(samples.images.flip(0), samples.labels.flip(0))


def test_whoever_puts_easy_images_first_does_not_find_them_first(samples, tmp_path):
    """With the fixed seed of old the first 200 rows of the order were known before the data were made."""
    orders = {order_of((), samples, tmp_path / str(place), None, MACHINE).seed for place in range(5)}
    assert len(orders) == 5
    first = [samples.subset(200, seed).index.tolist() for seed in orders]
    assert all(len(set(one) & set(other)) < 150 for one in first for other in first if one is not other)


def test_a_drawn_order_is_kept_for_the_same_data_and_no_others(samples, tmp_path):
    first = order_of((), samples, tmp_path, None, MACHINE)
    assert first.origin is Origin.DRAWN
    assert order_of((), samples, tmp_path, None, MACHINE) == first
    assert order_of((), reversed_file(samples), tmp_path, None, MACHINE).seed != first.seed


def test_a_damaged_file_in_the_cache_is_drawn_anew(samples, tmp_path):
    first = order_of((), samples, tmp_path, None, MACHINE)
    (file,) = (tmp_path / "orders").glob("*.json")
    for content in ("", "{}", '{"seed": -1, "tag": ""}', '{"seed": "x", "tag": ""}', '{"seed": 1, "tag": "\u00e9"}'):
        file.write_text(content, encoding="utf-8")
        again = order_of((), samples, tmp_path, None, MACHINE)
        assert again != first
        assert order_of((), samples, tmp_path, None, MACHINE) == again


def test_an_order_that_came_with_a_restored_cache_is_not_believed(samples, tmp_path):
    """Whoever owns data and cache once chose the order in which the data were looked at."""
    chosen = order_of((), samples, tmp_path, None, b"the adversary's")
    (file,) = (tmp_path / "orders").glob("*.json")
    drawn = order_of((), samples, tmp_path, None, MACHINE)
    assert drawn.seed != chosen.seed
    file.write_text(file.read_text(encoding="utf-8").replace(str(drawn.seed), "1234"), encoding="utf-8")
    assert order_of((), samples, tmp_path, None, MACHINE).seed != 1234
    of_other_data = order_of((), reversed_file(samples), tmp_path, None, MACHINE)
    (other,) = set((tmp_path / "orders").glob("*.json")) - {file}
    other.replace(file)
    assert order_of((), samples, tmp_path, None, MACHINE).seed != of_other_data.seed


def test_pinned_data_come_in_the_same_order_everywhere(samples, pins, tmp_path):
    first = order_of((pins,), samples, tmp_path / "here", None, MACHINE)
    assert first.origin is Origin.PINNED
    assert order_of((pins,), samples, tmp_path / "there", None, MACHINE) == first
    assert not (tmp_path / "here").exists()


@pytest.mark.parametrize("part", ["training", "audit", "raw_files"])
def test_the_order_of_pinned_data_hangs_on_all_that_is_pinned(samples, pins, tmp_path, part):
    data = reversed_file(samples) if part == "audit" else samples
    digest = content_digest(data.images, data.labels).removeprefix("sha256:")
    changed = {"training": "1" * 64, "audit": digest, "raw_files": {"f": "2" * 64}}[part]
    orders = [
        order_of((pins,), samples, tmp_path, None, MACHINE),
        order_of((pins.model_copy(update={part: changed}),), data, tmp_path, None, MACHINE),
    ]
    assert [one.origin for one in orders] == [Origin.PINNED] * 2
    assert orders[0].seed != orders[1].seed


def test_data_that_are_not_what_the_policy_pins_come_in_a_drawn_order(samples, pins, tmp_path):
    """A pin in the policy says nothing of other data, which an audit of some requirements would not compare."""
    assert order_of((pins,), reversed_file(samples), tmp_path, None, MACHINE).origin is Origin.DRAWN


def test_a_recorded_order_can_be_repeated(samples, pins, tmp_path):
    assert order_of((pins,), samples, tmp_path, 7, MACHINE).model_dump() == {"seed": 7, "origin": Origin.GIVEN}


def test_the_report_says_which_order_and_how_to_repeat_it(toy_audit):
    toy_audit.prepare()
    words = ("tests", "--policy", "policies/toy.yaml", "--offline", "-j", "1", "--only", "EVA-002")
    assert toy_audit.pytester.runpytest_inprocess(*words).ret == 0
    report = toy_audit.report()
    seed = report["policy"]["order"]["seed"]
    assert report["policy"]["order"]["origin"] == Origin.DRAWN
    assert f"--order-seed {seed}" in report["provenance"]["command"]
    page = (toy_audit.root / "reports/latest/report.html").read_text(encoding="utf-8")
    assert f"seed {seed}, {Origin.DRAWN}" in page
    first = toy_audit.verdicts()["EVA-002"]["measurement"]
    assert toy_audit.pytester.runpytest_inprocess(*words).ret == 0
    again = toy_audit.verdicts()["EVA-002"]["measurement"]
    assert (first["from_store"], again["from_store"]) == (False, True), "the kept order finds what was stored"
    assert toy_audit.audit("--only", "PERF-001", "--order-seed", str(seed)).ret == 0
    assert toy_audit.report()["policy"]["order"] == {"seed": seed, "origin": Origin.GIVEN}


def test_which_images_are_held_out_of_judgement_hangs_on_the_order_of_the_run(toy_audit):
    """Whoever made the data could put hard images where the fixed seed of old found those that nobody judges."""
    toy_audit.requirement("EVA-001")["control"] = {"builtin": "undefended", "samples": 100}
    judged = []
    for seed in ("1", "2"):
        assert toy_audit.audit("--only", "PERF-001", "--order-seed", seed).ret == 0
        with np.load(toy_audit.root / "reports/latest/evidence/PERF-001.npz") as evidence:
            judged.append(set(evidence["index"].tolist()))
    assert [len(one) for one in judged] == [320, 320]
    assert judged[0] != judged[1]


def test_every_limit_looks_at_the_images_in_the_order_of_the_run(samples):
    from audit.session import AuditSession

    seen = SimpleNamespace(
        options=SimpleNamespace(profile=None),
        _samples={},
        copies=SimpleNamespace(judged=samples),
        order=SimpleNamespace(seed=5),
        witness=SimpleNamespace(watch=lambda name, split: split),
    )
    few, more = (AuditSession.samples(seen, count) for count in (30, 100))
    assert more.index[:30].tolist() == few.index.tolist() == samples.subset(30, 5).index.tolist()
    assert few.index.tolist() != samples.subset(30).index.tolist()


@pytest.mark.parametrize("origin", Origin)
def test_triggers_are_inverted_on_images_of_the_order_of_the_run_unless_references_are_pinned(samples, origin):
    session = SimpleNamespace(copies=SimpleNamespace(judged=samples), order=Order(seed=5, origin=origin))
    found = unknown.images(session).index.tolist()
    public = origin is Origin.PINNED
    assert found == samples.subset(unknown.FITTED_AND_COUNTED, SUBSET_SEED if public else 5).index.tolist()
