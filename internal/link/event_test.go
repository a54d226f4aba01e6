package link_test

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
)

// fill sets every field below v to something that is not its zero value, each
// to another one, so that a field that is forgotten or mixed up shows.
func fill(t *testing.T, v reflect.Value, n *uint64) {
	t.Helper()
	*n++
	switch v.Type() {
	case reflect.TypeFor[*event.Call](): // agents can't tell of calls of AWS
		return
	case reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Unix(1_700_000_000, int64(*n)).UTC()))
		return
	case reflect.TypeFor[netip.AddrPort]():
		v.Set(reflect.ValueOf(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(*n)}), uint16(*n))))
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem(), n)
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i), n)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(t, v.Index(i), n)
		}
	case reflect.String:
		v.SetString("text" + strings.Repeat("x", int(*n)))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(*n)
	default:
		t.Fatalf("a field of kind %s: teach fill about it", v.Kind())
	}
}

// filledEvent has every field set that one event on the wire carries.
func filledEvent(t *testing.T) event.Event {
	t.Helper()
	var e event.Event
	var n uint64
	fill(t, reflect.ValueOf(&e).Elem(), &n)
	// What a report says once, and what the server finds out.
	e.ID, e.AgentID, e.Boot, e.Received, e.Group, e.Connection.Peer = 0, "", "", time.Time{}, "", event.Peer{}
	return e
}

var sameAddresses = cmpopts.EquateComparable(netip.AddrPort{})

func TestEventKeepsEveryField(t *testing.T) {
	e := filledEvent(t)
	prefix := []byte("before")
	b := link.AppendEvent(prefix, &e)
	if string(b[:len(prefix)]) != "before" {
		t.Fatalf("what stood before became %q", b[:len(prefix)])
	}
	got, err := link.DecodeEvent(b[len(prefix):])
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(e, got, sameAddresses); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
}

func TestReportKeepsEveryFieldOfEventsAndSamples(t *testing.T) {
	e := filledEvent(t)
	e.AgentID, e.Boot = full().Agent.ID, "FORMERBOOT"
	var s asset.Sample
	var n uint64
	fill(t, reflect.ValueOf(&s).Elem(), &n)
	want := link.Report{
		Agent: asset.Agent{ID: full().Agent.ID, Boot: "BOOT"}, Boot: "FORMERBOOT", Sent: time.Unix(1_700_000_000, 5).UTC(),
		Events: []event.Event{e}, Samples: []asset.Sample{s},
	}
	if diff := cmp.Diff(want, carried(t, want), sameReport, sameAddresses); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}

func TestEventsBelongToTheAgentsOwnBootUnlessAnotherIsSaid(t *testing.T) {
	r := link.Report{Agent: asset.Agent{ID: full().Agent.ID, Boot: "BOOT"}, Events: []event.Event{{Seq: 1}}}
	if got := carried(t, r).Events[0]; got.Boot != "BOOT" || got.AgentID != full().Agent.ID {
		t.Errorf("got an event of agent %q, boot %q", got.AgentID, got.Boot)
	}
}

func TestAddressesOnTheWire(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"v4", "10.0.0.1:80", "10.0.0.1:80"},
		{"v6", "[2001:db8::1]:65535", "[2001:db8::1]:65535"},
		{"v4 in v6", "[::ffff:10.0.0.1]:80", "[::ffff:10.0.0.1]:80"},
		{"with a zone", "[fe80::1%eth0]:53", "[fe80::1%eth0]:53"},
		{"a zone that is no interface", "[fe80::1%a]b:c]:53", "[fe80::1]:53"},
		{"a zone that is too long", "[fe80::1%" + strings.Repeat("a", 16) + "]:53", "[fe80::1]:53"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in, err := netip.ParseAddrPort(tc.in)
			if err != nil {
				t.Fatal(err)
			}
			e := event.Event{Connection: &event.Connection{Remote: in}}
			got, err := link.DecodeEvent(link.AppendEvent(nil, &e))
			if err != nil || got.Connection.Remote.String() != tc.want {
				t.Errorf("got %v, %v; want %s", got.Connection.Remote, err, tc.want)
			}
		})
	}
	e := event.Event{Connection: &event.Connection{Remote: netip.AddrPortFrom(netip.Addr{}, 80)}}
	if got, err := link.DecodeEvent(link.AppendEvent(nil, &e)); err != nil || got.Connection.Remote != (netip.AddrPort{}) {
		t.Errorf("a port without an address came as %v, %v", got.Connection.Remote, err)
	}
}

func TestBytesThatAreNoEvent(t *testing.T) {
	e := filledEvent(t)
	b := link.AppendEvent(nil, &e)
	if _, err := link.DecodeEvent(b[:len(b)-1]); !fault.Is(err, fault.Corrupt) {
		t.Errorf("a torn event: got %v, want corrupt", err)
	}
	e.Kind = "\xff" // what is not text is replaced, so the event can still be kept
	if got, err := link.DecodeEvent(link.AppendEvent(nil, &e)); err != nil || got.Kind != "\ufffd" {
		t.Errorf("got kind %q, %v", got.Kind, err)
	}
}

// FuzzDecodeEvent: any bytes either are refused as corrupt, or what they say
// survives being written and read again.
func FuzzDecodeEvent(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0x62, 0x06, 0x12, 0x04, 0x0a, 0x02, 1, 2}) // an address of two bytes
	e := event.Event{Seq: 7, Kind: event.KindConnect, Connection: &event.Connection{Remote: netip.MustParseAddrPort("[fe80::1%eth0]:53")}}
	f.Add(link.AppendEvent(nil, &e))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := link.DecodeEvent(b)
		if err != nil {
			if !fault.Is(err, fault.Corrupt) {
				t.Fatalf("got %v, want corrupt", err)
			}
			return
		}
		again, err := link.DecodeEvent(link.AppendEvent(nil, &e))
		if err != nil {
			t.Fatalf("read what was written: %v", err)
		}
		if diff := cmp.Diff(e, again, sameAddresses, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("a second trip changed the event:\n%s", diff)
		}
		if c := e.Connection; c != nil {
			if text, err := c.Remote.MarshalText(); err != nil || new(netip.AddrPort).UnmarshalText(text) != nil {
				t.Fatalf("address %q can be written but not read", text)
			}
		}
	})
}

func BenchmarkAppendEvent(b *testing.B) {
	e := full().Events[1]
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = link.AppendEvent(buf[:0], &e)
	}
}
