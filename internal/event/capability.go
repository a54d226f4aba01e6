package event

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Capabilities is a set of Linux capabilities as the kernel's bit mask:
// capabilities(7), numbers of include/uapi/linux/capability.h.
type Capabilities uint64

// capabilityNames are indexed by bit; the last is of kernel 5.9.
var capabilityNames = [...]string{
	"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL",
	"SETGID", "SETUID", "SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE",
	"NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
	"SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT",
	"SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME",
	"SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL",
	"SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM",
	"BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
}

// ofContainers are the capabilities that Docker and containerd leave to a container
// (https://docs.docker.com/engine/containers/run/#runtime-privilege-and-linux-capabilities).
var ofContainers = [...]string{
	"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
}

// OfContainers returns the names of the capabilities that engines give a container of
// which nothing else is said, without the CAP_ prefix, sorted.
func OfContainers() []string { return slices.Clone(ofContainers[:]) }

// IsOfContainers says that a capability, named without the CAP_ prefix, is among
// OfContainers.
func IsOfContainers(name string) bool { return slices.Contains(ofContainers[:], name) }

// LeadsToHost says that a capability, named without the CAP_ prefix, is as good as root
// on the host of a container that has it, or leads there: its process can load code into
// the kernel, trace or read what is not its own, or rearrange the host's networks. ALL
// is all of them.
func LeadsToHost(name string) bool { return slices.Contains(leadingToHost[:], name) }

var leadingToHost = [...]string{
	"ALL", "SYS_ADMIN", "SYS_MODULE", "SYS_PTRACE", "SYS_RAWIO", "SYS_BOOT", "NET_ADMIN", "DAC_READ_SEARCH", "BPF", "PERFMON", "MAC_ADMIN", "MAC_OVERRIDE", "SYSLOG",
	"CHECKPOINT_RESTORE",
}

// Names returns the capabilities of the set in the kernel's order, without the
// CAP_ prefix; a bit without a name is "CAP_<number>".
func (c Capabilities) Names() []string {
	names := make([]string, 0, len(capabilityNames))
	for bit := range 64 {
		if c&(1<<bit) == 0 {
			continue
		}
		if bit < len(capabilityNames) {
			names = append(names, capabilityNames[bit])
			continue
		}
		names = append(names, "CAP_"+strconv.Itoa(bit))
	}
	return names
}

// MarshalJSON writes the names as a list.
func (c Capabilities) MarshalJSON() ([]byte, error) { return json.Marshal(c.Names()) }

// UnmarshalJSON reads a list of names; an unknown name is an error.
func (c *Capabilities) UnmarshalJSON(b []byte) error {
	var names []string
	if err := json.Unmarshal(b, &names); err != nil {
		return fmt.Errorf("parse capabilities: %w", err)
	}
	*c = 0
	for _, n := range names {
		bit, ok := capabilityBit(n)
		if !ok {
			return fmt.Errorf("parse capabilities: %q is not a capability", n)
		}
		*c |= 1 << bit
	}
	return nil
}

// CapabilityOf returns the set with the capability of that name alone.
func CapabilityOf(name string) (Capabilities, bool) {
	bit, ok := capabilityBit(name)
	if !ok {
		return 0, false
	}
	return 1 << bit, true
}

func capabilityBit(name string) (int, bool) {
	for bit, n := range capabilityNames {
		if n == name {
			return bit, true
		}
	}
	digits, ok := strings.CutPrefix(name, "CAP_")
	bit, err := strconv.ParseUint(digits, 10, 8)
	return int(bit), ok && err == nil && bit < 64
}
