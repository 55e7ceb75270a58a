"""sweep.json and job.json, and the lock of a sweep."""

import subprocess
import sys

from tests.sweeps.helpers import read


def test_two_processes_do_not_share_a_sweep(jobs, zoo, tiny, tmp_path):
    program = f"from zoo.sweeps.jobs import sweep_lock\nfrom pathlib import Path\nwith sweep_lock(Path({str(tmp_path / 'here')!r})):"
    program += "\n    print('held', flush=True)\n    input()"
    other = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    refused = zoo("train", "-m", *tiny, "seed=0,10", "hydra.sweep.dir=here")
    assert refused.code == 2
    assert "Another process is at work on the sweep in here" in refused.err
    assert not list((tmp_path / "here").glob("*-*"))
    other.communicate("\n")
    assert zoo("train", "-m", *tiny, "seed=0,10", "hydra.sweep.dir=here").code == 0


def test_damaged_files_of_an_earlier_attempt_do_no_harm(jobs, zoo, tiny, tmp_path):
    command = ["-m", *tiny, "seed=0,10", "hydra.sweep.dir=here"]
    assert zoo("train", *command).code == 0
    (tmp_path / "here" / "00-seed-0" / "summary.json").write_text('{"images')
    (tmp_path / "here" / "sweep.json").write_text("")
    done = zoo("train", *command)
    assert done.code == 0, done.err
    assert "[1/2] seed=0  started" in done.out
    assert "[2/2] seed=10  was finished before, skipped" in done.out
    assert len(read(tmp_path / "here", "sweep.json")["jobs"]) == 2
