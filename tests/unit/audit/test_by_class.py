"""What an accuracy hides: no constant answer passes, and no class is lost behind the others."""

from __future__ import annotations

import numpy as np
import pytest

from audit import by_class, evasion
from audit.judge import judge
from audit.metrics import proportion_interval
from audit.outcome import Outcome, accuracy
from audit.records import Bound, ControlResult, Evidence, Metric, Status
from audit.sequential import ANYTIME, EXACT
from tests.unit.audit.conftest import requirement

FLOOR = Bound(metric=Metric.CLEAN_ACCURACY, at_least=0.9)
WORST_FLOOR = Bound(metric=Metric.WORST_CLASS_ACCURACY, at_least=0.85)
CONTROL = ControlResult(name="builtin constant", status=Status.NOT_MET, detail="broken")
SPENT = {"attack_seconds": 0.0, "inference_seconds": 0.0, "measured_at": "today"}


def shown(*classes):
    """Return what was answered: for each class (right, n); a wrong answer is the next class."""
    labels = np.concatenate([np.full(n, label) for label, (_, n) in enumerate(classes)]).astype(np.int64)
    wrong = np.concatenate([np.arange(n) >= right for right, n in classes])
    answers = np.where(wrong, (labels + 1) % len(classes), labels)
    return Outcome({"labels": labels, "before": answers, "after": answers}, dict(SPENT), from_store=False)


def judged(outcome, bound, classes):
    """Return the verdict on clean accuracy, as the family performance judges it."""
    measured, worst = by_class.clean_accuracy(outcome, bound, classes)
    doubt = by_class.no_better_than_one_answer(outcome.labels, measured, bound)
    return judge("PERF-001", bound, Evidence(measurement=measured, control=CONTROL, doubt=doubt, tables=worst.tables()))


def test_a_constant_answer_does_not_pass_where_one_class_has_97_per_cent():
    constant = shown((970, 970), (0, 30))
    plain = judge("PERF-001", FLOOR, Evidence(measurement=accuracy(constant, FLOOR), control=CONTROL))
    assert plain.status is Status.MET, "by the share of right answers alone it passes"
    verdict = judged(constant, FLOOR, 2)
    assert verdict.status is Status.INCONCLUSIVE
    assert "answering class 0 whatever is shown is right on 0.9700 of these images" in verdict.reason
    assert "bound worst_class_accuracy too" in verdict.reason
    assert judged(constant, WORST_FLOOR, 2).status is Status.NOT_MET


@pytest.mark.parametrize(
    ("outcome", "bound"),
    [
        pytest.param(shown((96, 100), (97, 100)), Bound(metric=Metric.CLEAN_ACCURACY, at_least=0.9), id="even classes"),
        pytest.param(
            shown((970, 970), (29, 30)),
            Bound(metric=Metric.CLEAN_ACCURACY, at_least=0.98),
            id="a floor above the share",
        ),
        pytest.param(shown((970, 970), (29, 30)), FLOOR, id="seen to do better than the share"),
    ],
)
def test_an_honest_classifier_raises_no_doubt(outcome, bound):
    assert judged(outcome, bound, 2).status is Status.MET


def test_a_little_better_than_the_share_is_not_seen_to_be_better():
    assert judged(shown((970, 970), (3, 30)), FLOOR, 2).status is Status.INCONCLUSIVE


def test_the_doubt_lifts_no_failure_and_data_of_one_class_prove_nothing():
    assert judged(shown((500, 970), (0, 30)), FLOOR, 2).status is Status.NOT_MET
    assert judged(shown((1000, 1000), (0, 0)), FLOOR, 2).status is Status.INCONCLUSIVE


def test_a_ceiling_raises_no_doubt():
    ceiling = Bound(metric=Metric.CLEAN_ACCURACY, at_most=0.99)
    measured, _ = by_class.clean_accuracy(shown((970, 970), (0, 30)), ceiling, 2)
    assert by_class.no_better_than_one_answer(shown((970, 970), (0, 30)).labels, measured, ceiling) is None


def test_a_class_that_is_always_wrong_is_shown_beside_a_good_accuracy_and_fails_its_own_floor():
    lost = shown(*[(100, 100)] * 19, (0, 100))
    accurate = judged(lost, FLOOR, 20)
    assert accurate.status is Status.MET
    worst = accurate.evidence.tables["worst_class"]
    assert (worst["label"], worst["value"], worst["right"], worst["n"], worst["low"]) == (19, 0.0, 0, 100, 0.0)
    verdict = judged(lost, WORST_FLOOR, 20)
    assert verdict.status is Status.NOT_MET
    assert verdict.measurement.n == 2000


def test_classes_that_are_all_right_often_enough_are_met():
    verdict = judged(shown(*[(79, 82)] * 9, (77, 82)), WORST_FLOOR, 10)
    assert verdict.status is Status.MET
    assert verdict.measurement.value == pytest.approx(77 / 82)


def test_the_ends_are_those_of_the_classes_the_upper_one_corrected_for_their_number():
    measured, worst = by_class.clean_accuracy(shown((95, 100), (18, 20), (199, 200)), WORST_FLOOR, 3)
    assert measured.value == pytest.approx(0.9)
    assert measured.low == proportion_interval(18, 20, 0.95)[0]
    assert measured.high == min(
        proportion_interval(right, n, 1 - 0.05 / 3)[1] for right, n in ((95, 100), (18, 20), (199, 200))
    )
    assert (worst.low, worst.value, worst.high) == (measured.low, measured.value, measured.high)


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        pytest.param([(80, 80), (3, 3)], "class 1 has 3: 23 images of a class, all of them right", id="three images"),
        pytest.param([(80, 80), (0, 0)], "class 1 has 0: 23 images of a class", id="no image"),
        pytest.param([(80, 80), (71, 80)], "images of class 1, which has 80, would probably decide", id="errors"),
        pytest.param([(3, 3)] * 5, "class 2 has 3, and 2 more: 23 images", id="many classes"),
    ],
)
def test_too_few_images_of_a_class_are_inconclusive_with_the_number_that_would_do(classes, words):
    verdict = judged(shown(*classes), WORST_FLOOR, len(classes))
    assert verdict.status is Status.INCONCLUSIVE
    assert words in verdict.reason


@pytest.mark.parametrize("limit", [0.01, 0.5, 0.85, 0.9, 0.999])
def test_the_number_without_an_error_is_the_least_that_clears_the_floor(limit):
    n = by_class._flawless(Bound(metric=Metric.WORST_CLASS_ACCURACY, at_least=limit))
    assert proportion_interval(n, n, 0.95)[0] >= limit
    assert n == 1 or proportion_interval(n - 1, n - 1, 0.95)[0] < limit


def test_no_number_of_images_clears_a_floor_of_one():
    verdict = judged(shown((80, 80), (80, 80)), Bound(metric=Metric.WORST_CLASS_ACCURACY, at_least=1.0), 2)
    assert verdict.status is Status.INCONCLUSIVE
    assert "no number of images would clear it" in verdict.reason


def missed(trials, classes, n, p, method, looks=1):
    """Return how often the worst class's interval lies above and below the one share that all classes have.

    Images of random classes come in ``looks`` blocks; after each one looks, and stops at the least or greatest figure.
    """
    generator, above, below = np.random.default_rng(0), 0, 0
    bound = Bound(metric=Metric.CLEAN_ACCURACY, at_least=0.5)
    for _ in range(trials):
        labels = generator.integers(classes, size=n)
        right = generator.random(n) < p
        found = [
            by_class.worst_class(labels[:stop], right[:stop], classes, bound, method)
            for stop in np.linspace(n / looks, n, looks).astype(int)
        ]
        above += max(one.low for one in found) > p
        below += min(one.high for one in found) < p
    return above / trials, below / trials


def test_the_interval_of_the_worst_class_covers_as_often_as_it_says():
    above, below = missed(400, classes=10, n=800, p=0.9, method=EXACT)
    assert above <= 0.025
    assert below <= 0.025 + 3 * (0.025 * 0.975 / 400) ** 0.5


def test_the_interval_of_the_worst_class_holds_wherever_a_search_stops():
    above, below = missed(60, classes=5, n=500, p=0.9, method=ANYTIME, looks=5)
    assert max(above, below) <= 0.05


def test_a_table_shows_the_worst_class_without_an_interval():
    outcome = shown((90, 100), (4, 5))
    right = outcome.after == outcome.labels
    assert by_class.worst_share(outcome.labels, right) == {"class": 1, "accuracy": 0.8, "n": 5}


WORST = requirement(
    "PERF-002",
    "performance",
    {"metric": "worst_class_accuracy", "at_least": 0.7},
    control={"builtin": "constant", "samples": "all"},
)
CHOSEN = ("--only", "PERF-001", "PERF-002", "EVA-001")


@pytest.fixture
def uneven_audit(toy_audit):
    """Give a toy audit on data of which 387 of 400 are of class 1."""
    toy_audit.policy["dataset"] = "tests.unit.toy:uneven"
    toy_audit.policy["requirements"].append(WORST)
    toy_audit.requirement("PERF-001")["bound"]["at_least"] = 0.9
    return toy_audit


def test_a_network_that_always_answers_the_commonest_class_meets_nothing(uneven_audit):
    result = uneven_audit.audit("--target", "one_sided", *CHOSEN)
    assert result.ret == 1
    verdicts = uneven_audit.verdicts()
    assert verdicts["PERF-001"]["status"] == "INCONCLUSIVE"
    assert verdicts["PERF-002"]["status"] == "NOT_MET"
    robust = verdicts["EVA-001"]
    assert robust["status"] == "INCONCLUSIVE"
    assert all(probe["passed"] for probe in robust["evidence"]["probes"]), "nothing else would have given it away"
    assert robust["evidence"]["control"]["status"] == "NOT_MET"
    assert "answering class 1 whatever is shown is right on 0.9675" in robust["reason"]
    worst = robust["evidence"]["tables"]["worst_class"]
    assert (worst["label"], worst["right"], worst["n"]) == (0, 0, 13)


def test_an_honest_network_on_uneven_classes_meets_what_floors_above_their_share_ask(uneven_audit):
    accurate = uneven_audit.requirement("PERF-001")
    accurate["bound"]["at_least"], accurate["control"] = 0.99, {"builtin": "constant", "samples": "all"}
    result = uneven_audit.audit(*CHOSEN)
    assert result.ret == 0
    verdicts = uneven_audit.verdicts()
    assert {one["status"] for one in verdicts.values()} == {"MET"}
    assert {verdicts[name]["evidence"]["control"]["status"] for name in ("PERF-001", "PERF-002")} == {"NOT_MET"}
    page = (uneven_audit.root / "reports/latest/report.html").read_text(encoding="utf-8")
    shown = "worst class 0: 100.00 [75.29, 100.00], 13 of 13"
    assert page.count(shown) == 3, "beside every accuracy, clean or robust"
    assert {one["evidence"]["tables"]["worst_class"]["n"] for one in verdicts.values()} == {13}


def test_the_rows_of_the_scenario_table_show_the_class_that_fares_worst(uneven_audit):
    uneven_audit.policy["requirements"] = [uneven_audit.requirement("PERF-001")]
    uneven_audit.policy["exhibits"] = {"scenarios": [{"label": "one answer", "target": "one_sided"}]}
    assert uneven_audit.audit("--exhibits").ret == 0
    (row,) = [one["data"] for one in uneven_audit.report()["exhibits"] if one["kind"] == "scenario"]
    assert (row["worst_class"], row["accuracy"]) == ({"class": 0, "accuracy": 0.0, "n": 13}, pytest.approx(0.9675))
    page = (uneven_audit.root / "reports/latest/report.html").read_text(encoding="utf-8")
    assert "class 0: 0.00 of 13" in page


def test_what_only_a_challenger_broke_counts_in_the_worst_class_too(toy_audit, monkeypatch):
    def fell(laboratory, subject, samples, challenges):
        return (subject.outcome.labels == 0) & (np.arange(len(subject.outcome)) < 10)

    monkeypatch.setattr(evasion, "lost", fell)
    toy_audit.audit("--only", "EVA-002")
    verdict = toy_audit.verdicts()["EVA-002"]
    lost = verdict["measurement"]["settings"]["broken_by_probes_only"]
    worst = verdict["evidence"]["tables"]["worst_class"]
    assert lost > 0
    assert (worst["label"], worst["right"]) == (0, worst["n"] - lost)


def test_the_constant_control_answers_the_commonest_class_of_the_judged_data(uneven_audit):
    uneven_audit.requirement("PERF-001")["control"] = {"builtin": "constant", "samples": "all"}
    assert uneven_audit.audit("--only", "PERF-001").ret == 10
    verdict = uneven_audit.verdicts()["PERF-001"]
    assert "its control builtin constant came out MET" in verdict["reason"]
    assert "clean_accuracy 0.9675" in verdict["evidence"]["control"]["detail"]


def test_a_ceiling_on_the_worst_class_is_a_policy_error(toy_audit):
    toy_audit.policy["requirements"].append({**WORST, "bound": {"metric": "worst_class_accuracy", "at_most": 0.7}})
    result = toy_audit.audit("--only", "PERF-002")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*bound: worst_class_accuracy: expected a floor, at_least (got at_most)*"])
