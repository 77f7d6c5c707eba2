"""Converted heads propose what the official PyTorch heads do."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from convert.errors import CheckpointError, ConversionError, DiskSpaceError
from convert.heads import HeadsConversion, convert_heads
from convert.outtypes import HeadsOutType
from medusa.errors import HeadsMismatchError
from medusa.llama.base_weights import BaseWeights
from medusa.llama.model import Model
from medusa.speculation.heads.header import Variant
from medusa.speculation.heads.loading import load_heads
from medusa.speculation.heads.numpy_heads import NumpyHeads
from medusa.speculation.heads.reading import read_heads
from tests.convert import tiny_checkpoints as tiny
from tests.convert.conftest import TinyBase
from tests.convert.tiny_heads import tiny_heads

N_EMBD, N_VOCAB = 64, 600
Change = Callable[[dict[str, torch.Tensor]], object]


def convert(
    source: Path, tiny_base: TinyBase, outtype: HeadsOutType = HeadsOutType.F16, **options: Any
) -> NumpyHeads:
    """Convert and load."""
    folder = source if source.is_dir() else source.parent
    out = folder / "out" / "heads.gguf"
    convert_heads(HeadsConversion(source, tiny_base.gguf, out, outtype, "tiny heads", **options))
    assert [path.name for path in out.parent.iterdir()] == ["heads.gguf"]
    model = Model(tiny_base.gguf)
    load_heads(out, model)
    model.close()
    return NumpyHeads(read_heads(out), BaseWeights(tiny_base.gguf))


def hidden_states() -> np.ndarray:
    """[5, N_EMBD] float32."""
    return np.random.default_rng(3).standard_normal((5, N_EMBD)).astype(np.float32)


ROOTS = np.zeros(5, np.int32)  # which Medusa heads do not look at


def reference(heads: nn.ModuleList, hidden: np.ndarray) -> np.ndarray:
    """[n_heads, n_slots, n_vocab] float32."""
    return np.stack([head(torch.from_numpy(hidden)).numpy() for head in heads])


def largest_error(loaded: NumpyHeads, heads: nn.ModuleList) -> float:
    hidden = hidden_states()
    expected = reference(heads, hidden)
    return np.abs(loaded.logits(hidden, ROOTS) - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", ["pt", "safetensors", "v1.0 shards"])
def test_logits_equal_the_official_heads_in_every_layout(
    layout: str, dtype: torch.dtype, n_layers: int, tiny_base: TinyBase, tmp_path: Path
) -> None:
    heads = tiny_heads(5, n_layers, N_EMBD, N_VOCAB).to(dtype)
    state = heads.state_dict()
    if layout == "pt":
        torch.save(state, tmp_path / "medusa_lm_head.pt")
    elif layout == "safetensors":
        save_file(state, tmp_path / "medusa_lm_head.safetensors")
    else:
        own = {f"medusa_head.{name}": tensor for name, tensor in state.items()}
        tiny.write_safetensors(tmp_path, {**tiny_base.state, **own}, 2)
    loaded = convert(tmp_path, tiny_base)
    assert loaded.header.n_layers == n_layers
    assert largest_error(loaded, heads.float()) < 5e-4


def test_proposals_equal_the_official_heads(tiny_base: TinyBase, tmp_path: Path) -> None:
    heads = tiny_heads(3, 1, N_EMBD, N_VOCAB)
    save_file(heads.state_dict(), tmp_path / "medusa_lm_head.safetensors")
    loaded = convert(tmp_path, tiny_base)
    hidden = hidden_states()
    logits = torch.from_numpy(reference(heads, hidden))
    for slot, proposals in enumerate(loaded.propose(hidden, ROOTS)):
        probs, tokens = torch.softmax(logits[:, slot], -1).topk(proposals.tokens.shape[1])
        np.testing.assert_array_equal(proposals.tokens, tokens.numpy())
        np.testing.assert_allclose(proposals.probs, probs.numpy(), rtol=0.01)


def test_heads_are_counted_whatever_the_config_says(tiny_base: TinyBase, tmp_path: Path) -> None:
    torch.save(tiny_heads(5, 1, N_EMBD, N_VOCAB).state_dict(), tmp_path / "medusa_lm_head.pt")
    (tmp_path / "config.json").write_text(json.dumps({"medusa_num_heads": 2}))
    assert convert(tmp_path, tiny_base).header.n_heads == 5


def test_heads_without_output_matrices_share_the_lm_head_of_the_base(
    tiny_base: TinyBase, tmp_path: Path
) -> None:
    heads = tiny_heads(2, 1, N_EMBD, N_VOCAB)
    for head in heads:
        head.get_parameter("1.weight").copy_(tiny_base.state["lm_head.weight"].float())
    state = {name: t for name, t in heads.state_dict().items() if "linear" in name}
    save_file(state, tmp_path / "medusa_lm_head.safetensors")
    loaded = convert(tmp_path, tiny_base)
    assert loaded.header.variant is Variant.SHARED
    assert largest_error(loaded, heads) < 5e-4


@pytest.mark.parametrize(("outtype", "limit"), [("q8_0", 0.01), ("q4_0", 0.15)])
def test_quantised_heads_are_as_close_as_their_bits_allow(
    outtype: str, limit: float, tiny_base: TinyBase, tmp_path: Path
) -> None:
    heads = tiny_heads(2, 1, N_EMBD, N_VOCAB)
    path = tmp_path / "medusa_lm_head.pt"
    torch.save(heads.state_dict(), path)
    loaded = convert(path, tiny_base, HeadsOutType(outtype))
    assert 0 < largest_error(loaded, heads) < limit


def test_a_draft_vocabulary_keeps_the_rows_of_its_tokens(
    tiny_base: TinyBase, tmp_path: Path
) -> None:
    heads = tiny_heads(2, 1, N_EMBD, N_VOCAB)
    torch.save(heads.state_dict(), tmp_path / "medusa_lm_head.pt")
    text = "The river had been rising since the morning"
    loaded = convert(tmp_path, tiny_base, draft_vocab=300, draft_text=text)
    draft = loaded.header.draft_tokens
    assert draft is not None
    assert len(draft) == 300
    hidden = hidden_states()
    expected = reference(heads, hidden)[:, :, draft]
    np.testing.assert_allclose(loaded.logits(hidden, ROOTS), expected, atol=2e-3)
    base = Model(tiny_base.gguf)
    assert set(base.tokenize(text, add_special=False)) | base.eog_tokens <= set(draft.tolist())
    assert base.bos_token not in draft


def test_a_draft_vocabulary_as_large_as_the_vocabulary_is_none(
    tiny_base: TinyBase, tmp_path: Path
) -> None:
    torch.save(tiny_heads(1, 1, N_EMBD, N_VOCAB).state_dict(), tmp_path / "medusa_lm_head.pt")
    assert convert(tmp_path, tiny_base, draft_vocab=600).header.draft_tokens is None


@pytest.mark.parametrize(
    ("n_embd", "n_vocab", "message"),
    [(32, N_VOCAB, "width 32, those of 'tiny' have 64"), (N_EMBD, 500, "500 tokens, .* has 600")],
)
def test_heads_of_another_model_are_refused(
    n_embd: int, n_vocab: int, message: str, tiny_base: TinyBase, tmp_path: Path
) -> None:
    torch.save(tiny_heads(2, 1, n_embd, n_vocab).state_dict(), tmp_path / "medusa_lm_head.pt")
    with pytest.raises(HeadsMismatchError, match=message):
        convert(tmp_path, tiny_base)
    assert not (tmp_path / "out").exists()


def drop(name: str) -> Change:
    return lambda state: state.pop(name)


def put(name: str, tensor: torch.Tensor) -> Change:
    return lambda state: state.update({name: tensor})


DAMAGES = {
    "a missing bias": (drop("1.0.linear.bias"), r"1\.0\.linear\.bias"),
    "a missing output": (drop("1.1.weight"), r"1\.1\.weight"),
    "a foreign tensor": (put("fc.weight", torch.ones(2)), r"fc\.weight is not a tensor of Medusa"),
    "another shape": (put("1.0.linear.weight", torch.ones(64, 32)), r"shape \(64, 32\)"),
    "a gap": (put("3.0.linear.bias", torch.ones(64)), r"4 heads of 1 ResBlocks .* 2\.0\.linear"),
    "not a number": (put("0.1.weight", torch.full((600, 64), torch.nan)), "not finite"),
    "integers": (put("0.1.weight", torch.ones(600, 64, dtype=torch.int32)), "int32"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_tensors_that_do_not_form_heads_are_reported(
    damage: str, tiny_base: TinyBase, tmp_path: Path
) -> None:
    change, message = DAMAGES[damage]
    state = dict(tiny_heads(2, 1, N_EMBD, N_VOCAB).state_dict())
    change(state)
    torch.save(state, tmp_path / "medusa_lm_head.pt")
    with pytest.raises(ConversionError, match=message):
        convert(tmp_path, tiny_base)
    assert list(tmp_path.rglob("*.part")) == list(tmp_path.rglob("heads.gguf")) == []


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_truncated_heads_are_reported(share: float, tiny_base: TinyBase, tmp_path: Path) -> None:
    path = tmp_path / "medusa_lm_head.pt"
    torch.save(tiny_heads(2, 1, N_EMBD, N_VOCAB).state_dict(), path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(CheckpointError, match=r"medusa_lm_head\.pt is (truncated|damaged)"):
        convert(tmp_path, tiny_base)


class Bomb:
    """Creates a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("how", ["zip", "legacy", "plain pickle"])
def test_code_in_a_pickle_never_runs(how: str, tiny_base: TinyBase, tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "medusa_lm_head.pt"
    if how == "plain pickle":
        path.write_bytes(pickle.dumps({"0.0.linear.weight": Bomb(victim)}))
    else:
        torch.save({"x": Bomb(victim)}, path, _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(CheckpointError, match="could run code when opened; it was not opened"):
        convert(tmp_path, tiny_base)
    assert not victim.exists()


def test_a_folder_without_heads_is_reported(tiny_base: TinyBase) -> None:
    with pytest.raises(CheckpointError, match="holds no Medusa heads"):
        convert(tiny_base.folder, tiny_base)


def test_a_full_disk_is_noticed_before_writing(
    tiny_base: TinyBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(tiny_heads(2, 1, N_EMBD, N_VOCAB).state_dict(), tmp_path / "medusa_lm_head.pt")
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(DiskSpaceError, match=r"heads.gguf needs 170.0 kB .* has 1.0 kB free"):
        convert(tmp_path, tiny_base)


def test_the_written_file_is_read_back_as_it_was(tiny_base: TinyBase, tmp_path: Path) -> None:
    heads = tiny_heads(2, 1, N_EMBD, N_VOCAB).half()
    torch.save(heads.state_dict(), tmp_path / "medusa_lm_head.pt")
    convert(tmp_path, tiny_base)
    weights = read_heads(tmp_path / "out" / "heads.gguf")
    assert (weights.header.name, weights.header.base_name) == ("tiny heads", "tiny")
    state = heads[1].state_dict()
    for name, expected in (
        ("head.1.block.0.weight", state["0.linear.weight"]),
        ("head.1.block.0.bias", state["0.linear.bias"]),
        ("head.1.output.weight", state["1.weight"]),
    ):
        np.testing.assert_array_equal(weights.values(name), expected.float())
