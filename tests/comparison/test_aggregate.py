import math

import pytest
from scipy import stats

from tests.comparison.runs import quantity, seeds
from zoo.comparison.aggregate import best_priors, marks_of, numbers_of, table
from zoo.comparison.aggregate import tables_of as all_tables
from zoo.comparison.parts import Column, Entry, Row
from zoo.runs.measurements import name_of

ANY = quantity("mse")
MSE = Column("mse", ANY, "low", 2)


def tables_of(rows):
    return all_tables(numbers_of(rows))


def cell(column: Column, values: list[float], others: int = 0):
    """The cell of seeds with these values, beside a row of more."""
    rows = [row("a", *({"mse": value} for value in values)), row("b", *({"mse": 1.0} for _ in range(others)))]
    return table("", [column], numbers_of(rows)).cells[column.header].loc["a"]


def row(label: str, *seeds: dict, **cost) -> Row:
    found = [{quantity(name): value for name, value in metrics.items()} for metrics in seeds]
    return Row(label, [Entry(None, label, "finished", seed=k, metrics=metrics, cost=cost) for k, metrics in enumerate(found)])


def test_seeds_are_a_mean_and_a_sample_standard_deviation():
    found = cell(MSE, [1.0, 2.0, 6.0])
    assert (found["mean"], found.n, found.text) == (3.0, 3, "3.00 ± 2.65")
    assert found["std"] == pytest.approx(((4 + 1 + 9) / 2) ** 0.5)


def test_one_seed_has_no_deviation():
    assert cell(Column("parameters", ANY, None, 1), [1.0, 1.0]).text == "1.0"  # a constant
    found = cell(Column("MiB", ANY, None, 1), [1234.54])
    assert (found.n, found.text) == (1, "1,234.5")
    assert math.isnan(found["std"])


def test_a_factor_scales_mean_and_deviation():
    found = cell(Column("kernel distance × 10³", ANY, "low", 1, 1000), [0.001, 0.003])
    assert (found["mean"], found.text) == (pytest.approx(2.0), "2.0 ± 1.4")


def test_fewer_seeds_than_another_row_are_said_in_the_cell():
    assert cell(MSE, [1.0, 2.0], others=3).text == "1.50 ± 0.71 (n = 2)"
    assert cell(MSE, [1.0, 2.0], others=2).text == "1.50 ± 0.71"
    assert cell(MSE, [1.0], others=3).text == "1.00 (n = 1)"
    assert cell(MSE, [1.0], others=1).text == "1.00"


@pytest.mark.filterwarnings("error")
def test_rows_without_any_spread_are_told_apart():
    assert marks_of("low", [[1.0] * 3, [1.0] * 3, [2.0] * 3]) == ["best", "best", ""]


def test_the_best_and_what_lies_within_noise():
    best, near, far = [1.0, 1.2, 1.1], [1.1, 1.3, 1.2], [2.0, 2.1, 2.2]
    assert stats.ttest_ind(best, near, equal_var=False).pvalue > 0.05 > stats.ttest_ind(best, far, equal_var=False).pvalue
    assert marks_of("low", [far, best, near]) == ["", "best", "noise"]
    assert marks_of("high", [far, best, near]) == ["best", "", ""]


def test_the_best_is_what_comes_nearest_to_a_value():
    # 0.5 and 1.5 have the mean 1, but neither is near it
    assert marks_of(1.0, [[0.5, 1.5], [0.9, 0.92], [1.3, 1.3]]) == ["", "best", ""]
    assert marks_of(0.5, [[0.8], [0.4]]) == ["", "best"]


def test_one_or_two_seeds_tell_little_of_noise():
    assert marks_of("low", [[1.0], [1.0001], [1.1, 1.2]]) == ["best", "", ""]
    assert marks_of("low", [[1.0, 1.2, 1.1], [1.11, 1.12]]) == ["best", ""]
    assert marks_of("low", [[1.0, 1.2], [1.11, 1.12, 1.13]]) == ["best", ""]


def test_nothing_is_best_alone_or_where_nothing_is_better():
    assert marks_of("low", [[1.0]]) == [""]
    assert marks_of(None, [[1.0], [2.0]]) == ["", ""]
    assert marks_of("low", [[1.0], [1.0]]) == ["", ""]
    assert marks_of("low", [[1.0], [2.0], [1.0]]) == ["best", "", "best"]


def test_tables_have_the_columns_and_lines_that_have_numbers():
    rows = [
        row("a", {"samples/normal/frechet": 3.0, "samples/mixture/frechet": 2.0, "reconstructions/mse": 0.5}, device_hours=0.25),
        row("b", {"samples/normal/frechet": 1.0}, device_hours=None),
    ]
    tables = {table.title: table for table in tables_of(rows)}
    samples = tables["Samples"]
    assert samples.cells.index.names == ["model", "prior"]
    assert list(samples.cells.index) == [("a", "normal"), ("a", "mixture"), ("b", "normal")]
    assert [column.title for column in samples.columns] == ["Fréchet"]
    assert list(samples.cells["Fréchet ↓"].mark) == ["", "", "best"]
    summary = tables["Summary"]
    assert [name_of(column.quantity) for column in summary.columns] == ["best_prior/frechet", "reconstructions/mse", "cost/device_hours"]
    assert list(summary.shown(lambda text, mark: text, count=False).loc["a"]) == ["2.000", "0.50000", "0.250"]
    assert list(summary.shown(lambda text, mark: text, count=False).loc["b"]) == ["1.000", "–", "–"]
    assert set(tables) == {"Summary", "Samples", "Reconstructions, interpolations, likelihood", "Cost"}
    assert tables["Reconstructions, interpolations, likelihood"].cells.index.tolist() == ["a"]


def test_the_best_prior_is_one_for_all_seeds():
    both = [
        {"samples/a/frechet": 1.0, "samples/b/frechet": 2.0},
        {"samples/a/frechet": 9.0, "samples/b/frechet": 3.0, "samples/b/recall": 0.5},
    ]
    found = row("x", *both)
    assert seeds(found, quantity("best_prior/frechet")) == [2.0, 3.0]
    assert seeds(found, quantity("best_prior/recall")) == [0.5]
    assert best_priors(numbers_of([found])) == {"x": "b"}


def test_the_best_prior_is_one_that_the_most_seeds_have():
    both = [{"samples/normal/frechet": 5.0}, {"samples/normal/frechet": 7.0}, {"samples/normal/frechet": 6.0, "samples/flow/frechet": 1.0}]
    assert seeds(row("x", *both), quantity("best_prior/frechet")) == [5.0, 7.0, 6.0]


def test_the_runs_own_mse_stands_in_only_where_none_was_measured():
    def titles(*rows):
        return [name_of(column.quantity) for table in tables_of(list(rows)) for column in table.columns]

    assert titles(row("a", {"mse": 0.5}), row("b", {"mse": 0.5})) == ["mse"]
    assert titles(row("a", {"mse": 0.5, "reconstructions/mse": 0.5})) == ["reconstructions/mse"] * 2  # in the summary, too
