// Package link is the port between an agent and its server: what one says to
// the other, whichever way it is carried.
//
// In one process the server's Intake is handed to the agent as it is; across
// machines Client and Handler carry the same calls over Connect (proto/linkv1).
// It is not for the user's API, which is HTTP and JSON and lives in
// internal/server.
package link

import (
	"context"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
)

// Limits of one report. They bound what one agent can make the server hold in
// memory; a larger report is refused as Invalid.
const (
	MaxEvents    = 2_000
	MaxWorkloads = 1_000
	MaxProcesses = 100_000
)

// Server is the agent's view of its server.
type Server interface {
	// Report hands over what is new. When it returns without an error, every
	// event of the report is stored: it survives a crash of either side. The
	// same report may be sent again after an error; events are recognised by
	// (agent id, boot, sequence number) and stored once.
	//
	// Errors carry a fault.Kind: Unavailable and Exhausted are worth another
	// try after a pause, all others are not.
	Report(ctx context.Context, r Report) (Receipt, error)
}

// Report is what an agent says at once: at least every few seconds, at once
// when there is something new.
type Report struct {
	Agent     asset.Agent
	Workloads []asset.Workload // changed since the last acknowledged report
	Events    []event.Event    // in order of Seq
	// Processes is the whole process table, when Snapshot is true: at the
	// agent's start and whenever the server asked for it.
	Processes []event.Running
	Snapshot  bool
	// Complete says that Workloads is everything the engine knows, so the
	// server may mark this agent's other live workloads as lost.
	Complete bool
}

// Receipt is the server's answer.
type Receipt struct {
	// WantSnapshot asks for Snapshot and Complete in the next report: the
	// server restarted, or this agent is new to it.
	WantSnapshot bool
}
