package rule

import (
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"go.yaml.in/yaml/v3"

	"github.com/castellan-security/castellan/internal/detect/cloud"
	"github.com/castellan-security/castellan/internal/event"
)

// The scopes of calls of AWS. Those of processes are not for them, nor these for
// processes.
const (
	BySession   Scope = "session"   // of a role, or a user's key
	ByPrincipal Scope = "principal" // the role, with all its sessions, or the user
	ByAccount   Scope = "account"
	ByAddress   Scope = "address" // from which it was called
)

func ofCalls(by Scope) bool {
	return by == BySession || by == ByPrincipal || by == ByAccount || by == ByAddress
}

// kinds are those that rules may name.
func kinds() []event.Kind { return append(event.Kinds(), event.KindCall) }

// calling says of kinds whether they are calls alone, and whether any is.
func calling(on []event.Kind) (alone, any bool) {
	any = slices.Contains(on, event.KindCall)
	return any && len(on) == 1, any
}

// scopeOfCall is the key of calls that are counted together.
func scopeOfCall(c *event.Call, by Scope) string {
	switch by {
	case BySession:
		return c.Account + " " + c.Actor.ARN
	case ByPrincipal:
		if c.Actor.Role != "" {
			return c.Actor.Role
		}
		return c.Account + " " + c.Actor.ARN
	case ByAccount:
		return c.Account
	case ByAddress:
		return c.Source
	}
	return ""
}

// callForm is how a rule names a call: ecs:RunTask.
func callForm(s string) bool {
	service, name, ok := strings.Cut(s, ":")
	return ok && service != "" && name != "" && service == strings.ToLower(service) && !strings.ContainsAny(s, "* ")
}

// calls reads the calls that a matcher is for.
func (w *compiling) calls(n *yaml.Node, on []event.Kind) []string {
	all := w.strings(n, "calls")
	if alone, _ := calling(on); !alone {
		w.reader.Wrong(n, "write on: [trail.call]", "calls are never there in the events that the rule looks at")
	}
	for _, c := range all {
		if !callForm(c) {
			w.reader.Wrong(n, "write service:Operation, such as ecs:RunTask", "%.80q is no call of AWS", c)
		}
	}
	if len(all) == 0 {
		return []string{} // none, and not any
	}
	return all
}

// scope complains of a scope that events of these kinds don't have.
func (w *compiling) scope(s *stateOf, on []event.Kind) {
	alone, any := calling(on)
	switch {
	case ofCalls(s.by) && !alone:
		w.reader.Wrong(s.node, "it is for on: [trail.call] alone", "by can't be %s", s.by)
	case any && !ofCalls(s.by) && s.by != ByWorkload && s.by != ByGroup:
		w.reader.Wrong(s.node, "write session, principal, account, address, workload or group", "calls of AWS are not by %s", s.by)
	}
}

var call = func(e *event.Event) *event.Call { return e.Call }

func ofCall() []*Field {
	actor := func(get func(*event.Actor) string) func(*Subject) string {
		return of(call, func(c *event.Call) string { return get(&c.Actor) })
	}
	str := func(get func(*event.Call) string) func(*Subject) string { return of(call, get) }
	return []*Field{
		text("call.name", "what was called, as policies of IAM name it: ecs:RunTask", str((*event.Call).Is)),
		text("call.service", "of AWS: ecs, iam, signin", str(func(c *event.Call) string { return c.Service })),
		text("call.account", "id of the account that was called in", str(func(c *event.Call) string { return c.Account })),
		text("call.region", "in which region", str(func(c *event.Call) string { return c.Region })),
		text("call.type", "AwsApiCall, AwsConsoleSignIn, AwsServiceEvent, …", str(func(c *event.Call) string { return c.Type })),
		truth("call.read", "it changes nothing", of(call, func(c *event.Call) bool { return c.Read })),
		text("call.error", "why it was refused: AccessDenied, Client.UnauthorizedOperation, …", str(func(c *event.Call) string { return c.Error })),
		text("call.source", "the address from which it came, or the service of AWS", str(func(c *event.Call) string { return c.Source })),
		text("call.place", "where that address is: private, public; empty for a service of AWS", str(func(c *event.Call) string { return string(Place(c.Address())) })),
		text("call.endpoint", "the endpoint of a VPC through which it came", str(func(c *event.Call) string { return c.Endpoint })),
		text("call.user_agent", "what the program said of itself", str(func(c *event.Call) string { return c.Agent })),
		text("call.tool", "the family of that program: aws-cli, boto, aws-sdk-go, terraform, console, browser, …", str(func(c *event.Call) string { return cloud.Tool(c.Agent) })),
		list("call.request", "what was asked for, as lines path=value without places in lists: containerDefinitions.privileged=true", of(call, func(c *event.Call) []string { return cloud.Params(c.Request) })),
		list("call.response", "what was answered, in the same form", of(call, func(c *event.Call) []string { return cloud.Params(c.Response) })),
		list("call.extra", "what CloudTrail adds: MFAUsed=No", of(call, func(c *event.Call) []string { return cloud.Params(c.Extra) })),
		text("call.target", "what it is about, by its name: a repository, a role, a secret, a cluster", str(func(c *event.Call) string { return cloud.Target(cloud.Params(c.Request)) })),
		list("call.open_to", "whom policies and permissions in it let in beside the account: everybody, ids of accounts", of(call, func(c *event.Call) []string { return cloud.OpenTo(c.Request, c.Account) })),
		list("call.grants", "what policies in it permit on all resources, in small letters: *, iam:*", of(call, func(c *event.Call) []string { return cloud.Grants(c.Request) })),
		list("call.opens", "the ports that it opens for all addresses: 22, 0-65535, all", of(call, func(c *event.Call) []string { return cloud.Opens(c.Request) })),
		list("call.hazards", "what a task definition in it lets containers do to their host, in words", of(call, func(c *event.Call) []string { return cloud.Faults(c.Request) })),
		text("actor.kind", "who called: task, instance, function, role, user, root, service", actor(func(a *event.Actor) string { return string(a.Kind()) })),
		text("actor.says", "who called, in words", actor((*event.Actor).String)),
		text("actor.arn", "of the session, user, or account", actor(func(a *event.Actor) string { return a.ARN })),
		text("actor.account", "whose it is", actor(func(a *event.Actor) string { return a.Account })),
		text("actor.name", "of the role or the user", actor(func(a *event.Actor) string { return a.Name })),
		text("actor.session", "of a role: of a task its id, of an instance its id", actor(func(a *event.Actor) string { return a.Session })),
		text("actor.key", "id of the access key", actor(func(a *event.Actor) string { return a.Key })),
		text("actor.via", "the service of AWS that called on behalf of the actor", actor(func(a *event.Actor) string { return a.Via })),
		text("actor.delivery", "by which version of the metadata service an instance got its credentials: 1.0, 2.0", actor(func(a *event.Actor) string { return a.Delivery })),
		truth("actor.mfa", "the session began with a second factor", of(call, func(c *event.Call) bool { return c.Actor.MFA })),
	}
}

// LineFunctions lists those that look into lines path=value, such as call.request has:
// Doc says what they give.
func LineFunctions() []Function {
	return []Function{
		{Form: "value(lines, name)", Doc: "a text: what the first line has whose path is that name, or ends with it behind a dot, in any case of letters; empty for none"},
		{Form: "values(lines, name)", Doc: "a list of what all such lines have"},
	}
}

// lineFunctions are those of lines path=value.
func lineFunctions() []cel.EnvOption {
	lines := cel.ListType(cel.StringType)
	return []cel.EnvOption{
		cel.Function("value", cel.Overload("value_list_string", []*cel.Type{lines, cel.StringType}, cel.StringType,
			cel.BinaryBinding(func(a, b ref.Val) ref.Val {
				if all := valuesOf(a, b); len(all) > 0 {
					return types.String(all[0])
				}
				return types.String("")
			}))),
		cel.Function("values", cel.Overload("values_list_string", []*cel.Type{lines, cel.StringType}, lines,
			cel.BinaryBinding(func(a, b ref.Val) ref.Val { return types.NewStringList(types.DefaultTypeAdapter, valuesOf(a, b)) }))),
	}
}

func valuesOf(list, name ref.Val) []string {
	l, ok := list.(traits.Lister)
	n, okName := name.(types.String)
	if !ok || !okName {
		return nil
	}
	lines, _ := l.Value().([]string)
	return cloud.Values(lines, string(n))
}
