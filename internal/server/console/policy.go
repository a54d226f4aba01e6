package console

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/verify"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/trust"
)

const (
	// maxPolicyForm bounds the form with a policy, of which a form's writing may take
	// six bytes for each: so much has the end of a line.
	maxPolicyForm = 6*store.MaxTrustPolicy + maxForm
	versionsShown = 50     // of the history on one page
	linesNumbered = 10_000 // of a policy; a longer one is hardly written by people
	changesShown  = 50     // images that a trial would change
)

// policyData is the page of the trust policy.
type policyData struct {
	Newest  *store.TrustPolicy // nil: there is none yet
	Means   []trust.Passage
	Broken  []trust.Problem // what is wrong with it all the same: an older server has taken it
	History []store.TrustPolicy
	Older   string // address of the history's next page, or ""
	Manage  bool
}

// versionData is the page of one version, and what it has changed.
type versionData struct {
	store.TrustPolicy
	Since  int64      // the version that it is compared with; 0: there is none
	Change []diffLine // all lines, unfolded
	Gone   bool       // that version is not kept any more
	Newest bool
	Manage bool
}

// editData is the editor.
type editData struct {
	Text    string
	Comment string
	After   int64 // the version that is changed; 0: there is none yet
	Was     string
	Checked policyCheck
	Tries   bool // it was asked what would change
	Trial   *verify.Trial
	Problem string
	// Theirs is a version that came in between, and since when.
	Theirs *store.TrustPolicy
	Since  []diffLine // what it has changed
}

// policyCheck is what is wrong with a text, or what it means.
type policyCheck struct {
	Problems []trust.Problem
	Means    []trust.Passage
	Hidden   []hiddenLine
	Change   []diffLine // from the version that is changed
}

func (c *Console) policy(w http.ResponseWriter, r *http.Request, v visit) error {
	if c.Trust == nil {
		return c.nowhere(w, r, v)
	}
	ctx, d := r.Context(), policyData{Manage: v.who.May(access.ManageTrust)}
	before, err := versionOf(orElse(r.URL.Query().Get("before"), "0"))
	if err != nil {
		return err
	}
	if d.Newest, err = c.policyOf(ctx, v, 0); err != nil {
		return err
	}
	if d.Newest != nil {
		if d.Means, d.Broken, err = c.Trust.Explain(v.who, d.Newest.Text); err != nil {
			return err
		}
	}
	if d.History, err = c.Trust.Policies(ctx, v.who, before, versionsShown+1); err != nil {
		return err
	}
	if len(d.History) > versionsShown {
		d.History = d.History[:versionsShown]
		d.Older = "/trust/policy?before=" + strconv.FormatInt(d.History[versionsShown-1].Version, 10) + "#h-history"
	}
	return c.show(w, r, http.StatusOK, policyBody(c.page(r, v, "trust", "Trust policy"), d))
}

// policyOf returns a version with its text; nil if it is not kept, or there is none.
func (c *Console) policyOf(ctx context.Context, v visit, version int64) (*store.TrustPolicy, error) {
	p, err := c.Trust.Policy(ctx, v.who, version)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	return &p, err
}

func versionOf(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return 0, fault.New(fault.NotFound, "no version of the trust policy is called %q", s)
	}
	return n, nil
}

// policyVersion shows one version, and what has changed with it.
func (c *Console) policyVersion(w http.ResponseWriter, r *http.Request, v visit) error {
	if c.Trust == nil {
		return c.nowhere(w, r, v)
	}
	ctx, d := r.Context(), versionData{Manage: v.who.May(access.ManageTrust)}
	version, err := versionOf(r.PathValue("version"))
	if err == nil && version == 0 {
		err = fault.New(fault.NotFound, "the versions of the trust policy begin with 1")
	}
	if err != nil {
		return err
	}
	if d.TrustPolicy, err = c.Trust.Policy(ctx, v.who, version); err != nil {
		return err
	}
	d.Since = version - 1
	if from := r.URL.Query().Get("from"); from != "" {
		if d.Since, err = versionOf(from); err != nil {
			return err
		}
	}
	if d.Since > 0 {
		was, err := c.policyOf(ctx, v, d.Since)
		if err != nil {
			return err
		}
		if d.Gone = was == nil; !d.Gone {
			d.Change = diffLines(was.Text, d.Text)
		}
	}
	newest, err := c.newestPolicy(ctx, v)
	if err != nil {
		return err
	}
	d.Newest = newest != nil && newest.Version == version
	return c.show(w, r, http.StatusOK, versionBody(c.page(r, v, "trust", "Version "+strconv.FormatInt(version, 10)), d))
}

// editPolicy shows the editor with the newest version, or with an earlier one that
// is to be the policy again.
func (c *Console) editPolicy(w http.ResponseWriter, r *http.Request, v visit) error {
	if c.Trust == nil {
		return c.nowhere(w, r, v)
	}
	ctx, d := r.Context(), editData{Text: starter}
	newest, err := c.policyOf(ctx, v, 0)
	if err != nil {
		return err
	}
	if newest != nil {
		d.After, d.Text, d.Was = newest.Version, newest.Text, newest.Text
	}
	if from := r.URL.Query().Get("from"); from != "" {
		version, err := versionOf(from)
		if err != nil {
			return err
		}
		was, err := c.Trust.Policy(ctx, v.who, version)
		if err != nil {
			return err
		}
		d.Text, d.Comment = was.Text, "back to version "+strconv.FormatInt(was.Version, 10)
	}
	if err := c.check(v, &d); err != nil {
		return err
	}
	return c.showEditor(w, r, v, http.StatusOK, d)
}

func (c *Console) showEditor(w http.ResponseWriter, r *http.Request, v visit, status int, d editData) error {
	return c.show(w, r, status, editBody(c.page(r, v, "trust", "Change the trust policy"), d))
}

// check says of the text in the editor what is wrong with it, or what it means.
func (c *Console) check(v visit, d *editData) (err error) {
	d.Checked.Means, d.Checked.Problems, err = c.Trust.Explain(v.who, d.Text)
	d.Checked.Hidden = hiddenLines(d.Text)
	if d.Was != "" {
		d.Checked.Change = diffLines(d.Was, d.Text)
	}
	return err
}

// typedPolicy is the editor as it was sent. Browsers end lines of a form with two
// signs.
func (c *Console) typedPolicy(r *http.Request, v visit) (editData, error) {
	d := editData{
		Text: strings.ReplaceAll(r.PostForm.Get("text"), "\r\n", "\n"), Comment: strings.TrimSpace(r.PostForm.Get("comment")),
	}
	var err error
	if d.After, err = versionOf(r.PostForm.Get("after")); err != nil || d.After == 0 {
		return d, err
	}
	was, err := c.policyOf(r.Context(), v, d.After)
	if was != nil {
		d.Was = was.Text
	}
	return d, err
}

// checkPolicy answers what is typed, without the rest of the page.
func (c *Console) checkPolicy(w http.ResponseWriter, r *http.Request, v visit) error {
	if c.Trust == nil {
		return c.nowhere(w, r, v)
	}
	d, err := c.typedPolicy(r, v)
	if err == nil {
		err = c.check(v, &d)
	}
	if err != nil {
		return err
	}
	return c.show(w, r, http.StatusOK, checkedPart(c.page(r, v, "trust", ""), d))
}

// changePolicy does what a button of the editor asks for: check, try, or save.
func (c *Console) changePolicy(w http.ResponseWriter, r *http.Request, v visit) error {
	if c.Trust == nil {
		return c.nowhere(w, r, v)
	}
	d, err := c.typedPolicy(r, v)
	if err == nil {
		err = c.check(v, &d)
	}
	if err != nil {
		return err
	}
	switch r.PostForm.Get("do") {
	case "save":
		return c.savePolicy(w, r, v, d)
	case "try":
		return c.tryPolicy(w, r, v, d)
	}
	return c.showEditor(w, r, v, http.StatusOK, d)
}

// tryPolicy says what the text would change, to the script without the rest of the
// page.
func (c *Console) tryPolicy(w http.ResponseWriter, r *http.Request, v visit, d editData) error {
	d.Tries = true
	status := http.StatusOK
	if len(d.Checked.Problems) == 0 {
		t, err := c.Trust.Try(r.Context(), v.who, d.Text)
		said, ok := refused(err)
		switch {
		case err == nil:
			d.Trial = &t
		case ok:
			d.Problem, status = said, c.Status(err)
		default:
			return err
		}
	}
	if r.Header.Get("HX-Request") != "" {
		return c.show(w, r, http.StatusOK, trialPart(c.page(r, v, "trust", ""), d))
	}
	return c.showEditor(w, r, v, status, d)
}

// savePolicy makes the text the policy. Why it can't is said above the text, which
// stays as it was typed.
func (c *Console) savePolicy(w http.ResponseWriter, r *http.Request, v visit, d editData) error {
	err := d.lacks()
	if err == nil {
		_, err = c.Trust.SetPolicy(r.Context(), v.who, d.Text, d.Comment, d.After)
	}
	if err == nil {
		redirect(w, r, "/trust/policy?done=policy-set")
		return nil
	}
	said, ok := refused(err)
	if !ok {
		return err
	}
	d.Problem = said
	if fault.Is(err, fault.Conflict) {
		if err := c.meet(r.Context(), v, &d); err != nil {
			return err
		}
	}
	return c.showEditor(w, r, v, c.Status(err), d)
}

// lacks says what keeps a policy from being saved that the service would take.
func (d editData) lacks() error {
	switch {
	case len(d.Checked.Problems) > 0:
		return fault.New(fault.Invalid, "it is not saved: %s", problemCount(d.Checked))
	case d.Comment == "":
		return fault.New(fault.Invalid, "say why it is changed: those who read the history want to know")
	case d.After > 0 && d.Text == d.Was:
		return fault.New(fault.Invalid, "nothing is changed")
	}
	return nil
}

// meet shows the version that came in between. Who saves again has seen it: the
// text is then put in its place.
func (c *Console) meet(ctx context.Context, v visit, d *editData) (err error) {
	if d.Theirs, err = c.policyOf(ctx, v, 0); err != nil || d.Theirs == nil {
		return err
	}
	d.Problem = ""
	d.Since = diffLines(d.Was, d.Theirs.Text)
	d.After, d.Was = d.Theirs.Version, d.Theirs.Text
	d.Checked.Change = diffLines(d.Was, d.Text)
	return nil
}

// numbers is how many lines of the text are numbered.
func (d editData) numbers() int { return min(strings.Count(d.Text, "\n")+1, linesNumbered) }

// unsaved reports that the text is not what the editor began with.
func (d editData) unsaved() bool {
	if d.After == 0 {
		return d.Text != starter
	}
	return d.Text != d.Was
}

// wrong reports that something is wrong in a line.
func (p policyCheck) wrong(line int) bool {
	for _, x := range p.Problems {
		if x.Line == line {
			return true
		}
	}
	for _, h := range p.Hidden {
		if h.Line == line {
			return true
		}
	}
	return false
}

// textLines shows a text line by line, as it can't be changed.
func textLines(text string) []string {
	all := splitLines(text)
	return all[:min(len(all), linesNumbered)]
}
