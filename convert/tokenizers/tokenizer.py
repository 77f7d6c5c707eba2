"""Finding a checkpoint's tokenizer and writing it into a GGUF."""

from pathlib import Path

import gguf

from convert.errors import CheckpointError
from convert.files.checkpoint import read_optional_json
from convert.tokenizers.sentencepiece import read_sentencepiece
from convert.tokenizers.tokenizer_json import added_tokens, read_tokenizer_json
from convert.tokenizers.vocabulary import AddedToken, Vocabulary

TOKENIZER_FILES = (
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "added_tokens.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
)
"""Every file that is looked at."""


def read_vocabulary(folder: Path, n_vocab: int) -> Vocabulary:
    """The vocabulary of tokenizer.model where there is one, else of tokenizer.json.

    Raises:
        CheckpointError: both are missing, one is damaged, or it has more tokens than the model.
        UnsupportedModelError: llama.cpp could not split text as this tokenizer does.
    """
    config = read_optional_json(folder / "tokenizer_config.json")
    if (folder / "tokenizer.model").is_file():
        vocabulary = read_sentencepiece(folder / "tokenizer.model", n_vocab)
        for token in [*_listed_tokens(folder), *added_tokens(folder), *_decoder_tokens(config)]:
            vocabulary.add(token)
    elif (folder / "tokenizer.json").is_file():
        vocabulary = read_tokenizer_json(folder / "tokenizer.json", n_vocab)
        for token in _decoder_tokens(config):
            vocabulary.add(token)
    else:
        raise CheckpointError(f"{folder} has neither tokenizer.model nor tokenizer.json")
    if vocabulary.kind == "llama" and isinstance(config.get("add_prefix_space"), bool):
        vocabulary.add_space_prefix = config["add_prefix_space"]
    return vocabulary


def write_tokenizer(
    writer: gguf.GGUFWriter, folder: Path, vocabulary: Vocabulary, default_template: str | None
) -> None:
    """Add the vocabulary, the ids of special tokens and the chat template to a GGUF.

    Args:
        writer: of the GGUF.
        folder: the checkpoint.
        vocabulary: what `read_vocabulary` found.
        default_template: Jinja source for a checkpoint that carries no template.

    Raises:
        CheckpointError: the special tokens are not described as they should be.
    """
    writer.add_tokenizer_model(vocabulary.kind)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.scores:
        writer.add_token_scores(vocabulary.scores)
    if vocabulary.merges:
        writer.add_token_merges(vocabulary.merges)
    if vocabulary.add_space_prefix is not None:
        writer.add_add_space_prefix(vocabulary.add_space_prefix)
    try:
        special = gguf.SpecialVocab(folder, n_vocab=len(vocabulary.tokens))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder}: the special tokens cannot be read: {error}") from None
    special.chat_template = special.chat_template or default_template
    special.add_to_gguf(writer, quiet=True)


def _listed_tokens(folder: Path) -> list[AddedToken]:
    listed = read_optional_json(folder / "added_tokens.json")
    return [AddedToken(int(token), text, special=False) for text, token in listed.items()]


def _decoder_tokens(config: dict[str, object]) -> list[AddedToken]:
    decoder = config.get("added_tokens_decoder")
    if not isinstance(decoder, dict):
        return []
    return [
        AddedToken(int(token), str(entry["content"]), bool(entry.get("special")))
        for token, entry in decoder.items()
    ]
