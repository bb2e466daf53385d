"""Installs a wheel in a bare environment and trains with it from an empty directory, as a new user does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

# The README's first command, `make run`, for a few steps.
SHORT = ("experiment=vae-mnist5k", "trainer.max_steps=20", "task.importance_images=20")


def main(wheel: Path) -> None:
    """Raises CalledProcessError or AssertionError if anything does not work."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "GENBENCH_DATA")}
    with tempfile.TemporaryDirectory() as temporary:
        programs, empty = Path(temporary, "venv", "bin"), Path(temporary, "empty")
        empty.mkdir()

        def run(program: str, *words: str) -> None:
            print("$", program, *words, flush=True)
            subprocess.run([programs / program, *words], cwd=empty, env=environment, check=True)

        venv.create(programs.parent, with_pip=True, symlinks=True)
        run("python", "-m", "pip", "install", "--quiet", f"{wheel.resolve()}[mnist5k]")
        run("python", "-m", "pip", "check")
        run("genbench", *SHORT)
        run("genbench-report", "outputs", "--out", "report")
        run("python", "-c", "import genbench; print(genbench.runs()[0].load().sample(4).shape)")
        (summary,) = empty.glob("outputs/vae-mnist5k/*/summary.json")
        assert "test/log_likelihood" in json.loads(summary.read_text(encoding="utf-8"))["metrics"]
        assert (empty / "report" / "index.html").is_file()
    print(f"{wheel.name} works")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
