"""Renderers, read back by a real XML parser and by botocore's response parser."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import unquote, unquote_plus
from xml.etree import ElementTree as ET

import botocore.parsers
import botocore.session
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaglider_core.errors import AccessDenied, NoSuchKey
from deltaglider_core.interfaces.storage import (
    BucketInfo,
    ObjectInfo,
    ObjectPage,
    PartInfo,
    PartPage,
    UploadInfo,
    UploadPage,
)
from deltaglider_core.s3 import xml
from deltaglider_core.s3.response import HOST_ID

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
WHOLE = NOW.replace(microsecond=0)
HOSTILE = "a b/&<>\"'%41+\u00e9\r\n\t]]>"

xml_text = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"), max_size=30
)
MODEL = botocore.session.get_session().get_service_model("s3")


def boto(operation: str, document: bytes) -> dict[str, Any]:
    """What botocore makes of a 200 answer with this document."""
    shape = MODEL.operation_model(operation).output_shape
    parser = botocore.parsers.create_parser("rest-xml")
    response = {"status_code": 200, "headers": {}, "body": document}
    parsed: dict[str, Any] = parser.parse(response, shape)
    return parsed


def info(key: str) -> ObjectInfo:
    return ObjectInfo(key=key, size=7, etag="abc-2", last_modified=NOW)


@given(xml_text | st.text(st.sampled_from("\r\n\t &<>\"'a"), max_size=20))
@settings(deadline=None, max_examples=200)
def test_escaped_text_round_trips(text: str) -> None:
    element = ET.fromstring(f'<a b="{xml.escape(text)}">{xml.escape(text)}</a>')
    assert (element.text or "") == text
    assert element.attrib["b"] == text


def test_what_xml_cannot_carry_becomes_a_reference() -> None:
    assert xml.escape("a\x00\x01\x1f\x7f\ufffe") == "a&#x0;&#x1;&#x1F;&#x7F;&#xFFFE;"
    assert xml.escape("\ud800").encode() == b"&#xD800;"
    assert xml.escape("\r\n\t") == "&#xD;&#xA;&#x9;"


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=40))
@settings(deadline=None, max_examples=200)
def test_encoded_keys_decode_as_sdks_decode_them(key: str) -> None:
    encoded = xml.encode_key(key)
    assert encoded.isascii()
    assert unquote_plus(encoded) == unquote(encoded) == key
    assert encoded.count("/") == key.count("/")
    assert re.fullmatch(r"[A-Za-z0-9/+%._~-]*", encoded)


def test_encode_key() -> None:
    assert xml.encode_key("a b+c/%41\u00e9(3).png") == "a%20b%2Bc/%2541%C3%A9%283%29.png"


def test_times() -> None:
    assert xml.timestamp(NOW) == "2026-01-02T03:04:05.000Z"
    assert xml.http_date(NOW) == "Fri, 02 Jan 2026 03:04:05 GMT"
    east = NOW.astimezone(timezone(timedelta(hours=2)))
    assert xml.timestamp(east) == xml.timestamp(NOW)
    assert xml.http_date(east) == xml.http_date(NOW)


def test_error() -> None:
    document = xml.render_error(
        NoSuchKey(fields={"Key": HOSTILE}), resource="/b/<k>", request_id="ID"
    )
    assert document.startswith(xml.DECLARATION)
    root = ET.fromstring(document)
    assert root.tag == "Error"
    assert {child.tag: child.text for child in root} == {
        "Code": "NoSuchKey",
        "Message": "The specified key does not exist.",
        "Key": HOSTILE,
        "Resource": "/b/<k>",
        "RequestId": "ID",
        "HostId": HOST_ID,
    }
    assert [child.tag for child in root][:2] == ["Code", "Message"]


@pytest.mark.parametrize("root", ["LocationConstraint", "VersioningConfiguration"])
def test_empty(root: str) -> None:
    element = ET.fromstring(xml.render_empty(root))
    assert element.tag == f"{{{xml.NAMESPACE}}}{root}"
    assert len(element) == 0
    assert element.text is None


def test_empty_documents_as_botocore_reads_them() -> None:
    location = boto("GetBucketLocation", xml.render_empty("LocationConstraint"))
    assert not location.get("LocationConstraint")
    assert "Status" not in boto("GetBucketVersioning", xml.render_empty("VersioningConfiguration"))


def test_acl() -> None:
    parsed = boto("GetBucketAcl", xml.render_acl())
    owner = {"ID": "deltaglider", "DisplayName": "deltaglider"}
    assert parsed["Owner"] == owner
    grantee = {**owner, "Type": "CanonicalUser"}
    assert parsed["Grants"] == [{"Grantee": grantee, "Permission": "FULL_CONTROL"}]


def test_list_buckets() -> None:
    buckets = [BucketInfo(name="a", created=NOW), BucketInfo(name="b", created=NOW)]
    parsed = boto("ListBuckets", xml.render_list_buckets(buckets, region="r", next_token="t"))
    assert parsed["Buckets"] == [
        {"Name": name, "CreationDate": WHOLE, "BucketRegion": "r"} for name in "ab"
    ]
    assert parsed["Owner"]["ID"] == "deltaglider"
    assert parsed["ContinuationToken"] == "t"
    last = boto("ListBuckets", xml.render_list_buckets([], prefix="p"))
    assert last["Buckets"] == []
    assert last["Prefix"] == "p"
    assert "ContinuationToken" not in last


def v1(page: ObjectPage, **options: Any) -> dict[str, Any]:
    defaults = {"prefix": "", "delimiter": "", "marker": "", "max_keys": 5, "encoding_type": None}
    return boto("ListObjects", xml.render_list_objects("b", page, **{**defaults, **options}))


def v2(page: ObjectPage, **options: Any) -> dict[str, Any]:
    defaults = {
        "prefix": "",
        "delimiter": "",
        "start_after": "",
        "continuation_token": None,
        "next_token": None,
        "max_keys": 5,
        "encoding_type": None,
        "fetch_owner": False,
    }
    return boto("ListObjectsV2", xml.render_list_objects_v2("b", page, **{**defaults, **options}))


def test_list_objects() -> None:
    page = ObjectPage(objects=[info(HOSTILE)], prefixes=["p/"], next_after="p/")
    parsed = v1(page, prefix=HOSTILE, delimiter="/", marker="m")
    owner = {"ID": "deltaglider", "DisplayName": "deltaglider"}
    assert parsed["Contents"] == [
        {
            "Key": HOSTILE,
            "LastModified": WHOLE,
            "ETag": '"abc-2"',
            "Size": 7,
            "StorageClass": "STANDARD",
            "Owner": owner,
        }
    ]
    assert parsed["CommonPrefixes"] == [{"Prefix": "p/"}]
    assert (parsed["Name"], parsed["Prefix"], parsed["Delimiter"]) == ("b", HOSTILE, "/")
    assert (parsed["Marker"], parsed["NextMarker"], parsed["MaxKeys"]) == ("m", "p/", 5)
    assert parsed["IsTruncated"] is True
    assert "NextMarker" not in v1(page)
    assert v1(ObjectPage())["IsTruncated"] is False


def test_list_objects_v2() -> None:
    page = ObjectPage(objects=[info("k")], prefixes=["p/"], next_after="p/")
    parsed = v2(page, continuation_token="c", next_token="n", start_after="s", delimiter="/")
    assert parsed["KeyCount"] == 2
    assert (parsed["ContinuationToken"], parsed["NextContinuationToken"]) == ("c", "n")
    assert parsed["StartAfter"] == "s"
    assert "Owner" not in parsed["Contents"][0]
    assert "Owner" in v2(page, fetch_owner=True)["Contents"][0]
    empty = v2(ObjectPage())
    assert (empty["KeyCount"], empty["IsTruncated"]) == (0, False)
    assert not {"StartAfter", "Delimiter", "NextContinuationToken", "Contents"} & empty.keys()


@pytest.mark.parametrize("render", [v1, v2])
def test_encoding_type_url_covers_every_key(render: Any) -> None:
    hostile = "a b+c/%41\x01"
    page = ObjectPage(objects=[info(hostile)], prefixes=[hostile], next_after=hostile)
    names = {"marker": hostile} if render is v1 else {"start_after": hostile}
    parsed = render(page, prefix=hostile, delimiter=hostile, encoding_type="url", **names)
    assert parsed["EncodingType"] == "url"
    values = [parsed["Contents"][0]["Key"], parsed["CommonPrefixes"][0]["Prefix"]]
    values += [parsed["Prefix"], parsed["Delimiter"]]
    values += [parsed[name] for name in ("Marker", "NextMarker", "StartAfter") if name in parsed]
    assert len(values) == (6 if render is v1 else 5)
    assert {unquote_plus(value) for value in values} == {hostile}


@pytest.mark.parametrize("encoding_type", [None, "url"])
def test_list_multipart_uploads(encoding_type: str | None) -> None:
    page = UploadPage(
        uploads=[UploadInfo(key="a b", upload_id="u1", initiated=NOW)],
        prefixes=["p q/"],
        next_marker=("a b", "u1"),
    )
    parsed = boto(
        "ListMultipartUploads",
        xml.render_list_multipart_uploads_result(
            "b",
            page,
            prefix="x y",
            delimiter="/",
            key_marker="k m",
            upload_id_marker="u0",
            max_uploads=3,
            encoding_type=encoding_type,
        ),
    )
    space = "%20" if encoding_type else " "
    assert parsed["Uploads"][0]["Key"] == parsed["NextKeyMarker"] == f"a{space}b"
    assert parsed["Uploads"][0]["Initiated"] == WHOLE
    assert parsed["CommonPrefixes"] == [{"Prefix": f"p{space}q/"}]
    assert (parsed["Prefix"], parsed["KeyMarker"]) == (f"x{space}y", f"k{space}m")
    assert (parsed["UploadIdMarker"], parsed["NextUploadIdMarker"]) == ("u0", "u1")
    assert (parsed["IsTruncated"], parsed["MaxUploads"]) == (True, 3)
    assert parsed.get("EncodingType") == encoding_type


def test_list_parts() -> None:
    part = PartInfo(part_number=2, etag="e", size=5, last_modified=NOW)
    parsed = boto(
        "ListParts",
        xml.render_list_parts_result(
            "b",
            HOSTILE,
            "u",
            PartPage(parts=[part], next_marker=2),
            part_number_marker=1,
            max_parts=1,
        ),
    )
    assert parsed["Parts"] == [{"PartNumber": 2, "LastModified": WHOLE, "ETag": '"e"', "Size": 5}]
    assert (parsed["Key"], parsed["UploadId"]) == (HOSTILE, "u")
    assert (parsed["PartNumberMarker"], parsed["NextPartNumberMarker"]) == (1, 2)
    assert (parsed["MaxParts"], parsed["IsTruncated"]) == (1, True)
    assert parsed["StorageClass"] == "STANDARD"


def test_multipart_results() -> None:
    created = boto(
        "CreateMultipartUpload", xml.render_initiate_multipart_upload_result("b", HOSTILE, "u")
    )
    assert (created["Bucket"], created["Key"], created["UploadId"]) == ("b", HOSTILE, "u")
    done = boto(
        "CompleteMultipartUpload",
        xml.render_complete_multipart_upload_result("/b/k", "b", HOSTILE, "abc-2"),
    )
    assert (done["Location"], done["Bucket"], done["Key"]) == ("/b/k", "b", HOSTILE)
    assert done["ETag"] == '"abc-2"'


def test_copy_results() -> None:
    copied = boto("CopyObject", xml.render_copy_object_result(info("k")))
    assert copied["CopyObjectResult"] == {"ETag": '"abc-2"', "LastModified": WHOLE}
    part = PartInfo(part_number=2, etag="e", size=5, last_modified=NOW)
    copied = boto("UploadPartCopy", xml.render_copy_part_result(part))
    assert copied["CopyPartResult"] == {"ETag": '"e"', "LastModified": WHOLE}


def test_delete_result() -> None:
    results = [
        (xml.DeleteEntry(key=HOSTILE), None),
        (xml.DeleteEntry(key="v", version_id="null"), None),
        (xml.DeleteEntry(key="no"), AccessDenied()),
    ]
    parsed = boto("DeleteObjects", xml.render_delete_result(results, quiet=False))
    assert parsed["Deleted"] == [{"Key": HOSTILE}, {"Key": "v", "VersionId": "null"}]
    assert parsed["Errors"] == [{"Key": "no", "Code": "AccessDenied", "Message": "Access Denied"}]
    quiet = boto("DeleteObjects", xml.render_delete_result(results, quiet=True))
    assert "Deleted" not in quiet
    assert len(quiet["Errors"]) == 1
