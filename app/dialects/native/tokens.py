"""POST /tokenize and /detokenize."""

from fastapi import Request, Response
from pydantic import BaseModel, ConfigDict, Field

from app.backend import spell
from app.dialects.dialect import in_words, service_of
from app.dialects.openai.errors import OPENAI
from app.hosts import DEFAULT_ALIAS
from medusa.llama.vocabulary import check_token_ids

router = OPENAI.router()


class TokenizeBody(BaseModel):
    """Text to split into tokens."""

    model_config = ConfigDict(extra="forbid")

    content: str
    model: str = DEFAULT_ALIAS
    add_special: bool = Field(False, description="Put BOS/EOS around it as the model does.")
    parse_special: bool = Field(True, description="Read special tokens as tokens, not as text.")
    with_pieces: bool = Field(False, description="Also return each token's text.")


class Tokens(BaseModel):
    """Token ids, and their texts if asked for."""

    tokens: list[int]
    pieces: list[str] | None = None


class DetokenizeBody(BaseModel):
    """Tokens to join to a text."""

    model_config = ConfigDict(extra="forbid")

    tokens: list[int]
    model: str = DEFAULT_ALIAS


class Content(BaseModel):
    """The text of tokens."""

    content: str


@router.post("/tokenize", response_model=Tokens, summary="Split text into tokens")
async def tokenize(body: TokenizeBody, request: Request) -> Response:
    """Token ids of a text."""
    with await service_of(request).hosts.use(body.model) as backend:
        (tokens,) = await backend.tokenize(
            [body.content], add_special=body.add_special, parse_special=body.parse_special
        )
        pieces = backend.pieces

    def answer() -> Tokens:
        if not body.with_pieces:
            return Tokens(tokens=tokens)
        return Tokens(tokens=tokens, pieces=[spell(pieces, [token]) for token in tokens])

    return await in_words(answer)


@router.post("/detokenize", response_model=Content, summary="Join tokens to text")
async def detokenize(body: DetokenizeBody, request: Request) -> Response:
    """Text of token ids."""
    with await service_of(request).hosts.use(body.model) as backend:
        check_token_ids(body.tokens, backend.info.n_vocab, "tokens")
        pieces = backend.pieces
    return await in_words(lambda: Content(content=spell(pieces, body.tokens)))
