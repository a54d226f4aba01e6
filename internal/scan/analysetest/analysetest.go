// Package analysetest takes a file with an analyser and puts what it shows into
// lines, for the tests of analysers. It is not for the program.
package analysetest

import (
	"context"
	"fmt"
	"strings"

	"github.com/castellan-security/castellan/internal/scan/analyse"
)

// Lines returns what a file shows, a line a package; "not wanted" alone where the
// analyser doesn't want it. The error is that of Take.
func Lines(a analyse.Analyser, path, content string) ([]string, error) {
	e := &analyse.Entry{Path: path, Mode: 0o644, Size: int64(len(content))}
	if !a.Wants(e, []byte(content[:min(len(content), analyse.HeadSize)])) {
		return []string{"not wanted"}, nil
	}
	var shown analyse.Shown
	err := a.Take(context.Background(), e, strings.NewReader(content), &shown)
	var lines []string
	for _, p := range shown.Packages {
		s := fmt.Sprintf("%s:%s %s %s [%s]", p.Type, p.FullName(), p.Version, p.Found, p.Ecosystem)
		if p.Dev {
			s += " dev"
		}
		if p.Indirect {
			s += " indirect"
		}
		for _, l := range p.Licenses {
			s += " " + l
		}
		lines = append(lines, s)
	}
	return lines, err
}
