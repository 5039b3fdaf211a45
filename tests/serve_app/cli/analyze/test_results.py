"""The files of results: lines of JSON, Parquet with its journal, and what is not ours."""

import datetime as dt
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serve_app.cli.analyze.results import parquet
from tests.serve_app.cli.analyze.support import JPEG, LocalService, answering, read, run


def test_parquet(service: LocalService, photos: Path, tmp_path: Path) -> None:
    """Each file has one row with typed columns, the failed one as well."""
    (photos / "4.jpg").write_bytes(JPEG)
    os.utime(photos / "4.jpg", (1, 1))
    (photos / "5.jpg").write_bytes(b"corrupt")
    (photos / "6.jpg").write_bytes(b"text")
    out = tmp_path / "out.parquet"
    arguments = [photos, photos / "5.jpg", photos / "6.jpg", "--out", out]
    assert 1 == run(service, *arguments, outputs="size,vector").exit_code
    table = pq.read_table(out)
    rows = {Path(row["path"]).name: row for row in table.to_pylist()}
    assert 6 == len(rows) == table.num_rows
    vector = table.schema.field("outputs").type.field("vector").type
    assert pa.list_(pa.float32()) == vector.field("embedding").type
    assert pa.binary() == vector.field("thumbnail").type
    assert {
        "embedding": [255.0, pytest.approx(0.1)],
        "thumbnail": b"\xff\xd8\xff.",
        "raw": '{"EXIF:Make":"Ding","n":[1,null]}',
        "tags": [{"label": "a", "weight": 0.1}, {"label": "b", "weight": 255.0}],
        "place": [0.1, 0.2],
        "sharp": True,
        "comment": None,
    } == rows["1.jpg"]["outputs"]["vector"]
    assert {"size": None, "vector": None} == rows["1.jpg"]["problems"]
    assert rows["1.jpg"]["problem"] is None
    assert "The file is damaged" == rows["5.jpg"]["problems"]["size"]["title"]
    assert 4 == rows["6.jpg"]["outputs"]["size"]["size_bytes"]
    assert 415 == rows["6.jpg"]["problems"]["vector"]["status"]
    modified = dt.datetime.fromtimestamp(1, dt.UTC)
    assert modified == rows["4.jpg"]["modified_at"]
    assert {"out.parquet", "photos"} == {path.name for path in tmp_path.iterdir()}


def test_parquet_goes_on_from_itself(service: LocalService, photos: Path, tmp_path: Path) -> None:
    """With the Parquet file alone a run knows what is done, and keeps it beside what is new."""
    (photos / "4.jpg").write_bytes(b"corrupt")
    out = tmp_path / "out.parquet"
    run(service, photos, photos / "4.jpg", "--out", out)
    first = pq.read_table(out).to_pylist()
    nothing_new = run(service, photos, photos / "4.jpg", "--out", out)
    assert "failed: 0, done before: 3" in nothing_new.output
    assert "The file is damaged: the file is cut off" in nothing_new.output
    assert (4, first) == (service.uploads, pq.read_table(out).to_pylist())
    (photos / "2.jpg").write_bytes(JPEG + b"changed")
    (photos / "9.jpg").write_bytes(JPEG)
    assert 1 == run(service, photos, photos / "4.jpg", "--out", out).exit_code
    assert 6 == service.uploads
    rows = {Path(row["path"]).name: row for row in pq.read_table(out).to_pylist()}
    assert {"1.jpg", "2.jpg", "3.jpg", "4.jpg", "9.jpg"} == rows.keys()
    assert 10 == rows["2.jpg"]["outputs"]["size"]["size_bytes"]
    kept = {Path(row["path"]).name: row for row in first}  # rows stand in the order of answers
    assert all(kept[name] == rows[name] for name in ("1.jpg", "3.jpg", "4.jpg"))


def test_parquet_of_nothing(service: LocalService, tmp_path: Path) -> None:
    """Without files there is a table without rows, whose columns are the same."""
    (tmp_path / "photos").mkdir()
    assert 0 == run(service, tmp_path / "photos", "--out", tmp_path / "out.parquet").exit_code
    table = pq.read_table(tmp_path / "out.parquet")
    assert (0, "path") == (table.num_rows, table.schema.names[0])


@pytest.mark.parametrize(("chunk_bytes", "group_bytes", "groups"), [(1, 1, 3), (1, 2**20, 1)])
def test_row_groups(  # noqa: PLR0913, PLR0917 - one column each
    service: LocalService,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    chunk_bytes: int,
    group_bytes: int,
    groups: int,
) -> None:
    """Rows are written in groups of a bounded size, and small groups are put together."""
    monkeypatch.setattr(parquet, "CHUNK_BYTES", chunk_bytes)
    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", group_bytes)
    out = tmp_path / "out.parquet"
    for number in (1, 2, 3):
        run(service, photos / f"{number}.jpg", "--out", out)
    with pq.ParquetFile(out) as file:
        assert (3, groups) == (file.metadata.num_rows, file.num_row_groups)


def test_result_of_another_type(service: LocalService, photos: Path, tmp_path: Path) -> None:
    """A result that is not what the service announced stays in the journal, and it is said."""
    wrong = {"outputs": {"size": {"size_bytes": "many"}}, "problems": {}}
    service.script.append(answering(200, json.dumps(wrong).encode()))
    out = tmp_path / "out.parquet"
    result = run(service, photos, "--out", out, "--concurrency", 1)
    assert 1 == result.exit_code
    assert "a result is not what the service says of it" in result.output
    assert f"All results are in {out}.partial.jsonl" in result.output
    assert 3 == len(read(tmp_path / "out.parquet.partial.jsonl"))
    assert not out.exists()


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
@pytest.mark.parametrize(
    "content",
    [
        b"text without a line feed",
        b"a,b\n1,2\n",
        b'{"path": "/a"}\n',
        b"[1]\n",
        b"\xff\xd8\xff\n\xfe",
    ],
)
def test_files_of_others(
    service: LocalService, photos: Path, tmp_path: Path, name: str, content: bytes
) -> None:
    """A file that holds something else is refused and left as it is."""
    out = tmp_path / name
    out.write_bytes(content)
    result = run(service, photos, "--out", out)
    assert 2 == result.exit_code
    assert "--out" in result.output
    assert (content, 0) == (out.read_bytes(), service.uploads)


def test_parquet_of_others(service: LocalService, photos: Path, tmp_path: Path) -> None:
    """A Parquet file with other columns, or of another request, is refused and left as it is."""
    out = tmp_path / "out.parquet"
    pq.write_table(pa.table({"path": ["/a"]}), out)
    before = out.read_bytes()
    refused = run(service, photos, "--out", out)
    assert 2 == refused.exit_code
    assert "are not those of this request, or of this version" in " ".join(refused.output.split())
    assert before == out.read_bytes()
    out.unlink()
    run(service, photos, "--out", out)
    refused = run(service, photos, "--out", out, "--param", "size.factor=2")
    assert 2 == refused.exit_code
    assert "holds results of another request" in refused.output


def test_path_that_is_there_twice(service: LocalService, photos: Path, tmp_path: Path) -> None:
    """Of files that were put together the later line of a path counts, and the other goes."""
    out = tmp_path / "out.jsonl"
    run(service, photos, "--out", out)
    lines = out.read_text().splitlines(keepends=True)
    old = json.loads(lines[0]) | {"size_bytes": 99}
    out.write_text("".join([json.dumps(old) + "\n", *lines]))
    out.chmod(0o640)
    assert 0 == run(service, photos, "--out", out).exit_code
    assert lines == out.read_text().splitlines(keepends=True)
    assert (3, 0o640) == (service.uploads, out.stat().st_mode & 0o777)


def test_numbers_that_json_lacks(service: LocalService, photos: Path, tmp_path: Path) -> None:
    """What is not a number becomes null, so that every reader of JSON takes the file."""
    body = b'{"outputs": {"size": {"size_bytes": NaN, "name": "a"}}, "problems": {}}'
    service.script.append(answering(200, body))
    run(service, photos / "1.jpg", "--out", tmp_path / "out.jsonl")
    assert read(tmp_path / "out.jsonl")["1.jpg"]["outputs"]["size"]["size_bytes"] is None


def test_folder_without_permission(service: LocalService, photos: Path) -> None:
    """Where no file can be made the message names it."""
    result = run(service, photos, "--out", "/sys/out.jsonl")
    assert 1 == result.exit_code
    assert "/sys/.out.jsonl.lock" in result.output
