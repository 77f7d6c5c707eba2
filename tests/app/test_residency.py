"""Which model gives way to another one."""

from dataclasses import dataclass

import pytest

from app.residency import Limits, Room, gives_way

GIB = 2**30
ONE = Room(GIB)


@dataclass(frozen=True)
class Model:
    name: str
    last_used: float
    n_users: int = 0
    needs: Room = ONE


OLD, NEW, BUSY = Model("old", 1.0), Model("new", 2.0), Model("busy", 0.0, n_users=1)


@pytest.mark.parametrize(
    ("residents", "limits", "expected"),
    [
        ((), Limits(models=1), None),
        ((NEW,), Limits(models=2), None),
        ((NEW, OLD), Limits(models=2), OLD),
        ((BUSY, NEW), Limits(models=2), NEW),  # before one whose users must end first
        ((BUSY,), Limits(models=1), BUSY),
        ((NEW, OLD, BUSY), Limits(), None),
        ((NEW, OLD), Limits(room=Room(3 * GIB)), None),
        ((NEW, OLD), Limits(room=Room(3 * GIB - 1)), OLD),
        ((), Limits(room=Room(0)), None),  # it is tried: nothing is left to unload
    ],
)
def test_what_gives_way(
    residents: tuple[Model, ...], limits: Limits, expected: Model | None
) -> None:
    assert gives_way(residents, Room(GIB), limits) is expected


def test_both_kinds_of_memory_must_suffice() -> None:
    limits = Limits(room=Room(4 * GIB, 2 * GIB))
    on_gpu = Model("gpu", 0.0, needs=Room(0, GIB))
    assert gives_way([on_gpu], Room(0, GIB), limits) is None
    assert gives_way([on_gpu], Room(0, GIB + 1), limits) is on_gpu


def test_limits_are_told_in_words() -> None:
    assert str(Limits(models=2)) == "2 at a time"
    assert str(Limits(room=Room(3 * GIB, GIB // 2))) == (
        "as many as fit into 3.0 GiB and 0.5 GiB on GPUs"
    )
