"""Errors that know how an S3 client must see them.

Each class carries its S3 error code, its HTTP status and the names of the extra
XML elements that AWS sends with it, so no table maps exceptions to answers.
Storage authors raise these; anything else becomes ``InternalError`` with a request
id and no detail.

Source: AWS, "Error responses", list of error codes.

    S3Error
    ├── ClientError: the request is at fault (4xx)
    └── ServerError: the service is at fault (5xx)
"""

from __future__ import annotations

from collections.abc import Mapping

from .errors_base import ClientError as ClientError
from .errors_base import ConfigurationError as ConfigurationError
from .errors_base import DeltaGliderError as DeltaGliderError
from .errors_base import S3Error as S3Error
from .errors_base import ServerError as ServerError

# --- authentication and authorization -------------------------------------------------


class AccessDenied(ClientError):
    code, status, message = "AccessDenied", 403, "Access Denied"


class AccessForbidden(ClientError):
    """No rule of the bucket allows what a browser asks for another site."""

    code, status = "AccessForbidden", 403
    message = "CORSResponse: CORS is not enabled for this bucket."


class InvalidAccessKeyId(ClientError):
    code, status = "InvalidAccessKeyId", 403
    message = "The AWS Access Key Id you provided does not exist in our records."


class SignatureDoesNotMatch(ClientError):
    code, status = "SignatureDoesNotMatch", 403
    message = (
        "The request signature we calculated does not match the signature you provided. "
        "Check your key and signing method."
    )


class ReplayedRequest(ClientError):
    """A signature that has already changed something came again."""

    code = "InvalidArgument"
    message = (
        "This signed request was carried out before. A signature can change something only "
        "once: sign the request again."
    )


class RequestTimeTooSkewed(ClientError):
    code, status = "RequestTimeTooSkewed", 403
    message = "The difference between the request time and the current time is too large."


class AuthorizationHeaderMalformed(ClientError):
    code = "AuthorizationHeaderMalformed"
    message = "The authorization header you provided is invalid."


class AuthorizationQueryParametersError(ClientError):
    code = "AuthorizationQueryParametersError"
    message = "The authorization query parameters you provided are invalid."


# --- the request itself ---------------------------------------------------------------


class InvalidRequest(ClientError):
    code = "InvalidRequest"


class InvalidArgument(ClientError):
    code, message = "InvalidArgument", "Invalid Argument"


class InvalidURI(ClientError):
    code, message = "InvalidURI", "Couldn't parse the specified URI."


class BadRequest(ClientError):
    """What has no better code: a request that HTTP does not allow, or too many tags."""

    code, message = "BadRequest", "An error occurred when parsing the HTTP request."


class MalformedXML(ClientError):
    code = "MalformedXML"
    message = (
        "The XML you provided was not well-formed or did not validate against our published schema"
    )


class InvalidTag(ClientError):
    code, message = "InvalidTag", "The tag you have provided is invalid"


class MethodNotAllowed(ClientError):
    code, status = "MethodNotAllowed", 405
    message = "The specified method is not allowed against this resource."


class MissingContentLength(ClientError):
    code, status = "MissingContentLength", 411
    message = "You must provide the Content-Length HTTP header."


class IncompleteBody(ClientError):
    code = "IncompleteBody"
    message = "You did not provide the number of bytes specified by the Content-Length HTTP header"


class RequestTimeout(ClientError):
    code = "RequestTimeout"
    message = (
        "Your socket connection to the server was not read from or written to within "
        "the timeout period. Idle connections will be closed."
    )


class MalformedPOSTRequest(ClientError):
    code = "MalformedPOSTRequest"
    message = "The body of your POST request is not well-formed multipart/form-data."


class MaxPostPreDataLengthExceeded(ClientError):
    """More fields of a form come before its file than S3 takes."""

    code = "MaxPostPreDataLengthExceeded"
    message = "Your POST request fields preceding the upload file were too large."


class IncorrectNumberOfFilesInPostRequest(ClientError):
    code = "IncorrectNumberOfFilesInPostRequest"
    message = "POST requires exactly one file upload per request."


class InvalidPolicyDocument(ClientError):
    """The policy of a form cannot be read; one that does not hold is ``AccessDenied``."""

    code = "InvalidPolicyDocument"
    message = (
        "The content of the form does not meet the conditions specified in the policy document."
    )


class EntityTooLarge(ClientError):
    code = "EntityTooLarge"
    message = "Your proposed upload exceeds the maximum allowed size"


class EntityTooSmall(ClientError):
    code = "EntityTooSmall"
    message = "Your proposed upload is smaller than the minimum allowed size"


class KeyTooLongError(ClientError):
    code, message = "KeyTooLongError", "Your key is too long"


class MetadataTooLarge(ClientError):
    code = "MetadataTooLarge"
    message = "Your metadata headers exceed the maximum allowed metadata size"


class InvalidBucketName(ClientError):
    code, message = "InvalidBucketName", "The specified bucket is not valid."


class AccessControlListNotSupported(ClientError):
    """Buckets are owned by one: nothing is shared by access control lists."""

    code, message = "AccessControlListNotSupported", "The bucket does not allow ACLs"


class MalformedACLError(ClientError):
    code = "MalformedACLError"
    message = (
        "The XML you provided was not well-formed or did not validate against our published schema"
    )


class MissingSecurityHeader(ClientError):
    code, message = "MissingSecurityHeader", "Your request was missing a required header"


class IllegalVersioningConfigurationException(ClientError):
    code = "IllegalVersioningConfigurationException"
    message = "The Versioning element must be specified"


class InvalidStorageClass(ClientError):
    code = "InvalidStorageClass"
    message = "The storage class you specified is not valid"


class InvalidDigest(ClientError):
    code, message = "InvalidDigest", "The Content-MD5 you specified was invalid."


class BadDigest(ClientError):
    code = "BadDigest"
    message = "The Content-MD5 or checksum you specified did not match what we received."


class XAmzContentSHA256Mismatch(ClientError):
    code = "XAmzContentSHA256Mismatch"
    message = "The provided 'x-amz-content-sha256' header does not match what was computed."


class InvalidRange(ClientError):
    """A range outside the object.

    Args:
        size: Length of the object in bytes, for ``Content-Range: bytes */size``.
    """

    code, status = "InvalidRange", 416
    message = "The requested range is not satisfiable"

    def __init__(self, message: str | None = None, *, size: int, requested: str = "") -> None:
        self.size = size
        super().__init__(
            message,
            fields={"RangeRequested": requested, "ActualObjectSize": str(size)},
            headers={"Content-Range": f"bytes */{size}"},
        )


# --- buckets and objects --------------------------------------------------------------


class NoSuchBucket(ClientError):
    code, status, message = "NoSuchBucket", 404, "The specified bucket does not exist"


class NoSuchKey(ClientError):
    code, status, message = "NoSuchKey", 404, "The specified key does not exist."


class NoSuchVersion(ClientError):
    code, status, message = "NoSuchVersion", 404, "The specified version does not exist."


class NoSuchUpload(ClientError):
    code, status = "NoSuchUpload", 404
    message = (
        "The specified upload does not exist. The upload ID may be invalid, or the upload may "
        "have been aborted or completed."
    )


class BucketAlreadyExists(ClientError):
    code, status = "BucketAlreadyExists", 409
    message = "The requested bucket name is not available."


class BucketAlreadyOwnedByYou(ClientError):
    code, status = "BucketAlreadyOwnedByYou", 409
    message = "Your previous request to create the named bucket succeeded and you already own it."


class OperationAborted(ClientError):
    code, status = "OperationAborted", 409
    message = (
        "A conflicting conditional operation is currently in progress against this resource. "
        "Please try again."
    )


class QuotaExceeded(ClientError):
    """The bucket may not grow so far; not a code of AWS, but what other S3 services use."""

    code, status = "QuotaExceeded", 403
    message = "The quota of the bucket is exceeded."


class BucketNotEmpty(ClientError):
    code, status = "BucketNotEmpty", 409
    message = "The bucket you tried to delete is not empty"


class InvalidPart(ClientError):
    code = "InvalidPart"
    message = (
        "One or more of the specified parts could not be found.  The part may not have been "
        "uploaded, or the specified entity tag may not match the part's entity tag."
    )


class InvalidPartNumber(ClientError):
    code, status = "InvalidPartNumber", 416
    message = "The requested partnumber is not satisfiable"


class InvalidPartOrder(ClientError):
    code = "InvalidPartOrder"
    message = "The list of parts was not in ascending order. Parts must be ordered by part number."


class PreconditionFailed(ClientError):
    code, status = "PreconditionFailed", 412
    message = "At least one of the pre-conditions you specified did not hold"


class ConditionalRequestConflict(ClientError):
    code, status = "ConditionalRequestConflict", 409
    message = (
        "The conditional request cannot succeed due to a conflicting operation against this "
        "resource."
    )


class NoSuchBucketConfiguration(ClientError):
    """The empty state of a bucket configuration; ``code`` differs per kind.

    Args:
        code: For example ``NoSuchLifecycleConfiguration``.
    """

    status, message = 404, "The specified configuration does not exist."

    def __init__(
        self, code: str, message: str | None = None, *, fields: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message, fields=fields)
        self.code = code  # type: ignore[misc]  # one class for the whole family


# --- the service ----------------------------------------------------------------------


class InternalError(ServerError):
    code, status = "InternalError", 500


class NotImplementedS3(ServerError):
    """Something S3 has and this service does not."""

    code, status = "NotImplemented", 501
    message = "A header you provided implies functionality that is not implemented"


class ServiceUnavailable(ServerError):
    code, status = "ServiceUnavailable", 503
    message = "The service is not available. Please retry."


class SlowDown(ServerError):
    code, status, message = "SlowDown", 503, "Please reduce your request rate."


class GatewayTimeout(ServerError):
    """The storage did not answer in time; not a code of AWS, whose status SDKs repeat."""

    code, status = "GatewayTimeout", 504
    message = "The request was not answered in time and was cancelled. Please retry."


class InsufficientStorage(ServerError):
    """The backend has no room left.

    A 503 that no client retries for ever would be better, but S3 has no such code; 507
    is what RFC 4918 names for it and SDKs do not repeat it.
    """

    code, status = "InsufficientStorage", 507
    message = "The storage behind this bucket is full. Nothing was stored."


class IntegrityError(ServerError):
    """Stored bytes are not what was stored: corrupt, truncated or without their reference.

    The client sees a plain ``InternalError``; the text goes to the log only.
    """


class CorruptDelta(IntegrityError):
    """A codec could not decode a window, or decoded it to something else."""
