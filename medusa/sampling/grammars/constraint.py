"""A grammar as a constraint on tokens."""

import re
from collections import deque
from collections.abc import Callable, Sequence
from typing import Self

import numpy as np
from llguidance import LLMatcher

from medusa.sampling.constraints import ConstraintFailedError, CostlyConstraintError

_COSTLY = re.compile("(lexer|parser) error: |Parser Error: Current row has ")
"""How llguidance begins to tell that a step exceeds a limit."""


class GrammarConstraint:
    """Where in a grammar's text a request is.

    What the grammar forces is written in the tokens that the model's tokenizer would cut it into,
    also where others would spell the same: forced text is decoded at once then.

    llguidance's copies of a matcher share the states of its lexer, which are bounded: texts of
    others may use them up. Who meets the bound goes on with a matcher that shares nothing, once.

    Args:
        matcher: at the grammar's start, or where `accepted` leads; taken over.
        end_token: what ends a text that is complete.
        alone: makes a matcher at the start that shares nothing; None: this one shares nothing.
        accepted: the text so far.
        forced: what must come next, as far as it is known.
    """

    def __init__(
        self,
        matcher: LLMatcher,
        end_token: int,
        alone: Callable[[], LLMatcher] | None,
        accepted: Sequence[int] = (),
        forced: Sequence[int] = (),
    ) -> None:
        self._matcher = matcher
        self._end_token = end_token
        self._alone = alone
        self._accepted = list(accepted)
        self._forced = deque(forced)
        self._looked = bool(forced)  # for what is forced at this place

    def mask(self, row: np.ndarray) -> None:
        """See TokenConstraint.

        Raises:
            CostlyConstraintError: the grammar is too complex at this place.
        """
        forced = self.forced()
        if forced:
            token = forced[0]
            kept = row[token]
            row[:] = -np.inf
            row[token] = kept
            return
        bits = np.zeros((len(row) + 31) // 32, np.uint32)
        self._matcher.unsafe_compute_mask_ptr(bits.ctypes.data, bits.nbytes)
        if self._recovered():
            self._looked = False
            self.mask(row)
            return
        np.invert(bits, out=bits)
        banned = np.unpackbits(bits.view(np.uint8), count=len(row), bitorder="little")
        np.putmask(row, banned.view(np.bool_), -np.inf)

    def accept(self, token: int) -> None:
        """See TokenConstraint.

        Raises:
            CostlyConstraintError: see `mask`.
            ConstraintFailedError: the grammar does not allow the token.
        """
        if self._forced:
            expected = self._forced.popleft()
            if token != expected:
                self._forced.clear()
        self._looked = bool(self._forced) or token == self._end_token  # nothing comes after it
        self._accepted.append(token)
        self._matcher.consume_token(token)
        self._recovered()

    def forced(self) -> Sequence[int]:
        """See TokenConstraint."""
        if not self._looked:
            self._looked = True
            if self._matcher.is_stopped():
                self._forced.append(self._end_token)
            else:
                self._forced.extend(self._matcher.compute_ff_tokens())
        return self._forced

    def allows(self, token: int) -> bool:
        """See TokenConstraint."""
        forced = self.forced()
        return token == forced[0] if forced else self._matcher.validate_tokens([token]) == 1

    def fork(self) -> Self:
        """See TokenConstraint."""
        matcher = self._matcher.deep_copy()
        return type(self)(matcher, self._end_token, self._alone, self._accepted, self._forced)

    def _recovered(self) -> bool:
        """Whether the matcher had failed, and another one is at the same place now.

        Raises:
            CostlyConstraintError: the limit is exceeded without others' texts, too.
            ConstraintFailedError: it failed for another reason.
        """
        if not self._matcher.is_error():
            return False
        reason = self._matcher.get_error().partition("\n<state>")[0]
        if not _COSTLY.match(reason):
            raise ConstraintFailedError(reason)
        if self._alone is None:
            raise CostlyConstraintError(
                f"in the middle of the answer its grammar takes more work than it may: {reason}"
            )
        self._matcher, self._alone = self._alone(), None
        self._matcher.consume_tokens(self._accepted)
        self._recovered()
        return True
