package kernel_test

import (
	"os"
	"testing"

	"github.com/castellan-security/castellan/internal/adapter/kernel"
	"github.com/castellan-security/castellan/internal/event"
)

func TestExecutable(t *testing.T) {
	h := kernel.New(kernel.Options{})
	all, err := h.Processes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var self event.Process
	for _, r := range all {
		if r.Process.Key.PID == uint32(os.Getpid()) {
			self = r.Process
		}
	}
	if self.Executable == "" {
		t.Fatal("we ourselves are not listed with a path")
	}
	exact := self.Key
	exact.Start += 1_234 // as sensors tell it, within the tick
	earlier := self.Key
	earlier.Start -= 1e9
	for _, tt := range []struct {
		name, want string
		key        event.Key
	}{
		{"by ticks", self.Executable, self.Key},
		{"by nanoseconds", self.Executable, exact},
		{"an earlier owner of the number", "", earlier},
		{"nobody", "", event.Key{PID: 1 << 30}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := h.Executable(tt.key); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
