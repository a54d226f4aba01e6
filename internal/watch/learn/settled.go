package learn

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
)

// What a profile waits for, and how much of the measure each is.
const (
	quietPart  = 0.40 // that nothing new comes
	dayPart    = 0.20 // that a day goes by, for what runs once a day
	seenPart   = 0.10 // that enough is seen at all
	startPart  = 0.15 // that containers start
	endPart    = 0.10 // that containers end
	hostPart   = 0.05 // that it is seen on the hosts where it runs
	fullCap    = 0.90 // what the measure is at most where something had no room
	day        = 24 * time.Hour
	leastQuiet = 2 * time.Hour // that nothing new must have come for
	mostQuiet  = 48 * time.Hour
	quietShare = 4 // nothing new for that part of the time watched
	enough     = 500
	hostsWant  = 3 // as many hosts say what there is to say
	startsWant = 2 // the first start, and one that shows whether it is the same again
)

// Settled says how much more can be expected at that time.
func (l *Learner) Settled(now time.Time) profile.Settled {
	p := l.Profile()
	since := newest(p, now)
	if set := l.life.set; set > 0 && since.Before(at(set)) {
		since = at(set)
	}
	out := profile.Settled{Since: since}
	if l.life.events == 0 {
		out.Waits = []string{"Nothing was seen of this group yet."}
		return out
	}
	watched := l.life.watched(now)
	waits := waiting{}
	need := min(max(watched/quietShare, leastQuiet), mostQuiet)
	quiet := now.Sub(since)
	if since.IsZero() {
		quiet = watched
	}
	waits.add(quietPart, part(quiet, need), fmt.Sprintf("Something new was learned %s ago, after %s of watching: nothing new should come for %s.",
		span(quiet), span(watched), span(need)))
	waits.add(dayPart, part(watched, day), fmt.Sprintf("It has been watched for %s: what runs once a day, such as a cron job or the rotation of logs, shows within 24 hours.", span(watched)))
	starts, ends := l.life.startsAndEnds()
	waits.add(startPart, min(1, float64(starts)/startsWant), fmt.Sprintf("%s seen from the start; %d are wanted, since programs do at their start what they never do again.", containers(starts), startsWant))
	waits.add(endPart, min(1, float64(ends)), "No container was seen to end: programs write files and run scripts when they are stopped.")
	waits.add(seenPart, min(1, float64(l.life.events)/enough), fmt.Sprintf("Only %d events were seen; %d are wanted.", l.life.events, enough))
	want := min(l.expected, hostsWant)
	waits.add(hostPart, part(time.Duration(len(l.hosts)), time.Duration(max(want, 1))), fmt.Sprintf("It runs on %d hosts and was seen on %d.", l.expected, len(l.hosts)))
	out.Measure = waits.measure
	out.Waits = waits.sentences()
	for _, w := range append(changing(p), l.withoutRoom()...) {
		out.Measure = min(out.Measure, fullCap)
		out.Waits = append([]string{w}, out.Waits...)
	}
	out.Waits = append(out.Waits, l.outside()...)
	return out
}

// waiting adds up what has come and what has not.
type waiting struct {
	measure float64
	open    []open
}

type open struct {
	weight   float64
	sentence string
}

func (w *waiting) add(weight, has float64, sentence string) {
	has = max(0, min(1, has))
	w.measure += weight * has
	if has < 1 {
		w.open = append(w.open, open{weight * (1 - has), sentence})
	}
}

// sentences are those of what has not come, the weightiest first.
func (w *waiting) sentences() []string {
	slices.SortStableFunc(w.open, func(a, b open) int {
		switch {
		case a.weight > b.weight:
			return -1
		case a.weight < b.weight:
			return 1
		}
		return 0
	})
	var out []string
	for _, o := range w.open {
		out = append(out, o.sentence)
	}
	return out
}

func part(has, want time.Duration) float64 { return float64(has) / float64(want) }

// withoutRoom says what there was no room for.
func (l *Learner) withoutRoom() []string {
	dropped := maps.Clone(l.main.dropped)
	for _, c := range l.entered.commands {
		for what, n := range c.seen.dropped {
			if c.regular() {
				dropped[what] += n
			}
		}
	}
	var out []string
	for _, what := range slices.Sorted(maps.Keys(dropped)) {
		out = append(out, fmt.Sprintf("There was no room for all %s: %d events taught nothing. A profile cannot describe this; look at what the group does.", what, dropped[what]))
	}
	return out
}

// changing says which programs that did not come with the image have names that
// change: what was learned of them will never be seen again.
func changing(p *profile.Profile) []string {
	alike := map[string]int{}
	for _, x := range p.Executables {
		if x.Origin == event.OriginImage || x.Source != profile.Learned || !x.Path.Exact() {
			continue
		}
		if shape := FilePattern(string(x.Path)); shape != string(x.Path) {
			alike[shape]++
		}
	}
	var out []string
	for _, shape := range slices.Sorted(maps.Keys(alike)) {
		if n := alike[shape]; n >= manyAlike {
			out = append(out, fmt.Sprintf("%d programs or libraries that did not come with the image have changing names, such as %s: each is permitted alone, and the next will lie outside. Put them into the image, or permit the pattern.", n, shape))
		}
	}
	return out
}

// manyAlike is from how many programs of one form their names are said to change.
const manyAlike = 2

// Expect says on how many hosts the group runs now.
func (l *Learner) Expect(hosts int) { l.expected = hosts }

// outside says what came from outside and was not learned.
func (l *Learner) outside() []string {
	var out []string
	for _, line := range slices.Sorted(maps.Keys(l.entered.commands)) {
		c := l.entered.commands[line]
		if c.regular() {
			continue
		}
		out = append(out, fmt.Sprintf("From outside (docker exec, ECS Exec) came %q, %s: that is not learned, unless it comes at least %d times at regular intervals, as health checks do.",
			c.words(), times(c.runs), regularRuns))
	}
	if l.entered.strange > 0 {
		out = append(out, fmt.Sprintf("%s more came from outside and were not followed.", times(l.entered.strange)))
	}
	return out
}

// newest is when the entry that came last was first seen. What was seen after now was
// seen before a clock was set back.
func newest(p *profile.Profile, now time.Time) time.Time {
	var newest time.Time
	Each(p, func(_ string, e *profile.Evidence) {
		if e.Source == profile.Learned && e.First.After(newest) && !e.First.After(now) {
			newest = e.First
		}
	})
	return newest
}

func containers(n int) string {
	switch n {
	case 0:
		return "No container was"
	case 1:
		return "One container was"
	}
	return fmt.Sprintf("%d containers were", n)
}

func times(n uint64) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// span writes a while with its largest unit.
func span(d time.Duration) string {
	unit := func(n int64, one string) string {
		if n == 1 {
			return "1 " + one
		}
		return fmt.Sprintf("%d %ss", n, one)
	}
	d = max(d, 0)
	switch {
	case d < time.Minute:
		return unit(int64(d/time.Second), "second")
	case d < 2*time.Hour:
		return unit(int64(d/time.Minute), "minute")
	case d < 2*day:
		return unit(int64(d/time.Hour), "hour")
	}
	return unit(int64(d/day), "day")
}
