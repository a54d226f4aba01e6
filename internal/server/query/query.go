// Package query reads what the user asks for from the parameters of an
// address: one form for the API, the console's addresses and the flags of the
// command line, which all use the same names.
//
// It is not for answering; see internal/store.
package query

import (
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

// Limits of what one question may hold. A longer one is a mistake or an attack.
const (
	maxText  = 256   // of a free text
	maxName  = 1_024 // of a group, an id, a name of the DNS
	maxPath  = 4_096 // PATH_MAX
	maxWords = 64    // of a list
	// maxAgo is how far back a relative time may reach: ten years.
	maxAgo = 10 * 366 * 24 * time.Hour
)

// reader takes parameters apart and keeps the first error.
type reader struct {
	v   url.Values
	err error
}

func (r *reader) fail(name, format string, args ...any) {
	if r.err == nil {
		r.err = fault.New(fault.Invalid, "parameter "+name+": "+format, args...)
	}
}

// text returns a bounded value.
func (r *reader) text(name string, limit int) string {
	s := r.v.Get(name)
	switch {
	case len(s) > limit:
		r.fail(name, "longer than %d bytes", limit)
	case !utf8.ValidString(s) || strings.ContainsRune(s, 0):
		r.fail(name, "not valid text")
	default:
		return s
	}
	return ""
}

// words returns all values of a parameter that may be repeated or hold a list
// with commas.
func (r *reader) words(name string) []string {
	var out []string
	for _, s := range r.v[name] {
		for w := range strings.SplitSeq(s, ",") {
			w = strings.TrimSpace(w)
			if w == "" {
				continue
			}
			if len(out) == maxWords || len(w) > maxName {
				r.fail(name, "too long a list")
				return nil
			}
			out = append(out, w)
		}
	}
	return out
}

func (r *reader) number(name string, most int64) int64 {
	s := r.v.Get(name)
	if s == "" {
		return 0
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > most {
		r.fail(name, "want a number from 0 to %d", most)
		return 0
	}
	return n
}

func (r *reader) flag(name string) bool {
	switch r.v.Get(name) {
	case "", "false", "0":
		return false
	case "true", "1", "on": // "on" is what a checkbox sends
		return true
	}
	r.fail(name, "want true or false")
	return false
}

func (r *reader) time(name string, now time.Time) time.Time {
	t, err := Time(r.v.Get(name), now)
	if err != nil {
		r.fail(name, "%w", err)
	}
	return t
}

func (r *reader) limit() int { return int(r.number("limit", store.MaxPage)) }

// Time reads RFC 3339 ("2026-11-23T10:00:00Z") or how long ago ("90s", "15m",
// "24h", "7d"); "" is the zero time.
func Time(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	d, err := Duration(s)
	if err != nil {
		return time.Time{}, fault.New(fault.Invalid, "%q is neither a time like 2026-11-23T10:00:00Z nor a duration like 15m", clip(s))
	}
	return now.Add(-d), nil
}

// Duration reads a Go duration ("90s", "1h30m") or whole days ("7d").
func Duration(s string) (time.Duration, error) {
	var d time.Duration
	days, isDays := strings.CutSuffix(s, "d")
	if n, err := strconv.ParseUint(days, 10, 16); isDays && err == nil {
		d = time.Duration(n) * 24 * time.Hour
	} else if d, err = time.ParseDuration(s); err != nil {
		return 0, fault.New(fault.Invalid, "%q is not a duration like 15m", clip(s))
	}
	if d < 0 || d > maxAgo {
		return 0, fault.New(fault.Invalid, "the duration %q is out of range", clip(s))
	}
	return d, nil
}

// clip bounds text that an error repeats.
func clip(s string) string {
	const most = 64
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
