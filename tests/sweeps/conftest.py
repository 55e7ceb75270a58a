import pytest

SPY = """
import os, sys
if "zoo.train" in sys.orig_argv:
    told = [os.environ.get("LOCAL_RANK", "0"), *sys.orig_argv]
    with open(os.path.join(os.path.dirname(__file__), f"spy-{os.getpid()}"), "w") as file:
        file.write("\\n".join(told))
"""


@pytest.fixture
def assert_two_ranks_alike(monkeypatch, tmp_path):
    """Writes down the command of every training process from now on.

    assert_two_ranks_alike(argument, folder): a run with that argument had two ranks, the second has all arguments of the first and
    adds no setting, and both write into that folder.
    """
    (tmp_path / "spy").mkdir()
    (tmp_path / "spy" / "sitecustomize.py").write_text(SPY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "spy"))

    def check(argument, folder):
        told = [path.read_text().split("\n") for path in (tmp_path / "spy").glob("spy-*")]
        (zero, *first), (one, *second) = sorted(command for command in told if argument in command)
        assert (zero, one) == ("0", "1")
        assert second[: len(first)] == first
        added = [text.replace('"', "") for text in second[len(first) :]]
        assert all(text.startswith("hydra.") for text in added)
        assert [text for text in added if text.startswith("hydra.run.dir=")] == [f"hydra.run.dir={folder}"]

    return check
