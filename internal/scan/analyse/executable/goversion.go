package executable

import (
	"strconv"
	"strings"
)

// GoVersion returns the version of a Go release as advisories order it, three
// numbers and perhaps a prerelease: 1.21.0 for go1.21, 1.22.0-rc.1 for go1.22rc1.
// What distributors and experiments add is left out. It is empty for what is
// no release, such as a development version from before Go 1.17.
func GoVersion(s string) string {
	devel := false
	if rest, ok := strings.CutPrefix(s, "devel "); ok {
		devel, s = true, rest
	}
	s, ok := strings.CutPrefix(s, "go")
	if !ok {
		return ""
	}
	var numbers []string
	for len(numbers) < 3 {
		n := digits(s)
		if n == 0 {
			break
		}
		numbers = append(numbers, s[:n])
		s = s[n:]
		if !strings.HasPrefix(s, ".") || digits(s[1:]) == 0 {
			break
		}
		s = s[1:]
	}
	if len(numbers) == 0 {
		return ""
	}
	// Releases have three numbers, before 1.21 the first of a line two; what goes
	// on behind two is a build from between releases.
	devel = devel || len(numbers) < 3 && strings.HasPrefix(s, "-")
	for len(numbers) < 3 {
		numbers = append(numbers, "0")
	}
	return strings.Join(numbers, ".") + prerelease(s, devel)
}

// prerelease is what follows the numbers, if it makes the version an earlier
// one.
func prerelease(s string, devel bool) string {
	if devel {
		return "-devel"
	}
	for _, word := range []string{"rc", "beta"} {
		if rest, ok := strings.CutPrefix(s, word); ok {
			if n, err := strconv.ParseUint(rest[:digits(rest)], 10, 16); err == nil {
				return "-" + word + "." + strconv.FormatUint(n, 10)
			}
		}
	}
	return ""
}

func digits(s string) int {
	n := 0
	for n < len(s) && n < 10 && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}
