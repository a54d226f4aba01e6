package aws

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go"

	"github.com/castellan-security/castellan/internal/fault"
)

// identified looks for credentials and says how to give some if there are none.
func identified(ctx context.Context, config sdk.Config) error {
	if _, err := config.Credentials.Retrieve(ctx); err != nil {
		return fault.New(fault.Unauthenticated, "find AWS credentials: %w", oneLine(err)).
			With("give the task or instance a role, or set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
	}
	return nil
}

// refused gives an error of a service its kind and remedy. The permissions are
// those that were needed, the endpoint is the one that a private network needs.
func refused(what string, err error, permissions, endpoint string) error {
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s: %w", what, err)
	}
	var api smithy.APIError
	if !errors.As(err, &api) {
		err = oneLine(err)
		if errors.Is(err, context.DeadlineExceeded) { // the SDK says that in many words
			err = fmt.Errorf("no answer in time: %w", context.DeadlineExceeded)
		}
		return fault.New(fault.Unavailable, "%s: %w", what, err).
			With("can the service's endpoint in that region be reached from here? in a private network it needs a VPC endpoint (" + endpoint + ")")
	}
	code := api.ErrorCode()
	said := oneLine(fmt.Errorf("%s: %s", code, cmp.Or(api.ErrorMessage(), "no reason given")))
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(code, w) {
				return true
			}
		}
		return false
	}
	switch {
	case has("AccessDenied", "UnauthorizedOperation"):
		return fault.New(fault.Denied, "%s: %w", what, said).With("permit the role " + permissions)
	case has("UnrecognizedClient", "Token", "Signature", "AccessKeyId"):
		return fault.New(fault.Unauthenticated, "%s: %w", what, said).With("renew the AWS credentials; is this machine's clock right?")
	case has("Throttl", "TooManyRequests", "RequestLimitExceeded", "OverLimit"):
		return fault.New(fault.Exhausted, "%s: %w", what, said).With("try again later, or ask less often")
	case has("RepositoryNotFound"):
		return fault.New(fault.NotFound, "%s: %w", what, said).With("is there such a repository in that account and region?")
	case has("QueueDoesNotExist", "NonExistentQueue"):
		return fault.New(fault.NotFound, "%s: %w", what, said).With("is the queue's URL right, and is it in that account and region?")
	case has("InvalidParameter", "Validation", "InvalidAddress"):
		return fault.New(fault.Invalid, "%s: %w", what, said).With("are the registry's host and the names right?")
	}
	return fault.New(fault.Unavailable, "%s: %w", what, said).With("try again later")
}

// refusedByName is refused for services that are no registries: the remedy is for
// names that they do not take.
func refusedByName(what string, err error, permissions, endpoint, remedy string) error {
	var api smithy.APIError
	if errors.As(err, &api) && api.ErrorCode() == "ValidationException" {
		return fault.New(fault.Invalid, "%s: %w", what, oneLine(fmt.Errorf("%s: %s", api.ErrorCode(), cmp.Or(api.ErrorMessage(), "no reason given")))).With(remedy)
	}
	return refused(what, err, permissions, endpoint)
}

// line is an error whose text is one line of bounded length.
type line struct{ error }

// Error returns it.
func (l line) Error() string {
	const longest = 600
	text := strings.Join(strings.Fields(l.error.Error()), " ")
	if len(text) > longest {
		text = strings.ToValidUTF8(text[:longest], "") + "…"
	}
	return text
}

// Unwrap returns the error as it was.
func (l line) Unwrap() error { return l.error }

// oneLine makes one line of the SDK's errors, which list every provider that
// was asked.
func oneLine(err error) error { return line{err} }
