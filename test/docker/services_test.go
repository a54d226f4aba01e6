package docker_test

import (
	"archive/tar"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"

	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/test/docker/engine"
)

// long is for how long services work in each of the three modes; without, they don't:
// their Debian alone takes minutes to make. make soak does.
var long = flag.Duration("long", 0, "how long services work in each mode")

const servicesImage = "services:test"

// services are real ones, in containers of one image. Each is a group.
var services = []engine.Container{
	{Name: "db", Cmd: []string{"start-db"}, Change: as("postgres", volume("db", "/var/lib/postgresql"))},
	{Name: "cache", Cmd: []string{"redis-server", "--dir", "/var/lib/redis", "--save", "5 1", "--appendonly", "yes", "--protected-mode", "no", "--auto-aof-rewrite-min-size", "16kb"},
		Change: as("redis", volume("cache", "/var/lib/redis"))},
	{Name: "app", Cmd: []string{"python3", "/srv/app/app.py"}, Change: as("", volume("app", "/var/lib/app"))},
	{Name: "java", Cmd: []string{"/usr/share/tomcat10/bin/catalina.sh", "run"}, Change: as("tomcat", func(c *container.Config, _ *container.HostConfig) {
		c.Env = []string{"CATALINA_HOME=/usr/share/tomcat10", "CATALINA_BASE=/var/lib/tomcat10", "CATALINA_TMPDIR=/tmp", "JAVA_OPTS=-Xmx128m"}
	})},
	{Name: "node", Cmd: []string{"node", "/srv/node/server.js"}, Change: as("", volume("node", "/var/lib/node"))},
	{Name: "web", Cmd: []string{"start-web"}, Change: as("", checked("curl -fsS http://127.0.0.1/health"))},
	{Name: "jobs", Cmd: []string{"cron", "-f"}, Change: as("")},
	{Name: "builder", Cmd: []string{"build-packages"}, Change: as("")},
	{Name: "load", Cmd: []string{"python3", "-u", "/srv/load.py", "0.6"}, Change: as("")},
}

// as runs a service as a user, and is what all have in common.
func as(user string, changes ...change) change {
	return func(c *container.Config, h *container.HostConfig) {
		c.User, h.NetworkMode = user, "services"
		for _, change := range changes {
			change(c, h)
		}
	}
}

func volume(name, at string) change {
	return func(_ *container.Config, h *container.HostConfig) {
		h.Mounts = append(h.Mounts, mount.Mount{Type: mount.TypeVolume, Source: name, Target: at})
	}
}

func checked(command string) change {
	return func(c *container.Config, _ *container.HostConfig) {
		c.Healthcheck = &container.HealthConfig{Test: []string{"CMD-SHELL", command}, Interval: time.Second, Timeout: 20 * time.Second}
	}
}

// servicesGroup is the group of a service.
func servicesGroup(name string) string { return "shop/storefront/" + name }

// needServices skips what takes a Debian of 900 MB and a quarter of an hour: that is left
// to make soak.
func needServices(t *testing.T) {
	t.Helper()
	if *long == 0 {
		t.Skip("real services are at work in make soak alone: -long says for how long")
	}
}

// importServices gives the engine the Debian of test/setup/services.sh with what is
// in the folder services.
func importServices(t *testing.T, e *engine.Engine) {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	bases, err := filepath.Glob(filepath.Join(cache, "castellan/demo/services-*.tar"))
	if err != nil || len(bases) != 1 {
		t.Fatalf("%d files of a Debian with services: make one as root with: test/setup/services.sh", len(bases))
	}
	r, w := io.Pipe()
	var writing sync.WaitGroup
	writing.Go(func() { w.CloseWithError(writeServices(w, bases[0])) }) // ends when r is closed
	defer writing.Wait()
	defer r.Close()
	said, err := e.Client.ImageImport(t.Context(), client.ImageImportSource{Source: r, SourceName: "-"}, servicesImage, client.ImageImportOptions{
		Changes: []string{"ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
	})
	if err == nil {
		_, err = io.Copy(io.Discard, said)
		err = errors.Join(err, said.Close())
	}
	if err != nil {
		t.Fatalf("import services: %v", err)
	}
}

// writeServices writes the root of the image as a tar file: the base, with what is in
// the folder services added, or in the place of what was there.
func writeServices(w io.Writer, base string) error {
	f, err := os.Open(base)
	if err != nil {
		return err
	}
	defer f.Close()
	own, err := ownFiles("services")
	if err != nil {
		return err
	}
	to, from := tar.NewWriter(w), tar.NewReader(f)
	for {
		h, err := from.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil && own[strings.TrimPrefix(h.Name, "./")] != nil {
			continue
		}
		if err == nil {
			err = to.WriteHeader(h)
		}
		if err == nil {
			_, err = io.Copy(to, from)
		}
		if err != nil {
			return fmt.Errorf("copy %s: %w", base, err)
		}
	}
	for _, folder := range []string{"var/lib/app/", "var/lib/node/", "build/"} {
		if err := to.WriteHeader(&tar.Header{Name: folder, Mode: 0o755, Typeflag: tar.TypeDir}); err != nil {
			return err
		}
	}
	for name, body := range own {
		h := tar.Header{Name: name, Mode: 0o644, Size: int64(len(body)), Typeflag: tar.TypeReg}
		if filepath.Base(filepath.Dir(name)) == "bin" {
			h.Mode = 0o755
		}
		err := to.WriteHeader(&h)
		if err == nil {
			_, err = to.Write(body)
		}
		if err != nil {
			return fmt.Errorf("add %s: %w", name, err)
		}
	}
	return to.Close()
}

// ownFiles reads the files of a folder, by their paths in it.
func ownFiles(folder string) (map[string][]byte, error) {
	files := map[string][]byte{}
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files[strings.TrimPrefix(path, folder+"/")], err = os.ReadFile(path)
		}
		return err
	})
	return files, err
}

// works is the services at work.
type works struct {
	*ward
	ids map[string]string
}

// open starts all services.
func open(t *testing.T) *works {
	t.Helper()
	e := engine.ForTest(t, engine.Options{Apart: true})
	importServices(t, e)
	s := &works{ward: guardedHost(t, e), ids: map[string]string{}}
	if out, err := s.docker("network", "create", "services"); err != nil {
		t.Fatalf("network: %v\n%s", err, out)
	}
	for _, c := range services {
		s.run(c)
	}
	return s
}

func (s *works) run(c engine.Container) {
	s.t.Helper()
	c.Image, c.Labels = servicesImage, labels(c.Name)
	id, err := s.engine.Run(s.t.Context(), c)
	if err != nil {
		s.t.Fatal(err)
	}
	s.ids[c.Name] = id
}

// must runs a command of Docker's that has to succeed.
func (s *works) must(args ...string) {
	s.t.Helper()
	if out, err := s.docker(args...); err != nil {
		s.t.Errorf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// again restarts services, or makes new containers of them.
func (s *works) again(names ...string) {
	s.t.Helper()
	for _, name := range names {
		s.must("rm", "--force", name)
		s.run(services[slices.IndexFunc(services, func(c engine.Container) bool { return c.Name == name })])
	}
}

// work lets the services work for a while, at least until every request was asked
// twice and the builder has built a package twice, from now on.
func (s *works) work(least time.Duration) {
	s.t.Helper()
	begun := time.Now()
	since := begun.UTC().Format(time.RFC3339Nano)
	count := func(name, word string) int {
		out, err := s.docker("logs", "--since", since, name)
		if err != nil {
			s.t.Fatalf("logs of %s: %v\n%s", name, err, out)
		}
		return strings.Count(out, word)
	}
	end := begun.Add(max(3*patience, 2*least))
	for time.Since(begun) < least || count("load", "round") <= 2 || count("builder", "built") <= 1 {
		if time.Now().After(end) {
			s.tell()
			s.t.Fatalf("the services do not work: %d rounds, %d packages", count("load", "round"), count("builder", "built"))
		}
		time.Sleep(time.Second)
	}
}

// tell logs what the services said last.
func (s *works) tell() {
	s.t.Helper()
	for _, c := range services {
		out, err := s.docker("logs", "--tail", "15", c.Name)
		s.t.Logf("%s: %v\n%s", c.Name, err, out)
	}
	out, err := s.docker("ps", "--all")
	s.t.Logf("containers: %v\n%s", err, out)
}

// looked fails the test for what lay outside, of work that is all ordinary. What the
// kernel can't tell of is looked at, too: it would be blocked on another rung.
func (s *works) looked(mode string, since time.Time) {
	s.t.Helper()
	for _, c := range services {
		s.known(c.Name)
	}
	for _, v := range s.outside(since) {
		if v.Subject == "/usr/bin/true" || v.Subject == "/bin/true" || strings.HasPrefix(string(v.Group), "docker/") {
			continue // the mark of known
		}
		s.t.Errorf("%s: ×%d %s: %s %s", mode, v.Count, v.Group, v.Reaction, v.Sentence)
	}
}

// Services are learned while they work, are monitored, and then protected: none of
// what they do is blocked, though nothing of it is quite the same as before.
func TestOrdinaryWorkUnderProtect(t *testing.T) {
	needServices(t)
	while := max(*long, 25*time.Second) // in less, not all of them do all that they do
	s := open(t)
	var groups []string
	for _, c := range services {
		groups = append(groups, servicesGroup(c.Name))
	}
	s.work(while)
	s.again("web", "load", "node", "app")
	s.must("restart", "db", "cache", "java")
	s.work(while)

	s.mode(profile.Monitor, groups...)
	began := time.Now()
	s.again("app", "web")
	s.must("kill", "--signal", "HUP", "web")
	s.work(while)
	s.looked("monitored", began)
	// Somebody makes a backup by hand, and makes that normal.
	before := time.Now()
	backup := []string{"exec", "db", "pg_dump", "-U", "postgres", "--file", "/tmp/backup.sql", "shop"}
	s.must(backup...)
	s.known("db")
	for _, v := range s.outside(before) {
		s.does("watch", "permit", fmt.Sprint(v.ID), "--comment", "the backup")
	}

	s.mode(profile.Protect, groups...)
	began = time.Now()
	s.must(backup...)
	s.again("web", "builder")
	s.must("restart", "cache", "node")
	s.work(while)
	s.looked("protected", began)
	t.Logf("protected for %s", time.Since(began).Round(time.Second))
	if t.Failed() {
		s.tell()
	}
}
