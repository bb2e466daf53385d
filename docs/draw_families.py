"""families.png in docs/pictures: digits drawn by one model of each family, cut out of what lies there of their runs.

python docs/draw_families.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from genbench.figures.grids import labelled_rows

PICTURES = Path(__file__).parent / "pictures"
COLUMNS = 16
SIDE, GAP = 28, 1  # pixels of a digit, and between two of them
FAMILIES = ("GAN", "VAE", "RealNVP", "PixelCNN")


def digits(path: Path) -> NDArray[np.float64]:
    """The first of a square of samples, [16, 1, 28, 28] in [0, 1]."""
    square = np.asarray(Image.open(path).convert("L"), dtype=np.float64) / 255
    step = SIDE + GAP
    corners = [(row, column) for row in range(GAP, len(square), step) for column in range(GAP, len(square), step)]
    return np.stack([square[None, row : row + SIDE, column : column + SIDE] for row, column in corners[:COLUMNS]])


def main() -> None:
    rows = [digits(PICTURES / f"digits-{family.lower()}.png") for family in FAMILIES]
    labelled_rows(np.stack(rows), FAMILIES).savefig(PICTURES / "families.png")


if __name__ == "__main__":
    main()
