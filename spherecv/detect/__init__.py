"""Faces in images: `FaceDetector` and its kinds, MTCNN, YuNet and RetinaFace."""

from spherecv.detect.detector import FaceDetector

__all__ = ["FaceDetector"]
