"""Records, their JSON and their flat names."""

import json
import math
import subprocess
import sys

import pytest

from tests.comparison.runs import SUMMARY
from zoo.evaluation.descriptors import METRICS
from zoo.runs.measurements import Measurement, Quantity, flat_name, json_of_records, measurements_of, name_of
from zoo.runs.records import fault_of_format, read_metrics

FRECHET = Measurement("samples", "frechet", 7.25, "val", 2000, prior="mixture", features="classifier")
NAMED = {
    "val/samples/mixture/frechet@2000": FRECHET,
    "samples/mixture/frechet": Measurement("samples", "frechet", 1.0, "test", 10_000, "mixture", "classifier"),
    "samples/normal/kid_inception@20000": Measurement("samples", "kid", 0.1, "test", 20_000, "normal", "inception"),
    "samples/normal/latent_nll@80": Measurement("samples", "latent_nll", 3.0, "train", 80, "normal"),
    "reconstructions/frechet_inception": Measurement("reconstructions", "frechet", 1.0, "test", 10_000, features="inception"),
    "reconstructions/mse": Measurement("reconstructions", "mse", 0.5, "test", 10_000),
    "val/likelihood/iw64_bits_per_dim@1000": Measurement("likelihood", "iw64_bits_per_dim", 3.5, "val", 1000),
    "attributes/success@100": Measurement("attributes", "success", 0.5, "test", 100, features="classifier"),
    "attributes/success/Smiling@100": Measurement("attributes", "success", 0.5, "test", 100, features="classifier", item="Smiling"),
    "invariance/distance@2000": Measurement("invariance", "distance", 0.5, "test", 2000),
    "invariance/hflip/distance@2000": Measurement("invariance", "distance", 0.5, "test", 2000, item="hflip"),
    "transfer/swap_masked_relative_mse@1000": Measurement("transfer", "swap_masked_relative_mse", 0.2, "test", 1000),
}


@pytest.mark.parametrize("name", NAMED)
def test_flat_names_and_json(name):
    measurement = NAMED[name]
    assert flat_name(measurement) == name
    record = measurement.to_dict()
    assert None not in record.values()
    assert Measurement.from_dict(json.loads(json.dumps(record))) == measurement


def test_names_of_quantities_that_are_no_measurements():
    assert name_of(Quantity("", "lines/mean_distance_median")) == "lines/mean_distance_median"
    assert name_of(Quantity("cost", "device_hours")) == "cost/device_hours"
    assert name_of(FRECHET.quantity._replace(group="best_prior", prior=None)) == "best_prior/frechet"


@pytest.mark.parametrize(
    "record",
    [
        *(5, [], {}, {"group": "samples"}),
        *(
            FRECHET.to_dict() | change
            for change in ({"value": math.nan}, {"value": "x"}, {"n": 1.5}, {"split": None}, {"prior": 3}, {"N": 1})
        ),
    ],
)
def test_what_is_no_record_is_refused(record):
    with pytest.raises(ValueError, match="is no measurement"):
        Measurement.from_dict(record)
    with pytest.raises(ValueError, match="no measurement"):
        measurements_of({"measurements": record if isinstance(record, dict) else [record]})


def test_json_has_a_line_for_each_record():
    content = {"about": {"group": [1]}, "measurements": [FRECHET.to_dict(), FRECHET.to_dict()], "text": "a\n  b"}
    text = json_of_records(content)
    assert json.loads(text) == content
    assert len([line for line in text.splitlines() if '"metric": "frechet"' in line and '"classifier" }' in line]) == 2


def test_what_a_search_reads_are_logged_and_measured_numbers(tmp_path):
    assert read_metrics(tmp_path) == {}
    numbers = {"metrics": {"val/mse": 0.5}, "measurements": [FRECHET.to_dict()]}
    (tmp_path / "summary.json").write_text(json.dumps(SUMMARY | numbers))
    assert read_metrics(tmp_path) == {"val/mse": 0.5, "val/samples/mixture/frechet@2000": 7.25}


def test_another_format_is_named():
    assert fault_of_format({"format": 2}, "again") == ""
    assert fault_of_format({}, "again") == "is of format 1, not 2 (again)"


def test_records_and_columns_need_no_torch():
    code = "import sys, zoo.comparison.columns, zoo.runs.measurements; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_every_metric_has_what_tables_need():
    for group, metrics in METRICS.items():
        labels = [metric.label for metric in metrics.values()]
        assert len(set(labels)) == len(labels), group
        assert all(metric.better in ("high", "low", None) or isinstance(metric.better, float) for metric in metrics.values())
