"""docs/families.png: digits drawn by one model of each family, cut out of the pictures of their runs in docs/results.

python docs/draw_families.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from genbench.figures.grids import labelled_rows

DOCS = Path(__file__).parent
COLUMNS = 16
SIDE, GAP = 28, 1  # pixels of a digit, and between two of them
FAMILIES = {
    "GAN": "mnist-gan-generated-end-seed1-b6c049ef.png",
    "VAE": "vae-binmnist-l100-seed-1-041603a8-samples-generated-end.png",
    "RealNVP": "realnvp-mnist-generated-end-seed1-729c9040.png",
    "PixelCNN": "pixelcnn-binmnist-seed-1-776ff703-samples-generated-end.png",
}


def digits(path: Path) -> NDArray[np.float64]:
    """The first of a square of samples, [16, 1, 28, 28] in [0, 1]."""
    square = np.asarray(Image.open(path).convert("L"), dtype=np.float64) / 255
    step = SIDE + GAP
    corners = [(row, column) for row in range(GAP, len(square), step) for column in range(GAP, len(square), step)]
    return np.stack([square[None, row : row + SIDE, column : column + SIDE] for row, column in corners[:COLUMNS]])


def main() -> None:
    rows = [digits(DOCS / "results" / name) for name in FAMILIES.values()]
    labelled_rows(np.stack(rows), list(FAMILIES)).savefig(DOCS / "families.png")


if __name__ == "__main__":
    main()
