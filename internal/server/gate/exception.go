package gate

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

// Limits of an exception.
const (
	// maxAhead is how long one may last: who makes one looks again once a year.
	maxAhead  = 366 * 24 * time.Hour
	maxReason = 2_000
	maxName   = 512
	maxRules  = 50
)

// ruleForm is what rules are called.
var ruleForm = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$`) })

// Except makes an exception, and tells the agents. It needs access.ManageAdmission.
func (s *Service) Except(ctx context.Context, who access.Identity, e admission.Exception) (store.AdmissionException, error) {
	if err := who.Need(access.ManageAdmission); err != nil {
		return store.AdmissionException{}, err
	}
	now := s.Clock()
	for _, t := range []*string{&e.Owner, &e.Reason, &e.Image, &e.Container, &e.Family, &e.Service, &e.Cluster, &e.Subject, &e.Host} {
		*t = strings.TrimSpace(*t)
	}
	if err := checkException(&e, now); err != nil {
		return store.AdmissionException{}, err
	}
	s.exchange.Lock()
	defer s.exchange.Unlock()
	out, err := s.Store.PutAdmissionException(ctx, store.AdmissionException{Exception: e, By: who.Actor, Created: now})
	if err != nil {
		return store.AdmissionException{}, err
	}
	err = s.changed(ctx)
	detail := "rules " + strings.Join(e.Rules, ", ") + " for " + e.Owner + " until " + e.Expires.UTC().Format(time.RFC3339) + ": " + e.Reason
	return out, errors.Join(err, s.audit(ctx, who, "admission.except", "exception:"+out.ID, detail))
}

// checkException returns what is wrong with one.
func checkException(e *admission.Exception, now time.Time) error {
	what := []string{e.Image, e.Container, e.Family, e.Service, e.Cluster, e.Subject, e.Host}
	switch {
	case len(e.Rules) == 0 || len(e.Rules) > maxRules || slices.ContainsFunc(e.Rules, func(r string) bool { return !ruleForm().MatchString(r) }):
		return fault.New(fault.Invalid, "rules: want one to %d names of rules", maxRules).With("a verdict tells the rules that refused: castellan admit explain VERDICT")
	case e.Owner == "" || e.Reason == "":
		return fault.New(fault.Invalid, "owner and reason: both are needed").With("say who answers for it, and why it can be lived with")
	case !isText(e.Reason, maxReason) || !isText(e.Owner, maxName):
		return fault.New(fault.Invalid, "reason: want text of %d bytes at most, and an owner of %d", maxReason, maxName)
	case slices.ContainsFunc(what, func(t string) bool { return !isText(t, maxName) }):
		return fault.New(fault.Invalid, "what it is for: want text of %d bytes at most", maxName)
	case strings.Join(what, "") == "":
		return fault.New(fault.Invalid, "what it is for: nothing is said").
			With("name an image, a container, a family, a service, a cluster, a host or a subject such as a CVE number; what should hold for all is a change of the policy")
	case e.Expires.IsZero():
		return fault.New(fault.Invalid, "expires: an exception must end").With("choose a day within a year")
	case !e.Expires.After(now):
		return fault.New(fault.Invalid, "expires: %s is over", e.Expires.UTC().Format(time.RFC3339))
	case e.Expires.After(now.Add(maxAhead)):
		return fault.New(fault.Invalid, "expires: %s is more than a year ahead", e.Expires.UTC().Format(time.DateOnly)).
			With("choose a day within a year, and make another one if it must be")
	}
	if missing := admit.CheckException(e); len(missing) > 0 {
		return fault.New(fault.Invalid, "%s", missing[0].Text).With(missing[0].Remedy)
	}
	return nil
}

// isText reports whether s is text of at most n bytes.
func isText(s string, n int) bool {
	return len(s) <= n && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' })
}

// Withdraw ends an exception, and tells the agents: NotFound when there is none,
// Conflict when it is over. It needs access.ManageAdmission.
func (s *Service) Withdraw(ctx context.Context, who access.Identity, id string) (store.AdmissionException, error) {
	if err := who.Need(access.ManageAdmission); err != nil {
		return store.AdmissionException{}, err
	}
	s.exchange.Lock()
	defer s.exchange.Unlock()
	e, err := s.Store.WithdrawAdmissionException(ctx, id, who.Actor, s.Clock())
	if err != nil {
		return store.AdmissionException{}, err
	}
	err = s.changed(ctx)
	return e, errors.Join(err, s.audit(ctx, who, "admission.withdraw", "exception:"+e.ID, strings.Join(e.Rules, ", ")))
}

// Exceptions returns those that hold, or all that are kept, the newest first. It
// needs access.ReadAdmission.
func (s *Service) Exceptions(ctx context.Context, who access.Identity, all bool) ([]store.AdmissionException, error) {
	if err := who.Need(access.ReadAdmission); err != nil {
		return nil, err
	}
	var since time.Time
	if !all {
		since = s.Clock()
	}
	return s.Store.AdmissionExceptions(ctx, since)
}

// holding are the exceptions that hold at a time.
func holding(all []store.AdmissionException, now time.Time) []admission.Exception {
	var out []admission.Exception
	for i := range all {
		if all[i].Holds(now) {
			out = append(out, all[i].Exception)
		}
	}
	return out
}
