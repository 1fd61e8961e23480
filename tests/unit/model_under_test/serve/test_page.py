"""The page in a real browser: a digit drawn with the mouse is recognised, and trouble is told kindly."""

from __future__ import annotations

import base64
import re
import shutil
import threading
import time

import pytest

from model_under_test.serve import tokens
from model_under_test.serve.server import Server
from model_under_test.serve.tokens import Scope
from tests.unit.model_under_test.serve.conftest import RELEASE, ROOT, STROKES, drawing

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
TEXT, GRAPHIC = 4.5, 3.0  # least contrast for AA: WCAG 2.2, criteria 1.4.3 and 1.4.11
PAIRS = [
    *[(text, ground, TEXT) for text in ("ink", "soft", "accent", "problem") for ground in ("ground", "surface")],
    ("on-accent", "accent", TEXT),
    ("line", "ground", GRAPHIC),
    ("line", "surface", GRAPHIC),
    ("focus", "ground", GRAPHIC),
    ("accent", "track", GRAPHIC),
]
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

    def go(tokens=None, width=1000, height=800, look=None, path="/", **limits):
        server = make_server(tokens, folder=RELEASE, **limits)
        page = browser.new_page(viewport={"width": width, "height": height}, has_touch=True, **(look or {}))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console", lambda message: complaints.append(message.text) if "Content Security" in message.text else None
        )
        page.goto(f"http://127.0.0.1:{server.port}{path}")
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


def press(page, *keys):
    for key in keys:
        page.keyboard.press(key)


def ink(page):
    """Return how many pixels of the paper are not white."""
    pixels = "document.getElementById('paper').getContext('2d').getImageData(0, 0, 280, 280).data"
    return page.evaluate(f"{pixels}.reduce((dark, part, at) => dark + (at % 4 === 0 && part < 255), 0)")


def is_in_view(page, selector):
    box, size = page.locator(selector).bounding_box(), page.viewport_size
    return box["y"] >= 0 and box["y"] + box["height"] <= size["height"] and box["x"] + box["width"] <= size["width"]


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
    assert reached == ["paper", "ask", "clear", "file"]
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
    page = open_page(tmp_path / "t.json")
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
    server = Server(service, "127.0.0.1", 0)
    thread = threading.Thread(target=server.run)
    thread.start()
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{server.port}/")
    server.drain()
    thread.join(30)
    draw(page, 7)
    page.get_by_role("button", name="Recognise").click()
    assert "did not answer" in said(page, "Is it still running?")
    page.close()


def contrast(one, other):
    """Return the ratio of two colours, each (red, green, blue) in 0..255. Source: WCAG 2.2, "contrast ratio"."""

    def luminance(colour):
        parts = [part / 255 for part in colour]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_contrast_is_as_wcag_defines_it():
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert contrast((0x76, 0x76, 0x76), (255, 255, 255)) == pytest.approx(4.54, abs=0.005)


def test_the_colours_of_light_and_dark_have_contrast():
    css = (ROOT / "model_under_test" / "serve" / "static" / "page.css").read_text()
    blocks = re.findall(r":root {(.*?)}", css, re.DOTALL)
    light, dark = (dict(re.findall(r"--([a-z-]+): #([0-9a-f]{6});", block)) for block in blocks)
    assert light.keys() == dark.keys() == {name for pair in PAIRS for name in pair[:2]}
    too_faint = {
        (name, text, ground): ratio
        for name, scheme in (("light", light), ("dark", dark))
        for text, ground, least in PAIRS
        if (ratio := contrast(bytes.fromhex(scheme[text]), bytes.fromhex(scheme[ground]))) < least
    }
    assert too_faint == {}


SHOWN = """[...document.querySelectorAll("main *")]
  .filter((one) => [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim()) && one.checkVisibility())
  .map((one) => {
    const grounds = [];
    for (let at = one; at; at = at.parentElement) grounds.push(getComputedStyle(at).backgroundColor);
    return [one.outerHTML, getComputedStyle(one).color, grounds.find((each) => each !== "rgba(0, 0, 0, 0)")];
  })"""


@pytest.mark.parametrize("path", ["/", "/openapi"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read_in_light_and_dark(open_page, scheme, path):
    page = open_page(path=path, look={"color_scheme": scheme})
    if path == "/":
        draw(page, 7)
        page.get_by_role("button", name="Recognise").click()
        said(page, "This is a 7")
    texts = page.evaluate(SHOWN)
    assert len(texts) > 20
    for text, *colours in texts:
        colour, ground = ([int(part) for part in re.findall(r"\d+", each)] for each in colours)
        assert contrast(colour, ground) >= TEXT, text
        assert (sum(ground) < sum(colour)) == (scheme == "dark") or "ask" in text, text


def test_the_paper_stays_white_in_the_dark(open_page):
    page = open_page(look={"color_scheme": "dark"})
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 23, 30)"
    assert ink(page) == 0
    draw(page, 7)
    page.get_by_role("button", name="Recognise").click()
    said(page, "This is a 7")


@pytest.mark.parametrize("problem", [False, True], ids=["answer", "problem"])
def test_the_answer_is_in_view_on_a_phone(open_page, problem):
    page = open_page(width=400, height=740)
    if not problem:
        draw(page, 4)
    page.get_by_role("button", name="Recognise").click()
    said(page, "nothing on the paper" if problem else "This is a 4")
    assert page.evaluate("scrollY") == 0
    assert is_in_view(page, "#answer")
    assert is_in_view(page, "#paper")
    if not problem:
        assert is_in_view(page, "#bars")
        assert is_in_view(page, "#view")


@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
@pytest.mark.parametrize(("width", "height"), [(360, 420), (320, 256)], ids=["small", "enlarged"])
def test_the_answer_is_brought_into_view_where_it_does_not_fit(open_page, width, height, motion):
    page = open_page(width=width, height=height, look={"reduced_motion": motion})
    watch = "Element.prototype.scrollIntoView = function (how) { window.how = how; go.call(this, how); }"
    page.evaluate(f"(() => {{ const go = Element.prototype.scrollIntoView; {watch} }})()")
    draw(page, 4)
    page.evaluate("scrollTo(0, 0)")
    page.get_by_role("button", name="Recognise").dispatch_event("click")
    said(page, "This is a 4")
    wait_until(page, "scrollY > 0")
    deadline = time.monotonic() + 5
    while not is_in_view(page, "#answer"):
        assert time.monotonic() < deadline
        page.wait_for_timeout(20)
    assert page.evaluate("window.how.behavior") == ("auto" if motion == "reduce" else "smooth")


def test_what_the_network_saw_is_shown(open_page):
    page = open_page()
    assert page.locator("#view").is_hidden()
    draw(page, 7)
    with page.expect_response("**/v1/predict") as response:
        page.get_by_role("button", name="Recognise").click()
    said(page, "This is a 7")
    sent = base64.b64decode(response.value.json()["seen"])
    pixels = page.evaluate("[...document.getElementById('seen').getContext('2d').getImageData(0, 0, 28, 28).data]")
    assert bytes(pixels[::4]) == bytes(pixels[1::4]) == bytes(pixels[2::4]) == sent
    assert max(sent) == 255
    assert page.get_by_role("img", name="picture of 28 by 28 pixels that the network saw").is_visible()
    assert page.get_by_text("What the network saw").is_visible()
    assert page.evaluate("getComputedStyle(document.getElementById('seen')).imageRendering") == "pixelated"
    page.get_by_role("button", name="Clear").click()
    assert page.locator("#view").is_hidden()


def test_a_digit_is_drawn_and_recognised_with_the_keyboard_alone(open_page):
    page = open_page()
    press(page, "Tab", *["Shift+ArrowUp"] * 2, " ", *["ArrowDown"] * 16, "Escape", "Tab", "Enter")
    said(page, "This is a 1")
    assert page.evaluate("document.activeElement.id") == "ask"


def test_the_cursor_is_seen_and_no_part_of_the_picture(open_page):
    page = open_page()
    assert page.locator("#cursor").is_hidden()
    page.keyboard.press("Tab")
    before = page.locator("#cursor").bounding_box()
    press(page, "ArrowRight", "Shift+ArrowUp")
    after = page.locator("#cursor").bounding_box()
    assert (after["x"] - before["x"], after["y"] - before["y"]) == pytest.approx((10, -40), abs=0.1)
    assert ink(page) == 0
    press(page, "Tab", "Enter")
    said(page, "nothing on the paper")
    assert page.locator("#cursor").is_hidden()


def test_the_state_of_the_pen_is_announced(open_page):
    page = open_page()
    told = page.locator("#pen-state")
    assert told.get_attribute("role") == "status"
    page.keyboard.press("Tab")
    for key, words in [
        ("Enter", "Pen put down at 14 across, 14 down."),
        ("Enter", "Pen lifted at 14 across, 14 down."),
        (" ", "Pen put down at 14 across, 14 down."),
        ("Escape", "Pen lifted at 14 across, 14 down."),
    ]:
        page.keyboard.press(key)
        assert told.inner_text() == words
    dot = ink(page)
    assert dot > 0
    press(page, *["Shift+ArrowLeft"] * 5)
    assert told.inner_text() == "Edge of the paper; the pen is up."
    assert ink(page) == dot
    press(page, " ", "Tab")
    assert told.inner_text() == "Pen lifted at 1 across, 14 down."


def test_the_keys_are_told_to_who_does_not_see_them(open_page):
    page = open_page(width=400)
    paper = page.get_by_role("application", name="Paper to draw one digit on")
    assert paper.get_attribute("aria-describedby") == "keys"
    assert page.locator("#keys").is_hidden()
    page.keyboard.press("Tab")
    assert "arrow keys" in page.locator("#keys").inner_text()
