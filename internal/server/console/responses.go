package console

import (
	"context"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/response"
	"github.com/castellan-security/castellan/internal/server/respond"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/written"
)

// Responses does something about threats; *respond.Service satisfies it. It refuses
// what an identity may not do.
type Responses interface {
	Deeds
	Snapshots
	ResponsePolicies
	Responses(ctx context.Context, who access.Identity, workload string) ([]respond.Response, error)
	Rules(ctx context.Context, who access.Identity) ([]respond.RuleLine, error)
	Runs(ctx context.Context, who access.Identity, q store.ResponseRunQuery) ([]store.ResponseRun, error)
}

// Deeds has deeds done that people ask for.
type Deeds interface {
	Ask(ctx context.Context, who access.Identity, q respond.Ask) (respond.Response, error)
	Response(ctx context.Context, who access.Identity, id string) (respond.Response, error)
	Wait(ctx context.Context, who access.Identity, id string) (respond.Response, error)
}

// Snapshots are the archives of containers that the server has.
type Snapshots interface {
	SnapshotList(ctx context.Context, who access.Identity) ([]respond.Snapshot, error)
	OpenSnapshot(ctx context.Context, who access.Identity, id string, first bool) (*os.File, respond.Snapshot, error)
}

// ResponsePolicies reads and changes what is done by itself.
type ResponsePolicies interface {
	Policy(ctx context.Context, who access.Identity, version int64) (store.ResponsePolicy, error)
	Policies(ctx context.Context, who access.Identity, before int64, limit int) ([]store.ResponsePolicy, error)
	Check(who access.Identity, text string) (written.Problems, error)
	ReplayPast(ctx context.Context, who access.Identity, text string, since time.Time) (respond.Replayed, written.Problems, error)
	SetPolicy(ctx context.Context, who access.Identity, text, comment string, after int64) (store.ResponsePolicy, error)
}

// responsesData is what was done about threats, and by which rules.
type responsesData struct {
	List  []respond.Response // the newest first
	Rules []respond.RuleLine
	Runs  []store.ResponseRun
	Hosts map[string]string
	// Rule is that of which Runs are; "" for all.
	Rule      string
	Snapshots []respond.Snapshot
	Manage    bool
}

// policyAddress is where response rules are read, or the first are written.
func policyAddress(d responsesData) string {
	if len(d.Rules) == 0 {
		return "/responses/policy/edit"
	}
	return "/responses/policy"
}

func (c *Console) responseRoutes(seen, done func(access.Scope, string, view)) {
	if c.Responses == nil {
		return
	}
	seen(access.ReadResponse, "GET /responses", c.responses)
	c.deedRoutes(seen, done)
	c.bookRoutes(c.responseBook(), seen)
}

func (c *Console) responses(w http.ResponseWriter, r *http.Request, v visit) (err error) {
	d := responsesData{Rule: r.URL.Query().Get("rule"), Manage: v.who.May(access.ManageResponse)}
	if d.List, err = c.Responses.Responses(r.Context(), v.who, ""); err != nil {
		return err
	}
	if d.Rules, err = c.Responses.Rules(r.Context(), v.who); err != nil {
		return err
	}
	if d.Runs, err = c.Responses.Runs(r.Context(), v.who, store.ResponseRunQuery{Rule: d.Rule, Limit: store.DefaultPage}); err != nil {
		return err
	}
	if d.Snapshots, err = c.Responses.SnapshotList(r.Context(), v.who); err != nil {
		return err
	}
	if d.Hosts, err = c.hostNames(r.Context()); err != nil {
		return err
	}
	return c.show(w, r, http.StatusOK, responsesBody(c.page(r, v, "incidents", "Responses"), d, c.detectTabs(v)))
}

// deedStateTone says how a response stands.
func deedStateTone(s response.State) tone {
	switch s {
	case response.Done:
		return good
	case response.Undone, response.Over:
		return calm
	case response.Failed, response.Refused:
		return danger
	}
	return warn
}

// deedSays is what came of a response, in sentences.
func deedSays(a *response.Answer) string {
	all := append([]string{}, a.Did...)
	all = append(all, a.Lacks...)
	if a.Error != "" {
		all = append(all, a.Error)
	}
	return capital(strings.Join(all, "; "))
}
