"""All tiny models by name."""

from tests.architectures.attention_models import ATTENTION_MODELS
from tests.architectures.embedding_models import EMBEDDING_MODELS
from tests.architectures.recurrent_models import RECURRENT_MODELS
from tests.architectures.refused_models import REFUSED_MODELS
from tests.architectures.windowed_models import WINDOWED_MODELS

__all__ = [
    "ATTENTION_MODELS",
    "EMBEDDING_MODELS",
    "MODELS",
    "RECURRENT_MODELS",
    "REFUSED_MODELS",
    "SERVED_MODELS",
    "WINDOWED_MODELS",
]

SERVED_MODELS = ATTENTION_MODELS | WINDOWED_MODELS | RECURRENT_MODELS
MODELS = SERVED_MODELS | REFUSED_MODELS
