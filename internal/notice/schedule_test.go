package notice_test

import (
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/notice"
)

func TestSchedule(t *testing.T) {
	at := func(s string) time.Time {
		t.Helper()
		x, err := time.Parse("2006-01-02 15:04:05", s)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	for _, tc := range []struct {
		name       string
		s          notice.Schedule
		from, want string
	}{
		{"none", notice.Schedule{}, "2026-01-05 03:00:00", "2026-01-05 03:00:00"},
		{"digest today", notice.Schedule{At: []string{"17:00", "08:00"}}, "2026-01-05 08:00:01", "2026-01-05 17:00:00"},
		{"digest now", notice.Schedule{At: []string{"08:00"}}, "2026-01-05 08:00:00", "2026-01-05 08:00:00"},
		{"digest tomorrow", notice.Schedule{At: []string{"08:00"}}, "2026-01-31 08:00:01", "2026-02-01 08:00:00"},
		{"in a zone", notice.Schedule{At: []string{"08:00"}, Zone: "Europe/Vienna"}, "2026-01-05 06:00:00", "2026-01-05 07:00:00"},
		{"in a zone in summer", notice.Schedule{At: []string{"08:00"}, Zone: "Europe/Vienna"}, "2026-07-05 05:00:00", "2026-07-05 06:00:00"},
		{"not quiet", notice.Schedule{Quiet: []string{"22:00-06:00"}}, "2026-01-05 21:59:59", "2026-01-05 21:59:59"},
		{"quiet before midnight", notice.Schedule{Quiet: []string{"22:00-06:00"}}, "2026-01-05 22:00:00", "2026-01-06 06:00:00"},
		{"quiet after midnight", notice.Schedule{Quiet: []string{"22:00-06:00"}}, "2026-01-05 05:59:00", "2026-01-05 06:00:00"},
		{"a weekend", notice.Schedule{Quiet: []string{"Sat,Sun 00:00-24:00", "22:00-06:00"}}, "2026-01-09 23:00:00", "2026-01-12 06:00:00"},
		{"weekdays", notice.Schedule{Quiet: []string{"Mon-Fri 09:00-17:00"}}, "2026-01-10 10:00:00", "2026-01-10 10:00:00"},
		{"days over the week's end", notice.Schedule{Quiet: []string{"Fri-Mon 00:00-24:00"}}, "2026-01-09 10:00:00", "2026-01-13 00:00:00"},
		{"a digest in quiet hours is left out", notice.Schedule{At: []string{"05:00", "12:00"}, Quiet: []string{"22:00-06:00"}}, "2026-01-05 03:00:00", "2026-01-05 12:00:00"},
	} {
		if err := tc.s.Check(); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		if got := tc.s.Next(at(tc.from)); !got.Equal(at(tc.want)) {
			t.Errorf("%s: got %s, want %s", tc.name, got, tc.want)
		}
	}
	for _, s := range []notice.Schedule{
		{At: []string{"8:00"}}, {At: []string{"24:00"}}, {At: []string{"08:00:00"}}, {At: []string{""}}, {Quiet: []string{"22:00"}}, {Quiet: []string{"Foo 22:00-23:00"}},
		{Quiet: []string{"00:00-24:00"}}, {Quiet: []string{"24:00-01:00"}}, {At: []string{"05:00"}, Quiet: []string{"04:00-06:00"}}, {Zone: "Nowhere"}, {Zone: "Local"}, {Zone: "../etc"},
		{At: make([]string, 25)}, {Urgent: 99},
	} {
		if err := s.Check(); err == nil {
			t.Errorf("%+v is taken", s)
		}
	}
}

func FuzzSchedule(f *testing.F) {
	f.Add("08:00", "Sat,Sun 22:00-06:00", "Europe/Vienna", int64(1_767_600_000))
	f.Fuzz(func(t *testing.T, at, quiet, zone string, from int64) {
		s := notice.Schedule{Zone: zone}
		if at != "" {
			s.At = []string{at}
		}
		if quiet != "" {
			s.Quiet = []string{quiet}
		}
		if s.Check() != nil {
			return
		}
		then := time.Unix(from%(1<<33), 0)
		if got := s.Next(then); got.Before(then) || got.Sub(then) > 9*24*time.Hour {
			t.Errorf("after %s comes %s", then, got)
		}
	})
}
