"""Between the engine and the drafter: who wants guesses, and where they go."""

from medusa.engine.plan import StepResult
from medusa.speculation.drafter import Drafted, Drafter
from medusa.speculation.sources.source import DraftRequest


def plan_drafts(drafter: Drafter | None, result: StepResult) -> Drafted:
    """Tell the drafter what became of its guesses and give every slot that goes on new ones."""
    if drafter is None:
        return Drafted([], 0.0, 0)
    plan = result.plan
    for chunk in (*plan.prefill, *plan.scored):
        if not chunk.slot.is_idle:
            drafter.prefilled(chunk.slot.sequence, chunk.slot.tokens)
    survivors = result.survivors
    for verified in survivors:
        sequence = verified.sequence
        drafter.observe(sequence, sequence.tokens[-len(verified.path) :])
    drafted = drafter.draft(
        [
            DraftRequest(
                key=verified.sequence,
                tokens=verified.sequence.tokens,
                hidden=verified.hidden,
                max_leaves=verified.slot.labels.max_leaves,
                max_depth=min(verified.sequence.remaining - 1, verified.slot.labels.max_depth),
                constraint=verified.sequence.sampler.constraint,
                alignment=verified.sequence.output.alignment,
            )
            for verified in survivors
        ]
    )
    for verified, tree in zip(survivors, drafted.trees, strict=True):
        verified.slot.draft = tree
    return drafted
