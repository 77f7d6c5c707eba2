"""python -m benchmarks kernels"""

import typer

from benchmarks.kernels import kernels

app = typer.Typer()
app.command()(kernels)
app.callback()(lambda: None)
app()
