"""A model's vocabulary as llguidance needs it."""

import ctypes

from llguidance import LLTokenizer

from medusa.errors import InvalidRequestError
from medusa.llama import runtime
from medusa.llama.vocabulary import Vocabulary

_MARKUP = b"\xff"
"""In front of tokens that are no text: a grammar's strings then cannot contain them."""


def grammar_tokenizer(vocabulary: Vocabulary) -> LLTokenizer:
    """The tokens' bytes, and llama.cpp's tokenizer, which cuts forced texts.

    Raises:
        InvalidRequestError: no token ends a text.
    """
    llama_cpp = runtime.load().llama_cpp
    vocab, eos = vocabulary.vocab_handle, vocabulary.eos_token
    ends = sorted(vocabulary.eog_tokens, key=lambda token: (token != eos, token))
    if not ends:
        raise InvalidRequestError("this model has no token that could end a structured answer")

    def is_markup(token: int, piece: bytes) -> bool:
        attributes = llama_cpp.llama_vocab_get_attr(vocab, token)
        return bool(
            attributes & llama_cpp.LLAMA_TOKEN_ATTR_CONTROL
            or (
                attributes & llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED
                and piece.startswith(b"<")
                and piece.endswith(b">")
            )
        )

    pieces = enumerate(vocabulary.pieces)
    # What llguidance.llamacpp.lltokenizer_from_vocab does, by functions that are not deprecated.
    return LLTokenizer.from_llamacpp(  # type: ignore[attr-defined]
        tokens=[_MARKUP + piece if is_markup(token, piece) else piece for token, piece in pieces],
        vocab_ptr=vocab,
        tokenize_fptr=ctypes.cast(llama_cpp.llama_tokenize, ctypes.c_void_p).value,
        eos_token=ends,
        slices=None,
    )
