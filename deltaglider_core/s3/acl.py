"""Access control lists: there is one, in which the owner has full control.

What asks for this very list is accepted and changes nothing; all other lists are refused, as
AWS does in buckets with the setting "bucket owner enforced".

Source: AWS, "Controlling ownership of objects and disabling ACLs", "Access control list (ACL)
overview", "PutBucketAcl", "PutObjectAcl".
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..context import RequestContext
from ..errors import (
    AccessControlListNotSupported,
    InvalidArgument,
    InvalidRequest,
    MalformedACLError,
    MalformedXML,
    MissingSecurityHeader,
)
from . import xml
from .payload import read_optional
from .response import S3Response, xml_response
from .xml_output import OWNER_ID
from .xml_tree import children_of, name_of, read_document, text_of

#: Largest AccessControlPolicy: 100 grants, as AWS allows, with room.
MAX_ACL_BODY = 256 * 1024

#: Canned ACLs that mean what every bucket and object here has.
PRIVATE_ACLS = frozenset({"private", "bucket-owner-full-control", "bucket-owner-read"})
_SHARING_ACLS = frozenset(
    {
        "public-read",
        "public-read-write",
        "authenticated-read",
        "aws-exec-read",
        "log-delivery-write",
    }
)
_GRANTS = tuple(
    f"x-amz-grant-{name}" for name in ("full-control", "read", "read-acp", "write", "write-acp")
)
_TO_OWNER = re.compile(rf'[ \t]*id[ \t]*=[ \t]*"?{re.escape(OWNER_ID)}"?[ \t]*')


def check_acl_headers(headers: Mapping[str, str]) -> bool:
    """Refuse an ACL in headers that would share a bucket or object.

    Returns:
        Whether the headers name an ACL at all.

    Raises:
        AccessControlListNotSupported, InvalidArgument, InvalidRequest
    """
    canned = headers.get("x-amz-acl")
    grants = [name for name in _GRANTS if name in headers]
    if canned is not None and grants:
        raise InvalidRequest("Specifying both Canned ACLs and Header Grants is not allowed")
    if canned is not None and canned not in PRIVATE_ACLS:
        if canned in _SHARING_ACLS:
            raise AccessControlListNotSupported
        raise InvalidArgument(
            f"{canned!r} is no canned ACL.",
            fields={"ArgumentName": "x-amz-acl", "ArgumentValue": canned},
        )
    for name in grants:
        if name != "x-amz-grant-full-control" or not _TO_OWNER.fullmatch(headers[name]):
            raise AccessControlListNotSupported
    return canned is not None or bool(grants)


def check_acl_document(document: bytes) -> None:
    """Refuse an ``AccessControlPolicy`` other than full control for the owner alone.

    Raises:
        MalformedACLError, AccessControlListNotSupported
    """
    try:
        policy = children_of(read_document(document, "AccessControlPolicy"))
        owner = text_of(children_of(policy["Owner"]), "ID")
        grants = []
        for grant in policy["AccessControlList"]:
            if name_of(grant) != "Grant":
                raise MalformedACLError
            parts = children_of(grant)
            grantee = text_of(children_of(parts["Grantee"]), "ID")
            grants.append((grantee, text_of(parts, "Permission")))
    except (KeyError, MalformedXML):
        raise MalformedACLError from None
    if owner != OWNER_ID or grants != [(OWNER_ID, "FULL_CONTROL")]:
        raise AccessControlListNotSupported


async def get_acl(context: RequestContext) -> S3Response:
    """GET ?acl of a bucket or object."""
    await _require_present(context)
    return xml_response(xml.render_acl())


async def put_acl(context: RequestContext) -> S3Response:
    """PUT ?acl of a bucket or object: accepted where it changes nothing."""
    request = context.request
    in_headers = check_acl_headers(request.headers)
    document = await read_optional(request, context.principal, MAX_ACL_BODY)
    await _require_present(context)
    if document.strip():
        check_acl_document(document)
    elif not in_headers:
        raise MissingSecurityHeader(fields={"MissingHeaderName": "x-amz-acl"})
    return S3Response()


async def _require_present(context: RequestContext) -> None:
    storage, bucket = context.storage()
    if context.request.key:
        await storage.head_object(bucket, context.request.key)
    else:
        await storage.head_bucket(bucket)
