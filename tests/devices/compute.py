"""A model computed on devices, beside llama.cpp alone on the same ones; prints what came out.

`python -m tests.devices.compute MODEL HEADS|none ENDPOINTS|gpu GPU_LAYERS`: on these workers, or on
the GPUs of this machine.
"""

import json
import sys
from pathlib import Path
from typing import Any

from medusa.engine.client import generate
from medusa.engine.config import EngineConfig
from medusa.engine.requests import GenerationRequest
from medusa.fitting import fitted
from medusa.llama import rpc
from medusa.llama.batch import Batch
from medusa.llama.context import Context
from medusa.llama.model import Model
from medusa.llama.params import ContextParams, Placement
from medusa.loading import open_model
from medusa.sampling.params import SamplingParams
from tests.architectures.reference import evaluate

PROMPTS = (
    "The quick brown fox jumps over the lazy dog. The quick brown fox jumps over the lazy",
    "Once upon a time, in a small village by the sea, there lived",
    "def fibonacci(n):\n    if n < 2:\n        return n\n    return",
)
N_TOKENS = 24


def main(path: str, heads: str, endpoints: str, layers: str) -> dict[str, Any]:
    """What the model says, with guesses and without, and what llama.cpp says alone."""
    if endpoints != "gpu":
        rpc.connect(endpoints.split(","))
    placement = Placement(None if layers == "auto" else int(layers))
    said: dict[str, Any] = {"fitted": fitted(Path(path), EngineConfig(), placement).gpu_layers}
    for name, draft_nodes in (("guessed", 16), ("plain", 0)):
        loaded = open_model(
            Path(path),
            Path(heads) if heads != "none" and draft_nodes else None,
            EngineConfig(n_slots=3, n_ctx=1024, n_threads=1, draft_nodes=draft_nodes),
            placement=placement,
        )
        model = loaded.model
        requests = [
            GenerationRequest(
                tuple(model.tokenize(prompt, add_special=True)),
                sampling=SamplingParams(temperature=0),
                max_tokens=N_TOKENS,
                ignore_eos=True,
            )
            for prompt in PROMPTS
        ]
        answers = generate(loaded.engine, requests)
        said[name] = [answer.tokens for answer in answers]
        usages = [answer.usage for answer in answers if answer.usage is not None]
        said[f"accepted, {name}"] = sum(usage.accepted_drafts for usage in usages)
        said["results"] = str(loaded.engine.exactness)
        said["devices"] = [str(device) for device in model.devices]
        said["offloaded"] = model.offloaded_layers
        said[f"behind, {name}"] = max(
            _behind(model, request, answer.tokens)
            for request, answer in zip(requests, answers, strict=True)
        )
        if not draft_nodes:
            said["alone"] = [evaluate(model, request).tokens for request in requests]
        loaded.close()
    return said


def _behind(model: Model, request: GenerationRequest, tokens: list[int]) -> float:
    """By how much a token of an answer is less likely than the likeliest, in logits at most.

    As llama.cpp sees it when it reads the answer at once.
    """
    size = len(request.prompt) + len(tokens)
    params = ContextParams(n_ctx=size, n_seq_max=1, n_batch=size, n_threads=1)
    context, batch = Context(model, params), Batch(size, 1)
    batch.add_run([*request.prompt, *tokens], 0, [0], output=True)
    logits = context.decode(batch).logits[len(request.prompt) - 1 : -1]
    behind = float((logits.max(axis=1) - logits[range(len(tokens)), tokens]).max())
    context.close()
    return behind


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
