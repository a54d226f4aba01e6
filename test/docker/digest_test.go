package docker_test

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"github.com/castellan-security/castellan/internal/adapter/kernel"
	"github.com/castellan-security/castellan/internal/agent"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/test/docker/engine"
)

// Execs in containers tell what their files hold: of programs of the image however
// short they live, of those that were written while they run, and never anything
// wrong where another file has taken a name.
func TestDigestsOfPrograms(t *testing.T) {
	e := start(t, engine.Options{})
	b := &inbox{changed: make(chan struct{}), workloads: map[string]asset.Workload{}}
	b.further = func(p *agent.Parts) {
		programs, ok := p.Host.(*kernel.Host)
		if !ok {
			t.Fatal("the host reads no programs")
		}
		p.Programs = programs
	}
	b.guard(t, e)
	const work = `
/bin/busybox cp /bin/busybox /tmp/busybox-copy
/tmp/busybox-copy sleep 2
echo >> /tmp/busybox-copy
/tmp/busybox-copy sleep 3
for i in 1 2 3 4 5 6 7 8 9 10; do /bin/busybox true; done
/bin/busybox sleep 2
/bin/busybox true last
/bin/busybox sleep 3600
`
	id := run(t, e, engine.Container{Name: "programs", Cmd: []string{"sh", "-c", work}})
	digest := func(args ...string) string {
		return b.exec(t, id, args[0]+" "+args[1], called(args...)).Exec.Digest
	}
	image := digest("/bin/busybox", "sleep", "3600")
	sum, code, err := e.Exec(t.Context(), id, "/bin/busybox", "sha256sum", "/bin/busybox")
	if err != nil || code != 0 || len(sum) < 64 {
		t.Fatalf("sha256sum: %v, code %d, %q", err, code, sum)
	}
	want := "sha256:" + sum[:64]
	if image != want {
		t.Errorf("a program of the image has %q, want %q", image, want)
	}
	if got := digest("/bin/busybox", "true", "last"); got != want {
		t.Errorf("a program that lives for a moment has %q, want %q", got, want)
	}
	if got := digest("/tmp/busybox-copy", "sleep", "2"); got != want {
		t.Errorf("a copy has %q, want %q", got, want)
	}
	changed, code, err := e.Exec(t.Context(), id, "/bin/busybox", "sha256sum", "/tmp/busybox-copy")
	if err != nil || code != 0 || len(changed) < 64 || changed[:64] == sum[:64] {
		t.Fatalf("sha256sum: %v, code %d, %q", err, code, changed)
	}
	if got := digest("/tmp/busybox-copy", "sleep", "3"); got != "sha256:"+changed[:64] {
		t.Errorf("a copy that was changed has %q, want %q", got, changed[:64])
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	known, all := 0, 0
	for _, x := range b.events {
		if x.Kind != event.KindExec || x.WorkloadID != id || x.Exec.Origin != event.OriginImage {
			continue
		}
		all++
		switch x.Exec.Digest {
		case "":
		case want:
			known++
		default:
			t.Errorf("%q has the digest %s", x.Exec.Args, x.Exec.Digest)
		}
	}
	t.Logf("%d of %d execs of the image's program told its digest", known, all)
	empty := sha256.Sum256(nil)
	if want == "sha256:"+hex.EncodeToString(empty[:]) {
		t.Error("nothing was read")
	}
}
