package fault_test

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/castellan-security/castellan/internal/fault"
)

func TestKindAndRemedySurviveWrapping(t *testing.T) {
	disk := fault.New(fault.Exhausted, "write page: %w", io.ErrShortWrite).With("free some space")
	for _, tc := range []struct {
		name   string
		err    error
		kind   fault.Kind
		remedy string
	}{
		{"nil", nil, fault.Unknown, ""},
		{"plain", io.EOF, fault.Unknown, ""},
		{"itself", disk, fault.Exhausted, "free some space"},
		{"wrapped", fmt.Errorf("store events: %w", disk), fault.Exhausted, "free some space"},
		{"joined", errors.Join(io.EOF, disk), fault.Exhausted, "free some space"},
		{"reclassified keeps the inner remedy", fault.New(fault.Unavailable, "report: %w", disk), fault.Unavailable, "free some space"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := fault.Of(tc.err); got != tc.kind {
				t.Errorf("kind %v, want %v", got, tc.kind)
			}
			if got := fault.Remedy(tc.err); got != tc.remedy {
				t.Errorf("remedy %q, want %q", got, tc.remedy)
			}
		})
	}
	if !errors.Is(disk, io.ErrShortWrite) {
		t.Error("the cause is not found in the chain")
	}
	if fault.Is(nil, fault.Unknown) {
		t.Error("nil is a fault")
	}
}
