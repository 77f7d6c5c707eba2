"""The page when something is wrong: nothing typed is lost, and it says what it is."""

import re

import pytest
from playwright.sync_api import Page, Route, expect

from app.dialects.native.page import HEADERS
from medusa.engine.events import FailureKind
from tests.app.fake_backend import FakeBackend, Script
from tests.app.in_process import served
from tests.app.over_http import listening
from tests.web.conftest import Chat
from tests.web.spoken_backend import SpokenBackend

GENERATES = re.compile("chat/completions")
EVERYTHING = re.compile("/v1/")


def proxy(route: Route) -> None:
    """What a proxy says whose server is down."""
    route.fulfill(status=502, content_type="text/html", body="<html>Bad Gateway</html>")


def test_a_message_outlives_the_server_and_is_answered_when_it_is_back(chat: Chat) -> None:
    with listening(FakeBackend()) as server:
        chat.open(server.url)
        status = chat.page.locator("#status")
        expect(chat.page.locator("#model")).to_have_text("fake")
        chat.page.route(EVERYTHING, lambda route: route.abort())
        chat.ask("Are you there?")
        expect(chat.answers).to_contain_text("The server cannot be reached.")
        expect(chat.questions).to_contain_text("Are you there?")
        expect(status).to_contain_text("Trying again")
        chat.page.unroute(EVERYTHING)
        expect(status).to_be_hidden()  # by itself
        chat.page.get_by_role("button", name="Try again").click()
        expect(chat.answers).to_contain_text("Hello there")
        expect(chat.answers).to_have_count(1)
        chat.page.close()


def test_a_proxys_error_is_told_in_words(chat: Chat) -> None:
    with listening(FakeBackend()) as server:
        chat.open(server.url)
        chat.page.route(EVERYTHING, proxy)
        chat.ask("Hi")
        expect(chat.answers).to_contain_text("502 Bad Gateway")
        expect(chat.page.locator("#status")).to_contain_text("502 Bad Gateway")
        chat.page.close()


def test_a_refused_message_is_there_to_be_edited(chat: Chat) -> None:
    with listening(FakeBackend()) as server:
        chat.open(server.url)
        chat.ask("x" * 2000)
        expect(chat.answers).to_contain_text("2006 tokens")
        chat.questions.hover()
        chat.questions.get_by_role("button", name="Edit").click()
        field = chat.page.get_by_label("Edit the message")
        expect(field).to_have_value("x" * 2000)
        field.fill("short")
        field.press("Enter")
        expect(chat.answers).to_contain_text("Hello there")
        chat.page.close()


def test_what_came_before_an_error_stays(chat: Chat) -> None:
    with listening(FakeBackend([Script(["Half an"], failure=FailureKind.INTERNAL)])) as server:
        chat.open(server.url)
        chat.ask("Hi")
        expect(chat.answers).to_contain_text("Half an")
        expect(chat.answers.get_by_role("alert")).to_contain_text("failed")
        chat.page.reload()
        expect(chat.answers).to_contain_text("Half an")
        chat.page.close()


def test_a_stream_that_breaks_off_is_no_whole_answer(chat: Chat) -> None:
    with listening(FakeBackend()) as server:
        chat.open(server.url)
        body = 'data: {"choices":[{"delta":{"content":"Half an"}}]}\n\n'
        chat.page.route(
            GENERATES, lambda route: route.fulfill(content_type="text/event-stream", body=body)
        )
        chat.ask("Hi")
        expect(chat.answers).to_contain_text("Half an")
        expect(chat.answers.get_by_role("alert")).to_contain_text("broke off")
        chat.page.close()


def test_a_wrong_key_is_asked_for_and_the_message_sent_again(chat: Chat) -> None:
    with listening(FakeBackend(), api_key="right") as server:
        chat.open(server.url)
        dialog = chat.page.get_by_role("dialog")
        expect(dialog).to_contain_text("The server asks for a key")
        dialog.get_by_label("API key").fill("wrong")
        dialog.get_by_role("button", name="Continue").click()
        expect(dialog).to_contain_text("not the right one")
        dialog.get_by_role("button", name="Cancel").click()
        chat.send("Hi")
        expect(dialog).to_be_visible()
        dialog.get_by_label("API key").fill("right")
        dialog.get_by_label("API key").press("Enter")
        expect(chat.answers).to_contain_text("Hello there")
        expect(chat.answers).to_have_count(1)
        expect(chat.page.locator("#model")).to_have_text("fake")
        chat.page.close()


def test_a_loading_model_is_waited_for(chat: Chat) -> None:
    with listening(FakeBackend()) as server:
        error = {"error": {"message": "still loading", "code": "loading"}}
        chat.page.route(EVERYTHING, lambda route: route.fulfill(status=503, json=error))
        chat.open(server.url)
        expect(chat.page.locator("#status")).to_contain_text("The model is loading")
        chat.page.unroute(EVERYTHING)
        expect(chat.page.locator("#model")).to_have_text("fake")
        expect(chat.page.locator("#status")).to_be_hidden()
        chat.page.close()


def test_one_of_several_models_can_be_chosen(chat: Chat) -> None:
    with listening(model := SpokenBackend()) as server:
        chat.page.route(
            re.compile("v1/models"),
            lambda route: route.fulfill(json={"data": [{"id": "other"}, {"id": "fake"}]}),
        )
        chat.open(server.url)
        chat.page.get_by_label("Model", exact=True).select_option("fake")
        chat.send("Hi")
        model.answer("Yes", 1)
        expect(chat.answers).to_contain_text("Yes")
        chat.page.close()


ATTACKS = [
    "<script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 1'>",
    "![x](http://127.0.0.1:9/leak?secret)",
    "<svg onload='window.hacked = 1'><style>body { display: none }</style></svg>",
    "<iframe srcdoc='<script>parent.hacked = 1</script>'></iframe>",
    "[click](javascript:window.hacked=1) <javascript:window.hacked=1>",
    "[click](data:text/html,<script>opener.hacked=1</script>)",
    "<a href='javascript:window.hacked=1' onclick='window.hacked=1'>click</a>",
    '```"><img/src=x/onerror=window.hacked=1>\n<img src=x onerror=window.hacked=1>\n```',
    "| <b onmouseover=window.hacked=1>a</b> |\n|---|\n| <form action=/x><button>click</button> |",
    "<div id='input' class='primary' style='position:fixed;inset:0'>click</div>",
    "<math><mtext><table><mglyph><style><!--</style><img src=x onerror=window.hacked=1>",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_a_model_writes_is_shown_and_never_run(chat: Chat, attack: str) -> None:
    asked: list[str] = []
    with listening(FakeBackend([Script([attack])])) as server:
        chat.open(server.url)
        chat.page.on("request", lambda request: asked.append(request.url))
        chat.ask(attack)
        expect(chat.answers).to_have_count(1)
        shown = chat.answers.locator(".markdown")
        forbidden = "script, img, svg, style, iframe, form, input, math, [id], [style], [onclick]"
        assert shown.locator(forbidden).count() == 0
        for link in shown.locator("a").all():
            assert re.match("https?:", link.get_attribute("href") or "http:")
            assert link.get_attribute("rel") == "noopener noreferrer"
        for element in shown.get_by_text("click").all():
            element.click()
        chat.page.reload()
        expect(chat.answers).to_have_count(1)
        assert chat.page.evaluate("window.hacked") is None
        assert all(url.startswith(server.url) for url in asked), asked
        chat.page.close()


MARKDOWN = """# Title
Some **bold**, `code`, ~~gone~~ and [a link](https://example.org/).

- one
- [x] done

| a | b |
|---|---|
| 1 | <br>2 |

```python
def f(): return "<b>"
```
"""


def test_markdown_is_rendered_and_code_can_be_copied(chat: Chat) -> None:
    chat.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    with listening(FakeBackend([Script([MARKDOWN])])) as server:
        chat.open(server.url)
        chat.ask("Show me")
        shown = chat.answers.locator(".markdown")
        for part, text in {
            "h1": "Title",
            "strong": "bold",
            "p code": "code",
            "del": "gone",
            "a[target=_blank]": "a link",
            "td:first-child": "1",
            ".hljs-keyword": "def",
        }.items():
            expect(shown.locator(part).first).to_have_text(text)
        expect(shown.locator("li")).to_have_text(["one", "☑ done"])
        shown.get_by_role("button", name="Copy the code").click()
        expect(shown.locator(".copy-code")).to_have_text("Copied")
        copied = chat.page.evaluate("navigator.clipboard.readText()")
        assert copied.strip() == 'def f(): return "<b>"'
        chat.page.evaluate("navigator.clipboard.writeText('')")
        chat.page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
        chat.answers.get_by_role("button", name="Copy", exact=True).click()
        chat.input.press("Control+V")
        expect(chat.input).to_have_value(re.compile("# Title"))
        chat.page.close()


def test_the_page_needs_nothing_from_elsewhere_and_may_run_nothing_else(chat: Chat) -> None:
    asked: list[str] = []
    with listening(FakeBackend()) as server:
        chat.page.on("request", lambda request: asked.append(request.url))
        chat.open(server.url)
        assert len(asked) > 10
        assert all(url.startswith(server.url) for url in asked)
        answer = chat.page.request.get(server.url)
        assert HEADERS.items() <= {name.title(): v for name, v in answer.headers.items()}.items()
        assert_nothing_runs(chat.page)
        chat.problems.clear()  # the browser's word on what was just refused
        chat.page.close()


def assert_nothing_runs(page: Page) -> None:
    """Nothing that got into the page by whatever way."""
    page.evaluate(
        """() => {
            const script = document.createElement("script");
            try { script.textContent = "window.hacked = 1"; } catch { return; }
            document.body.append(script);
        }"""
    )
    assert page.evaluate("window.hacked") is None


def test_only_the_pages_own_files_are_served() -> None:
    with served(FakeBackend()) as client:
        assert client.get("/page/app.js").headers["content-type"].startswith("text/javascript")
        tag = client.get("/page/style.css").headers["etag"]
        assert client.get("/page/style.css", headers={"If-None-Match": tag}).status_code == 304
        for path in ("nothing.js", "../server.py", "%2e%2e/server.py", "..%2f..%2fpyproject.toml"):
            assert client.get(f"/page/{path}").status_code == 404
