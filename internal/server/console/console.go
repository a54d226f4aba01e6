// Package console is what a person sees in a browser: pages made on the server,
// a little script for what moves, and nothing from anywhere else.
//
// It shows what the store and the live tables say and hands every change to
// account.Service, which decides whether it is permitted. It is not for the
// API, for sessions (the server puts the identity into the request's context),
// nor for deciding anything about a container.
package console

import (
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/castellan-security/castellan/internal/access"
)

//go:generate go tool templ generate

// Deps is what the console needs. Store, Account, Tables, Feed, Conditions and
// Images must be set.
type Deps struct {
	Store      Store
	Account    Account
	Tables     Tables
	Feed       Feed
	Conditions Conditions
	Images     Scanning
	// Registries is nil where none is watched; nothing is shown of them then.
	Registries Registries
	// Enrolment is nil where no agent can join; nothing is shown of it then.
	Enrolment Enrolment
	// Notify is nil where nobody is told of anything; there is no such page then.
	Notify Notify
	// Trust is nil where no image is verified; there are no such pages then.
	Trust Trust
	// Admission is nil where nothing that is deployed is decided on; there are no such
	// pages then.
	Admission Admission
	// Watch is nil where nobody looks how groups behave; there are no such pages then.
	Watch Watch
	// Incidents is nil where nothing is detected; there are no such pages then.
	Incidents Incidents
	// Detections is nil where no rules are kept, Responses where nothing is done about
	// threats; there are no such pages then.
	Detections Detections
	Responses  Responses
	// Fingerprint is that of the server's certificate authority, which an agent
	// that joins is told.
	Fingerprint string
	// Status translates an error to an HTTP status; nil means 500 for all.
	Status  func(error) int
	Version string           // shown at the foot of every page
	Clock   func() time.Time // nil means time.Now
	Log     *slog.Logger     // nil discards
}

// Console answers browsers. It is safe for concurrent use.
type Console struct {
	Deps
	assets *assets
	mux    http.Handler
	shows  shows
}

// New returns the console. It is to be mounted at "/", behind whatever puts
// the identity of the request's session into its context (account.With).
func New(d Deps) (*Console, error) {
	if d.Clock == nil {
		d.Clock = time.Now
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Status == nil {
		d.Status = func(error) int { return http.StatusInternalServerError }
	}
	files, err := loadAssets()
	if err != nil {
		return nil, fmt.Errorf("load the console's files: %w", err)
	}
	c := &Console{Deps: d, assets: files, shows: shows{all: map[string]*show{}}}
	c.mux = c.routes()
	return c, nil
}

// ServeHTTP answers one request; see routes for what there is.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	guardHeaders(w.Header())
	c.mux.ServeHTTP(w, r)
}

func (c *Console) routes() http.Handler {
	m := http.NewServeMux()
	m.Handle("GET "+staticPrefix, c.assets)
	m.HandleFunc("GET /favicon.ico", c.favicon)
	m.HandleFunc("GET /sign-in", c.signInPage)
	m.HandleFunc("POST /sign-in", c.signIn)

	seen := func(scope access.Scope, pattern string, h view) { m.HandleFunc(pattern, c.signedIn(scope, h)) }
	done := func(scope access.Scope, pattern string, h view) {
		m.HandleFunc(pattern, c.signedIn(scope, c.confirmed(h)))
	}

	seen(access.ReadWorkloads, "GET /{$}", c.overview)
	seen(access.ReadWorkloads, "GET /workloads", c.workloads)
	seen(access.ReadWorkloads, "GET /workloads/{id}", c.workload)
	seen(access.ReadWorkloads, "GET /workloads/{id}/live", c.workloadLive)
	seen(access.ReadEvents, "GET /workloads/{id}/{tab}", c.workloadTab)
	seen(access.ReadEvents, "GET /workloads/{id}/{tab}/live", c.tabLive)
	seen(access.ReadImages, "GET /images", c.images)
	seen(access.ReadImages, "GET /images/live", c.imagesLive)
	seen(access.ReadImages, "GET /images/{id}", c.image)
	seen(access.ReadImages, "GET /images/{id}/live", c.imageLive)
	seen(access.ReadImages, "GET /images/{id}/{tab}", c.imageTab)
	done(access.ManageImages, "POST /images/{id}/scan", c.rescan)
	seen(access.ReadImages, "GET /vulnerabilities", c.vulnerabilities)
	seen(access.ReadImages, "GET /vulnerabilities/live", c.vulnerabilitiesLive)
	seen(access.ReadImages, "GET /vulnerabilities/{id}", c.vulnerability)
	for _, k := range findingKinds() {
		seen(access.ReadImages, "GET "+k.path(), c.findingLines(k))
		seen(access.ReadImages, "GET "+k.path()+"/live", c.findingsLive(k))
		seen(access.ReadImages, "GET "+k.path()+"/{key}", c.finding(k))
	}
	seen(access.ReadImages, "GET /owners", c.owners)
	done(access.ManageImages, "POST /owners", c.setOwner)
	done(access.ManageImages, "POST /owners/remove", c.removeOwner)
	c.registryRoutes(seen, done)
	c.trustRoutes(seen)
	c.admissionRoutes(seen, done)
	c.watchRoutes(seen, done)
	c.incidentRoutes(seen, done)
	c.detectionRoutes(seen, done)
	c.responseRoutes(seen, done)
	seen(access.ReadImages, "GET /acceptances", c.acceptances)
	done(access.ManageImages, "POST /acceptances", c.accept)
	done(access.ManageImages, "POST /acceptances/{id}/end", c.endAcceptance)
	seen(access.ReadEvents, "GET /network", c.network)
	seen(access.ReadEvents, "GET /events", c.events)
	seen(access.ReadEvents, "GET /events/live", c.eventsLive)
	seen(access.ReadEvents, "GET /events/{id}", c.event)
	seen(access.ReadAgents, "GET /agents", c.agents)
	seen(access.ReadAgents, "GET /agents/{id}", c.agent)
	done(access.EnrolAgents, "POST /agents", c.invite)
	done(access.EnrolAgents, "POST /agents/{id}/revoke", c.revokeAgent)
	seen(access.ReadNotify, "GET /notify", c.notify)
	done(access.ManageNotify, "POST /notify", c.addTarget)
	done(access.ManageNotify, "POST /notify/preview", c.previewTarget)
	done(access.ManageNotify, "POST /notify/dead/retry", c.retryDead)
	done(access.ManageNotify, "POST /notify/dead/drop", c.dropDead)
	done(access.ManageNotify, "POST /notify/{id}/edit", c.editTarget)
	done(access.ManageNotify, "POST /notify/{id}/test", c.testTarget)
	done(access.ManageNotify, "POST /notify/{id}/remove", c.removeTarget)
	seen(access.ManageUsers, "GET /users", c.users)
	done(access.ManageUsers, "POST /users", c.createUser)
	done(access.ManageUsers, "POST /users/{id}/{change}", c.changeUser)
	seen(access.ReadAudit, "GET /audit", c.audit)
	seen("", "GET /tokens", c.tokens)
	done("", "POST /tokens", c.createToken)
	done("", "POST /tokens/{id}/revoke", c.revokeToken)
	seen("", "GET /account", c.account)
	seen("", "GET "+passwordPath, c.passwordPage)
	done("", "POST "+passwordPath, c.changePassword)
	done("", "POST /account/sign-out-everywhere", c.signOutEverywhere)
	done("", "POST "+signOutPath, c.signOut)
	m.HandleFunc("/", c.signedIn("", c.nowhere))
	return http.NewCrossOriginProtection().Handler(m)
}

// registryRoutes adds the pages of registries.
func (c *Console) registryRoutes(seen, done func(access.Scope, string, view)) {
	seen(access.ReadImages, "GET /registries", c.registries)
	seen(access.ReadImages, "GET /registries/live", c.registriesLive)
	done(access.ManageRegistries, "POST /registries", c.createRegistry)
	seen(access.ReadImages, "GET /registries/{name}", c.registry)
	seen(access.ReadImages, "GET /registries/{name}/live", c.registryLive)
	done(access.ReadImages, "POST /registries/{name}/{change}", c.changeRegistry)
}

// trustRoutes adds the pages of who has signed images, and who must have.
func (c *Console) trustRoutes(seen func(access.Scope, string, view)) {
	seen(access.ReadImages, "GET /trust", c.trust)
	seen(access.ReadImages, "GET /trust/live", c.trustLive)
	if c.Trust != nil {
		c.bookRoutes(c.trustBook(), seen)
	}
}

// admissionRoutes adds the pages of what may be deployed.
func (c *Console) admissionRoutes(seen, done func(access.Scope, string, view)) {
	if c.Admission == nil {
		return
	}
	seen(access.ReadAdmission, "GET /admission", c.admission)
	seen(access.ReadAdmission, "GET /admission/live", c.admissionLive)
	seen(access.ReadAdmission, "GET /admission/verdicts/{id}", c.verdict)
	c.bookRoutes(c.admissionBook(), seen)
	seen(access.ReadAdmission, "GET /admission/exceptions", c.exceptions)
	seen(access.ReadAdmission, "GET /admission/exceptions/live", c.exceptionsLive)
	seen(access.ManageAdmission, "GET /admission/exceptions/new", c.newException)
	done(access.ManageAdmission, "POST /admission/exceptions", c.makeException)
	done(access.ManageAdmission, "POST /admission/exceptions/{id}/withdraw", c.withdrawException)
}

// guardHeaders sets what keeps a browser from doing anything with a page but
// showing it: no script, style, frame or connection that is not ours, and no
// inline ones, so that text from a container can never become one.
func guardHeaders(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
}
