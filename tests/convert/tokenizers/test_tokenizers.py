"""Converted vocabularies turn text into the tokens that the original tokenizers do."""

import json
from pathlib import Path

import pytest
import torch
from sentencepiece import SentencePieceProcessor
from tokenizers import Regex, Tokenizer, pre_tokenizers
from transformers import AutoTokenizer, LlamaTokenizerFast

from convert.errors import CheckpointError, UnsupportedModelError
from convert.model import ModelConversion, convert_model
from convert.outtypes import OutType
from convert.tokenizers.chat_templates import VICUNA
from convert.tokenizers.tokenizer import read_vocabulary
from medusa.llama.model import Model
from models import DEFAULT_MODEL, resolve
from tests.convert import tiny_checkpoints as tiny
from tests.convert.texts import NASTY
from tests.convert.tiny_tokenizers import (
    LLAMA3_SPLIT,
    byte_level_tokenizer,
    smollm2_tokenizer,
    write_sentencepiece,
    write_tokenizer_json,
)


def convert(folder: Path, n_vocab: int, name: str = "tiny") -> Model:
    model = tiny.tiny_llama(n_vocab, num_hidden_layers=1)
    tiny.write_config(folder, model)
    tiny.write_safetensors(folder, tiny.state_of(model, torch.float16))
    out = folder / "out.gguf"
    convert_model(ModelConversion(folder, out, OutType.F16, name))
    return Model(out)


@pytest.fixture(scope="module")
def sentencepiece_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sentencepiece")
    write_sentencepiece(folder)
    return folder


@pytest.fixture(scope="module")
def sentencepiece_model(sentencepiece_folder: Path) -> Model:
    return convert(sentencepiece_folder, 600)


@pytest.mark.parametrize("text", NASTY, ids=ascii)
def test_sentencepiece_text_becomes_the_same_tokens(
    text: str, sentencepiece_folder: Path, sentencepiece_model: Model
) -> None:
    reference = SentencePieceProcessor(str(sentencepiece_folder / "tokenizer.model"))
    assert sentencepiece_model.tokenize(text, add_special=False) == reference.encode(text)


def test_sentencepiece_specials(sentencepiece_model: Model) -> None:
    model = sentencepiece_model
    assert (model.bos_token, model.eos_token, model.adds_bos) == (1, 2, True)
    assert model.control_tokens == {1, 2}
    assert model.tokenize("</s>", add_special=False, parse_special=True) == [2]
    assert 2 not in model.tokenize("</s>", add_special=False)


def test_added_tokens_and_padding_of_a_sentencepiece_vocabulary(tmp_path: Path) -> None:
    write_sentencepiece(tmp_path)
    (tmp_path / "added_tokens.json").write_text(json.dumps({"[TOOL]": 600, "<|im_end|>": 601}))
    model = convert(tmp_path, 608)
    assert model.tokenize("[TOOL]<|im_end|>", add_special=False, parse_special=True) == [600, 601]
    assert model.control_tokens == {1, 2, 601}
    assert 607 not in model.tokenize("[PAD607]", parse_special=True)


@pytest.fixture(scope="module")
def fast_folder(sentencepiece_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same tokenizer as tokenizer.json alone, as TinyLlama's and Llama 2's copies have it."""
    folder = tmp_path_factory.mktemp("fast")
    tokenizer = LlamaTokenizerFast.from_pretrained(sentencepiece_folder)
    tokenizer.save_pretrained(folder)
    assert not (folder / "tokenizer.model").exists()
    return folder


@pytest.fixture(scope="module")
def fast_model(fast_folder: Path) -> Model:
    return convert(fast_folder, 600)


@pytest.mark.parametrize("text", NASTY, ids=ascii)
def test_tokenizer_json_alone_gives_the_same_tokens_as_sentencepiece(
    text: str, sentencepiece_folder: Path, fast_model: Model
) -> None:
    reference = SentencePieceProcessor(str(sentencepiece_folder / "tokenizer.model"))
    assert fast_model.tokenize(text, add_special=False) == reference.encode(text)


@pytest.fixture(scope="module", params=["gpt-2", "llama-3", "smollm2"])
def byte_level(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Tokenizer, Model]:
    """A byte-level tokenizer and the model converted with it."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "smollm2":
        tokenizer = smollm2_tokenizer(resolve(DEFAULT_MODEL).model)
        bos, eos = "<|im_start|>", "<|im_end|>"
    else:
        llama3 = pre_tokenizers.Split(Regex(LLAMA3_SPLIT), behavior="isolated")
        tokenizer = byte_level_tokenizer(llama3 if request.param == "llama-3" else None)
        bos, eos = "<|begin|>", "<|end|>"
    n_vocab = write_tokenizer_json(folder, tokenizer, bos, eos)
    return tokenizer, convert(folder, n_vocab)


@pytest.mark.parametrize("text", NASTY, ids=ascii)
def test_byte_level_text_becomes_the_same_tokens(
    text: str, byte_level: tuple[Tokenizer, Model]
) -> None:
    tokenizer, model = byte_level
    reference = tokenizer.encode(text, add_special_tokens=False).ids
    assert model.tokenize(text, add_special=False) == reference


def test_byte_level_specials(byte_level: tuple[Tokenizer, Model]) -> None:
    tokenizer, model = byte_level
    text = "<|im_start|>user\nHi there!<|im_start|>"
    assert (
        model.tokenize(text, add_special=False, parse_special=True)
        == tokenizer.encode(text, add_special_tokens=False).ids
    )
    assert tokenizer.id_to_token(model.bos_token) in ("<|begin|>", "<|im_start|>")


@pytest.mark.parametrize("text", [t for t in NASTY if t.strip() == t], ids=ascii)
def test_bos_and_tokens_equal_those_of_transformers(
    text: str, sentencepiece_folder: Path, sentencepiece_model: Model
) -> None:
    reference = AutoTokenizer.from_pretrained(sentencepiece_folder)
    assert sentencepiece_model.tokenize(text) == reference(text)["input_ids"]


def test_vicuna_gets_its_own_template_only_where_there_is_none(tmp_path: Path) -> None:
    n_vocab = write_sentencepiece(tmp_path)
    assert convert(tmp_path, n_vocab, "vicuna-7b-v1.3").chat_template == VICUNA
    assert convert(tmp_path, n_vocab, "some-llama").chat_template is None
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    assert convert(tmp_path, n_vocab, "vicuna-7b-v1.3").chat_template == "{{ messages }}"


def test_unknown_ways_to_split_text_are_refused_by_name(tmp_path: Path) -> None:
    tokenizer = byte_level_tokenizer(pre_tokenizers.Split(Regex("a+"), behavior="isolated"))
    write_tokenizer_json(tmp_path, tokenizer, "<|begin|>", "<|end|>")
    with pytest.raises(UnsupportedModelError, match=r"Split.*convert_hf_to_gguf"):
        read_vocabulary(tmp_path, 600)


def test_a_unigram_sentencepiece_model_is_refused(tmp_path: Path) -> None:
    from sentencepiece import SentencePieceTrainer

    from tests.convert.texts import CORPUS

    SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_prefix=str(tmp_path / "tokenizer"),
        model_type="unigram",
        vocab_size=200,
        minloglevel=2,
    )
    with pytest.raises(UnsupportedModelError, match="unigram"):
        read_vocabulary(tmp_path, 600)


@pytest.mark.parametrize("size", [0, 1, 100, 5000])
def test_a_damaged_sentencepiece_model_is_reported(size: int, tmp_path: Path) -> None:
    write_sentencepiece(tmp_path)
    path = tmp_path / "tokenizer.model"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CheckpointError, match=r"tokenizer\.model is damaged"):
        read_vocabulary(tmp_path, 600)


def test_more_tokens_than_the_model_has_are_reported(tmp_path: Path) -> None:
    write_sentencepiece(tmp_path)
    with pytest.raises(CheckpointError, match="token 512, the model only 512"):
        read_vocabulary(tmp_path, 512)


def test_no_tokenizer_at_all_is_reported(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"neither tokenizer\.model nor tokenizer\.json"):
        read_vocabulary(tmp_path, 512)
