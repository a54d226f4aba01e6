package watch_test

import (
	"fmt"
	"iter"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/watch"
)

var start = time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)

// TestFromEventsToRules goes the whole way: a service is learned from, kept, written
// down, edited, read back, held to, and rehearsed.
func TestFromEventsToRules(t *testing.T) {
	const group = asset.Group("prod/shop/web")
	w := &asset.Workload{ID: "c", Image: asset.Image{Digest: "sha256:1", Reference: "nginx:1.27"}}
	st, err := watch.StartingFor(w.Image, nil)
	if err != nil || st == nil {
		t.Fatal(st, err)
	}
	l := watch.NewLearner(group)
	l.Adopt(st.Profile)
	write := func(i int, path string) event.Event {
		return event.Event{Time: start.Add(time.Duration(i) * time.Minute), AgentID: "a", WorkloadID: "c", Kind: event.KindFileCreate,
			Process: event.Process{Key: event.Key{PID: 7, Start: 7}, Executable: "/usr/sbin/nginx"}, File: &event.File{Path: path}}
	}
	for i := range 40 {
		e := write(i, fmt.Sprintf("/srv/uploads/photo-%d.jpg", 1000+i))
		l.Take(&e, w)
	}
	kept, err := l.Save()
	if err != nil {
		t.Fatal(err)
	}
	if l, err = watch.LoadLearner(kept); err != nil {
		t.Fatal(err)
	}
	p := l.Profile()
	if p.Group != group || watch.VersionOf(w) != p.Versions[0].Digest {
		t.Errorf("profile of %s, versions %v", p.Group, p.Versions)
	}

	bad := write(99, "/etc/passwd")
	v := watch.NewIndex(p).Compare(&bad)
	if v == nil || v.Control != profile.ControlFile {
		t.Fatalf("writing /etc/passwd is %+v", v)
	}
	rehearsed, err := watch.Rehearse(p, iter.Seq2[event.Event, error](func(yield func(event.Event, error) bool) { yield(bad, nil) }), watch.RehearseOptions{})
	if err != nil || rehearsed.Blocked != 1 {
		t.Errorf("rehearsed %+v, %v", rehearsed, err)
	}

	text := watch.Write(p, "web")
	if !strings.Contains(string(text), "path: /srv/uploads/photo-*.jpg") {
		t.Errorf("the text does not have what was learned:\n%s", text)
	}
	d, err := watch.Read(append(text, "\n"...), "web.yaml")
	if err != nil {
		t.Fatal(err)
	}
	back := watch.Import(p, d.Profile)
	if c := watch.Changes(p, back); len(c) > 0 || watch.Digest(back) != watch.Digest(p) || watch.Entries(back) != watch.Entries(p) {
		t.Errorf("written and read it differs: %v", c)
	}
	permitted := watch.Merge(back, v.Permit)
	if watch.NewIndex(permitted).Compare(&bad) != nil {
		t.Error("what a person permitted lies outside")
	}
	l.Adopt(permitted)
	if c := watch.Changes(p, l.Profile()); len(c) != 1 || c[0].Sentence != "writes /etc/passwd" {
		t.Errorf("changes %+v", c)
	}

	s, effects := watch.Step(watch.State{}, watch.Decide{Now: start, Mode: profile.Protect, Actor: "ana"})
	if len(effects) != 2 || effects[0].Kind != watch.EffectRules {
		t.Errorf("effects %+v", effects)
	}
	rules, notes, err := watch.Compile(p, watch.CompileOptions{Mode: s.Effective()})
	if err != nil || len(notes) > 0 {
		t.Fatal(err, notes)
	}
	if rules.Answers[profile.ControlExec] != watch.Answer(profile.Protect, "") {
		t.Errorf("answers %v", rules.Answers)
	}
}

// TestTheDocumentedTextIsRead reads the example of the documentation.
func TestTheDocumentedTextIsRead(t *testing.T) {
	b, err := os.ReadFile("../../docs/watch.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "```yaml\n")
	text, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("docs/watch.md has no example")
	}
	d, err := watch.Read([]byte(text), "docs/watch.md")
	if err != nil {
		t.Fatal(err)
	}
	if n := watch.Entries(d.Profile); n != 5 {
		t.Errorf("the example has %d entries, want 5", n)
	}
}
