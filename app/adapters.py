"""A model's LoRA adapters: their names, and what is applied where a request does not say."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from app.backend import Backend
from app.settings.adapters import NamedAdapter
from medusa.engine.events import EventSink
from medusa.engine.requests import GenerationRequest
from medusa.errors import InvalidRequestError
from medusa.llama.adapters import AdapterSet, adapter_set


class Adapters:
    """The adapters of one model, by id; belongs to the event loop.

    Args:
        named: the adapters, the first of which has the id 0.
        are_applied: whether all of them are, each with its scale, at the start.

    Attributes:
        scales: of each, for requests that do not say and name the model itself.
    """

    def __init__(self, named: Sequence[NamedAdapter] = (), *, are_applied: bool = True) -> None:
        self.named = tuple(named)
        self.scales = [each.scale if are_applied else 0.0 for each in named]

    def set_scales(self, scales: Mapping[int, float]) -> None:
        """Apply adapters with these scales by id, and no others.

        Raises:
            InvalidRequestError: there is no adapter with one of the ids.
        """
        for id in scales:
            if not 0 <= id < len(self.named):
                raise InvalidRequestError(f"there is no adapter {id}", field="id")
        self.scales = [scales.get(id, 0.0) for id in range(len(self.named))]

    def picked_by(self, model: str) -> NamedAdapter | None:
        """The adapter of that name."""
        return next((each for each in self.named if each.name == model), None)

    def applied(self, picked: NamedAdapter | None) -> AdapterSet:
        """What a request is computed with that picks an adapter by its name, or none."""
        if picked is None:
            return adapter_set(dict(enumerate(self.scales)))
        return adapter_set({self.named.index(picked): picked.scale})


class AdaptedBackend:
    """A backend by another name, with adapters for requests that do not say; else it is the same.

    Args:
        backend: what computes.
        name: of the model, in answers.
        adapters: what it has applied by then.
    """

    def __init__(self, backend: Backend, name: str, adapters: AdapterSet) -> None:
        self._backend = backend
        self._adapters = adapters
        self.info = replace(backend.info, name=name)

    def submit(self, requests: Sequence[GenerationRequest], sink: EventSink) -> None:
        """See Backend."""
        own = self._adapters
        self._backend.submit(
            [
                each if each.adapters is not None else replace(each, adapters=own)
                for each in requests
            ],
            sink,
        )

    def __getattr__(self, name: str) -> Any:
        """What else a backend has."""
        return getattr(self._backend, name)
