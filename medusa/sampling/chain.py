"""What a request's settings do to its candidates, stage by stage."""

from collections.abc import Callable
from functools import partial

import numpy as np

from medusa.sampling import filters
from medusa.sampling.candidates import Candidates
from medusa.sampling.params import SamplingParams, Stage

Filter = Callable[[Candidates], Candidates]

_MAX_XTC_THRESHOLD = 0.5  # no two tokens reach more


class Xtc:
    """XTC with a coin of its own: one toss for each token that is chosen.

    Args:
        params: the request's settings.
        coin: random numbers for nothing else.
    """

    def __init__(self, params: SamplingParams, coin: np.random.Generator) -> None:
        self._params = params
        self._coin = coin

    def __call__(self, candidates: Candidates) -> Candidates:
        """The candidates without the top choices, or all of them, as the coin says."""
        params = self._params
        if self._coin.random() >= params.xtc_probability:
            return candidates
        return filters.without_top_choices(candidates, params.xtc_threshold, params.min_keep)


def is_greedy(params: SamplingParams) -> bool:
    """Whether the likeliest token is taken whatever the filters are."""
    if not params.is_cold or Stage.TEMPERATURE not in params.stages:
        return False
    before = params.stages[: params.stages.index(Stage.TEMPERATURE)]
    return bool(params.mirostat) or not any(
        stage in before and _is_on(params, stage) for stage in (Stage.TYPICAL_P, Stage.XTC)
    )


def filters_of(params: SamplingParams, coin: np.random.Generator) -> list[Filter]:
    """What is done to candidates, in order; with mirostat, what comes before its cut.

    Args:
        params: a request's settings.
        coin: random numbers for XTC alone.
    """
    if params.mirostat:
        return [_filter(params, Stage.TEMPERATURE, coin)]
    rows = (Stage.PENALTIES, Stage.DRY)  # done to the row that candidates are made of
    stages = [stage for stage in params.stages if stage not in rows and _is_on(params, stage)]
    return [_filter(params, stage, coin) for stage in stages]


def _is_on(params: SamplingParams, stage: Stage) -> bool:
    match stage:
        case Stage.TOP_N_SIGMA:
            return params.top_n_sigma > 0
        case Stage.TOP_K:
            return params.top_k > 0
        case Stage.TYPICAL_P:
            return params.typical_p < 1
        case Stage.TOP_P:
            return params.top_p < 1
        case Stage.MIN_P:
            return params.min_p > 0
        case Stage.XTC:
            return params.xtc_probability > 0 and params.xtc_threshold <= _MAX_XTC_THRESHOLD
        case _:
            return True


def _filter(params: SamplingParams, stage: Stage, coin: np.random.Generator) -> Filter:
    keep = params.min_keep
    match stage:
        case Stage.TOP_N_SIGMA:
            return partial(filters.top_n_sigma, n=params.top_n_sigma)
        case Stage.TOP_K:
            return partial(filters.top_k, count=params.top_k)
        case Stage.TYPICAL_P:
            return partial(filters.typical_p, share=params.typical_p, min_keep=keep)
        case Stage.TOP_P:
            return partial(filters.top_p, share=params.top_p, min_keep=keep)
        case Stage.MIN_P:
            return partial(filters.min_p, share=params.min_p, min_keep=keep)
        case Stage.XTC:
            return Xtc(params, coin)
        case Stage.TEMPERATURE if params.dynatemp_range > 0 and not params.mirostat:
            return partial(
                filters.dynamic_temperature,
                degrees=params.temperature,
                spread=params.dynatemp_range,
                exponent=params.dynatemp_exponent,
            )
        case Stage.TEMPERATURE:
            return partial(filters.temperature, degrees=params.temperature)
    raise AssertionError(f"{stage} is not done to candidates")
