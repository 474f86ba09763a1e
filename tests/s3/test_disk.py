"""The order in which files reach their place, and the disk."""

import os

import pytest

from broker.dev.s3.disk import Disk


@pytest.fixture
def steps(monkeypatch):
    """Record each flush and each move, by the name of the file or directory."""
    recorded = []
    fsync, replace = os.fsync, os.replace

    def flush(descriptor):
        recorded.append(("flush", os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))))
        fsync(descriptor)

    def move(source, target):
        recorded.append(("move", os.path.basename(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "replace", move)
    return recorded


def test_a_durable_file_is_flushed_before_it_gets_its_name(tmp_path, steps):
    disk = Disk(tmp_path, durable=True)
    scratch = disk.scratch_path()
    scratch.write_bytes(b"x")
    disk.move(scratch, tmp_path / "a")
    assert steps == [("flush", scratch.name), ("move", "a"), ("flush", tmp_path.name)]
    steps.clear()
    directory = disk.scratch_path()
    directory.mkdir()
    disk.move(directory, tmp_path / "c")
    assert steps == [("flush", directory.name), ("move", "c"), ("flush", tmp_path.name)]
    steps.clear()
    disk.make_directory(tmp_path / "b")
    disk.remove(tmp_path / "a")
    assert steps == [("flush", tmp_path.name)] * 2


def test_nothing_is_flushed_unless_durable(tmp_path, steps):
    disk = Disk(tmp_path)
    disk.write_json(tmp_path / "a", {"b": 1})
    disk.remove(tmp_path / "a")
    assert steps == [("move", "a")]


def test_a_document_that_was_cut_short_is_removed(tmp_path):
    disk = Disk(tmp_path)
    disk.write_json(tmp_path / "a", {"b": 1})
    assert disk.read_json(tmp_path / "a") == {"b": 1}
    (tmp_path / "a").write_text('{"b"')
    assert disk.read_json(tmp_path / "a") is None
    assert not (tmp_path / "a").exists()


def test_the_next_start_clears_what_did_not_reach_its_place(tmp_path):
    scratch = Disk(tmp_path).scratch_path()
    scratch.write_bytes(b"x")
    Disk(tmp_path)
    assert not scratch.exists()
