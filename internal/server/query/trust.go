package query

import (
	"math"
	"net/url"
	"slices"

	"github.com/castellan-security/castellan/internal/store"
)

// maxSigner is the longest identity of a signer that can be asked for: as the API
// has it.
const maxSigner = 512

// Trust reads state, running, signer, repository, image, after and limit. The error
// is Invalid and names the parameter.
func Trust(v url.Values) (store.TrustQuery, error) {
	r := &reader{v: v}
	q := store.TrustQuery{
		State:      store.TrustState(r.text("state", maxName)),
		Running:    r.flag("running"),
		Signer:     r.text("signer", maxSigner),
		Repository: r.text("repository", maxSigner),
		ImageID:    r.text("image", maxName),
		After:      r.number("after", math.MaxInt64),
		Limit:      r.limit(),
	}
	if q.State != "" && !slices.Contains(store.TrustStates(), q.State) {
		r.fail("state", "%q is not a state of an image by the trust policy; the states are %v", clip(string(q.State)), store.TrustStates())
	}
	if r.err != nil {
		return store.TrustQuery{}, r.err
	}
	return q, nil
}
