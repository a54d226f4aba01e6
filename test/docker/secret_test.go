package docker_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/db"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/scan"
	"github.com/castellan-security/castellan/internal/server"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/test/docker/engine"
)

// planted are secrets that are made when the test runs: a token in a file and a
// password in a variable.
func planted(i *engine.Image) (token, password string) {
	const ofToken = 36
	for len(token) < ofToken {
		token += rand.Text()
	}
	token, password = "ghp_"+token[:ofToken], rand.Text()
	i.Files = append(i.Files, engine.File{Path: "/srv/app/deploy.sh", Mode: 0o755, Body: []byte("#!/bin/sh\nexport GITHUB_TOKEN=" + token + "\n")})
	i.Env = append(i.Env, "DB_PASSWORD="+password)
	return token, password
}

// wantSecretsShown has a real server ask for a scan of the image, as an agent that
// runs the workload, and looks at what it shows of the secrets in it.
func wantSecretsShown(t *testing.T, s scanner, w asset.Workload, values ...string) {
	t.Helper()
	dir := t.TempDir()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	st, err := db.Open(t.Context(), db.Options{Path: filepath.Join(dir, "castellan.db"), ProcessCrashOnly: true}, log)
	if err != nil {
		t.Fatal(err)
	}
	srv, err := server.New(server.Config{DataDir: dir, Listen: "127.0.0.1:0", Salt: link.Salt(rand.Text())}, st, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- srv.Run(ctx) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	}()
	<-srv.Ready()
	w.AgentID = "AGENTOFTHETEST"
	abilities := []string{link.AbilityScan, link.AbilityAnalysis + strconv.Itoa(scan.Analysis)}
	if _, err := srv.Intake().Report(ctx, link.Report{
		Agent: asset.Agent{ID: w.AgentID, Boot: "BOOTBOOT", Hostname: "here", Abilities: abilities}, Workloads: []asset.Workload{w},
	}); err != nil {
		t.Fatal(err)
	}
	wishes := make(chan link.ScanWish, 1)
	listening := make(chan error)
	go func() {
		listening <- srv.Intake().Directives(ctx, link.Caller{AgentID: w.AgentID}, func(d link.Directive) {
			if d.Scan != nil {
				wishes <- *d.Scan
			}
		})
	}()
	defer func() { stop(); <-listening }()
	wish := <-wishes
	answer := link.Scanned{AgentID: w.AgentID, Job: wish.Job, ImageID: wish.ImageID}
	if answer.Inventory, err = s.ScanImage(ctx, wish); err != nil {
		t.Fatal(err)
	}
	if err := srv.Intake().Inventory(ctx, answer); err != nil {
		t.Fatal(err)
	}
	shown, body := secretsOf(t, server.SocketPath(dir))
	for _, rule := range []string{"/srv/app/deploy.sh", "DB_PASSWORD"} {
		i := slices.IndexFunc(shown, func(l store.FindingLine) bool { return l.Secret.Path == rule || l.Secret.Name == rule })
		if i < 0 || shown[i].Workloads != 1 || shown[i].In[0].ID != w.Image.ID {
			t.Errorf("%s is not among the secrets of what runs: %s", rule, body)
		}
	}
	for _, v := range values {
		if strings.Contains(body, v) {
			t.Errorf("the value %s is shown: %s", v, body)
		}
	}
}

// secretsOf asks a server until it shows secrets.
func secretsOf(t *testing.T, socket string) ([]store.FindingLine, string) {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	defer c.CloseIdleConnections()
	for late := time.After(patience); ; {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://server/api/v1/secrets", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		var page struct{ Findings []store.FindingLine }
		if err != nil || resp.StatusCode != http.StatusOK || json.Unmarshal(body, &page) != nil {
			t.Fatalf("got %s, %v: %s", resp.Status, err, body)
		}
		if len(page.Findings) > 0 {
			return page.Findings, string(body)
		}
		select {
		case <-late:
			t.Fatalf("no secrets after %s: %s", patience, body)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
