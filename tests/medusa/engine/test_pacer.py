import pytest

from medusa.engine.pacer import PrefillPacer


def test_prefill_is_bounded_only_while_others_decode() -> None:
    pacer = PrefillPacer(max_stall=0.1, largest=512, tokens_per_second=1000)
    assert pacer.budget(others_decode=False) == 512
    assert pacer.budget(others_decode=True) == 100
    for _ in range(50):
        pacer.observe(100, seconds=0.5)
    assert pacer.budget(others_decode=True) == pytest.approx(20, abs=1)


def test_tokens_with_logits_have_a_speed_and_a_bound_of_their_own() -> None:
    pacer = PrefillPacer(max_stall=0.1, largest=512, largest_scored=64, tokens_per_second=1000)
    assert pacer.budget(others_decode=False, scored=True) == 64
    for _ in range(50):
        pacer.observe(64, seconds=0.64, scored=True)
    assert pacer.budget(others_decode=True, scored=True) == pytest.approx(10, abs=1)
    assert pacer.budget(others_decode=True) == 100


def test_a_part_of_the_time_buys_a_part_of_the_tokens() -> None:
    pacer = PrefillPacer(max_stall=0.1, largest=512, tokens_per_second=1000)
    assert pacer.budget(others_decode=True, part=0.5) == 50


def test_a_piece_is_never_larger_than_what_fits_into_a_batch() -> None:
    pacer = PrefillPacer(max_stall=0.1, largest=5, largest_scored=1)
    assert pacer.budget(others_decode=True) == 5
    assert pacer.budget(others_decode=True, scored=True) == 1
