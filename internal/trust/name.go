package trust

import (
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/trust/decide"
	"github.com/castellan-security/castellan/internal/trust/policy"
)

// Repository returns the full name of a repository as people and engines write
// it; see policy.ParseRepository.
func Repository(name string) (string, error) {
	r, err := policy.ParseRepository(name)
	return string(r), err
}

// SignatureGood is the state of a signature that holds; see decide.Good.
const SignatureGood = decide.Good

// CheckProfile says what is wrong with the ARN of a signing profile; see
// policy.CheckProfile.
func CheckProfile(arn string) error {
	if err := policy.CheckProfile(arn); err != nil {
		return fault.New(fault.Invalid, "%w", err).With("write " + policy.ProfileForms)
	}
	return nil
}
