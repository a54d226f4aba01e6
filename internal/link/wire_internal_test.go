package link

import (
	"bytes"
	"os"
	"slices"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/proto/linkv1"
)

// FuzzFromWire sends any bytes through the reader: it must not panic, and what
// it reads must survive being written and read again.
func FuzzFromWire(f *testing.F) {
	seed, err := os.ReadFile("testdata/report-v1.bin")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte{})
	f.Add([]byte{0x1a, 0x00, 0x22, 0x00, 0x0a, 0x02, '{', '}'})
	f.Fuzz(func(t *testing.T, b []byte) {
		var m linkv1.ReportRequest
		if proto.Unmarshal(b, &m) != nil {
			return
		}
		r, err := fromWire(&m)
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Fatalf("got kind %v, want invalid", fault.Of(err))
			}
			return
		}
		w1, err := toWire(r)
		if err != nil {
			t.Skip() // a year that JSON can't hold
		}
		r2, err := fromWire(w1)
		if err != nil {
			t.Fatalf("read what was written: %v", err)
		}
		w2, err := toWire(r2)
		if err != nil {
			t.Fatal(err)
		}
		det := proto.MarshalOptions{Deterministic: true}
		b1, err1 := det.Marshal(w1)
		b2, err2 := det.Marshal(w2)
		if err1 != nil || err2 != nil || !bytes.Equal(b1, b2) {
			t.Fatalf("a second trip changed the report (%v, %v)", err1, err2)
		}
	})
}

// TestOldServerReadsNewReport decodes a report of today with the messages of
// the first version of the link: it finds all that it knows, and ignores the
// rest.
func TestOldServerReadsNewReport(t *testing.T) {
	seed, err := os.ReadFile("testdata/report-v1.bin")
	if err != nil {
		t.Fatal(err)
	}
	var want linkv1.ReportRequest
	if err := proto.Unmarshal(seed, &want); err != nil {
		t.Fatal(err)
	}
	r, err := fromWire(&want)
	if err != nil {
		t.Fatal(err)
	}
	// All that the first version did not have.
	r.Boot, r.Sent, r.Samples = "FORMERBOOT", r.Agent.Started, []asset.Sample{{WorkloadID: "w", CPU: 7}}
	r.Uses = []asset.Use{{WorkloadID: "w", Paths: []string{"/lib/libc.so.6"}}}
	for i := range r.Events {
		e := &r.Events[i]
		e.Count, e.Last = 3, e.Time
		e.File, e.Connection, e.DNS = &event.File{Path: "/f"}, &event.Connection{Protocol: "tcp"}, &event.DNS{Name: "n"}
		e.Privilege, e.Memory, e.Resource = &event.Privilege{Call: "mount"}, &event.Memory{Call: "mmap"}, &event.Resource{What: "cpu"}
	}
	now, err := toWire(r)
	if err != nil {
		t.Fatal(err)
	}
	b, err := proto.Marshal(now)
	if err != nil {
		t.Fatal(err)
	}
	old := dynamicpb.NewMessage(firstVersion(t).Messages().ByName("ReportRequest"))
	if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(b, old); err != nil {
		t.Fatal(err)
	}
	if b, err = proto.Marshal(old); err != nil {
		t.Fatal(err)
	}
	var got linkv1.ReportRequest
	if err := proto.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	// The agent and the workloads are JSON, where an old reader ignores new
	// fields as well.
	want.AgentJson, got.AgentJson, want.WorkloadsJson, got.WorkloadsJson = nil, nil, nil, nil
	if !proto.Equal(&want, &got) {
		t.Errorf("got  %v\nwant %v", &got, &want)
	}
}

// firstVersion is link.proto as it was first released: without the fields that
// were added since.
func firstVersion(t *testing.T) protoreflect.FileDescriptor {
	t.Helper()
	last := map[string]int32{"ReportRequest": 6, "Event": 8, "Exec": 16}
	added := []string{"Sample", "Stream", "File", "Address", "Connection", "Dns", "Privilege", "Memory", "Resource", "Use", "InventoryRequest", "InventoryResponse"}
	file := protodesc.ToFileDescriptorProto(linkv1.File_link_proto)
	file.Service = nil
	file.MessageType = slices.DeleteFunc(file.MessageType, func(m *descriptorpb.DescriptorProto) bool {
		if n, ok := last[m.GetName()]; ok {
			m.Field = slices.DeleteFunc(m.Field, func(f *descriptorpb.FieldDescriptorProto) bool { return f.GetNumber() > n })
		}
		return slices.Contains(added, m.GetName())
	})
	fd, err := protodesc.NewFile(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// TestManySmallPartsAreRefusedBeforeTheyTakeMemory sends bytes that would
// become many times their size.
func TestManySmallPartsAreRefusedBeforeTheyTakeMemory(t *testing.T) {
	empty := func(num protowire.Number, n int) []byte {
		return bytes.Repeat(protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), nil), n)
	}
	in := func(num protowire.Number, b []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), b)
	}
	for name, b := range map[string][]byte{
		"workloads":               empty(reportWorkloads, MaxWorkloads+1),
		"events":                  empty(reportEvents, MaxEvents+1),
		"processes":               empty(reportProcesses, MaxProcesses+1),
		"samples":                 empty(reportSamples, MaxSamples+1),
		"uses":                    empty(reportUses, MaxUses+1),
		"threats":                 empty(reportThreats, MaxThreats+1),
		"paths of one use":        in(reportUses, empty(usePaths, asset.MaxUsePaths+1)),
		"paths of all uses":       bytes.Repeat(in(reportUses, empty(usePaths, asset.MaxUsePaths)), MaxUsedPaths/asset.MaxUsePaths+1),
		"ancestors of one exec":   in(reportEvents, in(7, empty(14, maxParts+1))),
		"arguments of a process":  in(reportProcesses, empty(3, maxParts+1)),
		"answers of one question": in(reportEvents, in(13, empty(8, maxParts+1))),
	} {
		if err := (boundedCodec{}).Unmarshal(b, &linkv1.ReportRequest{}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: got %v, want invalid", name, err)
		}
	}
	// Text that looks like many fields is text.
	if err := (boundedCodec{}).Unmarshal(in(reportEvents, in(5, bytes.Repeat([]byte("("), maxParts*2+4))), &linkv1.ReportRequest{}); err != nil {
		t.Errorf("a long text: got %v", err)
	}
}

func BenchmarkToWire(b *testing.B) {
	seed, err := os.ReadFile("testdata/report-v1.bin")
	if err != nil {
		b.Fatal(err)
	}
	var m linkv1.ReportRequest
	if err := proto.Unmarshal(seed, &m); err != nil {
		b.Fatal(err)
	}
	r, err := fromWire(&m)
	if err != nil {
		b.Fatal(err)
	}
	for len(r.Events) < MaxEvents {
		r.Events = append(r.Events, r.Events[1])
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := toWire(r); err != nil {
			b.Fatal(err)
		}
	}
}
