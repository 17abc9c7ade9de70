from __future__ import annotations

from pathlib import Path

from spherecv.gallery import FaceGallery


def test_a_removal_waits_for_no_reader_and_is_finished_later(tmp_path: Path, numbers) -> None:
    path = tmp_path / "g.db"
    names, rows, images = numbers.crowd(3, 4)
    # With a reader that never ends, a removal that waited for it would take the whole hour.
    with FaceGallery.open(path, model=numbers.ORIGIN, timeout=3600.0) as gallery:
        gallery.enrol_embeddings(names, rows, images=images)
        assert gallery.erase_pending()
        with FaceGallery.open(path, model=numbers.ORIGIN) as other:
            with other.store.snapshot():
                assert len(other.store.identities()) == 3
                assert not gallery.remove(names[0]).erased
                assert not gallery.erase_pending()
                gallery.enrol_embeddings(names[:4], rows[:4], images=images[:4])  # writers go on
                assert not gallery.remove(names[4]).erased
            assert gallery.erase_pending()
        assert rows[4].tobytes() not in b"".join(file.read_bytes() for file in tmp_path.iterdir())
