"""One comparison from the line-up to the last round."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.compare import plan
from benchmarks.compare.lineup import Others, Tuned, others, own
from benchmarks.compare.load import generator
from benchmarks.compare.matrix import matrix_peers
from benchmarks.compare.peers.ours import ours
from benchmarks.compare.peers.peer import Peer
from benchmarks.compare.prompts import Prompt
from benchmarks.compare.results import Results, Server
from benchmarks.compare.revision import checked_out, commit_of
from benchmarks.compare.run import Session, decode_costs, measure_rounds, within
from benchmarks.report import commit, cpu_name
from medusa.llama.model import Model
from medusa.llama.threads import default_threads
from models import DEFAULT_MODEL, resolve

_TOKENS, _QUICK_TOKENS = 48, 24
_ISAS = ("", "avx2")


@dataclass(frozen=True)
class Choice:
    """What is to be compared.

    Attributes:
        quick: one short round with the settings' defaults, without matrix and decodes.
        minutes: for how long rounds go on.
        prompts: what is asked.
        model: GGUF, None: the default model.
        against: a revision that alone is compared with this checkout.
        others: the other servers.
        folder: for files that outlast the run.
    """

    quick: bool
    minutes: float
    prompts: Sequence[Prompt]
    model: Path | None
    against: str | None
    others: Others
    folder: Path

    @property
    def model_path(self) -> Path:
        """The GGUF that all servers get."""
        return self.model or resolve(DEFAULT_MODEL).model

    @property
    def model_name(self) -> str:
        """What our `serve` is told."""
        return str(self.model) if self.model else DEFAULT_MODEL

    @property
    def tokens(self) -> int:
        """Most in an answer."""
        return _QUICK_TOKENS if self.quick else _TOKENS

    @property
    def is_whole(self) -> bool:
        """Whether the matrix and the decodes belong to it."""
        return not (self.quick or self.against or self.model)

    def scenarios(self) -> list[plan.Scenario]:
        """Without the matrix."""
        kinds = list(dict.fromkeys(prompt.kind for prompt in self.prompts))
        return (plan.quick if self.quick else plan.full)(kinds, self.tokens)


def run(
    choice: Choice, results: Results, save: Callable[[], None], say: Callable[[str], None]
) -> None:
    """Measure what is chosen.

    Args:
        choice: what.
        results: get the figures; those that hold servers already are gone on with.
        save: called once the settings are found, and after every round.
        say: tells how far it is.
    """
    goes_on = within(0 if choice.quick else 60 * choice.minutes)
    with ExitStack() as stack:
        vocabulary = Model(choice.model_path, weights=False)
        stack.callback(vocabulary.close)
        session = Session(
            choice.prompts,
            choice.tokens,
            lambda text: len(vocabulary.tokenize(text, add_special=False)),
            stack.enter_context(generator()),
            Path(stack.enter_context(TemporaryDirectory())),
            say,
        )
        if not results.servers:
            line_up = stack.enter_context(_line_up(choice, session))
            results.servers += [Server(peer, trials) for peer, trials in line_up]
            if choice.is_whole:
                say("cost of a decode")
                results.decodes += decode_costs(choice.model_path, _ISAS)
            save()
        cells: list[Peer] = []
        if choice.is_whole:
            cells = stack.enter_context(matrix_peers(commit()))
        peers = [server.peer for server in results.servers]
        measure_rounds(session, results, peers, cells, goes_on, save)


@contextmanager
def _line_up(choice: Choice, session: Session) -> Iterator[list[Tuned]]:
    """All servers with their best settings, ours first; files they need last as long."""
    if choice.against:
        with checked_out(choice.against) as folder:
            version = commit_of(choice.against)
            other = ours(choice.model_name, version, name=choice.against, folder=folder)
            yield [(ours(choice.model_name, commit()), ()), (other, ())]
        return
    mine: list[Tuned] = [(peer, ()) for peer in own(choice.model_name, commit())]
    n_threads = default_threads()
    threads = list(dict.fromkeys((n_threads, max(1, n_threads // 2))))
    measure = None if choice.quick else session.speeds
    theirs = others(choice.others, choice.model_path, threads, measure, choice.folder)
    yield [*mine, *filter(_runs, theirs)]


def _runs(tuned: Tuned) -> bool:
    """Whether a server ran with any of the settings that were tried."""
    _, trials = tuned
    return not trials or any(trial.tokens_per_second for trial in trials)


def machine() -> str:
    """The processor and the memory, in words."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return f"{cpu_name()}, {os.cpu_count()} cores, {pages / 2**30:.0f} GiB"
