package main_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/adapter/db"
	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/server"
	"github.com/castellan-security/castellan/internal/server/account"
	"github.com/castellan-security/castellan/internal/store"
)

const privilegedRefused = `version: 1
mode: enforce
rules:
  - use: privileged
`

// house is a real server with a policy, and a token that may decide alone.
func house(t *testing.T, policy string) (s *server.Server, root access.Identity, token string) {
	t.Helper()
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	st, err := db.Open(t.Context(), db.Options{Path: filepath.Join(dir, "c.db"), ProcessCrashOnly: true}, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	s, err = server.New(server.Config{
		DataDir: dir, Listen: "127.0.0.1:0", Version: "test", Accounts: account.Options{Hashing: account.Hashing{Memory: 64, Time: 1, Threads: 1}},
	}, st, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	<-s.Ready()
	root = access.Identity{Actor: "local:0", Name: "root", Role: access.Administrator, Scopes: access.Administrator.Scopes()}
	if _, err := s.Gate().SetPolicy(t.Context(), root, policy, "", 0); err != nil {
		t.Fatal(err)
	}
	_, token, err = s.Accounts().CreateToken(t.Context(), root, account.NewToken{Name: "door", Scopes: []access.Scope{access.DecideAdmission}})
	if err != nil {
		t.Fatal(err)
	}
	return s, root, token
}

// TestFunctionAndServer goes the whole way of a deployment: ECS's hook calls the
// function, which asks a real server by the token of its secret, and the server
// keeps the verdict.
func TestFunctionAndServer(t *testing.T) {
	s, root, token := house(t, privilegedRefused)
	for _, tt := range []struct {
		name       string
		privileged bool
		want       string
		outcome    admission.Outcome
	}{
		{"privileged", true, `response {"hookStatus":"FAILED"}`, admission.Deny},
		{"not privileged", false, `response {"hookStatus":"SUCCEEDED"}`, admission.Allow},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCloud(t)
			c.privileged, c.token = tt.privileged, token
			f := newFunction(c, "CASTELLAN_SERVER=https://"+s.Addr(), "CASTELLAN_CA_FINGERPRINT="+s.CAFingerprint(),
				"CASTELLAN_TOKEN_SECRET=arn:aws:secretsmanager:us-west-2:123456789012:secret:castellan-x")
			f.run(t, payload(t, "service/pre-scale-up"))
			if all := strings.Join(f.answers, "\n"); !strings.Contains(all, tt.want) {
				t.Fatalf("answer %s lacks %s\nlog: %s", all, tt.want, f.log)
			}
			kept, err := s.Gate().Verdicts(t.Context(), root, store.AdmissionQuery{Outcome: tt.outcome})
			if err != nil || len(kept) != 1 || kept[0].Door != admission.Service || kept[0].Place.Service != "my-service" {
				t.Errorf("the server keeps %+v, %v", kept, err)
			}
		})
	}
}
