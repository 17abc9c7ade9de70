"""Embeddings of very many images: shards on disk, by all cores or a Ray cluster, to be broken off and gone on with."""

from spherecv.gallery.bulk.job import EmbedSummary, embed_images
from spherecv.gallery.bulk.shards import Shard, read_shards

__all__ = ["EmbedSummary", "Shard", "embed_images", "read_shards"]
