import pytest

from medusa.llama.model import Model
from medusa.text.chat_template import ChatTemplate, prompt_tokens
from medusa.training.conversations import ANSWER_TOKENS, TEXT_TOKENS, TURN_TOKENS, Conversation
from medusa.training.tasks import TASKS

PROMPTS = ["Say hello.", "Name a colour.", "What is two plus two?"]


def held_by(numbers: range) -> list[Conversation]:
    return [Conversation.begin(number, PROMPTS) for number in numbers]


def test_neighbours_share_a_prompt() -> None:
    conversations = held_by(range(40))
    for first, second in zip(conversations[::2], conversations[1::2], strict=True):
        assert first.prompt == second.prompt
        assert first.messages == second.messages
        assert first.number != second.number


def test_openings_alternate() -> None:
    pairs = held_by(range(0, 36, 2))
    assert [c.awaits_user for c in pairs] == [False, True, False] * 6
    assert [c.text_for is not None for c in pairs] == [False, False, True] * 6


def test_given_prompts_are_used_in_turn_and_again() -> None:
    given = held_by(range(0, 36, 6))
    assert [c.prompt for c in given] == [0, 1, 2, 0, 1, 2]
    for conversation in given:
        question = {"role": "user", "content": PROMPTS[conversation.prompt]}
        assert conversation.messages == [question]


def test_invented_prompts_have_numbers_of_their_own() -> None:
    others = [c.prompt for c in held_by(range(0, 60, 2)) if c.prompt >= len(PROMPTS)]
    assert len(others) == len(set(others)) == 20


def test_a_text_is_written_and_then_a_task_about_it() -> None:
    conversation = Conversation.begin(10, PROMPTS)
    assert conversation.messages == [{"role": "user", "content": PROMPTS[1]}]
    assert conversation.add(" A text.\n")
    (task,) = conversation.messages
    assert task == {"role": "user", "content": TASKS[1].format(text="A text.")}
    assert [conversation.add(text) for text in ("a", "b", "c")] == [True, True, False]


def test_tasks_are_used_in_turn() -> None:
    assert tuple(c.text_for for c in held_by(range(4, 4 + 6 * len(TASKS), 6))) == TASKS
    assert all(task.count("{text}") == 1 for task in TASKS)


def test_a_conversation_has_two_turns_of_each_side() -> None:
    given, invented = Conversation.begin(0, PROMPTS), Conversation.begin(2, PROMPTS)
    assert [given.add(f" {text}\n") for text in ("a", "b", "c")] == [True, True, False]
    assert [invented.add(text) for text in ("a", "b", "c", "d")] == [True, True, True, False]
    for conversation in (given, invented):
        assert conversation.is_over
        assert [m["role"] for m in conversation.messages] == ["user", "assistant"] * 2
    assert [m["content"] for m in given.messages] == [PROMPTS[0], "a", "b", "c"]


@pytest.mark.parametrize("text", ["", " ", "\n\n"])
def test_silence_ends_a_conversation(text: str) -> None:
    assert not Conversation.begin(0, PROMPTS).add(text)
    assert not Conversation.begin(2, PROMPTS).add(text)
    assert not Conversation.begin(4, PROMPTS).add(text)


def test_answers_are_recorded_and_every_other_one_is_greedy(
    model: Model, template: ChatTemplate
) -> None:
    for number, temperature in ((0, 0.0), (1, 0.7)):
        conversation = Conversation.begin(number, PROMPTS)
        request = conversation.next_request(model, template)
        assert request.prompt == prompt_tokens(model, template, conversation.messages)
        assert request.sampling.temperature == temperature
        assert request.record_hidden
        assert request.max_tokens == ANSWER_TOKENS


def test_user_turns_are_sampled_and_not_recorded(model: Model, template: ChatTemplate) -> None:
    for number in (2, 3):
        conversation = Conversation.begin(number, PROMPTS)
        request = conversation.next_request(model, template)
        opening = template.user_opening([])
        assert request.prompt == tuple(model.tokenize(opening, parse_special=True))
        assert request.sampling.temperature > 0
        assert not request.record_hidden
        assert request.max_tokens == TURN_TOKENS
    conversation.add("Hello?")
    assert conversation.next_request(model, template).record_hidden


def test_texts_are_sampled_and_not_recorded(model: Model, template: ChatTemplate) -> None:
    for number in (4, 5):
        conversation = Conversation.begin(number, PROMPTS)
        request = conversation.next_request(model, template)
        assert (request.max_tokens, request.record_hidden) == (TEXT_TOKENS, False)
        assert request.sampling.temperature > 0
        conversation.add("A text.")
        assert conversation.next_request(model, template).record_hidden


def test_every_turn_has_a_seed_of_its_own(model: Model, template: ChatTemplate) -> None:
    seeds = []
    for conversation in held_by(range(12)):
        going_on = True
        while going_on:
            seeds.append(conversation.next_request(model, template).sampling.seed)
            going_on = conversation.add("text")
    assert len(set(seeds)) == len(seeds) == 4 * 3 + 4 * 4 + 4 * 4
