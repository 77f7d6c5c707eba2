"""The tables of docs/models.md: what tiny models of each architecture were seen to be."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from medusa.engine.config import EngineConfig
from medusa.engine.embedding_engine import EmbeddingEngine
from medusa.errors import ModelLoadError
from medusa.llama.exactness import Exactness
from medusa.llama.model import Model
from tests.architectures.architecture import Architecture
from tests.architectures.exactness import exactness_of
from tests.architectures.models import EMBEDDING_MODELS, REFUSED_MODELS, SERVED_MODELS
from tests.architectures.writer import write_model

DOCUMENT = Path(__file__).parents[2] / "docs" / "models.md"
MARK = "<!-- what follows is made by `make docs` -->\n"

_SERVED = ("models", "architecture", "served", "exact on the CPU", "guesses", "prefixes reused")
_EMBEDDING = ("models", "architecture", "vectors", "exact on the CPU")
_REFUSED = ("models", "architecture", "why not")


def document(text: str, folder: Path) -> str:
    """docs/models.md with the tables of today.

    Args:
        text: the document; what comes before the mark is kept.
        folder: where to write the models.
    """
    served = _table(_SERVED, (_served(each, folder) for each in SERVED_MODELS.values()))
    refused = _table(_REFUSED, (_refused(each, folder) for each in REFUSED_MODELS.values()))
    embed = _table(_EMBEDDING, (_embedding(each, folder) for each in EMBEDDING_MODELS.values()))
    return (
        f"{text.partition(MARK)[0]}{MARK}{served}\n## Served: embeddings and scores\n{embed}\n"
        f"## Not served\n{refused}"
    )


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _served(architecture: Architecture, folder: Path) -> Sequence[str]:
    path = folder / "tiny.gguf"
    write_model(architecture, path)
    model = Model(path)
    can, exactness = model.capabilities, exactness_of(model)
    row = (
        architecture.families,
        f"`{architecture.name}`",
        "with limits" if can.limits else "fully",
        _exact(exactness),
        "trees" if can.can_branch else "chains" if can.can_roll_back else "none",
        "as far as texts agree" if can.can_truncate else "where a text goes on",
    )
    model.close()
    return row


def _embedding(architecture: Architecture, folder: Path) -> Sequence[str]:
    path = folder / "tiny.gguf"
    write_model(architecture, path)
    model = Model(path)
    engine = EmbeddingEngine(model, EngineConfig(n_slots=1, n_threads=1))
    engine.close()
    row = (
        architecture.families,
        f"`{architecture.name}`",
        f"pooled by {engine.pooling}",
        _exact(engine.exactness),
    )
    model.close()
    return row


def _exact(exactness: Exactness) -> str:
    return "yes" if exactness.exact else f"no: {', '.join(exactness.reasons)}"


def _refused(architecture: Architecture, folder: Path) -> Sequence[str]:
    path = folder / "tiny.gguf"
    write_model(architecture, path)
    try:
        Model(path).close()
    except ModelLoadError as error:
        reason = str(error).removeprefix(f"{path}: ")
        return architecture.families, f"`{architecture.name}`", reason
    raise AssertionError(f"{architecture.name} is not refused")
