package query_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/store"
)

func TestTrust(t *testing.T) {
	for _, tc := range []struct {
		name, address string
		want          store.TrustQuery
		wrong         bool
	}{
		{name: "nothing", address: "", want: store.TrustQuery{}},
		{
			name: "everything", address: "state=denied&running=true&signer=build&repository=shop&image=sha256:ab&after=7&limit=5",
			want: store.TrustQuery{State: store.TrustDenied, Running: true, Signer: "build", Repository: "shop", ImageID: "sha256:ab", After: 7, Limit: 5},
		},
		{name: "an identity", address: "signer=a%2Bb@acme.example", want: store.TrustQuery{Signer: "a+b@acme.example"}},
		{name: "no state", address: "state=odd", wrong: true},
		{name: "no number", address: "after=x", wrong: true},
		{name: "neither yes nor no", address: "running=perhaps", wrong: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := query.Trust(values(t, tc.address))
			if fault.Is(err, fault.Invalid) != tc.wrong {
				t.Errorf("got error %v, want one: %t", err, tc.wrong)
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}
