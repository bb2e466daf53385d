"""`genbench-pack`: a trained model in a folder that can be given away.

genbench-pack outputs/vae-mnist5k/*seed=1-… --out vae        weights as safetensors, configuration, measurements, card
"""

from __future__ import annotations

import argparse
from pathlib import Path

from genbench.loaded import LoadedRun
from genbench.output import command
from genbench.pack import pack

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    """Command line of `genbench-pack`."""
    parser = argparse.ArgumentParser(
        "genbench-pack", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="a run directory")
    parser.add_argument("--out", type=Path, required=True, help="the folder, which must be new or empty")
    options = parser.parse_args(arguments)
    with command("genbench-pack"):
        print(pack(LoadedRun(options.run), options.out))


if __name__ == "__main__":
    main()
