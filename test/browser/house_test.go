// Package browser looks at the console as a person does: in Chromium, served
// by a real server over a real store. Most of it needs no containers: what
// agents would report is the shop of consoletest. TestDemo looks at the demo
// itself, running on an engine of its own and watched by a real agent.
package browser

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/db"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/server"
	"github.com/castellan-security/castellan/internal/server/console/consoletest"
	"github.com/castellan-security/castellan/internal/store"
)

// newPassword is what a user chooses in the place of a password that was set.
const newPassword = "correct horse battery staple"

// house is a running server with the shop in it.
type house struct {
	*server.Server
	base     string // https://127.0.0.1:port
	password string // of admin
	shop     consoletest.Shop
	seq      uint64
	pid      uint32
}

// open starts a server with the shop in it; it ends with the test.
func open(t *testing.T) *house {
	t.Helper()
	shop := consoletest.New(time.Now())
	h := serve(t, func(st store.Store, advisories string) error {
		if err := shop.WriteAdvisories(t.Context(), advisories, time.Now()); err != nil {
			return err
		}
		if err := shop.Fill(t.Context(), st, advisories); err != nil {
			return err
		}
		return errors.Join(shop.FillRegistries(t.Context(), st, time.Now()), addTargets(t.Context(), st), shop.FillTrust(t.Context(), st, time.Now()), shop.FillAdmission(t.Context(), st, time.Now()), shop.FillBehaviour(t.Context(), st, time.Now()))
	})
	h.shop = shop
	h.move(t)
	h.hold(t)
	h.threaten(t)
	return h
}

// serve starts a server on a free port and a fresh folder that nobody has
// reported to, unless prepare does something with its store, and with the file
// for its advisories; it ends with the test.
func serve(t *testing.T, prepare ...func(st store.Store, advisories string) error) *house {
	t.Helper()
	dir := t.TempDir()
	advisories := filepath.Join(dir, "advisories.db")
	log := slog.New(slog.DiscardHandler)
	st, err := db.Open(t.Context(), db.Options{Path: filepath.Join(dir, "castellan.db"), ProcessCrashOnly: true}, log)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range prepare {
		if err := p(st, advisories); err != nil {
			t.Fatal(err)
		}
	}
	s, err := server.New(server.Config{DataDir: dir, Listen: "127.0.0.1:0", Advisories: advisories, Version: "0.1.0-test"}, st, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	h := &house{Server: s, pid: 90_000}
	if h.password, err = s.Accounts().Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.Ready():
	case err := <-done:
		done <- err
		t.Fatal(err)
	}
	h.base = "https://" + s.Addr()
	return h
}

// move brings the shop in, as its agents would report it.
func (h *house) move(t *testing.T) {
	t.Helper()
	for _, a := range h.shop.Agents {
		r := link.Report{Agent: a, Snapshot: true, Complete: true, Sent: time.Now().Add(a.Clock)}
		for _, w := range h.shop.Workloads {
			if w.AgentID == a.ID {
				r.Workloads = append(r.Workloads, w)
			}
		}
		if a.ID == consoletest.AgentID {
			r.Processes, r.Samples = h.shop.Running, h.shop.Samples
		}
		h.report(t, r)
	}
	for _, a := range h.shop.Agents { // all hosts are known before a connection is
		var events []event.Event
		for _, e := range h.shop.Events {
			if e.AgentID == a.ID {
				events = append(events, e)
			}
		}
		for part := range slices.Chunk(events, link.MaxEvents) {
			h.report(t, link.Report{Agent: a, Events: part, Sent: time.Now().Add(a.Clock)})
		}
	}
	h.seq = uint64(len(h.shop.Events))
}

func (h *house) report(t *testing.T, r link.Report) {
	t.Helper()
	if _, err := h.Intake().Report(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}

// sense reports that the storefront did something.
func (h *house) sense(t *testing.T, e event.Event) {
	t.Helper()
	h.seq++
	key := event.Key{PID: 4_011, Start: 4_011 * 1_000_003}
	e.Version, e.AgentID, e.Boot, e.Seq, e.Time, e.WorkloadID = event.Version, consoletest.AgentID, consoletest.Boot, h.seq, time.Now(), consoletest.Storefront
	e.Process = event.Process{Key: key, Name: "storefront", Executable: "/storefront", UID: 1000, EUID: 1000, GID: 1000}
	h.report(t, link.Report{Agent: h.shop.Agents[0], Events: []event.Event{e}})
}

// start lets a process start in the storefront and returns its pid.
func (h *house) start(t *testing.T, args ...string) uint32 {
	t.Helper()
	h.seq++
	h.pid++
	key := func(pid uint32) event.Key { return event.Key{PID: pid, Start: uint64(pid) * 1_000_003} }
	h.report(t, link.Report{Agent: h.shop.Agents[0], Events: []event.Event{{
		Version: event.Version, AgentID: consoletest.AgentID, Boot: consoletest.Boot, Seq: h.seq, Time: time.Now(),
		Kind: event.KindExec, WorkloadID: consoletest.Storefront,
		Process: event.Process{Key: key(h.pid), ContainerPID: 77, Parent: key(4_012), Name: "convert", Executable: args[0], UID: 1000, EUID: 1000, GID: 1000},
		Exec:    &event.Exec{Args: args, Origin: event.OriginImage},
	}}})
	return h.pid
}
