"""The parts of ``scripts`` that compute something: the demonstration and the archives."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import build_dist
import demo
import pytest
from demo import Row


def row(name: str, size: int, stored: int, *, intact: bool = True) -> Row:
    return Row(name=name, size=size, stored=stored, intact=intact)


ROWS = [row("one", 4 * demo.MIB, 4 * demo.MIB), row("two", 4 * demo.MIB, demo.MIB // 4)]


def test_the_table_has_a_line_per_release_and_their_sum() -> None:
    lines = demo.table(ROWS).splitlines()
    assert [line.split() for line in lines if line.startswith(("one", "two", "total"))] == [
        ["one", "4.00", "MiB", "4.00", "MiB", "0.0", "%", "identical"],
        ["two", "4.00", "MiB", "0.25", "MiB", "93.8", "%", "identical"],
        ["total", "8.00", "MiB", "4.25", "MiB", "46.9", "%", "identical"],
    ]


def test_one_different_release_spoils_the_sum() -> None:
    text = demo.table([*ROWS, row("bad", 10, 10, intact=False)])
    assert [line.split()[-1] for line in text.splitlines()[-1:]] == ["DIFFERENT"]
    assert text.count("DIFFERENT") == 2


def test_the_bars_have_one_scale_and_show_a_sliver_of_the_smallest() -> None:
    lines = demo.bars([*ROWS, row("tiny", 10, 1), row("free", 10, 0)]).splitlines()[1:]
    widths = [line.count("█") + line.count("#") for line in lines]
    assert widths == [demo.BAR_WIDTH, 3, 1, 0]
    assert lines[0].endswith("4,194,304")


def test_stored_bytes_are_those_of_all_files_below(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "x").write_bytes(b"123")
    (tmp_path / "a" / "b" / ".hidden").write_bytes(b"4567")
    assert demo.stored_bytes(tmp_path) == 7
    assert demo.stored_bytes(tmp_path / "missing") == 0


def archive(path: Path, *, names: list[str], mtime: int, uid: int, mode: int) -> Path:
    with tarfile.open(path, "w:gz") as target:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.uid, member.mode = len(name), mtime, uid, mode
            target.addfile(member, io.BytesIO(name.encode()))
    return path


def test_a_source_archive_depends_on_its_content_only(tmp_path: Path) -> None:
    one = archive(tmp_path / "1.tar.gz", names=["p/a", "p/b"], mtime=1, uid=7, mode=0o640)
    two = archive(tmp_path / "2.tar.gz", names=["p/b", "p/a"], mtime=2, uid=0, mode=0o600)
    assert one.read_bytes() != two.read_bytes()
    for path in (one, two):
        build_dist.normalise(path, build_dist.EARLIEST)
    assert one.read_bytes() == two.read_bytes()
    with tarfile.open(one) as made:
        (first, second) = made.getmembers()
        content = made.extractfile(second)
        assert content is not None
        assert content.read() == b"p/b"
    assert (first.name, first.mode, first.uid) == ("p/a", 0o644, 0)


@pytest.mark.parametrize(("given", "expected"), [("1700000000", 1700000000), ("0", 315532800)])
def test_the_time_of_an_archive_can_be_given(
    monkeypatch: pytest.MonkeyPatch, given: str, expected: int
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", given)
    assert build_dist.commit_time() == expected


def test_without_history_the_time_is_the_earliest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr(build_dist, "ROOT", tmp_path)
    assert build_dist.commit_time() == build_dist.EARLIEST
