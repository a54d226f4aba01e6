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
	Reason  int        // of the verdict; 0: none
	Says    string     // what it says
	// Subjects are the things that the reason is about, of Count; none: what it is
	// about can't be named, or was not yet when it was decided.
	Subjects []string
	Count    int
	Problem  string
}

// For the choice between one thing and all that a rule refuses.
const (
	wholeRule = "rule"
	oneThing  = "one:" // and its name
)

func (c *Console) exceptions(w http.ResponseWriter, r *http.Request, v visit) error {
	d, err := c.readExceptions(r.Context(), v)
	if err != nil {
		return err
	}
	return c.show(w, r, http.StatusOK, exceptionsBody(c.page(r, v, "admission", "Exceptions"), d))
}

// exceptionsLive sends the lists anew when something of them changed.
func (c *Console) exceptionsLive(w http.ResponseWriter, r *http.Request, v visit) error {
	changes := func(ctx context.Context) (<-chan struct{}, error) { return c.Admission.News(ctx, v.who) }
	return c.followNews(w, r, changes, tabPause, func(s *stream) error {
		v := v
		v.now = c.Clock()
		d, err := c.readExceptions(r.Context(), v)
		if err != nil {
			return err
		}
		return s.sendNews(r.Context(), "part", exceptionsPart(c.page(r, v, "admission", ""), d))
	})
}

func (c *Console) readExceptions(ctx context.Context, v visit) (d exceptionsData, err error) {
	d.Manage = v.who.May(access.ManageAdmission)
	all, err := c.Admission.Exceptions(ctx, v.who, true)
	if err != nil {
		return d, err
	}
	if d.Hosts, err = c.hostNames(ctx); err != nil {
		return d, err
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
	return d, nil
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

// begun reads the reason of a verdict that an exception is made from.
func (c *Console) begun(ctx context.Context, v visit, name, reason string, d *exceptData) (*admission.Request, *admission.Reason, error) {
	x, err := c.Admission.Verdict(ctx, v.who, name)
	if err != nil {
		return nil, nil, err
	}
	n, err := strconv.Atoi(reason)
	if err != nil || n < 1 || n > len(x.Verdict.Reasons) {
		return nil, nil, fault.New(fault.NotFound, "verdict %d has no reason %.20q", x.ID, reason)
	}
	because := &x.Verdict.Reasons[n-1]
	d.Verdict, d.Reason, d.Says, d.Subjects, d.Count = x.ID, n, because.Message, because.Subjects, max(because.Count, 1)
	return &x.Request, because, nil
}

// suggest fills in the form: the rule, and the narrowest of what the reason is
// about, but for the choice between one thing and the whole rule.
func (c *Console) suggest(ctx context.Context, v visit, name, reason string, d *exceptData) error {
	request, because, err := c.begun(ctx, v, name, reason, d)
	if err != nil {
		return err
	}
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
	f, d := r.PostForm, exceptData{Form: r.PostForm}
	if from := f.Get("verdict"); from != "" && from != "0" {
		if _, _, err := c.begun(r.Context(), v, from, f.Get("because"), &d); err != nil {
			return err
		}
	}
	subject, err := d.subject()
	var expires time.Time
	if err == nil {
		expires, err = exceptUntil(f, v.now)
	}
	if err == nil {
		_, err = c.Admission.Except(r.Context(), v.who, admission.Exception{
			Rules: strings.FieldsFunc(f.Get("rules"), func(r rune) bool { return r == ',' || r == ' ' }), Owner: f.Get("owner"), Reason: f.Get("reason"), Expires: expires,
			Image: f.Get("image"), Container: f.Get("container"), Family: f.Get("family"), Service: f.Get("service"), Cluster: f.Get("cluster"),
			Subject: subject, Host: f.Get("host"),
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
	d.Problem = said
	return c.show(w, r, http.StatusUnprocessableEntity, exceptBody(c.page(r, v, "admission", "Make an exception"), d))
}

// subject is the one thing that the exception shall be for, "" for all that the
// rule refuses. Who was given the choice must have made it.
func (d *exceptData) subject() (string, error) {
	if len(d.Subjects) == 0 {
		return d.Form.Get("subject"), nil
	}
	what := d.Form.Get("what")
	one, named := strings.CutPrefix(what, oneThing)
	switch {
	case what == wholeRule:
		return "", nil
	case named && slices.Contains(d.Subjects, one):
		return one, nil
	}
	return "", fault.New(fault.Invalid, "say whether it is for one thing alone, or for all that the rule has against it")
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

// aloneWords say what an exception for one of n things leaves.
func aloneWords(n int) string {
	switch n {
	case 0, 1:
		return "anything else that the rule refuses stays refused"
	case 2:
		return "the other that the rule refuses here stays refused"
	}
	return "the " + count(n-1) + " others that the rule refuses here stay refused"
}
