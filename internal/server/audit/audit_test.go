package audit_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/audit"
)

type kept struct {
	lines []access.Audit
	err   error
}

func (k *kept) AppendAudit(ctx context.Context, a access.Audit) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	k.lines = append(k.lines, a)
	return k.err
}

func TestLineIsWrittenForSomebodyWhoHasGone(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	k := &kept{}
	log := audit.Log{Store: k, Clock: func() time.Time { return now }}
	who := access.Identity{Actor: "anna", Address: "192.0.2.1"}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := log.Done(ctx, who, "trust.policy", "version:3", "why"); err != nil {
		t.Fatal(err)
	}
	if err := log.Add(ctx, who, "session.refused", "user:anna", "wrong password", ""); err != nil {
		t.Fatal(err)
	}
	want := []access.Audit{
		{Time: now, Actor: "anna", Address: "192.0.2.1", Action: "trust.policy", Target: "version:3", Outcome: "done", Detail: "why"},
		{Time: now, Actor: "anna", Address: "192.0.2.1", Action: "session.refused", Target: "user:anna", Outcome: "wrong password"},
	}
	if diff := cmp.Diff(want, k.lines); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

func TestWhatIsNotWrittenIsAnError(t *testing.T) {
	full := errors.New("the disk is full")
	log := audit.Log{Store: &kept{err: full}, Clock: time.Now}
	err := log.Done(t.Context(), access.Identity{}, "x", "y", "")
	if !errors.Is(err, full) || err.Error() != "write the audit log: the disk is full" {
		t.Errorf("Done = %v", err)
	}
}

func TestComments(t *testing.T) {
	for _, tc := range []struct {
		name, comment string
		ok            bool
	}{
		{"none", "", true},
		{"the longest", strings.Repeat("x", audit.MaxComment), true},
		{"too long", strings.Repeat("x", audit.MaxComment+1), false},
		{"no text", "\xff", false},
	} {
		if err := audit.CheckComment(tc.comment); (err == nil) != tc.ok || err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: CheckComment = %v", tc.name, err)
		}
	}
}
