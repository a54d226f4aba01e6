package authz

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/pace"
)

// call is what the engine asks about, in the words of its protocol.
type call struct {
	User            string
	UserAuthNMethod string
	RequestMethod   string
	RequestURI      string
	RequestBody     []byte
	RequestHeaders  map[string]string

	found *inspection // the container that is to start, once the engine was asked
}

// header returns the value of a header; of several, the engine hands over the
// last.
func (c *call) header(name string) string {
	v, _ := c.has(name)
	return v
}

// has is header, and says whether there is one.
func (c *call) has(name string) (value string, ok bool) {
	for k, v := range c.RequestHeaders {
		if strings.EqualFold(k, name) {
			return strings.TrimSpace(v), true
		}
	}
	return "", false
}

// errPass says that there is nothing to decide: the call passes.
var errPass = errors.New("nothing to decide")

// authorize answers a call: whether it passes and, if not, why.
func (p *Plugin) authorize(ctx context.Context, c *call) (ok bool, why string) {
	a, r, what, err := p.recognise(c)
	if err != nil {
		return p.refuse(p.request(c, a, r, what), err)
	}
	if mayMove(r) {
		p.images.moved()
	}
	defer func() {
		if ok { // the engine does it once it is answered
			p.seen.began(c.RequestMethod, c.RequestURI, r, what)
		}
	}()
	if r.kind == harmless {
		return true, ""
	}
	ctx, cancel := context.WithTimeout(ctx, p.options.Limit)
	defer cancel()
	req := p.request(c, a, r, what)
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return p.declare(req, errors.New("too many calls wait for a verdict"))
	}
	if ok, why = p.decide(ctx, c, a, r, req); ok && r.kind == start && p.options.Starting != nil {
		p.begin(ctx, c, req)
	}
	return ok, why
}

// begin tells of a container that is about to start. Whether that went well changes
// nothing of the verdict.
func (p *Plugin) begin(ctx context.Context, c *call, req admission.Request) {
	err := p.contained(func() error {
		in := c.found
		if in == nil { // it passes though it could not be looked at
			again, err := p.there(ctx, req.Call.What)
			if err != nil {
				return err
			}
			in = &again
		}
		p.options.Starting(ctx, in.ID, strings.TrimPrefix(in.Name, "/"), in.Config.Labels)
		return nil
	})
	if err != nil {
		p.log.Error("a container starts that is not held to its profile before", "container", short(req.Call.What), "error", err)
	}
}

// recognise finds out what a call is, and refuses what nobody can be sure of.
func (p *Plugin) recognise(c *call) (a address, r route, what string, err error) {
	if a, err = parseAddress(c.RequestURI); err != nil {
		return a, r, "", err
	}
	r, what, ok := find(p.table, c.RequestMethod, a.path)
	switch {
	case !ok:
		return a, r, "", refused("if a newer engine has it, update castellan",
			"%s %s is no call that castellan knows", short(c.RequestMethod), short(a.path))
	case r.kind == harmless:
		return a, r, what, nil
	case r.kind == barred:
		return a, r, what, refused("run it with docker run or ECS",
			"%s: swarm starts containers that no plugin is asked about", r.name)
	}
	if err := a.single(); err != nil {
		return a, r, what, err
	}
	return a, r, what, p.checkBody(c, a, r)
}

// checkBody refuses a call whose body was not handed over although the engine
// will read it. The engine hands over no body of 1 MiB or more, none that is not
// application/json, and, before 27.1.1 (CVE-2024-41110), none that is chunked; a
// chunked body has no Content-Length either, so that "0" is the one proof that
// there is none. A form as body would set the parameters that the address shows;
// of two types it is the first that counts to the engine, and the last that is
// handed over: an empty one is such a last.
func (p *Plugin) checkBody(c *call, a address, r route) error {
	if c.RequestMethod != "POST" && c.RequestMethod != "PUT" {
		return nil
	}
	kind, typed := c.has("Content-Type")
	empty := c.header("Content-Length") == "0"
	want := r.body
	if r.kind == pull {
		image, source := a.query.Get("fromImage"), a.query.Get("fromSrc")
		if (image == "") == (source == "") {
			return refused("name the image with fromImage, or what to make one of with fromSrc", "%s: the address does not say which image", r.name)
		}
		if source != "-" { // it comes from elsewhere
			want = none
		}
	}
	switch {
	case isForm(kind), typed && kind == "":
		return refused("put the parameters into the address", "%s: the body is a form, which castellan does not get to see", r.name)
	case want == needed && len(c.RequestBody) == 0:
		return refused("send it as application/json, with its length, and smaller than 1 MiB",
			"%s: the engine did not hand over the body of the call", r.name)
	case want == maybe && len(c.RequestBody) == 0 && !empty,
		want == none && len(c.RequestBody) == 0 && !empty && (typed || c.header("Content-Length") != ""),
		want == none && !empty && a.version > 0 && a.version < bodyless:
		return refused("send it with Content-Length: 0", "%s: the call may have a body that castellan does not get to see", r.name)
	case want == none && len(c.RequestBody) > 0 && !blank(c.RequestBody):
		return refused("send it without", "%s: the call has a body, and takes none", r.name)
	}
	return nil
}

// isForm says that the engine reads parameters out of a body of that type, which
// it also does where the rest of it is malformed.
func isForm(kind string) bool {
	kind = strings.ToLower(kind)
	return strings.Contains(kind, "x-www-form-urlencoded") || strings.Contains(kind, "form-data")
}

// blank says that a body says nothing.
func blank(body []byte) bool {
	s := strings.TrimSpace(string(body))
	return s == "" || s == "{}" || s == "null"
}

// request is a call in the words of all doors, with what all kinds have.
func (p *Plugin) request(c *call, a address, r route, what string) admission.Request {
	action, name := r.action, r.name
	if name == "" {
		action, name = admission.Engine, "unknown"
	}
	path := a.path
	if path == "" {
		path = c.RequestURI
	}
	return admission.Request{
		ID: rand.Text(), Door: admission.Docker, Action: action, At: time.Now().UTC(),
		By: admission.Caller{
			Name: bounded(c.User), Method: bounded(c.UserAuthNMethod),
			Agent: c.UserAuthNMethod == "TLS" && slices.Contains(p.options.Agents, c.User),
		},
		Place: admission.Place{Host: p.options.Host},
		Call:  &admission.Call{Method: bounded(c.RequestMethod), Path: bounded(path), Name: name, What: bounded(what)},
	}
}

// decide completes a request and has it decided.
func (p *Plugin) decide(ctx context.Context, c *call, a address, r route, req admission.Request) (ok bool, why string) {
	name := heldName(r, req.Call.What)
	if name != "" {
		if !p.names.take(name, time.Now()) {
			return p.declare(req, errors.New("too many calls are under way"))
		}
		defer func() {
			if !ok {
				p.names.free(name)
			}
		}()
	}
	err := p.contained(func() error {
		defer p.locate(ctx, &req)
		defer conceal(&req) // whatever happens: a request is kept, and shown
		err := p.complete(ctx, c, a, r, &req)
		if err == nil && p.options.Judge != nil {
			p.options.Judge(&req)
		}
		return err
	})
	switch {
	case errors.Is(err, errPass):
		return true, ""
	case fault.Is(err, fault.Invalid), fault.Is(err, fault.NotFound), fault.Is(err, fault.Exhausted):
		// Exhausted is what the engine tells more of than is read: whoever made the
		// image or the container chose how much that is.
		return p.refuse(req, err)
	case err != nil:
		return p.declare(req, err)
	}
	v, err := p.ask(ctx, req)
	if err != nil {
		return p.declare(req, err)
	}
	v.Request = req.ID
	p.note(req, v)
	if v.Allowed() {
		return true, ""
	}
	return false, message(v)
}

// locate puts a request where this host is, whatever labels say of that.
func (p *Plugin) locate(ctx context.Context, req *admission.Request) {
	if p.options.Cluster == nil {
		return
	}
	if at := p.options.Cluster(ctx); at.Cluster != "" {
		req.Place.Account, req.Place.Region, req.Place.Cluster = at.Account, at.Region, at.Cluster
	}
}

// ask asks for a verdict, and again while facts are being found out and there is
// time.
func (p *Plugin) ask(ctx context.Context, req admission.Request) (v admission.Verdict, err error) {
	const soonest = 100 * time.Millisecond
	for {
		err = p.contained(func() error {
			v, err = p.decider.Decide(ctx, req)
			return err
		})
		if err != nil || v.Outcome != admission.Wait {
			return v, err
		}
		again := max(v.Again, soonest)
		if end, ok := ctx.Deadline(); ok && time.Until(end) <= again {
			return v, nil
		}
		if !pace.Wait(ctx, again) {
			return v, nil
		}
	}
}

// contained makes an error of a panic: what one call does must not take the
// door away from all.
func (p *Plugin) contained(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			p.log.Error("panic while deciding", "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			err = errors.New("castellan made a mistake, see its log")
		}
	}()
	return f()
}

// refuse is the answer to what can't be decided because of what was asked.
func (p *Plugin) refuse(req admission.Request, err error) (bool, string) {
	p.note(req, admission.Verdict{Request: req.ID, Outcome: admission.Deny, At: req.At, Reasons: []admission.Reason{{
		Effect: admission.Denies, Message: line(err.Error()), Remedy: line(fault.Remedy(err)),
	}}})
	return false, told(err)
}

// declare is the declared answer to what could not be decided.
func (p *Plugin) declare(req admission.Request, err error) (bool, string) {
	allowed := p.allows()
	p.log.Error("not decided", "call", req.Call.Name, "request_id", req.ID, "allow", allowed, "error", err)
	v := admission.Verdict{Request: req.ID, Outcome: admission.Deny, At: req.At, Declared: true, Reasons: []admission.Reason{{
		Effect: admission.Denies, Message: line("not decided: " + err.Error()), Remedy: line(fault.Remedy(err)),
	}}}
	if allowed {
		v.Outcome, v.Reasons[0].Effect = admission.Allow, admission.Warns
	}
	p.note(req, v)
	if allowed {
		return true, ""
	}
	return false, told(fmt.Errorf("not decided: %w", err))
}

// heldName is the name of a container that must stay that container's until the
// engine is done; empty for none.
func heldName(r route, what string) string {
	switch r.kind {
	case start, exec, attach, change, inside:
		return what
	}
	return ""
}
