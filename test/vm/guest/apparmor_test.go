package guest_test

import (
	"os"
	"syscall"
	"testing"

	"github.com/castellan-security/castellan/test/vm/guest"
)

// A program confined by an AppArmor profile may do what the profile permits,
// and nothing else; the same program unconfined may.
func TestAppArmorConfines(t *testing.T) {
	const confined = "/bin/confined"
	if err := os.Link(guest.Subject, confined); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/permitted", "/secret"} {
		if err := os.WriteFile(name, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := exitCode(t, confined, "read", "/secret"); got != 0 {
		t.Fatalf("before the profile is loaded: error %v reading /secret, want none", syscall.Errno(got))
	}
	policy, err := os.ReadFile(guest.Policy)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/sys/kernel/security/apparmor/.replace", policy, 0); err != nil {
		t.Fatalf("load profile: %v", err)
	}
	tests := []struct {
		name, program, file string
		want                syscall.Errno
	}{
		{"confined and permitted", confined, "/permitted", 0},
		{"confined and not permitted", confined, "/secret", syscall.EACCES},
		{"not confined", guest.Subject, "/secret", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := syscall.Errno(exitCode(t, tt.program, "read", tt.file)); got != tt.want {
				t.Errorf("%s reads %s: %v, want %v", tt.program, tt.file, got, tt.want)
			}
		})
	}
}
