"""POST /tokenize and /detokenize."""

from fastapi import Request, Response
from pydantic import BaseModel, Field

from app.backend import spell
from app.dialects.dialect import in_words, service_of
from app.dialects.fields import Fields
from app.dialects.limited import Text
from app.dialects.openai.errors import OPENAI
from app.hosts import DEFAULT_ALIAS
from medusa.llama.vocabulary import check_token_ids

router = OPENAI.router()


class TokenizeBody(Fields):
    """Text to split into tokens."""

    content: Text = ""
    model: str = DEFAULT_ALIAS
    add_special: bool = Field(False, description="Put BOS/EOS around it as the model does.")
    parse_special: bool = Field(True, description="Read special tokens as tokens, not as text.")
    with_pieces: bool = Field(False, description="Also return each token's text.")


class TokenPiece(BaseModel):
    """A token and what it stands for: a text, or bytes that are part of a character."""

    id: int
    piece: str | list[int]


class Tokens(BaseModel):
    """Token ids, with their pieces if asked for."""

    tokens: list[int] | list[TokenPiece]


class DetokenizeBody(Fields):
    """Tokens to join to a text."""

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
        shown = [TokenPiece(id=token, piece=_piece(pieces[token])) for token in tokens]
        return Tokens(tokens=shown)

    return await in_words(answer)


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
    return await in_words(lambda: Content(content=spell(pieces, body.tokens)))
