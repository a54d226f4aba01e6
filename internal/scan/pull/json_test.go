package pull_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/scan/pull"
)

// fields reads the texts of an object, with those of objects within it.
func fields(j *pull.JSON, prefix string, into map[string]string) error {
	return j.Object(func(key []byte) error {
		name := prefix + string(key)
		kind, err := j.Kind()
		if err != nil {
			return err
		}
		if kind == '{' {
			return fields(j, name+".", into)
		}
		into[name], err = j.Text()
		return err
	})
}

func TestJSON(t *testing.T) {
	for _, tc := range []struct {
		name, doc string
		want      map[string]string
		err       string
	}{
		{"texts", `{"a":"1","b":{"c":"2"},"d":[1,{"e":"x"}],"f":-1.5e3,"g":null,"h":"3"}`,
			map[string]string{"a": "1", "b.c": "2", "d": "", "f": "", "g": "", "h": "3"}, ""},
		{"escapes", `{"a":"\u00e9\n\"\\\/\ud83d\ude00","\u0062":"\ud83dx"}`,
			map[string]string{"a": "é\n\"\\/😀", "b": "\ufffdx"}, ""},
		{"half a pair before an escape", `{"a":"\ud83d\n"}`, map[string]string{"a": "\ufffd\n"}, ""},
		{"comments and trailing commas", "\ufeff// one\n{/* two */\"a\":\"1\",\n\"b\":{\"c\":\"2\",},}",
			map[string]string{"a": "1", "b.c": "2"}, ""},
		{"empty", `{}`, map[string]string{}, ""},
		{"another kind", `["a"]`, map[string]string{}, ""},
		{"cut", `{"a":"1","b`, nil, "the document ends too early: unexpected EOF"},
		{"cut in an array", `{"a":[1,2`, nil, "the document ends too early: unexpected EOF"},
		{"nothing", ``, nil, "the document ends too early: unexpected EOF"},
		{"no colon", `{"a" "b"}`, nil, "JSON at byte 5: '\"', want a colon"},
		{"no comma", `{"a":"b" "c":"d"}`, nil, "JSON at byte 9: '\"', want a comma or }"},
		{"wrong bracket", `{"a":[1,{"x":2]}}`, nil, "JSON at byte 14: ']', want another closing bracket"},
		{"not a value", `{"a":?}`, nil, "JSON at byte 5: '?', want a value"},
		{"deep, skipped", `{"a":` + strings.Repeat("[", 2000), nil, "values nested more than 1000 deep"},
		{"deep, read", strings.Repeat(`{"a":`, 2000), nil, "values nested more than 1000 deep"},
		{"long text", `{"a":"` + strings.Repeat("x", pull.MaxText+1) + `"}`, nil, "string of more than 65536 bytes"},
		{"long text of escapes", `{"a":"` + strings.Repeat(`\n`, pull.MaxText+2) + `"}`, nil, "string of more than 65536 bytes"},
		{"large", `{"a":[` + strings.Repeat(" ", 1<<20) + `]}`, nil, "document is too large: more than 1000000 bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, r := range []io.Reader{strings.NewReader(tc.doc), iotest.OneByteReader(strings.NewReader(tc.doc))} {
				got := map[string]string{}
				err := fields(pull.NewJSON(r, int64(len(tc.doc)), 1e6), "", got)
				if tc.err != "" {
					if err == nil || err.Error() != tc.err {
						t.Errorf("error = %v, want %s", err, tc.err)
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(got, tc.want); diff != "" {
					t.Errorf("got, want: %s", diff)
				}
			}
		})
	}
}

func TestJSONSkipsWhatIsNotRead(t *testing.T) {
	long := strings.Repeat(`\"x`, pull.MaxText)
	j := pull.NewJSON(strings.NewReader(`{"skip":{"a":["`+long+`"]},"list":["a",{"b":1},"c"],"yes":true,"no":false}`), 0, 1e7)
	var got []string
	err := j.Object(func(key []byte) error {
		switch string(key) {
		case "list":
			return j.Array(func(i int) error {
				s, err := j.Text()
				got = append(got, fmt.Sprint(i, s))
				return err
			})
		case "yes", "no":
			b, err := j.Bool()
			got = append(got, fmt.Sprint(b))
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got, []string{"0a", "1", "2c", "true", "false"}); diff != "" {
		t.Errorf("got, want: %s", diff)
	}
}

func TestJSONBegin(t *testing.T) {
	for _, tc := range []struct{ name, doc, want string }{
		{"short", `"ab"`, "ab"},
		{"as long as asked for", `"abcd"`, "abcd"},
		{"longer", `"` + strings.Repeat("abcdefgh", pull.MaxText) + `"`, "abcd"},
		{"longer, of escapes", `"` + strings.Repeat(`\u00e9`, pull.MaxText) + `"`, "éé"},
		{"an escape across the end", `"abcé\u00e9x"`, "abc\xc3"},
		{"another kind", `[1]`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, r := range []io.Reader{strings.NewReader(tc.doc + ` true`), iotest.OneByteReader(strings.NewReader(tc.doc + ` true`))} {
				j := pull.NewJSON(r, 0, 1e7)
				got, err := j.Begin(4)
				if err != nil || got != tc.want {
					t.Errorf("Begin(4) = %q, %v, want %q", got, err, tc.want)
				}
				if next, err := j.Bool(); err != nil || !next {
					t.Errorf("what follows = %v, %v, want true", next, err)
				}
			}
		})
	}
}

func TestJSONPassesErrorsOn(t *testing.T) {
	broken := errors.New("broken pipe")
	j := pull.NewJSON(io.MultiReader(strings.NewReader(`{"a":"`), iotest.ErrReader(broken)), 0, 100)
	if err := j.Skip(); !errors.Is(err, broken) {
		t.Errorf("Skip() = %v, want %v", err, broken)
	}
}

func FuzzJSON(f *testing.F) {
	f.Add(`{"a":"1","b":{"c":"\ud83d\ude00"},"d":[1,{"e":"x"}],}//`)
	f.Fuzz(func(t *testing.T, doc string) {
		got := map[string]string{}
		err := fields(pull.NewJSON(strings.NewReader(doc), int64(len(doc)), 1e6), "", got)
		again := map[string]string{}
		errAgain := fields(pull.NewJSON(iotest.OneByteReader(strings.NewReader(doc)), 1, 1e6), "", again)
		if (err == nil) != (errAgain == nil) {
			t.Fatalf("%v in one piece, %v byte by byte", err, errAgain)
		}
		if diff := cmp.Diff(got, again); diff != "" {
			t.Fatalf("in one piece, byte by byte: %s", diff)
		}
	})
}

func BenchmarkJSONSkip(b *testing.B) {
	doc := `{"packages":[` + strings.Repeat(`{"name":"symfony/console","version":"v5.4.0","require":{"php":">=7.2.5"}},`, 10000) + `]}`
	b.SetBytes(int64(len(doc)))
	for b.Loop() {
		if err := pull.NewJSON(strings.NewReader(doc), 0, 1e8).Skip(); err != nil {
			b.Fatal(err)
		}
	}
}
