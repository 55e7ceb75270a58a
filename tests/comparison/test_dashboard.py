import json
import math
import sys
from dataclasses import replace

import pytest
import wandb
import wandb_workspaces.reports.v2 as reports
import wandb_workspaces.workspaces as workspaces
from pandas import DataFrame

from tests.comparison.runs import quantity, records
from zoo.comparison.aggregate import numbers_of, tables_of
from zoo.comparison.dashboard import dashboard
from zoo.comparison.labels import differing_of, settings_of
from zoo.comparison.parts import Comparison, Entry, Row
from zoo.errors import ZooError
from zoo.runs.layout import RESULTS_FORMAT

NAN = math.nan
FINAL = {  # as one run ends
    "reconstructions/mse@2000": 0.021, "reconstructions/psnr@2000": 17.0, "samples/gaussian/frechet@2000": 40.0,
    "samples/gaussian/kernel_distance@2000": 0.004,
}  # fmt: skip


def run(folder, label, seed, prior=None, beta=1.0, status="finished", **logger) -> Entry:
    """A run and its summary.json; with a `prior` of its own beside the Gaussian."""
    path = folder / f"{label},seed={seed}"
    path.mkdir(exist_ok=True)
    final = FINAL | ({f"samples/{prior}/frechet@2000": 30.0} if prior else {})
    summary = {
        "format": RESULTS_FORMAT,
        "training": {"max_images": 64, "complete": True},
        "metrics": {"val/mse": 0.02, "val/rate": 7.0, "val/images": 4.0},
        "measurements": records(final, "val"),
        **{"model": label, "data": "faces", "seed": seed, "command": "…", "images_seen": 64, "parameters": 1000},
        **{"images_per_second": 10.0, "train_hours": 0.5, "device_hours": 0.5, "peak_memory_mib": 900.0, "versions": {"zoo": "1"}},
    }
    if status == "finished":
        (path / "summary.json").write_text(json.dumps(summary))
    own = {"id": f"{label[0]}{beta:g}{seed}", "project": "zoo", "entity": None, "mode": "auto"}
    metrics = {quantity(name.removesuffix("@2000")): value for name, value in final.items()}
    return Entry(
        folder=path,
        name=path.name,
        status=status,
        command=f"python -m zoo.train model={label}",
        seed=seed,
        model=label,
        data="faces",
        config={
            "model": {"name": label, "beta": beta},
            "data": {"name": "faces"},
            "max_images": 64,
            "seed": seed,
            "logger": {"wandb": own | logger},
        },
        metrics=metrics if status == "finished" else {},
        cost={name: value for name, value in summary.items() if isinstance(value, int | float) and name not in ("seed", "format")},
        curves={
            **{"images_seen": [32.0, 64.0], "val/mse": [0.04, 0.02], "val/images": [4.0, 4.0], "train/loss": [9.0, NAN]},
            "val/reconstructions/mse@2000": [0.03, 0.021],  # measured at the end, and again after it was continued
            **{"train/images_per_second": [9.0, 11.0], **({"val/rate": [5.0, 7.0]} if prior else {})},
        },
        image_files=dict.fromkeys(("samples", *(["transfer"] if label == "udt" else [])), path / "x.png"),
    )


def comparison(rows: list[Row], others: tuple[Entry, ...] = ()) -> Comparison:
    numbers = numbers_of(rows)
    return Comparison(
        title="ae, vae on faces",
        rows=rows,
        numbers=numbers,
        tables=tables_of(numbers),
        others=list(others),
        protocol={"split": "test", "samples": "10,000"},
        differing=DataFrame(
            differing_of([settings_of(row.entries[0].config, row.entries[0].command) for row in rows]), index=[row.label for row in rows]
        ),
        notes=["One seed says nothing."],
        command="python -m zoo.compare runs dashboard=wandb",
    )


@pytest.fixture(autouse=True)
def no_account(tmp_path, monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def two_rows(tmp_path) -> Comparison:
    """Two seeds of an ae, one vae, and a vae that still trains."""
    rows = [Row("ae", [run(tmp_path, "ae", 0), run(tmp_path, "ae", 1)]), Row("vae", [run(tmp_path, "vae", 0, "normal")])]
    failed = Entry(None, "glow,seed=0", "failed", "Out of memory.", config={"logger": {"wandb": {"id": "g10"}}})
    return comparison(rows, (run(tmp_path, "vae", 1, "normal", status="training"), failed))


def record_of(folder) -> dict:
    return json.loads((folder / "dashboard.json").read_text())


def panels(record, kind=None) -> dict[str, list[dict]]:
    """The workspace's panels by section; of one kind only, if named."""
    found = record["workspace"]["spec"]["section"]["panelBankConfig"]["sections"]
    return {section["name"]: [panel for panel in section["panels"] if kind in (None, panel["viewType"])] for section in found}


def test_without_an_account_the_dashboard_is_described_and_the_next_steps_are_said(two_rows, tmp_path, monkeypatch):
    def no_network(*args, **kwargs):
        raise AssertionError("a server was asked")

    monkeypatch.setattr(wandb, "Api", no_network)
    message = dashboard(two_rows, tmp_path)
    assert str(tmp_path / "dashboard.json") in message
    assert "run wandb login and give the same command again" in message
    first = (tmp_path / "dashboard.json").read_bytes()
    dashboard(two_rows, tmp_path)
    assert (tmp_path / "dashboard.json").read_bytes() == first  # nothing random in it
    record = record_of(tmp_path)
    assert (record["entity"], record["project"], record["runs"]) == (None, "zoo", ["a10", "a11", "v10", "v11"])
    identities = [panel["__id__"] for section in panels(record).values() for panel in section]
    assert len(set(identities)) == len(identities)


def test_every_column_that_was_logged_is_a_bar_plot_under_its_logged_name(two_rows, tmp_path):
    dashboard(two_rows, tmp_path)
    bars = panels(record_of(tmp_path), "Bar Chart")
    titles = {tuple(panel["config"]["metrics"]): panel["config"]["chartTitle"] for section in bars.values() for panel in section}
    both = ("val/samples/gaussian/frechet@2000", "val/samples/normal/frechet@2000")
    assert titles == {
        both: "samples/…/frechet@2000 ↓",
        ("val/samples/gaussian/kernel_distance@2000",): "samples/gaussian/kernel_distance@2000 ↓",
        ("val/reconstructions/mse@2000",): "reconstructions/mse@2000 ↓",
        ("val/reconstructions/psnr@2000",): "reconstructions/psnr@2000 ↑",
        ("cost/device_hours",): "cost/device_hours ↓",
        ("cost/parameters",): "cost/parameters",
        ("cost/images_per_second",): "cost/images_per_second ↑",
        ("cost/peak_memory_mib",): "cost/peak_memory_mib ↓",
        ("cost/images_seen",): "cost/images_seen",
    }
    assert all(panel["config"]["limit"] == 4 for section in bars.values() for panel in section)  # W&B's own limit is 10 runs
    assert {panel["config"]["metrics"][0].split("/")[0] for panel in bars["Summary"]} == {"val"}


def test_curves_run_over_images_seen_and_constants_are_left_out(two_rows, tmp_path):
    dashboard(two_rows, tmp_path)
    lines = panels(record_of(tmp_path), "Run History Line Plot")
    assert [panel["config"]["metrics"] for panel in lines["Curves"]] == [["val/mse"], ["val/rate"]]  # what more runs have comes first
    assert [panel["config"]["metrics"] for panel in lines["Cost"]] == [["train/images_per_second"]]
    for panel in (*lines["Curves"], *lines["Cost"]):
        config = panel["config"]
        assert (config["xAxis"], config["groupAgg"], config["groupArea"]) == ("images_seen", "mean", "stddev")


def test_quality_is_set_against_hours_and_speed_and_pictures_are_browsed(two_rows, tmp_path):
    dashboard(two_rows, tmp_path)
    record = record_of(tmp_path)
    pairs = [(p["config"]["yAxis"], p["config"]["xAxis"]) for p in panels(record, "Scatter Plot")["Quality and cost"]]
    costs = ("summary:cost/device_hours", "summary:cost/images_per_second")
    best = ("summary:val/samples/gaussian/frechet@2000", "summary:val/reconstructions/mse@2000")
    assert pairs == [(quality, cost) for quality in best for cost in costs]  # the Gaussian is the prior that all runs have
    assert [panel["config"]["mediaKeys"] for panel in panels(record)["Samples"]] == [["pictures/samples"]]
    assert "Transfer" not in panels(record)


def test_runs_are_filtered_grouped_by_row_and_sorted_by_the_first_metric(two_rows, tmp_path):
    dashboard(two_rows, tmp_path)
    record = record_of(tmp_path)
    grids = [block for block in record["report"]["spec"]["blocks"] if block["type"] == "panel-grid"]
    assert len(grids) == len(panels(record))
    for runs in (record["workspace"]["spec"]["section"]["runSets"][0], *(grid["metadata"]["runSets"][0] for grid in grids)):
        (chosen,) = runs["filters"]["filters"]
        assert (chosen["key"], chosen["op"], chosen["value"]) == (
            {"section": "run", "name": "name"},
            "IN",
            record["runs"],
        )  # "name" is the id
        assert runs["grouping"] == [{"section": "config", "name": "model.value.name"}]
        key = {"section": "summary", "name": "val/samples/gaussian/frechet@2000"}
        assert runs["sort"]["keys"] == [{"key": key, "ascending": True}]


def test_rows_of_one_model_are_grouped_by_what_tells_them_apart(tmp_path):
    rows = [Row(f"vae beta={beta}", [run(tmp_path, "vae", 0, beta=beta)]) for beta in (1.0, 4.0)]
    dashboard(comparison([*rows, Row("ae", [run(tmp_path, "ae", 0)])]), tmp_path)
    grouping = record_of(tmp_path)["workspace"]["spec"]["section"]["runSets"][0]["grouping"]
    assert [key["name"] for key in grouping] == ["model.value.name", "model.value.beta"]


def test_the_report_holds_tables_facts_and_the_same_panels(two_rows, tmp_path):
    dashboard(two_rows, tmp_path)
    record = record_of(tmp_path)
    blocks = record["report"]["spec"]["blocks"]
    tables = "".join(block.get("content", "") for block in blocks)
    assert "| model | prior | n | Fréchet ↓ |" in tables
    assert "| vae | normal | 1 |" in tables
    text = json.dumps(blocks, ensure_ascii=False)
    for fact in ("split: test", "One seed says nothing.", "glow,seed=0: failed (Out of memory.)", two_rows.command):
        assert fact in text
    grids = [block["metadata"]["panelBankSectionConfig"]["panels"] for block in blocks if block["type"] == "panel-grid"]
    assert [[panel["config"] for panel in grid] for grid in grids] == [
        [panel["config"] for panel in found] for found in panels(record).values()
    ]
    for grid in grids:
        places = [(panel["layout"]["x"], panel["layout"]["y"]) for panel in grid]
        assert len(set(places)) == len(places)


def test_with_an_account_both_are_made_once_and_then_updated(two_rows, tmp_path, monkeypatch):
    class Account:
        default_entity = "me"

    saved = []

    def save_report(report):
        saved.append(("report", report.entity, report.project, report.id))
        report.id = report.id or "R1"

    def save_workspace(workspace):
        saved.append(("workspace", workspace.entity, workspace.project, workspace._internal_name, workspace._internal_id))
        workspace._internal_name, workspace._internal_id = workspace._internal_name or "nw-W1-v", workspace._internal_id or "W1"

    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setattr(wandb, "Api", Account)
    monkeypatch.setattr(reports.Report, "save", save_report)
    monkeypatch.setattr(workspaces.Workspace, "save", save_workspace)
    monkeypatch.setattr(reports.Report, "url", property(lambda report: f"https://w/{report.id}"))
    monkeypatch.setattr(workspaces.Workspace, "url", property(lambda workspace: f"https://w/{workspace._internal_name}"))
    message = dashboard(two_rows, tmp_path)
    assert message == "W&B workspace https://w/nw-W1-v and report https://w/R1 show 4 runs."
    dashboard(two_rows, tmp_path)
    assert saved == [
        ("report", "me", "zoo", ""),
        ("workspace", "me", "zoo", "", ""),
        ("report", "me", "zoo", "R1"),
        ("workspace", "me", "zoo", "nw-W1-v", "W1"),
    ]

    monkeypatch.delenv("WANDB_API_KEY")
    dashboard(two_rows, tmp_path)
    assert (record_of(tmp_path)["report"]["id"], record_of(tmp_path)["workspace"]["name"]) == ("R1", "nw-W1-v")  # kept for later

    def refused(report):
        raise ValueError("Run set 'compared runs' project 'me/zoo' not found.")

    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setattr(reports.Report, "save", refused)
    with pytest.raises(ZooError, match=r"did not take the dashboard .*me/zoo.* not found"):
        dashboard(two_rows, tmp_path)
    assert record_of(tmp_path)["report"]["id"] == "R1"


def test_an_account_that_is_switched_off_is_not_asked(two_rows, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert "WANDB_MODE is offline" in dashboard(two_rows, tmp_path)


def test_runs_that_were_logged_offline_are_to_be_uploaded_first(two_rows, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    logs = []
    for entry in two_rows.rows[0].entries:
        log = entry.folder / "wandb" / "offline-run-1-a" / "run-a.wandb"
        log.parent.mkdir(parents=True)
        log.touch()
        logs.append(log)
    assert "run wandb login && wandb sync ./*/wandb/offline-run-* and give" in dashboard(two_rows, tmp_path)
    logs[0].with_name("run-a.wandb.synced").touch()
    assert "wandb sync ae,seed=1/wandb/offline-run-* and" in dashboard(two_rows, tmp_path)
    logs[1].with_name("run-a.wandb.synced").touch()
    first_stage = logs[0].parents[2] / "pretrain" / "wandb" / "offline-run-1-b" / "run-b.wandb"
    first_stage.parent.mkdir(parents=True)
    first_stage.touch()
    assert "wandb sync ae,seed=0/pretrain/wandb/offline-run-* and" in dashboard(two_rows, tmp_path)
    first_stage.with_name("run-b.wandb.synced").touch()
    assert "sync" not in dashboard(two_rows, tmp_path)


def test_what_cannot_be_shown_is_said_in_a_sentence(two_rows, tmp_path, monkeypatch):
    elsewhere = Row("udt", [run(tmp_path, "udt", 0, project="other", entity="team")])
    with pytest.raises(ZooError, match=r"one project, but these lie in zoo \(ae,seed=0\), team/other \(udt,seed=0\)"):
        dashboard(replace(two_rows, rows=[*two_rows.rows, elsewhere]), tmp_path)
    with pytest.raises(ZooError, match="None of these runs was logged to W&B"):
        dashboard(comparison([Row("ae", [run(tmp_path, "ae", 0, id=None)])]), tmp_path)
    assert not (tmp_path / "dashboard.json").exists()
    (tmp_path / "dashboard.json").write_text('{"workspace": {')
    with pytest.raises(ZooError, match=r"dashboard.json is damaged; remove it"):
        dashboard(two_rows, tmp_path)
    assert (tmp_path / "dashboard.json").read_text() == '{"workspace": {'
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    with pytest.raises(ZooError, match=r"pip install 'zoo\[dashboard\]'"):
        dashboard(two_rows, tmp_path)
