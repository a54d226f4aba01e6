package db

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/event"
)

// FuzzPayload: damaged bytes are an error, never a panic; what can be read is
// written the same way again.
func FuzzPayload(f *testing.F) {
	e := event.Event{
		Version: 1, Seq: 9, Process: event.Process{Name: "sh", UID: 1},
		Exec: &event.Exec{Args: []string{"sh", "-c"}, Ancestors: []event.Ancestor{{Name: "runc"}}},
		Exit: &event.Exit{Code: 1},
	}
	f.Add(appendPayload(nil, &e), string(appendWords(nil, &e)))
	f.Add([]byte{payloadForm}, "")
	f.Add([]byte{payloadForm, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, "x")
	f.Fuzz(func(t *testing.T, payload []byte, words string) {
		var got event.Event
		if decodePayload(payload, words, &got) != nil {
			return
		}
		var again event.Event
		if err := decodePayload(appendPayload(nil, &got), string(appendWords(nil, &got)), &again); err != nil {
			t.Fatalf("what was read cannot be read again: %v", err)
		}
		if diff := cmp.Diff(again, got); diff != "" {
			t.Errorf("(-again +got):\n%s", diff)
		}
	})
}

// TestPayloadCutShort: every beginning of a payload is an error.
func TestPayloadCutShort(t *testing.T) {
	e := event.Event{
		Version: 1, Seq: 1 << 40, Process: event.Process{Name: "sh"},
		Exec: &event.Exec{Args: []string{"sh"}, Cwd: "/", Ancestors: []event.Ancestor{{Name: "runc", Executable: "/runc"}}},
	}
	whole, words := appendPayload(nil, &e), string(appendWords(nil, &e))
	for n := range whole {
		var got event.Event
		if err := decodePayload(whole[:n], words, &got); err == nil {
			t.Errorf("no error from %d of %d bytes", n, len(whole))
		}
	}
}
