package link_test

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/db"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/store"
)

const (
	// killForEnv is how long processes are killed.
	killForEnv   = "CASTELLAN_KILL_FOR"
	killFor      = time.Minute
	killForShort = 10 * time.Second
	// A process lives for a time in between: from not yet ready to well at work.
	shortestLife = 50 * time.Millisecond
	longestLife  = 2500 * time.Millisecond
	// patience is how long what is left may take to arrive when nobody is killed
	// any more.
	patience = 5 * time.Minute
)

// chaos is the two processes and their folders.
type chaos struct {
	t         *testing.T
	castellan string // the command
	serverDir string
	agentDir  string
	address   string
	starts    int // of the agent

	server, agent *exec.Cmd
}

// TestKill kills either side at random and compares what was sensed with what
// is stored.
func TestKill(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	c := begin(t)
	kills := map[string]int{}
	c.startAgent(true)
	for end := time.Now().Add(duration(t)); time.Now().Before(end); {
		c.pass(shortestLife + time.Duration(rnd.Int64N(int64(longestLife-shortestLife))))
		victim := []string{"agent", "server", "both"}[rnd.IntN(3)]
		kills[victim]++
		if victim != "server" {
			c.kill(c.agent)
		}
		if victim != "agent" {
			c.kill(c.server)
			c.startServer()
		}
		if victim != "server" {
			c.startAgent(true)
		}
	}
	c.kill(c.agent)
	c.startAgent(false)
	c.arrive()
	c.stop(c.agent)
	c.stop(c.server)
	t.Logf("killed: %v; %d starts of the agent", kills, c.starts)
	c.compare()
}

func duration(t *testing.T) time.Duration {
	t.Helper()
	if s := os.Getenv(killForEnv); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil {
			t.Fatalf("%s: %v", killForEnv, err)
		}
		return d
	}
	if testing.Short() {
		return killForShort
	}
	return killFor
}

// begin makes the folders, starts the server and lets the agent join.
func begin(t *testing.T) *chaos {
	t.Helper()
	c := &chaos{t: t, castellan: build(t), serverDir: shortDir(t), agentDir: t.TempDir()}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.address = l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	c.startServer()
	c.join()
	return c
}

func (c *chaos) startServer() {
	c.t.Helper()
	log, err := os.OpenFile(filepath.Join(c.serverDir, serverLog), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	defer log.Close()
	c.server = c.start(exec.Command(c.castellan, "server", "--data-dir", c.serverDir, "--listen", c.address), log)
}

func (c *chaos) startAgent(senses bool) {
	c.starts++
	n := 0
	if senses {
		n = c.starts
	}
	self, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), dirEnv+"="+c.agentDir, fmt.Sprintf("%s=%d", startEnv, n))
	c.agent = c.start(cmd, c.t.Output())
}

func (c *chaos) start(cmd *exec.Cmd, log io.Writer) *exec.Cmd {
	c.t.Helper()
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = cmd.Process.Kill() }) // as a rule it has ended
	return cmd
}

// kill ends a process with SIGKILL. That it had ended by itself is a failure.
func (c *chaos) kill(cmd *exec.Cmd) {
	c.t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		c.t.Errorf("kill: %v", err)
	}
	_ = cmd.Wait() // the state says more than the error
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || ws.Signal() != syscall.SIGKILL {
		c.t.Errorf("a process ended by itself: %v", cmd.ProcessState)
	}
}

func (c *chaos) stop(cmd *exec.Cmd) {
	c.t.Helper()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		c.t.Errorf("stop: %v", err)
	}
	if err := cmd.Wait(); err != nil {
		c.t.Errorf("stop: %v", err)
	}
}

// pass lets time pass.
func (c *chaos) pass(d time.Duration) {
	c.t.Helper()
	select {
	case <-time.After(d):
	case <-c.t.Context().Done():
		c.t.Fatal("the test was stopped")
	}
}

// until waits for something.
func (c *chaos) until(what string, there func() bool) {
	c.t.Helper()
	const look = 50 * time.Millisecond
	for end := time.Now().Add(patience); !there(); c.pass(look) {
		if time.Now().After(end) {
			c.t.Fatalf("waited %s for %s", patience, what)
		}
	}
}

// arrive waits until the agent has nothing left to hand over.
func (c *chaos) arrive() {
	c.t.Helper()
	c.until("the spool to be empty", func() bool {
		left := 0
		err := filepath.WalkDir(filepath.Join(c.agentDir, "spool"), func(p string, _ fs.DirEntry, err error) error {
			if strings.HasSuffix(p, ".seg") {
				left++
			}
			if os.IsNotExist(err) {
				return nil // acknowledged while we look
			}
			return err
		})
		if err != nil {
			c.t.Fatal(err)
		}
		return left == 0
	})
}

// sensed is what is known of one start of the agent.
type sensed struct {
	start int
	last  uint64 // newest event that the spool holds for certain
}

// sensed returns what the agent noted, by boot.
func (c *chaos) sensed() map[string]sensed {
	c.t.Helper()
	f, err := os.Open(filepath.Join(c.agentDir, acceptedNotes))
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close()
	boots := map[string]sensed{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var start int
		var boot string
		var first, last uint64
		if _, err := fmt.Sscan(lines.Text(), &start, &boot, &first, &last); err != nil {
			c.t.Fatalf("note %q: %v", lines.Text(), err)
		}
		if old := boots[boot]; first != old.last+1 || old.start != 0 && old.start != start {
			c.t.Fatalf("note %q after %+v", lines.Text(), old)
		}
		boots[boot] = sensed{start, last}
	}
	return boots
}

// stored returns every event of the store, oldest first.
func (c *chaos) stored() (all []event.Event) {
	c.t.Helper()
	st, err := db.Open(c.t.Context(), db.Options{Path: filepath.Join(c.serverDir, "castellan.db")}, slog.New(slog.DiscardHandler))
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() {
		if err := st.Close(); err != nil {
			c.t.Error(err)
		}
	}()
	for q := (store.EventQuery{Limit: store.MaxPage}); ; {
		page, err := st.Events(c.t.Context(), q)
		if err != nil {
			c.t.Fatal(err)
		}
		all = append(all, page.Events...)
		if q.Before = page.Next; page.Next == 0 {
			slices.Reverse(all)
			return all
		}
	}
}

func (c *chaos) compare() {
	c.t.Helper()
	if b, err := os.ReadFile(filepath.Join(c.agentDir, agentLosses)); err == nil {
		c.t.Errorf("the agent counted losses:\n%s", b)
	}
	said, err := os.ReadFile(filepath.Join(c.serverDir, serverLog))
	if err != nil {
		c.t.Fatal(err)
	}
	if strings.Contains(string(said), "left out of a report") {
		c.t.Errorf("the server left something out:\n%s", said)
	}
	known := c.sensed()
	newest := map[string]uint64{}
	all := c.stored()
	for i := range all {
		e := &all[i]
		// A start that was killed before its first note is known by its events.
		k, ok := known[e.Boot]
		if !ok {
			k = sensed{start: startOf(e)}
		}
		known[e.Boot] = k
		// In order, none twice, none left out. Of the batch that was being handed
		// over when the agent was killed, its series of files may hold different
		// parts: a write that is killed ends between two pages.
		last := newest[e.Boot]
		if e.Seq <= last || e.Seq > last+1 && last < k.last {
			c.t.Errorf("boot %s (%d sensed): event %d stored after %d", e.Boot, k.last, e.Seq, last)
		}
		newest[e.Boot] = e.Seq
		if k.start != 0 && !same(e, k.start) || e.Seq > k.last+batchSize {
			c.t.Fatalf("an event that nobody sensed in start %d (up to %d): %+v", k.start, k.last, e)
		}
	}
	var sum uint64
	for boot, k := range known {
		if sum += k.last; newest[boot] < k.last {
			c.t.Errorf("boot %s (start %d): %d sensed, stored up to %d", boot, k.start, k.last, newest[boot])
		}
	}
	c.t.Logf("%d events sensed for certain in %d starts, %d stored", sum, len(known), len(all))
	if sum == 0 {
		c.t.Error("nothing was sensed: the test says nothing")
	}
}

// startOf returns the start that an event says it is of.
func startOf(e *event.Event) (start int) {
	if e.Exit != nil {
		return e.Exit.Code
	}
	if e.Exec != nil && len(e.Exec.Args) > 1 {
		_, _ = fmt.Sscan(e.Exec.Args[1], &start)
	}
	return start
}
