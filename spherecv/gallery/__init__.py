"""People enrolled once, asked for ever after: identify, cluster, find and forget."""

from spherecv.gallery.gallery import FaceGallery
from spherecv.gallery.intake import Enrolment
from spherecv.gallery.rows import IdentityInfo, Origin, Removed, StoredImage

__all__ = ["Enrolment", "FaceGallery", "IdentityInfo", "Origin", "Removed", "StoredImage"]
