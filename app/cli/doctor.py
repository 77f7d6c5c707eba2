"""`llama-medusa doctor`."""

from rich.console import Console
from rich.table import Table

from app.settings import DoctorSettings

_PACKING = (
    "a model's weights are copied into the kernels' order at their first use, and their pages of "
    "the file given back (LLAMA_MEDUSA_KERNELS_PACK=off: read as they lie in their file)"
)


def run(settings: DoctorSettings) -> None:
    """Show what this CPU can do, which of our compiled code runs, and how fast the kernels are.

    Of a model, show what it can do and whether it is computed exactly.
    """
    from medusa.llama import devices, kernels, processor
    from medusa.llama.kernels.doctor import compare_speed, cpu_features
    from medusa.sampling import passes

    console = Console()
    status = kernels.load()
    features = " ".join(
        name if has else f"[dim]no {name}[/]" for name, has in cpu_features().items()
    )
    console.print(f"CPU:       {processor.model_name()}\nfeatures:  {features}", highlight=False)
    if status.active:
        console.print(f"kernels:   ours ({status.isa})", highlight=False)
        packing = _PACKING if status.packs else "weights are read as they lie in their file"
        console.print(f"packing:   {packing}", highlight=False, soft_wrap=True)
        console.print(f"replaced:  {', '.join(status.replaced)}", highlight=False, soft_wrap=True)
    else:
        console.print(f"kernels:   llama.cpp's own ({status.reason})", highlight=False)
    sampling = "compiled" if passes.compiled else f"NumPy's ({passes.LIBRARY.name} was not built)"
    console.print(f"sampling:  {sampling}", highlight=False)
    for device in devices.that_hold_layers():
        console.print(f"device:    {device}, {device.free / 2**30:.1f} GiB free", highlight=False)
    for check in status.checks:
        verdict = "passed" if check.passed else "FAILED"
        console.print(f"self-test: {check.name}: {verdict} {check.detail}", highlight=False)
    speeds = compare_speed(status, settings.seconds) if settings.seconds and status.active else []
    if speeds:
        table = Table("weights", "columns", "llama.cpp ms", "ours ms", "ratio")
        for speed in speeds:
            table.add_row(
                speed.kind,
                str(speed.n),
                f"{1000 * speed.stock:.2f}",
                f"{1000 * speed.ours:.2f}",
                f"{speed.ratio:.2f}",
            )
        console.print(table)
    if settings.model is not None:
        _describe_model(console, settings.model, settings)


def _describe_model(console: Console, model: str, settings: DoctorSettings) -> None:
    """What `serve` would say of it."""
    from app.cli.names import find_model
    from app.cli.serve import describe
    from medusa.loading import open_model

    files = find_model(model, settings)
    loaded = open_model(files.model, files.heads, name=files.name, default_template=files.template)
    try:
        for line in describe(loaded):
            console.print(line, highlight=False, soft_wrap=True)
    finally:
        loaded.close()
