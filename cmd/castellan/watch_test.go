package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/castellan-security/castellan/internal/adapter/db"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
)

// behave stores that a container of shop/web/nginx ran programs, in the data of a
// server that does not run: behave PATH….
func behave(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: behave PATH…")
	}
	ctx, now := context.Background(), time.Now()
	st, err := db.Open(ctx, db.Options{Path: databasePath(ts.Getenv("CASTELLAN_DATA_DIR"))}, slog.New(slog.DiscardHandler))
	ts.Check(err)
	id := strings.Repeat("a1", 32)
	ts.Check(st.PutWorkloads(ctx, []asset.Workload{{
		ID: id, AgentID: "AGENTAAAAAAAA", Name: "web", Group: "shop/web/nginx", State: asset.Running, Created: now, Updated: now,
		Image: asset.Image{Reference: "nginx:1", ID: "sha256:1"},
	}}))
	var events []event.Event
	for i, path := range args {
		events = append(events, event.Event{
			AgentID: "AGENTAAAAAAAA", Boot: fmt.Sprint("BOOT", now.UnixNano()), Seq: uint64(i + 1), Time: now, Received: now, Kind: event.KindExec,
			WorkloadID: id, Group: "shop/web/nginx", Process: event.Process{Key: event.Key{PID: 5, Start: 5}, Name: "x", Executable: path},
			Exec: &event.Exec{Args: []string{path}, Origin: event.OriginImage, Ancestors: []event.Ancestor{{Name: "init", Executable: "/sbin/init"}}},
		})
	}
	ts.Check(st.AppendEvents(ctx, events))
	ts.Check(st.Close())
}
