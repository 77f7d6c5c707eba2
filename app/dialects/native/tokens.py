"""POST /tokenize and /detokenize."""

from fastapi import Request, Response
from pydantic import BaseModel, Field

from app.backend import Backend, spell
from app.dialects.bodies import TextOr, TextOrOther
from app.dialects.dialect import in_words, service_of
from app.dialects.fields import Fields
from app.dialects.openai.errors import OPENAI
from app.hosts import DEFAULT_ALIAS
from medusa.llama.vocabulary import check_token_ids

router = OPENAI.router()


class TokenizeBody(Fields):
    """Text to split into tokens."""

    content: TextOr[TextOrOther[int]] = Field("", description="Also a list of ids and texts.")
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
        tokens = await _tokens(body, backend)
        pieces = backend.pieces

    def answer() -> Tokens:
        if not body.with_pieces:
            return Tokens(tokens=tokens)
        shown = [TokenPiece(id=token, piece=_piece(pieces[token])) for token in tokens]
        return Tokens(tokens=shown)

    return await in_words(answer)


async def _tokens(body: TokenizeBody, backend: Backend) -> list[int]:
    """The tokens of its parts; what the model puts in front comes before a text that is first."""
    parts = [body.content] if isinstance(body.content, str) else body.content
    ids = [part for part in parts if isinstance(part, int)]
    check_token_ids(ids, backend.info.n_vocab, "content")
    texts = [part for part in parts if isinstance(part, str)]
    n_first = sum(isinstance(part, str) for part in parts[:1])
    spelled = await backend.tokenize(
        texts[:n_first], add_special=body.add_special, parse_special=body.parse_special
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
    return await in_words(lambda: Content(content=spell(pieces, body.tokens)))
