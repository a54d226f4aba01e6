package executable

import (
	"bytes"
	"compress/flate"
	"compress/zlib"
	"fmt"
	"io"
	"strings"
	"testing"
)

// lists are of as many crates as programs have.
func lists() (all []string) {
	for _, n := range []int{1, 7, 100, 700} {
		var b strings.Builder
		b.WriteString(`{"packages":[`)
		for i := range n {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, `{"name":"crate-%d","version":"%d.%d.1","source":"crates.io","dependencies":[%d]}`, i*i, i%9, i%5, i/2)
		}
		b.WriteString("]}")
		all = append(all, b.String())
	}
	return all
}

// FuzzBeginsZlib: whatever inflates to the beginning of a list is looked at.
func FuzzBeginsZlib(f *testing.F) {
	for _, list := range lists() {
		for _, level := range []int{zlib.BestSpeed, 5, zlib.DefaultCompression, zlib.BestCompression, zlib.HuffmanOnly} {
			var b bytes.Buffer
			w, err := zlib.NewWriterLevel(&b, level)
			if err != nil {
				f.Fatal(err)
			}
			io.WriteString(w, list) //nolint:errcheck // into memory
			w.Close()               //nolint:errcheck // into memory
			if data := b.Bytes(); !beginsZlib(data) {
				f.Errorf("a list of %d bytes at level %d does not begin one", len(list), level)
			} else if beginsZlib(append([]byte{data[0], data[1], data[2] ^ 6}, data[3:]...)) {
				f.Errorf("of another kind of block, it still begins one")
			}
			f.Add(b.Bytes())
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 3 || b[1] != 0x01 && b[1] != 0x5e && b[1] != 0x9c && b[1] != 0xda {
			t.Skip("no header")
		}
		begin := make([]byte, len(auditBegins))
		_, err := io.ReadFull(flate.NewReader(bytes.NewReader(b[2:])), begin)
		kind := b[2] >> 1 & 3
		if is := err == nil && bytes.Equal(begin, auditBegins) && kind != 0; is && !beginsZlib(b) {
			t.Errorf("%x begins a list and was passed over", b)
		}
	})
}
