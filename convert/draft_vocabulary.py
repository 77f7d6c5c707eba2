"""Which tokens heads should be able to propose, where they are limited to some.

Limiting them never changes what is generated: every proposal is verified against the model's
whole vocabulary, and a token that cannot be proposed is only found a step later.
"""

from collections import Counter
from collections.abc import Iterable

import numpy as np

from medusa.llama.model import Model


def choose_draft_tokens(model: Model, n_tokens: int, text: str = "") -> np.ndarray:
    """The n_tokens tokens that are likely to be the most frequent.

    First those of `text`, the most frequent first; then, as nothing better is known, the tokens
    that end an answer, single ASCII characters, and the rest by id: vocabularies are numbered in
    the order of merging, which starts with the most frequent pairs.

    Returns:
        [n_tokens] int32, ascending; fewer where the vocabulary is smaller.
    """
    counts = Counter(model.tokenize(text, add_special=False))
    order: Iterable[int] = dict.fromkeys(
        [
            *(token for token, _ in counts.most_common()),
            *sorted(model.eog_tokens),
            *_ascii_tokens(model),
            *range(model.n_vocab),
        ]
    )
    useless = model.control_tokens - model.eog_tokens
    chosen = [token for token in order if token not in useless][:n_tokens]
    return np.sort(np.array(chosen, np.int32))


def _ascii_tokens(model: Model) -> list[int]:
    """One token for each ASCII character; the later one where a byte token says the same."""
    by_piece = {piece: token for token, piece in enumerate(model.pieces) if len(piece) == 1}
    return [token for piece, token in by_piece.items() if piece.isascii()]
