"""llama.cpp's samplers as they are, beside which ours are measured and tested."""

import ctypes
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np

from medusa.llama import runtime
from medusa.sampling.params import SamplingParams, Stage


class LlamaChain:
    """llama.cpp's chain for settings, in the order of their stages.

    Args:
        params: the settings; seed must be set where XTC tosses coins.
        n_vocab: tokens.
        accepted: tokens that penalties and DRY look back at.
        vocab: a llama_vocab, if DRY is to have breakers.
        breakers: texts.
        draws: whether a draw is at its end, as in llama-server; mirostat draws in any case.
    """

    def __init__(
        self,
        params: SamplingParams,
        n_vocab: int,
        accepted: Iterable[int] = (),
        vocab: Any = None,
        breakers: Sequence[str] = (),
        draws: bool = False,
    ) -> None:
        self._lib = runtime.load().llama_cpp
        self._chain = self._lib.llama_sampler_chain_init(
            self._lib.llama_sampler_chain_default_params()
        )
        stages = (Stage.TEMPERATURE,) if params.mirostat else params.stages
        for stage in stages:
            sampler = self._sampler(params, stage, n_vocab, vocab, breakers)
            self._lib.llama_sampler_chain_add(self._chain, sampler)
        if params.mirostat or draws:
            self._lib.llama_sampler_chain_add(self._chain, self._last(params, n_vocab))
        for token in accepted:
            self._lib.llama_sampler_accept(self._chain, token)
        self._data = (self._lib.llama_token_data * n_vocab)()
        kind = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
        self._view = np.frombuffer(self._data, kind)
        self._ids = np.arange(n_vocab, dtype=np.int32)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lib.llama_sampler_free(self._chain)

    def apply(self, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What is left of a row [n_vocab] float32: ids [n] and logits [n], in llama.cpp's order."""
        self._view["id"], self._view["logit"] = self._ids, row
        pointer = ctypes.cast(self._data, ctypes.POINTER(self._lib.llama_token_data))
        array = self._lib.llama_token_data_array(pointer, len(row), -1, False)
        self._lib.llama_sampler_apply(self._chain, ctypes.byref(array))
        size = ctypes.sizeof(self._lib.llama_token_data)
        start = (ctypes.addressof(array.data.contents) - ctypes.addressof(self._data)) // size
        left = self._view[start : start + array.size]
        return left["id"], left["logit"]

    def _last(self, params: SamplingParams, n_vocab: int) -> Any:
        lib, seed = self._lib, params.seed or 0
        tau, eta = params.mirostat_tau, params.mirostat_eta
        match params.mirostat:
            case 1:
                return lib.llama_sampler_init_mirostat(n_vocab, seed, tau, eta, 100)
            case 2:
                return lib.llama_sampler_init_mirostat_v2(seed, tau, eta)
            case _:
                return lib.llama_sampler_init_dist(seed)

    def _sampler(
        self,
        params: SamplingParams,
        stage: Stage,
        n_vocab: int,
        vocab: Any,
        breakers: Sequence[str],
    ) -> Any:
        lib, keep = self._lib, params.min_keep
        match stage:
            case Stage.PENALTIES:
                return lib.llama_sampler_init_penalties(
                    n_vocab,
                    params.penalty_last_n,
                    params.repetition_penalty,
                    params.frequency_penalty,
                    params.presence_penalty,
                )
            case Stage.DRY:
                texts = (ctypes.c_char_p * len(breakers))(*(text.encode() for text in breakers))
                dry = params.dry
                return lib.llama_sampler_init_dry(
                    vocab,
                    dry.multiplier,
                    dry.base,
                    dry.allowed_length,
                    dry.penalty_last_n,
                    ctypes.cast(texts, ctypes.POINTER(ctypes.c_char_p)),
                    len(breakers),
                )
            case Stage.TOP_N_SIGMA:
                return lib.llama_sampler_init_top_n_sigma(params.top_n_sigma)
            case Stage.TOP_K:
                return lib.llama_sampler_init_top_k(params.top_k)
            case Stage.TYPICAL_P:
                return lib.llama_sampler_init_typical(params.typical_p, keep)
            case Stage.TOP_P:
                return lib.llama_sampler_init_top_p(params.top_p, keep)
            case Stage.MIN_P:
                return lib.llama_sampler_init_min_p(params.min_p, keep)
            case Stage.XTC:
                return lib.llama_sampler_init_xtc(
                    params.xtc_probability, params.xtc_threshold, keep, params.seed
                )
            case Stage.TEMPERATURE:
                return lib.llama_sampler_init_temp_ext(
                    params.temperature, params.dynatemp_range, params.dynatemp_exponent
                )
