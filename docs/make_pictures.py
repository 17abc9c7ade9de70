"""Make the pictures of README again: python docs/make_pictures.py PROTOTXT CAFFEMODEL RECIPE THRESHOLD"""

import sys
from pathlib import Path

from spherecv import FaceVerifier
from spherecv.drawing import save_picture
from spherecv.samples import altered_copy, sample_portrait

prototxt, caffemodel, recipe, threshold = sys.argv[1:]
verifier = FaceVerifier.from_caffe(prototxt, caffemodel, recipe=recipe, threshold=float(threshold))
portrait = sample_portrait("grace-hopper")
save_picture(verifier.verify(portrait, altered_copy(portrait)).plot(), Path(__file__).parent / "verify.png")
