from datetime import timedelta

import pytest

from jobs.errors import TooManyFiles, UnknownFile
from jobs.job import new_id
from jobs.store.owners import files
from jobs.store.owners.files import FileRecord, Files


@pytest.fixture
def add(service):
    """Adds a file of this many bytes to an owner."""

    def made(owner, size=10, *, age=timedelta(0), changes=None):
        settings = service.settings.model_copy(update={"max_files_bytes": 1000, **(changes or {})})
        kept, created = Files(service.redis, settings), service.store.now() - age
        record = FileRecord(
            id=new_id(created),
            name="a.png",
            media_type="image/png",
            bytes=size,
            sha256="",
            created_at=created,
            expires_at=kept.expiry_of(created),
        )
        kept.add(owner, record)
        return record

    return made


def test_an_owner_sees_its_own_files_alone(service, add):
    kept, one, none = Files(service.redis, service.settings), add("one"), add(None)
    assert kept.all("one") == [one]
    assert kept.get(None, none.id) == none
    for act in (kept.get, kept.remove):
        with pytest.raises(UnknownFile):
            act("one", none.id)
    kept.remove("one", one.id)
    assert kept.all("one") == []


def test_bytes_and_number_are_bounded_for_each_owner(service, add, monkeypatch):
    add("one", 600)
    add("two", 600)
    with pytest.raises(TooManyFiles):
        add("one", 401)
    add("one", 400)
    monkeypatch.setattr(files, "MAX_FILES", 2)
    with pytest.raises(TooManyFiles):
        add("one", 0)
    assert [file.bytes for file in Files(service.redis, service.settings).all("one")] == [400, 600]


def test_files_expire_when_the_janitor_may_delete_them(service, add):
    grace = service.settings.orphan_grace_seconds
    old = add("one", 1000, age=timedelta(seconds=grace + 1))
    kept = Files(service.redis, service.settings)
    with pytest.raises(UnknownFile):
        kept.get("one", old.id)
    young = add("one", 1000)  # the old one does not count any more
    assert kept.all("one") == [young]
    service.blobs.put(old.id, files.BLOB, b"old")
    service.blobs.put(young.id, files.BLOB, b"young")
    assert service.janitor.sweep_orphans() == [old.id]
