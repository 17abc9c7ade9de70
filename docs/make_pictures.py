"""Make the picture of README's first screen again: python docs/make_pictures.py"""

from pathlib import Path

from spherecv import FaceVerifier
from spherecv.cli.samples import altered_copy, sample_portrait
from spherecv.drawing import save_picture

portrait = sample_portrait("grace-hopper")
answer = FaceVerifier().verify(portrait, altered_copy(portrait))
save_picture(answer.plot(), Path(__file__).parent / "verify.png")
