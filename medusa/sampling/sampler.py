"""Choosing one token from one row of logits.

First the row: logit bias and penalties, what a constraint and bans rule out. Then candidates of
it: by default temperature and filters in the order of vLLM and Hugging Face (see `Stage`). Then one
draw of the request's own random numbers. What a constraint forces needs no look at the row.
Exactly one draw is spent for each emitted token, whatever was speculated, so a seed gives the
same text with and without drafts. What else remembers (penalties, DRY, mirostat, XTC's coin) goes
on with each emitted token too, and with nothing else.
"""

from collections.abc import Iterable

import numpy as np

from medusa.errors import NotNumbersError
from medusa.sampling import dry
from medusa.sampling.bans import Bans
from medusa.sampling.candidates import Candidates
from medusa.sampling.chain import filters_of, is_greedy
from medusa.sampling.constraints import NothingAllowedError, TokenConstraint
from medusa.sampling.history import History
from medusa.sampling.mirostat import Mirostat
from medusa.sampling.params import SamplingParams, Stage
from medusa.sampling.penalties import Penalties
from medusa.sampling.softmax import checked_peak

_CERTAIN = Candidates.of(np.zeros(1, np.float32))
"""Drawing from these chooses nothing, but all that remembers goes on."""


class Sampler:
    """One request's sampler: its settings, its random numbers, the tokens it has emitted.

    Args:
        params: the request's settings.
        prompt: prompt tokens, which repetition_penalty and DRY look at.
        forbidden: tokens that must never be chosen (EOS under ignore_eos).
        constraint: what may come next; told of every token that is chosen.
        ends: tokens that end the text.

    Attributes:
        drawn_from: what the newest token was drawn from; None: there was no choice.
    """

    def __init__(
        self,
        params: SamplingParams,
        prompt: list[int],
        forbidden: Iterable[int] = (),
        constraint: TokenConstraint | None = None,
        ends: Iterable[int] = (),
    ) -> None:
        self.params = params
        self.drawn_from: Candidates | None = None
        self.constraint = constraint
        seeds = np.random.SeedSequence(params.seed)
        self._rng = np.random.Generator(np.random.Philox(seeds))
        coin = np.random.Generator(np.random.Philox(seeds.spawn(1)[0]))
        self._history = History(prompt)
        self._bans = Bans(params, self._history, forbidden, ends)
        self._bias_ids = np.fromiter(params.logit_bias.keys(), np.int64, len(params.logit_bias))
        self._bias = np.fromiter(params.logit_bias.values(), np.float32, len(params.logit_bias))
        self._penalties = Penalties(params, self._history) if _penalises(params) else None
        self._has_dry = Stage.DRY in params.stages and dry.is_wanted(params.dry)
        self._is_greedy = is_greedy(params)
        self._filters = filters_of(params, coin)
        self._mirostat = (
            Mirostat(params.mirostat, params.mirostat_tau, params.mirostat_eta)
            if params.mirostat
            else None
        )
        self._adjusts = (
            self._penalties is not None
            or self._has_dry
            or constraint is not None
            or len(self._bias) > 0
            or self._bans.are_any
        )

    def sample(self, logits: np.ndarray) -> int:
        """Choose the next token from its row [n_vocab] float32, which is left unchanged.

        Raises:
            NothingAllowedError: the constraint and what is banned leave no token.
            NotNumbersError: the logits are none.
        """
        token = self._take_forced()
        if token is None:
            row = self._adjust(logits)
            try:
                token = self._choose(row)
            except NotNumbersError:
                if row.max() == -np.inf and logits.max() > -np.inf:
                    raise NothingAllowedError(
                        "no token may come next: what the constraint allows is forbidden "
                        "otherwise, or nothing is allowed"
                    ) from None
                raise
        self._history.append(token)
        if self._penalties is not None:
            self._penalties.accept(token)
        if self.constraint is not None:
            self.constraint.accept(token)
        return token

    def _take_forced(self) -> int | None:
        """What the constraint leaves no choice about, if that is known and nothing forbids it."""
        forced = self.constraint.forced() if self.constraint is not None else ()
        if not forced or self._bans.forbid(forced[0]):
            return None
        if not self._is_greedy:
            self._draw(_CERTAIN)
            self.drawn_from = None
        return forced[0]

    def _choose(self, row: np.ndarray) -> int:
        if self._is_greedy:
            token = int(row.argmax())
            checked_peak(float(row[token]))
            return token
        return self._draw(Candidates.of(row))

    def _draw(self, candidates: Candidates) -> int:
        for step in self._filters:
            candidates = step(candidates)
        if self._mirostat is not None:
            candidates = self._mirostat.cut(candidates)
        self.drawn_from = candidates
        token = candidates.draw(self._rng.random())
        if self._mirostat is not None:
            self._mirostat.observe(candidates.probability(token))
        return token

    def _adjust(self, logits: np.ndarray) -> np.ndarray:
        """Logits after bias, penalties, constraint and bans; the row itself without any."""
        if not self._adjusts:
            return logits
        row = logits.copy()
        row[self._bias_ids] += self._bias
        for stage in self.params.stages:
            if stage is Stage.PENALTIES and self._penalties is not None:
                self._penalties.apply(row)
            elif stage is Stage.DRY and self._has_dry:
                text = self._history.newest(self.params.dry.penalty_last_n)
                tokens, taken = dry.penalties(text, self.params.dry)
                row[tokens] -= taken
        if self.constraint is not None:
            self.constraint.mask(row)
        self._bans.apply(row)
        return row


def _penalises(params: SamplingParams) -> bool:
    return Stage.PENALTIES in params.stages and Penalties.are_wanted(params)
