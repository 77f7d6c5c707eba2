"""Settings of the server for how tokens are chosen where a request does not say."""

from typing import Annotated

from pydantic import AfterValidator

from app.settings.base import Settings
from app.settings.option import Opt
from medusa.sampling.order import parse_stages
from medusa.sampling.params import Dry, SamplingParams

_LARGE = 1e6
_WINDOW = 64  # of --repeat-penalty


def _known_samplers(value: str) -> str:
    parse_stages(value)
    return value


class SamplingSettings(Settings):
    """Defaults of requests, by llama-server's names; off unless they are given."""

    temp: Annotated[
        float,
        Opt(
            help="Temperature of requests that name none; 0: greedy.",
            ge=0,
            le=_LARGE,
            short="--temperature",
            variable=True,
        ),
    ] = SamplingParams.temperature
    top_k: Annotated[int, Opt(help="Likewise top_k; 0: off.", ge=0, variable=True)] = (
        SamplingParams.top_k
    )
    top_p: Annotated[float, Opt(help="Likewise top_p; 1: off.", ge=0, le=1, variable=True)] = (
        SamplingParams.top_p
    )
    min_p: Annotated[float, Opt(help="Likewise min_p; 0: off.", ge=0, le=1, variable=True)] = (
        SamplingParams.min_p
    )
    typical_p: Annotated[
        float,
        Opt(help="Likewise typical_p; 1: off.", ge=0, le=1, short="--typical", variable=True),
    ] = SamplingParams.typical_p
    top_n_sigma: Annotated[
        float,
        Opt(help="Likewise top_n_sigma; up to 0: off.", ge=-1, short="--top-nsigma", variable=True),
    ] = SamplingParams.top_n_sigma
    xtc_probability: Annotated[
        float, Opt(help="Likewise xtc_probability; 0: off.", ge=0, le=1, variable=True)
    ] = SamplingParams.xtc_probability
    xtc_threshold: Annotated[
        float, Opt(help="Likewise xtc_threshold.", ge=0, le=1, variable=True)
    ] = SamplingParams.xtc_threshold
    dynatemp_range: Annotated[
        float, Opt(help="Likewise dynatemp_range; 0: off.", ge=0, le=_LARGE, variable=True)
    ] = SamplingParams.dynatemp_range
    dynatemp_exp: Annotated[
        float, Opt(help="Likewise dynatemp_exponent.", ge=0, le=100, variable=True)
    ] = SamplingParams.dynatemp_exponent
    repeat_penalty: Annotated[
        float, Opt(help="Likewise repeat_penalty; 1: off.", ge=0.01, le=10, variable=True)
    ] = SamplingParams.repetition_penalty
    repeat_last_n: Annotated[
        int | None,
        Opt(
            help="Tokens that penalties look back at; -1: all.",
            ge=-1,
            unset="64 for repeat_penalty, all for the others",
            variable=True,
        ),
    ] = None
    presence_penalty: Annotated[
        float, Opt(help="Likewise presence_penalty; 0: off.", ge=-2, le=2, variable=True)
    ] = SamplingParams.presence_penalty
    frequency_penalty: Annotated[
        float, Opt(help="Likewise frequency_penalty; 0: off.", ge=-2, le=2, variable=True)
    ] = SamplingParams.frequency_penalty
    dry_multiplier: Annotated[
        float, Opt(help="Likewise dry_multiplier; 0: off.", ge=0, le=_LARGE, variable=True)
    ] = Dry.multiplier
    dry_base: Annotated[float, Opt(help="Likewise dry_base.", ge=1, le=_LARGE, variable=True)] = (
        Dry.base
    )
    dry_allowed_length: Annotated[
        int, Opt(help="Likewise dry_allowed_length.", ge=0, variable=True)
    ] = Dry.allowed_length
    dry_penalty_last_n: Annotated[
        int, Opt(help="Likewise dry_penalty_last_n; -1: all tokens.", ge=-1, variable=True)
    ] = Dry.penalty_last_n
    mirostat: Annotated[
        int, Opt(help="Likewise mirostat: 0 (off), 1 or 2.", ge=0, le=2, variable=True)
    ] = SamplingParams.mirostat
    mirostat_ent: Annotated[
        float, Opt(help="Likewise mirostat_tau.", ge=0, le=1000, variable=True)
    ] = SamplingParams.mirostat_tau
    mirostat_lr: Annotated[
        float, Opt(help="Likewise mirostat_eta.", ge=0, le=1000, variable=True)
    ] = SamplingParams.mirostat_eta
    samplers: Annotated[
        Annotated[str, AfterValidator(_known_samplers)],
        Opt(help="Their order, with semicolons between; those left out are off.", variable=True),
    ] = ";".join(SamplingParams.stages)
    seed: Annotated[
        int | None, Opt(help="Likewise seed; -1: random.", ge=-1, unset="random", variable=True)
    ] = SamplingParams.seed

    @property
    def sampling(self) -> SamplingParams:
        """How tokens are chosen where a request does not say."""
        window = self.repeat_last_n
        if window is None:
            window = -1 if self.repeat_penalty == SamplingParams.repetition_penalty else _WINDOW
        return SamplingParams(
            temperature=self.temp,
            dynatemp_range=self.dynatemp_range,
            dynatemp_exponent=self.dynatemp_exp,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            typical_p=self.typical_p,
            top_n_sigma=self.top_n_sigma,
            xtc_probability=self.xtc_probability,
            xtc_threshold=self.xtc_threshold,
            mirostat=self.mirostat,
            mirostat_tau=self.mirostat_ent,
            mirostat_eta=self.mirostat_lr,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            repetition_penalty=self.repeat_penalty,
            penalty_last_n=window,
            dry=Dry(
                self.dry_multiplier,
                self.dry_base,
                self.dry_allowed_length,
                self.dry_penalty_last_n,
            ),
            stages=parse_stages(self.samplers),
            seed=None if self.seed == -1 else self.seed,
        )
