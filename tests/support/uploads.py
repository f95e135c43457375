"""Multipart uploads, one step at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class Upload:
    """An open multipart upload."""

    def __init__(self, s3: S3Client, bucket: str, key: str = "object", **options: Any) -> None:
        self.s3 = s3
        self.bucket, self.key = bucket, key
        created = s3.create_multipart_upload(Bucket=bucket, Key=key, **options)
        self.upload_id = created["UploadId"]

    @property
    def names(self) -> dict[str, Any]:
        return {"Bucket": self.bucket, "Key": self.key, "UploadId": self.upload_id}

    @property
    def target(self) -> str:
        return f"/{self.bucket}/{self.key}?uploadId={self.upload_id}"

    def part(self, number: int, data: bytes, **options: Any) -> str:
        answer = self.s3.upload_part(**self.names, PartNumber=number, Body=data, **options)
        return answer["ETag"]

    def complete(self, *parts: tuple[int, str], **options: Any) -> Any:
        listed = [{"PartNumber": number, "ETag": tag} for number, tag in parts]
        return self.s3.complete_multipart_upload(
            **self.names,
            MultipartUpload={"Parts": listed},  # type: ignore[typeddict-item]
            **options,
        )

    def is_open(self) -> bool:
        found = self.s3.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])
        return self.upload_id in [upload["UploadId"] for upload in found]
