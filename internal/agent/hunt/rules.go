package hunt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/agent/rounds"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/detect"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/threat"
	"github.com/castellan-security/castellan/internal/untrusted"
	"github.com/castellan-security/castellan/internal/whole"
	"github.com/castellan-security/castellan/internal/written"
)

const (
	rulesFile = "rules.json"
	// maxRulesFile bounds the file that is read back: texts that came last, and those
	// that could be used before.
	maxRulesFile = 5 * link.MaxDetectionBytes
	// refreshEvery is how often the server is told how rules fare, and asked for others
	// without having told of any.
	refreshEvery = time.Minute
	// maxProblem bounds what is told of a document that can't be used.
	maxProblem = 1_000
)

// set is rules that an engine was made of.
type set struct {
	engine   *detect.Engine
	used     []link.DetectionText
	unusable []link.UnusableText
}

// keeper keeps users' rules.
type keeper struct {
	o    Options
	wake rounds.Bell // rung when there is something to fetch
	sets chan<- *set

	mu       sync.Mutex
	boot     string
	kept     kept
	unusable []link.UnusableText
	stats    map[string]threat.RuleStats
	told     map[string]threat.RuleStats // as the server has them
	rules    int                         // of the engine
}

// kept is what is on disk: the texts as they came last, and of each document the newest
// that could be used.
type kept struct {
	Stamp string               `json:"stamp"`
	Texts link.DetectionTexts  `json:"texts"`
	Good  []link.DetectionText `json:"good,omitempty"`
}

// openKeeper returns the keeper, and the rules to begin with.
func openKeeper(o Options, sets chan<- *set) (*keeper, *set, error) {
	k := &keeper{o: o, wake: rounds.NewBell(), sets: sets, told: map[string]threat.RuleStats{}}
	if err := k.read(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		o.Log.Error("rules of detection that were kept can't be read", "error", err)
		k.kept = kept{}
	}
	s, err := k.compile(k.kept.Texts, k.kept.Good)
	if err != nil {
		return nil, nil, fmt.Errorf("read the built-in rules of detection: %w", err)
	}
	k.unusable, k.rules = s.unusable, len(s.engine.Rules())
	return k, s, nil
}

func (k *keeper) begin(boot string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.boot = boot
}

// compile makes an engine of as many documents as can be used together: in the place
// of one that can't, of its newest version that could. The error is of the built-in
// rules alone.
func (k *keeper) compile(texts link.DetectionTexts, good []link.DetectionText) (*set, error) {
	s := &set{used: slices.Clone(texts.Documents)}
	for {
		all := make([]detect.Text, len(s.used))
		for i, d := range s.used {
			all[i] = detect.Text{Name: d.Name, Body: []byte(d.Text)}
		}
		var err error
		if s.engine, err = detect.New(all); err == nil {
			s.engine.Silence(append(slices.Clone(s.engine.Silences()), texts.Silences...))
			return s, nil
		}
		if len(s.used) == 0 {
			return nil, err
		}
		s.without(err, good)
	}
}

// without takes out the documents that an error is about, or all where it is about
// something else. It takes one at least.
func (s *set) without(err error, good []link.DetectionText) {
	problems := written.ProblemsOf(err)
	about := func(name string) string {
		for _, p := range problems {
			if p.File == name {
				return p.Error()
			}
		}
		return ""
	}
	named := slices.ContainsFunc(s.used, func(d link.DetectionText) bool { return about(d.Name) != "" })
	left := s.used[:0:0]
	for _, d := range s.used {
		why := about(d.Name)
		if !named {
			why = err.Error()
		}
		if why == "" {
			left = append(left, d)
			continue
		}
		if i := slices.IndexFunc(s.unusable, func(u link.UnusableText) bool { return u.Name == d.Name }); i >= 0 {
			s.unusable[i].Former = 0 // its former version can't be used either
			continue
		}
		u := link.UnusableText{Name: d.Name, Version: d.Version, Error: untrusted.Clip(why, maxProblem)}
		if i := slices.IndexFunc(good, func(g link.DetectionText) bool { return g.Name == d.Name && g.Version != d.Version }); i >= 0 {
			left = append(left, good[i])
			u.Former = good[i].Version
		}
		s.unusable = append(s.unusable, u)
	}
	s.used = left
}

func (k *keeper) run(ctx context.Context) {
	if k.o.Server == nil {
		<-ctx.Done()
		return
	}
	rounds.Rounds{
		Every: refreshEvery, Turn: k.fetch, Wait: k.wake.Wait, Log: k.o.Log,
		Failed: "rules of detection are not fetched; those of before hold",
	}.Run(ctx)
}

// fetch tells how rules fare, and takes others if there are.
func (k *keeper) fetch(ctx context.Context) error {
	for {
		ask, more := k.ask()
		b, err := k.o.Server.Detections(ctx, ask)
		if err != nil {
			return err
		}
		k.mu.Lock()
		for _, st := range ask.Rules {
			k.told[st.Rule] = st
		}
		k.mu.Unlock()
		if b.Changed {
			if err := k.take(ctx, b); err != nil {
				return err
			}
			more = true // it is told at once what could not be used
		}
		if !more {
			return nil
		}
	}
}

// ask returns what the server is to be told, and whether there is more of it.
func (k *keeper) ask() (link.DetectionsAsk, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	a := link.DetectionsAsk{AgentID: k.o.AgentID, Boot: k.boot, Stamp: k.kept.Stamp, Unusable: slices.Clone(k.unusable)}
	const atOnce = 500
	for _, rule := range slices.Sorted(maps.Keys(k.stats)) {
		st := k.stats[rule]
		if st == k.told[rule] || st.Looked == 0 && st.Hits == 0 {
			continue
		}
		if len(a.Rules) == atOnce {
			return a, true
		}
		a.Rules = append(a.Rules, st)
	}
	return a, false
}

// take puts what the server keeps in force, and on disk.
func (k *keeper) take(ctx context.Context, b link.DetectionsBrief) error {
	k.mu.Lock()
	good := k.kept.Good
	k.mu.Unlock()
	s, err := k.compile(b.Texts, good)
	if err != nil {
		return fmt.Errorf("use rules of detection: %w", err)
	}
	for _, u := range s.unusable {
		k.o.Log.Error("rules of detection can't be used here", "document", u.Name, "version", u.Version, "error", u.Error, "former", u.Former,
			"remedy", "update this agent: it may be older than the server that took them")
	}
	select {
	case k.sets <- s:
	case <-ctx.Done():
		return ctx.Err()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kept = kept{Stamp: b.Stamp, Texts: b.Texts, Good: s.used}
	k.unusable = s.unusable
	if err := k.save(); err != nil {
		// They hold all the same, until the next start.
		k.o.Log.Error("rules of detection are not written down", "error", err)
	}
	return nil
}

// note takes how all rules fare, and how many are in force.
func (k *keeper) note(stats map[string]threat.RuleStats, rules int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for rule, st := range stats {
		st.Error = untrusted.Clip(st.Error, threat.MaxText)
		stats[rule] = st
	}
	k.stats, k.rules = stats, rules
}

func (k *keeper) status() asset.Detection {
	k.mu.Lock()
	defer k.mu.Unlock()
	d := asset.Detection{Rules: k.rules, Stamp: k.kept.Stamp}
	for _, u := range k.unusable {
		d.Unusable = append(d.Unusable, u.Name)
	}
	return d
}

func (k *keeper) read() error {
	return readJSON(k.o.Dir, rulesFile, maxRulesFile, &k.kept)
}

// readJSON decodes a file of the folder, which has at most so many bytes, into to. The
// error is fs.ErrNotExist also where there is no folder.
func readJSON(dir, name string, most int64, to any) error {
	file := path(dir, name)
	if file == "" {
		return fs.ErrNotExist
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // it was only read
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		err = tooLarge(name, most)
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, to); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil
}

func (k *keeper) save() error {
	file := path(k.o.Dir, rulesFile)
	if file == "" {
		return nil
	}
	b, err := json.Marshal(k.kept)
	if err != nil {
		return fmt.Errorf("write rules: %w", err)
	}
	return whole.Write(file, b)
}
