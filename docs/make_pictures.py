"""Make the picture of README's first screen again: python docs/make_pictures.py"""

import os
import tempfile
from pathlib import Path

import cv2

from spherecv import FaceVerifier
from spherecv.cli.samples import altered_copy, sample_portrait
from spherecv.drawing import save_picture

GOAL = Path(__file__).resolve().parent / "verify.png"

portrait = sample_portrait("grace-hopper")
with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    cv2.imwrite("a.jpg", portrait)
    cv2.imwrite("b.jpg", altered_copy(portrait))
    save_picture(FaceVerifier().verify("a.jpg", "b.jpg").plot(), GOAL)
    os.chdir(GOAL.parent)
