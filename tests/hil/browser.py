"""A headless Chromium of Debian, driven over its own debugging protocol; a test without one skips with the reason."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run", "--hide-scrollbars", "--window-size=1280,900",
)  # fmt: skip
NEEDED = ("chromium", "chromedriver")
MISSING = [name for name in NEEDED if not shutil.which(name)]

needs_browser = pytest.mark.skipif(bool(MISSING), reason=f"apt install chromium chromium-driver: no {MISSING}")

# Texts of one SVG that touch another, and texts that leave it, by a little more than rounding.
MISPLACED = """
const found = [];
for (const svg of document.querySelectorAll(arguments[0])) {
  const frame = svg.getBoundingClientRect();
  const boxes = [...svg.querySelectorAll('text')].map(text => [text.textContent, text.getBoundingClientRect()]);
  boxes.forEach(([name, box], place) => {
    const beside = box.left < frame.left - 1 || box.right > frame.right + 1;
    if (beside || box.top < frame.top - 1 || box.bottom > frame.bottom + 1)
      found.push(`leaves its picture: ${name}`);
    for (const [other, next] of boxes.slice(place + 1)) {
      const across = Math.min(box.right, next.right) - Math.max(box.left, next.left);
      const down = Math.min(box.bottom, next.bottom) - Math.max(box.top, next.top);
      if (across > 1 && down > 2.5) found.push(`overlap: ${name} | ${other}`);
    }
  });
}
return found;
"""
OVERFLOWING = """
const wide = document.documentElement.clientWidth;
return [...document.querySelectorAll('body *')]
  .filter(item => !item.closest('svg, .scroll, figure, details:not([open])'))
  .filter(item => item.getBoundingClientRect().right > wide + 1)
  .map(item => item.outerHTML.slice(0, 120));
"""


@contextmanager
def browser() -> Iterator[Chrome]:
    """Yield a browser with a profile of its own, which is gone after."""
    options = ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with TemporaryDirectory(prefix="podkeeper-browser-") as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = Chrome(options=options, service=Service(str(shutil.which("chromedriver"))))
        try:
            driver.set_page_load_timeout(60)
            yield driver
        finally:
            driver.quit()


def complaints(driver: Chrome) -> list[str]:
    """Return what the page has logged as errors."""
    return [str(entry["message"]) for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]


def url(path: Path) -> str:
    return path.resolve().as_uri()
