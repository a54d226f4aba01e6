package docker_test

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	slash "path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/castellan-security/castellan/internal/adapter/kernel/camera"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/response"
	"github.com/castellan-security/castellan/test/docker/engine"
)

// unpacked is a snapshot: its files by name.
type unpacked map[string][]byte

// into decodes a file of JSON.
func (u unpacked) into(t *testing.T, name string, to any) {
	t.Helper()
	if err := json.Unmarshal(u[name], to); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// snapshot takes one and unpacks it; all that its manifest says must be so.
func (r *responding) snapshot(t *testing.T, d response.Deed, w asset.Workload) (u unpacked, m camera.Manifest) {
	t.Helper()
	c, err := camera.New(camera.Options{Host: r.host, Dir: t.TempDir(), Agent: "agent", Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	d.Kind, d.Workload, d.ID = response.Snapshot, w.ID, "deed"
	began := time.Now()
	kept, lacks, err := c.Snapshot(t.Context(), d, w)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("snapshot of %d bytes in %s, lacks %q", kept.Size, time.Since(began), lacks)
	f, err := os.Open(kept.File)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sum := sha256.New()
	zip, err := gzip.NewReader(io.TeeReader(f, sum))
	if err != nil {
		t.Fatal(err)
	}
	u = unpacked{}
	for files := tar.NewReader(zip); ; {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg || slash.IsAbs(h.Name) || strings.Contains(h.Name, "..") {
			t.Errorf("the archive has %q of type %c", h.Name, h.Typeflag)
		}
		if u[h.Name], err = io.ReadAll(files); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.Copy(io.Discard, zip); err != nil {
		t.Fatal(err)
	}
	if got := "sha256:" + hex.EncodeToString(sum.Sum(nil)); got != kept.Digest {
		t.Errorf("the archive has digest %s, told was %s", got, kept.Digest)
	}
	u.into(t, "manifest.json", &m)
	for _, f := range m.Files {
		if s := sha256.Sum256(u[f.Name]); f.Digest != "sha256:"+hex.EncodeToString(s[:]) || f.Size != int64(len(u[f.Name])) {
			t.Errorf("%s is not as the manifest says", f.Name)
		}
	}
	if len(m.Files) != len(u)-1 || !slices.Equal(m.Lacks, lacks) {
		t.Errorf("%d files in the manifest, %d in the archive; lacks %q, told %q", len(m.Files), len(u), m.Lacks, lacks)
	}
	return u, m
}

// secretly gives a container a secret, and with all of the host's rights and network.
func secretly(all bool) func(*container.Config, *container.HostConfig) {
	return func(c *container.Config, h *container.HostConfig) {
		c.Env = []string{"TOKEN=hunter2"}
		if all {
			h.NetworkMode, h.CapAdd, h.SecurityOpt = "host", []string{"SYS_ADMIN"}, []string{"seccomp=unconfined", "apparmor=unconfined"}
		}
	}
}

const snapped = `
mkdir /tmp/hidden && cp /bin/busybox /tmp/hidden/busybox
/tmp/hidden/busybox nc -ll -p 9000 -e /bin/cat &
until grep -q :2328 /proc/net/tcp*; do :; done
rm /tmp/hidden/busybox
echo stolen > "/tmp/a
b"
ln -s /etc/shadow /tmp/lead
ln -s / /tmp/root
mkfifo /tmp/pipe
mkdir -p /tmp/deep/er && echo x > /tmp/deep/er/file
rm -f /etc/hostname.orig
exec sleep 3600`

func TestSnapshotOfAFrozenContainer(t *testing.T) {
	e := start(t, engine.Options{Bridge: true})
	r := responder(t, e)
	id := run(t, e, engine.Container{Name: "web", Change: secretly(false), Cmd: []string{"sh", "-c", snapped}})
	r.running(t, id, "sleep", "3600")
	at := net.JoinHostPort(address(t, e, id), "9000")
	open, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	w := asset.Workload{ID: id, Name: "web", Group: "docker/web"}
	r.do(t, response.Done, response.Deed{Kind: response.Quarantine, Workload: id, Freeze: true})

	talk := make(chan struct{})
	go func() { // while packets are captured
		defer close(talk)
		for range 20 {
			fmt.Fprintln(open, "hello there")
			time.Sleep(50 * time.Millisecond)
		}
	}()
	u, m := r.snapshot(t, response.Deed{Packets: time.Second, Files: true}, w)
	<-talk
	if m.Workload.ID != id || len(m.Lacks) != 0 {
		t.Errorf("of %s, lacks %q", m.Workload.ID, m.Lacks)
	}
	if all := fmt.Sprint(u); strings.Contains(all, "hunter2") {
		t.Error("the value of a variable is in the snapshot, though nobody asked for it")
	}
	var processes []camera.Process
	u.into(t, "processes.json", &processes)
	i := slices.IndexFunc(processes, func(p camera.Process) bool { return strings.HasPrefix(p.Process.Executable, "/tmp/hidden") })
	if i < 0 {
		t.Fatalf("the hidden program is not among %d processes", len(processes))
	}
	p := processes[i]
	busybox, err := os.ReadFile(fmt.Sprintf("/proc/%d/exe", p.Process.Key.PID))
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(busybox); !p.Deleted || p.ExeDigest != hex.EncodeToString(sum[:]) || !slices.Contains(p.Files, fmt.Sprintf("processes/%d/exe", p.Process.Key.PID)) {
		t.Errorf("its executable, which has no name any more: %+v", p)
	}
	if !slices.Contains(p.Names, "TOKEN") || p.Environment != nil || len(u[fmt.Sprintf("processes/%d/maps", p.Process.Key.PID)]) == 0 || p.Namespaces["net"] == "" {
		t.Errorf("of the hidden program: %+v", p)
	}
	var connections []camera.Connection
	u.into(t, "connections.json", &connections)
	held := func(c camera.Connection) bool {
		return slices.ContainsFunc(processes, func(p camera.Process) bool {
			return slices.ContainsFunc(p.Open, func(o camera.Open) bool { return o.What == fmt.Sprintf("socket:[%d]", c.Inode) })
		})
	}
	if i := slices.IndexFunc(connections, func(c camera.Connection) bool {
		return c.State == "established" && c.Local.Port() == 9000 && c.Remote.String() == open.LocalAddr().String() && held(c)
	}); i < 0 {
		t.Errorf("the open connection is not among %+v", connections)
	}
	checkChanges(t, u)
	if pcap := u["packets.pcap"]; !strings.Contains(string(pcap), "hello there") {
		t.Errorf("%d bytes of packets have not what was sent", len(pcap))
	}
	r.do(t, response.Done, response.Deed{Kind: response.Release, Workload: id})
}

// checkChanges looks at the files that the container has written.
func checkChanges(t *testing.T, u unpacked) {
	t.Helper()
	var changes []camera.Change
	u.into(t, "changes.json", &changes)
	of := map[string]camera.Change{}
	for _, c := range changes {
		of[c.Path] = c
	}
	if c := of["/tmp/a\nb"]; c.Kind != "file" || string(u[c.Content]) != "stolen\n" || c.Digest == "" {
		t.Errorf("the file with a strange name: %+v, %q", c, u[c.Content])
	}
	if c := of["/tmp/lead"]; c.Kind != "link" || c.Link != "/etc/shadow" || c.Content != "" {
		t.Errorf("the link: %+v", c)
	}
	if c := of["/tmp/pipe"]; c.Kind != "pipe" {
		t.Errorf("the pipe: %+v", c)
	}
	if c := of["/tmp/deep/er/file"]; string(u[c.Content]) != "x\n" {
		t.Errorf("the deep file: %+v", c)
	}
	for p := range of {
		if strings.HasPrefix(p, "/tmp/root/") {
			t.Errorf("%s was reached by a link", p)
		}
	}
}

// What the engine calls the root of a container can be another thing to a container
// that may mount; values and packets are there when asked for, and not of the host.
func TestSnapshotStaysInItsContainer(t *testing.T) {
	e := start(t, engine.Options{})
	r := responder(t, e)
	id := run(t, e, engine.Container{Name: "web", Change: secretly(true), Cmd: []string{"sh", "-c",
		"mkdir /mine && mount -t tmpfs x /mine && mkdir /mine/up /mine/work /mine/all && " +
			"mount -t overlay -o lowerdir=/,upperdir=/mine/up,workdir=/mine/work x /mine/all && exec chroot /mine/all sleep 3600"}})
	r.running(t, id, "sleep", "3600")
	u, m := r.snapshot(t, response.Deed{Packets: 100 * time.Millisecond, Values: true}, asset.Workload{ID: id})
	var processes []camera.Process
	u.into(t, "processes.json", &processes)
	if !slices.Contains(processes[0].Environment, "TOKEN=hunter2") {
		t.Errorf("the environment: %q", processes[0].Environment)
	}
	if lacks := strings.Join(m.Lacks, "\n"); !strings.Contains(lacks, "host's own network") || u["packets.pcap"] != nil {
		t.Errorf("packets of the host's network: lacks %q", m.Lacks)
	}
	if lacks := strings.Join(m.Lacks, "\n"); !strings.Contains(lacks, "no folder of an engine's") || u["changes.json"] != nil {
		t.Errorf("files of what it calls its root: lacks %q", m.Lacks)
	}
	if _, err := e.Client.ContainerKill(t.Context(), id, client.ContainerKillOptions{Signal: "KILL"}); err != nil {
		t.Fatal(err)
	}
}
