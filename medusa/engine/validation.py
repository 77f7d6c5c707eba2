"""Whether a model can ever run a request."""

from medusa.engine.pooling import HIDDEN_STATES, Pooling
from medusa.engine.requests import GenerationRequest
from medusa.errors import ContextLengthError, InvalidRequestError
from medusa.llama.model import Model
from medusa.llama.vocabulary import check_token_ids


def check_request(request: GenerationRequest, model: Model, max_context: int) -> None:
    """See to it that a request can run on a model that generates text.

    Args:
        request: what is asked for.
        model: what it is asked of.
        max_context: most tokens of one request, prompt and answer together.

    Raises:
        InvalidRequestError: it never can; names the field.
    """
    _check_prompt(request, model, max_context)
    sampling = request.sampling
    check_token_ids(sampling.logit_bias, model.n_vocab, "logit_bias")
    check_token_ids(request.stop_tokens, model.n_vocab, "stop_token_ids")
    check_token_ids(sampling.allowed_tokens or (), model.n_vocab, "allowed_token_ids")
    check_token_ids([t for word in sampling.bad_words for t in word], model.n_vocab, "bad_words")
    check_token_ids(request.prediction, model.n_vocab, "prediction")
    if not model.capabilities.gives_hidden_states and (request.record_hidden or request.pooling):
        raise InvalidRequestError(
            "this model gives no hidden states beside its logits",
            field="record_hidden" if request.record_hidden else "pooling",
        )
    if request.pooling is not None:
        if request.pooling not in HIDDEN_STATES:
            raise _wrong_pooling(request.pooling)
        _check_nothing_else(request)
    for applied in request.adapters or ():
        if not 0 <= applied.id < len(model.adapters):
            raise InvalidRequestError(
                f"there is no adapter {applied.id}; this model has {len(model.adapters)}",
                field="adapters",
            )


def check_embedding(
    request: GenerationRequest, model: Model, max_context: int, pooling: Pooling
) -> None:
    """The same for a model that does nothing but pool texts, in this way.

    Raises:
        InvalidRequestError: see `check_request`.
    """
    if request.pooling is None:
        what = "ranks texts" if pooling is Pooling.RANK else "makes embeddings"
        raise InvalidRequestError(
            f"this model ({model.capabilities.architecture}) {what}; it cannot generate text"
        )
    _check_prompt(request, model, max_context)
    if request.pooling is not pooling:
        raise _wrong_pooling(request.pooling)
    _check_nothing_else(request)


def _check_prompt(request: GenerationRequest, model: Model, max_context: int) -> None:
    if not request.prompt:
        raise InvalidRequestError("the prompt is empty", field="prompt")
    n_answer = 1 if request.pooling is None else 0
    if len(request.prompt) + n_answer > max_context:
        raise ContextLengthError(len(request.prompt), max_context)
    check_token_ids(request.prompt, model.n_vocab, "prompt")


def _check_nothing_else(request: GenerationRequest) -> None:
    if request.max_tokens != 0 or request.prompt_logprobs is not None:
        raise InvalidRequestError(
            "an embedding comes without an answer and without log probabilities", field="pooling"
        )


def _wrong_pooling(pooling: Pooling) -> InvalidRequestError:
    return InvalidRequestError(f"this model has nothing to pool by {pooling}", field="pooling")
