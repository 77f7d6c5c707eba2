"""Measures servers by the plan, and writes down what it found after every round."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.compare.load import Burst, Generator, Job
from benchmarks.compare.measuring import joules, since
from benchmarks.compare.peers.peer import Peer, Running, running
from benchmarks.compare.plan import Part, Scenario, another_round, closed, edition, in_turns, matrix
from benchmarks.compare.prompts import Prompt, draw
from benchmarks.compare.results import Cost, Decode, Equality, Results, Sample

_WARM_UP_TOKENS = 4
_TUNING_TOKENS = 32
_TUNING_CLIENTS = (1, 8)
_TUNING_PROMPTS = 4
_FAR = 1_000_000
"""Editions from here on are for what is not measured."""


@dataclass
class Session:
    """What all measurements of a run share.

    Attributes:
        prompts: what may be asked.
        tokens: most in an answer.
        count: tokens of a text, for servers that do not tell.
        generator: sends the requests.
        logs: folder for what servers write.
        say: tells how far it is.
    """

    prompts: Sequence[Prompt]
    tokens: int
    count: Callable[[str], int]
    generator: Generator
    logs: Path
    say: Callable[[str], None]
    _editions: int = field(default=_FAR)

    def burst(self, server: Running, scenario: Scenario, number: int) -> tuple[Burst, Cost]:
        """Have one server answer a scenario's prompts of an edition, after one to warm up."""
        with server.alone():
            self._editions += 1
            plain = [prompt for prompt in self.prompts if not prompt.fields]
            warm = draw(plain, 1, self._editions)
            self.generator.run(Job(server.url, server.model, warm, (0.0,), 1, _WARM_UP_TOKENS))
            processes = server.processes
            cpu = processes.cpu_seconds() if processes else None
            energy = joules()
            burst = self.generator.run(
                Job(
                    server.url,
                    server.model,
                    scenario.prompts(self.prompts, number),
                    scenario.starts(number),
                    scenario.clients,
                    scenario.max_tokens,
                )
            )
            cost = Cost(
                since(cpu, processes.cpu_seconds()) if processes else None,
                processes.peak_memory_mb() if processes else None,
                since(energy, joules()),
            )
        return burst, cost

    def n_tokens(self, burst: Burst) -> int:
        """Generated ones: as told, or counted in the text."""
        return sum(
            self.count(answer.text)
            if answer.completion_tokens is None
            else answer.completion_tokens
            for answer in burst.answers
            if not answer.error
        )

    def speeds(self, peer: Peer) -> Mapping[int, float]:
        """Tokens per second by clients, in a short test; empty: the server does not run so."""
        self.say(f"settings of {peer.name}: {' '.join(peer.options)}")
        found = {}
        try:
            with running(peer, self.logs) as server:
                for clients in _TUNING_CLIENTS:
                    count = max(_TUNING_PROMPTS, clients)
                    scenario = closed(clients, min(_TUNING_TOKENS, self.tokens), count)
                    burst, _ = self.burst(server, scenario, _FAR + clients)
                    found[clients] = self.n_tokens(burst) / burst.seconds
                    if not found[clients]:
                        raise RuntimeError(f"{peer.name} answered nothing")
        except RuntimeError as error:
            self.say(str(error))
            return {}
        return found


def measure_rounds(
    session: Session,
    results: Results,
    peers: Sequence[Peer],
    matrix_peers: Sequence[Peer],
    is_over: Callable[[Sequence[float]], bool],
    save: Callable[[], None],
) -> None:
    """The closed loop round after round, the servers in turns, and once all the rest.

    Servers of the matrix are started one after another.

    Args:
        session: what is shared.
        results: gets the samples; rounds that it has already are not measured again.
        peers: the first is ours, to which the texts of the others are compared.
        matrix_peers: measured in the matrix alone.
        is_over: asked before every round for the seconds that the closed loop of those before took.
        save: called after every round.
    """
    with ExitStack() as stack:
        servers = [stack.enter_context(running(peer, session.logs)) for peer in peers]
        took: list[float] = []
        while not is_over(took):
            began = time.monotonic()
            number = results.n_rounds
            repeated = [each for each in results.scenarios if each.part is Part.CLIENTS]
            _round(session, results, servers, repeated, number)
            took.append(time.monotonic() - began)
            if number == 0:
                once = [each for each in results.scenarios if each.part is not Part.CLIENTS]
                _round(session, results, servers, once, number)
                for peer in matrix_peers:
                    with running(peer, session.logs) as server:
                        _matrix_cell(session, results, server)
            save()


def within(budget: float) -> Callable[[Sequence[float]], bool]:
    """Whether no further round fits into so many seconds from now on."""
    began = time.monotonic()
    return lambda took: not another_round(took, time.monotonic() - began, budget)


def decode_costs(model: Path, isas: Sequence[str]) -> list[Decode]:
    """What decodes of 1 to 128 tokens cost with each instruction set, by `benchmarks kernels`.

    Args:
        model: GGUF.
        isas: as LLAMA_MEDUSA_KERNELS_ISA takes them; "": the best that runs here.
    """
    found = []
    for isa in isas:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "kernels.json"
            command = [sys.executable, "-m", "benchmarks", "kernels", "--json", str(path)]
            command += ["--model", str(model), "--types", "model", "--contexts", "256"]
            environment = {**os.environ, "LLAMA_MEDUSA_KERNELS_ISA": isa}
            done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL)
            if done.returncode == 0:  # else our kernels do not run here
                written = json.loads(path.read_text())
                found += [
                    Decode(written["isa"], t["n"], t["stock"], t["ours"], t["floor"])
                    for t in written["timings"]
                    if t["what"] == "decode"
                ]
    return list({(decode.isa, decode.n): decode for decode in found}.values())


def _round(
    session: Session,
    results: Results,
    servers: Sequence[Running],
    scenarios: Sequence[Scenario],
    number: int,
) -> None:
    reference = servers[0].name
    bursts: dict[str, Burst] = {}
    for scenario, server in in_turns(scenarios, servers, number):
        session.say(f"round {number + 1}: {scenario.name}, {server.name}")
        prompts = edition(results.scenarios, scenario, number)
        bursts[server.name] = _sample(session, results, server, scenario, number, prompts)
        if len(bursts) == len(servers):
            ours = bursts.pop(reference).answers
            results.equalities += [
                Equality.of(name, scenario.name, number, burst.answers, ours)
                for name, burst in bursts.items()
            ]
            bursts.clear()


def _matrix_cell(session: Session, results: Results, server: Running) -> None:
    scenarios = matrix(session.tokens)
    for scenario in scenarios:
        session.say(f"{scenario.name}, {server.name}")
        _sample(session, results, server, scenario, 0, edition(scenarios, scenario, 0))


def _sample(
    session: Session,
    results: Results,
    server: Running,
    scenario: Scenario,
    number: int,
    prompts: int,
) -> Burst:
    burst, cost = session.burst(server, scenario, prompts)
    n_tokens = session.n_tokens(burst)
    results.samples.append(Sample.of(server.name, scenario.name, number, burst, n_tokens, cost))
    return burst
