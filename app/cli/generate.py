"""`llama-medusa generate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from app.cli.terminal import set_up_logging
from app.settings import GenerateSettings
from medusa.errors import InvalidRequestError

if TYPE_CHECKING:
    from medusa.engine.events import Usage
    from medusa.loading import LoadedModel


def run(settings: GenerateSettings) -> None:
    """Answer one prompt on the terminal, then say how fast that was."""
    from app.cli.loading import open_files
    from app.cli.names import find_model
    from medusa.engine.client import stream
    from medusa.engine.events import Delta, Finished
    from medusa.engine.requests import GenerationRequest
    from medusa.llama.adapters import adapter_set

    set_up_logging(settings.verbose)
    served = open_files(find_model(settings.model, settings), settings)
    try:
        request = GenerationRequest(
            prompt=_prompt_tokens(served, settings),
            sampling=settings.sampling,
            max_tokens=settings.max_tokens,
            adapters=adapter_set({id: a.scale for id, a in enumerate(settings.adapters)}),
        )
        for event in stream(served.engine, request):
            match event:
                case Delta(text=text):
                    print(text, end="", flush=True)
                case Finished(usage=usage):
                    print(flush=True)
                    Console(stderr=True).print(
                        statistics(usage), style="dim", highlight=False, soft_wrap=True
                    )
    finally:
        served.close()


def _prompt_tokens(served: LoadedModel, settings: GenerateSettings) -> tuple[int, ...]:
    from medusa.text.chat_template import prompt_tokens

    if settings.raw:
        return tuple(served.model.tokenize(settings.prompt, parse_special=True))
    if served.template is None:
        raise InvalidRequestError(f"{served.no_chat}; use --raw")
    messages = [{"role": "system", "content": settings.system}] if settings.system else []
    messages.append({"role": "user", "content": settings.prompt})
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
