package pull_test

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/pull"
)

// streams are the ways in which a document passes.
func streams(doc string) []*pull.Reader {
	return []*pull.Reader{
		pull.NewStream(strings.NewReader(doc), int64(len(doc)), 1e6),
		pull.NewStream(iotest.OneByteReader(strings.NewReader(doc)), 0, 1e6),
		pull.NewStream(iotest.DataErrReader(strings.NewReader(doc)), 1, 1e6),
	}
}

func TestAStreamReadsTheSame(t *testing.T) {
	for _, doc := range documents {
		t.Run(doc, func(t *testing.T) {
			want, err := read([]byte(doc))
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range streams(doc) {
				got := tree(r)
				if err := r.End(); err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(want, got); d != "" {
					t.Errorf("-in memory +stream:\n%s", d)
				}
			}
		})
	}
}

func TestAStreamIsLenient(t *testing.T) {
	for _, tc := range []struct {
		name, doc string
		want      any
	}{
		{"comments", "// a\n[/* b */1,//c\n2]", []any{json.Number("1"), json.Number("2")}},
		{"commas at ends", `{"a":[1,],}`, map[string]any{"a": []any{json.Number("1")}}},
		{"an escape of its own", `"\x"`, "x"},
		{"a mark in front", "\ufeff[]", []any{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, r := range streams(tc.doc) {
				got := tree(r)
				if err := r.End(); err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(tc.want, got); d != "" {
					t.Errorf("-want +got:\n%s", d)
				}
			}
		})
	}
}

func TestAStreamIsBounded(t *testing.T) {
	broken := errors.New("broken pipe")
	for _, tc := range []struct {
		name string
		r    io.Reader
		want error
		text string
	}{
		{"too large", strings.NewReader(`[` + strings.Repeat("1,", 1000) + `1]`), pull.ErrTooLarge, "more than 1000 bytes"},
		{"cut off", strings.NewReader(`{"a":[`), io.ErrUnexpectedEOF, "too early"},
		{"a broken reader", io.MultiReader(strings.NewReader(`{"a`), iotest.ErrReader(broken)), broken, "broken pipe"},
		{"a reader that gives nothing", stuck{}, io.ErrNoProgress, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := pull.NewStream(tc.r, 0, 1000)
			tree(r)
			if err := r.End(); !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("got %v, want %v with %q", err, tc.want, tc.text)
			}
		})
	}
	for name, doc := range map[string]string{"read": strings.Repeat("[", 2000), "skipped": `{"a":` + strings.Repeat("[", 2000)} {
		r := pull.NewStream(strings.NewReader(doc), 0, 1e6)
		if name == "read" {
			tree(r)
		} else {
			r.Skip()
		}
		if err := r.End(); err == nil || !strings.Contains(err.Error(), "nested more than 1000 deep") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// stuck is a reader that never gets anywhere.
type stuck struct{}

func (stuck) Read([]byte) (int, error) { return 0, nil }

// FuzzStream holds a document that passes against the same in memory: what is taken
// there is taken for the same, in one piece and byte by byte.
func FuzzStream(f *testing.F) {
	for _, doc := range documents {
		f.Add(doc)
	}
	f.Fuzz(func(t *testing.T, doc string) {
		want, err := read([]byte(doc))
		var first any
		for i, r := range streams(doc) {
			got := tree(r)
			streamed := r.End()
			if i == 0 {
				first = got
			}
			if err == nil && (streamed != nil || !cmp.Equal(want, got)) {
				t.Errorf("%v; -in memory +stream:\n%s", streamed, cmp.Diff(want, got))
			}
			if streamed == nil && !cmp.Equal(first, got) {
				t.Errorf("-in one piece +otherwise:\n%s", cmp.Diff(first, got))
			}
		}
	})
}
