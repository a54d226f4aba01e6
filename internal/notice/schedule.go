package notice

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/finding"
)

// Schedule says when a target is told. The zero value: whenever there is something,
// its Interval apart, in UTC.
type Schedule struct {
	// At are times of day, as in 08:00, at which all that came up is told; none:
	// whenever it comes up.
	At []string `json:"at,omitempty"`
	// Quiet are hours in which nothing is told, as in 22:00-06:00 or Sat,Sun
	// 00:00-24:00. What begins on a day may end on the next.
	Quiet []string `json:"quiet,omitempty"`
	// Zone is where these times are, as in Europe/Vienna; empty is UTC.
	Zone string `json:"zone,omitempty"`
	// Urgent incidents, violations and responses wait for nothing of it: those that
	// are at least so grave. Unknown: none is.
	Urgent finding.Severity `json:"urgent,omitempty"`
}

// Bounds of a schedule: it is asked for each target at each turn.
const (
	maxScheduleTimes = 24
	maxZone          = 64
)

// week is how far ahead a schedule is looked at: it is the same each week.
const week = 8 * 24 * time.Hour

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// quiet is a span of hours: minutes since midnight of a day that it begins on.
type quiet struct {
	days       [7]bool
	begin, end int // end may lie on the next day
}

// Check returns what is wrong with a schedule.
func (s *Schedule) Check() error {
	if len(s.At) > maxScheduleTimes || len(s.Quiet) > maxScheduleTimes {
		return fmt.Errorf("at and quiet: want %d times each at most", maxScheduleTimes)
	}
	if s.Urgent > finding.Critical {
		return fmt.Errorf("urgent: there is no such severity")
	}
	for _, at := range s.At {
		if m, err := minutes(at); err != nil || m == dayMinutes {
			return fmt.Errorf("at: %.40q is no time of day; want it as in 08:00", at)
		}
	}
	for _, q := range s.Quiet {
		if _, err := parseQuiet(q); err != nil {
			return err
		}
	}
	if _, err := s.location(); err != nil {
		return err
	}
	for day := range 7 { // whatever day it is, there is a time to be told
		from := time.Date(2026, 1, 5+day, 0, 0, 0, 0, time.UTC)
		if s.Next(from).Sub(from) >= week {
			return fmt.Errorf("quiet: it is always quiet when something could be told")
		}
	}
	return nil
}

func (s *Schedule) location() (*time.Location, error) {
	if s.Zone == "" {
		return time.UTC, nil
	}
	// "Local" would be where the server stands, which nobody sees.
	l, err := time.LoadLocation(s.Zone)
	if err != nil || s.Zone == "Local" || len(s.Zone) > maxZone {
		return nil, fmt.Errorf("zone: %.64q is none; want one as in Europe/Vienna", s.Zone)
	}
	return l, nil
}

// Next returns the first time from one on at which a target may be told of what came
// up until then, or what is more than a week away if there is none. The schedule has
// passed Check.
func (s *Schedule) Next(from time.Time) time.Time {
	if len(s.At)+len(s.Quiet) == 0 {
		return from
	}
	zone, err := s.location()
	if err != nil {
		zone = time.UTC // the system has forgotten it
	}
	var hours []quiet
	for _, q := range s.Quiet {
		if h, err := parseQuiet(q); err == nil {
			hours = append(hours, h)
		}
	}
	local := from.In(zone)
	if len(s.At) > 0 {
		for day := range 8 {
			for _, at := range s.times() {
				t := time.Date(local.Year(), local.Month(), local.Day()+day, 0, at, 0, 0, zone)
				if end, is := quietUntil(hours, t); !t.Before(local) && (!is || end.Equal(t)) {
					return t.In(from.Location())
				}
			}
		}
		return from.Add(week)
	}
	t := local
	for t.Sub(local) < week {
		end, is := quietUntil(hours, t)
		if !is {
			return t.In(from.Location())
		}
		t = end
	}
	return from.Add(week)
}

// times are those of At in minutes, the earliest first.
func (s *Schedule) times() (all []int) {
	for _, at := range s.At {
		if m, err := minutes(at); err == nil {
			all = append(all, m)
		}
	}
	slices.Sort(all)
	return all
}

// quietUntil returns when the hours end in which a time lies.
func quietUntil(hours []quiet, t time.Time) (end time.Time, is bool) {
	for _, h := range hours {
		for back := range 2 {
			day := time.Date(t.Year(), t.Month(), t.Day()-back, 0, 0, 0, 0, t.Location())
			at := func(m int) time.Time { return time.Date(day.Year(), day.Month(), day.Day(), 0, m, 0, 0, t.Location()) }
			if h.days[day.Weekday()] && !t.Before(at(h.begin)) && t.Before(at(h.end)) && at(h.end).After(end) {
				end, is = at(h.end), true
			}
		}
	}
	return end, is
}

const dayMinutes = 24 * 60

// minutes reads a time of day, up to 24:00.
func minutes(s string) (int, error) {
	if s == "24:00" {
		return dayMinutes, nil
	}
	t, err := time.Parse("15:04", s)
	if err != nil || len(s) != len("15:04") {
		return 0, fmt.Errorf("%.40q is no time of day", s)
	}
	return t.Hour()*60 + t.Minute(), nil
}

func parseQuiet(s string) (q quiet, err error) {
	wrong := fmt.Errorf("quiet: %.40q are no hours; want them as in 22:00-06:00 or Sat,Sun 00:00-24:00", s)
	days, hours, both := strings.Cut(strings.TrimSpace(s), " ")
	if !both {
		days, hours = "sun,mon,tue,wed,thu,fri,sat", days
	}
	for part := range strings.SplitSeq(strings.ToLower(days), ",") {
		first, last, span := strings.Cut(part, "-")
		if !span {
			last = first
		}
		from, to := slices.Index(weekdays, first), slices.Index(weekdays, last)
		if from < 0 || to < 0 {
			return q, wrong
		}
		for d := from; ; d = (d + 1) % 7 {
			q.days[d] = true
			if d == to {
				break
			}
		}
	}
	begin, end, ok := strings.Cut(strings.TrimSpace(hours), "-")
	if !ok {
		return q, wrong
	}
	if q.begin, err = minutes(begin); err != nil {
		return q, wrong
	}
	if q.end, err = minutes(end); err != nil || q.begin == dayMinutes {
		return q, wrong
	}
	if q.end <= q.begin {
		q.end += dayMinutes
	}
	return q, nil
}
