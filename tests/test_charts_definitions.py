"""Figures of the chapter on definitions show what was enumerated, estimated and planted."""

import numpy as np
import pandas as pd
import pytest

from study import charts, data
from study.charts import definitions
from study.hand_example import TEST, TRAIN, contrast, estimated, leave_one_out, table


@pytest.fixture(scope="module")
def exact():
    return table(TRAIN, TEST, leave_one_out)


@pytest.fixture(scope="module")
def mixture():
    return data.load("longtail")


def drawn(figure: charts.Figure) -> bytes:
    return charts.raster(charts.specification(figure))


def test_one_line_is_drawn_for_each_influence_that_is_not_zero(exact):
    figure = definitions.hand_points(TRAIN, TEST, exact)
    lines = charts.specification(figure)["layer"][0]
    ends = charts.specification(figure)["datasets"][lines["data"]["name"]]
    assert {(end["pair"], end["kind"]) for end in ends} == {("f r", "bad"), ("f s", "good")}
    assert drawn(figure).startswith(b"\x89PNG")


def test_the_cells_hold_the_fractions_and_their_values(exact):
    four = table(TRAIN, TEST, contrast, 4)
    cells = definitions.hand_influence({"one left out": exact, "of four": four}).table
    assert len(cells) == 2 * len(TRAIN) * (1 + len(TEST))
    d = cells[(cells.measure == "of four") & (cells.train == "d") & (cells.column == "mem")]
    assert d.fraction.tolist() == ["1/5"] and d.value.tolist() == [0.2]


def test_convergence_uses_the_first_subsets_only_and_ends_near_the_dashed_line():
    exact = table(TRAIN, TEST, contrast, 4)
    estimates = estimated(TRAIN, TEST, 4, 2_000, seed=0)
    rows = definitions.convergence(estimates, exact, [("d", "mem"), ("a", "r")], [50, 2_000]).table
    assert rows.quantity.unique().tolist() == ["mem(d)", "infl(a → r)"]
    last = rows[rows.t == 2_000].set_index("quantity")
    assert last.estimate["mem(d)"] == estimates.memorization.mem[3]
    assert last.exact.to_dict() == {"mem(d)": 0.2, "infl(a → r)": 0.2}
    assert (np.abs(last.estimate - last.exact) < 4 * last.std_error).all()
    assert (rows[rows.t == 50].std_error.to_numpy() > last.std_error.to_numpy()).all()


def test_sub_populations_are_ranked_by_size_and_add_up_to_the_training_set(mixture):
    sizes = definitions.population_sizes(mixture).table
    assert sizes.examples.sum() == mixture.n
    assert sizes.examples.is_monotonic_decreasing and sizes.examples.min() == 1


def test_every_example_stands_at_the_size_of_its_sub_population(mixture):
    mem = np.linspace(0, 1, mixture.n)
    figure = definitions.memorization_by_size(pd.DataFrame({"index": np.arange(mixture.n), "mem": mem}), mixture, 0.25)
    single = figure.table[figure.table["size"] == 1].example
    groups = mixture.groups_train
    assert sorted(single) == [i for i in range(mixture.n) if (groups == groups[i]).sum() == 1]
    assert len(drawn(figure)) > 1_000
