"""What ties processes to the one that started them."""

import subprocess
import sys


def test_a_job_is_told_when_its_launcher_is_killed():
    program = """
import os, subprocess, sys, time
from functools import partial
from zoo.sweeps.processes import prepare_child
job = "import signal, sys; signal.signal(15, lambda *_: sys.exit(print('saved', flush=True))); print('up', flush=True); signal.pause()"
subprocess.Popen([sys.executable, "-c", job], preexec_fn=partial(prepare_child, os.getpid(), []))
time.sleep(60)
"""
    launcher = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert launcher.stdout.readline() == "up\n"
    launcher.kill()
    assert launcher.stdout.read() == "saved\n"  # and its end of the pipe is closed: it has ended
    launcher.wait()
