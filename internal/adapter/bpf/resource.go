package bpf

import (
	"fmt"
	"os"
	"unsafe"

	"github.com/castellan-security/castellan/internal/event"
)

//go:generate go tool bpf2go -cc clang -strip llvm-strip -target amd64,arm64 -type oom -type scope resource resource.bpf.c -- -O2 -Wall -Werror -mcpu=v2

const oomLen = int(unsafe.Sizeof(resourceOom{}))

// oomKind is the one kind of record that the resource sensor has.
const oomKind = 1

// resourceSensor reports processes that the kernel kills for want of memory, of
// containers and of the host, before they get their signal.
//
// Which limit was reached the kernel does not say: it is that of the nearest
// cgroup of the victim that is full, and that whoever asked for memory is of.
func resourceSensor() sensor {
	return sensor{
		name:   "resource",
		number: 9, // SENSOR_RESOURCE
		spec:   loadResource,
		decode: decodeResource,
	}
}

// scopes are the words for enum scope.
var scopes = map[resourceScope]event.Scope{
	resourceScopeSCOPE_HOST: event.ScopeHost, resourceScopeSCOPE_CONTAINER: event.ScopeContainer, resourceScopeSCOPE_CGROUP: event.ScopeCgroup,
}

// decodeResource reads one record of the resource sensor into e.
func decodeResource(d *decoder, b []byte, e *event.Event) error {
	h, err := d.head(b, e)
	if err != nil {
		return err
	}
	if len(b) < oomLen {
		return errShort
	}
	if h.kind != oomKind {
		return fmt.Errorf("unknown kind %d", h.kind)
	}
	var at resourceOom
	page := uint64(os.Getpagesize())
	e.Kind = event.KindOOM
	e.Resource = &event.Resource{
		What: "memory", Scope: scopes[resourceScope(u32(b, unsafe.Offsetof(at.Scope)))],
		Used: page * u64(b, unsafe.Offsetof(at.Used)), Limit: page * u64(b, unsafe.Offsetof(at.Limit)),
		Resident: page * u64(b, unsafe.Offsetof(at.Resident)),
	}
	return nil
}
