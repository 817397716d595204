"""Debian's chromium for the tests that look at the dashboard, driven by playwright.

Without either the test is skipped with one line that says what to install; WATTBUS_REQUIRE_BROWSER=1 fails instead.
"""

import os
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.async_api import Page

CHROMIUM = "chromium"


def _missing() -> str:
    if find_spec("playwright") is None:
        return "playwright is not installed: pip install -e '.[dev]'"
    if shutil.which(CHROMIUM) is None:
        return "this machine has no chromium (Debian: apt-get install chromium)"
    return ""


def need_browser() -> None:
    """Skip the test without a browser, or fail it where one is required."""
    if not (why := _missing()):
        return
    if os.environ.get("WATTBUS_REQUIRE_BROWSER"):
        pytest.fail(f"WATTBUS_REQUIRE_BROWSER is set, but {why}", pytrace=False)
    pytest.skip(why)


class Watched:
    """A page, and all that went wrong in it."""

    def __init__(self, page: "Page") -> None:
        self.page = page
        self.errors: list[str] = []
        self.elsewhere: list[str] = []
        """Requests that left this machine."""
        page.on("console", lambda told: self.errors.append(told.text) if told.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self._note(request.url))

    def _note(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob") and parts.hostname != "127.0.0.1":
            self.elsewhere.append(url)


@asynccontextmanager
async def browsing(url: str, **context: Any) -> AsyncIterator[Watched]:
    """A page of its own at `url`; the context's options are playwright's."""
    from playwright.async_api import async_playwright

    sandbox: Mapping[str, Any] = {"args": ["--no-sandbox"]} if os.geteuid() == 0 else {}
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which(CHROMIUM), **sandbox)
        try:
            given = {"viewport": {"width": 1280, "height": 900}, **context}
            page = await (await browser.new_context(**given)).new_page()
            page.set_default_timeout(15_000)
            watched = Watched(page)
            await page.goto(url)
            yield watched
        finally:
            await browser.close()
