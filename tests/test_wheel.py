"""The built wheel carries its configuration: it trains from any folder, without the checkout."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path


def test_the_wheel_trains_from_another_folder(tmp_path, tiny):
    checkout = Path(__file__).parent.parent
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, checkout],
        check=True,
        capture_output=True,
    )
    wheel = next(tmp_path.glob("*.whl"))
    names = zipfile.ZipFile(wheel).namelist()
    assert "zoo/conf/train.yaml" in names
    assert "zoo/conf/model/vae.yaml" in names
    assert not [name for name in names if name.startswith(("tests", "conf/"))]
    assert "hydra_plugins/__init__.py" not in names  # other packages put plugins there, too

    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(venv), "platbase": str(venv)}))
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", site, wheel], check=True)
    (site / "installed.pth").write_text(sysconfig.get_path("purelib") + "\n")  # sees what is installed here, but not the editable zoo

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    python = [str(venv / "bin" / "python"), "-c"]
    program = "import zoo, zoo.sweeps.plugins as plugins; print(zoo.__file__, plugins.__file__)"
    where = subprocess.run([*python, program], cwd=elsewhere, env=environment, capture_output=True, text=True)
    assert where.stdout.count(str(site)) == 2, where.stderr
    command = [str(venv / "bin" / "python"), "-m", "zoo.train", *tiny, "hydra.run.dir=run"]
    done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (elsewhere / "run" / "summary.json").exists()
