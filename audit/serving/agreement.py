"""Agreement: what is served is what was audited, image by image, whoever asks and in whatever form.

Every request looks like another program's: its headers, their order and case, the connection, chunks, pauses. It
cannot see a server that answers otherwise after more requests than are sent here, at another time of the day, to
clients of another address, or about images that are not of the audit split; nor a preprocessing that errs where the
pictures, which are clear ones, do not.
"""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass
from threading import Event
from typing import Any

import numpy as np

from audit.errors import TargetError
from audit.requirements import AgreementRequirement
from audit.serving import client
from audit.serving.bench import BUSY, LIMIT_SECONDS, TRIES, Bench, Expected, Picture, Server, Tried, together
from audit.serving.client import JSON, Answer
from audit.serving.dressed import PATHS, Caller

THREADS = 4
NOISE = 1e-5  # what float32 and another batch size may move a probability by
UNHURRIED = 4  # questions that are asked alone at first: a server that is late is late for those
LATE_SECONDS = LIMIT_SECONDS + 2.0  # an answer, from a server that is told to take no more than the first
SILENT = 2  # times that a question may stay without an answer
MOST_LATE = 8  # after which no more is asked
PICTURE_APART = 0.2  # of a probability: resizing is not defined to the last bit
SEEN_APART = 0.04  # of a pixel, on average; a shift by one pixel is about 0.08


@dataclass(slots=True)
class _Question:
    body: bytes
    kind: str
    expected: Expected
    where: str
    picture: Picture | None = None
    answer: Answer | None = None
    look: str = ""
    seconds: float = 0.0
    asked: bool = False

    @property
    def open(self) -> bool:
        """Tell whether nothing was said about the image: no answer came, or one that says later."""
        return self.answer is None or self.answer.status in BUSY


def agreement(bench: Bench, requirement: AgreementRequirement) -> Tried:
    """Ask about every image, then about pictures, and hold class, probabilities and digest to the audited model's.

    Raises:
        TargetError: the server did not start, or had no time for a question.
    """
    tried, subject = Tried(), bench.subject
    questions = [
        _Question(body, JSON, expected, f"image {index}")
        for index, (body, expected) in enumerate(zip(subject.bodies, subject.expected, strict=True))
    ] + [_Question(one.body, one.kind, one.expected, f"picture of {one.what}", one) for one in subject.pictures]
    with bench.ordinary() as server:
        late = Event()
        _ask(server, questions[:UNHURRIED], 0, late)
        together(
            range(THREADS), THREADS, lambda one: _ask(server, questions[UNHURRIED + one :: THREADS], one + 1, late)
        )
    asked = [one for one in questions if one.asked]
    for question in asked:
        _judge_time(tried, question)
    _judge_all(tried, asked, bench, requirement)
    silent = sum(one.open for one in asked)
    if silent and not tried.findings:
        raise TargetError(f"{silent} of {len(asked)} questions had no answer: nothing is known of those images")
    return tried


def _ask(server: Server, questions: list[_Question], seed: int, late: Event) -> None:
    """Ask one question after the other, each dressed anew; leave off when it is clear that the server is late."""
    caller, slow = Caller(server.port, seed), 0
    for question in questions:
        if late.is_set():
            break
        question.asked = True
        silent = 0
        for attempt in range(TRIES):
            begun = time.monotonic()
            question.answer = caller.ask(question.body, question.kind, PATHS)
            question.seconds, question.look = max(question.seconds, time.monotonic() - begun), caller.look
            silent += question.answer is None
            if not question.open or silent == SILENT or not server.child.running:
                break
            time.sleep(0.05 * 2**attempt)
        slow += question.seconds > LATE_SECONDS
        if slow >= min(len(questions), UNHURRIED, MOST_LATE // THREADS):
            late.set()
    caller.close()


def _judge_time(tried: Tried, question: _Question) -> None:
    if question.seconds > LATE_SECONDS:
        came = client.outcome(question.answer)
        limit = f"told to take no more than {LIMIT_SECONDS} s"
        tried.add(
            "late", question.where, f"{came} after {question.seconds:.1f} s of a server {limit} ({question.look})"
        )


def _judge_all(tried: Tried, asked: list[_Question], bench: Bench, requirement: AgreementRequirement) -> None:
    """Compare every answer that came; adds what was found, and figures."""
    furthest, taken, seen = 0.0, 0, 0.0
    for one in asked:
        if one.answer is None or one.open:
            continue
        if one.picture is None:
            furthest = max(
                furthest, _judge(tried, one.where, one.answer, one.expected, bench, requirement.decimals, one.look)
            )
        elif one.answer.status != 415:
            taken += 1
            seen = max(seen, _judge_picture(tried, one.answer, one.picture, one.look))
    images = sum(one.picture is None for one in asked)
    tried.n = len(asked)
    tried.settings = {
        "images": images,
        "same_class": images - sum(tried.counts.get(rule, 0) for rule in ("another class", "no class")),
        "furthest_probability": round(furthest, 8),
        "decimals": requirement.decimals,
        "pictures": taken,
        "pictures_not_taken": len(asked) - images - taken,
        "furthest_seen": round(seen, 4),
    }


def _judge(
    tried: Tried, where: str, answer: Answer, expected: Expected, bench: Bench, decimals: int, look: str = ""
) -> float:
    """Compare one answer; returns how far its furthest probability is off."""
    said, asked_as = answer.json, f" (asked as {look})" if look else ""
    if answer.status != 200 or "class" not in said:
        message = f"status {answer.status}, expected the class of an image of the audit split{asked_as}"
        tried.add("no class", where, message)
        return 0.0
    if said["class"] != expected[0]:
        tried.add("another class", where, f"served {said['class']!r}, audited {expected[0]}{asked_as}")
    if said.get("model_digest") != f"sha256:{bench.subject.sha256}":
        tried.add("another digest", where, f"served {str(said.get('model_digest'))[:90]}, audited another{asked_as}")
    off = _furthest(said.get("probabilities"), expected[1])
    if off is None:
        tried.add("no probabilities", where, f"expected {len(expected[1])} numbers{asked_as}")
        return 0.0
    if off > 0.5 * 10**-decimals + NOISE:
        message = f"{off:.6f} apart, more than rounding to {decimals} decimals explains{asked_as}"
        tried.add("other probabilities", where, message)
    return off


def _judge_picture(tried: Tried, answer: Answer, picture: Picture, look: str) -> float:
    """Compare the answer to a picture; returns how far a pixel that the network saw is off, on average."""
    said, where, asked_as = answer.json, f"picture of {picture.what}", f"(asked as {look})"
    if answer.status != 200 or "class" not in said:
        tried.add("picture refused", where, f"status {answer.status}, expected the class of a clear picture {asked_as}")
        return 0.0
    off = _furthest(said.get("probabilities"), picture.expected[1])
    if said["class"] != picture.expected[0]:
        tried.add("another class of a picture", where, f"served {said['class']!r} {asked_as}")
    elif off is not None and off > PICTURE_APART:
        tried.add("another class of a picture", where, f"the right one, with probabilities {off:.2f} apart {asked_as}")
    return _judge_seen(tried, said.get("seen"), picture, where)


def _judge_seen(tried: Tried, told: Any, picture: Picture, where: str) -> float:
    """Compare what the server says that its network saw with what it should have seen; it need not say anything."""
    if told is None or not picture.seen:
        return 0.0
    try:
        shown = np.frombuffer(base64.b64decode(str(told), validate=True), dtype=np.uint8) / 255
    except ValueError:
        shown = np.zeros(0)
    if shown.size != len(picture.seen):
        tried.add("another picture seen", where, f"{shown.size} pixels, expected {len(picture.seen)}")
        return 1.0
    apart = float(np.abs(shown - np.asarray(picture.seen)).mean())
    if apart > SEEN_APART:
        tried.add("another picture seen", where, f"{apart:.3f} of 1 apart on average, at most {SEEN_APART} is rounding")
    return apart


def _furthest(served: Any, audited: tuple[float, ...]) -> float | None:
    """Return the largest difference of two lists of probabilities; None where one is no such list."""
    if not isinstance(served, list) or len(served) != len(audited):
        return None
    if not all(isinstance(one, int | float) and not isinstance(one, bool) for one in served):
        return None
    return max(abs(float(one) - other) for one, other in zip(served, audited, strict=True))
