package agent_test

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/agent"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
)

// verifying is a world whose server wants images verified.
type verifying struct {
	*directing
	mu      sync.Mutex
	verify  func(context.Context) ([]byte, error)
	busy    int // times the server has too much to do
	answers []string
}

func (v *verifying) VerifyImage(ctx context.Context, _ link.VerifyWish) ([]byte, error) {
	return v.verify(ctx)
}

func (v *verifying) Verdict(_ context.Context, a link.Verified) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.busy > 0 {
		v.busy--
		return fault.New(fault.Unavailable, "busy")
	}
	v.answers = append(v.answers, a.Job+" "+a.Repository+" "+a.PolicyDigest+" "+string(a.Verdict)+a.Error)
	return nil
}

func (v *verifying) answered() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.answers)
}

func TestImagesAreVerifiedAsTheServerWants(t *testing.T) {
	fine := func(context.Context) ([]byte, error) { return []byte("{}"), nil }
	for _, tc := range []struct {
		name   string
		verify func(context.Context) ([]byte, error)
		digest string
		busy   int
		span   time.Duration
		want   []string
	}{
		{"a verdict", fine, digest("a"), 0, time.Minute, []string{"j reg.example/a p {}"}},
		{"to a busy server", fine, digest("a"), 3, time.Minute, []string{"j reg.example/a p {}"}},
		{"no digest", fine, "latest", 0, time.Minute, []string{`j reg.example/a p digest "latest": want sha256 or sha512 before a colon`}},
		{"an error", func(context.Context) ([]byte, error) { return nil, fault.New(fault.Unavailable, "no registry") }, digest("a"), 0, time.Minute, []string{"j reg.example/a p no registry"}},
		{"too large a verdict", func(context.Context) ([]byte, error) { return make([]byte, link.MaxVerdict+1), nil }, digest("a"), 0, time.Minute, []string{"j reg.example/a p verdict has 262145 bytes"}},
		{"one that hangs", func(ctx context.Context) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() }, digest("a"), 0, time.Second, []string{"j reg.example/a p context deadline exceeded"}},
		{"one whose time is over", fine, digest("a"), 0, -time.Second, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := &verifying{verify: tc.verify, busy: tc.busy, directing: &directing{
					world: &world{sense: make(chan []event.Event), engine: make(chan asset.Inventory)},
					give:  make(chan link.Directive), lose: make(chan error),
				}}
				a := agent.New(agent.Config{ID: "A"}, agent.Parts{Engine: v, Sensors: v, Host: v, Server: v, Verifier: v}, slog.New(slog.DiscardHandler))
				ctx, stop := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { done <- a.Run(ctx) }()
				v.engine <- asset.Inventory{Engine: asset.Engine{Connected: true}}
				settle(time.Minute)
				if got := v.last().Agent.Abilities; !slices.Equal(got, []string{link.AbilityVerify}) {
					t.Errorf("got abilities %q", got)
				}
				issued := time.Now().Add(-24 * time.Hour) // a server whose clock is a day behind
				for range 2 {                             // each job is done once
					v.give <- link.Directive{ID: "j", Kind: link.DirectiveVerify, Issued: issued, Verify: &link.VerifyWish{
						Job: "j", Repository: "reg.example/a", Digest: tc.digest, PolicyDigest: "p", Until: issued.Add(tc.span),
					}}
				}
				settle(time.Minute)
				if diff := cmp.Diff(tc.want, v.answered()); diff != "" {
					t.Errorf("answers (-want +got):\n%s", diff)
				}
				stop()
				if err := <-done; err != nil {
					t.Errorf("Run returned %v, want nil", err)
				}
			})
		})
	}
}
