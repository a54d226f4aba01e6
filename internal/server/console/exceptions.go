package console

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

// exceptionsShown bounds each list of the page.
const exceptionsShown = 300

// exceptionsData is the page of exceptions from the admission policy.
type exceptionsData struct {
	Holding []store.AdmissionException // what ends first, first
	Past    []store.AdmissionException // expired or withdrawn, the newest first
	Cut     bool                       // there are more than are shown
	Hosts   map[string]string
	Manage  bool
}

// exceptData is the form for another.
type exceptData struct {
	Form    url.Values // as it was sent, or as a verdict suggests
	Verdict int64      // that it begins with; 0: none
	Says    string     // what the verdict's reason says
	Problem string
}

func (c *Console) exceptions(w http.ResponseWriter, r *http.Request, v visit) error {
	all, err := c.Admission.Exceptions(r.Context(), v.who, true)
	if err != nil {
		return err
	}
	d := exceptionsData{Manage: v.who.May(access.ManageAdmission)}
	if d.Hosts, err = c.hostNames(r.Context()); err != nil {
		return err
	}
	for i := range all {
		if all[i].Holds(v.now) {
			d.Holding = append(d.Holding, all[i])
		} else {
			d.Past = append(d.Past, all[i])
		}
	}
	slices.SortStableFunc(d.Holding, func(a, b store.AdmissionException) int { return a.Expires.Compare(b.Expires) })
	d.Cut = len(d.Holding) > exceptionsShown || len(d.Past) > exceptionsShown
	d.Holding, d.Past = d.Holding[:min(len(d.Holding), exceptionsShown)], d.Past[:min(len(d.Past), exceptionsShown)]
	return c.show(w, r, http.StatusOK, exceptionsBody(c.page(r, v, "admission", "Exceptions"), d))
}

// newException shows the form, filled in for one reason of a verdict if the address
// names it.
func (c *Console) newException(w http.ResponseWriter, r *http.Request, v visit) error {
	d := exceptData{Form: url.Values{"for": {acceptFor}}}
	if name := r.URL.Query().Get("verdict"); name != "" {
		if err := c.suggest(r.Context(), v, name, r.URL.Query().Get("reason"), &d); err != nil {
			return err
		}
	}
	return c.show(w, r, http.StatusOK, exceptBody(c.page(r, v, "admission", "Make an exception"), d))
}

// suggest fills in the form: the rule, and the narrowest of what the reason is about.
func (c *Console) suggest(ctx context.Context, v visit, name, reason string, d *exceptData) error {
	x, err := c.Admission.Verdict(ctx, v.who, name)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(reason)
	if err != nil || n < 1 || n > len(x.Verdict.Reasons) {
		return fault.New(fault.NotFound, "verdict %d has no reason %.20q", x.ID, reason)
	}
	because, request := &x.Verdict.Reasons[n-1], &x.Request
	d.Verdict, d.Says = x.ID, because.Message
	for field, value := range map[string]string{
		"rules": because.Rule, "container": because.Container, "family": request.Task.Family, "service": request.Place.Service, "cluster": request.Place.Cluster,
	} {
		d.Form.Set(field, value)
	}
	for i := range request.Task.Containers {
		m := &request.Task.Containers[i].Image
		if m.Digest != "" && (because.Image == m.Reference || because.Image == m.Digest || because.Container != "" && because.Container == request.Task.Containers[i].Name) {
			d.Form.Set("image", m.Digest)
		}
	}
	return nil
}

// makeException makes one. Why it can't is said above the form, which stays as it
// was filled in.
func (c *Console) makeException(w http.ResponseWriter, r *http.Request, v visit) error {
	f := r.PostForm
	expires, err := exceptUntil(f, v.now)
	if err == nil {
		_, err = c.Admission.Except(r.Context(), v.who, admission.Exception{
			Rules: strings.FieldsFunc(f.Get("rules"), func(r rune) bool { return r == ',' || r == ' ' }), Owner: f.Get("owner"), Reason: f.Get("reason"), Expires: expires,
			Image: f.Get("image"), Container: f.Get("container"), Family: f.Get("family"), Service: f.Get("service"), Cluster: f.Get("cluster"),
			Subject: f.Get("subject"), Host: f.Get("host"),
		})
	}
	if err == nil {
		redirect(w, r, "/admission/exceptions?done=exception-made")
		return nil
	}
	said, ok := refused(err)
	if !ok {
		return err
	}
	d := exceptData{Form: f, Problem: said}
	if d.Verdict, err = strconv.ParseInt(orElse(f.Get("verdict"), "0"), 10, 64); err != nil {
		return fault.New(fault.Invalid, "no verdict is called %.40q", f.Get("verdict"))
	}
	return c.show(w, r, http.StatusUnprocessableEntity, exceptBody(c.page(r, v, "admission", "Make an exception"), d))
}

// exceptUntil is when an exception of a form ends: with a day, or so long from now.
func exceptUntil(f url.Values, now time.Time) (time.Time, error) {
	if s := f.Get("until"); s != "" {
		t, err := time.Parse(time.DateOnly, s)
		if err != nil {
			return t, fault.New(fault.Invalid, "%.40q is no day", s).With("write it as 2026-12-31")
		}
		return t.AddDate(0, 0, 1), nil
	}
	for _, x := range acceptLives() {
		if x.Value == f.Get("for") {
			days, err := strconv.Atoi(strings.TrimSuffix(x.Value, "d"))
			return now.AddDate(0, 0, days), err
		}
	}
	return time.Time{}, fault.New(fault.Invalid, "say until when it holds: an exception must end")
}

func (c *Console) withdrawException(w http.ResponseWriter, r *http.Request, v visit) error {
	if _, err := c.Admission.Withdraw(r.Context(), v.who, r.PathValue("id")); err != nil {
		return err
	}
	redirect(w, r, "/admission/exceptions?done=exception-ended")
	return nil
}

// exceptionEnds says until when an exception holds or held, and how that looks.
func exceptionEnds(e *store.AdmissionException, now time.Time) (string, tone) {
	switch left := e.Expires.Sub(now); {
	case !e.Withdrawn.IsZero():
		return "withdrawn " + day(e.Withdrawn), calm
	case left <= 0:
		return "expired " + lastDay(e.Expires), calm
	case left < soon:
		return "until " + lastDay(e.Expires), warn
	}
	return "until " + lastDay(e.Expires), good
}

// exceptionFor says what an exception is for.
func exceptionFor(e *admission.Exception) string {
	var out []string
	for _, x := range []struct{ name, value string }{
		{"image", e.Image}, {"container", e.Container}, {"family", e.Family}, {"service", e.Service}, {"cluster", e.Cluster}, {"host", e.Host}, {"only", e.Subject},
	} {
		if x.value != "" {
			out = append(out, x.name+" "+x.value)
		}
	}
	return strings.Join(out, ", ")
}
