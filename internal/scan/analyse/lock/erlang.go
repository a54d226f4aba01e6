package lock

import (
	"io"
	"strings"

	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/pull"
)

// takeMix reads a mix.lock, a map of Elixir with a line a package:
//
//	"plug": {:hex, :plug, "1.14.0", "checksum", …},
//
// Of what comes from Git the version is not known.
func takeMix(r io.Reader, size int64, shown *analyse.Shown) error {
	return eachLine(r, size, func(s string) error {
		name, rest, ok := strings.Cut(s, `: {:`)
		if !ok {
			return nil
		}
		name = strings.Trim(name, `"`) // Mix quotes keys; who edits it may not
		kind, rest, _ := strings.Cut(rest, ",")
		version := ""
		if kind == "hex" {
			published, after, _ := strings.Cut(rest, ",")
			name = strings.Trim(published, ` :"`)
			version = firstQuoted(after)
		}
		if strings.ContainsAny(name, " {}[]") {
			return nil
		}
		return shown.Add(declared("hex", name, version, "Hex"))
	})
}

// takeRebar reads a rebar.lock, terms of Erlang with a line a package:
//
//	{<<"cowlib">>,{pkg,<<"cowlib">>,<<"2.7.0">>},1},
//
// The number says how far from the project it was asked for. Checksums follow
// in tuples of two.
func takeRebar(r io.Reader, size int64, shown *analyse.Shown) error {
	return eachLine(r, size, func(s string) error {
		_, rest, ok := strings.Cut(s, `{pkg,<<"`)
		if !ok {
			return nil
		}
		name, rest, _ := strings.Cut(rest, `">>`)
		if strings.ContainsAny(name, " {}<>\",") {
			return nil
		}
		p := declared("hex", name, firstQuoted(rest), "Hex")
		_, level, _ := strings.Cut(rest, "},")
		p.Indirect = level != "" && !strings.HasPrefix(level, "0")
		return shown.Add(p)
	})
}

// firstQuoted returns the first text in double quotes.
func firstQuoted(s string) string {
	_, s, _ = strings.Cut(s, `"`)
	s, _, ok := strings.Cut(s, `"`)
	if !ok {
		return ""
	}
	return s
}

// eachLine calls one for each line, without blanks around it.
func eachLine(r io.Reader, size int64, one func(string) error) error {
	lines := pull.NewLines(r, size, maxFile)
	for {
		b, err := lines.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := one(strings.TrimSpace(string(b))); err != nil {
			return err
		}
	}
}
