"""POST /tokenize and /detokenize, in the words of llama-server and vLLM; GET /tokenizer_info."""

from typing import ClassVar

from fastapi import Request, Response
from pydantic import BaseModel, Field

from app.backend import Backend, spell
from app.dialects.bodies import TextOr, TextOrOther
from app.dialects.dialect import in_words, service_of
from app.dialects.fields import Fields, Matters
from app.dialects.openai.errors import OPENAI
from app.hosts import DEFAULT_ALIAS
from medusa.llama.vocabulary import check_token_ids

router = OPENAI.router()


class TokenizeBody(Fields):
    """Text to split into tokens."""

    unsupported: ClassVar[dict[str, Matters]] = {"messages": bool}

    content: TextOr[TextOrOther[int]] = Field("", description="Also a list of ids and texts.")
    prompt: str | None = Field(None, description="The text, as vLLM calls it.")
    model: str = DEFAULT_ALIAS
    add_special: bool = Field(False, description="Put BOS/EOS around it as the model does.")
    add_special_tokens: bool = Field(True, description="Likewise for `prompt`.")
    parse_special: bool = Field(True, description="Read special tokens as tokens, not as text.")
    with_pieces: bool = Field(False, description="Also return each token's text.")
    return_token_strs: bool = Field(False, description="Likewise for `prompt`.")


class TokenPiece(BaseModel):
    """A token and what it stands for: a text, or bytes that are part of a character."""

    id: int
    piece: str | list[int]


class Tokens(BaseModel):
    """Token ids, with their pieces if asked for."""

    tokens: list[int] | list[TokenPiece]


class PromptTokens(BaseModel):
    """Token ids as vLLM tells them."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None


class DetokenizeBody(Fields):
    """Tokens to join to a text."""

    tokens: list[int]
    model: str = DEFAULT_ALIAS


class Content(BaseModel):
    """The text of tokens: llama-server's name for it, and vLLM's."""

    content: str
    prompt: str


class TokenizerInfo(BaseModel):
    """What vLLM's clients ask about a tokenizer."""

    bos_token: str | None
    eos_token: str | None
    chat_template: str | None


@router.post("/tokenize", response_model=Tokens | PromptTokens, summary="Split text into tokens")
async def tokenize(body: TokenizeBody, request: Request) -> Response:
    """Token ids of a text."""
    in_vllms_words = body.prompt is not None
    with await service_of(request).hosts.use(body.model) as backend:
        tokens = await _tokens(body, backend)
        pieces, max_context = backend.pieces, backend.info.max_context

    def answer() -> Tokens | PromptTokens:
        if in_vllms_words:
            spelt = [spell(pieces, [t]) for t in tokens] if body.return_token_strs else None
            return PromptTokens(
                count=len(tokens), max_model_len=max_context, tokens=tokens, token_strs=spelt
            )
        if not body.with_pieces:
            return Tokens(tokens=tokens)
        shown = [TokenPiece(id=token, piece=_piece(pieces[token])) for token in tokens]
        return Tokens(tokens=shown)

    return await in_words(answer)


async def _tokens(body: TokenizeBody, backend: Backend) -> list[int]:
    """The tokens of its parts; what the model puts in front comes before a text that is first."""
    content, add_special = body.content, body.add_special
    if body.prompt is not None:
        content, add_special = body.prompt, body.add_special_tokens
    parts = [content] if isinstance(content, str) else content
    ids = [part for part in parts if isinstance(part, int)]
    check_token_ids(ids, backend.info.n_vocab, "content")
    texts = [part for part in parts if isinstance(part, str)]
    n_first = sum(isinstance(part, str) for part in parts[:1])
    spelled = await backend.tokenize(
        texts[:n_first], add_special=add_special, parse_special=body.parse_special
    )
    spelled += await backend.tokenize(
        texts[n_first:], add_special=False, parse_special=body.parse_special
    )
    of_texts = iter(spelled)
    lists = [[part] if isinstance(part, int) else next(of_texts) for part in parts]
    return [token for tokens in lists for token in tokens]


def _piece(piece: bytes) -> str | list[int]:
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return list(piece)


@router.post("/detokenize", response_model=Content, summary="Join tokens to text")
async def detokenize(body: DetokenizeBody, request: Request) -> Response:
    """Text of token ids."""
    with await service_of(request).hosts.use(body.model) as backend:
        check_token_ids(body.tokens, backend.info.n_vocab, "tokens")
        pieces = backend.pieces

    def answer() -> Content:
        text = spell(pieces, body.tokens)
        return Content(content=text, prompt=text)

    return await in_words(answer)


@router.get("/tokenizer_info", summary="Describe the tokenizer as vLLM does")
async def tokenizer_info(request: Request, model: str = DEFAULT_ALIAS) -> TokenizerInfo:
    """Its special tokens and the chat template; null: there is none."""
    with await service_of(request).hosts.use(model) as backend:
        info = backend.info
    return TokenizerInfo(
        bos_token=info.bos or None,
        eos_token=info.eos or None,
        chat_template=info.chat_template or None,
    )
