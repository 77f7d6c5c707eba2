"""The page with the default model: what Medusa does becomes visible."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.app.conftest import Server, running_server
from tests.web.conftest import Chat

REPEATING = "Repeat this exactly, twice: the quick brown fox jumps over the lazy dog."


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With a fixed tree: what is guessed does not depend on how fast the machine is."""
    folder = tmp_path_factory.mktemp("page")
    tree = folder / "tree.json"
    tree.write_text("[[0], [1], [0, 0]]")
    with running_server(folder, "--parallel", "1", "--tree", str(tree)) as server:
        yield server


def set_up(chat: Chat, server: Server) -> None:
    """Short and always the same answers."""
    chat.open(server.url)
    chat.page.get_by_role("button", name="Settings").click()
    chat.page.get_by_label("Temperature").fill("0")
    chat.page.get_by_label("Most tokens").fill("48")
    chat.page.keyboard.press("Escape")


def test_an_answer_tells_what_guesses_were_worth(chat: Chat, server: Server) -> None:
    set_up(chat, server)
    expect(chat.page.locator("#heads")).to_have_text("3 Medusa heads")
    chat.page.get_by_role("button", name="Guesses").click()
    chat.ask(REPEATING)
    facts = chat.answers.locator(".facts")
    expect(facts).to_contain_text("tokens/s")
    expect(facts).to_contain_text("tokens per step")
    expect(facts).to_contain_text("% guessed")
    ranges = "() => [...CSS.highlights.values()].reduce((sum, each) => sum + each.size, 0)"
    assert chat.page.evaluate(ranges) > 0
    expect(chat.answers.locator(".legend")).to_contain_text("heads")
    chat.page.get_by_role("button", name="Regenerate").click()
    chat.wait_until_answered()
    expect(facts).to_contain_text("tokens per step")
    expect(chat.answers).to_have_count(1)
    chat.page.close()


def test_a_stopped_answer_frees_its_slot(chat: Chat, server: Server) -> None:
    set_up(chat, server)
    chat.page.get_by_role("button", name="Settings").click()
    chat.page.get_by_label("Most tokens").fill("1500")
    chat.page.keyboard.press("Escape")
    chat.send("Write a very long story about a river, with at least ten chapters.")
    expect(chat.answers).to_contain_text("tokens per step")
    chat.page.keyboard.press("Escape")
    server.wait_idle()
    expect(chat.answers).to_contain_text("stopped")
    chat.page.close()
