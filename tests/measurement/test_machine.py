"""What the C library keeps of freed memory."""

import platform
import subprocess
import sys

import pytest

GAPS = """
import numpy as np
from geomcheck.measurement.machine import keep_freed_memory, return_freed_memory

def own():
    return int(open("/proc/self/status").read().split("RssAnon:")[1].split()[0]) / 1024

keep_freed_memory()
before = own()
blocks = [np.ones(2**17) for _ in range(256)]  # of 1 MiB each
del blocks[::2], blocks[:-1]
gaps = own() - before
return_freed_memory()
print(gaps, own() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep memory as they like")
def test_what_is_kept_of_freed_memory_can_be_returned() -> None:
    done = subprocess.run([sys.executable, "-c", GAPS], capture_output=True, text=True, check=True)
    kept, left = map(float, done.stdout.split())
    assert kept > 200
    assert left < 50
