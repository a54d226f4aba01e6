// Package engine starts a private Docker engine for tests: containerd and
// dockerd with their own data, sockets and bridge, beside whatever engine the
// machine runs, and removes every trace of it.
//
// It needs root and the programs of the package docker.io. No registry is
// asked: images are made on the spot (see Image). It is not for production
// code, which only ever talks to an engine that is there.
package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"github.com/castellan-security/castellan/internal/need"
)

const (
	// startWithin is how long a daemon may take until it answers; on a busy
	// machine with two cores half a minute has been seen.
	startWithin = 90 * time.Second
	// stopWithin is how long it may take to stop its containers and end.
	stopWithin = 30 * time.Second
)

// DockerdEnv names another dockerd than the machine's to test with, such as one
// of a later version. The file is called dockerd.
const DockerdEnv = "CASTELLAN_TEST_DOCKERD"

// SnapshotsEnv has containerd keep the images of all engines, as those from 29 on do.
const SnapshotsEnv = "CASTELLAN_TEST_SNAPSHOTS"

// Options say what an engine needs. The zero value is an engine whose
// containers have no network.
type Options struct {
	// Bridge gives containers a bridge of their own with a private network, and
	// no way out of it: no forwarding, no masquerading, no firewall rules. Of an
	// engine that is Apart it is the one that Docker makes by itself.
	Bridge bool
	// Apart puts the engine into a network namespace of its own, where it makes
	// networks, firewall rules and published ports as on a machine that is all
	// its own, and from where nothing leads out. Commands that want to reach a
	// published port run by Inside.
	Apart bool
	// Settings are the engine's, as daemon.json has them; nil for none.
	Settings map[string]any
	// Snapshots makes containerd keep the images, as engines do since Docker 29
	// unless they have older data; else it is the driver overlay2.
	Snapshots bool
}

// Engine is a private engine. Its methods are not for concurrent use, except
// for those that only talk to a running one: Run, Exec, Remove and the like.
type Engine struct {
	// Client talks to the engine; it survives Stop and Start.
	Client *client.Client

	dir        string
	apart      bool
	snapshots  bool
	lock       *os.File // held while the engine is in use
	bridged    bool     // containers are on a bridge unless they say otherwise
	bridge     string   // its name where it is ours
	containerd *process
	dockerd    *process
}

// ForTest starts an engine that is removed at the end of the test, which is
// skipped when the machine lacks what that needs. The logs of a failed test's
// engine are shown.
func ForTest(t testing.TB, o Options) *Engine {
	t.Helper()
	need.Docker(t)
	e, err := New(t.Context(), o)
	if err != nil {
		t.Fatalf("start private engine: %v", err)
	}
	t.Cleanup(func() {
		logs := e.Logs()
		if err := e.Close(); err != nil {
			t.Errorf("remove private engine: %v", err)
		}
		if t.Failed() {
			t.Logf("logs of the private engine:\n%s", logs)
		}
	})
	return e
}

// New starts an engine, which the caller closes. The daemons end with the
// caller's process, however that ends; what it could not remove then (mounts,
// containers, files) the next New removes.
func New(ctx context.Context, o Options) (_ *Engine, err error) {
	if err := sweep(); err != nil {
		return nil, fmt.Errorf("remove remains of an engine: %w", err)
	}
	// Short, because the path of a socket has at most 107 bytes.
	dir, err := os.MkdirTemp("", prefix)
	if err != nil {
		return nil, fmt.Errorf("make folder of engine: %w", err)
	}
	e := &Engine{dir: dir, apart: o.Apart, bridged: o.Bridge, snapshots: o.Snapshots || os.Getenv(SnapshotsEnv) != ""}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("%w\n%s", err, e.Logs()), e.Close())
		}
	}()
	if e.lock, err = claim(dir); err != nil {
		return nil, err
	}
	if err := e.configure(o.Settings); err != nil {
		return nil, err
	}
	if o.Bridge && !o.Apart {
		e.bridge = bridgeName(dir)
		if err := addBridge(ctx, e.bridge); err != nil {
			return nil, err
		}
	}
	if e.Client, err = client.New(client.WithHost(e.Host())); err != nil {
		return nil, fmt.Errorf("make client of engine: %w", err)
	}
	if e.containerd, err = launch(e.path("containerd.log"), "containerd", "--log-level", "warn", "--config", e.path("containerd.toml")); err != nil {
		return nil, err
	}
	return e, e.Start(ctx)
}

// Host is where the engine listens, in the form of DOCKER_HOST. It stays the
// same over Stop and Start.
func (e *Engine) Host() string { return "unix://" + e.path("docker.sock") }

// PID is the process of a running engine: with one that is Apart, it is in the
// network namespace that is the host's to containers.
func (e *Engine) PID() int { return e.dockerd.cmd.Process.Pid }

// Inside returns the command as it must be run to be in the network namespace
// of a running engine that is Apart.
func (e *Engine) Inside(command ...string) []string {
	ns := fmt.Sprintf("--net=/proc/%d/ns/net", e.PID())
	return append([]string{"nsenter", ns, "--"}, command...)
}

func (e *Engine) path(name string) string { return filepath.Join(e.dir, name) }

// configure writes what the daemons read, so that nothing of the machine's own
// engine is.
func (e *Engine) configure(settings map[string]any) error {
	toml := fmt.Sprintf(`version = 2
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = %q
`, e.path("containerd"), e.path("run"), e.path("containerd.sock"))
	if err := os.WriteFile(e.path("containerd.toml"), []byte(toml), 0o600); err != nil {
		return fmt.Errorf("configure containerd: %w", err)
	}
	settings = maps.Clone(settings)
	if settings == nil {
		settings = map[string]any{}
	}
	features := map[string]bool{}
	if e.snapshots {
		features["containerd-snapshotter"] = true
	}
	if os.Getenv(DockerdEnv) != "" {
		// Engines from 29 on ask for a time namespace, which Debian's runc has no word for.
		features["time-namespaces"] = false
	}
	if len(features) > 0 {
		settings["features"] = features
	}
	daemon, err := json.Marshal(settings)
	if err == nil {
		err = os.WriteFile(e.path("daemon.json"), daemon, 0o600)
	}
	if err != nil {
		return fmt.Errorf("configure dockerd: %w", err)
	}
	return nil
}

// Start starts the engine after Stop or Kill and waits until it answers.
func (e *Engine) Start(ctx context.Context) error {
	if e.dockerd != nil {
		return errors.New("the engine runs already")
	}
	args := []string{
		"--config-file", e.path("daemon.json"),
		"--host", e.Host(),
		"--data-root", e.path("data"),
		"--exec-root", e.path("exec"),
		"--pidfile", e.path("docker.pid"),
		"--containerd", e.path("containerd.sock"),
		"--log-level", "warn",
	}
	if !e.snapshots {
		args = append(args, "--storage-driver", "overlay2")
	}
	if !e.apart {
		args = append(args, "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false", "--userland-proxy=false")
	}
	switch {
	case e.bridge != "":
		args = append(args, "--bridge", e.bridge)
	case !e.bridged:
		args = append(args, "--bridge", "none")
	}
	program := cmp.Or(os.Getenv(DockerdEnv), "dockerd")
	if e.apart { // both programs become the next, so the process is dockerd in the end
		program, args = "unshare", append([]string{"--net", "sh", "-c", `ip link set lo up && exec "$0" "$@"`, program}, args...)
	}
	p, err := launch(e.path("dockerd.log"), program, args...)
	if err != nil {
		return err
	}
	e.dockerd = p
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	return e.answers(ctx)
}

// answers waits until the engine answers, ends, or ctx does.
func (e *Engine) answers(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := e.Client.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true})
		if err == nil {
			return nil
		}
		select {
		case <-e.dockerd.ended:
			return fmt.Errorf("dockerd ended before it answered: %w", e.dockerd.err)
		case <-ctx.Done():
			return fmt.Errorf("wait for dockerd: %w (last answer: %w)", ctx.Err(), err)
		case <-tick.C:
		}
	}
}

// Stop ends the engine as an administrator does; its containers stop with it.
func (e *Engine) Stop() error {
	p := e.dockerd
	e.dockerd = nil
	return p.stop(stopWithin)
}

// Kill ends the engine as a crash does: containers run on, clients lose their
// connections.
func (e *Engine) Kill() error {
	p := e.dockerd
	e.dockerd = nil
	if err := p.kill(); err != nil {
		return err
	}
	// A dead engine's pid file keeps the next one from starting when its number
	// is used again.
	return os.Remove(e.path("docker.pid"))
}

// Logs returns the end of what the daemons wrote of trouble.
func (e *Engine) Logs() string {
	return "dockerd:\n" + tail(e.path("dockerd.log")) + "containerd:\n" + tail(e.path("containerd.log"))
}

// Close removes the engine with all its containers, mounts and files. It works
// on whatever there is and may be called more than once.
func (e *Engine) Close() error {
	var errs []error
	if e.dockerd != nil {
		ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
		errs = append(errs, e.removeAll(ctx))
		cancel()
		errs = append(errs, e.Stop())
	}
	if e.containerd != nil {
		errs = append(errs, e.containerd.stop(stopWithin))
		e.containerd = nil
	}
	errs = append(errs, killProcesses(e.dir), unmountBelow(e.dir), removeBridge(bridgeName(e.dir)))
	if e.Client != nil {
		errs = append(errs, e.Client.Close())
	}
	errs = append(errs, os.RemoveAll(e.dir))
	if e.lock != nil {
		errs = append(errs, e.lock.Close())
		e.lock = nil
	}
	return errors.Join(errs...)
}
