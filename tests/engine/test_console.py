"""What a run says while it trains, on terminals of several widths and in a pipe."""

from __future__ import annotations

import fcntl
import functools
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest

TRAIN = """
import time
from genbench.engine.console import Reporter

with Reporter("vae-mnist5k latent_dim=2, seed=1", 200, "valid/elbo") as reporter:
    reporter.advance("vae-mnist5k latent_dim=2, seed=1", 50, {"train/elbo": -201.5, "train/kl": 7.0}, 60.0)
    time.sleep(0.5)  # a bar is drawn ten times a second
    values = {"valid/kl": 11.1526, "valid/reconstruction": -150.5, "valid/active_units": 20.0, "valid/elbo": -161.652}
    reporter.measured("vae-mnist5k latent_dim=2, seed=1", 100, 2.0, values)
    reporter.advance("vae-mnist5k latent_dim=2, seed=1", 100, {"train/elbo": -190.0}, 60.0)
    reporter.measured("vae-mnist5k latent_dim=2, seed=1", 200, 4.0, values)
"""


@functools.cache
def on_terminal(columns: int) -> list[str]:
    """The lines that appear on a terminal of so many columns, each as it was between two returns of the cursor."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    with subprocess.Popen([sys.executable, "-c", TRAIN], env=environment | {"TERM": "xterm"}, **streams) as process:
        os.close(theirs)
        said = b""
        try:
            while part := os.read(ours, 4096):
                said += part
        except OSError:  # Linux's way to say that the other end is closed
            pass
    os.close(ours)
    assert process.returncode == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.decode())
    return [line for line in re.split(r"[\r\n]+", plain) if line.strip()]


@pytest.mark.parametrize("columns", [80, 60])
def test_a_line_of_a_terminal_has_bar_percentage_time_and_the_headline(columns: int) -> None:
    lines = on_terminal(columns)
    assert max(map(len, lines)) <= columns
    bars = [line for line in lines if "━" in line]
    assert re.fullmatch(r"[━╸╺ ]{8,} +25% +(-:--:--|\d:\d\d:\d\d) train/elbo -201\.5 *", bars[1]), bars
    assert re.fullmatch(r"[━╸╺ ]{8,} +50% +\d:\d\d:\d\d valid/elbo -161\.652 *", bars[-1]), bars


@pytest.mark.parametrize("columns", [80, 60])
def test_an_evaluation_is_one_line_that_begins_with_the_headline(columns: int) -> None:
    first, last = (line for line in on_terminal(columns) if line.startswith("step"))
    assert first.startswith("step 100  epoch 2  valid/elbo -161.652  valid/kl 11.1526")
    assert last.startswith("step 200  epoch 4  valid/elbo -161.652")
    for line in (first, last):
        assert len(line) == columns
        assert line.endswith("…")


@pytest.mark.parametrize("colours", [{}, {"FORCE_COLOR": "1", "TERM": "xterm-color"}], ids=["", "Jupyter"])
def test_a_pipe_gets_whole_lines_with_the_run_s_title(colours: dict[str, str]) -> None:
    words = [sys.executable, "-c", TRAIN]
    said = subprocess.run(words, env=os.environ | colours, capture_output=True, text=True, check=True).stdout
    title = "vae-mnist5k latent_dim=2, seed=1"
    measured = "valid/elbo -161.652  valid/kl 11.1526  valid/reconstruction -150.5  valid/active_units 20"
    assert said.splitlines() == [  # one every two seconds, and the last
        f"{title}  step 50/200  train/elbo -201.5  train/kl 7  60 steps/s",
        f"{title}  step 200  epoch 4  {measured}",
    ]
