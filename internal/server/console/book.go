package console

import (
	"context"
	"net/url"
	"strconv"
	"time"

	"github.com/a-h/templ"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
)

// book is one of the fleet's policies, as the pages on which it is read, compared
// and written see it: what they are called, and who does what they ask for.
type book struct {
	path     string // of its page: "/trust/policy"
	query    string // behind each of its addresses, with its question mark; "" mostly
	here     string // the word in the navigation
	name     string // "trust policy"
	up       string // the page above it
	upName   string
	glyph    string
	done     string // what is said when it was changed, one of notices
	most     int    // bytes of a text
	comment  int    // bytes of why it is changed
	starter  string // what the editor begins with where there is none
	reads    access.Scope
	manages  access.Scope
	tabs     []tab           // above its pages; may be none
	hint     string          // below the text in the editor
	tryHint  string          // below the buttons
	tryTitle string          // above what a trial has found
	tryName  string          // on the button that tries
	tryField templ.Component // beside the button that tries; may be nil
	aside    templ.Component // at hand while one writes; may be nil
	// blank says how to come to one, to somebody who may write it or may not.
	blank func(manages bool) templ.Component

	// changes tells that there may be another version.
	changes func(ctx context.Context, who access.Identity) (<-chan struct{}, error)
	// read returns a version, the newest with 0; NotFound if there is none.
	read func(ctx context.Context, who access.Identity, version int64) (edition, error)
	// list returns versions without their texts, the newest first.
	list func(ctx context.Context, who access.Identity, before int64, limit int) ([]edition, error)
	// explain says what a text means, or what is wrong with it.
	explain func(who access.Identity, text string) ([]passage, []textProblem, error)
	// signers are the keys of which one must have signed a text; none: nobody has to.
	signers []string
	// set makes a text the policy, if the newest version is After: else Conflict.
	set func(ctx context.Context, who access.Identity, e entered) error
	// try says what a text would change, as the form asks; nil where nothing can tell.
	try func(ctx context.Context, v visit, text string, form url.Values) (trialResult, error)
}

// entered is what a person has typed into the editor.
type entered struct {
	Text, Comment string
	Signature     string // of exactly that text, where there are signers
	After         int64  // the version that was changed
}

// edition is a version of a policy.
type edition struct {
	Version int64
	Digest  string
	Text    string
	Actor   string
	Comment string
	Created time.Time
}

// passage is a part of a policy in words.
type passage struct {
	Line  int // 0: of no line
	Text  string
	Parts []passage
}

// textProblem is one thing that is wrong with a text, and where.
type textProblem struct {
	Line, Column int // 0: about the whole
	Text, Remedy string
}

// trialResult is what a trial has found.
type trialResult struct {
	says string          // in a sentence
	part templ.Component // in detail
}

// title is the policy's name as the head of a page.
func (b *book) title() string { return capital(b.name) }

// to is an address of its pages: "" its own, "/edit" its editor.
func (b *book) to(page string) string { return b.path + page + b.query }

// doneAddress is that of its page, which says then what was done.
func (b *book) doneAddress() string {
	if b.query != "" {
		return b.path + b.query + "&done=" + b.done
	}
	return b.path + "?done=" + b.done
}

// version reads the number of a version.
func (b *book) version(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return 0, fault.New(fault.NotFound, "no version of the %s is called %q", b.name, s)
	}
	return n, nil
}

// at returns a version with its text; nil if it is not kept, or there is none.
func (b *book) at(ctx context.Context, v visit, version int64) (*edition, error) {
	e, err := b.read(ctx, v.who, version)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	return &e, err
}

// newest returns the newest version without its text; nil if there is none.
func (b *book) newest(ctx context.Context, v visit) (*edition, error) {
	all, err := b.list(ctx, v.who, 0, 1)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return &all[0], nil
}

// versionHref is the address of a version's page, below that of its policy.
func versionHref(path string, version int64) string {
	return path + "/" + strconv.FormatInt(version, 10)
}

// bookRoutes adds the pages of a policy.
func (c *Console) bookRoutes(b *book, seen func(access.Scope, string, view)) {
	seen(b.reads, "GET "+b.path, c.policy(b))
	seen(b.reads, "GET "+b.path+"/live", c.policyLive(b))
	seen(b.reads, "GET "+b.path+"/{version}", c.policyVersion(b))
	seen(b.manages, "GET "+b.path+"/edit", c.editPolicy(b))
	most := int64(maxPolicyForm(b.most))
	seen(b.manages, "POST "+b.path+"/check", c.confirmedUpTo(most, c.checkPolicy(b)))
	seen(b.manages, "POST "+b.path+"/edit", c.confirmedUpTo(most, c.changePolicy(b)))
}

// maxPolicyForm bounds the form with a policy, of which a form's writing may take
// six bytes for each: so much has the end of a line.
func maxPolicyForm(most int) int { return 6*most + maxForm }
