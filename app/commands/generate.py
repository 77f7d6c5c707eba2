"""`llama-medusa generate`."""

import queue

from rich.console import Console

from app.options import ModelOptions
from app.served import ServedModel, open_served
from medusa.engine.requests import Delta, Event, Failed, Finished, GenerationRequest, Usage
from medusa.errors import InvalidRequestError
from medusa.sampling.params import SamplingParams
from medusa.text.chat_template import prompt_tokens


def run_generate(
    options: ModelOptions,
    *,
    prompt: str,
    system: str | None,
    raw: bool,
    max_tokens: int,
    sampling: SamplingParams,
) -> None:
    """Stream one answer to the terminal, then one line of statistics.

    Raises:
        ModelNotFoundError: the model is unknown.
        MedusaError: the model cannot be loaded or the prompt not be answered.
    """
    served = open_served(options)
    try:
        request = GenerationRequest(
            prompt=_prompt_tokens(served, prompt, system, raw),
            sampling=sampling,
            max_tokens=max_tokens,
        )
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        served.engine.submit([request], [events.put])
        console = Console(stderr=True)
        while True:
            match events.get():
                case Delta(text=text):
                    print(text, end="", flush=True)
                case Finished(usage=usage):
                    print(flush=True)
                    console.print(statistics(usage), style="dim", highlight=False, soft_wrap=True)
                    return
                case Failed(error=error):
                    raise error
    finally:
        served.close()


def _prompt_tokens(
    served: ServedModel, prompt: str, system: str | None, raw: bool
) -> tuple[int, ...]:
    if raw:
        return tuple(served.model.tokenize(prompt, parse_special=True))
    if served.template is None:
        raise InvalidRequestError(f"{served.name} has no chat template; use --raw")
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": prompt})
    return prompt_tokens(served.model, served.template, messages)


def statistics(usage: Usage) -> str:
    """One line: speed, tokens per step, acceptance."""
    speed = usage.completion_tokens / usage.decode_seconds if usage.decode_seconds else 0.0
    parts = [
        f"{usage.completion_tokens} tokens, {speed:.1f} tokens/s",
        f"{usage.completion_tokens / max(1, usage.steps):.2f} tokens per step",
    ]
    proposed = usage.accepted_drafts + usage.rejected_drafts
    if proposed:
        share = 100 * usage.accepted_drafts / proposed
        parts.append(f"{usage.accepted_drafts} of {proposed} drafts accepted ({share:.0f} %)")
    return ", ".join(parts)
