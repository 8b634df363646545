"""A page in the system's Chromium, for what a person sees."""

import contextlib
from collections.abc import Iterator

from playwright.sync_api import Page, expect, sync_playwright

from tests.conftest import program

OFFLINE = [
    "--no-sandbox",  # as root, in CI
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextlib.contextmanager
def open_page(address: str = "") -> Iterator[Page]:
    """A page whose relative links start at the address."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program("chromium"), args=OFFLINE)
        page = browser.new_page(base_url=address or None, viewport={"width": 1500, "height": 950})
        page.set_default_timeout(30_000)
        expect.set_options(timeout=30_000)
        yield page
        browser.close()
