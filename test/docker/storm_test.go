package docker_test

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/test/docker/engine"
)

// Groups of storms: one whose containers are held, and one of whose nothing is.
const (
	heldStorm = "shop/storefront/storm"
	freeStorm = "shop/storefront/calm"
)

// drop is a program that was never learned: it says whether it ran.
const drop = `cp /bin/busybox /tmp/true; if [ -e /tmp/held ]; then /tmp/true && echo ran || echo "stopped $?"; fi`

// storm is how much of a storm there is: little with all other tests, much with make
// soak.
func storm(little, much int) int {
	if *long > 0 {
		return much
	}
	return little
}

// words are the lines that something said, without the shell's own of a child that was
// killed, which come before or after what it says itself.
func words(out string) []string {
	return slices.DeleteFunc(strings.Split(strings.TrimSpace(out), "\n"), func(l string) bool { return l == "Killed" })
}

// letGo kills the agent, lets go of the host by hand, and returns how many entries of
// containers there were in the kernel: one for each control that it was held to.
func (w *ward) letGo() int {
	w.t.Helper()
	w.agent.kill()
	out, err := exec.Command(w.program, "watch", "release", "--data-dir", w.path("agent"), "--pins", w.pins()).CombinedOutput()
	m := regexp.MustCompile(`in the kernel (\d+) containers were let go`).FindSubmatch(out)
	if err != nil || m == nil {
		w.t.Fatalf("release the host: %v\n%s", err, out)
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// memory is how much of the host's memory the agent's process took at most, in MiB.
func (w *ward) memory() int {
	w.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.agent.cmd.Process.Pid))
	if err != nil {
		w.t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^VmHWM:\s+(\d+) kB$`).FindSubmatch(b)
	if m == nil {
		w.t.Fatalf("no VmHWM in %s", b)
	}
	kib, err := strconv.Atoi(string(m[1]))
	if err != nil {
		w.t.Fatal(err)
	}
	return kib >> 10
}

// executions are those in a container that are stored, of a program.
func (w *ward) executions(container, program string) (n int) {
	w.t.Helper()
	var page store.EventPage
	w.asks(&page, "/events", url.Values{"workload": {container}, "text": {program}, "limit": {"1000"}})
	for _, e := range page.Events {
		if e.Kind == event.KindExec && e.Process.Executable == program {
			n++
		}
	}
	return n
}

// TestStormOfRestartsIsHeld restarts a held container again and again, as an
// orchestrator does with one that crashes, beside one that is not held and does the
// same. Each time its first program is held, and the other's is not.
func TestStormOfRestartsIsHeld(t *testing.T) {
	restarts := storm(15, 100)
	e := start(t, engine.Options{})
	w := guardedHost(t, e)
	storm := run(t, e, engine.Container{Name: "storm", Labels: labels("storm"), Cmd: []string{"sh", "-c", drop + "; /bin/busybox sleep 3600"}})
	calm := run(t, e, engine.Container{Name: "calm", Labels: labels("calm"), Cmd: []string{"sh", "-c", ": > /tmp/held; " + drop + "; /bin/busybox sleep 3600"}})
	w.known(storm)
	w.known(calm)
	if out, code, err := e.Exec(t.Context(), storm, "sh", "-c", ": > /tmp/held"); err != nil || code != 0 {
		t.Fatalf("exec: %v, code %d, %s", err, code, out)
	}
	w.mode(profile.Protect, heldStorm)
	began := time.Now()
	var restarting sync.WaitGroup
	for _, id := range []string{storm, calm} {
		restarting.Go(func() {
			for range restarts {
				at := time.Now()
				now := 0
				if _, err := e.Client.ContainerRestart(t.Context(), id, client.ContainerRestartOptions{Timeout: &now}); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Until(at.Add(100 * time.Millisecond)))
			}
		})
	}
	restarting.Wait()
	t.Logf("%d restarts of each in %s", restarts, time.Since(began).Round(time.Second/10))
	said := func(id string) map[string]int {
		out, err := w.docker("logs", id)
		if err != nil {
			t.Fatal(err)
		}
		n := map[string]int{}
		for _, line := range words(out) {
			n[line]++
		}
		return n
	}
	// The container may be ended before it said anything.
	w.until("the last start to say something", func() bool { return said(storm)["stopped 137"] > 0 && said(calm)["ran"] > 0 })
	inStorm, inCalm := said(storm), said(calm)
	t.Logf("held: %v; not held: %v", inStorm, inCalm)
	if inStorm["ran"] > 0 || inCalm["stopped 137"] > 0 {
		t.Errorf("held: %v; not held: %v", inStorm, inCalm)
	}
	w.known(storm)
	for _, v := range w.outside(began) {
		if v.Group == freeStorm || v.WorkloadID != "" && v.WorkloadID != storm {
			t.Errorf("somebody else is blamed: %+v", v.Violation)
		}
	}
	// exec, network and privilege are held here, in one entry each.
	if n, most := w.letGo(), 3; n == 0 || n > most {
		t.Errorf("%d entries of held containers after the storm, want 1 to %d", n, most)
	}
}

// TestStormOfReusedProcessNumbers has processes of a held container killed, and
// those of another get the very same numbers right after. No one takes the other's
// place.
func TestStormOfReusedProcessNumbers(t *testing.T) {
	rounds := storm(8, 40)
	e := start(t, engine.Options{})
	w := guardedHost(t, e)
	ids := map[string]string{}
	for _, name := range []string{"storm", "calm"} {
		ids[name] = run(t, e, engine.Container{Name: name, Labels: labels(name), Cmd: []string{"sh", "-c", drop + "; /bin/busybox sleep 3600"}})
		w.known(ids[name])
		if out, code, err := e.Exec(t.Context(), ids[name], "sh", "-c", ": > /tmp/held"); err != nil || code != 0 {
			t.Fatalf("exec: %v, code %d, %s", err, code, out)
		}
	}
	w.mode(profile.Protect, heldStorm)
	began := time.Now()
	const last = "/proc/sys/kernel/ns_last_pid"
	first, err := os.ReadFile(last)
	if err != nil {
		t.Fatal(err)
	}
	for n := range rounds {
		name, want := "storm", "stopped 137"
		if n%2 == 1 {
			name, want = "calm", "ran"
		}
		if err := os.WriteFile(last, first, 0o600); err != nil {
			t.Fatal(err)
		}
		out, code, err := e.Exec(t.Context(), ids[name], "sh", "-c", drop)
		if err != nil || code != 0 || !slices.Equal(words(out), []string{want}) {
			t.Errorf("round %d, in %s: %v, code %d, %q, want %q", n, name, err, code, out, want)
		}
	}
	w.known("storm")
	w.known("calm")
	reused := w.numbers(ids["storm"], ids["calm"])
	t.Logf("%d process numbers were of both containers", reused)
	if reused == 0 {
		t.Error("no process of one container had the number of one of the other: this tests nothing")
	}
	if n := w.executions(ids["calm"], "/tmp/true"); n != rounds/2 {
		t.Errorf("%d executions in the container that is not held, want %d", n, rounds/2)
	}
	for _, v := range w.outside(began) {
		if v.Group == freeStorm || v.WorkloadID != "" && v.WorkloadID != ids["storm"] {
			t.Errorf("somebody else is blamed: %+v", v.Violation)
		}
	}
}

// numbers counts the process numbers that both containers had.
func (w *ward) numbers(a, b string) (n int) {
	w.t.Helper()
	of := func(id string) map[uint32]bool {
		var page store.EventPage
		w.asks(&page, "/events", url.Values{"workload": {id}, "limit": {"1000"}})
		numbers := map[uint32]bool{}
		for _, e := range page.Events {
			if e.WorkloadID == id {
				numbers[uint32(e.Process.Key.PID)] = true
			}
		}
		return numbers
	}
	second := of(b)
	for pid := range of(a) {
		if second[pid] {
			n++
		}
	}
	return n
}

// TestStormOfManyContainers holds half of as many to what was learned of the first of
// their group, and looks what that takes.
func TestStormOfManyContainers(t *testing.T) {
	const most = 110 // MiB; 100 containers are to take 80
	many := storm(40, 200)
	e := start(t, engine.Options{})
	w := guardedHost(t, e)
	cmd := []string{"sh", "-c", drop + "; exec /bin/busybox sleep 3600"}
	first := run(t, e, engine.Container{Name: "first", Labels: labels("storm"), Cmd: cmd})
	w.known(first)
	w.mode(profile.Protect, heldStorm)
	var held, free []string
	began := time.Now()
	for n := range many {
		c := engine.Container{Name: fmt.Sprint("n", n), Labels: labels("storm"), Cmd: cmd}
		list := &held
		if n%2 == 1 {
			c.Labels, list = labels("calm"), &free
		}
		*list = append(*list, run(t, e, c))
	}
	t.Logf("%d containers started in %s", many, time.Since(began).Round(time.Second))
	w.until("all of them to be known", func() bool {
		var page struct{ Workloads []asset.Workload }
		w.asks(&page, "/workloads", url.Values{"limit": {"1000"}})
		return len(slices.DeleteFunc(page.Workloads, func(w asset.Workload) bool { return w.State != asset.Running })) > many
	})
	do := func(list []string, want string) {
		for _, id := range list {
			out, code, err := e.Exec(t.Context(), id, "sh", "-c", ": > /tmp/held; "+drop)
			if err != nil || code != 0 || !slices.Equal(words(out), []string{want}) {
				t.Errorf("%s: %v, code %d, %q, want %q", asset.ShortID(id), err, code, out, want)
			}
		}
	}
	do(held, "stopped 137")
	do(free[:min(20, len(free))], "ran")
	w.known(free[0])
	for _, v := range w.outside(began) {
		if v.Group == freeStorm {
			t.Errorf("somebody else is blamed: %+v", v.Violation)
		}
	}
	took := w.memory()
	t.Logf("the agent took %d MiB at most, with %d containers, half of them protected", took, many)
	if took > most {
		t.Errorf("the agent took %d MiB, want %d at most", took, most)
	}
	for _, id := range append(held, free...) {
		if err := e.Remove(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	w.known(first)
	n := w.letGo()
	t.Logf("%d entries of held containers at the end", n)
	if n == 0 || n > 3 {
		t.Errorf("%d entries of held containers when all but one were removed, want 1 to 3", n)
	}
}
