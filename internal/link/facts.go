package link

import (
	"encoding/json"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/fault"
)

// maxFactsValues bounds the values of the facts of one image.
const maxFactsValues = 500_000

// PackFacts compresses the JSON of an image's facts.
func PackFacts(plain []byte) ([]byte, error) { return pack(plain) }

// UnpackFacts reads what PackFacts wrote, which may be anything: Invalid when it is
// none, or larger than MaxFactsUnpacked.
func UnpackFacts(packed []byte) (f admission.Facts, plain []byte, err error) {
	if plain, err = unpack("facts", packed, MaxFactsUnpacked, maxFactsValues); err != nil {
		return f, nil, err
	}
	if err := json.Unmarshal(plain, &f); err != nil {
		return admission.Facts{}, nil, fault.New(fault.Invalid, "read facts: %w", err)
	}
	return f, plain, nil
}
