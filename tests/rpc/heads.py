"""Heads on a worker, beside NumPy's and those on this processor; prints what came out.

`python -m tests.rpc.heads MODEL HEADS ENDPOINT`
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from medusa.engine.client import generate
from medusa.engine.config import EngineConfig
from medusa.engine.engine import Engine
from medusa.engine.requests import GenerationRequest
from medusa.llama import rpc
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
from tests.medusa.speculation.heads.random_heads import (
    DRAFT,
    FakeBase,
    assert_scores_agree,
    quantised_heads,
    random_heads,
)

DEVICE = "RPC0"
VARIANTS = [(variant, 0) for variant in Variant] + [(Variant.HYDRA, 32)]


def assert_scores_are_the_references() -> None:
    """Of every variant, for as many slots as one graph has and for more."""
    for variant, rank in VARIANTS:
        with TemporaryDirectory() as folder:
            random = random_heads(variant, DRAFT, rank=rank)
            weights = quantised_heads(Path(folder), random, Kind.Q8_0)
            base = FakeBase(Kind.Q8_0)
            heads = GgmlHeads(weights, base, device=DEVICE, max_slots=4, lm_head_kind=base.kind)
            for n_slots in (1, 3, 7, 1):
                assert_scores_agree(heads, NumpyHeads(weights, base), Kind.Q8_0, n_slots)
            heads.close()


def answer(model: Model, path: Path, device: str | None) -> dict[str, Any]:
    """What the model says with its heads there, or on this processor."""
    heads = GgmlHeads(read_heads(path), BaseWeights(model.path), device=device)
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
    """The answers with heads on the worker and with heads here, the model on the worker."""
    rpc.connect([endpoint])
    assert_scores_are_the_references()
    model = Model(Path(path), Placement(ALL_LAYERS))
    assert model.output_device == DEVICE
    return [answer(model, Path(heads), device) for device in (DEVICE, None)]


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
