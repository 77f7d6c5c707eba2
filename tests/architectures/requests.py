"""Random requests: short ones of all kinds, many of which begin alike."""

import random
from collections.abc import Sequence
from dataclasses import replace

from medusa.engine.requests import GenerationRequest
from medusa.sampling.params import SamplingParams
from tests.architectures.vocabulary import END_TOKEN

SHORTEST, LONGEST = 5, 90
"""Tokens of a prompt."""
MOST_TOKENS = 24
"""Tokens of an answer."""


def random_tokens(dice: random.Random, count: int) -> list[int]:
    """Text-like tokens: what was there before often comes again, for lookups to find."""
    tokens: list[int] = []
    while len(tokens) < count:
        if len(tokens) > 8 and dice.random() < 0.1:
            start = dice.randrange(len(tokens) - 4)
            tokens += tokens[start : start + dice.randint(4, 12)]
        else:
            tokens.append(dice.randrange(END_TOKEN))
    return tokens[:count]


def random_sampling(dice: random.Random) -> SamplingParams:
    adjusted = SamplingParams(
        temperature=0,
        presence_penalty=dice.choice([0.0, 0.0, 0.5]),
        frequency_penalty=dice.choice([0.0, 0.0, 0.3]),
        repetition_penalty=dice.choice([1.0, 1.0, 1.2]),
        logit_bias=dice.choice([{}, {}, {dice.randrange(END_TOKEN): 5.0}]),
    )
    if dice.random() < 0.5:
        return adjusted
    return replace(
        adjusted,
        temperature=dice.choice([0.4, 0.8, 1.2]),
        top_k=dice.choice([0, 0, 40]),
        top_p=dice.choice([1.0, 0.9]),
        min_p=dice.choice([0.0, 0.05]),
        seed=dice.randrange(1000),
    )


def random_request(dice: random.Random, prompt: Sequence[int]) -> GenerationRequest:
    return GenerationRequest(
        tuple(prompt),
        random_sampling(dice),
        max_tokens=dice.randint(1, MOST_TOKENS),
        ignore_eos=dice.random() < 0.5,
        logprobs=dice.choice([None, 0, 3]),
        prompt_logprobs=dice.choice([None, None, None, 0, 2]),
    )


def random_requests(
    dice: random.Random, count: int, *, longest: int = LONGEST
) -> list[GenerationRequest]:
    """So many requests; some are copies, some go on where an earlier prompt was cut."""
    requests: list[GenerationRequest] = []
    while len(requests) < count:
        kind, length = dice.random(), dice.randint(SHORTEST, longest)
        if requests and kind < 0.2:  # as `n` makes them
            earlier = dice.choice(requests)
            sampling = replace(earlier.sampling, temperature=0.8, seed=len(requests))
            requests.append(replace(earlier, sampling=sampling, id=str(len(requests))))
            continue
        start: list[int] = []
        if requests and kind < 0.6:
            earlier = dice.choice(requests)
            start = list(earlier.prompt[: dice.randint(1, len(earlier.prompt))])
        rest = random_tokens(dice, max(1, length - len(start)))
        requests.append(random_request(dice, start + rest))
    return requests


def continued(
    dice: random.Random, prompt: Sequence[int], answer: Sequence[int]
) -> GenerationRequest:
    """What may come after an answer: all of it or a part of it, and more."""
    before = [*prompt, *answer]
    kept = before[: dice.choice([len(before), len(prompt), dice.randint(1, len(before))])]
    kept = kept[: LONGEST - 1]
    tail = random_tokens(dice, dice.randint(1, max(1, min(12, LONGEST - len(kept)))))
    return random_request(dice, kept + tail)
