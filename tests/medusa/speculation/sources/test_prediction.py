from dataclasses import replace

from medusa.speculation.alignment import Alignment
from medusa.speculation.cost import FixedCost
from medusa.speculation.drafter import DraftConfig, Drafter
from medusa.speculation.sources.prediction import PredictionSource
from medusa.speculation.sources.source import ROOT, Draft
from tests.medusa.speculation.fakes import NEW, Key, wanted

TEXT = tuple(range(100, 140))


def drafted(source: PredictionSource, alignment: Alignment | None, key: Key) -> Draft | None:
    (draft,) = source.propose([replace(wanted(NEW, key), alignment=alignment)])
    return draft


def path(draft: Draft) -> list[int]:
    """The likeliest guesses, one after the other."""
    tokens: list[int] = []
    place: int | None = ROOT
    while place is not None:
        guesses = draft.guesses(place)
        assert sum(guesses.values()) <= 1.0
        tokens.append(max(guesses, key=lambda token: guesses[token]))
        place = draft.follow(place, tokens[-1])
    return tokens


def test_without_a_prediction_there_is_no_draft() -> None:
    assert drafted(PredictionSource(), None, Key()) is None


def test_the_prediction_is_copied_from_where_the_answer_is() -> None:
    alignment, source, key = Alignment(TEXT), PredictionSource(), Key()
    draft = drafted(source, alignment, key)
    assert draft is not None
    assert path(draft) == list(TEXT)
    for token in TEXT[:10]:
        alignment.feed(token)
    draft = drafted(source, alignment, key)
    assert draft is not None
    assert path(draft) == list(TEXT[10:])
    assert draft.guesses(ROOT)[TEXT[10]] > 0.75


def test_after_another_token_both_ways_to_go_on_are_guessed() -> None:
    alignment = Alignment(TEXT)
    for token in (*TEXT[:10], 7):
        alignment.feed(token)
    draft = drafted(PredictionSource(), alignment, Key())
    assert draft is not None
    guesses = draft.guesses(ROOT)
    assert guesses.keys() == {TEXT[11], TEXT[10]}
    for token in (TEXT[10], TEXT[11]):
        below = draft.follow(ROOT, token)
        assert below is not None
        assert set(draft.guesses(below)) == {token + 1}


def test_at_the_end_of_the_prediction_nothing_is_guessed() -> None:
    alignment = Alignment(TEXT)
    for token in TEXT:
        alignment.feed(token)
    draft = drafted(PredictionSource(), alignment, Key())
    assert draft is not None
    assert draft.guesses(ROOT) == {}
    assert draft.follow(ROOT, 1) is None


def test_a_prediction_that_proves_wrong_is_trusted_less() -> None:
    alignment, source, key = Alignment(TEXT), PredictionSource(), Key()
    chances = []
    for _ in range(20):
        draft = drafted(source, alignment, key)
        assert draft is not None
        chances.append(draft.guesses(ROOT)[TEXT[0]])
        source.observe(key, [7])
    assert chances[-1] < 0.4 < chances[0]
    assert chances == sorted(chances, reverse=True)
    other = drafted(source, alignment, Key())
    assert other is not None
    assert other.guesses(ROOT)[TEXT[0]] == chances[0]


def test_the_drafter_puts_predictions_into_its_trees() -> None:
    config = DraftConfig(max_nodes=8, max_requests=1, lookup=False, shape=None, cost=FixedCost())
    drafter = Drafter.create(None, config, None)
    drafted = drafter.draft([replace(wanted(NEW), alignment=Alignment(TEXT))])
    assert drafted.trees[0].tokens == (NEW[-1], *TEXT[:8])
