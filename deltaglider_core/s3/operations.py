"""Which S3 operation a request is, and what permission it needs.

Source: AWS, "Amazon S3 API Reference", the request syntax of each operation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..interfaces.auth import Action

#: Query keys that select a subresource of a bucket. All others are ignored, as AWS does
#: (SDKs add ``x-id=PutObject`` and the like).
BUCKET_SUBRESOURCES = (
    "abac",
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
    "metadataAnnotationTable",
    "metadataConfiguration",
    "metadataInventoryTable",
    "metadataJournalTable",
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
    "annotation",
    "attributes",
    "encryption",
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

#: Configurations that are the same in every bucket, or of which there may be several.
_FIXED = frozenset(
    {
        "analytics",
        "intelligent-tiering",
        "inventory",
        "metrics",
        "ownershipControls",
        "requestPayment",
    }
)
#: A PUT of these is read, to be accepted where it changes nothing.
_PUT = frozenset({"ownershipControls", "requestPayment", "versioning"})
#: Nobody can have set these, so they can be deleted.
_DELETE = frozenset(
    {"encryption", "lifecycle", "policy", "publicAccessBlock", "replication", "website"}
)

#: Action of each operation. ``not_implemented`` is admin: only a full-rights caller learns more.
ACTIONS: Mapping[str, Action] = {
    "list_buckets": Action.LIST,
    "create_bucket": Action.ADMIN,
    "delete_bucket": Action.ADMIN,
    "head_bucket": Action.LIST,
    "get_bucket_location": Action.LIST,
    "get_bucket_configuration": Action.LIST,
    "put_bucket_configuration": Action.ADMIN,
    "delete_bucket_configuration": Action.ADMIN,
    "get_bucket_cors": Action.LIST,
    "put_bucket_cors": Action.ADMIN,
    "delete_bucket_cors": Action.ADMIN,
    "get_bucket_tagging": Action.LIST,
    "put_bucket_tagging": Action.ADMIN,
    "delete_bucket_tagging": Action.ADMIN,
    "list_objects": Action.LIST,
    "list_objects_v2": Action.LIST,
    "list_object_versions": Action.LIST,
    "list_multipart_uploads": Action.LIST,
    "get_object": Action.READ,
    "get_object_attributes": Action.READ,
    "head_object": Action.READ,
    "get_acl": Action.READ,
    "put_acl": Action.ADMIN,
    "get_object_tagging": Action.READ,
    "list_parts": Action.READ,
    "post_object": Action.WRITE,
    "put_object": Action.WRITE,
    "put_object_tagging": Action.WRITE,
    "delete_object_tagging": Action.WRITE,
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

#: Methods of configurations that can be set; the operation is ``<verb>_<what>_<subresource>``.
_SETTABLE = frozenset({"GET", "PUT", "DELETE"})

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
            "POST": "post_object",
        }.get(method, "method_not_allowed")
    if subresource in ("cors", "tagging") and method in _SETTABLE:
        return f"{method.lower()}_bucket_{subresource}"
    if method == "POST" and subresource == "delete":
        return "delete_objects"
    if method == "GET":
        if subresource == "location":
            return "get_bucket_location"
        if subresource == "uploads":
            return "list_multipart_uploads"
        if subresource == "acl":
            return "get_acl"
        if subresource == "versions":
            return "list_object_versions"
        if subresource in {*EMPTY_CONFIGURATIONS, *EMPTY_DOCUMENTS, *_FIXED}:
            return "get_bucket_configuration"
    if method == "PUT" and subresource == "acl":
        return "put_acl"
    if method == "PUT" and subresource in _PUT:
        return "put_bucket_configuration"
    if method == "DELETE" and subresource in _DELETE:
        return "delete_bucket_configuration"
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
    if subresource == "tagging" and method in _SETTABLE:
        return f"{method.lower()}_object_tagging"
    if method == "GET" and subresource == "attributes":
        return "get_object_attributes"
    if method == "POST" and subresource == "uploads":
        return "create_multipart_upload"
    if subresource == "acl" and method in ("GET", "PUT"):
        return f"{method.lower()}_acl"
    return "not_implemented" if method in {"GET", "PUT", "DELETE", "POST"} else "method_not_allowed"


def subresource_of(names: set[str], known: Sequence[str]) -> str | None:
    """The first known subresource among the query keys, or None."""
    return next((name for name in known if name in names), None)
