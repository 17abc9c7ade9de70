"""Galleries: people enrolled, identified, verified, clustered and removed."""

from spherecv.gallery.checkup import Checkup
from spherecv.gallery.damage import DamageWarning
from spherecv.gallery.gallery import FaceGallery
from spherecv.gallery.intake import Enrolment
from spherecv.gallery.rows import IdentityInfo, Origin, Removed, StoredImage

__all__ = ["Checkup", "DamageWarning", "Enrolment", "FaceGallery", "IdentityInfo", "Origin", "Removed", "StoredImage"]
