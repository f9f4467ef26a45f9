"""Imported by two trials of a comparison, it waits until each has said which GPU is its own: they must be 0 and 1."""

import os
import sys
import time
from pathlib import Path

if sys.argv[0].endswith("trial_process.py"):
    folder = next(parent.parent for parent in Path(sys.argv[1]).parents if parent.name == "trials")
    (folder / f"gpu{os.environ['CUDA_VISIBLE_DEVICES']}").touch()
    begin = time.monotonic()
    while not ((folder / "gpu0").exists() and (folder / "gpu1").exists()):
        if time.monotonic() > begin + 60:
            raise RuntimeError(f"no other GPU in {[path.name for path in folder.glob('gpu*')]}")
        time.sleep(0.1)
