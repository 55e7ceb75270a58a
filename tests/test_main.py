import subprocess
import sys

import zoo.__main__ as module


def zoo(*arguments, cwd=None):
    return subprocess.run([sys.executable, "-m", "zoo", *arguments], capture_output=True, text=True, cwd=cwd)


def test_the_commands_are_listed():
    for done in (zoo(), zoo("--help")):
        assert done.returncode == 0
        assert all(f"  {name} " in done.stdout for name in module.COMMANDS)


def test_a_command_is_that_module(tmp_path):
    done = zoo("train", "data.limt=3", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "zoo: There is no setting 'data.limt'; did you mean 'data.limit'?\n")
    assert "python -m zoo.generate" in zoo("generate", "--help", cwd=tmp_path).stdout


def test_an_unknown_command_is_one_sentence():
    done = zoo("trian")
    assert (done.returncode, done.stderr) == (2, "zoo: there is no command 'trian'; did you mean 'train'?\n")
