"""What a policy of guesses and rests takes, against the faster of always and never guessing."""

import random
from collections.abc import Callable, Iterable

import pytest

from medusa.speculation.payoff import Payoff, Payoffs

PLAIN_SECONDS = 0.010


def seconds_for(
    payoff: Payoff, n_tokens: int, gain: float, dice: random.Random, spread: float
) -> float:
    """Time of so many tokens where a step of 20 ms brings `2 * gain` on average."""
    spent = done = 0.0
    while done < n_tokens:
        guessed = payoff.guesses
        progress = 2 * gain * dice.uniform(1 - spread, 1 + spread) if guessed else 1.0
        seconds = (2 if guessed else 1) * PLAIN_SECONDS * dice.uniform(0.9, 1.1)
        payoff.observe(guessed, progress, seconds)
        done += progress
        spent += seconds
    return spent


@pytest.mark.parametrize("spread", [0.0, 0.5])
@pytest.mark.parametrize("gain", [0.6, 0.8, 0.9, 0.97, 1.0, 1.03, 1.1, 1.3, 2.0])
def test_little_is_lost_whether_guesses_pay_or_not(gain: float, spread: float) -> None:
    payoff, dice = Payoff(), random.Random(1)
    seconds_for(payoff, 500, gain, dice, spread)
    spent = seconds_for(payoff, 10_000, gain, dice, spread)
    fastest = 10_000 * PLAIN_SECONDS / max(1.0, gain)
    assert spent < 1.03 * fastest


@pytest.mark.parametrize(("before", "after"), [(0.6, 1.5), (1.5, 0.6)])
def test_it_follows_what_changes(before: float, after: float) -> None:
    payoff, dice = Payoff(), random.Random(2)
    seconds_for(payoff, 10_000, before, dice, 0.3)
    seconds_for(payoff, 2000, after, dice, 0.3)
    spent = seconds_for(payoff, 5000, after, dice, 0.3)
    assert spent < 1.03 * 5000 * PLAIN_SECONDS / max(1.0, after)


def kinds(payoff: Payoff, seconds: Callable[[bool], float], count: int) -> Iterable[bool]:
    for _ in range(count):
        yield payoff.guesses
        payoff.observe(payoff.guesses, 1.0, seconds(payoff.guesses))


def test_rests_become_longer_each_time_that_guesses_are_seen_to_lose() -> None:
    looks = list(kinds(Payoff(), lambda guessed: 2.0 if guessed else 1.0, 4000))
    text = "".join("G" if guessed else "." for guessed in looks)
    look, *rests = [len(rest) for rest in text.split("G") if rest]
    assert look == 8 + 32, "a look that shows it, and the first rest"
    assert rests[:4] == [128, 512, 1024, 1024]


@pytest.mark.parametrize("n_requests", [1, 2, 4, 16])
def test_a_short_run_of_many_requests_loses_little_to_guesses_that_do_not_pay(
    n_requests: int,
) -> None:
    guessed = list(kinds(Payoff(n_requests), lambda guessed: 2.0 if guessed else 1.0, 200))
    assert guessed.count(True) == {1: 64, 2: 48, 4: 24, 16: 12}[n_requests], "first looks"


@pytest.mark.parametrize("n_requests", [1, 2, 4, 16])
def test_a_short_run_has_the_guesses_that_pay(n_requests: int) -> None:
    guessed = list(kinds(Payoff(n_requests), lambda guessed: 0.7 if guessed else 1.0, 200))
    assert guessed.count(True) > 165


def test_a_machine_that_slows_down_is_no_reason_to_rest_for_long() -> None:
    payoff = Payoff()
    list(kinds(payoff, lambda guessed: 0.7 if guessed else 1.0, 1000))
    slow = list(kinds(payoff, lambda guessed: 2.1 if guessed else 3.0, 1000))
    assert slow.count(True) > 850


def test_crowds_are_judged_apart() -> None:
    payoffs = Payoffs(lambda n_requests: 0.01 + 0.001 * n_requests)
    for _ in range(1000):
        for count, seconds in ((1, 0.012), (8, 0.03)):
            guessed = payoffs.guesses(count)
            n_tokens = 2 * count if guessed else count
            plain = 0.01 + 0.001 * count
            payoffs.observe(count, n_tokens, seconds * 2 if guessed else plain, guessed=guessed)
    assert not payoffs.guesses(8)
    assert not payoffs.guesses(5), "as good as eight"
    assert payoffs.guesses(2), "nothing is known of two"


def test_a_step_of_fewer_requests_counts_for_what_it_would_take_without_guesses() -> None:
    """Else steps in which some of eight requests have ended would seem a loss."""
    payoffs = Payoffs(lambda n_requests: 0.01 * n_requests)
    kinds = []
    for _ in range(400):
        guessed = payoffs.guesses(8)
        kinds.append(guessed)
        count = 5 if guessed else 8
        payoffs.observe(count, count, 0.01 * count * (0.9 if guessed else 1.0), guessed=guessed)
    assert kinds.count(True) > 350
