package db

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/castellan-security/castellan/internal/asset"
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
	e.Exec.Layer = event.Layer{Number: 3, Of: 300}
	f.Add(appendPayload(nil, &e), string(appendWords(nil, &e)))
	for _, e := range objectEvents() {
		f.Add(appendPayload(nil, &e), string(appendWords(nil, &e)))
	}
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
		if diff := cmp.Diff(again, got, sameAddrPort()); diff != "" {
			t.Errorf("(-again +got):\n%s", diff)
		}
	})
}

func sameAddrPort() cmp.Option { return cmpopts.EquateComparable(netip.AddrPort{}) }

// objectEvents have one payload each; that every field of them is kept is
// storetest's business.
func objectEvents() []event.Event {
	id := uint32(7)
	peer := netip.MustParseAddrPort("10.0.0.7:443")
	events := []event.Event{
		{File: &event.File{Path: "/a", To: "/b", UID: &id, Flags: []string{"write", ""}, Mode: 0o4755}},
		{Connection: &event.Connection{
			Protocol: "tcp", Remote: peer, Local: netip.MustParseAddrPort("[fe80::1%eth0]:1"), Name: "x.example",
			Peer: event.Peer{Kind: event.PeerWorkload, WorkloadID: "w", Group: "g", Port: 8}, BytesSent: 1 << 40,
		}},
		{DNS: &event.DNS{Name: "x.example", Answers: []string{"10.0.0.7"}, Server: peer, ID: 9, Size: 70}},
		{Privilege: &event.Privilege{Call: "mount", Source: "/dev/sda", Target: "/mnt", Flags: []string{"bind"}}},
		{Memory: &event.Memory{Call: "mmap", Path: "/lib", Protection: []string{"read", "execute"}}},
		{Resource: &event.Resource{What: "memory", Used: 5, Limit: 6}},
	}
	for i := range events {
		events[i].Process.Name = "sh"
		events[i].Count, events[i].Last = uint64(i), fromNanos(int64(i)*1e9)
	}
	return events
}

// goldenPayload and goldenWords are what the build before the other kinds wrote
// of an event with exec and exit. Data files hold millions of such.
const (
	goldenPayload = "01018780808020070163e8070102020305092f656e7472792e7368042f7372768080808080202cfbcb90c00a040202020209050472756e63" +
		"0d2f7573722f62696e2f72756e639202120180f882ad16"
	goldenWords = "sh\x1fsh\x1f-c\x1fä"
)

func TestGoldenPayload(t *testing.T) {
	want := event.Event{
		Version: 1, Seq: 1<<33 + 7,
		Process: event.Process{ContainerPID: 7, Parent: event.Key{PID: 1, Start: 99}, Name: "sh", UID: 1000, EUID: 1, GID: 2},
		Exec: &event.Exec{
			Requested: "/entry.sh", Args: []string{"sh", "-c", "ä"}, ArgsTruncated: true, Cwd: "/srv", Deleted: true,
			Inode: 1 << 40, Device: 44, Capabilities: 0xa80425fb,
			Ancestors: []event.Ancestor{{Key: event.Key{PID: 9, Start: 5}, Name: "runc", Executable: "/usr/bin/runc"}},
		},
		Exit: &event.Exit{Code: 137, Signal: 9, CoreDumped: true, Lifetime: 3 * time.Second},
	}
	b, err := hex.DecodeString(goldenPayload)
	if err != nil {
		t.Fatal(err)
	}
	var got event.Event
	if err := decodePayload(b, goldenWords, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("(-got +want):\n%s", diff)
	}
	if again := hex.EncodeToString(appendPayload(nil, &want)); again != goldenPayload {
		t.Errorf("written now:\n%s\nthen:\n%s", again, goldenPayload)
	}
}

// TestPayloadOfWhatIsHeld: what was added at the end comes back, and without it
// the bytes are those of before.
func TestPayloadOfWhatIsHeld(t *testing.T) {
	for _, want := range []event.Event{
		{Calls: &event.Calls{Names: []string{"mount", "openat"}}},
		{Reaction: event.ReactionDenied, Exec: &event.Exec{Digest: "sha256:x", Layer: event.Layer{Number: 1, Of: 2}}},
		{Reaction: event.ReactionAudited, Count: 2, Last: fromNanos(1e9), Memory: &event.Memory{Call: "mmap"}},
		{Resource: &event.Resource{What: "memory", Used: 5, Limit: 6, Scope: event.ScopeContainer, Resident: 1 << 30}},
		{Connection: &event.Connection{Protocol: "unix", Path: "/run/docker.sock", Asked: "/x", Outside: true, Listener: event.Key{PID: 9, Start: 1 << 40}, ListenerName: "dockerd", ListenerWorkloadID: "ab"}},
		{Connection: &event.Connection{Protocol: "tcp", Stream: "input"}},
		{Exec: &event.Exec{}, Connection: &event.Connection{Outside: true}, Resource: &event.Resource{What: "cpu"}, Memory: &event.Memory{Path: "/lib"}},
	} {
		whole, words := appendPayload(nil, &want), string(appendWords(nil, &want))
		var got event.Event
		if err := decodePayload(whole, words, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(got, want, sameAddrPort()); diff != "" {
			t.Errorf("(-got +want):\n%s", diff)
		}
		// Cut within what was added it is an error, not half of it.
		for n := len(whole) - 3; n < len(whole); n++ {
			if err := decodePayload(whole[:n], words, &got); err == nil {
				t.Errorf("no error from %d of %d bytes of %+v", n, len(whole), want)
			}
		}
	}
}

// FuzzSample: as FuzzPayload, of samples.
func FuzzSample(f *testing.F) {
	f.Add(appendSample(nil, &asset.Sample{CPU: time.Hour, Memory: 1 << 33, Missing: []string{"disk_read_bytes"}}))
	f.Add([]byte{sampleForm})
	f.Fuzz(func(t *testing.T, body []byte) {
		var got, again asset.Sample
		if decodeSample(body, &got) != nil {
			return
		}
		if err := decodeSample(appendSample(nil, &got), &again); err != nil {
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
	for _, e := range append(objectEvents(), e) {
		e.Count, e.Last = 0, time.Time{} // which are left out where they are zero
		whole, words := appendPayload(nil, &e), string(appendWords(nil, &e))
		for n := range whole {
			var got event.Event
			if err := decodePayload(whole[:n], words, &got); err == nil {
				t.Errorf("no error from %d of %d bytes of %+v", n, len(whole), e)
			}
		}
	}
}

// TestPayloadCosts: a payload that promises much is read for its bytes alone.
func TestPayloadCosts(t *testing.T) {
	for _, e := range objectEvents() {
		whole, words := appendPayload(nil, &e), string(appendWords(nil, &e))
		for at := range whole {
			bad := slices.Concat(whole[:at], []byte{0xff, 0xff, 0xff, 0xff, 0x0f}, whole[at:])
			n := testing.AllocsPerRun(1, func() {
				var got event.Event
				_ = decodePayload(bad, words, &got) // whether it is an error depends on the place
			})
			if n > 50 {
				t.Errorf("%v allocations from %d bytes", n, len(bad))
			}
		}
	}
}
