package docker_test

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
	behaviour "github.com/castellan-security/castellan/internal/watch"
	"github.com/castellan-security/castellan/test/docker/engine"
)

// service is a container that does a little of all at its start, with names that are
// others each time.
const service = `
/bin/busybox mkdir -p /var/lib/app /run
echo $$ > /run/app.pid
/bin/busybox mktemp /tmp/tmp.XXXXXXXXXX
/bin/busybox mktemp -d
echo "mode=first" > /etc/app.conf
/bin/busybox sed -i s/first/second/ /etc/app.conf
for i in 1 2 3 4 5 6 7 8 9 10; do
  echo $i > /var/lib/app/job-$i.json
  /bin/busybox mv /var/lib/app/job-$i.json /var/lib/app/$(/bin/busybox cat /proc/sys/kernel/random/uuid).json
done
echo done >> /var/log.txt
/bin/busybox rm /run/app.pid
`

// A service is learned from a few of its containers, with somebody looking around in
// one of them. Further containers do nothing outside of what was learned; who looks
// around does.
func TestBehaviourOfAServiceIsLearned(t *testing.T) {
	e := start(t, engine.Options{})
	b := guard(t, e)
	var ids []string
	once := func(then string) string {
		id := run(t, e, engine.Container{Name: fmt.Sprint("web", len(ids)), Labels: labels("web"), Cmd: []string{"sh", "-c", service + then}})
		ids = append(ids, id)
		return id
	}
	ended := func(id string) {
		t.Helper()
		b.wait(t, "the end of a container", func() bool {
			return b.workloads[id].State == asset.Exited && slices.ContainsFunc(b.events, func(e event.Event) bool {
				return e.WorkloadID == id && e.Kind == event.KindExit && e.Process.ContainerPID == 1
			})
		})
	}
	const visit = "cp /bin/busybox /tmp/id && /tmp/id -u"
	for range 3 {
		ended(once(""))
	}
	visited := once("sleep 3600")
	if out, code, err := e.Exec(t.Context(), visited, "sh", "-c", visit); err != nil || code != 0 {
		t.Fatalf("exec: %v, code %d, output %q", err, code, out)
	}
	b.exec(t, visited, "what somebody ran", called("/tmp/id", "-u"))

	l := behaviour.NewLearner("shop/storefront/web")
	outside := func(id string, take func(*event.Event, *asset.Workload)) {
		b.mu.Lock()
		defer b.mu.Unlock()
		w := b.workloads[id]
		for _, e := range b.events {
			if e.WorkloadID == id {
				take(&e, &w)
			}
		}
	}
	for _, id := range ids {
		outside(id, l.Take)
	}
	p := l.Profile()
	text := string(behaviour.Write(p, "web"))
	if strings.Contains(text, "/tmp/id") {
		t.Error("what somebody did by hand was learned")
	}
	if s := l.Settled(b.events[len(b.events)-1].Time); len(s.Waits) == 0 || !slices.ContainsFunc(s.Waits, func(w string) bool { return strings.Contains(w, "cp /bin/busybox") }) {
		t.Errorf("settled %+v, want it to name what came from outside", s)
	}

	x := behaviour.NewIndex(p)
	for range 2 {
		id := once("")
		ended(id)
		outside(id, func(e *event.Event, _ *asset.Workload) {
			if v := x.Compare(e); v != nil {
				t.Errorf("outside: %s", v.Sentence)
			}
		})
	}
	drift := false
	outside(visited, func(e *event.Event, _ *asset.Workload) {
		if v := x.Compare(e); v != nil {
			drift = drift || v.Subject == "/tmp/id" && !v.Unheld
		}
	})
	if !drift {
		t.Error("a program that was copied does not lie outside")
	}
	if t.Failed() {
		t.Log("\n" + text)
	}
}

// What the engine's runtime does to set a container up, and what overlayfs does on its
// layers, are no uses of the container's: a hardened task definition would have them.
func TestUsesOfCapabilitiesAreTheContainersOwn(t *testing.T) {
	e := start(t, engine.Options{})
	w := guardedHost(t, e)
	id := run(t, e, engine.Container{Name: "uses", Labels: labels("uses"), Cmd: []string{"sh", "-c",
		"while :; do cp /bin/busybox /bin/again; rm /bin/again; echo more >> /etc/passwd; chown 7 /etc/passwd; sleep 1; done"}})
	w.known(id)
	var p profile.Profile
	uses := func() (names []string) {
		w.asks(&p, "/watch/profile", url.Values{"group": {"shop/storefront/uses"}})
		for _, c := range p.Capabilities {
			if c.Used {
				names = append(names, c.Name)
			}
		}
		return names
	}
	w.until("the change of an owner to be learned as a use", func() bool { return slices.Contains(uses(), "CHOWN") })
	for _, name := range uses() {
		if slices.Contains([]string{"SYS_ADMIN", "DAC_READ_SEARCH", "NET_ADMIN", "SETPCAP", "SYS_RESOURCE"}, name) {
			t.Errorf("%s was used, which the container never had", name)
		}
	}
	for _, call := range []string{"pivot_root", "mount", "keyctl", "sethostname"} {
		if slices.ContainsFunc(p.Calls, func(c profile.Call) bool { return c.Name == call }) {
			t.Errorf("%s is the runtime's, and was learned", call)
		}
	}
}
