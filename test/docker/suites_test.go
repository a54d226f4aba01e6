package docker_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"go.yaml.in/yaml/v3"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/test/docker/engine"
)

// suiteDeed is what one test of a public suite of attacks does.
type suiteDeed struct {
	Name      string `yaml:"name"`
	Technique string `yaml:"technique"` // that explains it
	Missed    string `yaml:"missed"`    // why nothing is told of it; empty for what is told
	Strong    bool   `yaml:"strong"`    // it needs a container with all capabilities
	Deed      string `yaml:"deed"`      // of bash; EVIL is the address of another container
}

// entered are rules that only say that somebody came from outside, as each deed here does.
var entered = []string{"shell-entered", "shell-entered-commands"}

// What public suites of attacks do, done in containers of a Debian with services, is told
// and explained by its technique, as far as the suites' files do not say why not.
func TestPublicSuitesOfAttacks(t *testing.T) {
	needServices(t)
	files, err := filepath.Glob("suites/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no suites: %v", err)
	}
	e := start(t, engine.Options{Bridge: true})
	importServices(t, e)
	r := huntedHost(t, e)
	r.guard(t, e)
	evil := run(t, e, engine.Container{Name: "evil", Cmd: []string{"/bin/busybox", "nc", "-ll", "-p", "4444", "-e", "/bin/cat"}})
	at := address(t, e, evil)
	techniques := techniquesOf(t)
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var deeds []suiteDeed
		if err := yaml.Unmarshal(b, &deeds); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		suite := strings.TrimSuffix(filepath.Base(file), ".yaml")
		done, told, explained := 0, 0, 0
		for i, d := range deeds {
			t.Run(suite+"/"+d.Name, func(t *testing.T) {
				rules := r.suite(t, e, fmt.Sprintf("%s-%d", suite, i), at, d)
				right := slices.ContainsFunc(rules, func(rule string) bool {
					return slices.ContainsFunc(techniques[rule], func(is string) bool { return d.Technique != "" && strings.HasPrefix(is, d.Technique) })
				})
				done++
				if len(rules) > 0 {
					told++
				}
				if right {
					explained++
				}
				switch {
				case d.Missed == "" && !right:
					t.Errorf("want %s; rules that fired: %v", d.Technique, rules)
				case d.Missed != "" && len(rules) > 0:
					t.Errorf("it is said to be missed (%s), but %v fired", d.Missed, rules)
				}
			})
		}
		t.Logf("%s: %d of %d told, %d explained", suite, told, done, explained)
	}
}

// suite does a deed in a container of its own, and returns the rules that fired of it.
func (r *recorder) suite(t *testing.T, e *engine.Engine, name, evil string, d suiteDeed) []string {
	t.Helper()
	id := run(t, e, engine.Container{Name: name, Image: servicesImage, Labels: labels(name), Cmd: []string{"sleep", "3600"},
		Change: func(c *container.Config, h *container.HostConfig) {
			c.Env = append(c.Env, "EVIL="+evil)
			if d.Strong {
				h.CapAdd, h.CapDrop = []string{"ALL"}, []string{"SYS_RESOURCE"}
				h.SecurityOpt = []string{"seccomp=unconfined", "apparmor=unconfined"}
				h.MaskedPaths, h.ReadonlyPaths = []string{}, []string{}
			}
		}})
	defer func() {
		if err := e.Remove(t.Context(), id); err != nil {
			t.Errorf("remove: %v", err)
		}
	}()
	if out, code, err := e.Exec(t.Context(), id, "bash", "-c", d.Deed); err != nil || code > 1 && testing.Verbose() {
		t.Logf("code %d, %v: %.300s", code, err, out)
	}
	mark := "mark-of-" + name
	if _, _, err := e.Exec(t.Context(), id, "/bin/true", mark); err != nil {
		t.Fatal(err)
	}
	r.exec(t, id, "the mark", func(x event.Event) bool { return slices.Contains(x.Exec.Args, mark) })
	// Threats are sent apart from events.
	var rules []string
	for end := time.Now().Add(settled); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		r.mu.Lock()
		rules = nil
		for _, th := range r.threats {
			if th.WorkloadID == id && !slices.Contains(rules, th.Rule) && !slices.Contains(entered, th.Rule) {
				rules = append(rules, th.Rule)
			}
		}
		r.mu.Unlock()
	}
	return rules
}

// settled is how long threats may take after the events that they rest on.
const settled = time.Second
