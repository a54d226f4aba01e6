// Package decide holds a request against an admission policy: every rule that
// applies is asked, and every reason is told.
//
// It decides from what it is given and nothing else: it asks no registry, no
// server and no clock, so that an old request can be decided again.
package decide

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit/condition"
	"github.com/castellan-security/castellan/internal/admit/policy"
	"github.com/castellan-security/castellan/internal/fault"
)

// MaxReasons bounds the reasons of a verdict: nobody reads more, and doors must
// send them.
const MaxReasons = 100

// recheck is for how long a verdict holds that depends on how late it is.
const recheck = time.Hour

// Given is what a decision rests on besides the request.
type Given struct {
	// Facts are what is known of images, by their digests, or by the engine's ids of
	// those that have none.
	Facts map[string]*admission.Facts
	// Exceptions are those that are kept elsewhere than in the policy.
	Exceptions []admission.Exception
	Now        time.Time
	// Lasting says that nobody ever changes what Facts point to: what the policy's
	// rules said of them may be remembered.
	Lasting bool
}

// Decide decides on a request. It never fails: what can't be decided is answered
// as the policy declares for its door, and denied if it doesn't. Without a policy
// everything is denied. The memory is the policy's; nil remembers nothing.
func Decide(ctx context.Context, p *policy.Policy, m *Memory, r *admission.Request, g Given) admission.Verdict {
	return decide(ctx, p, m, r, g, nil)
}

func decide(ctx context.Context, p *policy.Policy, m *Memory, r *admission.Request, g Given, steps *[]Step) (v admission.Verdict) {
	defer func() {
		if x := recover(); x != nil {
			v = Undecided(p, r, fmt.Errorf("the program failed: %v", x), g.Now)
		}
	}()
	if p == nil {
		return Undecided(p, r, errNoPolicy, g.Now)
	}
	ctx, cancel := context.WithTimeout(ctx, p.TimeLimit)
	defer cancel()
	d := &decision{ctx: ctx, p: p, r: r, now: g.Now, groups: map[key]*group{}, absent: map[lack]*missing{}, steps: steps}
	if g.Lasting && len(r.Unknown) == 0 { // what a request leaves open may be of an image
		d.memory = m
	}
	d.exceptions = append(d.exceptions, pointers(p.Exceptions)...)
	for i := range g.Exceptions {
		// What came from elsewhere was read by nobody yet.
		if len(policy.Incomplete(&g.Exceptions[i])) == 0 {
			d.exceptions = append(d.exceptions, &g.Exceptions[i])
		}
	}
	if !slices.Contains(admission.Actions(), r.Action) || !slices.Contains(admission.Doors(), r.Door) {
		return d.refuse(fmt.Sprintf("nobody knows what the action %.40q at the door %.40q is", r.Action, r.Door), "use the same version of Castellan for the door and for what decides")
	}
	var err error
	d.view, err = p.Schema.NewView(r, func(i *admission.Image) *admission.Facts {
		if f := g.Facts[i.Digest]; f != nil && i.Digest != "" {
			return f
		}
		if i.ID != "" {
			return g.Facts[i.ID]
		}
		return nil
	}, g.Now)
	if err != nil {
		// No error of ours: whoever asks could make any request too large.
		return d.refuse(err.Error(), "deploy less at once")
	}
	for _, rule := range p.Rules {
		if err := d.ask(rule); err != nil {
			return Undecided(p, r, err, g.Now)
		}
	}
	return d.verdict()
}

func pointers(all []admission.Exception) []*admission.Exception {
	out := make([]*admission.Exception, len(all))
	for i := range all {
		out[i] = &all[i]
	}
	return out
}

// errNoPolicy is why all is denied where nobody has set up what may be deployed.
var errNoPolicy = fault.New(fault.NotFound, "there is no admission policy, without which nothing is let through").
	With("an administrator of Castellan makes one: castellan admit init, then castellan admit policy set FILE")

// Undecided returns the verdict on a request that nobody could decide on: what
// the policy declares for errors at its door.
func Undecided(p *policy.Policy, r *admission.Request, err error, now time.Time) admission.Verdict {
	v := admission.Verdict{Request: r.ID, Outcome: admission.Deny, At: now, Declared: true}
	reason := admission.Reason{Effect: admission.Denies, Message: "it could not be decided: " + err.Error(), Remedy: cmp.Or(fault.Remedy(err), "ask again; if it stays, an operator of Castellan must look at the error")}
	if p != nil {
		v.Policy = p.Digest
		if p.Allow[r.Door] {
			v.Outcome, reason.Effect = admission.Allow, admission.Warns
			reason.Remedy = fmt.Sprintf("the policy says onError: {%s: allow}; an operator of Castellan must look at the error", r.Door)
		}
	}
	v.Reasons = []admission.Reason{reason}
	return v
}

// refuse denies a request as such, whatever the rules are.
func (d *decision) refuse(why, remedy string) admission.Verdict {
	return admission.Verdict{Request: d.r.ID, Outcome: admission.Deny, Policy: d.p.Digest, At: d.now, Reasons: []admission.Reason{{
		Effect: admission.Denies, Message: why, Remedy: remedy,
	}}}
}

type decision struct {
	ctx        context.Context
	p          *policy.Policy
	r          *admission.Request
	now        time.Time
	view       *condition.View
	exceptions []*admission.Exception
	scopes     map[string][]*policy.Scope // by repository
	memory     *Memory                    // nil: nothing is remembered

	groups map[key]*group
	order  []*group
	absent map[lack]*missing
	lacks  []*missing
	until  time.Time
	clock  bool

	last struct { // what mode found last
		rule  *policy.Rule
		image *condition.Image
		mode  policy.Mode
	}
	steps *[]Step // nil: nobody wants to know
	spare Step
}

// key is what reasons are told for: a rule, and a container or an image.
type key struct {
	rule             *policy.Rule
	container, image string
	effect           admission.Effect
	exception        *admission.Exception
}

// group is what a rule refuses of one of them.
type group struct {
	key
	count   int
	worst   []*condition.Scope // a few, the gravest first; all if the kind isn't Many
	lapsed  *admission.Exception
	failure error
}

// ask asks a rule about all that it is for.
func (d *decision) ask(rule *policy.Rule) error {
	switch {
	case !slices.Contains(rule.Actions, d.r.Action):
		d.begin(rule, fmt.Sprintf("it is for the actions %v", rule.Actions))
		return nil
	case len(rule.Doors) > 0 && !slices.Contains(rule.Doors, d.r.Door):
		d.begin(rule, fmt.Sprintf("it is for the doors %v", rule.Doors))
		return nil
	}
	d.begin(rule, "")
	var failed error
	l := d.listen(rule)
	var recall condition.Recall
	if l != nil {
		recall = l.recall
	}
	rule.For.Each(d.view, recall, func(s *condition.Scope) bool {
		failed = d.one(rule, s, l)
		return failed == nil
	})
	if failed != nil {
		l.drop()
	}
	l.end()
	d.clock = d.view.UsedClock() || d.clock
	return failed
}

// one asks a rule about one thing. It fails if the time is over.
func (d *decision) one(rule *policy.Rule, s *condition.Scope, l *listener) error {
	mode := d.mode(rule, s)
	step := d.step()
	step.Asked++
	if mode == policy.Off {
		step.Off++
		return nil
	}
	if u := s.Unknown(); u != nil {
		d.lacking(rule, s, mode, d.view.Missing(u))
		return nil
	}
	if s.Holds() {
		d.add(rule, s, mode, nil)
		return nil
	}
	holds, unknown, err := rule.Deny.Holds(d.ctx, s)
	if holds || unknown != nil || err != nil {
		l.heard(s.Index(), holds)
	}
	switch {
	case d.ctx.Err() != nil:
		if errors.Is(d.ctx.Err(), context.DeadlineExceeded) {
			return fmt.Errorf("it takes longer than %s", d.p.TimeLimit)
		}
		return d.ctx.Err()
	case err != nil:
		step.Refused++
		d.add(rule, s, mode, err)
	case unknown != nil:
		d.lacking(rule, s, mode, d.view.Missing(unknown))
	case holds:
		step.Refused++
		d.add(rule, s, mode, nil)
	}
	return nil
}

// add notes that a rule refuses something, or that it could not be asked: that is
// no pass.
func (d *decision) add(rule *policy.Rule, s *condition.Scope, mode policy.Mode, failure error) {
	k := key{rule: rule, container: s.ContainerName(), effect: admission.Denies}
	if i := s.ImageOf(); i != nil {
		k.image = i.Name()
	}
	if mode == policy.Audit {
		k.effect = admission.Audited
	}
	e, lapsed := d.excepted(rule, s)
	if e != nil {
		k.effect, k.exception = admission.Excepted, e
		d.before(e.Expires)
	}
	g := d.groups[k]
	if g == nil {
		g = &group{key: k, failure: failure, lapsed: lapsed}
		d.groups[k] = g
		d.order = append(d.order, g)
	}
	g.count++
	const few = 5
	if rule.For.Many && len(g.worst) == few {
		if s.Weight() <= g.worst[few-1].Weight() {
			return
		}
		g.worst = g.worst[:few-1]
	}
	if len(g.worst) >= MaxReasons {
		return
	}
	i := len(g.worst)
	for rule.For.Many && i > 0 && g.worst[i-1].Weight() < s.Weight() {
		i--
	}
	g.worst = slices.Insert(g.worst, i, s.Keep())
}

// before notes that the verdict holds no longer than that.
func (d *decision) before(t time.Time) {
	if t.After(d.now) && (d.until.IsZero() || t.Before(d.until)) {
		d.until = t
	}
}
