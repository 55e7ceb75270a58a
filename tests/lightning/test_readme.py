"""The code of the README's section on own Trainers, data and models runs as it stands."""

import re
from pathlib import Path

SECTION = (
    (Path(__file__).parents[2] / "README.md").read_text().partition("## With your own Trainer, data or model")[2].partition("\n## ")[0]
)


def test_the_code_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
    assert len(blocks) == 2
    space: dict = {"__name__": "readme"}
    for block in blocks:
        exec(block, space)
    assert tuple(space["samples"].shape) == (16, 1, 32, 32)
    assert {"val/loss", "val/mse", "val/psnr"} <= space["trainer"].callback_metrics.keys()
