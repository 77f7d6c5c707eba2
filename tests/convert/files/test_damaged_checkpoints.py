"""Checkpoints that are damaged, incomplete or of another kind: a clear error, nothing left over."""

import json
import os
from pathlib import Path

import gguf
import pytest
import torch

from convert.errors import (
    CheckpointError,
    ConversionError,
    DiskSpaceError,
    UnsupportedModelError,
)
from convert.files import disk
from convert.files.checkpoint import read_checkpoint
from convert.files.safetensors import read_safetensors
from convert.model import ModelConversion, convert_model
from convert.outtypes import OutType
from convert.ready_gguf import choose_gguf, use_gguf
from medusa.errors import MedusaError, ModelLoadError
from tests.convert import tiny_checkpoints as tiny
from tests.convert.tiny_tokenizers import write_sentencepiece


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A sound checkpoint, to be damaged."""
    model = tiny.tiny_llama(write_sentencepiece(tmp_path), num_hidden_layers=1)
    tiny.write_config(tmp_path, model)
    tiny.write_safetensors(tmp_path, tiny.state_of(model, torch.float16))
    return tmp_path


def convert(folder: Path, outtype: OutType = OutType.F16) -> None:
    convert_model(ModelConversion(folder, folder / "out" / "model.gguf", outtype, "tiny"))


def assert_fails(
    folder: Path, error: type[Exception], message: str, outtype: OutType = OutType.F16
) -> None:
    with pytest.raises(error, match=message):
        convert(folder, outtype)
    assert list(folder.glob("out/*")) == []


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


UNSUPPORTED: dict[str, tuple[dict[str, object], str]] = {
    "architecture": ({"architectures": ["GPTNeoXForCausalLM"]}, "GPTNeoXForCausalLM"),
    "no architecture": ({"architectures": None}, "unnamed architecture"),
    "quantised": ({"quantization_config": {"quant_method": "gptq"}}, r"quantised \(gptq\)"),
    "activation": ({"hidden_act": "gelu"}, "activation function gelu"),
    "rope": (
        {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}},
        "RoPE scaling of type dynamic",
    ),
    "partial rope": ({"partial_rotary_factor": 0.5}, "part of each head"),
}


@pytest.mark.parametrize("what", UNSUPPORTED)
def test_other_models_are_refused_by_name_with_a_pointer(what: str, checkpoint: Path) -> None:
    changes, message = UNSUPPORTED[what]
    change_config(checkpoint, **changes)
    assert_fails(checkpoint, UnsupportedModelError, f"{message}.*convert_hf_to_gguf")


CONTRADICTIONS: dict[str, tuple[dict[str, object], str]] = {
    "missing size": ({"hidden_size": None}, "hidden_size must be a positive integer, not None"),
    "odd heads": ({"num_key_value_heads": 3}, "4 heads, 3 key-value heads"),
    "other width": ({"intermediate_size": 128}, r"_proj.*96.*should be.*128"),
    "more layers": ({"num_hidden_layers": 2}, "lacks 9 .*model.layers.1"),
    "no epsilon": ({"rms_norm_eps": 0}, "rms_norm_eps must be a positive number, not 0"),
}


@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_a_config_that_does_not_fit_the_weights_is_reported(what: str, checkpoint: Path) -> None:
    changes, message = CONTRADICTIONS[what]
    change_config(checkpoint, **changes)
    assert_fails(checkpoint, CheckpointError, message)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", ["", "{", "[]", "\x00\x01"], ids=ascii)
def test_damaged_json_is_reported(name: str, content: str, checkpoint: Path) -> None:
    (checkpoint / name).write_text(content)
    assert_fails(checkpoint, CheckpointError, f"{name} is damaged")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.5, 0.999])
@pytest.mark.parametrize("outtype", [OutType.F16, OutType.Q8_0])
def test_truncated_weights_are_reported(share: float, outtype: OutType, checkpoint: Path) -> None:
    path = checkpoint / "model.safetensors"
    os.truncate(path, int(share * path.stat().st_size))
    assert_fails(checkpoint, CheckpointError, "truncated|damaged", outtype)


@pytest.mark.parametrize("position", [8, 20, 60, 200])
def test_a_corrupted_header_is_reported(position: int, checkpoint: Path) -> None:
    path = checkpoint / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[position : position + 4] = b"\xff\x00}{"
    path.write_bytes(data)
    assert_fails(checkpoint, MedusaError, "damaged|lacks|not supported")


def test_an_entry_that_lies_about_its_size_is_reported(checkpoint: Path) -> None:
    path = checkpoint / "model.safetensors"
    path.write_bytes(path.read_bytes().replace(b'"shape":[600,64]', b'"shape":[900,64]'))
    assert_fails(checkpoint, CheckpointError, "damaged entry for the tensor lm_head.weight")


def test_numbers_that_are_not_finite_are_reported(checkpoint: Path) -> None:
    state = read_state(checkpoint)
    state["model.layers.0.mlp.up_proj.weight"][3, 5] = torch.inf
    tiny.write_safetensors(checkpoint, state)
    assert_fails(checkpoint, CheckpointError, "up_proj.weight holds numbers that are not finite")


def test_numbers_too_large_for_f16_are_reported(checkpoint: Path) -> None:
    state = {name: tensor.bfloat16() for name, tensor in read_state(checkpoint).items()}
    state["lm_head.weight"][0, 0] = 1e6
    tiny.write_safetensors(checkpoint, state)
    assert_fails(checkpoint, CheckpointError, "lm_head.weight holds numbers too large for f16")
    convert(checkpoint, OutType.BF16)


def test_a_missing_shard_is_reported(checkpoint: Path) -> None:
    state = read_state(checkpoint)
    (checkpoint / "model.safetensors").unlink()
    tiny.write_bins(checkpoint, state, 3)
    (checkpoint / "pytorch_model-00002-of-00003.bin").unlink()
    assert_fails(checkpoint, CheckpointError, r"00002-of-00003\.bin is missing")


def test_an_index_that_names_more_than_there_is_is_reported(checkpoint: Path) -> None:
    tiny.write_safetensors(checkpoint, read_state(checkpoint), 2)
    path = checkpoint / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["model.more.weight"] = "model-00001-of-00002.safetensors"
    path.write_text(json.dumps(index))
    assert_fails(checkpoint, CheckpointError, "1 tensors .* model.more.weight")


def test_an_index_cannot_reach_out_of_the_folder(checkpoint: Path) -> None:
    index = {"weight_map": {"lm_head.weight": "../secret.bin"}}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    assert_fails(checkpoint, CheckpointError, "no file name")


def test_a_foreign_tensor_is_refused(checkpoint: Path) -> None:
    state = read_state(checkpoint)
    state["model.layers.0.self_attn.q_norm.weight"] = torch.ones(16)
    tiny.write_safetensors(checkpoint, state)
    assert_fails(checkpoint, UnsupportedModelError, "q_norm")


def test_buffers_of_old_checkpoints_are_left_out(checkpoint: Path) -> None:
    state = read_state(checkpoint)
    state["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    tiny.write_safetensors(checkpoint, state)
    convert(checkpoint)


def test_a_folder_without_weights_is_reported(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").unlink()
    assert_fails(checkpoint, CheckpointError, "holds no weights")


@pytest.mark.parametrize("outtype", [OutType.BF16, OutType.Q4_K_M])
def test_a_full_disk_is_noticed_before_writing(
    outtype: OutType, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10**6})())
    assert_fails(checkpoint, DiskSpaceError, r"writing model.gguf needs .* 1.0 MB free", outtype)


@pytest.mark.parametrize("outtype", [OutType.F16, OutType.Q8_0])
def test_an_interrupted_conversion_leaves_nothing(outtype: OutType, checkpoint: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    out = checkpoint / "out" / "model.gguf"
    with pytest.raises(KeyboardInterrupt):
        convert_model(ModelConversion(checkpoint, out, outtype, "tiny"), interrupt)
    assert list(out.parent.iterdir()) == []


def test_a_failed_quantisation_leaves_nothing(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(source: Path, path: Path, file_type: int) -> None:
        path.write_bytes(b"half")
        raise ModelLoadError("no space left")

    monkeypatch.setattr("convert.model.quantize", fail)
    assert_fails(checkpoint, ModelLoadError, "no space left", OutType.Q8_0)


def test_a_failed_conversion_keeps_the_file_that_was_there(checkpoint: Path) -> None:
    convert(checkpoint)
    out = checkpoint / "out" / "model.gguf"
    before = out.read_bytes()
    os.truncate(checkpoint / "model.safetensors", 1000)
    with pytest.raises(CheckpointError):
        convert(checkpoint)
    assert out.read_bytes() == before


def test_a_finished_gguf_is_used_as_it_is(checkpoint: Path, tmp_path: Path) -> None:
    convert(checkpoint)
    source, out = checkpoint / "out" / "model.gguf", tmp_path / "used.gguf"
    use_gguf(source, out, OutType.F16)
    assert out.read_bytes() == source.read_bytes()
    use_gguf(source, out, OutType.Q8_0)
    assert out.stat().st_size < source.stat().st_size
    with pytest.raises(ConversionError, match=r"type q8_0 already and cannot become q4_0"):
        use_gguf(out, tmp_path / "other.gguf", OutType.Q4_0)


def test_a_truncated_gguf_is_reported(checkpoint: Path, tmp_path: Path) -> None:
    convert(checkpoint)
    source = checkpoint / "out" / "model.gguf"
    os.truncate(source, 5000)
    with pytest.raises(CheckpointError, match="is damaged"):
        use_gguf(source, tmp_path / "used.gguf", OutType.F16)
    assert not (tmp_path / "used.gguf").exists()


def test_of_several_ggufs_the_one_named_after_the_type_is_chosen() -> None:
    names = ["README.md", "model.Q4_0.gguf", "model.q8_0.gguf"]
    assert choose_gguf(names, OutType.Q8_0) == "model.q8_0.gguf"
    assert choose_gguf(names[:2], OutType.Q8_0) == "model.Q4_0.gguf"
    assert choose_gguf(names[:1], OutType.Q8_0) is None
    with pytest.raises(ConversionError, match=r"no GGUF q6_k; there are: Q4_0, Q8_0"):
        choose_gguf(names, OutType.Q6_K)


def test_sizes_are_written_as_people_write_them() -> None:
    assert [disk.human_size(n) for n in (12, 1500, 13_476_925_163, 2 * 10**15)] == [
        "12 bytes",
        "1.5 kB",
        "13.5 GB",
        "2000.0 TB",
    ]


def read_state(folder: Path) -> tiny.State:
    """The tensors of a checkpoint, as writable PyTorch tensors."""
    tensors = read_checkpoint(folder).values()
    return {tensor.name: torch.tensor(tensor.float32()).half() for tensor in tensors}


@pytest.mark.parametrize(("shape", "end"), [([-1, -32], 128), ([2**32, 2**32], 0)])
def test_shapes_that_cannot_be_are_refused(tmp_path: Path, shape: list[int], end: int) -> None:
    path = tmp_path / "model.safetensors"
    header = json.dumps({"w": {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(128))
    with pytest.raises(CheckpointError, match="damaged entry"):
        read_safetensors(path)


def test_what_a_killed_run_left_over_is_no_hindrance(tmp_path: Path) -> None:
    source, out = tmp_path / "model.gguf", tmp_path / "out.gguf"
    writer = gguf.GGUFWriter(source, "llama")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    os.link(source, tmp_path / "out.gguf.part")
    use_gguf(source, out, OutType.Q4_0)
    assert out.read_bytes() == source.read_bytes()
