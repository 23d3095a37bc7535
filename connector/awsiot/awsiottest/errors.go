package awsiottest

import (
	"fmt"
	"net/http"
)

// apiError is an error of an HTTP API. It travels as AWS sends it: the code in
// the header x-amzn-ErrorType, the rest as JSON.
type apiError struct {
	status  int
	code    string
	message string
	// traceID is in the errors of the data plane.
	traceID string
	// resourceID and resourceARN name what exists already
	// (ResourceAlreadyExistsException).
	resourceID, resourceARN string
}

func (e *apiError) Error() string { return e.code + ": " + e.message }

// The HTTP status codes are those of the API's service model.

func newError(status int, code, format string, args ...any) *apiError {
	return &apiError{status: status, code: code, message: fmt.Sprintf(format, args...)}
}

func invalidRequest(format string, args ...any) *apiError {
	return newError(http.StatusBadRequest, "InvalidRequestException", format, args...)
}

func notFound(format string, args ...any) *apiError {
	return newError(http.StatusNotFound, "ResourceNotFoundException", format, args...)
}

func alreadyExists(id, arn, format string, args ...any) *apiError {
	e := newError(http.StatusConflict, "ResourceAlreadyExistsException", format, args...)
	e.resourceID, e.resourceARN = id, arn
	return e
}

func versionConflict(format string, args ...any) *apiError {
	return newError(http.StatusConflict, "VersionConflictException", format, args...)
}

func deleteConflict(format string, args ...any) *apiError {
	return newError(http.StatusConflict, "DeleteConflictException", format, args...)
}

func certificateState(format string, args ...any) *apiError {
	return newError(http.StatusNotAcceptable, "CertificateStateException", format, args...)
}

func limitExceeded(format string, args ...any) *apiError {
	return newError(http.StatusGone, "LimitExceededException", format, args...)
}

func internalFailure(err error) *apiError {
	return newError(http.StatusInternalServerError, "InternalFailureException", "%v", err)
}

// throttled is HTTP 400 in the registry API, unlike most APIs.
func throttled() *apiError {
	return newError(http.StatusBadRequest, "ThrottlingException", "Rate exceeded")
}

// accessDenied is what the identity service answers for a missing permission.
// The API's model names UnauthorizedException (401), but a missing permission
// is answered with AccessDeniedException (403), as in reports of users.
func accessDenied(sentence string) *apiError {
	return newError(http.StatusForbidden, "AccessDeniedException", "%s", sentence)
}

// unknownOperation answers a path that the emulator does not know.
// Inferred: REST-JSON services of AWS answer so.
func unknownOperation() *apiError {
	return newError(http.StatusNotFound, "UnknownOperationException", "the emulator has no such operation")
}
