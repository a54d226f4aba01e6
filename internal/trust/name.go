package trust

import (
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
