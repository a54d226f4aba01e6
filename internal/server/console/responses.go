package console

import (
	"context"
	"net/http"
	"strings"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/response"
	"github.com/castellan-security/castellan/internal/server/respond"
	"github.com/castellan-security/castellan/internal/store"
)

// Responses does something about threats; *respond.Service satisfies it. It refuses
// what an identity may not do.
type Responses interface {
	Responses(ctx context.Context, who access.Identity, workload string) ([]respond.Response, error)
	Rules(ctx context.Context, who access.Identity) ([]respond.RuleLine, error)
	Runs(ctx context.Context, who access.Identity, q store.ResponseRunQuery) ([]store.ResponseRun, error)
}

// responsesData is what was done about threats, and by which rules.
type responsesData struct {
	List  []respond.Response // the newest first
	Rules []respond.RuleLine
	Runs  []store.ResponseRun
	Hosts map[string]string
}

func (c *Console) responseRoutes(seen func(access.Scope, string, view)) {
	if c.Responses != nil {
		seen(access.ReadResponse, "GET /responses", c.responses)
	}
}

func (c *Console) responses(w http.ResponseWriter, r *http.Request, v visit) (err error) {
	var d responsesData
	if d.List, err = c.Responses.Responses(r.Context(), v.who, ""); err != nil {
		return err
	}
	if d.Rules, err = c.Responses.Rules(r.Context(), v.who); err != nil {
		return err
	}
	if d.Runs, err = c.Responses.Runs(r.Context(), v.who, store.ResponseRunQuery{Limit: store.DefaultPage}); err != nil {
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
	return strings.Join(all, "; ")
}

func ruleDoes(r *respond.RuleLine) string {
	var all []string
	for _, a := range r.Do {
		all = append(all, a.String())
	}
	return strings.Join(all, ", ")
}
