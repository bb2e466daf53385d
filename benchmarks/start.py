"""From the prompt to the first training step, beside `import torch` alone: `python -m benchmarks.start`.

Each round starts three new Python processes, one after another. PyTorch's first optimizer imports its compiler, which
no program that trains with `torch.optim` avoids.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from rich.console import Console

from benchmarks.common import WIDTH, print_table, ratios, rounds_parser

IMPORT = "import torch"
OPTIMIZER = "import torch; torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)"
FIRST_STEP = """
import os, sys
from genbench.engine.meters import Meters
from genbench.train import main
Meters.add = lambda *_: os._exit(0)
main(sys.argv[1:])
"""


def seconds(program: str, *words: str) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", program, *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def main(words: Sequence[str] | None = None) -> None:
    parser = rounds_parser(__doc__, rounds=7)
    parser.add_argument("--experiment", default="dirac-jsd-1", help="what is started")
    options = parser.parse_args(words)
    console = Console(width=WIDTH)
    names = ("import torch", "import torch, first optimizer", f"genbench experiment={options.experiment}, first step")
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            times[names[0]].append(seconds(IMPORT))
            times[names[1]].append(seconds(OPTIMIZER))
            times[names[2]].append(seconds(FIRST_STEP, f"experiment={options.experiment}", f"output_root={folder}"))
    rows = [
        (name, f"{statistics.median(each):.2f}", *(f"{ratios(each, times[base])[1]:.2f}" for base in names[:2]))
        for name, each in times.items()
    ]
    print_table(console, "Start", ("", "seconds", *(f"times {base}" for base in names[:2])), rows)
    console.print(f"Medians of {options.rounds} rounds; ratios are of times of the same round.", highlight=False)


if __name__ == "__main__":
    main()
