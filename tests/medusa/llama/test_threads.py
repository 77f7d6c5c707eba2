import subprocess
import sys
from pathlib import Path

import pytest

from medusa.llama.threads import with_passing_team

ENGINE = """
import os, sys, threading
from pathlib import Path
from medusa.llama import kernels
kernels.load()
from medusa.engine.config import EngineConfig
from medusa.engine.engine import Engine
from medusa.speculation.heads.loading import load_heads
from medusa.llama.model import Model
from medusa.engine.client import generate
from medusa.engine.requests import GenerationRequest

model = Model(Path(sys.argv[1]))
engine = Engine(model, load_heads(Path(sys.argv[2]), model, 2), EngineConfig(n_threads=2))
generate(engine, [GenerationRequest((1, 2, 3), max_tokens=16, ignore_eos=True)])
print(len(os.listdir("/proc/self/task")) - threading.active_count())
engine.close()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kernels", ["auto", "off"])
def test_an_engine_of_two_threads_computes_with_one_team_of_two(
    model_path: Path, heads_path: Path, kernels: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENGINE, model_path, heads_path],
        env={"LLAMA_MEDUSA_KERNELS": kernels, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout.split()[-1]) == 1


def test_results_and_errors_come_back() -> None:
    assert with_passing_team(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        with_passing_team(lambda: 1 // 0)
