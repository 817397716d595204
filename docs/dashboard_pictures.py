"""Draws docs/dashboard*.png: `python docs/dashboard_pictures.py http://127.0.0.1:8080 house-c`."""

import shutil
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

SETTLES_MS = 4000
DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 1000}}
PHONE: dict[str, Any] = {"viewport": {"width": 375, "height": 812}, "color_scheme": "dark"}


def picture(browser: Browser, url: str, name: str, context: dict[str, Any]) -> None:
    """One picture of a view, as high as the window."""
    page = browser.new_context(**context).new_page()
    page.goto(url)
    page.wait_for_timeout(SETTLES_MS)
    page.screenshot(path=Path(__file__).with_name(name))


def main(url: str, house: str) -> None:
    """Draw all of them."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        picture(browser, f"{url}/#/house/{house}", "dashboard.png", DESKTOP)
        picture(browser, f"{url}/#/fleet", "dashboard-fleet.png", {**DESKTOP, "color_scheme": "dark"})
        picture(browser, f"{url}/#/house/{house}", "dashboard-phone.png", PHONE)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:3])
