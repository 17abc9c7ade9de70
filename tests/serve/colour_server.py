"""A service over people who are colours, in a process of its own: to be stopped, or killed, by test_server.py.

python colour_server.py GALLERY [GATE]: while there is a file GATE, nothing is detected. Prints its address.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path

from spherecv.pipeline import FacePipeline
from spherecv.serve import FaceService, PipelinePool, run

spec = importlib.util.spec_from_file_location("colours", Path(__file__).with_name("conftest.py"))
colours = importlib.util.module_from_spec(spec)
spec.loader.exec_module(colours)


class GatedDetector(colours.StagedDetector):
    def detect_batch(self, images, *, errors="raise"):
        while any(Path(gate).exists() for gate in sys.argv[2:]):
            time.sleep(0.01)
        return super().detect_batch(images, errors=errors)


if __name__ == "__main__":
    pool = PipelinePool([FacePipeline(colours.ColourEmbedder(), detector=GatedDetector()) for _ in range(2)], batch=2)
    service = FaceService.open(pool, sys.argv[1], threshold=0.2)
    run(service, port=0, ready=lambda address: print(address, flush=True))
