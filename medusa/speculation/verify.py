"""Verification: walk a candidate tree with the request's own sampler.

Lossless for greedy decoding and for sampling alike. At each visited node the sampler chooses the
next token from that node's logits exactly as plain decoding would; the guesses only decide whether
the walk can go on without another decode:

    emitted_0 = sample(logits[root]);  emitted_{i+1} = sample(logits[child(emitted_i)])

so the emitted tokens are the plain decoder's, one random draw for each.
"""

from collections.abc import Callable, Iterator

from medusa.speculation.tree import TokenTree


def walk(tree: TokenTree, sample: Callable[[int], int]) -> Iterator[tuple[int, int]]:
    """Yield (node, token) for each emitted token: `token` follows `node`.

    Args:
        sample: given a node, the token its logits lead to; called once for each visited node,
            lazily, so a caller that stops iterating spends no draws beyond.
    """
    node: int | None = 0
    while node is not None:
        token = sample(node)
        yield node, token
        node = tree.child(node, token)
