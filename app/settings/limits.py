"""Settings of how much one request may hold."""

from typing import Annotated

from app.door.limits import NAMES, PARSER_NESTING, TEMPLATED, RequestLimits
from app.settings.base import Settings
from app.settings.option import Opt


class LimitSettings(Settings):
    """Limits of one request; what exceeds one is answered 400."""

    max_values: Annotated[
        int,
        Opt(
            help="Values in a body: numbers, texts, lists, objects. A prompt of token ids has one "
            "for each token.",
            ge=100,
            variable=True,
        ),
    ] = RequestLimits.max_values
    max_nesting: Annotated[
        int,
        Opt(
            help=f"Levels of lists and objects in a body; the parser reads {PARSER_NESTING}.",
            ge=8,
            le=PARSER_NESTING,
            variable=True,
        ),
    ] = RequestLimits.max_nesting
    max_logprobs: Annotated[
        int,
        Opt(
            help="Log probabilities of one answer: sequences x tokens x those of each token. "
            "Streams have no limit, but for the prompt's.",
            ge=1,
            variable=True,
        ),
    ] = RequestLimits.max_logprobs
    max_top_logprobs: Annotated[
        int, Opt(help="Log probabilities of each token.", ge=0, variable=True)
    ] = RequestLimits.max_top_logprobs
    max_choices: Annotated[
        int, Opt(help="Answers of each prompt: n, best_of.", ge=1, variable=True)
    ] = RequestLimits.max_choices
    max_inputs: Annotated[int, Opt(help="Texts to embed or to rank.", ge=1, variable=True)] = (
        RequestLimits.max_inputs
    )
    max_text: Annotated[
        int,
        Opt(
            help="Characters of one text, and of a whole conversation. Memory for tokenising grows "
            "with it.",
            ge=1000,
            le=TEMPLATED,
            variable=True,
        ),
    ] = RequestLimits.max_text
    max_grammar: Annotated[
        int,
        Opt(
            help="Characters of a grammar, a regular expression or a JSON schema, those of tools "
            "included.",
            ge=100,
            variable=True,
        ),
    ] = RequestLimits.max_grammar
    max_tools: Annotated[int, Opt(help="Tools that an answer may call.", ge=0, variable=True)] = (
        RequestLimits.max_tools
    )
    max_stops: Annotated[int, Opt(help="Stop strings.", ge=0, variable=True)] = (
        RequestLimits.max_stops
    )
    max_bad_words: Annotated[
        int, Opt(help="Texts that must not be written: bad_words.", ge=0, variable=True)
    ] = RequestLimits.max_bad_words
    max_breakers: Annotated[int, Opt(help="Sequence breakers of DRY.", ge=0, variable=True)] = (
        RequestLimits.max_breakers
    )
    max_phrase: Annotated[
        int,
        Opt(help="Characters of a stop string, bad word or breaker.", ge=1, variable=True),
    ] = RequestLimits.max_phrase
    max_biases: Annotated[int, Opt(help="Entries of logit_bias.", ge=0, variable=True)] = (
        RequestLimits.max_biases
    )

    @property
    def limits(self) -> RequestLimits:
        """The limits."""
        return RequestLimits(**{name: getattr(self, name) for name in NAMES})
