"""A browser, and the page in it as its users see it."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Locator,
    Page,
    ViewportSize,
    expect,
    sync_playwright,
)

PHONE: ViewportSize = {"width": 360, "height": 640}
DESKTOP: ViewportSize = {"width": 1280, "height": 800}
BUSY_MS = 60_000
"""For what happens as soon as a loaded machine gets to it."""

expect.set_options(timeout=BUSY_MS)


@dataclass
class Chat:
    """The page, opened in a browser of its own storage."""

    page: Page
    problems: list[str] = field(default_factory=list)  # what the browser complained about

    @property
    def input(self) -> Locator:
        return self.page.get_by_label("Message", exact=True)

    @property
    def answers(self) -> Locator:
        return self.page.get_by_role("article", name="Answer")

    @property
    def questions(self) -> Locator:
        return self.page.get_by_role("article", name="You")

    def open(self, url: str) -> None:
        self.page.goto(url)
        expect(self.input).to_be_enabled()

    def send(self, text: str) -> None:
        self.input.fill(text)
        self.input.press("Enter")

    def wait_until_answered(self) -> None:
        expect(self.page.get_by_role("button", name="Send")).to_be_visible()

    def ask(self, text: str) -> None:
        """Send a message and wait for the whole answer."""
        self.send(text)
        self.wait_until_answered()

    def listed(self) -> list[str]:
        """The names of the kept conversations."""
        return self.page.locator("#conversations .title").all_inner_texts()

    def note(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.problems.append(message.text)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("there is no chromium (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


@pytest.fixture
def chat(browser: Browser) -> Iterator[Chat]:
    with browser.new_context(viewport=DESKTOP) as context:
        context.set_default_timeout(BUSY_MS)
        chat = Chat(context.new_page())
        chat.page.on("console", chat.note)
        chat.page.on("pageerror", lambda error: chat.problems.append(str(error)))
        yield chat
        assert chat.problems == []
