"""Which S3 operation a request is, and what permission it needs.

Source: AWS, "Amazon S3 API Reference", the request syntax of each operation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..interfaces.auth import Action

#: Query keys that select a subresource of a bucket. All others are ignored, as AWS does
#: (SDKs add ``x-id=PutObject`` and the like).
BUCKET_SUBRESOURCES = (
    "accelerate",
    "acl",
    "analytics",
    "cors",
    "delete",
    "encryption",
    "intelligent-tiering",
    "inventory",
    "lifecycle",
    "location",
    "logging",
    "metadataConfiguration",
    "metadataTable",
    "metrics",
    "notification",
    "object-lock",
    "ownershipControls",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "replication",
    "requestPayment",
    "session",
    "tagging",
    "uploads",
    "versioning",
    "versions",
    "website",
)

OBJECT_SUBRESOURCES = (
    "acl",
    "attributes",
    "legal-hold",
    "renameObject",
    "restore",
    "retention",
    "select",
    "tagging",
    "torrent",
    "uploads",
)

#: What AWS answers to a GET of a bucket configuration that was never set.
EMPTY_CONFIGURATIONS: Mapping[str, tuple[str, str]] = {
    "cors": ("NoSuchCORSConfiguration", "The CORS configuration does not exist"),
    "encryption": (
        "ServerSideEncryptionConfigurationNotFoundError",
        "The server side encryption configuration was not found",
    ),
    "lifecycle": (
        "NoSuchLifecycleConfiguration",
        "The lifecycle configuration does not exist",
    ),
    "object-lock": (
        "ObjectLockConfigurationNotFoundError",
        "Object Lock configuration does not exist for this bucket",
    ),
    "ownershipControls": (
        "OwnershipControlsNotFoundError",
        "The bucket ownership controls were not found",
    ),
    "policy": ("NoSuchBucketPolicy", "The bucket policy does not exist"),
    "policyStatus": ("NoSuchBucketPolicy", "The bucket policy does not exist"),
    "publicAccessBlock": (
        "NoSuchPublicAccessBlockConfiguration",
        "The public access block configuration was not found",
    ),
    "replication": (
        "ReplicationConfigurationNotFoundError",
        "The replication configuration was not found",
    ),
    "tagging": ("NoSuchTagSet", "The TagSet does not exist"),
    "website": (
        "NoSuchWebsiteConfiguration",
        "The specified bucket does not have a website configuration",
    ),
}

#: Configurations whose empty state is an empty document of this name.
EMPTY_DOCUMENTS: Mapping[str, str] = {
    "accelerate": "AccelerateConfiguration",
    "logging": "BucketLoggingStatus",
    "notification": "NotificationConfiguration",
    "versioning": "VersioningConfiguration",
}

#: Action of each operation. ``not_implemented`` is admin: only a full-rights caller learns more.
ACTIONS: Mapping[str, Action] = {
    "list_buckets": Action.LIST,
    "create_bucket": Action.ADMIN,
    "delete_bucket": Action.ADMIN,
    "head_bucket": Action.LIST,
    "get_bucket_location": Action.LIST,
    "get_bucket_configuration": Action.LIST,
    "list_objects": Action.LIST,
    "list_objects_v2": Action.LIST,
    "list_multipart_uploads": Action.LIST,
    "get_object": Action.READ,
    "head_object": Action.READ,
    "get_acl": Action.READ,
    "list_parts": Action.READ,
    "put_object": Action.WRITE,
    "copy_object": Action.WRITE,
    "create_multipart_upload": Action.WRITE,
    "upload_part": Action.WRITE,
    "upload_part_copy": Action.WRITE,
    "complete_multipart_upload": Action.WRITE,
    "abort_multipart_upload": Action.WRITE,
    "delete_object": Action.DELETE,
    "delete_objects": Action.DELETE,
    "not_implemented": Action.ADMIN,
    "method_not_allowed": Action.ADMIN,
}

#: Operations that anybody may call.
OPEN_OPERATIONS = frozenset({"head_service", "cors_preflight"})


def find_operation(
    method: str,
    bucket: str,
    key: str,
    query: Sequence[tuple[str, str]],
    headers: Mapping[str, str],
) -> str:
    """Return the name of the operation, in snake case.

    ``not_implemented`` is S3 that this service does not have, ``method_not_allowed`` is no S3.
    """
    names = {name for name, _ in query}
    if method == "OPTIONS":
        return "cors_preflight"
    if not bucket:
        return {"GET": "list_buckets", "HEAD": "head_service"}.get(method, "method_not_allowed")
    if key:
        return _object_operation(method, names, headers)
    return _bucket_operation(method, names, dict(query))


def _bucket_operation(method: str, names: set[str], query: Mapping[str, str]) -> str:
    subresource = subresource_of(names, BUCKET_SUBRESOURCES)
    if subresource is None:
        listing = "list_objects_v2" if query.get("list-type") == "2" else "list_objects"
        return {
            "GET": listing,
            "HEAD": "head_bucket",
            "PUT": "create_bucket",
            "DELETE": "delete_bucket",
            "POST": "not_implemented",
        }.get(method, "method_not_allowed")
    if method == "POST" and subresource == "delete":
        return "delete_objects"
    if method == "GET":
        if subresource == "location":
            return "get_bucket_location"
        if subresource == "uploads":
            return "list_multipart_uploads"
        if subresource == "acl":
            return "get_acl"
        if subresource in EMPTY_CONFIGURATIONS or subresource in EMPTY_DOCUMENTS:
            return "get_bucket_configuration"
    return "not_implemented" if method in {"GET", "PUT", "DELETE", "POST"} else "method_not_allowed"


def _object_operation(method: str, names: set[str], headers: Mapping[str, str]) -> str:
    if "uploadId" in names:
        part = "upload_part_copy" if "x-amz-copy-source" in headers else "upload_part"
        return {
            "GET": "list_parts",
            "PUT": part,
            "POST": "complete_multipart_upload",
            "DELETE": "abort_multipart_upload",
        }.get(method, "method_not_allowed")
    subresource = subresource_of(names, OBJECT_SUBRESOURCES)
    if subresource is None:
        put = "copy_object" if "x-amz-copy-source" in headers else "put_object"
        return {
            "GET": "get_object",
            "HEAD": "head_object",
            "PUT": put,
            "DELETE": "delete_object",
        }.get(method, "method_not_allowed")
    if method == "POST" and subresource == "uploads":
        return "create_multipart_upload"
    if method == "GET" and subresource == "acl":
        return "get_acl"
    return "not_implemented" if method in {"GET", "PUT", "DELETE", "POST"} else "method_not_allowed"


def subresource_of(names: set[str], known: Sequence[str]) -> str | None:
    """The first known subresource among the query keys, or None."""
    return next((name for name in known if name in names), None)
