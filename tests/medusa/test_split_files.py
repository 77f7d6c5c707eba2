"""A GGUF in several parts is served as in one, with heads too."""

from pathlib import Path

import numpy as np
import pytest

from medusa.engine.client import generate
from medusa.engine.config import EngineConfig
from medusa.engine.requests import GenerationRequest
from medusa.errors import ModelLoadError
from medusa.llama.base_weights import BaseWeights, fingerprint
from medusa.llama.gguf_files import Kind
from medusa.llama.model import Model
from medusa.loading import open_model
from medusa.sampling.params import SamplingParams
from medusa.speculation.cost import FixedCost
from medusa.speculation.heads.header import HeadsHeader, Variant
from medusa.speculation.heads.weights import HeadWeights, layout, write_heads
from models import resolve
from tests.architectures.models import MODELS
from tests.architectures.writer import write_model
from tests.medusa.llama.splitting import split


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    path = tmp_path / "whole" / "tiny.gguf"
    path.parent.mkdir()
    write_model(MODELS["llama"], path)
    return path


@pytest.fixture
def parts(tmp_path: Path, whole: Path) -> list[Path]:
    folder = tmp_path / "parts"
    folder.mkdir()
    parts = split(whole, folder, 8)
    assert len(parts) == 3
    return parts


def write_random_heads(path: Path, base: Path) -> None:
    model = Model(base)
    header = HeadsHeader(
        variant=Variant.SHARED,
        n_heads=2,
        n_layers=1,
        n_embd=model.n_embd,
        n_vocab=model.n_vocab,
        base_name="tiny",
        base_fingerprint=fingerprint(model, BaseWeights(base)),
    )
    model.close()
    rng = np.random.default_rng(0)
    values = {spec.name: rng.standard_normal(spec.shape, np.float32) / 8 for spec in layout(header)}
    write_heads(path, HeadWeights.of(header, values), kind=Kind.F32)


def answer(model: Path, heads: Path | None) -> list[int]:
    config = EngineConfig(n_slots=1, n_ctx=512, n_threads=1, draft_nodes=8, cost=FixedCost())
    loaded = open_model(model, heads, config)
    prompt = tuple(loaded.model.tokenize("abcd"))
    request = GenerationRequest(prompt, SamplingParams(temperature=0), max_tokens=32)
    try:
        (answered,) = generate(loaded.engine, [request])
        return answered.tokens
    finally:
        loaded.close()


def test_a_split_model_is_served_with_heads_beside_it(whole: Path, parts: list[Path]) -> None:
    write_random_heads(parts[0].with_name("tiny.medusa.gguf"), whole)
    files = resolve(str(parts[0]))
    assert files.name == "tiny"
    assert files.heads is not None
    assert answer(files.model, files.heads) == answer(whole, None)


def test_heads_named_like_the_first_part_come_first(parts: list[Path]) -> None:
    for name in ("tiny.medusa.gguf", f"{parts[0].stem}.medusa.gguf"):
        heads = parts[0].with_name(name)
        heads.touch()
        assert resolve(str(parts[0])).heads == heads


def test_base_weights_are_found_in_every_part(whole: Path, parts: list[Path]) -> None:
    one, many = BaseWeights(whole), BaseWeights(parts[0])
    np.testing.assert_array_equal(one.lm_head(), many.lm_head())
    np.testing.assert_array_equal(one.output_norm, many.output_norm)
    rows = np.arange(9)
    np.testing.assert_array_equal(one.embeddings(rows), many.embeddings(rows))


def test_sizes_count_all_parts(whole: Path, parts: list[Path]) -> None:
    models = [Model(whole), Model(parts[0])]
    assert models[0].size_bytes == models[1].size_bytes
    assert models[0].n_params == models[1].n_params
    for model in models:
        model.close()


def test_a_missing_part_is_named(parts: list[Path]) -> None:
    parts[1].unlink()
    with pytest.raises(ModelLoadError, match=rf"not found: {parts[1]} \(of the 3 parts"):
        Model(parts[0])


def test_a_later_part_names_the_first(parts: list[Path]) -> None:
    with pytest.raises(ModelLoadError, match=rf"is part 2 of a split GGUF; .*: {parts[0]}"):
        Model(parts[1])
