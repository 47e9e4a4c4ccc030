"""The figure of a null test: a dot a null market, none hidden behind another, and the actual."""

import numpy as np

from passline.evaluate.null_test import judge_nulls
from passline.report.null_figure import null_figure
from passline.report.palette import LIGHT
from passline.report.svg import figure_to_png


def drawn(kinds):
    rows = {kind: [(float(v), 0.0) for v in values] for kind, values in kinds.items()}
    found = judge_nulls(1.5, 0.4, rows, n_configurations=1, p_reality_check=None, settings={})
    return null_figure(found, LIGHT)


def test_every_null_market_has_its_dot_and_the_actual_its_line():
    rng = np.random.default_rng(0)
    kinds = {"rotate": rng.normal(size=39), "sign_flip": rng.normal(size=39)}
    figure = drawn(kinds)
    (axes,) = figure.axes
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    for line, values in zip(dots, kinds.values(), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), values)
    assert any(list(line.get_xdata()) == [1.5, 1.5] for line in axes.lines)
    assert [t.get_text().split("\n")[0] for t in axes.get_yticklabels()] == ["rotate", "sign flip"]
    assert figure_to_png(figure).startswith(b"\x89PNG")


def test_equal_results_are_stacked():
    (axes,) = drawn({"rotate": np.zeros(30)}).axes
    dots = next(line for line in axes.lines if line.get_marker() == "o")
    assert len(set(dots.get_ydata())) == 30
    assert np.ptp(dots.get_ydata()) <= 0.6
