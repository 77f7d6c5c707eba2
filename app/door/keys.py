"""What a key stands for."""

from dataclasses import dataclass, field

from medusa.engine.fairness import EVERYBODY, Tenant


@dataclass(frozen=True)
class Rates:
    """What may be asked for in a minute; None: any number."""

    requests: int | None = None
    tokens: int | None = None


UNLIMITED = Rates()
"""As much as there is."""


@dataclass(frozen=True)
class ApiKey:
    """A key, and what whoever has it may take.

    Raises:
        ValueError: it is empty.
    """

    key: str = field(repr=False)
    tenant: Tenant = EVERYBODY
    rates: Rates = UNLIMITED

    def __post_init__(self) -> None:
        if not self.key:
            raise ValueError("an empty API key protects nothing")
