"""Configurations of a bucket that cannot be set: what they are where nobody ever set them.

Removing what is not there succeeds, as on AWS, and so does asking for what is the case.
Everything else is refused: a client must not believe in a rule that nobody applies.

Source: AWS, Amazon S3 API Reference, ``GetBucket*``, ``PutBucket*`` and ``DeleteBucket*``.
"""

from __future__ import annotations

from ..context import RequestContext
from ..errors import (
    IllegalVersioningConfigurationException,
    MalformedXML,
    NoSuchBucketConfiguration,
    NotImplementedS3,
)
from .operations import BUCKET_SUBRESOURCES, EMPTY_CONFIGURATIONS, EMPTY_DOCUMENTS, subresource_of
from .payload import read_optional
from .response import S3Response, xml_response
from .xml_output import XmlWriter, render_empty
from .xml_tree import children_of, read_document, text_of

#: A document of one rule is a few hundred bytes.
MAX_CONFIGURATION_BODY = 64 * 1024

PAYER = "BucketOwner"
OWNERSHIP = "BucketOwnerEnforced"

#: Listings of configurations that have names; with ``id`` one of them is asked for.
_NAMED = {
    "analytics": "ListBucketAnalyticsConfigurationResult",
    "intelligent-tiering": "ListBucketIntelligentTieringConfigurationsResult",
    "inventory": "ListInventoryConfigurationsResult",
    "metrics": "ListMetricsConfigurationsResult",
}


async def get_bucket_configuration(context: RequestContext) -> S3Response:
    """GET of a bucket configuration.

    Raises:
        NoSuchBucketConfiguration: AWS, too, has no document for this one before it is set.
    """
    storage, bucket = context.storage()
    await storage.head_bucket(bucket)
    subresource = _subresource(context)
    if subresource in EMPTY_CONFIGURATIONS:
        raise NoSuchBucketConfiguration(*EMPTY_CONFIGURATIONS[subresource])
    if subresource in EMPTY_DOCUMENTS:
        return xml_response(render_empty(EMPTY_DOCUMENTS[subresource]))
    if subresource in _NAMED:
        if context.request.param("id") is not None:
            raise NoSuchBucketConfiguration("NoSuchConfiguration")
        document = XmlWriter(_NAMED[subresource])
        document.leaf("IsTruncated", False)
    elif subresource == "requestPayment":
        document = XmlWriter("RequestPaymentConfiguration")
        document.leaf("Payer", PAYER)
    else:
        document = XmlWriter("OwnershipControls")
        with document.element("Rule"):
            document.leaf("ObjectOwnership", OWNERSHIP)
    return xml_response(document.finish())


async def put_bucket_configuration(context: RequestContext) -> S3Response:
    """PUT of a configuration that has one possible value.

    Raises:
        NotImplementedS3: The document asks for another value.
        MalformedXML, IllegalVersioningConfigurationException
    """
    storage, bucket = context.storage()
    await storage.head_bucket(bucket)
    document = await read_optional(context.request, context.principal, MAX_CONFIGURATION_BODY)
    subresource = _subresource(context)
    if subresource == "versioning":
        _refuse_versioning(document)
    elif subresource == "requestPayment":
        payer = text_of(
            children_of(read_document(document, "RequestPaymentConfiguration")), "Payer"
        )
        _require(payer, PAYER, "payer")
    else:
        controls = children_of(read_document(document, "OwnershipControls"))
        if controls.keys() != {"Rule"}:
            raise MalformedXML
        ownership = text_of(children_of(controls["Rule"]), "ObjectOwnership")
        _require(ownership, OWNERSHIP, "object ownership")
    return S3Response()


async def delete_bucket_configuration(context: RequestContext) -> S3Response:
    """DELETE of a bucket configuration that nobody can have set: it is gone."""
    storage, bucket = context.storage()
    await storage.head_bucket(bucket)
    return S3Response(status=204)


def _subresource(context: RequestContext) -> str:
    return subresource_of({name for name, _ in context.request.query}, BUCKET_SUBRESOURCES) or ""


def _refuse_versioning(document: bytes) -> None:
    status = text_of(children_of(read_document(document, "VersioningConfiguration")), "Status")
    if status is None:
        raise IllegalVersioningConfigurationException
    if status not in ("Enabled", "Suspended"):
        raise MalformedXML
    raise NotImplementedS3(
        f"Versioning cannot be {status.lower()}: buckets of this service have no versions."
    )


def _require(value: str | None, wanted: str, what: str) -> None:
    if value is None:
        raise MalformedXML
    if value.strip() != wanted:
        raise NotImplementedS3(f"The {what} {value.strip()!r} is not supported: it is {wanted}.")
