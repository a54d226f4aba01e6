package store

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTranslate(t *testing.T) {
	tests := []struct {
		name, sql string
		want      []string
	}{
		{"nothing", " ; -- just words\n;", nil},
		{"parameters", "SELECT $1, '$2', $12", []string{"SELECT ?1, '$2', ?12"}},
		{"casts", "SELECT '1'::text, x::int4 FROM y", []string{"SELECT '1', x FROM y"}},
		{"case", "SELECT a FROM b WHERE c iLike 'ilike'", []string{"SELECT a FROM b WHERE c LIKE 'ilike'"}},
		{"two", "SELECT ';'; DELETE FROM \"a;b\";", []string{"SELECT ';'", "DELETE FROM \"a;b\""}},
		{"injected", "SELECT '%' UNION SELECT 1 -- %'", []string{"SELECT '%' UNION SELECT 1"}},
		{"unfinished", "SELECT 'a; b", []string{"SELECT 'a; b"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, s := range split(tt.sql) {
				got = append(got, translate(s))
			}
			if diff := cmp.Diff(got, tt.want); diff != "" {
				t.Errorf("got (-) and want (+) differ:\n%s", diff)
			}
		})
	}
}

func FuzzLex(f *testing.F) {
	f.Add("SELECT $1::text, 'it''s' /* ; */ -- end")
	f.Add("$ '\x00\" /*")
	f.Fuzz(func(t *testing.T, sql string) {
		var b strings.Builder
		for _, tok := range lex(sql) {
			if tok.text == "" {
				t.Fatal("an empty token")
			}
			b.WriteString(tok.text)
		}
		if b.String() != sql {
			t.Errorf("tokens joined are %q, want %q", b.String(), sql)
		}
		for _, s := range split(sql) {
			translate(s)
			params(s)
		}
	})
}
