"""What a model says of one request alone: llama.cpp with a context for this request only.

The prompt is one decode, each token of the answer another; nothing of the engine takes part but
the sampler.
"""

import random
from dataclasses import dataclass

import numpy as np

from medusa.engine.events import FinishReason
from medusa.engine.requests import GenerationRequest
from medusa.llama import runtime
from medusa.llama.batch import Batch
from medusa.llama.model import Model
from medusa.sampling.sampler import Sampler
from medusa.text.pieces import TextStream
from tests.architectures.numerics import AS_SERVED, Numerics
from tests.architectures.requests import random_tokens

_LONGEST = 256
"""Tokens of a prompt and its answer."""
_TRIES = 10


@dataclass(frozen=True)
class Expected:
    """An answer and what it was chosen from."""

    request: GenerationRequest
    tokens: list[int]  # the end token included
    prompt_logits: np.ndarray  # [n_prompt - 1, n_vocab] of the prompt's tokens but the first
    logits: np.ndarray  # [n_tokens, n_vocab] that the tokens were chosen from
    text: str
    reason: FinishReason

    @property
    def answer(self) -> list[int]:
        """The tokens without the end token."""
        return self.tokens[: -1 if self.reason is FinishReason.STOP else None]


def make_sampler(request: GenerationRequest, model: Model) -> Sampler:
    forbidden = model.eog_tokens if request.ignore_eos else frozenset()
    return Sampler(request.sampling, list(request.prompt), forbidden)


def evaluate(model: Model, request: GenerationRequest, numerics: Numerics = AS_SERVED) -> Expected:
    """Generate an answer, `max_tokens` long unless the model ends it."""
    assert request.max_tokens is not None
    sampler = make_sampler(request, model)
    context = _Context(model, numerics)
    prompt = request.prompt
    rows = context.decode(prompt, 0)
    tokens: list[int] = []
    chosen_from: list[np.ndarray] = []
    row, reason = rows[-1], FinishReason.LENGTH
    while len(tokens) < request.max_tokens:
        chosen_from.append(row)
        tokens.append(sampler.sample(row))
        if tokens[-1] in model.eog_tokens:
            reason = FinishReason.STOP
            break
        if len(tokens) < request.max_tokens:
            row = context.decode(tokens[-1:], len(prompt) + len(tokens) - 1)[0]
    context.close()
    stream = TextStream(request.stop)
    shown = [token for token in tokens if token not in model.control_tokens]
    text = "".join(stream.feed(model.pieces[token]).text for token in shown) + stream.finish().text
    return Expected(request, tokens, rows[:-1], np.array(chosen_from), text, reason)


def depends_on_the_batch(model: Model, numerics: Numerics = AS_SERVED) -> bool:
    """Whether any logit is another one when its token is decoded alone than with others."""
    dice = random.Random(0)
    for _ in range(_TRIES):
        prompt = random_tokens(dice, _LONGEST // 4)
        together, one_by_one = _Context(model, numerics), _Context(model, numerics)
        rows = together.decode(prompt, 0)
        alone = [one_by_one.decode([token], i)[0] for i, token in enumerate(prompt)]
        together.close()
        one_by_one.close()
        if not np.array_equal(rows, np.array(alone)):
            return True
    return False


class _Context:
    """A llama_context of one sequence, with llama.cpp's own defaults wherever they do."""

    def __init__(self, model: Model, numerics: Numerics) -> None:
        self._lib = llama_cpp = runtime.load().llama_cpp
        self._n_vocab = model.n_vocab
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = _LONGEST
        params.n_threads = params.n_threads_batch = 1
        kind = getattr(llama_cpp, f"GGML_TYPE_{numerics.cache_type.name}")
        params.type_k = params.type_v = kind
        params.flash_attn_type = (
            llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
            if numerics.flash_attention
            else llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )
        self._handle = llama_cpp.llama_init_from_model(model.handle, params)
        self._batch = Batch(_LONGEST, 1)

    def decode(self, tokens: tuple[int, ...] | list[int], position: int) -> np.ndarray:
        """Logits [n_tokens, n_vocab] after each token."""
        self._batch.clear()
        self._batch.add_run(tokens, position, [0], output=True)
        assert self._lib.llama_decode(self._handle, self._batch.as_struct()) == 0
        pointer = self._lib.llama_get_logits(self._handle)
        return np.ctypeslib.as_array(pointer, (len(tokens), self._n_vocab)).copy()

    def close(self) -> None:
        self._lib.llama_free(self._handle)
