package awsiottest

import (
	"fmt"
	"net/http"
)

// apiError is an error of the registry API. It travels as AWS sends it: the
// code in the header x-amzn-ErrorType, the rest as JSON.
type apiError struct {
	status  int
	code    string
	message string
	// resourceID and resourceARN name what exists already
	// (ResourceAlreadyExistsException).
	resourceID, resourceARN string
}

func (e *apiError) Error() string { return e.code + ": " + e.message }

// The HTTP status codes are those of the API's service model.

func invalidRequest(format string, args ...any) *apiError {
	return &apiError{status: http.StatusBadRequest, code: "InvalidRequestException", message: fmt.Sprintf(format, args...)}
}

func notFound(format string, args ...any) *apiError {
	return &apiError{status: http.StatusNotFound, code: "ResourceNotFoundException", message: fmt.Sprintf(format, args...)}
}

func alreadyExists(id, arn, format string, args ...any) *apiError {
	return &apiError{
		status: http.StatusConflict, code: "ResourceAlreadyExistsException", message: fmt.Sprintf(format, args...),
		resourceID: id, resourceARN: arn,
	}
}

func versionConflict(format string, args ...any) *apiError {
	return &apiError{status: http.StatusConflict, code: "VersionConflictException", message: fmt.Sprintf(format, args...)}
}

func internalFailure(err error) *apiError {
	return &apiError{status: http.StatusInternalServerError, code: "InternalFailureException", message: err.Error()}
}

// throttled is HTTP 400 in the registry API, unlike most APIs.
func throttled() *apiError {
	return &apiError{status: http.StatusBadRequest, code: "ThrottlingException", message: "Rate exceeded"}
}

// unknownOperation answers a path that the emulator does not know.
// Inferred: REST-JSON services of AWS answer so.
func unknownOperation() *apiError {
	return &apiError{status: http.StatusNotFound, code: "UnknownOperationException", message: "the emulator has no such operation"}
}
