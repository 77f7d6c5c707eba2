"""What the model is made to talk about: given prompts, its own, texts, and follow-ups."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from medusa.engine.requests import GenerationRequest
from medusa.llama.model import Model
from medusa.sampling.params import SamplingParams
from medusa.text.chat_template import ChatTemplate, prompt_tokens
from medusa.text.tool_formats import Message
from medusa.training.tasks import TASKS

ANSWER_TOKENS = 256
TURN_TOKENS = 64
TEXT_TOKENS = 384
_TURNS = 2
_SAMPLED_TEMPERATURE = 0.7
_INVENTING_TEMPERATURE = 1.0


class Opening(IntEnum):
    """How a conversation begins."""

    GIVEN = 0  # with a given prompt
    INVENTED = 1  # with one that the model writes
    TEXT = 2  # with a task about what the model writes to a given prompt


@dataclass
class Conversation:
    """A conversation that the model holds with itself; the user's turns may be its own, too.

    `number` decides everything: the opening, whether answers are greedy or sampled, and all seeds.
    """

    number: int
    prompt: int  # index of the prompt; those of other openings count on from the last
    messages: list[Message] = field(default_factory=list)
    text_for: str | None = None  # the task whose text is to be written first

    @classmethod
    def begin(cls, number: int, prompts: Sequence[str]) -> "Conversation":
        """The conversation of that number. Neighbours share a prompt, one greedy, one sampled."""
        topic, opening = divmod(number // 2, len(Opening))
        of_its_own = len(prompts) + len(Opening) * topic + opening
        prompt = topic % len(prompts)
        given: list[Message] = [{"role": "user", "content": prompts[prompt]}]
        match Opening(opening):
            case Opening.GIVEN:
                return cls(number, prompt, given)
            case Opening.INVENTED:
                return cls(number, of_its_own)
            case Opening.TEXT:
                return cls(number, of_its_own, given, TASKS[topic % len(TASKS)])

    @property
    def awaits_user(self) -> bool:
        """Whether a user turn comes next."""
        return len(self.messages) % 2 == 0

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be said."""
        return len(self.messages) >= 2 * _TURNS

    def next_request(self, model: Model, template: ChatTemplate) -> GenerationRequest:
        """What makes the model write the next turn.

        Raises:
            InvalidRequestError: the template refuses the conversation.
        """
        turn = len(self.messages) if self.text_for is None else 2 * _TURNS
        seed = self.number * (2 * _TURNS + 1) + turn
        if self.awaits_user:
            opening = template.user_opening(self.messages)
            return GenerationRequest(
                tuple(model.tokenize(opening, parse_special=True)),
                SamplingParams(temperature=_INVENTING_TEMPERATURE, top_p=0.95, seed=seed),
                max_tokens=TURN_TOKENS,
            )
        prompt = prompt_tokens(model, template, self.messages)
        if self.text_for is not None:
            sampling = SamplingParams(temperature=_SAMPLED_TEMPERATURE, seed=seed)
            return GenerationRequest(prompt, sampling, max_tokens=TEXT_TOKENS)
        temperature = _SAMPLED_TEMPERATURE if self.number % 2 else 0.0
        return GenerationRequest(
            prompt,
            SamplingParams(temperature=temperature, seed=seed),
            max_tokens=ANSWER_TOKENS,
            record_hidden=True,
        )

    def add(self, text: str) -> bool:
        """Add the turn that the model wrote; False if there is nothing to go on with."""
        if self.text_for is not None:
            task = self.text_for.format(text=text.strip())
            self.messages, self.text_for = [{"role": "user", "content": task}], None
            return bool(text.strip())
        role = "user" if self.awaits_user else "assistant"
        self.messages.append({"role": role, "content": text.strip()})
        return bool(text.strip()) and not self.is_over
