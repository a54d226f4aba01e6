package bpf

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/castellan-security/castellan/internal/event"
)

// Whatever payload an event has, what is like it has the same and shares none.
func TestLike(t *testing.T) {
	for f := range reflect.TypeFor[event.Event]().Fields() {
		if f.Type.Kind() != reflect.Pointer {
			continue
		}
		t.Run(f.Name, func(t *testing.T) {
			e := event.Event{
				Kind: "kind", WorkloadID: "workload", Reaction: event.ReactionDenied,
				Process: event.Process{Key: event.Key{PID: 7, Start: 8}, Name: "name"},
			}
			payload := reflect.New(f.Type.Elem())
			reflect.ValueOf(&e).Elem().FieldByIndex(f.Index).Set(payload)
			if x := e.Exec; x != nil {
				x.Args, x.Ancestors = []string{"a"}, []event.Ancestor{{Name: "parent"}}
			}
			l := likeOf(&e)
			got := l.event()
			if d := cmp.Diff(got, e, cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})); d != "" {
				t.Errorf("like (-got +want):\n%s", d)
			}
			for _, other := range []event.Event{e, l.event()} {
				if reflect.ValueOf(got).FieldByIndex(f.Index).Pointer() == reflect.ValueOf(other).FieldByIndex(f.Index).Pointer() {
					t.Error("the payload is shared")
				}
			}
		})
	}
}
