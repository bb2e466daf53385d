"""The picture of a study."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from genbench.figures.study import study_history


@pytest.fixture
def drawn() -> Figure:
    chosen = {"lr": [0.0014, 0.066, 0.004], "coefficient": ["0.3", "1e12", "0.1"], "loss": ["w1", "jsd", "w1"]}
    figure = study_history(np.arange(3), np.array([3.0, 1.0, 2.0]), False, "distance", chosen, {"lr"})
    figure.draw_without_rendering()
    return figure


def test_words_that_are_numbers_stand_in_their_order(drawn: Figure) -> None:
    _, _, coefficient, loss = drawn.axes
    for axes, words, best in ((coefficient, ["0.1", "0.3", "1e12"], 2), (loss, ["jsd", "w1"], 0)):
        assert [label.get_text() for label in axes.get_xticklabels()] == words
        assert axes.lines[-1].get_xdata()[0] in (words[best], best)  # the trial with the least value


def test_labels_of_a_logarithmic_axis_do_not_meet(drawn: Figure) -> None:
    axis = drawn.axes[1].xaxis
    shown = [label.get_window_extent() for label in axis.get_ticklabels(which="both") if label.get_text()]
    assert len(shown) >= 2
    assert not any(one.overlaps(other) for k, one in enumerate(shown) for other in shown[:k])
