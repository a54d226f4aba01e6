package event_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/event"
)

func TestKeyText(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       event.Key
		wrong      bool
	}{
		{"none", "", event.Key{}, false},
		{"ordinary", "4711-123456789012345", event.Key{PID: 4711, Start: 123456789012345}, false},
		{"largest", "4294967295-18446744073709551615", event.Key{PID: 1<<32 - 1, Start: 1<<64 - 1}, false},
		{"no start", "4711", event.Key{}, true},
		{"no pid", "-5", event.Key{}, true},
		{"pid too large", "4294967296-1", event.Key{}, true},
		{"negative", "-1--1", event.Key{}, true},
		{"words", "a-b", event.Key{}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got event.Key
			err := got.UnmarshalText([]byte(tc.text))
			if (err != nil) != tc.wrong || got != tc.want {
				t.Errorf("got %v, %v; want %v, error: %v", got, err, tc.want, tc.wrong)
			}
		})
	}
}

func FuzzKeyText(f *testing.F) {
	f.Add("4711-1")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		var k, again event.Key
		if k.UnmarshalText([]byte(s)) != nil {
			return
		}
		b, err := k.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		if err := again.UnmarshalText(b); err != nil || again != k {
			t.Fatalf("%q became %v, then %q, then %v (%v)", s, k, b, again, err)
		}
	})
}

func TestSameProcess(t *testing.T) {
	const second = uint64(time.Second)
	k := event.Key{PID: 7, Start: 100*second + 3_456_789}
	for _, tc := range []struct {
		name string
		o    event.Key
		want bool
	}{
		{"itself", k, true},
		{"as /proc tells it", event.Key{PID: 7, Start: 100 * second}, true},
		{"another pid", event.Key{PID: 8, Start: k.Start}, false},
		{"the pid's next owner", event.Key{PID: 7, Start: k.Start + second/100}, false},
		{"none", event.Key{}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if k.Same(tc.o) != tc.want || tc.o.Same(k) != tc.want {
				t.Errorf("Same(%v) is %v one way and %v the other, want %v", tc.o, k.Same(tc.o), tc.o.Same(k), tc.want)
			}
		})
	}
}

func TestCapabilities(t *testing.T) {
	for _, tc := range []struct {
		name string
		set  event.Capabilities
		want string
	}{
		{"none", 0, `[]`},
		{"two", 1<<21 | 1, `["CHOWN","SYS_ADMIN"]`},
		{"of a newer kernel", 1 << 50, `["CAP_50"]`},
		{"all known", 1<<41 - 1, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, err := json.Marshal(tc.set)
			if err != nil || tc.want != "" && string(b) != tc.want {
				t.Errorf("got %s, %v; want %s", b, err, tc.want)
			}
			var again event.Capabilities
			if err := json.Unmarshal(b, &again); err != nil || again != tc.set {
				t.Errorf("%s reads as %x, %v; want %x", b, again, err, tc.set)
			}
		})
	}
	var c event.Capabilities
	for _, wrong := range []string{`["NOTHING"]`, `["CAP_64"]`, `["CAP_-1"]`, `["CAP_5x"]`, `7`} {
		if err := json.Unmarshal([]byte(wrong), &c); err == nil {
			t.Errorf("%s was taken as %v", wrong, c)
		}
	}
}

// The form of an event is what users' programs read: fields are only added.
func TestForm(t *testing.T) {
	at := time.Date(2026, 11, 23, 20, 15, 3, 0, time.UTC)
	e := event.Event{
		ID: 7, Version: event.Version, AgentID: "A", Boot: "B", Seq: 9, Time: at, Received: at, Kind: event.KindExec,
		WorkloadID: "w", Group: "shop/store/store",
		Process: event.Process{Key: event.Key{PID: 12, Start: 34}, ContainerPID: 1, Name: "sh", Executable: "/bin/sh", UID: 1},
		Exec:    &event.Exec{Args: []string{"sh"}, Origin: event.OriginWritten, Capabilities: 1, Entered: true},
		File:    &event.File{Path: "/etc/shadow", Origin: event.OriginImage, Layer: event.Layer{Number: 3, Of: 8}},
	}
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"id":7,"version":1,"agent_id":"A","boot":"B","seq":9,"time":"2026-11-23T20:15:03Z","received":"2026-11-23T20:15:03Z",` +
		`"kind":"process.exec","workload_id":"w","group":"shop/store/store",` +
		`"process":{"key":"12-34","container_pid":1,"name":"sh","executable":"/bin/sh","uid":1,"euid":0,"gid":0},` +
		`"exec":{"args":["sh"],"origin":"written","capabilities":["CHOWN"],"entered":true},` +
		`"file":{"path":"/etc/shadow","origin":"image","layer":{"number":3,"of":8}}}`
	if diff := cmp.Diff(want, string(b)); diff != "" {
		t.Errorf("form (-want +got):\n%s", diff)
	}
	var again event.Event
	if err := json.Unmarshal(b, &again); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(e, again); diff != "" {
		t.Errorf("read again (-want +got):\n%s", diff)
	}
}
