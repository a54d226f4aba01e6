package gate_test

import (
	"context"
	"testing"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
)

// TestNews follows what is new: verdicts, another policy, exceptions.
func TestNews(t *testing.T) {
	h := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if _, err := h.s.News(ctx, access.Identity{}); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("nobody follows, with the error %v", err)
	}
	told, err := h.s.News(ctx, h.admin)
	if err != nil {
		t.Fatal(err)
	}
	h.set("version: 1\nmode: enforce\nrules:\n  - use: privileged\n", 0)
	<-told
	if _, err := h.s.Decide(t.Context(), h.admin, ask("r1", "shop", digest("a"))); err != nil {
		t.Fatal(err)
	}
	<-told
	cancel()
	for range told {
	}
}
