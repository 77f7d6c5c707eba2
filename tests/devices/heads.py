"""Heads on a device, beside NumPy's and those on this processor; prints what came out.

`python -m tests.devices.heads MODEL HEADS ENDPOINT|gpu`: on this worker, or on this machine's GPU.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from medusa.engine.client import generate
from medusa.engine.config import EngineConfig
from medusa.engine.engine import Engine
from medusa.engine.requests import GenerationRequest
from medusa.llama import devices, rpc
from medusa.llama.base_weights import BaseWeights
from medusa.llama.gguf_files import Kind
from medusa.llama.model import Model
from medusa.llama.params import ALL_LAYERS, Placement
from medusa.sampling.params import SamplingParams
from medusa.speculation.cost import FixedCost
from medusa.speculation.heads.ggml_heads import GgmlHeads
from medusa.speculation.heads.header import Variant
from medusa.speculation.heads.numpy_heads import NumpyHeads
from medusa.speculation.heads.reading import read_heads
from medusa.speculation.heads.weights import HeadWeights
from tests.medusa.speculation.heads.random_heads import (
    DRAFT,
    FakeBase,
    assert_scores_agree,
    quantised_heads,
    random_heads,
)

VARIANTS = [(variant, 0) for variant in Variant] + [(Variant.HYDRA, 32)]


def assert_scores_are_the_references(device: str) -> None:
    """Of every variant, for as many slots as one graph has and for more."""
    for variant, rank in VARIANTS:
        with TemporaryDirectory() as folder:
            random = random_heads(variant, DRAFT, rank=rank)
            weights = quantised_heads(Path(folder), random, Kind.Q8_0)
            base = FakeBase(Kind.Q8_0)
            heads = GgmlHeads(weights, base, device=device, max_slots=4, lm_head_kind=base.kind)
            for n_slots in (1, 3, 7, 1):
                assert_scores_agree(heads, NumpyHeads(weights, base), Kind.Q8_0, n_slots)
            heads.close()


def assert_the_models_lm_head_is_used(model: Model, device: str) -> None:
    """By heads that guess all tokens with it: its memory is not taken twice."""
    random = random_heads(Variant.SHARED, None, model.n_embd)
    header = replace(random.header, n_vocab=model.n_vocab)
    weights = HeadWeights(header, random.tensors)
    base = BaseWeights(model.path, model)
    heads = GgmlHeads(weights, base, device=device, max_slots=2)
    assert heads.n_bytes < base.token_embeddings.data.nbytes, "which are its lm_head"
    rng = np.random.default_rng(1)
    hidden = rng.standard_normal((2, model.n_embd), np.float32)
    roots = np.zeros(2, np.int32)
    expected = NumpyHeads(weights, base).logits(hidden, roots)
    difference = np.abs(heads.logits(hidden, roots) - expected).max()
    assert difference < 0.05 * expected.std(), "rounded activations"
    heads.close()


def answer(model: Model, path: Path, device: str | None) -> dict[str, Any]:
    """What the model says with its heads there, or on this processor."""
    base = BaseWeights(model.path, model)
    heads = GgmlHeads(read_heads(path), base, device=device)
    if device is not None:  # where the embeddings are lm_head, and used where it is
        assert heads.n_bytes < base.token_embeddings.data.nbytes
    config = EngineConfig(n_slots=1, n_ctx=512, n_threads=1, lookup=False, cost=FixedCost())
    engine = Engine(model, heads, config)
    prompt = tuple(model.tokenize("The capital of France is", add_special=True))
    greedy = SamplingParams(temperature=0)
    request = GenerationRequest(prompt, greedy, max_tokens=40, ignore_eos=True)
    (said,) = generate(engine, [request])
    engine.close()
    assert said.usage is not None
    usage = said.usage
    return {
        "tokens": said.tokens,
        "steps": usage.steps,
        "accepted": usage.accepted_drafts,
        "device": heads.device,
    }


def main(path: str, heads: str, endpoint: str) -> list[dict[str, Any]]:
    """The answers with heads on the device and with heads here, the model on the device."""
    if endpoint != "gpu":
        rpc.connect([endpoint])
    device = devices.that_hold_layers()[0].name
    assert_scores_are_the_references(device)
    model = Model(Path(path), Placement(ALL_LAYERS, (device,)))
    assert model.output_device == device
    assert_the_models_lm_head_is_used(model, device)
    return [answer(model, Path(heads), where) for where in (device, None)]


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
