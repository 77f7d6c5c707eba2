"""What clients may know of a model."""

from dataclasses import dataclass, field

from medusa.engine.pooling import Pooling
from medusa.llama.model import Model
from medusa.llama.vocabulary import FimTokens
from medusa.loading import LoadedModel
from medusa.sampling.params import SamplingParams


@dataclass(frozen=True)
class ModelInfo:
    """What clients may know of a model."""

    name: str
    max_context: int  # most tokens of one request, prompt and answer together
    n_vocab: int
    n_params: int
    size_bytes: int
    n_heads: int  # Medusa heads
    architecture: str
    memory: str  # how it remembers: attention, sliding windows of so many tokens, ...
    vocabulary: str  # kind of tokenizer
    limits: tuple[str, ...]  # what is not done for it though it is for others
    inexact_because: tuple[str, ...] = ()  # why answers may depend on company; empty: they do not
    fim: FimTokens | None = None  # for filling in the middle
    chat_template: str = ""
    pooling: Pooling = Pooling.MEAN  # how texts become vectors
    n_embd: int = 0  # their length
    generates: bool = True  # whether it writes text
    sampling: SamplingParams = field(default_factory=SamplingParams)  # where a request says nothing
    path: str = ""  # its file
    n_slots: int = 1  # requests that run at the same time
    n_ctx_train: int = 0  # tokens that it was trained to read
    eog_tokens: frozenset[int] = frozenset()  # that end an answer
    bos: str = ""  # what texts begin with
    eos: str = ""  # and end with


def info_of(loaded: LoadedModel, sampling: SamplingParams) -> ModelInfo:
    """What there is to know of a model that is loaded, and of its default settings."""
    model, engine = loaded.model, loaded.engine
    return ModelInfo(
        name=loaded.name,
        max_context=engine.max_context,
        n_vocab=model.n_vocab,
        n_params=model.n_params,
        size_bytes=model.size_bytes,
        n_heads=loaded.heads.header.n_heads if loaded.heads else 0,
        architecture=model.capabilities.architecture,
        memory=model.capabilities.description,
        vocabulary=model.capabilities.vocabulary,
        limits=model.capabilities.limits,
        inexact_because=engine.exactness.reasons,
        fim=model.fim_tokens,
        chat_template=loaded.template.source if loaded.template else "",
        pooling=engine.pooling,
        n_embd=model.capabilities.n_embd_out,
        generates=not model.capabilities.is_embedding,
        sampling=sampling,
        path=str(model.path),
        n_slots=engine.config.n_slots,
        n_ctx_train=model.n_ctx_train,
        eog_tokens=model.eog_tokens,
        bos=_spelling(model, model.bos_token),
        eos=_spelling(model, model.eos_token),
    )


def _spelling(model: Model, token: int) -> str:
    return model.pieces[token].decode("utf-8", "replace") if token >= 0 else ""
