package executable

import (
	"bytes"
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

// A list is found wherever in the pieces that a file is read in it begins: what
// tells it from other data may not have been read yet.
func TestListsAcrossPieces(t *testing.T) {
	var list bytes.Buffer
	w := zlib.NewWriter(&list)
	io.WriteString(w, lists()[3]) //nolint:errcheck // into memory
	w.Close()                     //nolint:errcheck // into memory
	spare := newSpare()
	for at := usualWindow - 200; at < usualWindow; at++ {
		file := make([]byte, 3*usualWindow)
		copy(file[at:], list.Bytes())
		h := hunt{w: spare.window(bytes.NewReader(file)), layout: &layout{elf: true}, spare: spare}
		err := h.search(t.Context(), &region{size: int64(len(file)), unmapped: true})
		if err != nil || len(h.audits) != 1 || h.audits[0].offset != int64(at) || len(h.audits[0].packages) != 700 {
			t.Errorf("at %d: %d lists, %v, want the one", at, len(h.audits), err)
		}
	}
}

// FuzzBeginsZlib: whatever inflates to the beginning of a list is looked at.
func FuzzBeginsZlib(f *testing.F) {
	short := []string{`{"packages":[]}`, `{  "packages":[]}`, "{\n\t\"packages\" : [\r\n]}", ` {"packages":[]}`, "\n{\"packages\":[]}"}
	h := hunt{spare: newSpare()}
	kinds := map[byte]int{}
	for _, list := range append(lists(), short...) {
		for _, level := range []int{zlib.NoCompression, zlib.BestSpeed, 5, zlib.DefaultCompression, zlib.BestCompression, zlib.HuffmanOnly} {
			var b bytes.Buffer
			w, err := zlib.NewWriterLevel(&b, level)
			if err != nil {
				f.Fatal(err)
			}
			io.WriteString(w, list) //nolint:errcheck // into memory
			w.Close()               //nolint:errcheck // into memory
			data := b.Bytes()
			kinds[data[2]>>1&3]++
			if !beginsZlib(data) || !h.beginsAudit(data) {
				f.Errorf("%.20q of %d bytes at level %d does not begin a list", list, len(list), level)
			} else if beginsZlib(append([]byte{data[0], data[1], data[2] ^ 6}, data[3:]...)) {
				f.Errorf("%.20q at level %d, said to be of another kind of block, still begins a list", list, level)
			}
			f.Add(data)
		}
	}
	if kinds[stored] == 0 || kinds[fixedCodes] == 0 || kinds[dynamicCodes] == 0 {
		f.Errorf("lists begin with blocks of the kinds %v, want all three", kinds)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 3 || b[1] != 0x01 && b[1] != 0x5e && b[1] != 0x9c && b[1] != 0xda {
			t.Skip("no header")
		}
		if h := (hunt{spare: newSpare()}); h.beginsAudit(b) && !beginsZlib(b) {
			t.Errorf("%x begins a list and was passed over", b)
		}
	})
}
