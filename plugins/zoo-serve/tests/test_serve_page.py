"""The page in a real browser: choose, drop and paste an image, see its classes, errors, and nothing from elsewhere."""

import base64
import re
import shutil

import pytest
from serving import BLUE, GREEN, RED, picture

from zoo_serve.page import PAGE, POLICY

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

DROP = """
([data, type]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], "dropped.png"));
  const event = type === "paste"
    ? new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true })
    : new DragEvent(type, { dataTransfer: transfer, bubbles: true, cancelable: true });
  document.body.dispatchEvent(event);
}
"""

SCRIPT = "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.x = 1'}))"


@pytest.fixture(scope="module")
def browser():
    if BROWSER is None:
        pytest.skip("no chromium, chromium-browser or google-chrome is installed")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as play:
        opened = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])  # a root user needs it
        yield opened
        opened.close()


@pytest.fixture
def page(browser, server):
    """The page, open; what its console says and what it asks for are kept."""
    opened = browser.new_page()
    opened.said, opened.asked, opened.choosers = [], [], []
    opened.on("console", lambda message: opened.said.append(message.text))
    opened.on("pageerror", lambda error: opened.said.append(str(error)))
    opened.on("request", lambda request: opened.asked.append(request.url))
    opened.on("filechooser", lambda chooser: opened.choosers.append(chooser))
    opened.goto(server.url)
    yield opened
    opened.close()


def comes_true(page, condition):
    """Wait up to 10 s for a condition on what the browser has told."""
    for _ in range(200):
        if condition():
            return True
        page.wait_for_timeout(50)
    return False


def choose(page, content, name="photo.png"):
    page.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": content})


def classes(page):
    page.locator("#classes li").first.wait_for()
    return [line.split("\n")[0] for line in page.locator("#classes li").all_inner_texts()]


def test_an_image_that_is_chosen_gets_its_classes_with_bars(page, server):
    page.get_by_role("heading", name="colours").wait_for()
    assert page.title() == "colours"
    assert page.inner_text("#about") == "Classifies an image as one of 3 classes."
    choose(page, picture(BLUE))
    assert classes(page) == ["blue", "red", "green"]
    bars = page.locator("progress")
    values = [float(bars.nth(place).get_attribute("value")) for place in range(3)]
    expected = [found["probability"] for found in server.post(picture(BLUE)).json()["classes"]]
    assert values == pytest.approx(expected, abs=1e-6)
    assert re.fullmatch(r"\d+\.\d %", page.locator("#classes li span").nth(1).inner_text())
    assert page.inner_text("#status") == "photo.png"
    assert page.locator("#preview").is_visible()
    assert page.said == []
    assert {url.split("/")[2] for url in page.asked if not url.startswith(("blob:", "data:"))} == {
        server.url.split("/")[2]
    }


def test_another_image_may_follow_and_so_may_the_same(page):
    for colour, name in ((RED, "red"), (GREEN, "green"), (GREEN, "green")):
        choose(page, picture(colour), f"{name}.png")
        page.get_by_text(f"{name}.png", exact=True).wait_for()
        assert classes(page)[0] == name


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_an_image_may_be_dropped_or_pasted(page, way):
    page.evaluate(DROP, [base64.b64encode(picture(RED)).decode(), way])
    assert classes(page)[0] == "red"


def test_a_refusal_is_shown_and_takes_the_old_answer_away(page):
    choose(page, picture(RED))
    assert classes(page)[0] == "red"
    choose(page, b"<b>no image</b>", "<img src=x onerror=alert(1)>.png")
    page.wait_for_selector("#status.bad")
    assert page.inner_text("#status").startswith("this is no image that can be read: AVIF, BMP")
    assert page.locator("#classes li").count() == 0
    assert page.locator("#preview").is_hidden()
    choose(page, picture(GREEN))
    assert classes(page)[0] == "green"
    assert page.locator("#status.bad").count() == 0


def test_a_server_that_cannot_be_reached_is_told(page):
    page.context.set_offline(True)
    choose(page, picture(RED))
    page.wait_for_selector("#status.bad")
    assert page.inner_text("#status") == "The server cannot be reached."
    page.context.set_offline(False)


def test_it_can_be_used_by_keyboard_and_read_aloud(page):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"
    assert page.evaluate("getComputedStyle(document.getElementById('drop')).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert comes_true(page, lambda: page.choosers)
    assert page.get_by_label("Choose an image").get_attribute("type") == "file"
    assert page.locator("#answer").get_attribute("aria-live") == "polite"
    assert page.locator("html").get_attribute("lang") == "en"
    choose(page, picture(BLUE))
    classes(page)
    assert page.get_by_role("progressbar", name="blue").count() == 1
    assert page.locator("#answer").get_attribute("aria-busy") == "false"


def test_it_fits_a_telephone(page):
    page.set_viewport_size({"width": 320, "height": 640})
    choose(page, picture(BLUE))
    classes(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 320


def test_the_policy_holds(page, server):
    headers = server.client.get("/").headers
    assert headers["content-security-policy"] == POLICY
    assert POLICY.startswith("default-src 'none'; script-src 'sha256-")
    page.evaluate(SCRIPT)
    assert page.evaluate("window.x") is None
    assert comes_true(page, lambda: any("Content Security Policy" in said for said in page.said))


def test_it_names_nothing_from_elsewhere():
    assert re.findall(r"https?://|//[a-z]|@import|url\(", PAGE) == []
