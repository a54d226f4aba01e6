package pull_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/pull"
)

// tree reads a value as encoding/json would into an any, with numbers as text.
func tree(r *pull.Reader) any {
	switch r.Kind() {
	case pull.Struct:
		m := map[string]any{}
		if r.Object() {
			for r.Next() {
				k := string([]rune(string(r.Key())))
				m[k] = tree(r)
			}
		}
		return m
	case pull.List:
		l := []any{}
		if r.Array() {
			for r.Next() {
				l = append(l, tree(r))
			}
		}
		return l
	case pull.String:
		return r.Text()
	case pull.Number:
		return json.Number(r.Scalar())
	case pull.Bool:
		return r.Scalar() == "true"
	}
	r.Skip()
	return nil
}

func read(doc []byte) (any, error) {
	var r pull.Reader
	r.Reset(doc)
	v := tree(&r)
	return v, r.End()
}

// oracle is what encoding/json reads.
func oracle(doc []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errTrailing
	}
	return v, nil
}

var errTrailing = &json.SyntaxError{}

var documents = []string{
	`{}`, `[]`, `null`, `true`, `"x"`, `-1.5e+3`, `0`,
	`{"a":1,"b":[true,false,null],"c":{"d":{"e":[{}]}}}`,
	"\t[ 1 ,\n2 ]\r ",
	`"\"\\\/\b\f\n\r\t\u0041\u00e9\u20ac\ud83d\ude00"`,
	`"\ud800"`, `"\ud800\ud800\udc00"`, `"\udc00x"`, `"\ud800\n"`,
	`{"\u0061\"b":"c"}`,
	"\"\xff\xfe\"",
	`{"a":"x\\","b":"\\\"","c":"y"}`,
	`{"a":1,"a":2}`,
}

func TestReadsWhatEncodingJSONReads(t *testing.T) {
	for _, doc := range documents {
		t.Run(doc, func(t *testing.T) {
			got, err := read([]byte(doc))
			if err != nil {
				t.Fatal(err)
			}
			want, err := oracle([]byte(doc))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("-encoding/json +pull:\n%s", d)
			}
		})
	}
}

func TestRefuses(t *testing.T) {
	deep := strings.Repeat("[", pull.MaxDepth+1) + strings.Repeat("]", pull.MaxDepth+1)
	for _, tc := range []struct{ name, doc, want string }{
		{"nothing", "", "too early"},
		{"blanks", " \n", "too early"},
		{"open object", `{"a":1`, "too early"},
		{"open string", `{"a":"b`, "too early"},
		{"open escape", `"a\`, "too early"},
		{"open unicode", `"\u12`, "too early"},
		{"no colon", `{"a" 1}`, "colon"},
		{"no comma", `[1 2]`, "comma"},
		{"comma at the end", `[1,]`, "want a value"},
		{"comma at the end of an object", `{"a":1,}`, "want a name"},
		{"unquoted name", `{a:1}`, "want a name"},
		{"half a word", `tru`, "want true"},
		{"a wrong word", `nul1`, "want null"},
		{"leading zero", `[01]`, "comma"},
		{"a point without digits", `1.`, "digits"},
		{"an exponent without digits", `1e`, "digits"},
		{"a wrong escape", `"\x"`, "escape"},
		{"wrong digits", `"\u00zz"`, "hexadecimal"},
		{"more than one document", `{}{}`, "follows"},
		{"too deep", deep, "deeper"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := read([]byte(tc.doc)); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("read: %v, want an error with %q", err, tc.want)
			}
		})
		t.Run(tc.name+" skipped", func(t *testing.T) {
			if strings.Contains(tc.want, "escape") || strings.Contains(tc.want, "hexadecimal") || strings.Contains(tc.name, "unicode") {
				t.Skip("text that is skipped is not unescaped")
			}
			var r pull.Reader
			r.Reset([]byte(tc.doc))
			r.Skip()
			if err := r.End(); err == nil {
				t.Error("skip: no error")
			}
		})
	}
}

func TestDeepestAllowed(t *testing.T) {
	doc := strings.Repeat("[", pull.MaxDepth) + strings.Repeat("]", pull.MaxDepth)
	if _, err := read([]byte(doc)); err != nil {
		t.Error(err)
	}
}

func TestWrongKindsAreErrors(t *testing.T) {
	for _, tc := range []struct {
		name, doc string
		do        func(*pull.Reader)
		ok        bool
	}{
		{"text of a number", `1`, func(r *pull.Reader) { r.Text() }, false},
		{"text of null", `null`, func(r *pull.Reader) { r.Text() }, true},
		{"object of an array", `[]`, func(r *pull.Reader) { r.Object() }, false},
		{"object of null", `null`, func(r *pull.Reader) { r.Object() }, true},
		{"array of a string", `"a"`, func(r *pull.Reader) { r.Array() }, false},
		{"strings of one", `"a"`, func(r *pull.Reader) { r.Strings(0) }, true},
		{"strings of null", `null`, func(r *pull.Reader) { r.Strings(0) }, true},
		{"strings within the limit", `["a","b"]`, func(r *pull.Reader) { r.Strings(2) }, true},
		{"strings beyond the limit", `["a","b","c"]`, func(r *pull.Reader) { r.Strings(2) }, false},
		{"strings of numbers", `[1]`, func(r *pull.Reader) { r.Strings(2) }, false},
		{"scalar of an object", `{"a":1}`, func(r *pull.Reader) { r.Scalar() }, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var r pull.Reader
			r.Reset([]byte(tc.doc))
			tc.do(&r)
			if err := r.End(); (err == nil) != tc.ok {
				t.Errorf("got %v, want ok: %v", err, tc.ok)
			}
		})
	}
}

// FuzzRead holds the reader against encoding/json: what that takes, this takes
// for the same. It may take more: control characters in text.
func FuzzRead(f *testing.F) {
	for _, doc := range documents {
		f.Add([]byte(doc))
	}
	f.Add([]byte(`{"a":"b`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		got, err := read(doc)
		want, oracleErr := oracle(doc)
		var skipped pull.Reader
		skipped.Reset(doc)
		skipped.Skip()
		if skipErr := skipped.End(); err == nil && skipErr != nil {
			t.Errorf("read, but skip: %v", skipErr)
		}
		if oracleErr != nil {
			return
		}
		if err != nil {
			if strings.Contains(err.Error(), "deeper") {
				return
			}
			t.Fatalf("encoding/json takes it, this: %v", err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("-encoding/json +pull:\n%s", d)
		}
	})
}
