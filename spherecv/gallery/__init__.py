"""Galleries: people enrolled, identified, verified, clustered and removed."""

from spherecv.gallery.gallery import FaceGallery
from spherecv.gallery.intake import Enrolment
from spherecv.gallery.rows import IdentityInfo, Origin, Removed, StoredImage

__all__ = ["Enrolment", "FaceGallery", "IdentityInfo", "Origin", "Removed", "StoredImage"]
