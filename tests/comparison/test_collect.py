import json
import os
import subprocess
import sys
import time

import pytest
from scipy import stats

import zoo.comparison
from tests.comparison.runs import age, make_run, quantity, records, seeds, write_log
from zoo.comparison import baseline
from zoo.comparison.collect import compare
from zoo.errors import ZooError
from zoo.runs import status
from zoo.runs.measurements import name_of

FRECHET = "samples/normal/frechet"
NORMAL, MSE = quantity(FRECHET), quantity("reconstructions/mse")


def of(frechet: float, count: str = "@2000", **more: float) -> dict:
    return {f"{FRECHET}{count}": frechet, f"reconstructions/mse{count}": frechet / 1000, "mse": frechet / 1000, "images": 2000.0} | more


def make_sweep(root):
    """Three seeds of two models; their Fréchet distances are 10, 11, 12 and 11, 12, 14."""
    for model, values in (("ae", (11, 12, 14)), ("vae", (10, 11, 12))):
        for seed, value in enumerate(values):
            make_run(root / f"{model}-{seed}", model, seed, metrics=of(value))
    return root


def cells(comparison, title: str, column: str):
    table = next(table for table in comparison.tables if table.title == title)
    header = next(one.header for one in table.columns if one.title == column)
    return list(table.cells[header].itertuples())


def test_seeds_are_put_together(tmp_path):
    found = compare([make_sweep(tmp_path)])
    assert [(row.label, [entry.seed for entry in row.entries]) for row in found.rows] == [("vae", [0, 1, 2]), ("ae", [0, 1, 2])]
    vae, ae = cells(found, "Samples", "Fréchet")
    assert (vae.text, vae.n, vae.mark) == ("11.000 ± 1.000", 3, "best")
    assert (ae.mean, ae.std) == (pytest.approx(37 / 3), pytest.approx(((16 + 1 + 25) / 9 / 2) ** 0.5))
    assert stats.ttest_ind([11, 12, 14], [10, 11, 12], equal_var=False).pvalue > 0.05
    assert ae.mark == "noise"
    assert found.protocol == {
        "data": "faces", "split": "val", "image size": "64×64", "images": "train=20000, val=2000, test=10000, seed=0",
        "features": "the data's classifier", "N": "2,000", "images seen": "1,000",
    }  # fmt: skip
    assert found.differing.empty
    assert found.others == []
    assert found.title == "vae, ae on faces"
    for name in ("acai", "gan", "udt"):
        make_run(tmp_path / name, name, 0, metrics=of(20))
    assert compare([tmp_path]).title == "5 models on faces"


def test_different_numbers_of_seeds_are_said(tmp_path):
    make_sweep(tmp_path)
    make_run(tmp_path / "x", "gan", 0, metrics=of(99))
    found = compare([tmp_path])
    assert [len(row.entries) for row in found.rows] == [3, 3, 1]
    assert "Rows have different numbers of seeds (n)." in found.notes
    assert "Less than 3 seeds say little of noise, so nothing is marked as lying within it for gan." in found.notes


def test_rows_are_settings_that_matter(tmp_path):
    make_run(tmp_path / "a", seed=0, metrics=of(1), beta=1.0)
    make_run(
        tmp_path / "b",
        seed=1,
        metrics=of(2),
        beta=1.0,
        config={"logger": {}, "val_every_images": 7, "trainer": {"devices": 2}},
    )
    make_run(tmp_path / "c", seed=0, overrides="model.beta=4", metrics=of(3), beta=4)
    make_run(tmp_path / "d", seed=0, overrides="optimizer.lr=0.1", metrics=of(4), beta=1.0, config={"optimizer": {"lr": 0.1}})
    found = compare([tmp_path])
    assert [(row.label, len(row.entries)) for row in found.rows] == [("vae", 2), ("vae beta=4", 1), ("vae lr=0.1", 1)]
    assert found.differing.to_dict("list") == {"model.beta": ["1", "4", "1"], "optimizer.lr": ["0.002", "0.002", "0.1"]}


def test_the_same_seed_on_other_devices_is_another_row_and_twice_the_same_counts_once(tmp_path):
    make_run(tmp_path / "a", metrics=of(1))
    make_run(tmp_path / "b", metrics=of(2), config={"trainer": {"devices": 2}})
    make_run(tmp_path / "c", metrics=of(3), config={"trainer": {"devices": 2}})
    found = compare([tmp_path])
    assert [(row.label, seeds(row, NORMAL)) for row in found.rows] == [("vae devices=1", [1.0]), ("vae devices=2", [3.0])]
    assert "b is the same run as c, and only the second is counted." in found.notes


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"config": {"data": {"name": "mnist"}}}, "data is faces in a and mnist in b;"),
        ({"config": {"data": {"image_size": 32}}}, "image size is 64×64 in a and 32×32 in b;"),
        (
            {"config": {"data": {"crop": 148}}, "both": {"config": {"data": {"crop": None}}}},
            "crop is the largest square in a and 148 in b;",
        ),
        ({"config": {"data": {"source": {"train": 9}}}}, "the set of images is train=20000, .* in a and train=9 in b;"),
        ({"metrics": of(2, "@500")}, "N is 2,000 in a and 500 in b;"),
        ({"metrics": {"mse": 0.1, "images": 100.0}}, "N is 2,000 in a and 100 in b;"),
    ],
)
def test_what_is_not_comparable_is_refused(tmp_path, change, what):
    make_run(tmp_path / "a", "ae", **({"metrics": of(1)} | change.pop("both", {})))
    make_run(tmp_path / "b", **({"metrics": of(2)} | change))
    with pytest.raises(
        ZooError, match=rf"^These runs cannot be compared: {what} name fewer runs, evaluate them alike .*, or set force=true\.$"
    ):
        compare([tmp_path])
    found = compare([tmp_path], force=True)
    assert len(found.rows) == 2
    assert "mixed" in found.protocol.values()
    assert any(note.startswith("Not the same for all") for note in found.notes)
    compare([tmp_path / "a"])


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"measured": {"images_sha256": "cd" * 32}}, "the set of images is abababababab in a and cdcdcdcdcdcd in b"),
        ({"measured": {"images_sha256": "cd" * 32}, "config": {"data": {"image_size": 32}}}, "image size is 64×64 in a and 32×32 in b"),
        ({"measured": {"seed": 1}}, "seed of the evaluation is 0 in a and 1 in b"),
        ({"features": {"classifier": {"name": "classifier", "sha256": "e" * 64}}}, "features is classifier f* in a and classifier e* in b"),
        ({"metrics": {f"{FRECHET}@2000": 1.0}}, "N is 10,000 in a and 2,000 in b"),
        ({"metrics": {"samples/flow/frechet@2000": 1.0}}, "N is 10,000 in a and 2,000 in b"),  # from another prior
    ],
)
def test_what_was_measured_otherwise_is_refused(tmp_path, change, what):
    metrics = {FRECHET: 1.0, "attributes/success@100": 0.5}
    make_run(tmp_path / "a", "ae", metrics=of(1), evaluation={"metrics": metrics})
    make_run(tmp_path / "b", metrics=of(1), config=change.get("config"), evaluation={"metrics": metrics} | change)
    with pytest.raises(ZooError, match=f"cannot be compared: {what};"):
        compare([tmp_path])
    assert len(compare([tmp_path], force=True).rows) == 2


def test_other_features_beside_the_same_are_no_difference(tmp_path):
    features = {"classifier": {"name": "classifier", "sha256": "f" * 64}, "inception": {"name": "inception", "sha256": "0" * 64}}
    make_run(tmp_path / "a", "ae", metrics=of(1), evaluation={"metrics": {FRECHET: 1.0}})
    make_run(tmp_path / "b", metrics=of(1), evaluation={"metrics": {FRECHET: 2.0, f"{FRECHET}_inception": 3.0}, "features": features})
    found = compare([tmp_path])
    assert [cell.text for cell in cells(found, "Samples", "Fréchet, Inception")] == ["", "3.000"]


def test_the_test_split_is_compared_where_all_were_evaluated(tmp_path):
    make_run(tmp_path / "a", "ae", metrics=of(1), evaluation={"metrics": {FRECHET: 5.0, "attributes/success@100": 0.5}})
    make_run(tmp_path / "b", metrics=of(2), evaluation={"metrics": {FRECHET: 6.0}})
    found = compare([tmp_path])
    assert found.protocol["split"] == "test"
    assert found.protocol["N"] == "10,000"
    assert found.protocol["features"] == "classifier ffffffffffff"
    assert [seeds(row, NORMAL) for row in found.rows] == [[5.0], [6.0]]
    assert seeds(found.rows[0], "sampling/images_per_second") == [50.0]
    assert [seeds(row, NORMAL) for row in compare([tmp_path], split="val").rows] == [[1.0], [2.0]]

    make_run(tmp_path / "c", "gan", metrics=of(3))
    found = compare([tmp_path])
    assert found.protocol["split"] == "val"
    assert any("not evaluated on the test split" in note and note.endswith(": c.") for note in found.notes)
    found = compare([tmp_path], split="test")
    assert [row.label for row in found.rows] == ["ae", "vae"]
    assert "c has no numbers of the test split and was left out (python -m zoo.evaluate run=RUN)." in found.notes


def test_an_evaluation_of_older_weights_does_not_count(tmp_path):
    make_run(tmp_path / "a", metrics=of(1), evaluation={"metrics": {FRECHET: 5.0}, "images_seen": 500})
    found = compare([tmp_path])
    assert seeds(found.rows[0], NORMAL) == [1.0]
    assert any(note.startswith("a has been trained on since it was evaluated") for note in found.notes)


def test_max_images_and_commits_may_differ_and_are_named(tmp_path):
    make_run(tmp_path / "a", "ae", metrics=of(1))
    make_run(tmp_path / "b", metrics=of(2), seen=5000, config={"max_images": 5000}, summary={"versions": {"commit": "def"}})
    found = compare([tmp_path])
    assert found.protocol["images seen"] == "mixed"
    assert "Images seen differ: 1,000 (ae); 5,000 (vae)." in found.notes
    assert "Commits of the zoo differ: abc (ae); def (vae)." in found.notes


def test_commits_of_the_evaluation_that_differ_are_said(tmp_path):
    for name, commit in (("ae", "111"), ("vae", "222")):
        evaluation = {"metrics": {FRECHET: 5.0}, "versions": {"commit": commit}}
        make_run(tmp_path / name, name, metrics=of(1), evaluation=evaluation)
    note = "Evaluated at different commits: 111 (ae); 222 (vae)."
    assert note in compare([tmp_path]).notes
    assert note not in compare([tmp_path], split="val").notes


def test_several_numbers_of_images_in_one_evaluation(tmp_path):
    """The one that all priors have stays, the largest of several; the rest is named."""
    older = {
        "samples/normal/frechet@2000": 1.0, "samples/flow/frechet@2000": 2.0, "samples/flow/frechet": 20.0,
        "samples/normal/recall": 0.1, "samples/normal/recall@20000": 0.2, "samples/normal/recall@2000": 0.3,
        "samples/normal/kernel_distance@2000": 4.0, "samples/flow/kernel_distance": 5.0,
        "reconstructions/mse": 0.5, "reconstructions/mse@2000": 0.6,
    }  # fmt: skip
    for name, metrics in (("a", older), ("b", dict(reversed(older.items())))):
        found = compare([make_run(tmp_path / name, metrics=of(1), evaluation={"metrics": metrics})])
        numbers = found.rows[0].entries[0].metrics
        assert {name_of(own): value for own, value in numbers.items()} == {
            "samples/normal/frechet": 1.0, "samples/flow/frechet": 2.0, "samples/normal/recall": 0.2, "samples/flow/kernel_distance": 5.0,
            "reconstructions/mse": 0.5,
        }  # fmt: skip
        (note,) = (note for note in found.notes if "several N" in note)
        assert note.startswith(f"{name}: measured with several N")
        named = note.partition("left out: ")[2].removesuffix(" images.").split(" images, ")
        assert set(named) == {
            "samples/frechet of 10,000", "samples/recall of 2,000", "samples/recall of 10,000", "samples/kernel_distance of 2,000",
            "reconstructions/mse of 2,000",
        }  # fmt: skip


def test_seeds_evaluated_with_other_groups_are_one_row(tmp_path):
    one, more = {"reconstructions/mse@2000": 1.0}, {"reconstructions/mse@2000": 2.0, "samples/normal/frechet": 3.0}
    inception = {"classifier": {"name": "classifier", "sha256": "f" * 64}, "inception": {"name": "inception", "sha256": "0" * 64}}
    make_run(tmp_path / "a", seed=0, metrics=of(1), evaluation={"metrics": one})
    make_run(tmp_path / "b", seed=1, metrics=of(1), evaluation={"metrics": more, "features": inception})
    found = compare([tmp_path])
    assert [seeds(row, MSE) for row in found.rows] == [[1.0, 2.0]]
    assert not any("measured alike" in note for note in found.notes)
    make_run(tmp_path / "c", seed=2, metrics=of(1), evaluation={"metrics": {"reconstructions/mse": 9.0}})
    found = compare([tmp_path], force=True)
    assert [seeds(row, MSE) for row in found.rows] == [[1.0, 2.0], [9.0]]
    why = "N is 2,000 in a, b and 10,000 in c"
    assert f"Runs of the same settings were not measured alike and are 2 rows: {why}." in found.notes


def test_speed_is_that_of_all_stages_and_the_machine_that_of_training(tmp_path):
    old = {"images_seen": 36_000, "images_per_second": 5.0, "train_hours": 2.0, "pretrain": {"images_seen": 18_000, "train_hours": 1.9}}
    evaluation = {"metrics": {FRECHET: 5.0}, "images_seen": 36_000}
    make_run(tmp_path / "a", "ae", metrics=of(1), evaluation=evaluation, seen=36_000, summary=old)
    make_run(tmp_path / "b", "gan", metrics=of(1), evaluation=evaluation, seen=36_000, summary=old | {"machine": "y"})
    cost = {"train/machine": "y", "sampling/images_per_second": 50.0, "sampling/machine": "z"}
    (tmp_path / "b/cost.json").write_text(json.dumps(cost))
    found = compare([tmp_path])
    assert [seeds(row, "images_per_second") for row in found.rows] == [[5.0], [5.0]]  # 36,000 images in two hours
    assert [row.entries[0].cost["machine"] for row in found.rows] == ["x", "y"]  # an older run tells that of its evaluation only
    assert "Machines differ: x (ae); y (gan)." in found.notes


def test_a_classifier_that_no_run_tells_of_is_said(tmp_path):
    def notes(root):
        return [note for note in compare([root]).notes if "trained once in each cache" in note]

    for data in ("faces", "mnist"):
        for model in ("ae", "vae"):
            make_run(tmp_path / data / model, model, metrics=of(1), config={"data": {"name": data}})
    assert len(notes(tmp_path / "mnist")) == 1
    assert notes(tmp_path / "faces") == notes(tmp_path / "mnist/ae") == []
    for model in ("ae", "vae"):
        make_run(tmp_path / "plain" / model, model, metrics={"mse": 1.0, "images": 9.0}, config={"data": {"name": "mnist"}})
        make_run(
            tmp_path / "test" / model, model, metrics=of(1), evaluation={"metrics": {FRECHET: 5.0}}, config={"data": {"name": "mnist"}}
        )
    assert notes(tmp_path / "plain") == notes(tmp_path / "test") == []


def test_the_test_split_before_anything_was_evaluated_is_one_sentence(tmp_path):
    for name in ("ae", "vae"):
        make_run(tmp_path / name, name, metrics=of(1))
    with pytest.raises(
        ZooError, match=r"^None of the finished runs \(2\) was evaluated on the test split .*python -m zoo\.evaluate run=RUN"
    ):
        compare([tmp_path], split="test")
    make_run(tmp_path / "trains/a")
    assert compare([tmp_path / "trains"], split="test").title == "No finished run"


def test_states(tmp_path):
    make_run(tmp_path / "0-done", metrics=of(1))
    ended = {"training": {"max_images": 1000, "complete": True}}
    make_run(tmp_path / "1-longer", seed=1, metrics=of(1), config={"max_images": 5000}, summary=ended)  # resumed with a larger max_images
    make_run(tmp_path / "1-ended", seed=11, metrics=of(1), seen=400, summary=ended)
    make_run(tmp_path / "1-raised", seed=12, metrics=of(1), seen=400, summary={"training": {"max_images": 500, "complete": True}})
    make_run(tmp_path / "1-unsaved", seed=13, metrics=of(1), summary={"training": {"max_images": 1000, "complete": False}})
    make_run(tmp_path / "2-running", seed=2)
    make_run(tmp_path / "3-stopped", seed=3)
    make_run(tmp_path / "4-failed", seed=4)
    (tmp_path / "4-failed/job.json").write_text(json.dumps({"status": "failed", "reason": "Training diverged."}))
    for name, about in (
        ("5-refused", {"status": "failed", "reason": "No such data.", "overrides": ["model=ae", "seed=1"]}),
        ("6-killed", {"status": "running", "pid": 2**22 + 1}),
        ("7-starts", {"status": "running", "pid": os.getpid()}),
        ("8-told", {"status": "interrupted", "pid": os.getpid()}),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "job.json").write_text(json.dumps(about))
    for name in ("1-longer", "1-raised", "1-unsaved", "3-stopped", "4-failed"):
        age(tmp_path / name)
    (tmp_path / "sweep.json").write_text(json.dumps({"jobs": [{"folder": "0-done"}, {"folder": "9-waits"}]}))
    alive = status.is_alive
    try:
        status.is_alive = lambda pid, folder: pid == os.getpid()
        found = compare([tmp_path])
    finally:
        status.is_alive = alive
    assert [entry.name for row in found.rows for entry in row.entries] == ["0-done", "1-ended"]
    assert [(entry.name, entry.status, entry.reason) for entry in found.others] == [
        ("1-longer", "interrupted", "1,000 of 5,000 images"),
        ("1-raised", "interrupted", "400 of 1,000 images"),
        ("1-unsaved", "interrupted", "1,000 of 1,000 images"),
        ("2-running", "training", "1,000 of 1,000 images"),
        ("3-stopped", "interrupted", "1,000 of 1,000 images"),
        ("4-failed", "failed", "Training diverged."),
        ("5-refused", "failed", "No such data."),
        ("6-killed", "interrupted", "has not begun to train"),
        ("7-starts", "training", "has not begun to train"),
        ("8-told", "interrupted", "has not begun to train"),
    ]
    assert found.others[6].command == "python -m zoo.train model=ae seed=1"
    assert f"1 of 2 jobs of {tmp_path.name} have not begun." in found.notes


def test_no_finished_run_is_a_table_of_states(tmp_path):
    make_run(tmp_path / "a")
    found = compare([tmp_path], sort="mse", baseline="zoo")
    assert (found.rows, found.tables, found.title) == ([], [], "No finished run")
    assert [entry.status for entry in found.others] == ["training"]


def test_damaged_files_are_named_and_the_rest_is_compared(tmp_path):
    for name in "abcdefg":
        make_run(tmp_path / name, f"ae{name}", metrics=of(ord(name)), evaluation={"metrics": {FRECHET: 5.0}})
    make_run(tmp_path / "h", metrics=of(7), evaluation={"metrics": {FRECHET: 5.0}})
    (tmp_path / "a/summary.json").write_text('{"images_seen": 10')
    (tmp_path / "b/config.yaml").write_text("data: [")
    (tmp_path / "c/metrics.csv").write_text("images_seen,val/mse\n10,1\n20\n30,1\n")
    (tmp_path / "d/metrics.csv").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "e/evaluation.json").write_text('{"format": 2, "measurements": []}')
    (tmp_path / "f/cost.json").write_text("[]")
    (tmp_path / "g/job.json").write_text("")
    found = compare([tmp_path], split="test")
    assert sorted(row.entries[0].name for row in found.rows) == ["c", "d", "f", "g", "h"]
    assert [(entry.name, entry.reason) for entry in found.others] == [("a", "summary.json is damaged."), ("b", "config.yaml is damaged.")]
    for sentence in (
        "a/summary.json is damaged and was left out.",
        "b/config.yaml is damaged, so the run was left out.",
        "c/metrics.csv is damaged and was left out.",
        "d/metrics.csv is damaged and was left out.",
        "e/evaluation.json is damaged and was left out.",
        "f/cost.json is damaged and was left out.",
        "g/job.json is damaged and was left out.",
    ):
        assert sentence in found.notes
    curves = {row.entries[0].name: row.entries[0].curves for row in found.rows}
    assert (curves["c"], curves["d"]) == ({}, {})
    assert curves["h"]["images_seen"] == [250, 500, 750, 1000]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        *(("summary", {key: None}) for key in ("pretrain", "versions", "seed", "metrics", "measurements", "images_seen")),
        *(("summary", {key: "x"}) for key in ("device_hours", "train_hours", "parameters", "pretrain")),
        *(("summary", {key: [1]}) for key in ("machine", "accelerator", "command", "peak_memory_mib", "versions")),
        ("summary", {"seed": float("nan")}),
        ("summary", {"pretrain": {"train_hours": "x"}}),
        *(
            ("summary", {"training": value})
            for value in (None, {}, {"max_images": "x", "complete": True}, {"max_images": 1000, "complete": 1})
        ),
        *(("evaluation", {key: None}) for key in ("versions", "measurements", "measured", "features", "images_seen")),
        ("evaluation", {"versions": {"commit": ["x"]}}),
        *((name, {"measurements": value}) for name in ("summary", "evaluation") for value in ({}, [5], [{"group": "samples"}])),
        ("evaluation", {"features": {"classifier": None}}),
        ("cost", {"machine": ["x"]}),
        ("job", {"overrides": 5}),
    ],
)
def test_json_of_another_shape_is_damaged(tmp_path, name, change):
    make_run(tmp_path / "a", "ae", metrics=of(1), evaluation={"metrics": {FRECHET: 5.0}})
    make_run(tmp_path / "b", "vae", metrics=of(1), evaluation={"metrics": {FRECHET: 5.0}})
    path = tmp_path / f"a/{name}.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(before | change))
    found = compare([tmp_path], split="test")
    assert f"a/{name}.json is damaged and was left out." in found.notes
    assert [row.label for row in found.rows] == (["vae"] if name in ("summary", "evaluation") else ["ae", "vae"])
    assert [entry.reason for entry in found.others] == (["summary.json is damaged."] if name == "summary" else [])


def test_files_of_an_older_format_are_named_with_its_number_and_left_out(tmp_path):
    for name in "abc":
        make_run(tmp_path / name, f"ae{name}", metrics=of(1), evaluation={"metrics": {FRECHET: 5.0}})
    for path, old in (("a/evaluation.json", {}), ("b/summary.json", {"format": 7})):
        content = json.loads((tmp_path / path).read_text())
        del content["format"], content["measurements"]
        (tmp_path / path).write_text(json.dumps(content | {"metrics": {FRECHET: 5.0}} | old))
    found = compare([tmp_path], split="test")
    assert [row.label for row in found.rows] == ["aec"]
    again = "evaluate it again with python -m zoo.evaluate run=RUN"
    assert f"a/evaluation.json is of format 1, not 2 ({again}) and was left out." in found.notes
    assert "b/summary.json is of format 7, not 2 (train the run again) and was left out." in found.notes
    assert [(entry.name, entry.reason) for entry in found.others] == [("b", "summary.json is of format 7, not 2 (train the run again).")]


@pytest.mark.parametrize("content", ['{"jobs": null}', '{"jobs": [{"folder": null}]}', "{", '{"jobs": [3]}'])
def test_a_damaged_record_of_a_sweep_is_named(tmp_path, content):
    make_run(tmp_path / "a", metrics=of(1))
    (tmp_path / "sweep.json").write_text(content)
    found = compare([tmp_path])
    assert f"{tmp_path.name}/sweep.json is damaged and was left out." in found.notes
    assert len(found.rows) == 1


def test_numbers_that_are_none_are_left_out(tmp_path):
    make_run(tmp_path / "a", metrics=of(1, psnr=float("nan"), ssim=float("inf"), note="x"))
    found = set(map(name_of, compare([tmp_path]).rows[0].entries[0].metrics))
    assert found == {FRECHET, "reconstructions/mse", "mse", "images"}


def test_curves_have_hours_of_training(tmp_path):
    make_run(tmp_path / "a", metrics=of(1))
    (tmp_path / "a/metrics.csv").write_text(
        "images_seen,train/images_per_second,val/mse,val/final\n3600,2,,\n7200,4,0.5,\n10800,,0.25,1\n14400,1,,\n18000"  # the last is torn
    )
    curves = compare([tmp_path]).rows[0].entries[0].curves
    assert curves["images_seen"] == [3600, 7200, 10800, 14400]
    assert curves["hours"] == pytest.approx([0.5, 0.75, 1.0, 2.0])  # a row of validation alone goes on at the last rate
    assert curves["val/mse"][1:3] == [0.5, 0.25]
    assert curves["val/mse"][0] != curves["val/mse"][0]  # nan
    assert "val/final" not in curves


def test_a_log_that_has_just_begun(tmp_path):
    for name, log, reason in (
        ("a", "images_seen,train/images_per_second\n10,5\n", "10 of 1,000 images"),
        ("b", "images_seen,train/images_per_second\n", "0 of 1,000 images"),
        ("c", "images_seen,train/images_per_second\n10,0\n20,0\n", "20 of 1,000 images"),
    ):
        run = make_run(tmp_path / name, rows=0)
        (run / "metrics.csv").write_text(log)
        found = compare([run])
        assert ([entry.reason for entry in found.others], found.notes) == ([reason], [])


def test_curves_of_a_second_stage_begin_where_the_first_ended(tmp_path):
    make_run(tmp_path / "a", metrics=of(1), rows=0, summary={"pretrain": {"images_seen": 3600, "train_hours": 2.0}})
    write_log(tmp_path / "a", [(7200, 0.1), (10800, 0.1)], rate=1)
    assert compare([tmp_path]).rows[0].entries[0].curves["hours"] == pytest.approx([3.0, 4.0])


def test_a_first_stage_belongs_to_its_run(tmp_path):
    make_run(tmp_path / "a", "gan", metrics=of(1))
    make_run(tmp_path / "a/pretrain", "vae", metrics=of(2))
    assert [row.label for row in compare([tmp_path]).rows] == ["gan"]
    assert [row.label for row in compare([tmp_path / "a/pretrain"]).rows] == ["vae"]


def test_newest_pictures(tmp_path):
    run = make_run(tmp_path / "a", metrics=of(1), evaluation={"metrics": {"samples/gaussian/frechet": 1.0, "samples/flow/frechet": 1.0}})
    for name in (
        *("pictures/samples-000000000500", "pictures/samples-000000001000", "pictures/edits-000000001000"),
        *("pictures/interpolations-000000001000", "evaluation/interpolations", "evaluation/samples-flow", "evaluation/samples-gaussian"),
    ):
        (run / name).parent.mkdir(exist_ok=True)
        (run / f"{name}.png").write_bytes(b"")
    found = compare([tmp_path]).rows[0].entries[0].image_files
    assert {name: path.relative_to(run).as_posix() for name, path in found.items()} == {
        "samples": "evaluation/samples-gaussian.png",
        "edits": "pictures/edits-000000001000.png",
        "interpolations": "evaluation/interpolations.png",
    }
    found = compare([tmp_path], split="val").rows[0].entries[0].image_files
    assert found["samples"].name == "samples-000000001000.png"
    assert found["interpolations"].parent.name == "pictures"


def test_pictures_of_training_do_not_stand_beside_those_of_an_evaluation(tmp_path):
    for name, drawn in (("a", "evaluation/reconstructions"), ("b", "evaluation/other")):
        run = make_run(tmp_path / name, f"ae{name}", metrics=of(1), evaluation={"metrics": {FRECHET: 1.0}})
        for picture in ("pictures/reconstructions-000000001000", "pictures/edits-000000001000", drawn):
            (run / picture).parent.mkdir(exist_ok=True)
            (run / f"{picture}.png").write_bytes(b"")
    first, second = (row.entries[0].image_files for row in compare([tmp_path]).rows)
    assert first["reconstructions"].parent.name == "evaluation"
    assert "reconstructions" not in second  # of other images
    assert first["edits"].parent.name == second["edits"].parent.name == "pictures"
    assert compare([tmp_path / "b"]).rows[0].entries[0].image_files["reconstructions"].parent.name == "pictures"


def test_sorting(tmp_path):
    make_run(tmp_path / "a", "ae", metrics={"mse": 1.0, "psnr": 1.0, "images": 9})
    make_run(tmp_path / "b", "gan", metrics={"loss": 1.0})
    make_run(tmp_path / "c", "vae", metrics={"mse": 0.5, "psnr": 0.5, "images": 9})

    def order(**options):
        return [row.label for row in compare([tmp_path], **options).rows]

    assert order() == ["vae", "ae", "gan"]  # no Fréchet distance: by mse; who has none comes last
    assert order(sort="psnr") == ["ae", "vae", "gan"]
    assert order(sort="psnr, dB") == ["ae", "vae", "gan"]
    assert order(sort="parameters") == ["ae", "gan", "vae"]  # all alike
    with pytest.raises(ZooError, match=r"^sort=pnsr is not known; did you mean 'psnr'\?$"):
        order(sort="pnsr")
    found = compare([tmp_path], sort="linear_accuracy")
    assert "No run has a number for representation/linear_accuracy, so the rows are in the order of their folders." in found.notes


def test_sorting_by_a_number_of_samples(tmp_path):
    for name, (normal, flow, recall) in {"ae": (1.0, 9.0, 0.1), "vae": (2.0, 8.0, 0.3), "gan": (3.0, 7.0, 0.2)}.items():
        metrics = {"samples/normal/frechet": normal, "samples/flow/frechet": flow, "samples/normal/recall": recall}
        make_run(tmp_path / name, name, metrics=metrics)
    for sort, labels, title in (
        ("recall", ["vae", "gan", "ae"], "recall, best prior"),
        ("best_prior/recall", ["vae", "gan", "ae"], "recall, best prior"),
        ("samples/flow/frechet", ["gan", "vae", "ae"], "Fréchet, flow prior"),
        ("samples/normal/frechet", ["ae", "vae", "gan"], "Fréchet, normal prior"),
    ):
        found = compare([tmp_path], sort=sort)
        assert [row.label for row in found.rows] == labels
        assert f"Sorted by {title}." in found.notes
    assert any("No run has a number for best_prior/kernel_distance" in note for note in compare([tmp_path], sort="kernel_distance").notes)
    with pytest.raises(ZooError, match="sort=samples/flow/recal is not known"):
        compare([tmp_path], sort="samples/flow/recal")


def test_sorting_by_what_should_be_near_a_value(tmp_path):
    for name, sharpness in (("a", 0.5), ("b", 1.4), ("c", 1.1)):
        make_run(tmp_path / name, f"ae{name}", metrics={"reconstructions/laplacian_energy_ratio@2000": sharpness})
    assert [row.label for row in compare([tmp_path], sort="sharpness").rows] == ["aec", "aeb", "aea"]


def published(tmp_path, monkeypatch, **changes):
    row = {
        "command": "python -m zoo.train model=vae max_images=9_000", "model": "vae", "data": "faces", "seed": 0,
        "images_seen": 9000, "parameters": 7, "measured": {"images_sha256": "ab" * 32, "split": "test", "seed": 0},
        "features": {"classifier": {"name": "classifier", "sha256": "f" * 64, "image_size": 64}}, "measurements": records({FRECHET: 3.0}),
        "trained_with": {"commit": "old"}, "versions": {"commit": "old"}, "cost": {"train/device_hours": 2.0},
    } | changes  # fmt: skip
    (tmp_path / "results").mkdir()
    (tmp_path / "results/faces.json").write_text(json.dumps([row, row | {"seed": 1, "measurements": records({FRECHET: 5.0})}]))
    monkeypatch.setattr(baseline, "HERE", tmp_path / "results")


def test_published_rows_stand_beside(tmp_path, monkeypatch):
    published(tmp_path, monkeypatch)
    make_run(tmp_path / "runs/a", "ae", metrics=of(1), evaluation={"metrics": {FRECHET: 5.0}})
    found = compare([tmp_path / "runs"], baseline="zoo")
    assert [(row.label, row.published, seeds(row, NORMAL)) for row in found.rows] == [("zoo: vae", True, [3.0, 5.0]), ("ae", False, [5.0])]
    assert seeds(found.rows[0], "device_hours") == [2.0, 2.0]
    assert list(found.differing["max_images"]) == ["9_000", "1_000"]
    assert "Images seen differ: 9,000 (zoo: vae); 1,000 (ae)." in found.notes


def test_published_rows_that_cannot_stand_beside(tmp_path, monkeypatch):
    published(tmp_path, monkeypatch, features={"classifier": {"name": "classifier", "sha256": "9" * 64, "image_size": 64}})
    run = make_run(tmp_path / "runs/a", "ae", metrics=of(1), evaluation={"metrics": {FRECHET: 5.0}})
    found = compare([run], baseline="zoo")
    assert len(found.rows) == 1
    why = "features is classifier ffffffffffff in a and classifier 999999999999 in the zoo's"
    assert f"1 of the zoo's rows cannot be set beside these: {why}." in found.notes
    assert len(compare([run], baseline="zoo", force=True).rows) == 2
    assert any("test split" in note for note in compare([run], baseline="zoo", split="val").notes)
    with pytest.raises(ZooError, match="baseline=mine is not known; use zoo, or null"):
        compare([run], baseline="mine")
    other = make_run(tmp_path / "runs/b", metrics=of(1), config={"data": {"name": "lines"}})
    assert "The zoo has published nothing on lines." in compare([other], baseline="zoo").notes


@pytest.mark.parametrize("order", [1, -1])
def test_published_rows_of_one_label_in_several_files(tmp_path, monkeypatch, order):
    """Each is judged for itself, whichever file comes first, and those that stay are told apart."""
    published(tmp_path, monkeypatch)
    fit = json.loads((tmp_path / "results/faces.json").read_text())
    other = [row | {"measured": row["measured"] | {"images_sha256": "cd" * 32}, "measurements": records({FRECHET: 99.0})} for row in fit]
    for name, rows in zip(("compare", "faces"), (fit, other)[::order], strict=True):
        (tmp_path / f"results/{name}.json").write_text(json.dumps(rows))
    make_run(tmp_path / "runs/a", "ae", metrics=of(1), evaluation={"metrics": {FRECHET: 5.0}})
    found = compare([tmp_path / "runs"], baseline="zoo")
    assert [(row.label, seeds(row, NORMAL)) for row in found.rows] == [("zoo: vae", [3.0, 5.0]), ("ae", [5.0])]
    assert any(note.startswith("1 of the zoo's rows cannot be set beside these: the set of images") for note in found.notes)
    found = compare([tmp_path / "runs"], baseline="zoo", force=True)
    right, wrong = ("compare", "faces")[::order]
    assert {row.label: seeds(row, NORMAL) for row in found.rows} == {
        "ae": [5.0],
        f"zoo: vae file={right}": [3.0, 5.0],
        f"zoo: vae file={wrong}": [99.0, 99.0],
    }


def test_a_published_run_tells_the_machine_and_speed_of_its_training(tmp_path, monkeypatch):
    cost = {"train/images_seen": 9000, "train/images_per_second": 7.0, "train/device_hours": 2.0, "train/devices": 2, "machine": "x"}
    published(tmp_path, monkeypatch, cost=cost)
    (row,) = baseline.published(baseline.rows_of("faces"))
    assert seeds(row, "images_per_second") == [2.5, 2.5]
    assert row.entries[0].cost["machine"] == "x"
    entry = baseline.entry_of(baseline.rows_of("faces")[0] | {"cost": cost | {"train/machine": "y", "sampling/machine": "z"}})
    assert (entry.cost["machine"], entry.evaluated) == ("y", {"commit": "old"})


def test_a_config_of_another_program_is_no_run(tmp_path):
    make_run(tmp_path / "runs/a", metrics=of(1))
    (tmp_path / "config.yaml").write_text("site: mine")
    found = compare([tmp_path])
    assert ([row.label for row in found.rows], found.others) == (["vae"], [])
    (tmp_path / "runs/a/config.yaml").write_text("model: [")  # now it is a run's own, damaged; its first stage is none
    make_run(tmp_path / "runs/a/pretrain", metrics=of(1))
    assert [entry.name for entry in compare([tmp_path / "runs"]).others] == ["a"]


def test_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ZooError, match=r"^Name what to compare"):
        compare([])
    with pytest.raises(ZooError, match="nowhere is not a folder"):
        compare(["nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ZooError, match=r"empty holds no run: there is no config\.yaml in it or below"):
        compare(["empty"])
    with pytest.raises(ZooError, match="latest found no sweep below runs/sweeps/"):
        compare(["latest"])
    make_run(tmp_path / "runs/sweeps/2026-01-01/10-00-00/0", "ae", metrics=of(1))
    make_run(tmp_path / "runs/sweeps/2026-01-02/09-00-00/0", "vae", metrics=of(1))
    assert [row.label for row in compare(["latest"]).rows] == ["vae"]
    assert [row.entries[0].name for row in compare(["runs/sweeps", "runs"]).rows] == [
        "sweeps/2026-01-01/10-00-00/0",
        "sweeps/2026-01-02/09-00-00/0",
    ]
    with pytest.raises(ZooError, match="split=train is not known"):
        compare(["latest"], split="train")


def test_a_person_gets_the_tables_as_data_frames(tmp_path):
    found = zoo.comparison.compare([make_sweep(tmp_path)])
    samples = found.table("Samples")
    assert samples.index.to_list() == [("vae", "normal"), ("ae", "normal")]
    assert samples["Fréchet ↓"]["mean"].to_list() == pytest.approx([11, 37 / 3])
    assert samples.loc[("ae", "normal"), ("Fréchet ↓", "values")] == [11, 12, 14]
    assert samples.loc[("ae", "normal"), ("Fréchet ↓", "mark")] == "noise"
    numbers = found.numbers.query("group == 'samples' and metric == 'frechet'")
    assert numbers.groupby("row").value.mean().to_dict() == pytest.approx({"vae": 11, "ae": 37 / 3})
    assert numbers[["model", "seed", "prior", "features", "data"]].iloc[0].to_list() == ["vae", 0, "normal", "classifier", "faces"]
    with pytest.raises(KeyError):
        found.table("Transfer")


def test_what_other_commands_need_of_comparisons_imports_no_pandas():
    code = "import sys, zoo.compare, zoo.comparison.labels, zoo.sweeps.jobs; print({'pandas', 'plotly'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_a_hundred_runs_take_seconds(tmp_path):
    metrics = {f"samples/{prior}/{name}@2000": 1.0 for prior in ("normal", "flow") for name in ("frechet", "kernel_distance", "recall")}
    header = ["images_seen", "train/images_per_second", *(f"train/{k}" for k in range(10)), *(f"val/{name}" for name in metrics)]
    lines = [",".join([str(seen), "100", *["0.123456"] * 10, *[""] * len(metrics)]) for seen in range(1, 1001)]
    log = "\n".join([",".join(header), *lines]) + "\n"
    for k in range(100):
        run = make_run(tmp_path / str(k), f"m{k // 5}", k % 5, metrics=metrics | {"reconstructions/mse@2000": k / 1000}, rows=0)
        (run / "metrics.csv").write_text(log)
    began = time.process_time()
    found = compare([tmp_path])
    assert time.process_time() - began < 5
    assert [len(row.entries) for row in found.rows] == [5] * 20
    assert len(found.rows[0].entries[0].curves["train/1"]) == 1000
