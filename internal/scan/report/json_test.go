package report

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// indented is what encode's writer makes of compact JSON that comes in pieces.
func indented(compact []byte, piece int) string {
	var out bytes.Buffer
	in := &indenter{w: &out}
	for len(compact) > 0 {
		n := min(piece, len(compact))
		in.Write(compact[:n]) //nolint:errcheck // into memory
		compact = compact[n:]
	}
	in.flush() //nolint:errcheck // into memory
	return out.String()
}

// FuzzIndent: what is written is what json.Indent writes, in whatever pieces it
// comes.
func FuzzIndent(f *testing.F) {
	for _, s := range []string{`{}`, `[]`, `[[],{}]`, `{"a":[1,2.5e3,null,true],"b":{"c":"\"x\\"},"\\":""}`, `"{[,:]}"`, `7`, `[{"a":{}},{"a":[]},""]`} {
		f.Add([]byte(s), 3)
	}
	f.Fuzz(func(t *testing.T, data []byte, piece int) {
		var compact, want bytes.Buffer
		if json.Compact(&compact, data) != nil {
			t.Skip("not JSON")
		}
		if err := json.Indent(&want, compact.Bytes(), "", "  "); err != nil {
			t.Fatal(err)
		}
		if got := indented(compact.Bytes(), max(piece, 1)); got != want.String() {
			t.Errorf("of %q:\n%s\nwant\n%s", data, got, want.String())
		}
	})
}

// An error of the writer is an error of the report.
func TestAWriterThatFails(t *testing.T) {
	err := encode(full{}, strings.Repeat("x", 1<<20))
	if err == nil || err.Error() != "full" {
		t.Errorf("error %v, want that of the writer", err)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }

type fullError struct{}

func (fullError) Error() string { return "full" }

var errFull = fullError{}

func BenchmarkEncode(b *testing.B) {
	type place struct {
		Path  string `json:"path"`
		Layer int    `json:"layer"`
	}
	v := make([][]place, 1000)
	for i := range v {
		for range 20 {
			v[i] = append(v[i], place{"/usr/lib/x86_64-linux-gnu/libexample.so.1.2.3", i})
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		var n counter
		if err := encode(&n, v); err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(n))
	}
}

type counter int

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}
