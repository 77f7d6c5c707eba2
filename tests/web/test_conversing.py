"""Conversations on the page, with a model that says what the test wants."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Page, Route, expect

from tests.app.over_http import listening
from tests.web.conftest import PHONE, Chat
from tests.web.spoken_backend import SpokenBackend


@dataclass(frozen=True)
class Talk:
    """The page, and the model behind it."""

    chat: Chat
    model: SpokenBackend
    url: str

    @property
    def page(self) -> Page:
        return self.chat.page

    def exchange(self, question: str, answer: str) -> None:
        """A question with its whole answer."""
        count = len(self.model.submitted) + 1
        self.chat.send(question)
        self.model.answer(answer, count)
        self.chat.wait_until_answered()


@pytest.fixture
def talk(chat: Chat) -> Iterator[Talk]:
    with listening(model := SpokenBackend()) as server:
        chat.open(server.url)
        yield Talk(chat, model, server.url)
        chat.page.close()


def test_an_answer_comes_piece_by_piece(talk: Talk) -> None:
    talk.chat.send("Hi")
    talk.model.wait_for(1)
    talk.model.say("Hello")
    expect(talk.chat.answers).to_contain_text("Hello")
    talk.model.say(" there")
    expect(talk.chat.answers).to_contain_text("Hello there")
    talk.model.finish()
    talk.chat.wait_until_answered()
    assert "2 steps" not in talk.chat.answers.inner_text()
    expect(talk.chat.answers).to_contain_text("11 tokens")
    expect(talk.chat.answers).to_contain_text("5.5 tokens per step")
    expect(talk.chat.input).to_be_focused()


def test_the_model_reads_the_whole_conversation(talk: Talk) -> None:
    talk.exchange("One", "1")
    talk.exchange("Two", "2")
    talk.page.get_by_role("button", name="Settings").click()
    talk.page.get_by_label("System prompt").fill("Count.")
    talk.page.keyboard.press("Escape")
    talk.exchange("Three", "3")
    assert talk.model.last_messages() == [
        ("system", "Count."),
        ("user", "One"),
        ("assistant", "1"),
        ("user", "Two"),
        ("assistant", "2"),
        ("user", "Three"),
    ]


def test_a_new_conversation_is_new_while_an_answer_streams(talk: Talk) -> None:
    talk.chat.send("Old")
    talk.model.wait_for(1)
    talk.model.say("An old answer")
    expect(talk.chat.answers).to_contain_text("An old answer")
    talk.page.get_by_role("button", name="New conversation").click()
    expect(talk.chat.answers).to_have_count(0)
    talk.exchange("New", "A new answer")
    assert talk.model.last_messages() == [("user", "New")]
    assert talk.model.submitted[0].id in talk.model.cancelled
    assert talk.chat.listed() == ["New", "Old"]
    talk.page.get_by_role("button", name="Old", exact=True).click()
    expect(talk.chat.answers).to_contain_text("An old answer")
    expect(talk.chat.answers).to_contain_text("stopped")
    expect(talk.chat.answers).not_to_contain_text("A new answer")


@pytest.mark.parametrize("how", ["button", "Escape"])
def test_an_answer_can_be_stopped_and_the_conversation_goes_on(talk: Talk, how: str) -> None:
    talk.chat.send("Count")
    talk.model.wait_for(1)
    talk.model.say("1, 2")
    expect(talk.chat.answers).to_contain_text("1, 2")
    if how == "button":
        talk.page.get_by_role("button", name="Stop the answer").click()
    else:
        talk.page.keyboard.press("Escape")
    talk.chat.wait_until_answered()
    talk.exchange("Go on", "3")
    assert talk.model.last_messages() == [
        ("user", "Count"),
        ("assistant", "1, 2"),
        ("user", "Go on"),
    ]


def test_an_answer_can_be_had_again(talk: Talk) -> None:
    talk.exchange("Name", "Ada")
    talk.page.get_by_role("button", name="Regenerate").click()
    talk.model.answer("Bob", 2)
    expect(talk.chat.answers).to_contain_text("Bob")
    expect(talk.chat.answers).to_have_count(1)
    assert talk.model.last_messages() == [("user", "Name")]


def test_a_message_can_be_edited(talk: Talk) -> None:
    talk.exchange("Nmae", "What?")
    talk.exchange("Sorry", "Fine")
    question = talk.chat.questions.first
    question.hover()
    question.get_by_role("button", name="Edit").click()
    field = talk.page.get_by_label("Edit the message")
    field.fill("wrong")
    field.press("Escape")
    expect(question).to_contain_text("Nmae")
    question.get_by_role("button", name="Edit").click()
    field.fill("Name")
    field.press("Enter")
    talk.model.answer("Ada", 3)
    expect(talk.chat.answers).to_have_count(1)
    expect(talk.chat.answers).to_contain_text("Ada")
    assert talk.model.last_messages() == [("user", "Name")]


def test_conversations_are_kept_renamed_and_deleted(talk: Talk) -> None:
    talk.exchange("First", "1")
    talk.page.get_by_role("button", name="New conversation").click()
    talk.exchange("Second", "2")
    talk.page.get_by_role("button", name="Rename “Second”").click()
    field = talk.page.get_by_label("Name of the conversation")
    field.fill("<b>Two</b>")
    field.press("Enter")
    talk.page.reload()
    expect(talk.chat.answers).to_contain_text("2")
    assert talk.chat.listed() == ["<b>Two</b>", "First"]
    talk.page.get_by_role("button", name="Delete “<b>Two</b>”").click()
    assert talk.chat.listed() == ["First"]
    talk.page.get_by_role("button", name="Undo").click()
    assert talk.chat.listed() == ["<b>Two</b>", "First"]
    talk.page.get_by_role("button", name="<b>Two</b>", exact=True).hover()
    talk.page.get_by_role("button", name="Delete “<b>Two</b>”").click()
    talk.page.reload()
    expect(talk.chat.answers).to_contain_text("1")
    assert talk.chat.listed() == ["First"]


def test_what_is_written_and_not_sent_outlives_a_reload(talk: Talk) -> None:
    talk.chat.input.press_sequentially("Half a")
    talk.page.reload()
    expect(talk.chat.input).to_have_value("Half a")


def test_a_page_that_is_not_ready_takes_no_message(talk: Talk) -> None:
    held: list[Route] = []
    talk.page.route("**/page/conversations.js", lambda route: held.append(route))
    with talk.page.expect_request("**/page/conversations.js"):
        talk.page.reload(wait_until="commit")
    expect(talk.chat.input).to_be_disabled()
    expect(talk.page.get_by_role("button", name="Send")).to_be_disabled()
    held[0].continue_()
    expect(talk.chat.input).to_be_focused()
    talk.exchange("Hello", "Hi")
    expect(talk.chat.questions).to_contain_text("Hello")


def test_shift_enter_is_a_new_line_and_nothing_is_sent_while_an_answer_comes(talk: Talk) -> None:
    talk.chat.input.press_sequentially("a")
    talk.chat.input.press("Shift+Enter")
    talk.chat.input.press_sequentially("b")
    talk.chat.input.press("Enter")
    talk.model.wait_for(1)
    assert talk.model.last_messages() == [("user", "a\nb")]
    talk.chat.send("more")
    expect(talk.chat.input).to_have_value("more")
    talk.model.finish()
    talk.chat.wait_until_answered()
    assert len(talk.model.submitted) == 1


def test_who_reads_above_stays_there(talk: Talk) -> None:
    talk.chat.send("Much")
    talk.model.wait_for(1)
    talk.model.say("line\n\n" * 80)
    log = talk.page.locator("#log")
    at_end = "log => log.scrollHeight - log.scrollTop - log.clientHeight < 2"
    talk.page.wait_for_function("log => log.scrollTop > 500", arg=log.element_handle())
    assert log.evaluate(at_end)
    log.evaluate("log => { log.scrollTop = 100 }")
    to_end = talk.page.get_by_role("button", name="To the newest message")
    expect(to_end).to_be_visible()
    height = log.evaluate("log => log.scrollHeight")
    talk.model.say("more\n\n" * 20)
    log_grew = "([log, height]) => log.scrollHeight > height"
    talk.page.wait_for_function(log_grew, arg=[log.element_handle(), height])
    assert log.evaluate("log => log.scrollTop") == 100
    to_end.click()
    assert log.evaluate(at_end)
    talk.model.say("end\n\n" * 5)
    expect(talk.chat.answers).to_contain_text("end")
    assert log.evaluate(at_end)
    talk.model.finish()


def test_what_comes_above_does_not_hide_the_end(talk: Talk) -> None:
    talk.exchange("Much", "line\n\n" * 80)
    talk.page.route(re.compile("/v1/"), lambda route: route.abort())
    talk.chat.ask("More")
    expect(talk.page.locator("#status")).to_be_visible()
    expect(talk.page.get_by_role("button", name="Try again")).to_be_in_viewport()


def test_a_browser_that_keeps_nothing_shows_the_page_all_the_same(talk: Talk) -> None:
    forbidden = "Object.defineProperty(window, '{}', {{ get() {{ throw new Error('denied') }} }})"
    for name in ("localStorage", "indexedDB"):
        talk.page.add_init_script(forbidden.format(name))
    talk.page.reload()
    expect(talk.page.get_by_text("This browser keeps nothing")).to_be_visible()
    talk.exchange("Hi", "Hello")
    expect(talk.chat.answers).to_contain_text("Hello")


def test_guesses_are_coloured_on_demand(talk: Talk) -> None:
    talk.chat.send("Hi")
    talk.model.wait_for(1)
    talk.model.say("Some **bold** words")
    talk.model.say(" and `code`", source="lookup")
    talk.model.finish()
    talk.chat.wait_until_answered()
    coloured = """() => Object.fromEntries([...CSS.highlights].map(([name, highlight]) =>
        [name, [...highlight].map(range => range.startContainer.data.slice(
            range.startOffset, range.endOffset))]))"""
    assert talk.page.evaluate(coloured) == {}
    toggle = talk.page.get_by_role("button", name="Guesses")
    toggle.click()
    assert talk.page.evaluate(coloured) == {
        "guessed-heads": ["Some", "bold", "word"],  # the last token of a step is no guess
        "guessed-lookup": ["and", "code"],
        "guessed-grammar": [],
        "guessed-other": [],
    }
    expect(talk.chat.answers).to_contain_text("heads 18")
    talk.page.reload()
    expect(toggle).to_have_attribute("aria-pressed", "true")
    assert talk.page.evaluate(coloured)["guessed-heads"] == ["Some", "bold", "word"]
    toggle.click()
    assert talk.page.evaluate(coloured) == {}


def test_everything_fits_on_a_phone(talk: Talk) -> None:
    talk.page.set_viewport_size(PHONE)
    wide = "```\n" + "x" * 300 + "\n```\n\n| a | b |\n|---|---|\n| " + "y " * 90 + "| z |\n\n"
    talk.exchange("w" * 300, wide + "long" * 100)
    widths = (
        "() => [document.documentElement.scrollWidth, document.querySelector('#log').scrollWidth]"
    )
    assert talk.page.evaluate(widths) == [PHONE["width"], PHONE["width"]]
    header = talk.page.locator("header").bounding_box()
    log = talk.page.locator("#log").bounding_box()
    assert header
    assert header["height"] < 64
    assert log
    assert log["height"] > PHONE["height"] / 2
    talk.page.get_by_role("button", name="Conversations", exact=True).click()
    talk.page.get_by_role("button", name="New conversation").click()
    expect(talk.page.locator("#sidebar")).not_to_be_in_viewport()
    talk.page.get_by_role("button", name="Settings").click()
    assert talk.page.evaluate(widths)[0] == PHONE["width"]


def test_the_theme_is_the_systems_until_another_is_chosen(talk: Talk) -> None:
    ground = "() => getComputedStyle(document.body).backgroundColor"
    light = talk.page.evaluate(ground)
    talk.page.emulate_media(color_scheme="dark")
    dark = talk.page.evaluate(ground)
    assert dark != light
    talk.page.get_by_role("button", name="Settings").click()
    talk.page.get_by_label("Theme").select_option("Light")
    assert talk.page.evaluate(ground) == light
    talk.page.reload()
    assert talk.page.evaluate(ground) == light


def test_reasoning_is_folded(talk: Talk) -> None:
    talk.page.route(
        re.compile("chat/completions"),
        lambda route: route.fulfill(
            content_type="text/event-stream",
            body='data: {"choices":[{"delta":{"reasoning_content":"Hm, let me see"}}]}\r\n\r\n'
            'data: {"choices":[{"delta":{"content":"Yes"},"finish_reason":"stop"}]}\r\n\r\n'
            "data: [DONE]\r\n\r\n",
        ),
    )
    talk.chat.ask("Is it?")
    expect(talk.page.get_by_text("Hm, let me see")).not_to_be_visible()
    talk.page.get_by_text("Reasoning").click()
    expect(talk.page.get_by_text("Hm, let me see")).to_be_visible()
