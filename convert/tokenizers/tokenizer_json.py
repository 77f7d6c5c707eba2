"""Reading tokenizer.json, the file of Hugging Face's `tokenizers`."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf

from convert.errors import CheckpointError, UnsupportedModelError
from convert.files.checkpoint import read_json
from convert.tokenizers.vocabulary import AddedToken, Vocabulary

_BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")

_GPT2_SPLIT = "gpt-2"
_SPLITS = {
    # Llama 3
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+": "llama-bpe",
    # Qwen 2, used by some Llama-shaped models
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+": "qwen2",
    # Tekken: Mistral NeMo
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|"
    r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+": "tekken",
}
"""Regular expressions that split text before merging, and llama.cpp's name for each."""


def added_tokens(folder: Path) -> list[AddedToken]:
    """The added tokens of tokenizer.json, none where there is no such file.

    Raises:
        CheckpointError: the file is damaged.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        return []
    return _Reader(path).added_tokens()


def read_tokenizer_json(path: Path, n_vocab: int) -> Vocabulary:
    """The vocabulary, padded to the model's n_vocab tokens.

    Raises:
        CheckpointError: the file is missing, damaged, or has more tokens than the model.
        UnsupportedModelError: llama.cpp could not split text as this tokenizer does.
    """
    return _Reader(path).read(n_vocab)


class _Reader:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._json = read_json(path)
        self._model: dict[str, Any] = self._json.get("model") or {}

    def read(self, n_vocab: int) -> Vocabulary:
        if self._model.get("type", "BPE") != "BPE":
            raise UnsupportedModelError(f"a tokenizer of type {self._model['type']}")
        vocab = self._model.get("vocab")
        if not isinstance(vocab, dict) or not isinstance(self._model.get("merges"), list):
            raise CheckpointError(f"{self._path} is damaged: it lacks the vocabulary or the merges")
        if self._model.get("byte_fallback"):
            vocabulary = self._sentencepiece_like(vocab, n_vocab)
        else:
            vocabulary = self._byte_level(vocab, n_vocab)
        for token in self.added_tokens():
            vocabulary.add(token)
        return vocabulary

    def added_tokens(self) -> list[AddedToken]:
        try:
            return [
                AddedToken(int(entry["id"]), str(entry["content"]), bool(entry.get("special")))
                for entry in self._json.get("added_tokens") or []
            ]
        except (KeyError, TypeError, ValueError):
            raise CheckpointError(f"{self._path} is damaged: its added tokens are") from None

    def _byte_level(self, vocab: dict[str, int], n_vocab: int) -> Vocabulary:
        vocabulary = Vocabulary.blank("gpt2", self._split_name(), n_vocab)
        for text, token in vocab.items():
            vocabulary.set(token, text.encode(), gguf.TokenType.NORMAL)
        vocabulary.merges = [f"{left} {right}" for left, right in self._merges()]
        return vocabulary

    def _sentencepiece_like(self, vocab: dict[str, int], n_vocab: int) -> Vocabulary:
        """Rebuild SentencePiece's scores: of two merges, the one listed first scores higher."""
        vocabulary = Vocabulary.blank("llama", "default", n_vocab)
        ranks: dict[str, int] = {}
        for left, right in self._merges():
            ranks.setdefault(left + right, len(ranks))
        unknown = self._model.get("unk_token")
        for text, token in vocab.items():
            if text == unknown:
                kind = gguf.TokenType.UNKNOWN
            elif _BYTE_TOKEN.fullmatch(text):
                kind = gguf.TokenType.BYTE
            else:
                kind = gguf.TokenType.NORMAL
            vocabulary.set(token, text.encode(), kind, -float(ranks.get(text, len(vocab) + token)))
        vocabulary.add_space_prefix = self._adds_space_prefix()
        return vocabulary

    def _merges(self) -> Iterator[tuple[str, str]]:
        """Pairs of tokens; written as "a b" by older versions, as ["a", "b"] by newer ones."""
        for merge in self._model["merges"]:
            pair = merge.split(" ") if isinstance(merge, str) else merge
            if not isinstance(pair, list) or len(pair) != 2:
                raise CheckpointError(f"{self._path} is damaged: it has the merge {merge!r}")
            yield str(pair[0]), str(pair[1])

    def _adds_space_prefix(self) -> bool:
        normalizers = _flatten(self._json.get("normalizer"), "normalizers")
        splitters = _flatten(self._json.get("pre_tokenizer"), "pretokenizers")
        if any(step.get("type") == "Prepend" for step in normalizers):
            return True
        return any(
            step.get("type") == "Metaspace"
            and step.get("prepend_scheme", "always") != "never"
            and step.get("add_prefix_space", True)
            for step in splitters
        )

    def _split_name(self) -> str:
        """llama.cpp's name for the way this tokenizer splits text before merging."""
        if self._json.get("normalizer"):
            kinds = _flatten(self._json["normalizer"], "normalizers")
            raise UnsupportedModelError(f"a tokenizer that normalises text ({_describe(kinds)})")
        steps = _flatten(self._json.get("pre_tokenizer"), "pretokenizers")
        name = _match_split(steps)
        if name is None:
            raise UnsupportedModelError(f"a tokenizer that splits text by {_describe(steps)}")
        return name


def _match_split(steps: list[dict[str, Any]]) -> str | None:
    if not steps or steps[-1].get("type") != "ByteLevel" or steps[-1].get("add_prefix_space"):
        return None
    first, own_regex = steps[0], steps[-1].get("use_regex", True)
    match len(steps), first.get("type"):
        case 1, "ByteLevel" if own_regex:
            return _GPT2_SPLIT
        case 2, "Digits" if own_regex and first.get("individual_digits"):
            return "smollm"
        case 2, "Split" if not own_regex and first.get("behavior") == "Isolated":
            pattern = first.get("pattern") or {}
            return _SPLITS.get(str(pattern.get("Regex")))
    return None


def _flatten(step: Any, children: str) -> list[dict[str, Any]]:
    """The steps of a normalizer or pre-tokenizer, which may be a sequence, one step or nothing."""
    if not isinstance(step, dict):
        return []
    if step.get("type") == "Sequence":
        return [inner for child in step.get(children) or [] for inner in _flatten(child, children)]
    return [step]


def _describe(steps: list[dict[str, Any]]) -> str:
    return " + ".join(str(step.get("type")) for step in steps) or "nothing"
