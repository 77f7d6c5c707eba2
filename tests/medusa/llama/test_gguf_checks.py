"""Damaged GGUFs: one clear line, before llama.cpp sees them."""

import struct
from pathlib import Path

import gguf
import pytest

from medusa.errors import ModelLoadError
from medusa.llama.gguf_checks import check_model
from medusa.llama.gguf_files import GgufFile
from medusa.llama.gguf_header import TOKENS, read_header
from medusa.llama.model import Model
from tests.app.tiny_model import write_tiny_model


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.gguf"
    write_tiny_model(path)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ModelLoadError) as caught:
        Model(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def replace(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def test_a_whole_file_passes(path: Path) -> None:
    header = read_header(path)
    assert header.metadata["general.name"] == "tiny"
    assert len(header.metadata[TOKENS]) == header.metadata["llama.vocab_size"]
    assert {"token_embd.weight", "blk.0.ffn_down.weight"} <= {t.name for t in header.tensors}
    check_model(path)


def test_a_file_that_ends_too_early_is_refused_wherever_it_ends(path: Path) -> None:
    data = path.read_bytes()
    for size in (*range(0, 6000, 37), len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        refusal(path)


def test_an_incomplete_download_is_called_that(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])
    assert "was it downloaded completely?" in refusal(path)


@pytest.mark.parametrize("length", [2**60, 2**63, 2**64 - 1, 10**6])
@pytest.mark.parametrize("before", [b"GGUF\3\0\0\0", b"tokenizer.ggml.tokens\x09\0\0\0\x08\0\0\0"])
def test_counts_and_lengths_beyond_the_end_are_refused(
    path: Path, before: bytes, length: int
) -> None:
    data = path.read_bytes()
    at = data.index(before) + len(before)
    for place in (at, at + 8):  # a count, then another one or a length
        damaged = bytearray(data)
        damaged[place : place + 8] = struct.pack("<Q", length)
        path.write_bytes(damaged)
        refusal(path)
        with pytest.raises(ModelLoadError, match="is damaged"):
            GgufFile(path)  # as heads are read


def test_a_token_that_is_there_twice_is_named(path: Path) -> None:
    replace(path, text("A") + text("B"), text("C") + text("B"))
    assert "has the token 'C' 2 times" in refusal(path)


def test_a_token_counts_as_c_reads_it(path: Path) -> None:
    replace(path, text("ab") + text("cd"), text("A\0") + text("cd"))
    assert "has the token 'A' 2 times" in refusal(path)


def test_tokens_without_a_text_are_told_apart(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data.replace(text("A") + text("B"), text("") + text("") + b"\0\0"))
    with pytest.raises(ModelLoadError, match="damaged"):  # two bytes too many, but no assertion
        check_model(path)


@pytest.mark.parametrize(
    ("key", "layout", "value", "message"),
    [
        ("llama.block_count", "<I", 0, "is 0, not from 1 to 512"),
        ("llama.block_count", "<I", 2**32 - 1, "is 4294967295, not from 1 to 512"),
        ("llama.attention.layer_norm_rms_epsilon", "<f", -1.0, "is -1.0, not a number from 0"),
        ("llama.attention.layer_norm_rms_epsilon", "<f", float("nan"), "is nan, not a number"),
    ],
)
def test_values_that_llama_cpp_aborts_on_are_refused(
    path: Path, key: str, layout: str, value: float, message: str
) -> None:
    data = bytearray(path.read_bytes())
    at = data.index(key.encode()) + len(key) + 4
    struct.pack_into(layout, data, at, value)
    path.write_bytes(data)
    assert message in refusal(path)


@pytest.mark.parametrize(
    ("experts", "message"),
    [
        ((2000, 2, 0), "expert_count is 2000"),
        ((8, 9, 0), "expert_used_count is 9, not from 1 to 8"),
        ((8, 0, 0), "expert_used_count is 0, not from 1 to 8"),
        ((0, 2, 0), "expert_used_count is 2, not from 0 to 0"),
        ((8, 2, 8), "expert_group_count is 8, not from 0 to 7"),
        ((8, 2, 3), "expert_group_count is 3, but there are 8 experts"),
    ],
)
def test_experts_that_cannot_be_are_refused(
    tmp_path: Path, experts: tuple[int, int, int], message: str
) -> None:
    path = tmp_path / "experts.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_expert_count(experts[0])
    writer.add_expert_used_count(experts[1])
    writer.add_expert_group_count(experts[2])
    writer.add_expert_group_used_count(1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    assert message in refusal(path)


def test_a_tensor_elsewhere_or_of_no_type_is_refused(path: Path) -> None:
    data = bytearray(path.read_bytes())
    at = data.index(b"output_norm.weight") + len("output_norm.weight") + 4 + 8
    for place, value, message in ((at, 4000, "unknown type 4000"), (at + 4, 64, "is not where")):
        damaged = bytearray(data)
        struct.pack_into("<I", damaged, place, value)
        path.write_bytes(damaged)
        assert message in refusal(path)


def test_every_part_of_a_split_model_is_checked(tmp_path: Path) -> None:
    first, second = (tmp_path / f"big-0000{i}-of-00002.gguf" for i in (1, 2))
    for path in (first, second):
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_uint16("split.count", 2)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
    check_model(first)
    second.write_bytes(second.read_bytes()[:30])
    with pytest.raises(ModelLoadError, match=second.name):
        check_model(first)
    second.unlink()
    with pytest.raises(ModelLoadError, match=f"cannot read .*{second.name}"):
        check_model(first)
