"""`python -m benchmarks COMMAND [--json FILE] [--markdown FILE]`."""

import typer

from benchmarks.calibration import calibration
from benchmarks.compare.command import compare, peers
from benchmarks.exactness import exactness
from benchmarks.kernels import kernels
from benchmarks.payoff import payoff
from benchmarks.prediction import prediction
from benchmarks.products import products
from benchmarks.quants import quants
from benchmarks.responsiveness import responsiveness
from benchmarks.sampling import sampling
from benchmarks.sessions import sessions
from benchmarks.simulator.command import simulate
from benchmarks.speculation import speculation
from benchmarks.step import step
from benchmarks.streaming import streaming
from benchmarks.structured import structured
from benchmarks.throughput import throughput
from benchmarks.vicuna7b import vicuna7b

cli = typer.Typer(help="Measure where time goes and how fast answers come.", no_args_is_help=True)
cli.command()(kernels)
cli.command()(products)
cli.command()(step)
cli.command()(streaming)
cli.command()(sampling)
cli.command()(speculation)
cli.command()(payoff)
cli.command()(prediction)
cli.command()(exactness)
cli.command()(structured)
cli.command()(calibration)
cli.command()(throughput)
cli.command()(sessions)
cli.command()(compare)
cli.command()(peers)
cli.command()(responsiveness)
cli.command()(quants)
cli.command()(vicuna7b)
cli.command()(simulate)

if __name__ == "__main__":
    cli()
