package console

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/castellan-security/castellan/internal/fault"
)

// editData is the editor of a policy.
type editData struct {
	*book
	Text    string
	Comment string
	// Signature lies beside a text that was signed.
	Signature string
	After     int64 // the version that is changed; 0: there is none yet
	Was       string
	Checked   policyCheck
	Tries     bool         // it was asked what would change
	Trial     *trialResult // nil: nothing came of it
	Problem   string
	// Theirs is a version that came in between, and since when.
	Theirs *edition
	Since  []diffLine // what it has changed
}

// policyCheck is what is wrong with a text, or what it means.
type policyCheck struct {
	Problems []textProblem
	Means    []passage
	Hidden   []hiddenLine
	Change   []diffLine // from the version that is changed
}

// editPolicy shows the editor with the newest version, or with an earlier one that
// is to be the policy again.
func (c *Console) editPolicy(b *book) view {
	return func(w http.ResponseWriter, r *http.Request, v visit) error {
		ctx, d := r.Context(), editData{book: b, Text: b.starter}
		newest, err := b.at(ctx, v, 0)
		if err != nil {
			return err
		}
		if newest != nil {
			d.After, d.Text, d.Was = newest.Version, newest.Text, newest.Text
		}
		if from := r.URL.Query().Get("from"); from != "" {
			version, err := b.version(from)
			if err != nil {
				return err
			}
			was, err := b.read(ctx, v.who, version)
			if err != nil {
				return err
			}
			d.Text, d.Comment = was.Text, "back to version "+strconv.FormatInt(was.Version, 10)
		}
		if err := d.check(v); err != nil {
			return err
		}
		return c.showEditor(w, r, v, http.StatusOK, d)
	}
}

func (c *Console) showEditor(w http.ResponseWriter, r *http.Request, v visit, status int, d editData) error {
	return c.show(w, r, status, editBody(c.page(r, v, d.here, "Change the "+d.name), d))
}

// check says of the text in the editor what is wrong with it, or what it means.
func (d *editData) check(v visit) (err error) {
	d.Checked.Means, d.Checked.Problems, err = d.explain(v.who, d.Text)
	d.Checked.Hidden = hiddenLines(d.Text)
	if d.Was != "" {
		d.Checked.Change = diffLines(d.Was, d.Text)
	}
	return err
}

// typed is the editor as it was sent, checked. Browsers end lines of a form with two
// signs.
func (b *book) typed(r *http.Request, v visit) (editData, error) {
	d := editData{
		book: b, Text: strings.ReplaceAll(r.PostForm.Get("text"), "\r\n", "\n"), Comment: strings.TrimSpace(r.PostForm.Get("comment")),
		Signature: strings.TrimSpace(r.PostForm.Get("signature")),
	}
	var err error
	if d.After, err = b.version(r.PostForm.Get("after")); err != nil {
		return d, err
	}
	if d.After > 0 {
		was, err := b.at(r.Context(), v, d.After)
		if err != nil {
			return d, err
		}
		if was != nil {
			d.Was = was.Text
		}
	}
	return d, d.check(v)
}

// checkPolicy answers what is typed, without the rest of the page.
func (c *Console) checkPolicy(b *book) view {
	return func(w http.ResponseWriter, r *http.Request, v visit) error {
		d, err := b.typed(r, v)
		if err != nil {
			return err
		}
		return c.show(w, r, http.StatusOK, checkedPart(c.page(r, v, b.here, ""), d))
	}
}

// changePolicy does what a button of the editor asks for: check, try, or save.
func (c *Console) changePolicy(b *book) view {
	return func(w http.ResponseWriter, r *http.Request, v visit) error {
		d, err := b.typed(r, v)
		if err != nil {
			return err
		}
		switch do := r.PostForm.Get("do"); {
		case do == "save":
			return c.savePolicy(w, r, v, d)
		case d.try != nil && (do == "try" || r.PostForm.Get("further") != ""):
			return c.tryPolicy(w, r, v, d)
		}
		return c.showEditor(w, r, v, http.StatusOK, d)
	}
}

// tryPolicy says what the text would change, to the script without the rest of the
// page.
func (c *Console) tryPolicy(w http.ResponseWriter, r *http.Request, v visit, d editData) error {
	d.Tries = true
	status := http.StatusOK
	if len(d.Checked.Problems) == 0 {
		t, err := d.try(r.Context(), v, d.Text, r.PostForm)
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
		return c.show(w, r, http.StatusOK, trialPart(c.page(r, v, d.here, ""), d))
	}
	return c.showEditor(w, r, v, status, d)
}

// savePolicy makes the text the policy. Why it can't is said above the text, which
// stays as it was typed.
func (c *Console) savePolicy(w http.ResponseWriter, r *http.Request, v visit, d editData) error {
	err := d.lacks()
	if err == nil {
		err = d.set(r.Context(), v.who, entered{d.Text, d.Comment, d.Signature, d.After})
	}
	if err == nil {
		redirect(w, r, d.doneAddress())
		return nil
	}
	said, ok := refused(err)
	if !ok && fault.Is(err, fault.Denied) { // such as for want of a signature: what was typed is kept
		said, ok = sentence(err), true
	}
	if !ok {
		return err
	}
	d.Problem = said
	if fault.Is(err, fault.Conflict) {
		if err := d.meet(r.Context(), v); err != nil {
			return err
		}
	}
	return c.showEditor(w, r, v, c.Status(err), d)
}

// lacks says what keeps a policy from being saved that the service would take.
func (d *editData) lacks() error {
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
func (d *editData) meet(ctx context.Context, v visit) (err error) {
	if d.Theirs, err = d.at(ctx, v, 0); err != nil || d.Theirs == nil {
		return err
	}
	d.Problem = ""
	d.Since = diffLines(d.Was, d.Theirs.Text)
	d.After, d.Was = d.Theirs.Version, d.Theirs.Text
	d.Checked.Change = diffLines(d.Was, d.Text)
	return nil
}

// numbers is how many lines of the text are numbered.
func (d *editData) numbers() int { return min(strings.Count(d.Text, "\n")+1, linesNumbered) }

// unsaved reports that the text is not what the editor began with.
func (d *editData) unsaved() bool {
	if d.After == 0 {
		return d.Text != d.starter
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

// trialSays is a trial for those who hear it.
func trialSays(d editData) string {
	switch {
	case d.Trial != nil:
		return d.Trial.says
	case d.Tries && d.Problem != "":
		return d.Problem
	case d.Tries && len(d.Checked.Problems) > 0:
		return "It can't be tried: " + problemCount(d.Checked) + "."
	}
	return ""
}
