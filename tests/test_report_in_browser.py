"""The report in Chromium, where there is one: on a phone, on a screen, sorted, filtered, printed.

Screenshots are left in build/screenshots.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

SCREENSHOTS = tiny.ROOT / "build/screenshots"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTHS = (390, 1400)
OUTSIDE = """
return [...document.querySelectorAll("body *")].filter((element) =>
  !element.closest(".scroll") && element.getBoundingClientRect().right > innerWidth + 1
).map((element) => element.outerHTML.slice(0, 80));
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if not program or not driver:
        pytest.skip("no Chromium with its driver on this machine")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield found
    found.quit()


def show(browser: webdriver.Chrome, page: Path, width: int, scheme: str = "light") -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    wanted = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": wanted})
    browser.get(page.resolve().as_uri())


def column(table: WebElement, place: int) -> list[str]:
    cells = table.find_elements(By.CSS_SELECTOR, f"tbody tr > :nth-child({place + 1})")
    return [str(cell.get_property("textContent")).strip() for cell in cells if cell.is_displayed()]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits(browser: webdriver.Chrome, width: int, scheme: str) -> None:
    """The report of the committed results, with every part unfolded."""
    show(browser, tiny.ROOT / "metrics/report.html", width, scheme)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    browser.save_screenshot(str(SCREENSHOTS / f"report-{width}-{scheme}.png"))
    browser.execute_script("document.querySelectorAll('details').forEach((one) => one.open = true)")
    across = browser.execute_script("return document.documentElement.scrollWidth")
    assert across <= width
    assert browser.execute_script(OUTSIDE) == []
    ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    shade = sum(int(one) for one in ground.strip("rgb()").split(","))
    assert (shade < 200) == (scheme == "dark")
    told: list[Any] = browser.get_log("browser")  # type: ignore[no-untyped-call]
    assert told == []


@pytest.fixture
def figures(browser: webdriver.Chrome, bench: Path) -> WebElement:
    """The table of all figures: the longest one."""
    show(browser, bench / "metrics/report.html", 1400)
    for part in browser.find_elements(By.CSS_SELECTOR, "details"):
        if "All figures" in part.text:
            part.find_element(By.TAG_NAME, "summary").click()
            return part
    raise AssertionError("no table of all figures")


def test_a_heading_sorts(browser: webdriver.Chrome, figures: WebElement) -> None:
    table = figures.find_element(By.TAG_NAME, "table")
    headings = table.find_elements(By.CSS_SELECTOR, "thead th")
    place = [one.text for one in headings].index("value")
    before = column(table, place)
    headings[place].click()
    values = [float(one) for one in column(table, place)]
    assert values == sorted(values)
    assert sorted(values) == sorted(map(float, before))
    headings[place].click()
    assert [float(one) for one in column(table, place)] == sorted(values, reverse=True)
    assert headings[place].get_attribute("aria-sort") == "descending"
    headings[0].click()
    names = column(table, 0)
    assert names == sorted(names)
    assert headings[place].get_attribute("aria-sort") is None


def test_a_word_filters(figures: WebElement) -> None:
    table = figures.find_element(By.TAG_NAME, "table")
    rows = [one.text for one in table.find_elements(By.CSS_SELECTOR, "tbody tr")]
    task = column(table, 1)[0]
    figures.find_element(By.CSS_SELECTOR, "input[type=search]").send_keys(f"{task} base")
    shown = [one.text for one in table.find_elements(By.CSS_SELECTOR, "tbody tr") if one.text]
    assert shown == [one for one in rows if task in one and "base" in one]
    assert 0 < len(shown) < len(rows)


def test_a_print_has_every_part(browser: webdriver.Chrome, bench: Path) -> None:
    show(browser, bench / "metrics/report.html", 1400)
    closed = "return document.querySelectorAll('details:not([open])').length"
    assert browser.execute_script(closed)
    printed: dict[str, Any] = browser.execute_cdp_cmd("Page.printToPDF", {})
    assert len(printed["data"]) > 10_000
    assert browser.execute_script(closed) == 0
