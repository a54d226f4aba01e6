package link

import (
	"bytes"
	"os"
	"testing"

	"google.golang.org/protobuf/proto"

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
