package signature_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/signature"
)

func TestIncomplete(t *testing.T) {
	refusal := fmt.Errorf("manifest x: %w", signature.Refuse(signature.TooLarge, "it has 2 bytes"))
	away := errors.New("the registry is away")
	for _, tc := range []struct {
		name string
		left signature.Incomplete
		only bool
		text string
	}{
		{"refused", signature.Incomplete{Left: []error{refusal}}, true, "not all signatures could be read; manifest x: it has 2 bytes"},
		{"not looked at", signature.Incomplete{Left: []error{refusal, away}}, false, "; the registry is away"},
		{"more than are told", signature.Incomplete{Left: []error{refusal, refusal, refusal, refusal}, More: 7}, false, "; and 8 more"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.left.OnlyRefused(); got != tc.only {
				t.Errorf("OnlyRefused() = %v, want %v", got, tc.only)
			}
			if got := tc.left.Error(); !strings.Contains(got, tc.text) {
				t.Errorf("Error() = %q, want %q", got, tc.text)
			}
			var refused *signature.Refusal
			if !errors.As(&tc.left, &refused) || refused.Reason != signature.TooLarge {
				t.Errorf("the refusal in it is %v", refused)
			}
		})
	}
}
