from hypothesis import given
from hypothesis import strategies as st

from medusa.engine.cells import CellRuns, distinct


def filled(count: int) -> CellRuns:
    cells = CellRuns()
    cells.extend(count)
    return cells


def test_cells_of_several_slots_add_up() -> None:
    assert distinct([filled(30), filled(12), CellRuns()]) == 42


def test_shared_cells_count_once() -> None:
    source = filled(300)
    taker = source.first(150)
    taker.extend(160)
    assert len(taker) == 310
    assert distinct([source, taker]) == 300 + 160


def test_cells_filled_after_a_cut_are_not_those_that_another_slot_kept() -> None:
    source = filled(100)
    taker = source.first(100)
    cut = source.first(60)
    cut.extend(40)
    assert distinct([cut, taker]) == 100 + 40


@given(st.data())
def test_runs_count_what_a_list_of_cells_would(data: st.DataObject) -> None:
    """Against the plain model: every slot a list of cell numbers."""
    slots = [(CellRuns(), list[int]()) for _ in range(3)]
    fresh = iter(range(10**9))
    for _ in range(data.draw(st.integers(1, 25))):
        index, other = data.draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
        runs, cells = slots[index]
        match data.draw(st.sampled_from(["extend", "cut", "share"])):
            case "extend":
                count = data.draw(st.integers(0, 5))
                runs.extend(count)
                cells += [next(fresh) for _ in range(count)]
            case "cut":
                length = data.draw(st.integers(0, len(cells)))
                slots[index] = (runs.first(length), cells[:length])
            case "share":
                length = data.draw(st.integers(0, len(slots[other][1])))
                slots[index] = (slots[other][0].first(length), slots[other][1][:length])
        assert [len(runs) for runs, _ in slots] == [len(cells) for _, cells in slots]
        assert distinct(runs for runs, _ in slots) == len({c for _, cells in slots for c in cells})
