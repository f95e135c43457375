from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.expect import refused
from support.raw import RawClient
from support.signing import md5_base64

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

HEAD = '<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'


def keys_in(s3: S3Client, bucket: str) -> list[str]:
    return [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]


def entries(*keys: str, **more: Any) -> Any:
    return [{"Key": key, **more} for key in keys]


def test_deletes_and_reports_every_key(s3: S3Client, bucket: str) -> None:
    present = ["a", "a/b", "ünï ☃", "&<x>", " spaces ", "%41", "folder/"]
    for key in [*present, "kept"]:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": entries(*present, "absent")})
    assert {entry["Key"] for entry in answer["Deleted"]} == {*present, "absent"}
    assert "Errors" not in answer
    assert keys_in(s3, bucket) == ["kept"]


def test_a_thousand_keys_quietly(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="key-0500", Body=b"x")
    s3.put_object(Bucket=bucket, Key="key-1000", Body=b"x")
    keys = [f"key-{number:04}" for number in range(1000)]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": entries(*keys), "Quiet": True})
    assert "Deleted" not in answer
    assert "Errors" not in answer
    assert keys_in(s3, bucket) == ["key-1000"]


def test_more_than_a_thousand_keys_delete_nothing(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="key-0000", Body=b"x")
    keys = [f"key-{number:04}" for number in range(1001)]
    with refused("MalformedXML", 400):
        s3.delete_objects(Bucket=bucket, Delete={"Objects": entries(*keys)})
    assert keys_in(s3, bucket) == ["key-0000"]


def test_one_bad_key_does_not_stop_the_others(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="good", Body=b"x")
    bad = ["../../outside", "k" * 1025]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": entries(*bad, "good")})
    assert {(error["Key"], error["Code"]) for error in answer["Errors"]} == {
        ("../../outside", "InvalidURI"),
        ("k" * 1025, "KeyTooLongError"),
    }
    assert [entry["Key"] for entry in answer["Deleted"]] == ["good"]
    assert keys_in(s3, bucket) == []


def test_etag_conditions(s3: S3Client, bucket: str) -> None:
    tag = s3.put_object(Bucket=bucket, Key="match", Body=b"x")["ETag"]
    s3.put_object(Bucket=bucket, Key="other", Body=b"y")
    answer = s3.delete_objects(
        Bucket=bucket, Delete={"Objects": [*entries("match", "other", ETag=tag)]}
    )
    assert [(e["Key"], e["Code"]) for e in answer["Errors"]] == [("other", "PreconditionFailed")]
    assert keys_in(s3, bucket) == ["other"]


def test_versions_other_than_null_are_refused_each(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"x")
    s3.put_object(Bucket=bucket, Key="b", Body=b"x")
    objects = [*entries("a", VersionId="null"), *entries("b", VersionId="1")]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": objects})
    assert [error["Key"] for error in answer["Errors"]] == ["b"]
    assert keys_in(s3, bucket) == ["b"]


def test_missing_bucket(s3: S3Client) -> None:
    with refused("NoSuchBucket", 404):
        s3.delete_objects(Bucket="no-such-bucket", Delete={"Objects": entries("a")})


@pytest.mark.parametrize(
    "document",
    [
        "",
        "not xml",
        "<Delete/>",
        HEAD + "</Delete>",
        HEAD + "<Object></Object></Delete>",
        HEAD + "<Object><Key></Key></Object></Delete>",
        HEAD + "<Object><Key>a</Key></Object>",
        HEAD.replace("Delete", "Remove") + "<Object><Key>a</Key></Object></Remove>",
        '<!DOCTYPE d [<!ENTITY a "x">]><Delete><Object><Key>&a;</Key></Object></Delete>',
    ],
)
def test_malformed_documents_delete_nothing(
    s3: S3Client, raw: RawClient, bucket: str, document: str
) -> None:
    for key in ("a", "x"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    body = document.encode()
    answer = raw.request(
        "POST", f"/{bucket}?delete", body=body, headers={"content-md5": md5_base64(body)}
    )
    assert (answer.status, answer.code) == (400, "MalformedXML")
    assert keys_in(s3, bucket) == ["a", "x"]


def test_wrong_digest_deletes_nothing(s3: S3Client, raw: RawClient, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"x")
    body = f"{HEAD}<Object><Key>a</Key></Object></Delete>".encode()
    headers = {"content-md5": md5_base64(b"something else")}
    answer = raw.request("POST", f"/{bucket}?delete", body=body, headers=headers)
    assert (answer.status, answer.code) == (400, "BadDigest")
    assert keys_in(s3, bucket) == ["a"]


def test_delimiter_is_not_delete(raw: RawClient, bucket: str) -> None:
    assert raw.request("GET", f"/{bucket}?delimiter=/").element("Delimiter") == "/"
