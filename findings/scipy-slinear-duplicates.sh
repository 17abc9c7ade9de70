#!/usr/bin/env bash
# FaceNet's and InsightFace's evaluation scripts find the threshold for a false accept rate with
# interp1d(far_train, thresholds, kind="slinear"). Many thresholds share a rate, so far_train always has equal neighbours.
#
# versions: Python 3.11, numpy 2.4.6 with scipy 1.17.1; the same with scipy 1.9.3
# expected: an interpolation, as kind="linear" gives for the same numbers: both are documented as linear
# seen: ValueError: Expect x to not have duplicates; kind="linear" answers 2.198...
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet 'scipy==1.17.1'
"$work/env/bin/python" - <<'PYTHON'
import sys

import numpy as np
from scipy.interpolate import interp1d

rates = np.array([0.0, 0.0, 0.001, 0.5, 0.5])
thresholds = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
print("linear:", interp1d(rates, thresholds, kind="linear")(0.1))
try:
    print("slinear:", interp1d(rates, thresholds, kind="slinear")(0.1))
except ValueError as error:
    print("slinear:", error)
    sys.exit(0 if "duplicates" in str(error) else 1)
sys.exit(1)
PYTHON
