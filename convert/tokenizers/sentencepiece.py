"""Reading tokenizer.model, SentencePiece's file, which is a protocol buffer.

Only the fields needed are decoded. Field numbers: sentencepiece_model.proto of SentencePiece.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

import gguf

from convert.errors import CheckpointError, UnsupportedModelError
from convert.tokenizers.vocabulary import Vocabulary

_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3
_PIECE_TEXT, _PIECE_SCORE, _PIECE_TYPE = 1, 2, 3
_TRAINER_MODEL_TYPE, _BPE, _MODEL_TYPES = 3, 2, {1: "unigram", 3: "word", 4: "char"}
_NORMALIZER_ADD_DUMMY_PREFIX = 3


def read_sentencepiece(path: Path, n_vocab: int) -> Vocabulary:
    """The vocabulary of a SentencePiece BPE model, padded to the model's n_vocab tokens.

    Raises:
        CheckpointError: the file is damaged or has more tokens than the model.
        UnsupportedModelError: it is not a BPE model.
    """
    vocabulary = Vocabulary.blank("llama", "default", n_vocab)
    vocabulary.add_space_prefix = True
    model_type = 1
    token = 0
    try:
        for field, content in _fields(path.read_bytes()):
            if field == _PIECES:
                vocabulary.set(token, *_piece(bytes(content)))
                token += 1
            elif field == _TRAINER:
                model_type = int(dict(_fields(bytes(content))).get(_TRAINER_MODEL_TYPE, 1))
            elif field == _NORMALIZER:
                settings = dict(_fields(bytes(content)))
                vocabulary.add_space_prefix = bool(settings.get(_NORMALIZER_ADD_DUMMY_PREFIX, 1))
    except (IndexError, struct.error, TypeError, ValueError):
        raise CheckpointError(f"{path} is damaged: not a SentencePiece model") from None
    if token == 0:
        raise CheckpointError(f"{path} is damaged: it holds no tokens")
    if model_type != _BPE:
        kind = _MODEL_TYPES.get(model_type, str(model_type))
        raise UnsupportedModelError(f"a SentencePiece tokenizer of type {kind}")
    return vocabulary


def _piece(data: bytes) -> tuple[bytes, gguf.TokenType, float]:
    fields = dict(_fields(data))
    (score,) = struct.unpack("<f", bytes(fields.get(_PIECE_SCORE, bytes(4))))
    kind = gguf.TokenType(int(fields.get(_PIECE_TYPE, 1)))  # numbered as in SentencePiece
    return bytes(fields[_PIECE_TEXT]), kind, score


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field numbers and contents of a message: a number, or bytes for all other wire types."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        field, wire_type = key >> 3, key & 7
        if wire_type == 0:
            value, position = _varint(data, position)
            yield field, value
            continue
        if wire_type == 2:
            length, position = _varint(data, position)
        else:
            length = {1: 8, 5: 4}[wire_type] if wire_type in (1, 5) else -1
        if length < 0 or position + length > len(data):
            raise ValueError("damaged message")
        yield field, data[position : position + length]
        position += length


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """A variable-length integer: seven bits a byte, the lowest first. Returns it and its end."""
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
        shift += 7
