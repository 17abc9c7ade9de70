from __future__ import annotations

import os
import subprocess
import sys

from spherecv.train.parallel import KEY, PARENT, PORT, RANK, SIZE


def test_a_process_whose_parent_is_gone_already_ends() -> None:
    code = "import os; from spherecv.runtime.ending import end_with_parent; end_with_parent({}); print('goes on')"
    for parent, printed in ("os.getppid()", "goes on\n"), ("os.getppid() + 1", ""):
        done = subprocess.run([sys.executable, "-c", code.format(parent)], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0 if printed else 1, printed)


def test_a_training_process_does_not_wait_for_a_first_one_that_is_gone() -> None:
    code = "from spherecv.train.parallel import *; from spherecv.train.backend import *; group_of_environment(Backend)"
    code = code.replace("Backend)", "type('B', (), {'device': 'cpu'}))")
    gone = {RANK: "1", SIZE: "2", PORT: "9", KEY: "00", PARENT: str(os.getppid())}
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **gone}, timeout=100, check=False)
    assert done.returncode == 1


def test_sigterm_is_an_interruption_where_nobody_else_handles_it() -> None:
    code = """
import os, signal
from spherecv.runtime.ending import terminated_as_interrupted
try:
    with terminated_as_interrupted():
        os.kill(os.getpid(), signal.SIGTERM)
except KeyboardInterrupt:
    print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)
"""
    # In a process of its own: in this one a package that other tests import may have taken the signal.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
