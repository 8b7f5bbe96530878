"""The report in a real browser, without network: no error, tables sort, audio has a duration, pictures are decoded. Skipped without Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.report.test_report import run as run
from tta_bench.report.render import render

webdriver = pytest.importorskip("selenium.webdriver")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not here")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required")  # fmt: skip


@pytest.fixture(scope="module")
def browser(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    folder = tmp_path_factory.mktemp("report")
    page = render(run, folder)
    options = Options()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    driver.set_window_size(1280, 900)
    driver.get(page.as_uri())
    yield driver
    driver.quit()


def test_no_error_in_the_console(browser: Any) -> None:
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


def test_every_picture_is_decoded_and_described(browser: Any) -> None:
    pictures = browser.execute_script("return [...document.images].map((i) => [i.complete, i.naturalWidth, i.alt])")
    assert len(pictures) == 10
    assert all(complete and width > 0 and alt for complete, width, alt in pictures)
    assert browser.execute_script("return [...document.querySelectorAll('figure svg')].every((s) => s.getBoundingClientRect().height > 100)")


def test_every_player_knows_its_duration(browser: Any) -> None:
    script = """
        const done = arguments[0];
        Promise.all([...document.querySelectorAll("audio")].map((a) => new Promise((ok) => {
            if (a.readyState >= 1) ok(a.duration);
            else { a.onloadedmetadata = () => ok(a.duration); a.onerror = () => ok(-1); a.load(); }
        }))).then(done);
    """
    durations = browser.execute_async_script(script)
    assert len(durations) == 10
    assert all(0.5 < duration < 3.0 for duration in durations)


def _column(browser: Any, index: int) -> list[str]:
    script = "return [...document.querySelector('table.sortable tbody:not([data-fixed])').rows].map((r) => r.cells[arguments[0]].dataset.v)"
    found: list[str] = browser.execute_script(script, index)
    return found


def test_tables_sort_by_mouse_and_keyboard(browser: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    buttons = browser.find_elements("css selector", "table.sortable th button")
    before = _column(browser, 3)
    buttons[3].click()
    rising = _column(browser, 3)
    assert rising == sorted(before, key=float)
    buttons[3].send_keys(Keys.ENTER)
    assert _column(browser, 3) == rising[::-1]
    head = browser.execute_script("return arguments[0].closest('th').getAttribute('aria-sort')", buttons[3])
    assert head == "descending"
    anchors = browser.execute_script("return [...document.querySelector('tbody[data-fixed]').rows].map((r) => r.cells[0].dataset.v)")
    assert anchors[0] == "real audio"


def test_everything_that_can_be_operated_takes_the_focus(browser: Any) -> None:
    reachable = "return [...document.querySelectorAll('th button, .scroll, a, summary, audio')].every((e) => e.tabIndex >= 0)"
    assert browser.execute_script(reachable)


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_itself_never_scrolls_sideways(browser: Any, width: int) -> None:
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500})
    try:
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(browser: Any, scheme: str) -> None:
    """Contrast of at least 4.5 to 1 (WCAG AA) of text and of faint text; figures take the page's ink."""
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    colours = browser.execute_script("""
        const of = (s, k) => getComputedStyle(document.querySelector(s))[k];
        return [of("body", "backgroundColor"), of("body", "color"), of("figcaption", "color"), of("figure svg text", "fill"),
                of("td.best", "backgroundColor")];
    """)
    page, ink, soft, figure, best = (_luminance(colour) for colour in colours)
    assert (page < 0.2) == (scheme == "dark")
    for text, ground in ((ink, page), (soft, page), (figure, page), (ink, best)):
        assert (max(text, ground) + 0.05) / (min(text, ground) + 0.05) >= 4.5


def _luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
