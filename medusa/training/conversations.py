"""What the model is made to talk about: given prompts, prompts of its own, and follow-ups."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from medusa.engine.requests import GenerationRequest
from medusa.llama.model import Model
from medusa.sampling.params import SamplingParams
from medusa.text.chat_template import ChatTemplate, prompt_tokens
from medusa.text.tool_formats import Message

ANSWER_TOKENS = 256
TURN_TOKENS = 64
_TURNS = 2
_SAMPLED_TEMPERATURE = 0.7
_INVENTING_TEMPERATURE = 1.0


@dataclass
class Conversation:
    """A conversation that the model holds with itself; the user's turns may be its own, too.

    `number` decides everything: the prompt (every other one is invented), whether answers are
    greedy or sampled, and all seeds.
    """

    number: int
    prompt: int  # index of the prompt; invented ones count on from the last
    messages: list[Message] = field(default_factory=list)

    @classmethod
    def begin(cls, number: int, prompts: Sequence[str]) -> "Conversation":
        """The conversation of that number. Neighbours share a prompt, one greedy, one sampled."""
        topic, invented = divmod(number // 2, 2)
        if invented:
            return cls(number, len(prompts) + topic)
        prompt = topic % len(prompts)
        return cls(number, prompt, [{"role": "user", "content": prompts[prompt]}])

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
        seed = self.number * 2 * _TURNS + len(self.messages)
        if self.awaits_user:
            opening = template.user_opening(self.messages)
            return GenerationRequest(
                tuple(model.tokenize(opening, parse_special=True)),
                SamplingParams(temperature=_INVENTING_TEMPERATURE, top_p=0.95, seed=seed),
                max_tokens=TURN_TOKENS,
            )
        temperature = _SAMPLED_TEMPERATURE if self.number % 2 else 0.0
        return GenerationRequest(
            prompt_tokens(model, template, self.messages),
            SamplingParams(temperature=temperature, seed=seed),
            max_tokens=ANSWER_TOKENS,
            record_hidden=True,
        )

    def add(self, text: str) -> bool:
        """Add the turn that the model wrote; False if there is nothing to go on with."""
        role = "user" if self.awaits_user else "assistant"
        self.messages.append({"role": role, "content": text.strip()})
        return bool(text.strip()) and not self.is_over
