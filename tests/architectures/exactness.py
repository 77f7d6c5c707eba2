"""What an engine says of a model's exactness."""

from medusa.engine.config import EngineConfig
from medusa.engine.engine import Engine
from medusa.llama.exactness import Exactness
from medusa.llama.model import Model
from tests.architectures.numerics import AS_SERVED, Numerics


def exactness_of(model: Model, numerics: Numerics = AS_SERVED) -> Exactness:
    config = EngineConfig(
        n_slots=1, n_ctx=512, n_threads=1, draft_nodes=0, **numerics.engine_options
    )
    engine = Engine(model, config=config)
    engine.close()
    return engine.exactness
