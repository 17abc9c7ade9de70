"""Bulk embedding: shards on disk, in several processes or on a Ray cluster, resumable."""

from spherecv.gallery.bulk.job import EmbedSummary, embed_images
from spherecv.gallery.bulk.shards import Shard, read_shards

__all__ = ["EmbedSummary", "Shard", "embed_images", "read_shards"]
