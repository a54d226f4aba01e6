package console

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

const (
	// auditShown is how many lines of the audit log make a page.
	auditShown = 100
	// auditRead is through how many lines one page looks for a text: some tens of
	// milliseconds' worth. A button goes on.
	auditRead = 10_000
)

// auditData is a page of the audit log.
type auditData struct {
	Filter filter
	List   []access.Audit
	Older  string
	First  bool
	// Partial says that not all was looked through: Older goes on.
	Partial bool
}

func auditFilter(v url.Values) filter { return newFilter("/audit", []string{"text"}, v) }

func (c *Console) audit(w http.ResponseWriter, r *http.Request, v visit) error {
	d := auditData{Filter: auditFilter(r.URL.Query())}
	var before int64
	if s := r.URL.Query().Get("before"); s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n < 0 {
			return fault.New(fault.Invalid, "parameter before: want a number").With("Begin at the newest line.")
		}
		before = n
	}
	d.First = before == 0
	if err := c.readAudit(r.Context(), v, before, &d); err != nil {
		return err
	}
	return c.show(w, r, http.StatusOK, auditBody(c.page(r, v, "audit", "Audit log"), d))
}

// readAudit reads a page of lines that have the text that is looked for.
func (c *Console) readAudit(ctx context.Context, v visit, before int64, d *auditData) error {
	text := strings.ToLower(d.Filter.get("text"))
	page := auditShown + 1
	if text != "" {
		page = store.MaxPage
	}
	for read := 0; ; {
		list, err := c.Account.Audit(ctx, v.who, before, page)
		if err != nil {
			return err
		}
		for _, a := range list {
			if len(d.List) == auditShown {
				d.Older = d.Filter.address("before", strconv.FormatInt(d.List[auditShown-1].ID, 10))
				return nil
			}
			if before = a.ID; text == "" || strings.Contains(strings.ToLower(strings.Join([]string{a.Actor, a.Action, a.Target, a.Detail, a.Outcome, a.Address}, " ")), text) {
				d.List = append(d.List, a)
			}
		}
		if read += len(list); len(list) < page {
			return nil
		}
		if read >= auditRead {
			d.Partial, d.Older = true, d.Filter.address("before", strconv.FormatInt(before, 10))
			return nil
		}
	}
}

// outcomeTone marks what was refused.
func outcomeTone(a access.Audit) tone {
	if a.Outcome == "done" || a.Outcome == "asked" {
		return calm
	}
	return warn
}

// actorParts splits "user:name" for showing.
func actorParts(actor string) (kind, name string) {
	kind, name, ok := strings.Cut(actor, ":")
	if !ok {
		return "", actor
	}
	return kind, name
}

// actorName is an actor of the audit log as people call them: "anna", "rule miners-out".
func actorName(actor string) string {
	kind, name := actorParts(actor)
	if kind == "" || kind == "user" {
		return orElse(name, "Castellan itself")
	}
	return kind + " " + name
}
