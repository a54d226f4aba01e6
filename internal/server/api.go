package server

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/account"
)

// apiPrefix is where the API of this version is. Within a version fields and
// routes are only added.
const apiPrefix = "/api/v1"

// Names of the ways to say who one is, as the OpenAPI document has them.
const (
	byToken   = "token"
	bySession = "session"
)

// api is the user's API while it is being put together.
type api struct {
	*Server
	huma huma.API
}

// newAPI returns the handler of everything below apiPrefix.
func (s *Server) newAPI() http.Handler {
	mux := http.NewServeMux()
	a := &api{Server: s, huma: humago.New(mux, apiConfig(s.cfg.Version))}
	a.statusRoutes()
	a.workloadRoutes()
	a.eventRoutes()
	a.streamRoute()
	a.flowRoutes()
	a.sampleRoutes()
	a.imageRoutes()
	a.findingRoutes()
	a.registryRoutes()
	a.notifyRoutes()
	a.trustRoutes()
	a.admitRoutes()
	a.behaviourRoutes()
	a.respondRoutes()
	a.incidentRoutes()
	a.respondRuleRoutes()
	a.respondSnapshotRoutes()
	a.detectRoutes()
	a.trailRoutes()
	a.agentRoutes()
	a.enrolRoutes()
	a.sessionRoutes()
	a.userRoutes()
	a.tokenRoutes()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		err := fault.New(fault.NotFound, "there is no %s %s", r.Method, r.URL.Path).
			With("the API is described in " + apiPrefix + "/openapi.json")
		writeProblem(w, r, err, s.log)
	})
	return mux
}

func apiConfig(version string) huma.Config {
	c := huma.DefaultConfig("Castellan", version)
	c.Info.Description = "What Castellan sees of containers on Amazon ECS and plain Docker, and who may use it. " +
		"Errors are problem documents (RFC 9457) with a remedy where one is known."
	c.Info.License = &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"}
	c.OpenAPIPath = apiPrefix + "/openapi"
	c.DocsPath = ""    // its page would load scripts from elsewhere
	c.SchemasPath = "" // the document has them all
	c.CreateHooks = nil
	c.RejectUnknownQueryParameters = true // a filter that is ignored shows what it should hide
	c.Transformers = append(c.Transformers, humaProblem)
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		byToken: {Type: "http", Scheme: "bearer", Description: "An API token (cst_…). It carries scopes."},
		bySession: {Type: "apiKey", In: "cookie", Name: account.CookieName,
			Description: "The session that POST /api/v1/session starts. Changes repeat its CSRF token in the header " + csrfHeader + "."},
	}
	c.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaName)
	// Capabilities are a number in memory and a list of names on the wire.
	c.Components.Schemas.RegisterTypeAlias(reflect.TypeFor[event.Capabilities](), reflect.TypeFor[[]string]())
	return c
}

// route is what one operation of the API says of itself.
type route struct {
	method, path, id string
	summary          string
	about            string
	tag              string
	scope            access.Scope // "": any identity will do
	open             bool         // no identity is needed
	status           int          // of success; 0 is 200
	most             int64        // bytes of the body; 0 is maxBody
}

// ask is who asks and what for: the arguments of every handler.
type ask[I any] struct {
	ctx   context.Context
	who   access.Identity
	csrf  string
	input *I
}

// handle adds an operation. Permission comes first, before anything of the
// request is read; errors go through problem.
func handle[I, O any](a *api, r route, h func(ask[I]) (*O, error)) {
	op := a.operation(r)
	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*O, error) {
		who, csrf, _ := account.From(ctx)
		if who.Address == "" {
			who.Address = "local"
		}
		out, err := h(ask[I]{ctx: ctx, who: who, csrf: csrf, input: in})
		if err != nil {
			return nil, problem(err, a.log)
		}
		return out, nil
	})
}

func (a *api) operation(r route) huma.Operation {
	op := huma.Operation{
		OperationID: r.id, Method: r.method, Path: apiPrefix + r.path,
		Summary: r.summary, Description: r.about, Tags: []string{r.tag}, DefaultStatus: r.status,
		MaxBodyBytes: cmp.Or(r.most, maxBody), Security: security(r),
		Responses: map[string]*huma.Response{"default": {
			Description: "What went wrong, and what to do about it",
			Content:     map[string]*huma.MediaType{problemType: {Schema: a.problemSchema()}},
		}},
	}
	if !r.open {
		op.Middlewares = huma.Middlewares{a.permitted(r.scope)}
	}
	return op
}

func (a *api) problemSchema() *huma.Schema {
	return a.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[Problem](), true, "Problem")
}

// security declares the scope for each of the two ways in.
func security(r route) []map[string][]string {
	if r.open {
		return []map[string][]string{}
	}
	scopes := []string{}
	if r.scope != "" {
		scopes = append(scopes, string(r.scope))
	}
	return []map[string][]string{{byToken: scopes}, {bySession: scopes}}
}

func (a *api) permitted(scope access.Scope) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		if err := permit(ctx.Context(), scope); err != nil {
			r, w := humago.Unwrap(ctx)
			writeProblem(w, r, err, a.log)
			return
		}
		next(ctx)
	}
}

// body is an answer with nothing but a body.
type body[T any] struct{ Body T }

// empty is an input or an answer with nothing in it.
type empty struct{}

// Asked keeps the parameters as they came, for the one reader that the console
// and the command line use too. Huma checks them before by their types. It is
// exported because huma looks only at exported fields.
type Asked struct{ values url.Values }

// Resolve is huma.Resolver.
func (p *Asked) Resolve(ctx huma.Context) []error {
	u := ctx.URL()
	p.values = u.Query()
	return nil
}
