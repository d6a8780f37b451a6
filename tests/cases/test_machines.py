"""The laws of precision hold on every machine: as it is, and as slower or other processors would compute."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN = """
import json
from pathline.verify import laws
chosen = [law for law in laws() if law.number == 29 or law.name == "linear_flow_is_exponential"]
print(json.dumps([str(figure) for law in chosen for _, figure in law.figures() if not figure.holds]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "machine",
    [{}, {"ATEN_CPU_CAPABILITY": "default"}, {"ATEN_CPU_CAPABILITY": "avx2"}, {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}],
    ids=["as it is", "no vectors", "avx2", "sse4.2"],
)
def test_precision_is_the_same_on_every_machine(machine: dict[str, str]) -> None:
    # before: LinearODE.flow was 2.8e-8 off where a processor rounds exp(-3.4) in float32 otherwise
    root = Path(__file__).parents[2]
    path = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **machine}
    done = subprocess.run([sys.executable, "-c", RUN], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
