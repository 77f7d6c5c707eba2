from hypothesis import given
from hypothesis import strategies as st

from medusa.speculation.tree import TokenTree
from medusa.speculation.verify import walk
from tests.medusa.speculation.test_tree import parent_lists


@given(parents=parent_lists(), data=st.data())
def test_walk_emits_what_plain_decoding_would(
    parents: tuple[int, ...], data: st.DataObject
) -> None:
    """With a model that maps each prefix to one next token, any tree gives that model's text."""
    tokens: list[int] = []
    for node, parent in enumerate(parents):
        taken = {tokens[other] for other in range(1, node) if parents[other] == parent}
        free = sorted(set(range(16)) - taken)
        tokens.append(data.draw(st.sampled_from(free[:4])))
    tree = TokenTree(tuple(tokens), parents)
    salt = data.draw(st.integers(0, 1000))

    def next_token(prefix: tuple[int, ...]) -> int:
        return hash((salt, prefix)) % 4

    def prefix_of(node: int) -> tuple[int, ...]:
        above = []
        while node >= 0:
            above.append(tokens[node])
            node = parents[node]
        return tuple(reversed(above))

    calls = []

    def sample(node: int) -> int:
        calls.append(node)
        return next_token(prefix_of(node))

    emitted = [token for _, token in walk(tree, sample)]
    text: tuple[int, ...] = (tokens[0],)
    for token in emitted:
        assert token == next_token(text)
        text = (*text, token)
    assert len(calls) == len(emitted) == len(set(calls))
    assert tree.child(calls[-1], emitted[-1]) is None


def test_walk_stops_sampling_when_its_consumer_stops() -> None:
    tree = TokenTree((5, 1, 1, 1), (-1, 0, 1, 2))
    sampled = []

    def sample(node: int) -> int:
        sampled.append(node)
        return 1

    steps = walk(tree, sample)
    next(steps)
    next(steps)
    assert sampled == [0, 1]
