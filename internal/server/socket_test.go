package server_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server"
)

func localClient(dir string) *http.Client {
	return &http.Client{Timeout: deadline, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", server.SocketPath(dir))
	}}}
}

func TestLocalSocketIsTheAdministrators(t *testing.T) {
	h := open(t, nil)
	info, err := os.Stat(server.SocketPath(h.dir))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("got mode %v, %v, want 600", info.Mode(), err)
	}
	c := localClient(h.dir)
	var who struct{ Identity access.Identity }
	ask(t, c, "http://castellan", "GET", "/api/v1/session", nil).into(t, &who)
	if !strings.HasPrefix(who.Identity.Actor, "local:") || who.Identity.Role != access.Administrator {
		t.Errorf("got %+v, want the local administrator", who.Identity)
	}
	a := ask(t, c, "http://castellan", "POST", "/api/v1/tokens", map[string]any{"name": "inviter", "scopes": []string{"agents:enrol"}})
	if a.status != http.StatusCreated {
		t.Errorf("make a token: got %d %s", a.status, a.body)
	}
	if a := ask(t, c, "http://castellan", "GET", "/metrics", nil); a.status != http.StatusOK {
		t.Errorf("metrics: got %d", a.status)
	}
	if a := ask(t, c, "http://castellan", "GET", "/", nil); a.status != http.StatusNotFound {
		t.Errorf("console: got %d, want none here", a.status)
	}
}

func TestStaleSocketIsReplacedOthersAreNot(t *testing.T) {
	mkdir := func(t *testing.T) string {
		dir, err := os.MkdirTemp("", "castellan")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		return dir
	}
	t.Run("a server that died", func(t *testing.T) {
		dir := mkdir(t)
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: server.SocketPath(dir)})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		l.Close()
		s := stopped(t, dir, "127.0.0.1:0")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		select {
		case <-s.Ready():
		case err := <-done:
			t.Fatalf("run: %v", err)
		case <-time.After(deadline):
			t.Fatal("the server does not start")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Run("a server that runs", func(t *testing.T) {
		dir := mkdir(t)
		l, err := net.Listen("unix", server.SocketPath(dir))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if err := stopped(t, dir, "127.0.0.1:0").Run(t.Context()); !fault.Is(err, fault.Conflict) {
			t.Errorf("got %v, want a conflict", err)
		}
	})
	t.Run("a file", func(t *testing.T) {
		dir := mkdir(t)
		if err := os.WriteFile(server.SocketPath(dir), []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := stopped(t, dir, "127.0.0.1:0").Run(t.Context()); !fault.Is(err, fault.Conflict) {
			t.Errorf("got %v, want a conflict", err)
		}
		if b, err := os.ReadFile(server.SocketPath(dir)); err != nil || string(b) != "precious" {
			t.Error("the file was removed")
		}
	})
	t.Run("a path too long", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
		err := stopped(t, dir, "127.0.0.1:0").Run(t.Context())
		if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Remedy(err), "--data-dir") {
			t.Errorf("got %v, want invalid with a remedy", err)
		}
	})
}
