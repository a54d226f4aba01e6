package bpf

import (
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
)

// CallNumber returns the number of a system call on this architecture.
func CallNumber(name string) (uint32, bool) {
	n, ok := callNumbers[name]
	return n, ok
}

// AttachPacketsSingly makes s do as on kernels that cannot have one program for
// the packets of all sensors. It is for before the network and DNS sensors load.
func (s *Sensors) AttachPacketsSingly() { s.on.packets.refused = true }

// HasPacketBoard says whether one program looks at packets for all sensors.
func (s *Sensors) HasPacketBoard() bool { return s.on.packets.there() }

// OpenExecGuardAs is OpenExecGuard of another version of this program.
func OpenExecGuardAs(dir, generation string, log *slog.Logger) (*Guard, error) {
	return openExecGuard(dir, generation, log)
}

// OpenNetGuardAs is OpenNetGuard of another version of this program.
func OpenNetGuardAs(dir, generation string, log *slog.Logger) (*Guard, error) {
	return openNetGuard(dir, generation, log)
}

// GoesOn says whether sensors go on from what holds containers.
func (s *Sensors) GoesOn() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.joint != nil && s.on.calls.joint == s.joint && s.on.calls.at == nil
}

// Listeners counts who goes on from what is pinned below dir and holds what runs.
func Listeners(t testing.TB, dir string) (n int) {
	t.Helper()
	pins, err := filepath.Glob(filepath.Join(dir, "exec", "*", linkPrefix+jointProgram))
	if err != nil || len(pins) != 1 {
		t.Fatalf("pinned are %v: %v", pins, err)
	}
	j, err := openJoint(pins[0])
	if err != nil || j == nil {
		t.Fatalf("open %s: %v", pins[0], err)
	}
	var program uint32
	if j.listeners.Lookup(uint32(0), &program) == nil {
		n = 1
	}
	if err := j.close(); err != nil {
		t.Error(err)
	}
	return n
}

// IsLSM says whether security hooks hold here.
func IsLSM() bool { return bpfIsLSM() }

// Program returns a program of a running sensor; nil where there is none. It is s's.
func (s *Sensors) Program(sensor, name string) *ebpf.Program {
	for _, l := range s.all {
		if l.name == sensor && l.programs != nil {
			return l.programs.Programs[name]
		}
	}
	return nil
}
