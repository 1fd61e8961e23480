"""The page in a real browser: a digit drawn with the mouse is recognised, and trouble is told kindly."""

from __future__ import annotations

import shutil
import threading
import time

import pytest

from model_under_test.serve import tokens
from model_under_test.serve.app import create_app
from model_under_test.serve.server import Server
from model_under_test.serve.tokens import Scope
from tests.unit.model_under_test.serve.conftest import RELEASE, STROKES, drawing

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine to draw in")


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser, make_server):
    """Give a function that serves the released weights and opens the page; errors of the browser fail the test."""
    pages, complaints = [], []

    def go(tokens=None, width=1000, **limits):
        server = make_server(tokens, folder=RELEASE, **limits)
        page = browser.new_page(viewport={"width": width, "height": 800}, has_touch=True)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console", lambda message: complaints.append(message.text) if "Content Security" in message.text else None
        )
        page.goto(f"http://127.0.0.1:{server.effective_port}/")
        pages.append(page)
        return page

    yield go
    for page in pages:
        page.close()
    assert complaints == []


def draw(page, digit):
    box = page.locator("#paper").bounding_box()
    scale = box["width"] / 280
    first, *others = [(box["x"] + x * scale, box["y"] + y * scale) for x, y in STROKES[digit]]
    page.mouse.move(*first)
    page.mouse.down()
    for point in others:
        page.mouse.move(*point, steps=8)
    page.mouse.up()


def said(page, words):
    page.locator("#answer", has_text=words).wait_for(timeout=15_000)
    return page.locator("#answer").inner_text()


def wait_until(page, condition):
    """Wait as ``page.wait_for_function`` does, which the page's own policy forbids: it evaluates a string."""
    deadline = time.monotonic() + 15
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, f"not within 15 s: {condition}"
        page.wait_for_timeout(20)


@pytest.mark.parametrize("digit", [4, 7])
def test_a_digit_drawn_with_the_mouse_is_recognised(open_page, digit):
    page = open_page()
    draw(page, digit)
    page.get_by_role("button", name="Recognise").click()
    said(page, f"This is a {digit}")
    assert page.locator("#bars li").count() == 10
    assert page.locator("#bars li.first").inner_text().startswith(str(digit))
    assert page.get_by_label(f"Probability of {digit}:").count() == 1


def test_a_picture_is_chosen_with_the_keyboard_alone(open_page, tmp_path):
    page = open_page()
    (tmp_path / "seven.png").write_bytes(drawing(7))
    reached = []
    for _ in range(4):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
    assert reached[:3] == ["ask", "clear", "file"]
    page.set_input_files("#file", tmp_path / "seven.png")
    said(page, "This is a 7")


def test_an_empty_paper_is_said_to_be_empty(open_page):
    page = open_page()
    page.get_by_role("button", name="Recognise").click()
    assert "draw one digit first" in said(page, "nothing on the paper")
    assert page.locator("#answer").get_attribute("aria-live") == "polite"


def test_too_many_requests_are_told_kindly(open_page):
    page = open_page(rate_per_minute=1)
    draw(page, 7)
    page.get_by_role("button", name="Recognise").click()
    said(page, "This is a 7")
    page.get_by_role("button", name="Recognise").click()
    assert said(page, "quite often") == "That was quite often. Please wait a minute and try again."
    assert page.locator("#bars").is_hidden()


def test_a_token_is_asked_for_and_kept_nowhere(open_page, tmp_path):
    made = tokens.add(tmp_path / "t.json", "alice", (Scope.PREDICT,))
    page = open_page(tokens.read(tmp_path / "t.json"))
    draw(page, 4)
    page.get_by_role("button", name="Recognise").click()
    said(page, "needs a valid token")
    page.get_by_label("Your token").fill(made)
    page.get_by_role("button", name="Recognise").click()
    said(page, "This is a 4")
    assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]


def test_withheld_probabilities_leave_the_class(open_page):
    page = open_page(probabilities=False)
    draw(page, 7)
    page.get_by_role("button", name="Recognise").click()
    said(page, "It says 7")
    assert page.locator("#bars").is_hidden()


def test_a_phone_shows_it_without_scrolling_sideways(open_page):
    page = open_page(width=360)
    draw(page, 4)
    page.get_by_role("button", name="Recognise").click()
    said(page, "This is a 4")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.locator("#paper").bounding_box()["width"] <= 360


def test_a_finger_draws_without_scrolling(open_page):
    page = open_page(width=360)
    box = page.locator("#paper").bounding_box()
    black = "document.getElementById('paper').getContext('2d').getImageData(100, 100, 1, 1).data[0] === 0"
    assert page.evaluate(black) is False
    page.touchscreen.tap(box["x"] + 100, box["y"] + 100)
    wait_until(page, black)  # a tap returns before the page has heard of it
    assert page.evaluate("getComputedStyle(document.getElementById('paper')).touchAction") == "none"


def test_a_server_that_is_gone_is_told_kindly(browser, make_service, tmp_path):
    service = make_service(folder=RELEASE)
    server = Server(create_app(service), service, "127.0.0.1", 0)
    thread = threading.Thread(target=server.run)
    thread.start()
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{server.effective_port}/")
    server.drain()
    thread.join(30)
    draw(page, 7)
    page.get_by_role("button", name="Recognise").click()
    assert "did not answer" in said(page, "Is it still running?")
    page.close()
